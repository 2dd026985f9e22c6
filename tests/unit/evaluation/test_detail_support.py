"""Rule on the contrasts whose detail a run supports."""

import math

import pytest

from bids_sr.evaluation.detail_support import classify_detail
from bids_sr.evaluation.self_test import SelfTestResults
from bids_sr.evaluation.support_text import write_support_lines
from bids_sr.metrics.rows import MetricRow

SIZES = SelfTestResults(sizes=("12", "6"))


def rows_of(
    value=0.53,
    half=0.13,
    upper_value=0.3,
    upper_half=0.1,
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
        "ev_upper_half": (upper_value, upper_half),
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
        ({"value": math.nan}, "not testable", "no reproducible detail"),
        ({"half": math.nan}, "not testable", "too few slices"),
        ({"half": 0.45}, "recovered", ""),
        ({"value": 0.12}, "not supported", ""),
        ({"value": -0.5, "half": 0.4}, "not supported", ""),
        ({"value": 0.1, "half": 0.9}, "not testable", "−80 to 100"),
        # one-sided limits are .826 times the half-width (19 degrees of freedom) away
        ({"upper_value": 0.1, "upper_half": 0.12}, "recovered", ""),
        ({"upper_value": 0.1, "upper_half": 0.13}, "not supported", ""),
        ({"upper_value": 0.1, "upper_half": 0.5}, "not testable", "not precise"),
        ({"upper_value": math.nan}, "not testable", "highest acquired spatial frequencies"),
        ({"fineness": 0.16}, "not supported", ""),  # .16 + .826 * .2 is below a third
        ({"fineness": 0.45}, "not testable", "fades"),
        ({"fineness": 0.5}, "recovered", ""),
        ({"fineness": math.nan}, "not testable", "fades"),
        ({"smoothness": 0.9}, "not testable", "0.9 voxels"),
        ({"smoothness": math.nan}, "recovered", ""),
    ],
)
def test_the_rule(changes, state, reason):
    support = classify_detail(rows_of(**changes), "sbl")["all"]
    assert support.state == state
    assert reason in support.active.reason
    assert bool(support.active.reason) is (state == "not testable")


@pytest.mark.parametrize(
    ("brain", "active_state"),
    [
        ({}, "recovered"),
        ({"upper_value": -0.1}, "not supported"),
        ({"upper_half": 0.9}, "not testable"),
        ({"fineness": 0.1}, "not supported"),
        ({"fineness": 0.45}, "not testable"),
    ],
)
def test_the_brain_decides_if_active_voxels_are_too_few(brain, active_state):
    active = rows_of(upper_value=0.15, upper_half=0.4, fineness=0.4, voxels=80)
    rows = [*active, *rows_of(region="brain", **brain)]
    assert classify_detail(rows, "sbl")["all"].state == active_state
    decided = [*rows_of(), *rows_of(region="brain", **brain)]
    assert classify_detail(decided, "sbl")["all"].state == "recovered"


def test_active_voxels_do_not_decide_about_the_brain():
    rows = [*rows_of(), *rows_of(region="brain", fineness=0.45)]
    assert classify_detail(rows, "sbl")["all"].brain.state == "not testable"


def test_contrasts_without_a_test_are_listed_if_they_are_named():
    assert classify_detail(rows_of(), "tv") == {}
    support = classify_detail(rows_of(), "sbl", ["all", "hand"])
    assert {name: result.state for name, result in support.items()} == {
        "all": "recovered",
        "hand": "not testable",
    }
    assert classify_detail(rows_of(), "sbl", fwhm_mm=5.0) == {}


def lines_of(*row_lists):
    rows = [row for rows in row_lists for row in rows]
    return [
        (line.state, line.text)
        for line in write_support_lines("sbl", classify_detail(rows, "sbl"), SIZES)
    ]


def test_each_state_has_its_sentence_with_the_number():
    ((state, text),) = lines_of(rows_of(), rows_of(region="brain", value=0.42))
    assert state == "recovered"
    assert (
        "(12 → 6 mm), sbl recovered 53 % (40 to 66) of the detail of contrast “all” in active"
        " voxels" in text
    )
    assert "whole brain" not in text
    ((_, text),) = lines_of(rows_of(), rows_of(region="brain", value=-0.4))
    assert "Over the whole brain, the detail was not recovered (−40 % (−53 to −27))" in text
    ((state, text),) = lines_of(rows_of(value=0.1))
    assert state == "not supported"
    assert "did not recover the detail of contrast “all”" in text
    assert "Do not interpret detail of this contrast that is finer than 6 mm." in text
    ((state, text),) = lines_of(rows_of(fineness=0.1))
    assert state == "not supported"
    assert "The effect of contrast “all” is smooth at the acquired resolution" in text
    ((state, text),) = lines_of(rows_of(voxels=12))
    assert state == "not testable"
    assert "only 12 active voxels" in text
    assert "as an interpolated map" in text


def test_other_contrasts_are_named_by_state():
    lines = lines_of(
        rows_of(),
        rows_of(contrast="face"),
        rows_of(contrast="house", value=-0.1),
        rows_of(contrast="scene", value=-0.2),
        rows_of(contrast="tool", voxels=3),
    )
    assert [state for state, _ in lines] == ["recovered", "not supported", "not testable"]
    assert "house and scene" in lines[1][1]
    assert "face" not in " ".join(text for _, text in lines)
    assert "detail of tool could not be tested because" in lines[2][1]
