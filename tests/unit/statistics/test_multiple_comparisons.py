"""Corrections of p values compared with statsmodels and examples by hand."""

import math
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from statsmodels.stats.multitest import multipletests

from bids_sr.statistics import multiple_comparisons


def test_corrections_by_hand() -> None:
    assert multiple_comparisons.holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx(
        [0.03, 0.06, 0.06, math.nan], nan_ok=True
    )
    assert multiple_comparisons.benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx(
        [0.03, 0.04, 0.04]
    )
    assert multiple_comparisons.holm([]) == []


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_false_discovery_rates_follow_the_definition(p: list[float]) -> None:
    """Compare with Benjamini and Hochberg (1995).

    The rate is the lowest m p / rank among p values at least as large, at most 1; m counts the p
    values that are not NaN.
    """
    valid = [value for value in p if not math.isnan(value)]
    scaled = {p_j: len(valid) * p_j / sum(value <= p_j for value in valid) for p_j in valid}
    expected = [min([1.0, *(q for p_j, q in scaled.items() if p_j >= value)]) for value in valid]
    rates = multiple_comparisons.benjamini_hochberg(p)
    assert [math.isnan(rate) for rate in rates] == [math.isnan(value) for value in p]
    np.testing.assert_allclose([q for q in rates if not math.isnan(q)], expected, 0, 1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_corrections_equal_statsmodels(p: list[float]) -> None:
    for corrected, method in (
        (multiple_comparisons.holm, "holm"),
        (multiple_comparisons.benjamini_hochberg, "fdr_bh"),
    ):
        with patch("gc.collect"):  # statsmodels calls it every time
            assert corrected(p) == pytest.approx(list(multipletests(p, method=method)[1]))
