"""Rule on the contrasts whose detail a run supports."""

import math
from dataclasses import replace

import pytest

from bids_sr.evaluation.detail_support import classify_detail, permits_reliable
from bids_sr.metrics.rows import MetricRow


def rows_of(
    value=0.53,
    half=0.13,
    fineness=0.7,
    voxels=400,
    coverage=0.95,
    contrast="all",
    region="acquired40",
):
    cells = {"contrast": contrast, "series": "sbl"}
    place = {"region": region, "reference": "oneLevelDown"}
    return [
        MetricRow(
            statistic="ev",
            band="beyond",
            value=value,
            lower=value - half,
            upper=value + half,
            **place,
            **cells,
        ),
        MetricRow(
            statistic="detail_fineness",
            band="beyond",
            value=fineness,
            lower=fineness - 0.15,
            upper=fineness + 0.15,
            **place,
            **cells,
        ),
        MetricRow(statistic="voxels", value=float(voxels), **place, **cells),
        MetricRow(statistic="coverage_one_level_down", value=coverage, region="brain", **cells),
    ]


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({}, "recovered", ""),
        ({"voxels": 50}, "recovered", ""),
        ({"voxels": 49}, "not testable", "only 49 active voxels"),
        ({"value": math.nan}, "not testable", "no reproducible detail"),
        ({"half": math.nan}, "not testable", "too few slices"),
        ({"half": 0.31}, "not testable", "± 31 %"),
        ({"half": 0.29}, "recovered", ""),
        ({"value": 0.12}, "not supported", ""),
        ({"value": -0.5, "half": 0.9}, "not supported", ""),
        ({"fineness": 0.37}, "not supported", ""),
        ({"fineness": 0.38}, "recovered", ""),  # .38 + 1.645 / 1.96 * .15 is above .5
        ({"fineness": math.nan}, "not testable", "highest acquired spatial frequencies"),
        ({"coverage": 0.89}, "not testable", "only 89 %"),
        ({"coverage": math.nan}, "not testable", "not measured"),
    ],
)
def test_the_rule(changes, state, reason):
    support = classify_detail(rows_of(**changes), "sbl")["all"]
    assert support.state == state
    assert reason in support.active.reason
    assert bool(support.active.reason) is (state == "not testable")


def test_contrasts_without_a_test_are_listed_if_they_are_named():
    assert classify_detail(rows_of(), "tv") == {}
    support = classify_detail(rows_of(), "sbl", ["all", "hand"])
    assert {name: result.state for name, result in support.items()} == {
        "all": "recovered",
        "hand": "not testable",
    }
    assert classify_detail(rows_of(), "sbl", fwhm_mm=5.0) == {}


@pytest.mark.parametrize(
    ("changes", "smoothed_changes", "expected"),
    [
        ({}, {}, True),
        ({"value": 0.05}, {}, False),
        ({"voxels": 12}, {}, False),
        ({"fineness": 0.3}, {}, False),
        ({"coverage": 0.85}, {"coverage": 0.85}, False),
        ({}, {"value": 0.05}, False),
        ({}, {"voxels": 12}, False),
    ],
)
def test_only_recovered_contrasts_have_reliable_voxels(changes, smoothed_changes, expected):
    smoothed_rows = [replace(row, fwhm_mm=5.0) for row in rows_of(**smoothed_changes)]
    rows = [*rows_of(**changes), *smoothed_rows]
    assert permits_reliable(rows, "sbl", "all", 5.0) is expected
    if not smoothed_changes:
        assert permits_reliable(rows, "sbl", "all", 0.0) is expected


def test_contrasts_without_a_test_have_no_reliable_voxels():
    coverage_row = rows_of()[-1]
    assert permits_reliable([coverage_row], "sbl", "all", 0.0) is False
    assert permits_reliable([], "sbl", "all", 0.0) is None
