"""Metrics of activation maps: sizes, peaks, condition overlap, map correlation, series comparison.

The acquired series is compared on the high-resolution grid as its *map* brought up by a cubic
spline, ``rawSpline``: what finer voxels alone make of it.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy import ndimage

from bids_sr.glm.activation_regions import Peak, Threshold, centroid, dice, peak
from bids_sr.glm.contrasts import Contrasts, single_conditions
from bids_sr.io.arrays import Array, Float, Float32, Mask
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MISSING, MetricRow, metric_rows
from bids_sr.series import RAW_SPLINE
from bids_sr.spatial.resampling import sample_volume

_Maps = Mapping[tuple[str, str], Float32]
Regions = Mapping[tuple[str, str], tuple[Mask, float | None]]


def find_regions(maps: _Maps, mask: Mask, roi: Mask, thresholds: Sequence[Threshold]) -> Regions:
    """Return regions by (contrast, threshold label), for every map that a threshold applies to.

    Voxels (3D, boolean) and threshold, None where there is none.
    """
    return {
        (name, threshold.label): threshold.region(maps[name, stat], mask, roi)
        for threshold in thresholds
        for name, stat in maps
        if stat == threshold.stat
    }


def _distance(a: Float | None, b: Float | None) -> float | None:
    return None if a is None or b is None else float(np.linalg.norm(a - b))


def correlation(a: Float32, b: Float32, mask: Mask) -> float:
    """Pearson correlation over the mask; NaN where either map is constant in it."""
    x = a[mask].astype(np.float64)
    y = b[mask].astype(np.float64)
    if len(x) < 2 or not x.std() or not y.std():
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def _peaks(maps: _Maps, name: str, roi: Mask, affine: Float) -> dict[str, Peak]:
    """Highest voxel in the ROI of each map of a contrast that has one."""
    peaks = {
        stat: peak(maps[name, stat], roi, affine)
        for stat in ("t", "cc", "z")
        if (name, stat) in maps
    }
    return {stat: at for stat, at in peaks.items() if at is not None}


def _contrast_metrics(
    maps: _Maps, name: str, mask: Mask, peaks: Mapping[str, Peak]
) -> dict[str, float | None]:
    """Peaks of one contrast, by measure."""
    out: dict[str, float | None] = {}
    for stat in ("cc", "t", "z"):
        if (name, stat) in maps:
            out[f"peak_{stat}"] = peaks[stat].value if stat in peaks else None
    main = peaks.get("t", peaks.get("cc"))
    for index, axis in enumerate("xyz"):
        out[f"peak_at_{axis}"] = None if main is None else float(main.position[index])
    if (name, "effect") in maps:
        out["peak_effect"] = None if main is None else float(maps[name, "effect"][main.index])
    for stat in ("cc", "t"):
        if (name, stat) in maps:
            out[f"brain_peak_{stat}"] = float(maps[name, stat][mask].max())
    return out


def _region_metrics(
    region: Mask, threshold: float | None, roi: Mask, affine: Float, per_acquired: float
) -> dict:
    """Return size and location of one region, by statistic.

    `per_acquired` is the number of its voxels in one acquired voxel.
    """
    voxel = float(abs(np.linalg.det(affine[:3, :3])))
    center = centroid(region & roi, affine)
    count = int(region.sum())
    sizes = {
        "voxels": count,
        "volume": count * voxel,
        "size_acquired_voxels": count / per_acquired,
    }
    places = {
        f"centroid_{axis}": None if center is None else float(center[i])
        for i, axis in enumerate("xyz")
    }
    return {
        "threshold_value": threshold,
        **sizes,
        "roi_volume": int((region & roi).sum()) * voxel,
        **places,
    }


def _pair_metrics(
    maps: _Maps, pair: tuple[str, str], at: Peak | None, to: Peak | None
) -> dict[str, float | None]:
    """Return the distance between two conditions' peaks, and their excess at their own peaks.

    The excess tells how far each condition exceeds the other at its own peak.
    """
    apart = None if at is None or to is None else _distance(at.position, to.position)
    out: dict[str, float | None] = {"peak_distance": apart}
    if (pair[0], "effect") in maps:
        first, second = (maps[name, "effect"] for name in pair)
        out["effect_separation"] = (
            None
            if at is None or to is None
            else (
                float(first[at.index] - second[at.index])
                - float(first[to.index] - second[to.index])
            )
            / 2
        )
    return out


def activation_rows(
    maps: _Maps,
    regions: Regions,
    contrasts: Contrasts,
    *,
    mask: Mask,
    roi: Mask,
    affine: Float,
    series: str,
    fwhm_mm: float,
    per_acquired: float,
) -> list[MetricRow]:
    """All rows of one series at one smoothing.

    Parameters
    ----------
    maps, regions : _Maps
        By (contrast, stat) and by (contrast, threshold label); on one grid.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    mask, roi, affine : Mask
        (X, Y, Z) brain and region of interest; voxel to RAS mm.
    series : str
        Name of the series.
    fwhm_mm : float
        Gaussian smoothing of the maps (FWHM, mm).
    per_acquired : float
        Voxels of this grid in one acquired voxel; 1 for raw (paper units divide by it).

    Returns
    -------
    list[MetricRow]
        Rows on contrasts, regions and pairs of conditions.
    """
    rows: list[MetricRow] = []

    def add(contrast: str, figures: Mapping[str, float | None], threshold: str = MISSING) -> None:
        rows.extend(
            metric_rows(
                series, figures, fwhm_mm=fwhm_mm, contrast=contrast, threshold=threshold.lower()
            )
        )

    add(MISSING, {"mask_voxels": int(mask.sum()), "roi_voxels": int((roi & mask).sum())})
    peaks = {name: _peaks(maps, name, roi & mask, affine) for name in contrasts}
    for name, own in peaks.items():
        add(name, _contrast_metrics(maps, name, mask, own))
    for (name, label), (region, threshold) in regions.items():
        add(name, _region_metrics(region, threshold, roi, affine, per_acquired), label)
    for a, b in combinations(single_conditions(contrasts), 2):
        at, to = (peaks[name].get("t", peaks[name].get("cc")) for name in (a, b))
        add(f"{a}+{b}", _pair_metrics(maps, (a, b), at, to))
        for label in dict.fromkeys(key[1] for key in regions):
            first = regions[a, label][0]
            second = regions[b, label][0]
            distance = _distance(centroid(first & roi, affine), centroid(second & roi, affine))
            # Overlap inside the ROI for every threshold: the paper's regions end there
            overlap = dice(first & roi, second & roi)
            add(f"{a}+{b}", {"dice": overlap, "centroid_distance": distance}, label)
    return rows


def _nearest_inside(mask: Mask) -> Array:
    """Return the flat index of the nearest voxel in the mask, for each voxel (X, Y, Z).

    Distances are in voxels. Statistics outside the mask are zeros, not data, and would pull down
    the border of a map that is interpolated; with these indices, they take the nearest value. If
    the mask is empty, each voxel is its own nearest voxel.
    """
    if mask.any():
        nearest = ndimage.distance_transform_edt(
            ~mask, return_distances=False, return_indices=True
        )
    else:
        nearest = np.indices(mask.shape)
    return np.ravel_multi_index(tuple(nearest), mask.shape)


def _upsample_maps(maps: _Maps, source: Volume, target: Volume) -> dict[tuple[str, str], Float32]:
    """Return maps as cubic splines on another grid, 0 outside its mask; by (contrast, stat).

    `source` and `target` are brain masks in one frame. No value exceeds the extremes of the map
    inside the source's mask: where a spline overshoots, a correlation could be larger than 1, and
    a peak would be made by the interpolation.
    """
    raised = {}
    nearest = _nearest_inside(source.data)
    for key, values in maps.items():
        filled = np.take(values, nearest)
        fine = sample_volume(filled, source.affine, target.data.shape, target.affine)
        fine = np.clip(fine, filled.min(), filled.max())
        raised[key] = np.where(target.data, fine, 0).astype(np.float32)
    return raised


def raised_rows(
    maps: _Maps,
    contrasts: Contrasts,
    thresholds: Sequence[Threshold],
    *,
    acquired: Volume,
    fine: Volume,
    roi: Mask,
    fwhm_mm: float,
    per_acquired: float,
) -> list[MetricRow]:
    """Return metrics of acquired-series maps upsampled to the high-resolution grid (`rawSpline`).

    All maps are of one smoothing.

    Parameters
    ----------
    maps : _Maps
        On the acquired grid, by (contrast, stat).
    contrasts, thresholds : Contrasts
        As the maps were made with.
    acquired, fine : Volume
        Brain on both grids.
    roi : Mask
        On the high-resolution grid.
    fwhm_mm : float
        Gaussian smoothing of the maps (FWHM, mm).
    per_acquired : float
        High-resolution voxels in one acquired voxel.

    Returns
    -------
    list[MetricRow]
        Rows on contrasts, regions and pairs of conditions.
    """
    raised = _upsample_maps(maps, acquired, fine)
    return activation_rows(
        raised,
        find_regions(raised, fine.data, roi, thresholds),
        contrasts,
        mask=fine.data,
        roi=roi,
        affine=fine.affine,
        series=RAW_SPLINE,
        fwhm_mm=fwhm_mm,
        per_acquired=per_acquired,
    )
