"""Test the arithmetic of `participant_maps.py`.

A known correlation of errors and a known coverage are recovered from simulated blocks of several
runs.
"""

from __future__ import annotations

import _combined_runs as combined
import numpy as np
import pytest

from bids_sr.group.combination.run_combination import RunEstimate, combine_estimates

VOXELS, BLOCKS, RHO = 20_000, 8, 0.75
HALVES = np.array([[1.0, 0.0] * (BLOCKS // 2), [0.0, 1.0] * (BLOCKS // 2)]) / (BLOCKS / 2)
# noise of neighboring blocks is anticorrelated because their regressors overlap
COVARIANCE = np.eye(BLOCKS) - 0.4 * (np.eye(BLOCKS, k=1) + np.eye(BLOCKS, k=-1))
NOISE = 2.0


@pytest.fixture(scope="module")
def simulated() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Simulate block effects of errors of three runs with noise.

    Return the block effects, the SD of the errors, and the errors.
    """
    rng = np.random.default_rng(0)
    sd = rng.uniform(0.5, 2.0, VOXELS)
    common = rng.normal(size=VOXELS)
    errors = [
        sd * (RHO**0.5 * common + (1 - RHO) ** 0.5 * rng.normal(size=VOXELS)) for _ in range(3)
    ]
    root = np.linalg.cholesky(COVARIANCE)
    blocks = [e + NOISE * root @ rng.normal(size=(BLOCKS, VOXELS)) for e in errors]
    return blocks, sd, np.array(errors)


def split(blocks: np.ndarray, run: int) -> combined.SplitEffect:
    shares = combined.split_shares(HALVES, COVARIANCE)
    return combined.SplitEffect(halves=HALVES @ blocks, shares=shares, run=run)


def test_signal_energy_is_unbiased_by_noise(
    simulated: tuple[list[np.ndarray], np.ndarray, np.ndarray],
) -> None:
    blocks, _, errors = simulated
    effects = [split(run_blocks, run) for run, run_blocks in enumerate(blocks)]
    power = float(errors[0] @ errors[0])
    assert combined.signal(effects[0], effects[0]) == pytest.approx(power, rel=0.02)
    # the plain product of the halves is biased because their noise is correlated
    plain = float(effects[0].halves[0] @ effects[0].halves[1])
    assert plain < 0.85 * power
    assert combined.signal(effects[0], effects[1]) == pytest.approx(
        float(errors[0] @ errors[1]), rel=0.02
    )


def test_a_known_correlation_of_errors_is_recovered(
    simulated: tuple[list[np.ndarray], np.ndarray, np.ndarray],
) -> None:
    blocks, sd, _ = simulated
    effects = [split(run_blocks, run) for run, run_blocks in enumerate(blocks)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert combined.error_correlation(effects[a], effects[b]) == pytest.approx(RHO, abs=0.02)
        units = [effects[k].times(1 / sd) for k in (a, b)]
        assert combined.error_correlation(*units) == pytest.approx(RHO, abs=0.02)


def test_error_correlation_is_nan_if_the_error_does_not_exceed_its_noise() -> None:
    ones = np.ones(10)
    noisy = combined.SplitEffect(halves=np.array([ones, -ones]), shares=np.zeros(2), run=0)
    clear = combined.SplitEffect(halves=np.array([ones, ones]), shares=np.zeros(2), run=1)
    assert np.isnan(combined.error_correlation(noisy, clear))
    assert combined.error_correlation(clear, clear) == 1


def test_intervals_have_nominal_coverage_only_with_the_right_correlation(
    simulated: tuple[list[np.ndarray], np.ndarray, np.ndarray],
) -> None:
    blocks, sd, _ = simulated
    mean_weights = HALVES.mean(0)
    noise = np.full(VOXELS, NOISE**2 * (mean_weights @ COVARIANCE @ mean_weights))
    runs = [
        RunEstimate(effect=mean_weights @ run_blocks, variance=noise, dof=100, sd=sd)
        for run_blocks in blocks
    ]
    region = np.ones(VOXELS, bool)
    covered = {}
    for rho in (0.0, RHO, 1.0):
        combined_map = combine_estimates(runs, [0.5, 0.25, 0.25], shared=rho)
        covered[rho] = combined.coverage(combined_map.effect, combined_map.total_variance, region)
    assert covered[RHO] == pytest.approx(0.95, abs=0.006)
    assert covered[0.0] < 0.9
    assert covered[1.0] > 0.96


def test_noise_of_blocks_equals_the_variance_of_their_weighted_sum(
    simulated: tuple[list[np.ndarray], np.ndarray, np.ndarray],
) -> None:
    """Differences between condition means do not count as noise, nor do blocks of weight 0."""
    blocks = simulated[0][0].copy()
    conditions = ["a", "a", "b", "b"] * (BLOCKS // 4)
    blocks[[name == "b" for name in conditions]] += 100
    weights = np.array([0.25, 0.25, 0.25, 0.25, 0, 0, 0, 0])
    blocks[4:] += 1000
    noise = combined.block_noise(blocks, weights, COVARIANCE, conditions)
    expected = NOISE**2 * (weights @ COVARIANCE @ weights)
    assert noise.mean() == pytest.approx(expected, rel=0.03)


def test_explained_variance_is_reduced_only_by_noise_of_the_estimate() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=VOXELS)

    def measured(run: int, noise: float) -> combined.SplitEffect:
        white = noise * rng.normal(size=(2, VOXELS))
        return combined.SplitEffect(halves=truth + white, shares=np.zeros(2), run=run)

    # the noise variance of a run is half the noise variance of each half
    runs = [measured(run, 1.0) for run in range(2)]
    half = [effect.times(0.5) for effect in runs]
    assert combined.explained(runs[:1], half) == pytest.approx(1 - 1 / 2, abs=0.03)
    assert combined.explained(half, half) == pytest.approx(1 - 1 / 4, abs=0.03)
    assert combined.explained([runs[0].times(0.0)], half) == 0
    region = truth > 0
    inside = half[0].within(region, centered=True)
    assert inside.combined.mean() == pytest.approx(0)
    assert inside.halves.shape == (2, region.sum())
