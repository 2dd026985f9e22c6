"""Figure of the correlation maps of one seed: unthresholded, and thresholded at `ACTIVE_CC`.

Source: the seed-correlation maps of TV self-supervision, figure 2.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from bids_sr.engine.number_text import number
from bids_sr.glm.region_growth import ACTIVE_CC
from bids_sr.io.volume import Volume
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.figures import slices
from bids_sr.report.figures.canvas import FigureInputError
from bids_sr.report.figures.maps import MAP_COLORS, Scene, highest_point
from bids_sr.report.figures.slices import Cut, Layer, Panel, PanelRow

_COLORS = LinearSegmentedColormap.from_list("bids-sr-r", MAP_COLORS)
_MARGIN_MM = 3.0  # mm, margin of the panels around the brain
_THRESHOLD_TEXT = f"{ACTIVE_CC:g}"[1:]  # without the leading zero


def network_figure(maps: Mapping[str, Volume], scene: Scene) -> Figure:
    """Plot the correlation maps of one seed in an axial and a sagittal plane.

    Each plane has two panels: all correlations in the brain, and correlations of at least
    `ACTIVE_CC`. There is one row per series, labeled with the fraction of brain voxels of at least
    `ACTIVE_CC`. Both planes pass through the highest value of the first map, so that no series
    chooses its own planes. All panels share one color scale from -1 to 1.

    The maps (3D) by series are on any grid of the scene's field of view. Raises `FigureInputError`
    if there are none.
    """
    if not maps:
        raise FigureInputError("no seed correlation map to draw")
    first_map = next(iter(maps.values()))
    peak_mm = highest_point(first_map, scene.mask)
    box = slices.bounding_box_mm(scene.mask, _MARGIN_MM)
    cuts = [Cut(axis=axis, position_mm=float(peak_mm[axis]), box=box) for axis in (2, 0)]
    return slices.image_figure(
        [_make_row(name, image, scene, cuts) for name, image in maps.items()],
        scale=_correlation_layer(first_map),
        label=f"correlation with the seed (r); right panel of each plane: r ≥ {_THRESHOLD_TEXT}",
    )


def _make_row(name: str, image: Volume, scene: Scene, cuts: Sequence[Cut]) -> PanelRow:
    """Return the row of a series: in each cut, the map in the brain and the thresholded map."""
    ras_image = slices.reorient_to_ras(image)
    is_brain = slices.resample_nearest(scene.mask, image) > 0
    correlations = np.where(is_brain, ras_image.data, np.nan)
    brain_map = ras_image.like(correlations)
    thresholded_map = ras_image.like(np.where(correlations >= ACTIVE_CC, correlations, np.nan))
    finite = correlations[np.isfinite(correlations)]
    active_fraction = float((finite >= ACTIVE_CC).mean()) if finite.size else float("nan")
    fraction_text = number(active_fraction, ".1%")
    panels = [
        Panel(cut=cut, layers=scene.make_layer(_correlation_layer(panel_map)))
        for cut in cuts
        for panel_map in (brain_map, thresholded_map)
    ]
    return f"{series_text(name)}\n{fraction_text} at {_THRESHOLD_TEXT}", panels


def _correlation_layer(image: Volume) -> Layer:
    """Return the layer of a correlation map on the common color scale."""
    return Layer(image=image, low=-1.0, high=1.0, colors=_COLORS, alpha=0.85)
