"""The comparison that is fixed beforehand, the participants it needs, and who is left out of it."""

import math
from pathlib import Path

import numpy as np
import pytest
from grouptables import cohort, detail, write_tables
from scipy import stats as scipy_stats

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.reports.text.group_verdicts import findings, primary_sentence, verdict
from bids_sr.stats.group import group_tests, group_text, metric_tables
from bids_sr.stats.group.metric_tables import Joined, Question

METHODS = ("sbl", "srgan")
BEYOND = Question("tap", "n/a", "evaluation", "split_ev_beyond", "measured", "brain", "all", 0.0)


def joined(folder: Path) -> Joined:
    found = Joined(compared=group_tests.compared)
    for source in metric_tables.find_sources(folder):
        found.add(source, metric_tables.read_cells(source))
    found.close()
    return found


def compared(values: metric_tables.Values) -> list[group_tests.Comparison]:
    return group_tests.compare(values, METHODS, units={})


def primary(comparisons: list[group_tests.Comparison]) -> list[group_tests.Comparison]:
    return [each for each in comparisons if each.primary]


def people(values: list[float]) -> dict[str, float]:
    return {f"sub-{n:02d}": value for n, value in enumerate(values)}


def test_the_strongest_baseline_and_no_other_is_primary(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    marked = group_tests.with_primary(compared(joined(tmp_path).values), "sbl")
    (found,) = primary(marked)
    assert (found.series, found.reference) == ("sbl", "inject")  # of bspline, zerofill, inject
    assert found.question == BEYOND
    rows = [group_text.row(each) for each in marked]
    assert [row["part"] for row in rows].count("primary") == 1
    assert next(row["n_needed"] for row in rows if row["part"] == "primary") == str(found.needed)
    text = primary_sentence(found)
    assert text.startswith("sbl less inject, explained variance of measured BOLD detail")
    assert ": better, " in text
    assert "not corrected" in text
    assert f"{found.needed} participants give 80 % power" in text


def test_measured_comes_before_known_and_without_a_truth_there_is_none() -> None:
    def series(shift: float) -> dict[str, dict[str, float]]:
        return {"sbl": people([0.3 + shift, 0.4, 0.5]), "zerofill": people([0.1, 0.1, 0.2])}

    known = BEYOND._replace(measure="truth_ev_beyond", against="truth")
    other = BEYOND._replace(contrast="faces")
    weak = BEYOND._replace(measure="self_r_beyond", against="self")
    active = BEYOND._replace(region="active40")
    questions = {q: series(0.01 * k) for k, q in enumerate((weak, known, other, active, BEYOND))}
    (found,) = primary(group_tests.with_primary(compared(questions), "sbl"))
    assert found.question == BEYOND
    (found,) = primary(group_tests.with_primary(compared({weak: series(0), known: series(0)}), "sbl"))
    assert found.question == known
    assert primary(group_tests.with_primary(compared({weak: series(0)}), "sbl")) == []
    assert primary(group_tests.with_primary(compared({BEYOND: series(0)}), "focuss")) == []


@pytest.mark.parametrize(("effect", "expected"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_participants_for_the_paired_t_test_are_those_of_the_textbooks(effect: float, expected: int) -> None:
    """Cohen 1988 and G*Power: two-sided .05, 80 % power, one sample."""
    assert group_tests.paired_power(effect, expected) >= 0.8 > group_tests.paired_power(effect, expected - 1)
    d = np.array([-1.0, 1, -1, 1, -1, 1])
    needed = group_tests.participants_needed(d / d.std(ddof=1) + effect)
    assert needed == max(6, math.ceil(expected * math.pi / 3))


def test_power_is_reached_in_simulation_by_the_test_that_is_used() -> None:
    """Signed-rank test of normal differences with the number found: 80 % within what 1,500 draws allow."""
    rng = np.random.default_rng(0)
    d = np.array([-1.0, 1, -1, 1, -1, 1])
    needed = group_tests.participants_needed(d / d.std(ddof=1) + 0.7)
    assert needed is not None
    p = scipy_stats.wilcoxon(0.7 + rng.normal(size=(1500, needed)), axis=1, method="exact").pvalue
    assert 0.77 < np.mean(p < 0.05) < 0.86


def test_numbers_that_cannot_be_had() -> None:
    assert group_tests.participants_needed([0.1]) is None
    assert group_tests.participants_needed([-0.1, 0.1]) is None
    assert group_tests.participants_needed([1e-6 - 1, 1e-6 + 1]) is None
    assert group_tests.participants_needed([0.1, 0.1, 0.1]) == 6
    assert group_tests.participants_needed([0.1, 0.10001]) == 6


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
    assert verdict(told, ["sbl"])[0].startswith("sbl is above every baseline, and not shown to explain any")
    series["sbl"] = people(list(0.3 + 0.02 * rng.normal(size=12)))
    told = findings(compared({BEYOND: series}), ["sbl"])
    assert verdict(told, ["sbl"])[0].startswith("sbl is more accurate than every baseline")
