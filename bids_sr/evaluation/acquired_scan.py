"""Comparison of super-resolved structural scans with the acquired scans, without a reference.

At the acquired resolution, a super-resolved scan must agree with the acquired scan. Both are
smoothed with a Gaussian whose FWHM is the largest acquired voxel size, because the scans may have
been rotated, so that the acquired grid is oblique to the grid of the scans.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bids_sr.engine.metric_rows import BRAIN, MetricRow, metric_rows
from bids_sr.engine.number_text import number
from bids_sr.io.arrays import MaskArray, Real
from bids_sr.spatial.smoothing import smooth

_MIN_SLOPE, _MIN_R = 0.5, 0.5**0.5
"""Limits: half of the contrast, and half of the energy, of the acquired scan."""
SLOPE, CORRELATION, FLAG = "acquired_scan_slope", "acquired_scan_r", "flag_altered_scan"
"""Statistics of the comparison in the table of the scans."""


def acquired_scan_rows(
    scans: Mapping[str, Mapping[str, Real]],
    acquired: Mapping[str, Real],
    mask: MaskArray,
    zooms: Sequence[float],
    acquired_mm: Mapping[str, float],
) -> list[MetricRow]:
    """Return slope and correlation of each scan, and a flag per series.

    `scans` are by series and contrast. `acquired` contains the acquired scans on the same grid by
    contrast, and `acquired_mm` their largest voxel sizes. `mask` selects the voxels of the
    comparison, and `zooms` is the voxel size of the grid (mm).
    """
    rows: list[MetricRow] = []
    for series, scan_of_contrast in scans.items():
        is_altered = False
        for contrast, scan in scan_of_contrast.items():
            slope, r = compare_with_acquired_scan(
                scan, acquired[contrast], mask, zooms, acquired_mm[contrast]
            )
            is_altered |= slope < _MIN_SLOPE or r < _MIN_R
            rows += metric_rows(
                series,
                {SLOPE: slope, CORRELATION: r},
                reference="acquired",
                region=BRAIN,
                contrast=contrast,
            )
        rows.append(MetricRow(series=series, statistic=FLAG, value=float(is_altered)))
    return rows


def compare_with_acquired_scan(
    scan: Real, acquired: Real, mask: MaskArray, zooms: Sequence[float], acquired_mm: float
) -> tuple[float, float]:
    """Return slope and correlation of a scan with the acquired scan at the acquired resolution.

    `acquired` is interpolated to the grid of `scan`, whose voxel size along each axis is `zooms`
    (mm); `mask` selects the voxels of the comparison. All images are (X, Y, Z). `acquired_mm` is
    the largest voxel size of the acquired scan. The slope is from the regression of the scan on
    the acquired scan. Both values are 0 for a constant scan.
    """
    x, y = (
        smooth(np.asarray(image, np.float32), zooms, acquired_mm)[mask].astype(np.float64)
        for image in (acquired, scan)
    )
    x, y = x - x.mean(), y - y.mean()
    energy = float(x @ x)
    norm_product = float(np.sqrt(energy * (y @ y)))
    slope = float(x @ y) / energy if energy else 0.0
    r = float(x @ y) / norm_product if norm_product else 0.0
    return slope, r


def altered_sentences(rows: Sequence[MetricRow]) -> list[str]:
    """Return a sentence per series that does not agree with the acquired scans."""
    sentences = []
    for flag in rows:
        if flag.statistic != FLAG or not flag.value > 0:
            continue
        values = {
            (row.contrast, row.statistic): row.value for row in rows if row.series == flag.series
        }
        contrast = min(
            (name for name, statistic in values if statistic == CORRELATION),
            key=lambda name: min(values[name, CORRELATION], values[name, SLOPE]),
        )
        sentences.append(
            f"Do not use the {flag.series} scans. At the acquired resolution, they do not agree"
            f" with the acquired scans (in the {contrast} scan, correlation of"
            f" {number(values[contrast, CORRELATION], '.2f')} and"
            f" {number(values[contrast, SLOPE], '.0%')} of the acquired contrast between tissues)."
        )
    return sentences
