"""Figure of cross-correlation (CC) maps of one condition in an axial and a sagittal plane."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from bids_sr.figures import slices
from bids_sr.figures.canvas import FigureInputError
from bids_sr.figures.maps import CC_DISPLAY, MAP_COLORS, Scene, highest_point
from bids_sr.figures.slices import Cut, Layer, Panel, Row
from bids_sr.glm.region_growth import ACTIVE_CC
from bids_sr.io.arrays import Array, Float
from bids_sr.io.volume import Volume
from bids_sr.metrics.number_text import number
from bids_sr.report.evaluation_rows import series_text

_COLORS = LinearSegmentedColormap.from_list("bids-sr-cc", MAP_COLORS[len(MAP_COLORS) // 2 :])
_LEAST_SPAN = 0.2  # least length of the color scale, if all values are low
_CLOSE_MM = (64.0, 56.0)
"""Width and height of the enlarged part of a plane."""


def correlation_figure(
    maps: Mapping[str, Volume],
    scene: Scene,
) -> Figure:
    """Plot positive values of one condition's maps: an axial and a sagittal plane, each enlarged.

    There is one row per series, with its highest value in the region of interest. Both planes pass
    through the highest value of the first map, so that no series chooses its own planes. All rows
    share one color scale, from the threshold (see `shown_above`) to the highest of these values.

    Parameters
    ----------
    maps : Mapping[str, Volume]
        Map (3D) by series, on any grid of the scene's field of view.
    scene : Scene
        Signal, brain and region of interest below the maps.

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
        raise FigureInputError("no cross-correlation map to draw")
    first = next(iter(maps))
    center = highest_point(maps[first], scene.roi)
    whole = slices.box_of(scene.mask, 3.0)
    cuts: list[tuple[Cut, Array | None]] = []
    for axis in (2, 0):  # axial, sagittal
        close = _box_around(whole, center, axis)
        at = float(center[axis])
        cuts.append((Cut(axis=axis, at=at, box=whole), close))
        cuts.append((Cut(axis=axis, at=at, box=close), None))
    low = shown_above(maps[first], scene.mask)
    peaks = {name: _peak(each, scene.roi) for name, each in maps.items()}
    high = max(low + _LEAST_SPAN, math.ceil(10 * max(peaks.values())) / 10)
    rows: list[Row] = []
    for name, each in maps.items():
        values = np.nan_to_num(each.data)
        visible = each.like(np.where(values > low, values, math.nan))
        shown = scene.around(Layer(image=visible, low=low, high=high, colors=_COLORS, alpha=0.92))
        panels = [Panel(cut=cut, shown=shown, framed=framed) for cut, framed in cuts]
        rows.append((f"{series_text(name)}\npeak {number(peaks[name], '.2f')}", panels))
    scale = Layer(image=scene.mask, low=low, high=high, colors=_COLORS)
    return slices.image_figure(rows, scale=scale, label=f"CC; shown where CC > {low:g}")


def _peak(image: Volume, roi: Volume) -> float:
    """Return the highest value of a map in the region of interest, on any grid; -1 if none is."""
    inside = slices.canonical(image).data[slices.repeated(roi, image) > 0]
    return float(np.max(inside[np.isfinite(inside)], initial=-1.0))


def shown_above(first: Volume, mask: Volume) -> float:
    """Return the threshold of CC for all rows, from the values of the first map in the brain.

    It is their median and twice their spread, at least .25 and at most .5, from which on a voxel
    counts as active. Short and strongly filtered runs have high correlations by chance. The spread
    is 1.48 times the median distance from the median, which a broad activation hardly changes.

    `first`: map on any grid of the field of view of `mask`, which is the brain.
    """
    inside = slices.canonical(first).data[slices.repeated(mask, first) > 0]
    known = inside[np.isfinite(inside)]
    if not known.size:
        return CC_DISPLAY.threshold
    middle = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - middle)))
    return round(float(np.clip(middle + 2 * spread, CC_DISPLAY.threshold, ACTIVE_CC)), 2)


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
