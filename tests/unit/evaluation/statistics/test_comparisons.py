"""Paired comparisons of series: units with both values, corrections within families, tables."""

import math

import numpy as np
import pytest
from scipy import stats

from bids_sr.evaluation.statistics import summaries
from bids_sr.evaluation.statistics.comparison_table import describe_columns, format_comparisons
from bids_sr.evaluation.statistics.comparisons import PairedComparison, compare_pairs, correct
from bids_sr.evaluation.statistics.multiple_comparisons import holm

RNG = np.random.default_rng(4)
VALUES = {name: RNG.normal(shift, 1, 9) for name, shift in (("a", 0.0), ("b", 0.5), ("c", 1.5))}
PAIRS = [("a", "b"), ("a", "c"), ("b", "c")]


def test_tests_and_estimates_are_of_the_differences() -> None:
    first, *_ = compare_pairs(VALUES, PAIRS)
    student = stats.ttest_rel(VALUES["a"], VALUES["b"])
    interval = student.confidence_interval()
    ranks = stats.wilcoxon(VALUES["a"], VALUES["b"], method="exact")
    assert (first.series, first.minus, first.n) == ("a", "b", 9)
    assert (first.t, first.p_t) == pytest.approx((student.statistic, student.pvalue))
    assert (first.mean_lower, first.mean_upper) == pytest.approx((interval.low, interval.high))
    assert first.p_wilcoxon == pytest.approx(ranks.pvalue)
    assert first.n_above == int((VALUES["a"] > VALUES["b"]).sum())
    assert first.median_minus == np.median(VALUES["b"])
    assert first.lower <= first.difference <= first.upper


def test_missing_values_are_skipped_and_undefined_values_counted() -> None:
    values = {
        "a": np.array([1.0, 2, math.nan, math.inf, 5]),
        "b": np.array([0.0, 1, 1, 1, math.nan]),
    }
    (pair,) = compare_pairs(values, [("a", "b")])
    assert (pair.n, pair.n_undefined, pair.difference, pair.median_series) == (2, 1, 1.0, 1.5)
    (disjoint,) = compare_pairs({"a": values["a"][2:3], "b": values["b"][2:3]}, [("a", "b")])
    assert (disjoint.n, disjoint.n_undefined) == (0, 0)
    assert math.isnan(disjoint.p_wilcoxon)


def test_differences_from_an_optimum_are_differences_between_distances() -> None:
    values = {"a": np.array([1.1, 0.9]), "b": np.array([1.5, 0.6])}
    (pair,) = compare_pairs(values, [("a", "b")], optimum=1.0)
    assert pair.mean_difference == pytest.approx(-0.35)
    assert pair.median_series == 1.0


def _compare(differences: list[float], margin: float) -> PairedComparison:
    """Compare a series with zeros."""
    values = {"a": np.array(differences), "b": np.zeros(len(differences))}
    return compare_pairs(values, [("a", "b")], margin=margin)[0]


def test_equivalence_is_tested_within_the_margin() -> None:
    # mean 0, standard error 1 / sqrt(3), margin 2: t = 2 sqrt(3) on two degrees of freedom
    p = _compare([-1, 0, 1], 2).p_equivalence
    assert p == pytest.approx(stats.t.sf(2 * math.sqrt(3), 2))
    assert _compare([-0.5, 0.5, 1.5], 2).p_equivalence > p
    assert math.isnan(_compare([-1, 0, 1], math.nan).p_equivalence)
    assert math.isnan(_compare([-1, 0, 1], 0).p_equivalence)


def test_equal_differences_have_no_t_but_an_interval_and_a_decided_equivalence() -> None:
    inside, outside = _compare([0.1, 0.1, 0.1], 0.2), _compare([0.3, 0.3, 0.3], 0.2)
    assert math.isnan(inside.t)
    assert math.isnan(inside.p_t)
    assert (inside.mean_difference, inside.mean_lower, inside.mean_upper) == pytest.approx(
        [0.1] * 3
    )
    assert (inside.p_equivalence, outside.p_equivalence) == (0, 1)
    # 0.2 three times, up to rounding
    rounded = {"a": np.array([0.3, 0.7, 1.2]), "b": np.array([0.1, 0.5, 1.0])}
    assert math.isnan(compare_pairs(rounded, [("a", "b")])[0].p_t)
    single = _compare([0.3], 0.2)
    assert (single.n, single.dof, single.mean_difference) == (1, 0, 0.3)
    assert np.isnan([single.t, single.p_t, single.p_equivalence, single.mean_lower]).all()


def test_p_values_are_corrected_within_families() -> None:
    comparisons = compare_pairs(VALUES, PAIRS, margin=2.0)
    corrected = correct(comparisons, ["x", "y", "x"], least_n=2)
    assert [pair.family for pair in corrected] == [2, 1, 2]
    for name in ("p_wilcoxon", "p_t", "p_equivalence"):
        p_values = [getattr(pair, name) for pair in comparisons]
        expected = holm([p_values[0], p_values[2]])
        corrected_name = "p_holm" if name == "p_wilcoxon" else f"{name}_holm"
        assert [getattr(pair, corrected_name) for pair in corrected] == [
            expected[0],
            p_values[1],
            expected[1],
        ]


def test_comparisons_of_too_few_units_are_not_corrected() -> None:
    single = {"a": np.array([1.0]), "b": np.array([0.0])}
    comparisons = [*compare_pairs(VALUES, PAIRS[:1]), *compare_pairs(single, PAIRS[:1])]
    pair, lone = correct(comparisons, ["x", "x"], least_n=2)
    assert (pair.family, pair.p_holm, lone.family) == (1, pair.p_wilcoxon, 1)
    assert math.isnan(lone.p_holm)
    pair, lone = correct(comparisons, ["x", "x"], least_n=1)
    assert (pair.family, lone.p_holm) == (2, 1.0)


@pytest.mark.parametrize("table", ["stats", "scans_stats", "models_tests", "ratings_tests"])
def test_tables_of_all_programs_have_the_described_columns(table: str) -> None:
    (pair,) = compare_pairs(VALUES, PAIRS[:1])
    head, cells = (
        line.split("\t") for line in format_comparisons(table, [pair.cells()]).splitlines()
    )
    assert head == list(describe_columns(table))
    row = dict(zip(head, cells, strict=True))
    assert (row["series"], row["minus"], row["n"], row["p_holm"]) == ("a", "b", "9", "n/a")
    assert float(row["difference"]) == pytest.approx(pair.difference, rel=1e-5)


def test_summaries_skip_undefined_values() -> None:
    summary = summaries.summarize([1.0, 2.0, math.nan, 6.0, math.inf])
    half_width = stats.t.ppf(0.975, 2) * np.std([1, 2, 6], ddof=1) / math.sqrt(3)
    assert (summary.n, summary.mean, summary.minimum, summary.maximum) == (3, 3.0, 1.0, 6.0)
    assert (summary.lower, summary.upper) == pytest.approx((3 - half_width, 3 + half_width))
    assert (summary.q1, summary.median, summary.q3) == (1.5, 2.0, 4.0)
    assert math.isnan(summaries.summarize([5.0]).sd)
    assert math.isnan(summaries.summarize([]).mean)
    # quartiles skip missing values
    assert summaries.quartiles([1, 2, 3, 4, math.nan]) == (1.75, 2.5, 3.25)
    assert np.isnan(summaries.quartiles([math.nan])).all()
