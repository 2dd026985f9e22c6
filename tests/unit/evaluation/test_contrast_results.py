"""Results of contrasts: the stronger evidence decides, and lines follow from the states."""

import itertools
import math
from dataclasses import replace

import pytest
from data.rows import TESTED, make_measured_rows, make_tested_rows

from bids_sr.evaluation.contrast_results import collect_results, explain_test, list_contrasts
from bids_sr.evaluation.contrast_text import (
    describe_interpretation,
    explain_results,
    plain_results,
    state_text,
    write_contrast_lines,
)
from bids_sr.evaluation.detail_support import DetailSupport
from bids_sr.evaluation.evidence import find_strongest
from bids_sr.evaluation.missing_blocks import iterate_block_counts
from bids_sr.evaluation.self_test import SelfTestResults
from bids_sr.evaluation.statements import Statement
from bids_sr.metrics.rows import MetricRow

STATES = ("recovered", "not supported", "not testable")
BOTH = ((0.5, 0.1), (0.4, 0.1))


def test_detail_may_be_interpreted_only_if_it_is_recovered_in_active_voxels():
    texts = {
        pair: describe_interpretation(*pair, "6 mm") for pair in itertools.product(STATES, STATES)
    }
    for (active, _), text in texts.items():
        assert ("6 mm" in text) is (active != "recovered")
    recovered = {texts["recovered", brain] for brain in STATES}
    assert len(recovered) == 3, "the state of the brain is stated"
    assert texts["recovered", "recovered"] == Statement.DETAIL_IN_BRAIN


def collect(rows):
    return collect_results(rows, "sbl", find_strongest("function", rows, ["sbl"]))


def states_of(rows):
    return {
        name: (result.active.state, result.brain.state) for name, result in collect(rows).items()
    }


def test_each_contrast_of_a_run_without_halves_has_its_own_reason():
    contrasts = {"face": {"face": 1.0}, "all": {"face": 0.5, "body": 0.5}}
    results = collect(list(iterate_block_counts("sbl", {"face": 1, "body": 0}, contrasts)))
    assert {result.state for result in results.values()} == {"not testable"}
    assert "body" not in results["face"].active.reason
    assert "face" in results["face"].active.reason
    assert "body" in results["all"].brain.reason


def test_all_contrasts_of_the_run_have_a_result():
    rows = make_tested_rows()
    rows.append(MetricRow(series="sbl", statistic="dice", value=0.5, contrast="face+body"))
    rows.append(MetricRow(series="bspline", statistic="ev", value=0.5, contrast="other"))
    assert list_contrasts(rows, "sbl") == list(TESTED)
    assert states_of(rows) == {
        "all": ("recovered", "recovered"),
        "body": ("recovered", "recovered"),
        "house": ("recovered", "recovered"),
        "scene": ("not supported", "not supported"),
        "face": ("not testable", "not testable"),
        "bodyMinusOthers": ("recovered", "not supported"),
        "sceneMinusOthers": ("not supported", "not supported"),
        "toolMinusOthers": ("not testable", "recovered"),
    }


@pytest.mark.parametrize(
    ("measured", "half", "tested", "expected"),
    [
        (0.4, 0.1, (-0.2, 0.1), "recovered"),
        (0.05, 0.1, (0.5, 0.1), "not testable"),
        (-0.02, 0.1, (0.5, 0.1), "not supported"),
        (-0.3, 0.1, (0.5, 0.1), "not supported"),
        (0.4, 0.1, None, "recovered"),
        (0.4, math.nan, (0.5, 0.1), "recovered"),
        (0.4, math.nan, (-0.2, 0.1), "not supported"),
        (0.4, math.nan, None, "not testable"),
        (-0.1, math.nan, (0.5, 0.1), "not testable"),
        (-0.1, math.nan, (-0.2, 0.1), "not supported"),
        (math.nan, math.nan, (0.5, 0.1), "not testable"),
        (math.nan, math.nan, (-0.2, 0.1), "not supported"),
    ],
)
def test_a_measured_value_decides(measured, half, tested, expected):
    estimates = {"all": ((measured, half), (measured, half)), "other": ((0.5, 0.1), (0.5, 0.1))}
    rows = make_tested_rows({"all": tested and (tested, tested), "other": None})
    result = collect([*rows, *make_measured_rows(estimates)])["all"]
    assert (result.active.state, result.brain.state) == (expected, expected)
    tested_states = {None: "not testable", (-0.2, 0.1): "not supported", (0.5, 0.1): "recovered"}
    assert result.active.test.state == tested_states[tested]


@pytest.mark.parametrize("value", [0.3, math.nan])
@pytest.mark.parametrize("is_smooth", [False, True])
def test_a_value_that_decides_nothing_is_not_the_reason_for_lack_of_support(value, is_smooth):
    row = MetricRow(
        series="sbl", statistic="ev", value=value, lower=value - 0.5, upper=value + 0.5
    )
    test = DetailSupport(state="not supported", row=row, is_smooth=is_smooth)
    assert explain_test(test) == (Statement.FADES if is_smooth else Statement.NOT_AT_LIMIT)
    low_row = replace(row, value=0.0, lower=-0.05, upper=0.05)
    assert explain_test(replace(test, row=low_row)) == ""


def test_without_active_voxels_the_measured_value_of_the_brain_decides():
    rows = make_measured_rows({"motor": ((0.4, 0.1), (0.4, 0.1))})
    in_brain = [row for row in rows if row.region == "brain"]
    assert states_of(in_brain) == {"motor": ("recovered", "recovered")}
    assert collect(in_brain)["motor"].active.reason


def test_methods_without_a_test_are_not_testable_for_a_reason():
    rows = [MetricRow(series=name, statistic="voxels", value=9.0, contrast="all") for name in "ab"]
    reason = "no network was trained for this resolution"
    results = collect_results(rows, "a", reason=reason)
    assert results["all"].active.reason == reason
    assert not results["all"].has_values
    assert "b" in collect_results(rows, "b")["all"].active.reason
    assert collect_results(rows, "c") == {}


def lines_of(rows):
    """Return status, states of the sentences and named contrasts of each line."""
    return [
        (
            line.status,
            [sentence.state for sentence in line.sentences],
            line.sentences[0].values["contrasts"] + line.sentences[0].values["names"],
        )
        for line in write_contrast_lines("sbl", collect(rows), SelfTestResults(sizes=("12", "6")))
    ]


RECOVERED = ("recovered", [Statement.RECOVERED])
NOT_SUPPORTED = ("not supported", [Statement.NOT_RECOVERED])
NOT_TESTABLE = ("not assessed", [Statement.NOT_RECOVERED, Statement.NOTHING_FINER])
NOTHING = ("not supported", [Statement.NOT_RECOVERED, Statement.NOTHING_FINER])
MANY = {f"c{k}": ((0.5, 0.1), (-0.5, 0.1)) for k in range(9)} | {f"d{k}": None for k in range(8)}


@pytest.mark.parametrize(
    ("tested", "expected"),
    [
        (
            TESTED,
            [
                (*RECOVERED, "4 of 8 contrasts (“all”, body, house and bodyMinusOthers)"),
                (*NOT_SUPPORTED, "2 of 8 contrasts (scene and sceneMinusOthers)"),
                (*NOT_TESTABLE, "2 of 8 contrasts (face and toolMinusOthers)"),
            ],
        ),
        (
            MANY,
            [
                (*RECOVERED, "9 of 17 contrasts (c0, c1, c2, c3, c4, c5 and 3 others)"),
                (*NOT_TESTABLE, "8 of 17 contrasts"),
            ],
        ),
        (
            {"a": None, "b": ((-0.1, 0.1), (-0.4, 0.1)), "c": None},
            [
                (*NOT_SUPPORTED, "1 of 3 contrasts (b)"),
                (*NOT_TESTABLE, "2 of 3 contrasts (a and c)"),
            ],
        ),
        ({"all": BOTH}, [(*RECOVERED, "“all”")]),
        ({"a": BOTH, "b": BOTH}, [(*RECOVERED, "a and b")]),
        ({"all": ((-0.1, 0.1), (-0.4, 0.1))}, [(*NOTHING, "“all”")]),
    ],
)
def test_lines_name_recovered_contrasts_first_and_count_many(tested, expected):
    assert lines_of(make_tested_rows(tested)) == expected


def test_reasons_are_listed_with_contrasts_and_regions():
    face, tool = explain_results(collect(make_tested_rows()).values())
    assert "face (active voxels and whole brain)" in face
    assert "toolMinusOthers (active voxels)" in tool


def test_values_are_shown_with_their_state():
    results = collect(make_tested_rows())
    for name, numbers in (
        ("all", "40 % (28 to 52)"),
        ("bodyMinusOthers", "−96 % (below −100 to −56)"),
        ("face", ""),
    ):
        brain = results[name].brain
        text = state_text(brain.state, brain.row).replace("\xa0", " ")
        assert text.removeprefix(brain.state).strip(": ") == numbers


def test_results_are_plain_values():
    rows = [*make_tested_rows(), *make_measured_rows({"all": ((-0.05, 0.1), (-0.05, 0.1))})]
    facts = {item["contrast"]: item for item in plain_results(collect(rows).values(), "6 mm")}
    assert facts["face"]["active"]["reason"]
    assert facts["body"]["interpretation"] == Statement.DETAIL_IN_BRAIN
    assert facts["body"]["active"]["reference"] == "oneLevelDown"
    assert "test" not in facts["body"]["active"]
    measured = facts["all"]["active"]
    assert (measured["state"], measured["explained_variance"]) == ("not supported", -0.05)
    assert measured["test"]["state"] == "recovered"
