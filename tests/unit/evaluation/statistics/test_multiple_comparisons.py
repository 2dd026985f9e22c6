"""Corrections of p values compared with statsmodels and examples by hand."""

import math
from unittest.mock import patch

import pytest
from hypothesis import given, settings, strategies as st
from statsmodels.stats.multitest import multipletests

from bids_sr.evaluation.statistics import multiple_comparisons


def test_corrections_by_hand() -> None:
    assert multiple_comparisons.holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx(
        [0.03, 0.06, 0.06, math.nan], nan_ok=True
    )
    assert multiple_comparisons.benjamini_hochberg([0.01, math.nan, 0.04, 0.03]) == pytest.approx(
        [0.03, math.nan, 0.04, 0.04], nan_ok=True
    )
    assert multiple_comparisons.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_corrections_equal_statsmodels(p: list[float]) -> None:
    for corrected, method in (
        (multiple_comparisons.holm, "holm"),
        (multiple_comparisons.benjamini_hochberg, "fdr_bh"),
    ):
        with patch("gc.collect"):  # statsmodels calls it every time
            assert corrected(p) == pytest.approx(list(multipletests(p, method=method)[1]))
