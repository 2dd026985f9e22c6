"""Voxelwise correlation: closed forms."""

import numpy as np
import pytest
from scipy import stats

from bids_sr.evaluation.voxel_correlation import correlate_voxels


def test_it_is_that_of_scipy_in_the_mask() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, (5, 6, 7))
    second = np.exp(first) + rng.normal(0, 0.1, first.shape)
    mask = first > -1
    found = correlate_voxels(first, second, mask)
    assert found.r == pytest.approx(stats.pearsonr(first[mask], second[mask]).statistic)
    assert found.p_independent == pytest.approx(stats.pearsonr(first[mask], second[mask]).pvalue)
    assert found.rho == pytest.approx(stats.spearmanr(first[mask], second[mask]).statistic)
    assert found.voxels == mask.sum()


def test_a_line_is_recovered() -> None:
    first = np.arange(24.0).reshape(2, 3, 4)
    found = correlate_voxels(first, 5 - 2 * first, np.ones(first.shape, bool))
    assert (found.r, found.rho) == pytest.approx((-1, -1))
    assert (found.slope, found.intercept) == pytest.approx((-2, 5))


@pytest.mark.parametrize(
    ("second", "mask", "why"),
    [
        (np.ones(4), np.ones(4, bool), "constant"),
        (np.array([1, 2, np.nan, 3]), np.ones(4, bool), "NaN or infinite"),
        (np.arange(4.0), np.array([1, 1, 0, 0], bool), "at least 3 voxels"),
    ],
)
def test_what_cannot_be_correlated(second: np.ndarray, mask: np.ndarray, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        correlate_voxels(np.arange(4.0), second, mask)
