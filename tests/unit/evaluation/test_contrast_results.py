"""Results of contrasts: the stronger evidence decides, and answers follow from the states."""

import math
from dataclasses import replace

import pytest
from data.rows import TESTED, make_measured_rows, make_tested_rows

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.contrast_results import collect_results, list_contrasts
from bids_sr.evaluation.evidence import find_strongest
from bids_sr.evaluation.missing_blocks import iterate_block_counts
from bids_sr.evaluation.result import RunResult, make_result
from bids_sr.evaluation.result_text import (
    name_contrast,
    plain_result,
    write_headline,
    write_result,
)
from bids_sr.evaluation.statements import Statement

BOTH = ((0.5, 0.1), (0.4, 0.1))


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
        "toolMinusOthers": ("not testable", "not testable"),
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


def test_the_number_that_decided_against_detail_is_part_of_the_result():
    statistic, reason = "detail_fineness", Statement.FADES
    low = {"value": 0.0, "lower": -0.05, "upper": 0.05}
    rows = [
        replace(row, **low) if row.statistic == statistic else row
        for row in make_tested_rows({"all": BOTH})
    ]
    active = collect(rows)["all"].active
    assert (active.state, active.reason) == ("not supported", reason)
    assert active.deciding_row.statistic == statistic
    assert active.row.statistic == "ev"
    hardly_any = [replace(row, **low) if row.statistic == "ev" else row for row in rows]
    active = collect(hardly_any)["all"].active
    assert (active.reason, active.deciding_row.statistic) == ("", "ev")


def test_a_measured_value_decides_only_with_an_interval():
    rows = make_tested_rows({"all": BOTH})
    with_interval = collect([*rows, *make_measured_rows({"all": ((0.3, 0.1), (0.2, 0.1))})])
    assert with_interval["all"].active.deciding_row.value == 0.3
    without = collect([*rows, *make_measured_rows({"all": ((0.3, math.nan), (0.2, math.nan))})])
    assert without["all"].active.deciding_row.value == 0.5


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


def result_of(rows, **options) -> RunResult:
    return make_result("sbl", collect(rows), rows, **options)


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_contrast_with_most_acquired_activation_is_shown():
    rows = [
        replace(row, value=900.0)
        if (row.statistic, row.contrast, row.region) == ("voxels", "house", "acquired40")
        else row
        for row in make_tested_rows()
    ]
    result = result_of(rows, sizes=("6 mm", "3 mm"))
    assert result.shown.contrast == "house"
    yes, no, unknown = "recovered", "not supported", "not testable"
    states = [(contrast.active.state, contrast.brain.state) for contrast in result.contrasts]
    assert states == [*[(yes, yes)] * 3, (yes, no), *[(no, no)] * 2, *[(unknown, unknown)] * 2]
    text = plain(write_result(result))
    assert "58 % [46, 70] of the detail of house in active voxels" in text
    assert "unmeasured at 3 mm" in text
    without_interval = [
        replace(row, lower=math.nan, upper=math.nan)
        for row in make_measured_rows({"house": ((0.52, 0.02), (0.35, 0.08))})
    ]
    measured = result_of([*rows, *without_interval], sizes=("6 mm", "3 mm"))
    text = plain(write_result(measured))
    assert "sbl explains 52 % (no interval)" in text
    assert Statement.BY_TEST in text


def test_without_interpretable_detail_the_b_spline_maps_are_advised():
    few = {"a": None, "b": None}
    blocks = [
        MetricRow(series="sbl", statistic="blocks", value=1.0, contrast=name, region=name)
        for name in few
    ]
    result = result_of([*make_tested_rows(few), *blocks])
    text = write_result(result)
    assert "B-spline" in text
    assert f"({Statement.FEW_BLOCKS.short})" in text
    assert write_headline(result) == text
    assert write_result(RunResult()) == Statement.NOTHING_COMPARED
    unapplied = write_result(RunResult(not_applied=("sbl", "srgan")))
    assert "sbl and srgan were not applied" in unapplied
    assert "B-spline" in unapplied


def test_conditions_that_were_not_tested_are_named():
    rows = [replace(row, contrast="allWithoutFace") for row in make_tested_rows({"all": BOTH})]
    blocks = iterate_block_counts(
        "sbl", {"face": 1, "body": 4}, {"all": {"face": 0.5, "body": 0.5}}
    )
    (result,) = collect([*rows, *blocks]).values()
    assert (result.contrast, result.map_contrast) == ("allWithoutFace", "all")
    assert name_contrast(result) == "“all” without face"


def test_results_are_plain_values():
    rows = [*make_tested_rows(), *make_measured_rows({"all": ((-0.05, 0.1), (-0.05, 0.1))})]
    result = RunResult(contrasts=tuple(collect(rows).values()))
    facts = {item["contrast"]: item for item in plain_result(result)["contrasts"]}
    assert facts["face"]["active"]["reason"]
    assert facts["bodyMinusOthers"]["active"]["state"] == "recovered"
    assert facts["bodyMinusOthers"]["brain"]["state"] == "not supported"
    assert facts["all"]["brain"]["decided"]["explained_variance"] == -0.05
    assert facts["face"]["active"]["decided"] is None
    assert facts["body"]["active"]["reference"] == "oneLevelDown"
    assert "test" not in facts["body"]["active"]
    measured = facts["all"]["active"]
    assert (measured["state"], measured["explained_variance"]) == ("not supported", -0.05)
    assert measured["test"]["state"] == "recovered"
