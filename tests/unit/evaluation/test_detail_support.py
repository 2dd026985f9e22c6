"""Rule on the contrasts whose detail a run supports."""

import math
from dataclasses import replace

import pytest

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.detail_support import classify_detail, permits_sign_reliable
from bids_sr.evaluation.missing_blocks import iterate_block_counts
from bids_sr.evaluation.statements import Statement


def rows_of(
    value=0.53,
    half=0.13,
    following=0.8,
    fineness=0.7,
    fineness_half=0.2,
    voxels=400,
    smoothness=0.6,
    contrast="all",
    region="acquired40",
):
    cells = {"contrast": contrast, "series": "sbl", "reference": "oneLevelDown", "region": region}
    ratios = {
        "ev": (value, half),
        "ev_without_task": (following * value, half),
        "detail_fineness": (fineness, fineness_half),
    }
    return [
        *(
            MetricRow(
                statistic=statistic,
                band="beyond",
                value=ratio,
                lower=ratio - half_width,
                upper=ratio + half_width,
                n=20,
                **cells,
            )
            for statistic, (ratio, half_width) in ratios.items()
        ),
        MetricRow(statistic="voxels", value=float(voxels), **cells),
        MetricRow(series="sbl", statistic="smoothness_voxels", value=smoothness, region="brain"),
    ]


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({}, "recovered", ""),
        ({"voxels": 50}, "recovered", ""),
        ({"voxels": 49}, "not testable", "only 49 active voxels"),
        ({"value": math.nan}, "not testable", Statement.NOTHING_TO_RECOVER),
        ({"half": math.nan}, "not testable", "fewer than 8 slices"),
        ({"half": 0.45}, "recovered", ""),
        ({"value": 0.12}, "not testable", "−1 to 25"),
        ({"value": -0.04}, "not supported", ""),
        ({"value": 0.0, "half": 0.09}, "not supported", ""),
        ({"value": -0.5, "half": 0.4}, "not supported", ""),
        ({"value": 0.1, "half": 0.9}, "not testable", "−80 to 100"),
        ({"following": 0.46}, "recovered", ""),
        ({"following": 0.44}, "not testable", Statement.COMPACT),
        ({"following": -0.2}, "not testable", Statement.COMPACT),
        ({"following": math.nan}, "not testable", Statement.COMPACT),
        ({"following": 0.2, "value": -0.5, "half": 0.4}, "not supported", ""),
        # one-sided limits are .826 times the half-width (19 degrees of freedom) away
        # .16 + .826 * .2 is below a third
        ({"fineness": 0.16}, "not supported", Statement.FADES),
        ({"fineness": 0.45}, "not testable", Statement.UNKNOWN_FINENESS),
        ({"fineness": 0.5}, "recovered", Statement.NEAR_LIMIT),
        ({"fineness": 0.6}, "recovered", ""),
        ({"fineness": math.nan}, "not testable", Statement.UNKNOWN_FINENESS),
        ({"smoothness": 0.9}, "not testable", "0.9 voxels"),
        ({"smoothness": math.nan}, "recovered", ""),
    ],
)
def test_the_rule(changes, state, reason):
    support = classify_detail(rows_of(**changes), "sbl")["all"]
    assert support.state == state
    assert reason.partition(" ({")[0] in support.active.reason
    assert bool(support.active.short_reason) is (state != "recovered")


def test_a_contrast_that_cannot_be_split_names_the_conditions_with_too_few_blocks():
    contrasts = {
        "body": {"body": 1.0},
        "face": {"face": 1.0},
        "all": dict.fromkeys(("body", "face", "house"), 1 / 3),
    }
    block_counts = {"body": 2, "face": 1, "house": 0}
    rows = [*rows_of(contrast="body"), *iterate_block_counts("sbl", block_counts, contrasts)]
    supports = classify_detail(rows, "sbl", [*contrasts, "other"])
    assert [support.state for support in supports.values()] == ["recovered", *["not testable"] * 3]
    named = {
        name: [condition for condition in block_counts if condition in supports[name].brain.reason]
        for name in ("face", "all")
    }
    assert named == {"face": ["face"], "all": ["face", "house"]}
    assert supports["other"].active.reason == Statement.NOT_SPLIT
    assert list(iterate_block_counts("sbl", {}, contrasts)) == []  # not counted


@pytest.mark.parametrize(
    ("brain", "active_state", "opens_safe_map"),
    [
        ({}, "recovered", True),
        ({"fineness": 0.1}, "not testable", False),
        ({"fineness": 0.45}, "not testable", False),
        # the lower limit is .56 - .826 * .2
        ({"fineness": 0.56}, "not testable", True),
    ],
)
def test_the_brain_may_confirm_active_voxels_and_never_contradicts_them(
    brain, active_state, opens_safe_map
):
    active = rows_of(fineness=0.4, voxels=80)
    rows = [*active, *rows_of(region="brain", **brain)]
    support = classify_detail(rows, "sbl")["all"]
    assert support.state == active_state
    assert support.active.opens_safe_map is opens_safe_map
    for is_safe, permits in ((True, opens_safe_map), (False, active_state == "recovered")):
        rows_of_coverage = [*rows, coverage_row()]
        assert permits_sign_reliable(rows_of_coverage, "sbl", "all", is_safe=is_safe) is permits
    assert (support.brain.state == "recovered") is (active_state == "recovered")
    decided = classify_detail([*rows_of(), *rows_of(region="brain", **brain)], "sbl")["all"]
    assert decided.state == "recovered"
    states = {0.1: "not supported", 0.45: "not testable"}
    assert decided.brain.state == states.get(brain.get("fineness"), "recovered")
    wrong_side = rows_of(fineness=0.3, fineness_half=0.4, voxels=80)
    rows = [*wrong_side, *rows_of(region="brain")]
    assert classify_detail(rows, "sbl")["all"].state == "not testable"


def test_contrasts_without_a_test_are_listed_if_they_are_named():
    assert classify_detail(rows_of(), "tv") == {}
    support = classify_detail(rows_of(), "sbl", ["all", "hand"])
    assert {name: result.state for name, result in support.items()} == {
        "all": "recovered",
        "hand": "not testable",
    }
    assert classify_detail(rows_of(), "sbl", fwhm_mm=5.0) == {}


def coverage_row(value=0.95):
    return MetricRow(
        series="sbl", statistic="coverage_one_level_down", value=value, contrast="all"
    )


@pytest.mark.parametrize(
    ("changes", "smoothed_changes", "coverage", "expected"),
    [
        ({}, {}, 0.9, True),
        ({"value": -0.05}, {}, 0.95, False),
        ({"voxels": 12}, {}, 0.95, False),
        ({"fineness": 0.1}, {}, 0.95, False),
        ({}, {}, 0.89, False),
        ({}, {"value": 0.05}, 0.95, True),
    ],
)
def test_only_recovered_contrasts_have_sign_reliable_voxels(
    changes, smoothed_changes, coverage, expected
):
    """The unsmoothed effect decides, because smoothing removes the detail that is tested."""
    smoothed_rows = [replace(row, fwhm_mm=5.0) for row in rows_of(**smoothed_changes)]
    rows = [*rows_of(**changes), *smoothed_rows, coverage_row(coverage)]
    assert permits_sign_reliable(rows, "sbl", "all") is expected
    assert permits_sign_reliable([coverage_row()], "sbl", "all") is False, "not tested"
    assert permits_sign_reliable(rows_of(), "sbl", "all") is None, "coverage is unknown"


def test_a_contrast_that_was_tested_without_a_condition_decides_about_its_map():
    counts, weights = {"face": 1, "body": 4}, {"face": 0.5, "body": 0.5}
    missing = list(iterate_block_counts("sbl", counts, {"all": weights}))
    rows = [*rows_of(contrast="allWithoutFace"), *missing, coverage_row()]
    (support,) = classify_detail(rows, "sbl", ["all", "allWithoutFace"]).values()
    assert (support.contrast, support.map_contrast) == ("allWithoutFace", "all")
    assert support.state == "recovered"
    assert permits_sign_reliable(rows, "sbl", "all")
