"""The comparison that is fixed beforehand, the participants it needs, and who is left out of it."""

import math
from pathlib import Path

import numpy as np
import pytest
from grouptables import cohort, detail, joined, write_tables
from scipy import stats as scipy_stats

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.reports.text.group_verdicts import (
    findings,
    group_answer_html,
    primary_numbers,
    primary_sentence,
    status,
    verdict,
    why_not_assessed,
)
from bids_sr.stats.group import group_tables, group_tests, metric_tables, paired_tests
from bids_sr.stats.group import group_tests as pc
from bids_sr.stats.group.metric_tables import Question

METHODS = ("sbl", "srgan")
RIVALS = ("bspline", "zerofill", "sdmod", "inject", "ratio")
BEYOND = Question("tap", "n/a", "evaluation", "split_ev_beyond", "measured", "brain", "all", 0.0)


def compared(values: metric_tables.Values) -> list[group_tests.Comparison]:
    return group_tests.compare(values, METHODS, units={})


def primary(values: metric_tables.Values, method: str = "sbl") -> list[group_tests.Comparison]:
    return [each for each in pc.with_primary(compared(values), values, method) if each.primary]


def people(values: list[float]) -> dict[str, float]:
    return {f"sub-{n:02d}": value for n, value in enumerate(values)}


def test_each_participants_strongest_reference_is_taken() -> None:
    """Baselines, controls and simple arithmetic count; the measured series, the acquired one and methods do not."""
    series = {
        "sbl": people([0.3, 0.3, 0.3, math.nan, 0.3]),
        "bspline": people([0.1, 0.2, 0.0, 0.1, math.nan]),
        "zerofill": people([0.2, 0.1, 0.0, 0.1, math.nan]),
        "bsplinePca": people([0.0, 0.1, 0.25, 0.1, math.nan]),
        "wmn": {"sub-01": 0.35},
        "srgan": people([0.9] * 5), "measured": people([1.0] * 5), "raw": people([0.9] * 5),
    }  # fmt: skip
    (found,) = primary({BEYOND: series})
    assert (found.series, found.reference, found.role) == ("sbl", "strongest", "strongest")
    assert found.participants == ("sub-00", "sub-01", "sub-02")
    assert found.rivals == ("zerofill", "wmn", "bsplinePca")
    assert found.differences == pytest.approx((0.1, -0.05, 0.05))
    assert (found.n, found.n_undefined, found.ahead) == (3, 1, 2)


def test_the_method_is_no_rival_of_itself_and_without_rivals_there_is_no_test() -> None:
    series = {"wmn": people([0.1, 0.2, 0.3]), "srgan": people([0.1, 0.2, 0.3])}
    assert primary({BEYOND: series}, "wmn") == []


def test_the_primary_comparison_stands_first_and_the_others_are_exploratory(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    values = joined(tmp_path).values
    marked = pc.with_primary(compared(values), values, "sbl")
    found = marked[0]
    assert found.question == BEYOND
    assert set(found.rivals) == {"inject"}
    rows = [group_tables.row(each) for each in marked]
    assert [row["part"] for row in rows] == ["primary", *["exploratory"] * (len(rows) - 1)]
    assert (rows[0]["n_needed"], rows[0]["n_above"], rows[0]["word"]) == (str(found.needed), "12", "better")
    text = primary_sentence(found)
    assert text.startswith("The finer map of sbl is more accurate than every reference of the participant: +0.0")
    assert "larger in 12 of 12 participants; p < .001" in text
    assert "prespecified comparison, not corrected" in text
    assert [each.value for each in primary_numbers(found)][1:] == ["12 of 12", str(found.needed)]
    assert not any(each.primary for finding in findings(marked, METHODS) for each in finding.comparisons)


def test_six_participants_can_be_enough_and_five_cannot() -> None:
    """The finding of a review: with five Holm comparisons nothing could ever be said of six participants."""

    def answer(n: int) -> group_tests.Comparison:
        values = [0.2 + 0.01 * k for k in range(n)]
        rivals = {name: people([0.05 + 0.001 * k * m for k in range(n)]) for m, name in enumerate(RIVALS)}
        return primary({BEYOND: {"sbl": people(values), **rivals}})[0]

    six, five, one = answer(6), answer(5), answer(1)
    assert (six.word, six.family, six.p_holm) == ("better", 1, 0.03125)
    assert status(six) == "more accurate"
    assert (five.word, status(five)) == ("undecided", "not assessed")
    assert five.note == "n = 5 non-zero differences; smallest attainable p = .0625"
    assert "does not differ detectably from the participant's strongest reference" in primary_sentence(five)
    assert (one.word, status(one)) == ("not comparable", "not assessed")
    assert primary_sentence(one).startswith("Accuracy could be assessed in 1 participant, too few")


def test_the_largest_of_several_values_shows_no_loss() -> None:
    rng = np.random.default_rng(0)
    series = {name: people(list(rng.normal(size=20))) for name in ("sbl", *RIVALS)}
    (found,) = primary({BEYOND: series})
    assert found.p_holm < 0.05
    assert found.test is not None
    assert found.test.effect_size < 0
    assert (found.word, found.needed, status(found)) == ("undecided", None, "not more accurate")
    assert pc.BELOW in found.note
    assert "is not more accurate than the participant's strongest reference" in primary_sentence(found)


def test_a_method_that_equals_its_references_is_hardly_ever_called_better() -> None:
    """Of 400 groups of eight without any difference at most 5 % (two-sided half: 2.5 %) are called better."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(400, 8)) - rng.normal(size=(400, 3, 8)).max(axis=1)
    tests = [paired_tests.wilcoxon(each) for each in drawn]
    assert np.mean([test.p_value < 0.05 and test.effect_size > 0 for test in tests]) <= 0.01
    plain = [paired_tests.wilcoxon(each) for each in rng.normal(size=(400, 8))]
    assert 0.01 < np.mean([test.p_value < 0.05 for test in plain]) < 0.07


def test_several_tasks_are_corrected_for_their_number() -> None:
    series = {"sbl": people([0.2 + 0.01 * k for k in range(6)]), "bspline": people([0.1] * 6)}
    found = primary({BEYOND: series, BEYOND._replace(task="rest"): series})
    assert [(each.family, each.p_holm, each.word) for each in found] == [(2, 0.0625, "undecided")] * 2
    assert found[0].note == "n = 6 non-zero differences; smallest attainable p = .0625 with 2 comparisons"
    assert "corrected for 2 tasks" in primary_sentence(found[0])


def test_more_than_the_references_and_yet_no_variance_explained_is_no_claim() -> None:
    series = {"sbl": people([-0.1 + 0.01 * k for k in range(8)]), "bspline": people([-0.4] * 8)}
    (found,) = primary({BEYOND: series})
    assert (found.word, status(found)) == ("better", "not more accurate")
    assert "is not shown to explain any variance" in primary_sentence(found)


def test_tasks_without_a_truth_are_named() -> None:
    series = {"sbl": people([0.2 + 0.01 * k for k in range(6)]), "bspline": people([0.1] * 6)}
    alone = group_answer_html([], {"tap": {"sub-01": 1}})
    assert "Accuracy not assessed: no reference data." in alone
    both = group_answer_html(primary({BEYOND: series}), {"rest": {}, "tap": dict.fromkeys(series["sbl"], 1)})
    assert "Accuracy not assessed: no reference data (task rest)." in both
    assert "class='answer good'" in both
    assert "Without a value" not in both
    lacking = group_answer_html(
        primary({BEYOND: series}), {"tap": {**dict.fromkeys(series["sbl"], 1), "sub-98": 1, "sub-99": 2}}
    )
    assert "not assessed" not in lacking
    assert ". Without a value: sub-98, sub-99 (2 runs). " in lacking


def test_why_a_task_has_no_primary_comparison() -> None:
    known = {"zerofill": people([0.1, 0.2]), "srgan": people([0.1, 0.2])}
    idle = [("sub-00 task-tap", "sbl"), ("sub-01 task-tap", "sbl"), ("sub-00 task-tapping", "sbl")]
    reason = why_not_assessed("tap", {BEYOND: known}, idle, "sbl")
    assert reason == "sbl was not applied in 2 runs (it fell back to zero filling)"
    assert why_not_assessed("tap", {BEYOND: known}, [], "sbl") == "sbl was not run"
    assert why_not_assessed("rest", {BEYOND: known}, idle, "sbl") == "no reference data"
    weak = BEYOND._replace(measure="tested_share", against="zerofill")
    assert why_not_assessed("tap", {weak: known}, idle, "sbl") == "no reference data"
    noise = {name: dict.fromkeys(values, math.nan) for name, values in known.items()}
    assert "no reproducible detail" in why_not_assessed("tap", {BEYOND: noise}, idle, "sbl")
    html = group_answer_html([], {"tap": {"sub-00": 1}}, {"tap": reason})
    assert "Accuracy not assessed: sbl was not applied in 2 runs (it fell back to zero filling)." in html
    assert "no reference data" not in html


def test_measured_comes_before_known_and_without_a_truth_there_is_none() -> None:
    def series(shift: float) -> dict[str, dict[str, float]]:
        return {"sbl": people([0.3 + shift, 0.4, 0.5]), "zerofill": people([0.1, 0.1, 0.2])}

    known = BEYOND._replace(measure="truth_ev_beyond", against="truth")
    other = BEYOND._replace(contrast="faces")
    weak = BEYOND._replace(measure="tested_share", against="zerofill")
    active = BEYOND._replace(region="active40")
    questions = {q: series(0.01 * k) for k, q in enumerate((weak, known, other, active, BEYOND))}
    (found,) = primary(questions)
    assert found.question == BEYOND
    (found,) = primary({weak: series(0), known: series(0)})
    assert found.question == known
    assert primary({weak: series(0)}) == []
    assert primary({BEYOND: series(0)}, "focuss") == []


@pytest.mark.parametrize(("effect", "expected"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_participants_for_the_paired_t_test_are_those_of_the_textbooks(effect: float, expected: int) -> None:
    """Cohen 1988 and G*Power: two-sided .05, 80 % power, one sample."""
    assert pc.paired_power(effect, expected) >= 0.8 > pc.paired_power(effect, expected - 1)
    d = np.array([-1.0, 1, -1, 1, -1, 1])
    needed = pc.participants_needed(d / d.std(ddof=1) + effect)
    assert needed == max(6, math.ceil(expected * math.pi / 3))


def test_power_is_reached_in_simulation_by_the_test_that_is_used() -> None:
    """Signed-rank test of normal differences with the number found: 80 % within what 1,500 draws allow."""
    rng = np.random.default_rng(0)
    d = np.array([-1.0, 1, -1, 1, -1, 1])
    needed = pc.participants_needed(d / d.std(ddof=1) + 0.7)
    assert needed is not None
    p = scipy_stats.wilcoxon(0.7 + rng.normal(size=(1500, needed)), axis=1, method="exact").pvalue
    assert 0.77 < np.mean(p < 0.05) < 0.86


def test_numbers_that_cannot_be_had() -> None:
    assert pc.participants_needed([0.1]) is None
    assert pc.participants_needed([-0.1, 0.1]) is None
    assert pc.participants_needed([-0.1, -0.2, -0.1]) is None
    assert pc.participants_needed([1e-6 - 1, 1e-6 + 1]) is None
    assert pc.participants_needed([0.1, 0.1, 0.1]) == 6
    assert pc.participants_needed([0.1, 0.10001]) == 6


def test_a_method_that_was_not_applied_in_a_run_is_out_of_the_comparisons_there(tmp_path: Path) -> None:
    cohort(tmp_path, 8)
    rows = [detail("zerofill", 0.02), detail("sbl", 0.02), detail("sblMirror", 0.01), detail("srgan", 0.1)]
    idle = MetricRow(series="sbl", measure="verdict_applied", value=0)
    write_tables(tmp_path, "09", rows=[*rows, idle, MetricRow(series="srgan", measure="verdict_applied", value=1)])
    found = joined(tmp_path)
    assert found.idle == [("sub-09 task-tap", "sbl")]
    assert "sub-09" not in found.values[BEYOND]["sbl"]
    assert "sub-09" not in found.values[BEYOND]["sblMirror"]
    assert found.values[BEYOND]["srgan"]["sub-09"] == 0.1
    assert found.values[BEYOND]["zerofill"]["sub-09"] == 0.02
    (each,) = [c for c in compared(found.values) if (c.series, c.reference) == ("sbl", "zerofill")]
    assert each.n == 8


def test_above_every_baseline_is_no_claim_where_no_variance_is_explained() -> None:
    rng = np.random.default_rng(0)
    low = list(-0.3 + 0.02 * rng.normal(size=12))
    series = {"sbl": people(list(0.02 * rng.normal(size=12))), "zerofill": people(low)}
    told = findings(compared({BEYOND: series}), ["sbl"])
    assert verdict(told, ["sbl"])[0].startswith("sbl is above every baseline but not shown to explain any")
    series["sbl"] = people(list(0.3 + 0.02 * rng.normal(size=12)))
    told = findings(compared({BEYOND: series}), ["sbl"])
    assert verdict(told, ["sbl"])[0].startswith("sbl is more accurate than every baseline")
