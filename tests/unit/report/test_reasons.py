"""Reasons of the answers of a run."""

from data.rows import (
    judge_rows,
    make_row,
    make_tested_rows,
)

from bids_sr.report.reasons import list_reasons

SELF_TEST = {"from_mm": [12, 12, 3.3], "to_mm": [6, 6, 3.3]}


def judge(rows):
    verdict = judge_rows(rows, ["sbl"], self_test_facts=SELF_TEST)
    return verdict.evidence, [*rows, *verdict.rows]


def test_a_method_that_lost_the_activation_has_no_reasons():
    lost = [
        make_row("sbl", "acquired_slope", 0.03, contrast="all"),
        make_row("sbl", "acquired_r", 0.12, contrast="all"),
        make_row("sbl", "flag_lost_activation", 1.0),
    ]
    evidence, rows = judge([*make_tested_rows(), *lost])
    assert list_reasons(evidence.result, rows, evidence.self_test) == []
