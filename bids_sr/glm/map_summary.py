"""Metrics of activation maps: sizes, peaks, overlap of conditions, comparison of series.

For comparisons on the high-resolution grid, *maps* of the acquired series are interpolated by
cubic splines (``acquiredSpline``). They show the influence of smaller voxels without
super-resolution.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy import ndimage

from bids_sr.engine.metric_rows import MISSING, MetricRow, metric_rows
from bids_sr.glm.activation_regions import Peak, Threshold, centroid, find_peak, nonempty_dice
from bids_sr.glm.contrasts import Contrasts, single_conditions
from bids_sr.io.arrays import Array, Float, Float32, MaskArray
from bids_sr.io.series import ACQUIRED_SPLINE
from bids_sr.io.volume import Volume
from bids_sr.spatial.resampling import sample_volume

_MapArrays = Mapping[tuple[str, str], Float32]  # maps (X, Y, Z) by (contrast, stat)
Regions = Mapping[tuple[str, str], tuple[MaskArray, float | None]]
"""Voxels (X, Y, Z, boolean) and threshold of each region, by (contrast, threshold label)."""


def upsampled_rows(
    maps: _MapArrays,
    contrasts: Contrasts,
    thresholds: Sequence[Threshold],
    *,
    acquired: Volume,
    highres: Volume,
    roi: MaskArray,
    fwhm_mm: float,
    per_acquired: float,
) -> list[MetricRow]:
    """Return metrics of acquired-series maps interpolated to the high-resolution grid.

    The series is named `acquiredSpline`; all maps have the same smoothing.

    Parameters
    ----------
    maps : _MapArrays
        Maps on the acquired grid by (contrast, stat).
    contrasts, thresholds : Contrasts
        Contrasts of the maps, and thresholds of the regions.
    acquired, highres : Volume
        Brain masks on the acquired and on the high-resolution grid.
    roi : MaskArray
        Region of interest on the high-resolution grid.
    fwhm_mm : float
        Gaussian smoothing of the maps (FWHM, mm).
    per_acquired : float
        Number of high-resolution voxels per acquired voxel.

    Returns
    -------
    list[MetricRow]
        Rows on contrasts, regions and pairs of conditions.
    """
    upsampled_maps = _upsample_maps(maps, acquired, highres)
    return activation_rows(
        upsampled_maps,
        find_regions(upsampled_maps, highres.data, roi, thresholds),
        contrasts,
        mask=highres.data,
        roi=roi,
        affine=highres.affine,
        series=ACQUIRED_SPLINE,
        fwhm_mm=fwhm_mm,
        per_acquired=per_acquired,
    )


def _upsample_maps(
    maps: _MapArrays, source: Volume, target: Volume
) -> dict[tuple[str, str], Float32]:
    """Return maps interpolated by cubic splines to another grid, 0 outside its mask.

    `source` and `target` are brain masks in one frame. Values are limited to the range of the map
    inside the source mask: overshoots of a spline could give correlations above 1 or peaks that do
    not exist in the map.
    """
    upsampled_maps = {}
    nearest_voxels = _find_nearest_voxels(source.data)
    for key, values in maps.items():
        extrapolated = np.take(values, nearest_voxels)
        upsampled = sample_volume(extrapolated, source.affine, target.data.shape, target.affine)
        upsampled = np.clip(upsampled, extrapolated.min(), extrapolated.max())
        upsampled_maps[key] = np.where(target.data, upsampled, 0).astype(np.float32)
    return upsampled_maps


def _find_nearest_voxels(mask: MaskArray) -> Array:
    """Return the flat index of the nearest mask voxel, for each voxel (X, Y, Z).

    Distances are in voxels. Statistics outside the mask are zeros instead of data and would lower
    an interpolated map at the border. With these indices, voxels outside take the nearest value
    inside. If the mask is empty, each voxel is its own nearest voxel.
    """
    if mask.any():
        nearest = ndimage.distance_transform_edt(
            ~mask, return_distances=False, return_indices=True
        )
    else:
        nearest = np.indices(mask.shape)
    return np.ravel_multi_index(tuple(nearest), mask.shape)


def activation_rows(
    maps: _MapArrays,
    regions: Regions,
    contrasts: Contrasts,
    *,
    mask: MaskArray,
    roi: MaskArray,
    affine: Float,
    series: str,
    fwhm_mm: float,
    per_acquired: float,
) -> list[MetricRow]:
    """Return all metric rows of one series at one smoothing width.

    Parameters
    ----------
    maps, regions : _MapArrays, Regions
        Maps by (contrast, stat) and regions by (contrast, threshold label), on one grid.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    mask, roi, affine : MaskArray, MaskArray, Array
        Brain and region of interest (X, Y, Z); voxel to RAS mm.
    series : str
        Name of the series.
    fwhm_mm : float
        Gaussian smoothing of the maps (FWHM, mm).
    per_acquired : float
        Number of voxels of this grid per acquired voxel; 1 for the acquired series. The size of a
        region in acquired voxels, the unit of the paper, is its size divided by this number.

    Returns
    -------
    list[MetricRow]
        Rows on contrasts, regions and pairs of conditions.
    """
    sizes: dict[str, float | None] = {
        "mask_voxels": int(mask.sum()),
        "roi_voxels": int((roi & mask).sum()),
    }
    # contrast, threshold label, and metrics
    entries: list[tuple[str, str, Mapping[str, float | None]]] = [(MISSING, MISSING, sizes)]
    main_peaks: dict[str, Peak | None] = {}
    for name in contrasts:
        peaks = _find_peaks(maps, name, roi & mask, affine)
        main_peaks[name] = peaks.get("t") or peaks.get("cc")
        metrics = _compute_contrast_metrics(maps, name, peaks, main_peaks[name])
        entries.append((name, MISSING, metrics))
    # Centers and overlap of decreases and increases together would not describe either.
    increases = {
        (name, label): region if label == "Quarter" else region & (maps[name, "z"] > 0)
        for (name, label), (region, _) in regions.items()
    }
    for (name, label), (region, threshold) in regions.items():
        center = centroid(increases[name, label] & roi, affine)
        metrics = _compute_region_metrics(region, threshold, center, affine, per_acquired)
        entries.append((name, label, metrics))
    labels = list(dict.fromkeys(label for _, label in regions))
    for pair in combinations(single_conditions(contrasts), 2):
        pair_name = "+".join(pair)
        first_position, second_position = (
            None if (peak := main_peaks[name]) is None else peak.position for name in pair
        )
        peak_distance = _compute_distance(first_position, second_position)
        entries.append((pair_name, MISSING, {"peak_distance": peak_distance}))
        for label in labels:
            # Overlap is limited to the ROI, as in the paper.
            first_region, second_region = (increases[name, label] & roi for name in pair)
            metrics = _compute_overlap_metrics(first_region, second_region, affine)
            entries.append((pair_name, label, metrics))
    return [
        row
        for contrast, label, metrics in entries
        for row in metric_rows(
            series, metrics, fwhm_mm=fwhm_mm, contrast=contrast, threshold=label.lower()
        )
    ]


def _find_peaks(
    maps: _MapArrays, name: str, roi: MaskArray, affine: Float
) -> dict[str, Peak | None]:
    """Return the highest voxel in the ROI for each map of a contrast, by statistic."""
    return {
        stat: find_peak(maps[name, stat], roi, affine)
        for stat in ("cc", "t", "z")
        if (name, stat) in maps
    }


def _compute_contrast_metrics(
    maps: _MapArrays, name: str, peaks: Mapping[str, Peak | None], main_peak: Peak | None
) -> dict[str, float | None]:
    """Return peak values of the maps of a contrast, and position and effect of the main peak."""
    metrics = {
        f"peak_{stat}": None if peak is None else peak.value for stat, peak in peaks.items()
    }
    for index, axis in enumerate("xyz"):
        metrics[f"peak_at_{axis}"] = (
            None if main_peak is None else float(main_peak.position[index])
        )
    if (name, "effect") in maps:
        metrics["peak_effect"] = (
            None if main_peak is None else float(maps[name, "effect"][main_peak.index])
        )
    return metrics


def _compute_region_metrics(
    region: MaskArray,
    threshold: float | None,
    center: Float | None,
    affine: Float,
    per_acquired: float,
) -> dict[str, float | None]:
    """Return threshold, size and center of one region.

    `center` is its center (RAS mm); None if there is none. `per_acquired` is the number of voxels
    of this grid per acquired voxel.
    """
    voxel_mm3 = float(abs(np.linalg.det(affine[:3, :3])))
    n_voxels = int(region.sum())
    metrics: dict[str, float | None] = {
        "threshold_value": threshold,
        "voxels": n_voxels,
        "volume": n_voxels * voxel_mm3,
        "size_acquired_voxels": n_voxels / per_acquired,
    }
    for index, axis in enumerate("xyz"):
        metrics[f"centroid_{axis}"] = None if center is None else float(center[index])
    return metrics


def _compute_overlap_metrics(
    first: MaskArray, second: MaskArray, affine: Float
) -> dict[str, float | None]:
    """Return overlap and distance of the regions of two conditions inside the ROI."""
    distance = _compute_distance(centroid(first, affine), centroid(second, affine))
    return {"dice": nonempty_dice(first, second), "centroid_distance": distance}


def _compute_distance(first: Float | None, second: Float | None) -> float | None:
    """Return the distance of two points (mm); None if either point is unknown."""
    return None if first is None or second is None else float(np.linalg.norm(first - second))


def find_regions(
    maps: _MapArrays, mask: MaskArray, roi: MaskArray, thresholds: Sequence[Threshold]
) -> Regions:
    """Return regions by (contrast, threshold label), for every map that a threshold applies to.

    Each region consists of its voxels (X, Y, Z, boolean) and the threshold; None if the rule does
    not give a threshold.
    """
    return {
        (name, threshold.label): threshold.region(maps[name, stat], mask, roi)
        for threshold in thresholds
        for name, stat in maps
        if stat == threshold.stat
    }


def correlate_in_mask(first: Float32, second: Float32, mask: MaskArray) -> float:
    """Return the Pearson correlation in the mask; NaN if either map is constant."""
    x = first[mask].astype(np.float64)
    y = second[mask].astype(np.float64)
    if len(x) < 2 or not x.std() or not y.std():
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])
