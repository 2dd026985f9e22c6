"""Metrics of activation maps: sizes, peaks, overlap of conditions, comparison of series.

For comparisons on the high-resolution grid, *maps* of the acquired series are interpolated by
cubic splines (``rawSpline``). They show the influence of smaller voxels without super-resolution.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy import ndimage

from bids_sr.glm.activation_regions import Peak, Threshold, centroid, nonempty_dice, peak
from bids_sr.glm.contrasts import Contrasts, single_conditions
from bids_sr.io.arrays import Array, Float, Float32, MaskArray
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MISSING, MetricRow, metric_rows
from bids_sr.series import RAW_SPLINE
from bids_sr.spatial.resampling import sample_volume

_MapArrays = Mapping[tuple[str, str], Float32]
Regions = Mapping[tuple[str, str], tuple[MaskArray, float | None]]


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


def _distance(a: Float | None, b: Float | None) -> float | None:
    return None if a is None or b is None else float(np.linalg.norm(a - b))


def correlate_in_mask(a: Float32, b: Float32, mask: MaskArray) -> float:
    """Return the Pearson correlation in the mask; NaN if either map is constant."""
    x = a[mask].astype(np.float64)
    y = b[mask].astype(np.float64)
    if len(x) < 2 or not x.std() or not y.std():
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def _peaks(maps: _MapArrays, name: str, roi: MaskArray, affine: Float) -> dict[str, Peak]:
    """Return the highest voxel in the ROI for each map of a contrast.

    Maps without a peak are omitted.
    """
    peaks = {
        stat: peak(maps[name, stat], roi, affine)
        for stat in ("t", "cc", "z")
        if (name, stat) in maps
    }
    return {stat: peak_voxel for stat, peak_voxel in peaks.items() if peak_voxel is not None}


def _contrast_metrics(
    maps: _MapArrays, name: str, mask: MaskArray, peaks: Mapping[str, Peak]
) -> dict[str, float | None]:
    """Return peak values and positions of one contrast, by statistic."""
    metrics: dict[str, float | None] = {}
    for stat in ("cc", "t", "z"):
        if (name, stat) in maps:
            metrics[f"peak_{stat}"] = peaks[stat].value if stat in peaks else None
    main = peaks.get("t", peaks.get("cc"))
    for index, axis in enumerate("xyz"):
        metrics[f"peak_at_{axis}"] = None if main is None else float(main.position[index])
    if (name, "effect") in maps:
        metrics["peak_effect"] = None if main is None else float(maps[name, "effect"][main.index])
    for stat in ("cc", "t"):
        if (name, stat) in maps:
            metrics[f"brain_peak_{stat}"] = float(maps[name, stat][mask].max())
    return metrics


def _region_metrics(
    region: MaskArray, threshold: float | None, roi: MaskArray, affine: Float, per_acquired: float
) -> dict:
    """Return size and location of one region, by statistic.

    `per_acquired` is the number of voxels of this grid per acquired voxel.
    """
    voxel = float(abs(np.linalg.det(affine[:3, :3])))
    center = centroid(region & roi, affine)
    count = int(region.sum())
    sizes = {
        "voxels": count,
        "volume": count * voxel,
        "size_acquired_voxels": count / per_acquired,
    }
    positions = {
        f"centroid_{axis}": None if center is None else float(center[i])
        for i, axis in enumerate("xyz")
    }
    return {
        "threshold_value": threshold,
        **sizes,
        "roi_volume": int((region & roi).sum()) * voxel,
        **positions,
    }


def _pair_metrics(
    maps: _MapArrays, pair: tuple[str, str], first_peak: Peak | None, second_peak: Peak | None
) -> dict[str, float | None]:
    """Return the distance between the peaks of two conditions, and their effect separation.

    The effect separation is half the difference of the effect differences at both peaks; it is
    positive if each condition exceeds the other condition at its own peak.
    """
    distance = (
        None
        if first_peak is None or second_peak is None
        else _distance(first_peak.position, second_peak.position)
    )
    metrics: dict[str, float | None] = {"peak_distance": distance}
    if (pair[0], "effect") in maps:
        first, second = (maps[name, "effect"] for name in pair)
        metrics["effect_separation"] = (
            None
            if first_peak is None or second_peak is None
            else (
                float(first[first_peak.index] - second[first_peak.index])
                - float(first[second_peak.index] - second[second_peak.index])
            )
            / 2
        )
    return metrics


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
    maps, regions : _MapArrays
        Maps by (contrast, stat) and regions by (contrast, threshold label), on one grid.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    mask, roi, affine : MaskArray
        Brain and region of interest (X, Y, Z); voxel to RAS mm.
    series : str
        Name of the series.
    fwhm_mm : float
        Gaussian smoothing of the maps (FWHM, mm).
    per_acquired : float
        Number of voxels of this grid per acquired voxel; 1 for raw. Sizes in units of the paper
        are divided by this number.

    Returns
    -------
    list[MetricRow]
        Rows on contrasts, regions and pairs of conditions.
    """
    rows: list[MetricRow] = []

    def add(contrast: str, metrics: Mapping[str, float | None], threshold: str = MISSING) -> None:
        rows.extend(
            metric_rows(
                series, metrics, fwhm_mm=fwhm_mm, contrast=contrast, threshold=threshold.lower()
            )
        )

    add(MISSING, {"mask_voxels": int(mask.sum()), "roi_voxels": int((roi & mask).sum())})
    peaks = {name: _peaks(maps, name, roi & mask, affine) for name in contrasts}
    for name, contrast_peaks in peaks.items():
        add(name, _contrast_metrics(maps, name, mask, contrast_peaks))
    for (name, label), (region, threshold) in regions.items():
        add(name, _region_metrics(region, threshold, roi, affine, per_acquired), label)
    for a, b in combinations(single_conditions(contrasts), 2):
        first_peak, second_peak = (peaks[name].get("t", peaks[name].get("cc")) for name in (a, b))
        add(f"{a}+{b}", _pair_metrics(maps, (a, b), first_peak, second_peak))
        for label in dict.fromkeys(key[1] for key in regions):
            first = regions[a, label][0]
            second = regions[b, label][0]
            distance = _distance(centroid(first & roi, affine), centroid(second & roi, affine))
            # Overlap is limited to the ROI, as in the paper.
            overlap = nonempty_dice(first & roi, second & roi)
            add(f"{a}+{b}", {"dice": overlap, "centroid_distance": distance}, label)
    return rows


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


def _upsample_maps(
    maps: _MapArrays, source: Volume, target: Volume
) -> dict[tuple[str, str], Float32]:
    """Return maps interpolated by cubic splines to another grid, 0 outside its mask.

    `source` and `target` are brain masks in one frame. Values are limited to the range of the map
    inside the source mask: overshoots of a spline could give correlations above 1 or peaks that do
    not exist in the map.
    """
    upsampled = {}
    nearest = _find_nearest_voxels(source.data)
    for key, values in maps.items():
        filled = np.take(values, nearest)
        interpolated = sample_volume(filled, source.affine, target.data.shape, target.affine)
        interpolated = np.clip(interpolated, filled.min(), filled.max())
        upsampled[key] = np.where(target.data, interpolated, 0).astype(np.float32)
    return upsampled


def raised_rows(
    maps: _MapArrays,
    contrasts: Contrasts,
    thresholds: Sequence[Threshold],
    *,
    acquired: Volume,
    fine: Volume,
    roi: MaskArray,
    fwhm_mm: float,
    per_acquired: float,
) -> list[MetricRow]:
    """Return metrics of acquired-series maps interpolated to the high-resolution grid.

    The series is named `rawSpline`; all maps have the same smoothing.

    Parameters
    ----------
    maps : _MapArrays
        Maps on the acquired grid by (contrast, stat).
    contrasts, thresholds : Contrasts
        Contrasts of the maps, and thresholds of the regions.
    acquired, fine : Volume
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
    upsampled = _upsample_maps(maps, acquired, fine)
    return activation_rows(
        upsampled,
        find_regions(upsampled, fine.data, roi, thresholds),
        contrasts,
        mask=fine.data,
        roi=roi,
        affine=fine.affine,
        series=RAW_SPLINE,
        fwhm_mm=fwhm_mm,
        per_acquired=per_acquired,
    )
