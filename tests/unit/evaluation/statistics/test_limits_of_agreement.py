"""Bias, limits of agreement and variability compared with closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from bids_sr.evaluation.statistics.limits_of_agreement import (
    compute_within_unit_sd,
    limits_of_agreement,
    percent_differences,
)


def test_limits_and_intervals_equal_their_closed_form():
    changes = np.array([1.5, -0.5, 2.0, 0.25, 3.0, -1.0, 0.75])
    n, mean, sd = len(changes), changes.mean(), math.sqrt(changes.var(ddof=1))
    limits = limits_of_agreement(changes)
    assert limits.n == n
    assert limits.bias == pytest.approx(mean)
    assert limits.sd == pytest.approx(sd)
    t = stats.t.ppf(0.975, n - 1)
    # Bland & Altman 1999: var(limit) = (1/n + 1.96^2 / (2 (n - 1))) s^2
    error = sd * math.sqrt(1 / n + 1.96**2 / (2 * (n - 1)))
    for end, sign in (("low", -1), ("high", 1)):
        limit = mean + sign * 1.96 * sd
        assert getattr(limits, f"{end}_limit") == pytest.approx(limit)
        assert getattr(limits, f"{end}_limit_lower") == pytest.approx(limit - t * error)
        assert getattr(limits, f"{end}_limit_upper") == pytest.approx(limit + t * error)
    interval = stats.ttest_1samp(changes, 0).confidence_interval(0.95)
    assert (limits.bias_lower, limits.bias_upper) == pytest.approx(tuple(interval))


def test_a_single_pair_has_only_a_bias():
    limits = limits_of_agreement([2.5])
    assert limits.bias == 2.5
    assert math.isnan(limits.low_limit)
    assert math.isnan(limits.bias_lower)


def test_percent_differences_refer_to_the_mean_of_both_values():
    assert percent_differences([110, 0], [90, 0]).tolist() == pytest.approx(
        [20, math.nan], nan_ok=True
    )


def test_within_unit_sd_is_pooled_by_degrees_of_freedom():
    repeats = [[1.0, 3.0], [10.0, 11.0, 12.0], [5.0]]
    assert compute_within_unit_sd(repeats) == pytest.approx(math.sqrt((2 + 2) / 3))
    assert math.isnan(compute_within_unit_sd([[1.0], [2.0, math.nan]]))
