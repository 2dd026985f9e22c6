"""Figure of cross-correlation (CC) maps of one condition in an axial and a sagittal plane."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from bids_sr.figures import slices
from bids_sr.figures.canvas import FigureInputError
from bids_sr.figures.map_figures import (
    CC_DISPLAY,
    Display,
    Scene,
    layers_on_one_scale,
    peak_voxel,
)
from bids_sr.figures.slices import Cut, Panel, Row
from bids_sr.io.grids import Array, Float, Volume
from bids_sr.report.html_tables import series_text

_CLOSE_MM = (64.0, 56.0)
"""Width and height of the enlarged part of a plane."""


def correlation_figure(
    maps: Mapping[str, Volume],
    scene: Scene,
    *,
    display: Display = CC_DISPLAY,
    limit: float | None = None,
) -> Figure:
    """Plot maps of one condition, a row per series: an axial and a sagittal plane, each enlarged.

    Both planes pass through the highest value of the first map in the region of interest, so that
    no series chooses its own planes. All rows share one color scale and one threshold.

    Parameters
    ----------
    maps : Mapping[str, Volume]
        Map (3D) by series, on any grid of the scene's field of view.
    scene : Scene
        Signal, brain and region of interest below the maps.
    display : Display, optional
        Threshold up to which values are hidden, and the least end of the color scale.
    limit : float | None, optional
        End of the color scale; None takes `bids_sr.figures.map_figures.common_scale` of the maps.

    Returns
    -------
    Figure
        Figure with one row per series and four columns.

    Raises
    ------
    FigureInputError
        There is no map.
    """
    if not maps:
        raise FigureInputError("there is no map of cross-correlation to draw")
    first = next(iter(maps.values()))
    positive = first.like(np.maximum(np.nan_to_num(first.data), 0))
    brain = slices.canonical(scene.mask)
    center = (np.array(peak_voxel(positive, scene.roi)) + 0.5) * brain.zooms
    whole = slices.box_of(scene.mask, 3.0)
    cuts: list[tuple[Cut, Array | None]] = []
    for axis in (2, 0):  # axial, sagittal
        close = _box_around(whole, center, axis)
        at = float(center[axis])
        cuts += [
            (Cut(axis=axis, at=at, box=whole), close),
            (Cut(axis=axis, at=at, box=close), None),
        ]
    rows: list[Row] = []
    layers = layers_on_one_scale(maps, display, limit, alpha=0.92)
    for name, layer in layers.items():
        shown = scene.around(layer)
        panels = [Panel(cut=cut, shown=shown, framed=framed) for cut, framed in cuts]
        rows.append((series_text(name), panels))
    return slices.image_figure(rows, scale=layers[next(iter(maps))], label=display.label)


def _box_around(whole: Array, center: Float, axis: int) -> Array:
    """Return the corners (2, 3; mm) of a part of a box around a point.

    The part has the size `_CLOSE_MM` in the plane across `axis` and is moved inwards at the edges
    of the box.
    """
    box = whole.copy()
    across = [each for each in range(3) if each != axis]
    for each, size in zip(across, _CLOSE_MM, strict=True):
        low, high = whole[:, each]
        start = np.clip(center[each] - size / 2, low, max(low, high - size))
        box[:, each] = start, min(start + size, high)
    return box
