"""Comparison of the maps of different series on the high-resolution grid.

The acquired series enters as its *map* brought up by a cubic spline, series name ``rawSpline``: what finer voxels alone
make of it. Statistics outside the mask are zeros, not data; before interpolation they take the value of the nearest
voxel of the mask, so that the mask's border does not pull the map down.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bids_sr.io.array_types import Float, Float32, Mask
from bids_sr.metrics.long_tables import MetricRow, metric_rows
from bids_sr.series import RAW_SPLINE
from bids_sr.spatial.resampling import Spline, sample_volume
from bids_sr.stats.regions.activation_regions import Threshold
from bids_sr.stats.regions.map_summary import Maps, activation_rows, correlation, find_regions


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Where maps live."""

    mask: Mask  # (X, Y, Z) brain
    affine: Float  # voxel to RAS mm, one frame for all grids of a run


def fill_outside(values: Float32, mask: Mask) -> Float32:
    """Voxels outside the mask take the value of the nearest voxel (in index distance) inside."""
    if mask.all() or not mask.any():
        return values
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return values[tuple(nearest)]


def upsample_maps(maps: Maps, source: Grid, target: Grid) -> dict[tuple[str, str], Float32]:
    """Maps as cubic splines on another grid, 0 outside the target's mask; by (contrast, stat)."""
    raised = {}
    for key, values in maps.items():
        filled = fill_outside(values, source.mask)
        fine = sample_volume(filled, source.affine, target.mask.shape, target.affine, spline=Spline(order=3))
        raised[key] = np.where(target.mask, fine, 0).astype(np.float32)
    return raised


def likeness_rows(
    values: Float32, key: tuple[str, str], references: Mapping[str, Maps], mask: Mask, *, series: str, fwhm_mm: float
) -> list[MetricRow]:
    """Correlation over the mask of one map, of a (contrast, stat), with the same map of references that have it."""
    contrast, stat = key
    found = {
        f"r_{stat}_with_{name}": correlation(values, maps[key], mask)
        for name, maps in references.items()
        if key in maps
    }
    return metric_rows(series, found, fwhm_mm=fwhm_mm, contrast=contrast)


def comparison_rows(
    files: Mapping[str, Mapping[tuple[str, str], str]], load: Callable[[str], Float32],
    contrasts: Mapping[str, Mapping[str, float]], thresholds: Sequence[Threshold], *, acquired: Grid, fine: Grid,
    roi: Mask, fwhm_mm: float, per_acquired: float,
) -> list[MetricRow]:  # fmt: skip
    """All rows that compare the series at one smoothing; holds the maps of raw and bspline and one more at a time.

    Parameters
    ----------
    files : series to (contrast, stat) to what `load` takes; raw on the acquired grid, all others on the high-resolution
        one
    contrasts, thresholds : as the maps were made with
    roi : on the high-resolution grid
    per_acquired : high-resolution voxels in one acquired voxel
    """
    raised = upsample_maps({key: load(path) for key, path in files.get("raw", {}).items()}, acquired, fine)
    bspline = {key: load(path) for key, path in files.get("bspline", {}).items()}
    rows = []
    if raised:
        rows += activation_rows(
            raised, find_regions(raised, fine.mask, roi, thresholds), contrasts,
            mask=fine.mask, roi=roi, affine=fine.affine, series=RAW_SPLINE, fwhm_mm=fwhm_mm, per_acquired=per_acquired,
        )  # fmt: skip
    for series, paths in files.items():
        references: dict[str, Maps] = {"raw": raised}
        if series != "bspline":
            references["bspline"] = bspline
        for key, path in paths.items() if series != "raw" else ():
            rows += likeness_rows(load(path), key, references, fine.mask, series=series, fwhm_mm=fwhm_mm)
    return rows
