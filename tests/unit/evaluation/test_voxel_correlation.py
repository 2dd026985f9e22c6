"""Compare the voxelwise correlation with scipy and closed forms."""

import numpy as np
import pytest
from scipy import stats

from bids_sr.evaluation.voxel_correlation import correlate_voxels


def test_correlations_in_the_mask_equal_scipy() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, (5, 6, 7))
    second = np.exp(first) + rng.normal(0, 0.1, first.shape)
    mask = first > -1
    correlation = correlate_voxels(first, second, mask)
    assert correlation.r == pytest.approx(stats.pearsonr(first[mask], second[mask]).statistic)
    assert correlation.p_independent == pytest.approx(
        stats.pearsonr(first[mask], second[mask]).pvalue
    )
    assert correlation.rho == pytest.approx(stats.spearmanr(first[mask], second[mask]).statistic)
    assert correlation.voxels == mask.sum()


def test_slope_and_intercept_of_a_line_are_recovered() -> None:
    first = np.arange(24.0).reshape(2, 3, 4)
    correlation = correlate_voxels(first, 5 - 2 * first, np.ones(first.shape, bool))
    assert (correlation.r, correlation.rho) == pytest.approx((-1, -1))
    assert (correlation.slope, correlation.intercept) == pytest.approx((-2, 5))


@pytest.mark.parametrize(
    ("second", "mask"),
    [
        (np.ones(4), np.ones(4, bool)),
        (np.array([1, 2, np.nan, 3]), np.ones(4, bool)),
        (np.arange(4.0), np.array([1, 1, 0, 0], bool)),
    ],
)
def test_constant_nonfinite_or_too_few_voxels_are_rejected(
    second: np.ndarray, mask: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="mask"):
        correlate_voxels(np.arange(4.0), second, mask)
