"""Rows of the evaluation of a run, and the verdict on them, for tests of verdicts and pages."""

import math
from collections.abc import Sequence
from typing import Any

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.qc_flags import read_flags
from bids_sr.evaluation.run_evidence import gather_evidence
from bids_sr.evaluation.verdict import Verdict, make_verdict


def make_row(
    series: str, statistic: str, value: float, half_width: float = 0.01, **cells: Any
) -> MetricRow:
    """Return a row whose interval is `value` ± `half_width`."""
    ends = {"lower": value - half_width, "upper": value + half_width}
    return MetricRow(series=series, statistic=statistic, value=value, **(ends | cells))


def make_detail_row(
    series: str,
    value: float,
    region: str = "brain",
    statistic: str = "ev",
    half_width: float = 0.01,
    **cells: Any,
) -> MetricRow:
    """Return a row on the detail of a map, by default explained variance; with `minus`, a
    difference.
    """
    place = {"contrast": "all", "reference": "measured", "band": "beyond", "region": region}
    return make_row(series, statistic, value, half_width, **(place | cells))


def make_run_rows(gain: float | None = None, **levels: float) -> list[MetricRow]:
    """Return explained detail of series in the brain, twice as much in active voxels, and the
    differences of methods from B-spline interpolation.

    `gain` replaces the difference of sbl; srgan equals B-spline.
    """
    levels = levels or {"sbl": 0.2, "srgan": 0.05, "bspline": 0.01}
    gains = {"sbl": levels.get("sbl", 0.0) - levels["bspline"], "srgan": 0.0}
    if gain is not None:
        gains["sbl"] = gain
    rows = []
    for region, factor in (("brain", 1), ("acquired40", 2)):
        rows += [make_detail_row(name, factor * level, region) for name, level in levels.items()]
        rows += [
            make_detail_row(name, factor * difference, region, minus="bspline")
            for name, difference in gains.items()
            if name in levels
        ]
    return rows


def judge_rows(
    rows: Sequence[MetricRow],
    methods: Sequence[str],
    baselines: Sequence[str] = ("bspline",),
    displacement: Sequence[float] = (),
    **options: Any,
) -> Verdict:
    """Return the verdict on rows, which may have flags; see `gather_evidence` for options."""
    evidence = gather_evidence(
        rows, methods=methods, baselines=baselines, flags=read_flags(rows), **options
    )
    return make_verdict(evidence, displacement)


TESTED = {
    # contrast: explained variance and half-width in active voxels and in the brain; None: no test
    "all": ((0.54, 0.12), (0.40, 0.12)),
    "body": ((0.50, 0.13), (0.25, 0.14)),
    "house": ((0.58, 0.12), (0.36, 0.14)),
    "scene": ((-0.12, 0.20), (-0.10, 0.19)),
    "face": None,
    "bodyMinusOthers": ((0.49, 0.18), (-0.96, 0.40)),
    "sceneMinusOthers": ((-0.15, 0.20), (-0.30, 0.20)),
    "toolMinusOthers": ((math.nan, math.nan), (0.22, 0.12)),
}
"""Results of the test at half the resolution of a run."""


def make_tested_rows(tested=None, *, series="sbl", coverage=0.95, with_masks=True, fwhm_mm=0.0):
    """Return rows of the test at half the resolution, and sizes of regions with the error.

    Estimates by contrast are `TESTED` by default.

    Contrasts without a test (None) have only sizes of regions. With `with_masks`, all contrasts
    have 100 sign reliable voxels of 200 significant voxels, whatever their results.
    """
    rows = []
    for contrast, values in (TESTED if tested is None else tested).items():
        cells = {"series": series, "contrast": contrast, "fwhm_mm": fwhm_mm}
        place = {"reference": "oneLevelDown", **cells}
        for region, estimate in zip(("acquired40", "brain"), values or (), strict=False):
            value, half = estimate
            for statistic, center, width in (
                ("ev", value, half),
                ("ev_without_task", 0.8 * value, half),
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
        thresholds = {"fdr": 200.0} | ({"signReliable": 100.0} if with_masks else {})
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
