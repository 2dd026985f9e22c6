"""Figure of the correlation maps of one seed: unthresholded, and thresholded at r = .5.

Source: the seed-correlation maps of TV self-supervision, figure 2.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from bids_sr.figures import slices
from bids_sr.figures.canvas import FigureInputError
from bids_sr.figures.maps import MAP_COLORS, Scene, highest_point
from bids_sr.figures.slices import Cut, Layer, Panel, PanelRow
from bids_sr.glm.region_growth import ACTIVE_CC
from bids_sr.io.volume import Volume
from bids_sr.metrics.number_text import number
from bids_sr.report.evaluation_rows import series_text

_COLORS = LinearSegmentedColormap.from_list("bids-sr-r", MAP_COLORS)


def network_figure(maps: Mapping[str, Volume], scene: Scene) -> Figure:
    """Plot the correlation maps of one seed in an axial and a sagittal plane.

    Each plane has two panels: all correlations in the brain, and correlations of at least .5.
    There is one row per series, labeled with the fraction of brain voxels of at least .5. Both
    planes pass through the highest value of the first map, so that no series chooses its own
    planes. All panels share one color scale from -1 to 1.

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
        If `maps` is empty.
    """
    if not maps:
        raise FigureInputError("no seed correlation map to draw")
    center = highest_point(next(iter(maps.values())), scene.mask)
    box = slices.bounding_box_mm(scene.mask, 3.0)
    cuts = [Cut(axis=axis, position_mm=float(center[axis]), box=box) for axis in (2, 0)]
    rows: list[PanelRow] = []
    for name, image in maps.items():
        ras_image = slices.reorient_to_ras(image)
        is_brain = slices.resample_nearest(scene.mask, image) > 0
        values = np.where(is_brain, ras_image.data, np.nan)
        brain_map = ras_image.like(values)
        network = brain_map.like(
            np.where(np.nan_to_num(values, nan=-1) >= ACTIVE_CC, values, np.nan)
        )
        panels = [
            Panel(cut=cut, layers=scene.make_layer(_make_layer(layer_image)), enlarged_box=None)
            for cut in cuts
            for layer_image in (brain_map, network)
        ]
        rows.append(
            (f"{series_text(name)}\n{number(_active_fraction(values), '.1%')} at .5", panels)
        )
    return slices.image_figure(
        rows,
        scale=_make_layer(scene.mask),
        label="correlation with the seed (r); right panel of each plane: r ≥ .5",
    )


def _make_layer(image: Volume) -> Layer:
    """Return the layer of a correlation map on the common color scale."""
    return Layer(image=image, low=-1.0, high=1.0, colors=_COLORS, alpha=0.85)


def _active_fraction(values: np.ndarray) -> float:
    """Return the fraction of finite values that are at least .5; NaN if no value is finite."""
    finite = values[np.isfinite(values)]
    return float((finite >= ACTIVE_CC).mean()) if finite.size else float("nan")
