"""Figure of cross-correlation (CC) maps of one condition in an axial and a sagittal plane."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from bids_sr.engine.number_text import number
from bids_sr.glm.region_growth import ACTIVE_CC
from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.figures import slices
from bids_sr.report.figures.canvas import FigureInputError
from bids_sr.report.figures.maps import CC_DISPLAY, MAP_COLORS, Scene, highest_point
from bids_sr.report.figures.slices import Cut, Layer, Panel, PanelRow

_COLORS = LinearSegmentedColormap.from_list("bids-sr-cc", MAP_COLORS[len(MAP_COLORS) // 2 :])
_MAD_TO_SD = 1.4826  # ratio of standard deviation to median absolute deviation for a Gaussian
_MIN_SCALE_RANGE = 0.2  # smallest range of the color scale
_ENLARGED_SIZE_MM = (64.0, 56.0)  # mm, width and height of the enlarged part of a plane


def correlation_figure(
    maps: Mapping[str, Volume],
    scene: Scene,
) -> Figure:
    """Plot positive cross-correlation of one condition in an axial and a sagittal plane.

    Each plane is also shown enlarged. There is one row per series, labeled with its highest value
    in the region of interest. Both planes pass through the highest value of the first map, so that
    no series chooses its own planes. All rows share one color scale, from the threshold (see
    `display_threshold`) to the highest of these values.

    The maps (3D) by series are on any grid of the scene's field of view. Raises `FigureInputError`
    if there are none.
    """
    if not maps:
        raise FigureInputError("no cross-correlation map to draw")
    first_series = next(iter(maps))
    peak_mm = highest_point(maps[first_series], scene.roi)
    brain_box = slices.bounding_box_mm(scene.mask, 3.0)
    cuts_and_frames: list[tuple[Cut, Array | None]] = []
    for axis in (2, 0):  # axial, sagittal
        enlarged_box = slices.crop_box(brain_box, peak_mm, _ENLARGED_SIZE_MM, axis)
        position_mm = float(peak_mm[axis])
        cuts_and_frames += [
            (Cut(axis=axis, position_mm=position_mm, box=brain_box), enlarged_box),
            (Cut(axis=axis, position_mm=position_mm, box=enlarged_box), None),
        ]
    threshold = display_threshold(maps[first_series], scene.mask)
    peaks = {}
    for name, image in maps.items():
        roi_values = _select_values(image, scene.roi)
        peaks[name] = float(np.max(roi_values[np.isfinite(roi_values)], initial=-1.0))
    scale_end = max(threshold + _MIN_SCALE_RANGE, math.ceil(10 * max(peaks.values())) / 10)
    rows: list[PanelRow] = []
    for name, image in maps.items():
        values = np.nan_to_num(image.data)
        thresholded_map = image.like(np.where(values > threshold, values, math.nan))
        layers = scene.make_layer(
            Layer(image=thresholded_map, low=threshold, high=scale_end, colors=_COLORS, alpha=0.92)
        )
        panels = [
            Panel(cut=cut, layers=layers, enlarged_box=frame) for cut, frame in cuts_and_frames
        ]
        rows.append((f"{series_text(name)}\npeak {number(peaks[name], '.2f')}", panels))
    scale = Layer(image=scene.mask, low=threshold, high=scale_end, colors=_COLORS)
    return slices.image_figure(rows, scale=scale, label=f"CC; shown where CC > {threshold:g}")


def display_threshold(first_map: Volume, mask: Volume) -> float:
    """Return the CC threshold of all rows, from the first map's values in the brain.

    The threshold is the median plus two standard deviations, limited to 0.25 to 0.5; a voxel with
    CC of at least 0.5 counts as active. The threshold adapts because short or strongly filtered
    runs have high correlations by chance. The standard deviation is estimated as 1.48 times the
    median absolute deviation, which hardly depends on broad activation. `first_map` may be on
    another grid than the brain mask.
    """
    brain_values = _select_values(first_map, mask)
    finite_values = brain_values[np.isfinite(brain_values)]
    if not finite_values.size:
        return CC_DISPLAY.threshold
    median = float(np.median(finite_values))
    sd = _MAD_TO_SD * float(np.median(np.abs(finite_values - median)))
    return round(float(np.clip(median + 2 * sd, CC_DISPLAY.threshold, ACTIVE_CC)), 2)


def _select_values(image: Volume, mask: Volume) -> Array:
    """Return the values of a map in a mask (N,), which may be on another grid."""
    return slices.reorient_to_ras(image).data[slices.resample_nearest(mask, image) > 0]
