"""Bias, limits of agreement and variability against closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from bids_sr.group.limits_of_agreement import (
    limits_of_agreement,
    percent_differences,
    within_unit_sd,
)


def test_limits_and_intervals_have_their_closed_form():
    changes = np.array([1.5, -0.5, 2.0, 0.25, 3.0, -1.0, 0.75])
    n, mean, sd = len(changes), changes.mean(), math.sqrt(changes.var(ddof=1))
    found = limits_of_agreement(changes)
    assert found.n == n
    assert found.bias == pytest.approx(mean)
    assert found.sd == pytest.approx(sd)
    t = stats.t.ppf(0.975, n - 1)
    # Bland & Altman 1999: var(limit) = (1/n + 1.96^2 / (2 (n - 1))) s^2
    error = sd * math.sqrt(1 / n + 1.96**2 / (2 * (n - 1)))
    for end, sign in (("low", -1), ("high", 1)):
        limit = mean + sign * 1.96 * sd
        assert getattr(found, f"{end}_limit") == pytest.approx(limit)
        assert getattr(found, f"{end}_limit_lower") == pytest.approx(limit - t * error)
        assert getattr(found, f"{end}_limit_upper") == pytest.approx(limit + t * error)
    same = stats.ttest_1samp(changes, 0).confidence_interval(0.95)
    assert (found.bias_lower, found.bias_upper) == pytest.approx(tuple(same))


def test_limits_of_normal_differences_hold_95_percent():
    random = np.random.default_rng(0)
    found = limits_of_agreement(random.normal(2, 3, 4000))
    later = random.normal(2, 3, 4000)
    inside = ((later > found.low_limit) & (later < found.high_limit)).mean()
    assert inside == pytest.approx(0.95, abs=0.015)


def test_one_pair_has_a_bias_only_and_none_is_refused():
    found = limits_of_agreement([2.5])
    assert found.bias == 2.5
    assert math.isnan(found.low_limit)
    assert math.isnan(found.bias_lower)
    for wrong in ([], [1.0, math.nan]):
        with pytest.raises(ValueError, match="at least one"):
            limits_of_agreement(wrong)


def test_percent_is_of_the_mean_of_both():
    assert percent_differences([110, 0], [90, 0]).tolist() == pytest.approx(
        [20, math.nan], nan_ok=True
    )


def test_variability_within_is_pooled_over_degrees_of_freedom():
    repeats = [[1.0, 3.0], [10.0, 11.0, 12.0], [5.0]]
    assert within_unit_sd(repeats) == pytest.approx(math.sqrt((2 + 2) / 3))
    assert math.isnan(within_unit_sd([[1.0], [2.0, math.nan]]))
