"""Results of contrasts: the stronger evidence decides, and sentences follow from the states."""

import itertools
import math

import pytest
from data.rows import TESTED, make_measured_rows, make_tested_rows

from bids_sr.evaluation.contrast_results import collect_results, list_contrasts
from bids_sr.evaluation.contrast_text import (
    describe_interpretation,
    explain_results,
    plain_results,
    state_text,
    write_contrast_lines,
)
from bids_sr.evaluation.evidence import find_strongest
from bids_sr.evaluation.missing_blocks import iterate_missing_blocks
from bids_sr.evaluation.self_test import SelfTestResults
from bids_sr.evaluation.statements import Statement
from bids_sr.metrics.rows import MetricRow

SIZES = SelfTestResults(sizes=("12", "6"))
STATES = ("recovered", "not supported", "not testable")
INTERPRETATIONS = {
    ("recovered", "recovered"): "Detail in the whole brain",
    ("recovered", "not supported"): "Detail in active voxels, not elsewhere",
    ("recovered", "not testable"): "Detail in active voxels; elsewhere not testable",
    ("not supported", "recovered"): "Nothing finer than 6 mm: not supported in active voxels",
    ("not supported", "not supported"): "Nothing finer than 6 mm: not supported",
    ("not supported", "not testable"): "Nothing finer than 6 mm: not supported in active voxels",
    ("not testable", "recovered"): "Nothing finer than 6 mm: not testable in active voxels",
    ("not testable", "not supported"): "Nothing finer than 6 mm: not testable in active voxels",
    ("not testable", "not testable"): "Nothing finer than 6 mm: not testable",
}


@pytest.mark.parametrize(("active", "brain"), list(itertools.product(STATES, STATES)))
def test_what_may_be_interpreted_follows_from_both_states(active, brain):
    assert describe_interpretation(active, brain, "6 mm") == INTERPRETATIONS[active, brain]
    for size in ("6 mm", "6 × 5 mm", "the acquired voxels"):
        words = [
            word
            for word in describe_interpretation(active, brain, size).split()
            if any(map(str.isalnum, word))
        ]
        assert len(words) <= 12


def collect(rows):
    return collect_results(rows, "sbl", find_strongest("function", rows, ["sbl"]))


def states_of(rows):
    return {
        name: (result.active.state, result.brain.state) for name, result in collect(rows).items()
    }


def test_each_contrast_of_a_run_without_halves_has_its_own_reason():
    contrasts = {"face": {"face": 1.0}, "all": {"face": 0.5, "body": 0.5}}
    rows = list(iterate_missing_blocks("sbl", {"face": 1, "body": 0}, contrasts))
    results = collect(rows)
    assert results["face"].active.reason.startswith("face has only one block in the run")
    assert "body has no block" in results["all"].brain.reason
    assert {result.state for result in results.values()} == {"not testable"}


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
        (0.4, 0.1, (0.1, 0.2), "recovered"),
        (0.05, 0.1, (0.5, 0.1), "not supported"),
        (-0.3, 0.1, (0.5, 0.1), "not supported"),
        (0.4, 0.1, None, "recovered"),
        (0.4, math.nan, (0.5, 0.1), "recovered"),
        (0.4, math.nan, (0.1, 0.2), "not supported"),
        (0.4, math.nan, None, "not testable"),
        (-0.1, math.nan, (0.5, 0.1), "not supported"),
        (math.nan, math.nan, (0.5, 0.1), "not testable"),
        (math.nan, math.nan, (0.1, 0.2), "not supported"),
    ],
)
def test_a_measured_value_decides(measured, half, tested, expected):
    estimates = {"all": ((measured, half), (measured, half)), "other": ((0.5, 0.1), (0.5, 0.1))}
    rows = make_tested_rows({"all": tested and (tested, tested), "other": None})
    result = collect([*rows, *make_measured_rows(estimates)])["all"]
    assert (result.active.state, result.brain.state) == (expected, expected)
    tested_states = {None: "not testable", (0.1, 0.2): "not supported", (0.5, 0.1): "recovered"}
    assert result.active.test.state == tested_states[tested]


def test_without_active_voxels_the_measured_value_of_the_brain_decides():
    rows = make_measured_rows({"motor": ((0.4, 0.1), (0.4, 0.1))})
    (result,) = collect([row for row in rows if row.region == "brain"]).values()
    assert (result.active.state, result.brain.state) == ("recovered", "recovered")
    assert "no active voxels" in result.active.reason


def test_methods_without_a_test_are_not_testable_for_a_reason():
    rows = [MetricRow(series=name, statistic="voxels", value=9.0, contrast="all") for name in "ab"]
    results = collect_results(rows, "a", reason="no network was trained for this resolution")
    assert results["all"].active.reason == "no network was trained for this resolution"
    assert not results["all"].has_values
    assert "b" in collect_results(rows, "b")["all"].active.reason
    assert collect_results(rows, "c") == {}


def lines_of(rows):
    return write_contrast_lines("sbl", collect(rows), SIZES)


def statements_of(line):
    return [sentence.state for sentence in line.sentences]


def contrasts_of(line):
    values = line.sentences[0].values
    return values["contrasts"] + values["names"]


def test_the_headline_names_recovered_contrasts_first():
    lines = lines_of(make_tested_rows())
    assert [line.status for line in lines] == ["recovered", "not supported", "not assessed"]
    assert [statements_of(line) for line in lines] == [
        [Statement.RECOVERED],
        [Statement.NOT_RECOVERED],
        [Statement.NOT_RECOVERED, Statement.NOTHING_FINER],
    ]
    assert [contrasts_of(line) for line in lines] == [
        "4 of 8 contrasts (“all”, body, house and bodyMinusOthers)",
        "2 of 8 contrasts (scene and sceneMinusOthers)",
        "2 of 8 contrasts (face and toolMinusOthers)",
    ]
    assert "of 3 of these in the whole brain" in lines[0].text
    assert "6 mm in these 4 contrasts" in lines[2].text


def test_many_contrasts_are_counted_instead_of_named():
    estimates = {f"c{k}": ((0.5, 0.1), (-0.5, 0.1)) for k in range(9)}
    estimates |= {f"d{k}": None for k in range(8)}
    recovered, not_testable = lines_of(make_tested_rows(estimates))
    names = "c0, c1, c2, c3, c4, c5 and 3 others"
    assert contrasts_of(recovered) == f"9 of 17 contrasts ({names})"
    assert contrasts_of(not_testable) == "8 of 17 contrasts"


def test_a_run_without_recovered_contrasts_has_no_line_on_recovered_detail():
    estimates = {"a": None, "b": ((0.1, 0.2), (-0.4, 0.1)), "c": None}
    lines = lines_of(make_tested_rows(estimates))
    assert [line.status for line in lines] == ["not supported", "not assessed"]
    assert [contrasts_of(line) for line in lines] == [
        "1 of 3 contrasts (b)",
        "2 of 3 contrasts (a and c)",
    ]
    assert lines[1].sentences[-1].values["place"] == "", "the advice is on all contrasts"


@pytest.mark.parametrize(
    ("tested", "expected"),
    [
        (
            {"all": ((0.5, 0.1), (0.4, 0.1))},
            "sbl recovers detail of “all” in active voxels and in the whole brain.",
        ),
        (
            {"all": ((0.5, 0.1), (-0.4, 0.1))},
            "sbl recovers detail of “all” in active voxels, not in the whole brain.",
        ),
        (
            {"a": ((0.5, 0.1), (0.4, 0.1)), "b": ((0.5, 0.1), (0.4, 0.1))},
            "sbl recovers detail of a and b in active voxels and in the whole brain.",
        ),
        (
            {"all": ((0.1, 0.2), (-0.4, 0.1))},
            "sbl detail not supported: “all”. Interpret nothing finer than 6 mm.",
        ),
        (
            {"a": ((0.1, 0.9), (0.4, 0.1)), "b": ((0.1, 0.9), (0.4, 0.1))},
            "sbl detail not testable: a and b, because the confidence interval (−80 to 100 %) is"
            " too wide. Interpret nothing finer than 6 mm.",
        ),
    ],
)
def test_a_run_with_one_result_has_one_line(tested, expected):
    (line,) = lines_of(make_tested_rows(tested))
    assert line.text == expected


def test_reasons_are_listed_with_contrasts_and_regions():
    sentences = explain_results(collect(make_tested_rows()).values())
    assert len(sentences) == 2
    assert sentences[0].startswith("Not testable: face (active voxels and whole brain), because")
    assert sentences[1].startswith("Not testable: toolMinusOthers (active voxels), because")


def test_values_are_shown_with_their_state():
    results = collect(make_tested_rows())
    texts = {
        name: state_text(result.brain.state, result.brain.row).replace("\xa0", " ")
        for name, result in results.items()
    }
    assert texts["all"] == "recovered 40 % (28 to 52)"
    assert texts["bodyMinusOthers"] == "not supported: −96 % (below −100 to −56)"
    assert texts["face"] == "not testable"
    (row, _) = make_measured_rows({"all": ((0.5, math.nan), (0.5, math.nan))})
    assert state_text("recovered", row).replace("\xa0", " ") == "recovered 50 % (no interval)"


def test_results_are_plain_values_with_the_same_words():
    rows = [*make_tested_rows(), *make_measured_rows({"all": ((0.05, 0.1), (0.05, 0.1))})]
    facts = {item["contrast"]: item for item in plain_results(collect(rows).values(), "6 mm")}
    assert facts["face"]["active"]["reason"]
    assert facts["body"]["interpretation"] == "Detail in the whole brain"
    assert facts["body"]["active"]["reference"] == "oneLevelDown"
    assert "test" not in facts["body"]["active"]
    assert facts["all"]["interpretation"] == "Nothing finer than 6 mm: not supported"
    assert facts["all"]["active"]["explained_variance"] == 0.05
    assert facts["all"]["active"]["test"]["state"] == "recovered"
