"""Uncertainty of an ensemble: its spread, and whether the spread says how wrong the mean is."""

import numpy as np
import pytest
from scipy import stats

from bids_sr.stats.controls import uncertainty

SHAPE = (24, 24, 12)
INSIDE = np.ones(SHAPE, bool)


def drawn(count: int, *, shared: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(members, truth): each truth plus noise of a spread that varies over the grid, plus an error all share."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(0.5, 3, SHAPE[0])[:, None, None] * np.ones(SHAPE)
    center = rng.normal(size=SHAPE) * 5
    common = shared * rng.normal(size=SHAPE)
    members = center + common + spread * rng.normal(size=(count, *SHAPE))
    return members, center + spread * rng.normal(size=SHAPE)


def test_mean_and_sd_are_those_of_numpy() -> None:
    members, _ = drawn(4)
    found = uncertainty.ensemble(member for member in members)
    np.testing.assert_allclose(found.mean, members.mean(0))
    np.testing.assert_allclose(found.sd, members.std(0, ddof=1))
    assert found.count == 4


@pytest.mark.parametrize("count", [2, 3, 20])
def test_coverage_is_nominal_where_the_truth_is_one_more_member(count: int) -> None:
    members, truth = drawn(count)
    found = uncertainty.calibrate(uncertainty.ensemble(members), truth, INSIDE, n_boot=20)
    assert found.coverage == pytest.approx(found.nominal, abs=0.015)
    by_hand = 1 - 2 * stats.t.sf(2 / np.sqrt(1 + 1 / count), count - 1)
    assert found.nominal == pytest.approx(by_hand)


def test_an_error_that_all_members_share_is_not_seen_and_shows_as_missing_coverage() -> None:
    members, truth = drawn(8, shared=6.0)
    found = uncertainty.calibrate(uncertainty.ensemble(members), truth, INSIDE, n_boot=20)
    assert found.coverage < found.nominal - 0.3


def test_the_correlation_is_pearsons_and_the_tenths_rise_with_the_error() -> None:
    members, truth = drawn(8)
    spread = uncertainty.ensemble(members)
    found = uncertainty.calibrate(spread, truth, INSIDE, n_boot=200)
    expected = stats.pearsonr(spread.sd.ravel(), np.abs(spread.mean - truth).ravel()).statistic
    assert found.r == pytest.approx(expected)
    assert found.r_interval[0] < found.r < found.r_interval[1]
    assert found.n_slices == SHAPE[2]
    assert len(found.tenths) == 10
    assert sum(tenth["n"] for tenth in found.tenths) == INSIDE.sum()
    assert found.tenths[-1]["error"] > 3 * found.tenths[0]["error"]
    # the error of a mean of 8 is the truth's own spread, which the standard deviation estimates, and an eighth of it
    total = np.sqrt(np.mean([t["error"] ** 2 for t in found.tenths]) / np.mean([t["sd"] ** 2 for t in found.tenths]))
    assert total == pytest.approx(np.sqrt(1 + 1 / 8), rel=0.03)


def test_voxels_outside_the_mask_do_not_count() -> None:
    members, truth = drawn(3)
    mask = INSIDE.copy()
    mask[:, :12] = False
    outside = truth + np.where(mask, 0, 1e6)
    spread = uncertainty.ensemble(members)
    assert uncertainty.calibrate(spread, outside, mask, n_boot=5) == uncertainty.calibrate(
        spread, truth, mask, n_boot=5
    )


def test_a_constant_spread_has_no_correlation() -> None:
    members = np.stack([np.zeros(SHAPE), np.ones(SHAPE)])
    found = uncertainty.calibrate(uncertainty.ensemble(members), drawn(2)[1], INSIDE, n_boot=5)
    assert np.isnan(found.r)
    assert np.isnan(found.r_interval).all()


def test_what_is_no_ensemble_is_refused() -> None:
    with pytest.raises(uncertainty.EnsembleError, match="ensemble of 1"):
        uncertainty.ensemble([np.zeros(SHAPE)])
    with pytest.raises(uncertainty.EnsembleError, match="members of"):
        uncertainty.ensemble([np.zeros(SHAPE), np.zeros((2, 2, 2))])
    with pytest.raises(uncertainty.EnsembleError, match="empty"):
        uncertainty.calibrate(uncertainty.ensemble(drawn(2)[0]), drawn(2)[1], ~INSIDE)
