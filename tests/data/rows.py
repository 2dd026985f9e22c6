"""Rows of the evaluation of a run with many contrasts, for tests of verdicts and pages."""

import math

from bids_sr.metrics.rows import MetricRow

TESTED = {
    # contrast: explained variance and half-width in active voxels and in the brain; None: no test
    "all": ((0.54, 0.12), (0.40, 0.12)),
    "body": ((0.50, 0.13), (0.25, 0.14)),
    "house": ((0.58, 0.12), (0.36, 0.14)),
    "scene": ((0.12, 0.20), (0.10, 0.20)),
    "face": None,
    "bodyMinusOthers": ((0.49, 0.18), (-0.96, 0.40)),
    "sceneMinusOthers": ((0.05, 0.20), (-0.30, 0.20)),
    "toolMinusOthers": ((math.nan, math.nan), (0.22, 0.12)),
}
"""Results of the test at half the resolution of a run."""


def make_tested_rows(tested=None, *, series="sbl", coverage=0.95, reliable=True, fwhm_mm=0.0):
    """Return rows of the test at half the resolution, and sizes of regions with the error.

    Estimates by contrast are `TESTED` by default.

    Contrasts without a test (None) have only sizes of regions. With `reliable`, all contrasts have
    100 reliable voxels of 200 significant voxels, whatever their results.
    """
    rows = []
    for contrast, values in (TESTED if tested is None else tested).items():
        cells = {"series": series, "contrast": contrast, "fwhm_mm": fwhm_mm}
        place = {"reference": "oneLevelDown", **cells}
        for region, estimate in zip(("acquired40", "brain"), values or (), strict=False):
            value, half = estimate
            for statistic, center, width in (
                ("ev", value, half),
                ("ev_upper_half", value, 0.0 if math.isnan(value) else 0.01),
                ("detail_fineness", 0.8, 0.1),
            ):
                rows.append(
                    MetricRow(
                        statistic=statistic,
                        band="beyond",
                        region=region,
                        value=center,
                        lower=center - width,
                        upper=center + width,
                        n=16,
                        **place,
                    )
                )
            rows.append(MetricRow(statistic="voxels", region=region, value=400.0, **place))
        coverage_row = MetricRow(
            statistic="coverage_one_level_down", value=coverage, region="brain", **cells
        )
        rows += [coverage_row] if values else []
        thresholds = {"fdr": 200.0} | ({"reliable": 100.0} if reliable else {})
        for threshold, size in thresholds.items():
            rows += [
                MetricRow(statistic="voxels", threshold=threshold, value=size, **cells),
                MetricRow(statistic="expected_wrong", threshold=threshold, value=0.09, **cells),
            ]
    return rows


def make_measured_rows(measured, *, series="sbl", reference="measured"):
    """Return explained variances of a reference, by contrast.

    Values are (value, half-width) in active voxels and in the brain; without an interval, the
    half-width is NaN.
    """
    return [
        MetricRow(
            series=series,
            statistic="ev",
            band="beyond",
            reference=reference,
            contrast=contrast,
            region=region,
            value=value,
            lower=value - half,
            upper=value + half,
            n=12,
        )
        for contrast, estimates in measured.items()
        for region, (value, half) in zip(("acquired40", "brain"), estimates, strict=True)
    ]
