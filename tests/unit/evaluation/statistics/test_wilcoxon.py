"""Signed-rank test and Hodges–Lehmann estimate compared with scipy and examples by hand."""

import math
import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from bids_sr.evaluation.statistics import wilcoxon
from bids_sr.evaluation.statistics.comparisons import compute_differences

# Depression scale of nine patients before and after treatment; Hollander and Wolfe, Nonparametric
# Statistical Methods, table 3.1: W+ = 5, estimate -.46, interval (-.786, -.010) of 96.1 %
# confidence
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
RNG = np.random.default_rng(5)


def by_enumeration(d: np.ndarray) -> float:
    """Return the two-sided p value over all assignments of signs, ranks with ties."""
    ranks = stats.rankdata(np.abs(d))
    sums = np.array(
        [ranks[np.array(signs) > 0].sum() for signs in product((1, -1), repeat=len(d))]
    )
    rank_sum = ranks[d > 0].sum()
    return min(1.0, 2 * min((sums <= rank_sum + 1e-9).mean(), (sums >= rank_sum - 1e-9).mean()))


def test_signed_rank_and_hodges_lehmann_equal_the_textbook_example() -> None:
    d = compute_differences(np.array(AFTER), np.array(BEFORE))
    test = wilcoxon.signed_rank(d)
    assert (test.n_nonzero, test.w_plus, test.method) == (9, 5.0, "exact")
    assert test.p_wilcoxon == pytest.approx(20 / 512)
    assert test.p_smallest == 2 / 512
    estimate = wilcoxon.hodges_lehmann(d)
    assert estimate.difference == pytest.approx(-0.46)
    assert (estimate.lower, estimate.upper) == pytest.approx((-0.786, -0.010))
    assert estimate.level == pytest.approx(0.961, abs=5e-4)


@pytest.mark.parametrize("n", [4, 25])
def test_wilcoxon_without_ties_equals_scipy(n: int) -> None:
    d = RNG.normal(0.3, 1, n)
    expected = stats.wilcoxon(d, method="exact")
    assert wilcoxon.signed_rank(d).p_wilcoxon == pytest.approx(float(expected.pvalue), abs=1e-12)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_wilcoxon_with_ties_and_zeros_equals_the_permutation_distribution(
    values: list[int],
) -> None:
    d = np.array(values, dtype=float)
    test = wilcoxon.signed_rank(d)
    nonzero = d[d != 0]
    assert test.n_nonzero == len(nonzero)
    assert test.p_wilcoxon == pytest.approx(by_enumeration(nonzero) if len(nonzero) else 1.0)
    assert test.p_wilcoxon >= test.p_smallest - 1e-12


def test_wilcoxon_of_many_differences_equals_the_normal_approximation_of_scipy() -> None:
    d = np.round(RNG.normal(0.2, 1, 150), 1)
    d = d[d != 0]
    expected = stats.wilcoxon(d, method="approx", correction=True)
    test = wilcoxon.signed_rank(d)
    assert test.method == "normal"
    assert test.p_wilcoxon == pytest.approx(float(expected.pvalue), rel=1e-6)


def test_identical_values_are_reported_and_do_not_crash() -> None:
    d = compute_differences(np.array([0.4, 0.4, 0.2]), np.array([0.4, 0.4, 0.2]))
    test = wilcoxon.signed_rank(d)
    assert (test.method, test.n_nonzero, test.p_wilcoxon) == ("identical", 0, 1.0)
    assert math.isnan(test.effect_size)
    assert test.p_smallest == 1
    assert wilcoxon.hodges_lehmann(d).difference == 0


def test_differences_that_differ_by_rounding_are_ties() -> None:
    # 0.2 three times, up to rounding
    d = compute_differences(np.array([0.3, 0.7, 1.2]), np.array([0.1, 0.5, 1.0]))
    assert len(set(np.abs(d))) == 1
    assert wilcoxon.signed_rank(d).w_plus == 6


def test_the_smallest_p_value_and_the_interval_of_few_participants() -> None:
    assert wilcoxon.signed_rank([1, 2, 3, 4, 5]).p_smallest == 0.0625
    assert wilcoxon.signed_rank([1, 2, 3, 4, 5, 6]).p_smallest == 0.03125
    short = wilcoxon.hodges_lehmann([1, 2, 3.5, 4, 5])
    assert (short.lower, short.upper) == (1, 5)
    assert short.level == pytest.approx(1 - 2 / 32)


def test_effect_size_by_hand() -> None:
    # ranks 1 2 3 4, the second negative: (1 + 3 + 4 - 2) / 10
    assert wilcoxon.signed_rank([0.1, -0.2, 0.3, 0.4]).effect_size == pytest.approx(0.6)
    assert wilcoxon.signed_rank([1.0, 2.0]).effect_size == 1


@pytest.mark.parametrize("n", [11, 40])
def test_hodges_lehmann_interval_contains_values_that_the_test_does_not_reject(n: int) -> None:
    d = RNG.normal(1, 2, n)
    interval = wilcoxon.hodges_lehmann(d)
    inside, outside = np.array([1e-7, -1e-7]), np.array([-1e-7, 1e-7])
    for end, inward, outward in zip(
        (interval.lower, interval.upper), inside, outside, strict=True
    ):
        assert wilcoxon.signed_rank(d - end - inward).p_wilcoxon > 0.05
        assert wilcoxon.signed_rank(d - end - outward).p_wilcoxon <= 0.05


def test_hodges_lehmann_interval_has_its_nominal_coverage() -> None:
    samples = RNG.standard_exponential((800, 8)) - RNG.standard_exponential((800, 8))
    hits = [
        interval.lower <= 0 <= interval.upper
        for interval in (wilcoxon.hodges_lehmann(d) for d in samples)
    ]
    level = wilcoxon.hodges_lehmann(samples[0]).level
    # five of the 256 sign patterns have a rank sum of at most 3
    assert level == pytest.approx(1 - 2 * 5 / 256)
    assert np.mean(hits) == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 800))


def test_many_differences_have_a_large_sample_interval() -> None:
    """Limits are two of the ordered means of pairs, as in Hollander and Wolfe, chapter 3."""
    n, d = 160, RNG.normal(0, 1, 160)
    interval = wilcoxon.hodges_lehmann(d)
    means = np.sort(np.add.outer(d, d)[np.triu_indices(n)] / 2)
    rank = int(n * (n + 1) / 4 - 1.959964 * math.sqrt(n * (n + 1) * (2 * n + 1) / 24))
    assert interval.level == 0.95
    assert interval.difference == pytest.approx(np.median(means))
    assert (interval.lower, interval.upper) == pytest.approx((means[rank - 1], means[-rank]))


@pytest.mark.parametrize("kind", ["continuous", "rounded", "few values", "equal", "far from zero"])
def test_the_estimate_equals_the_median_of_the_means_of_all_pairs(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    d = {
        "continuous": rng.normal(0, 1, 211),
        "rounded": rng.normal(0, 1, 200).round(1),
        "few values": rng.integers(-2, 3, 150).astype(float),
        "equal": np.full(120, 0.3),
        "far from zero": 1e6 + rng.normal(0, 1e-3, 130),
    }[kind]
    d.sort()
    i, j = np.triu_indices(len(d))
    expected = np.sort((d[i] + d[j]) / 2)
    assert wilcoxon.hodges_lehmann(d).difference == pytest.approx(
        np.median(expected), rel=2e-12, abs=2e-12
    )


def test_an_interval_that_ends_at_zero_ends_exactly_at_zero() -> None:
    """Rounding must not exclude zero from the interval."""
    d = np.concatenate([np.zeros(150), np.linspace(0.1, 1, 30)])
    assert wilcoxon.hodges_lehmann(d).lower == 0


def test_thousands_of_ties_do_not_need_memory_for_all_pairs() -> None:
    """At least a third of 40 million pairwise means share a value."""
    values = np.arange(9000) % 3 / 7.0
    tracemalloc.start()
    try:
        estimate = wilcoxon.hodges_lehmann(values)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert estimate.difference == pytest.approx(np.median(values), abs=1e-12)
