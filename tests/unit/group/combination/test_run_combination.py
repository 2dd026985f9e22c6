"""Runs combined by hand, by nilearn, and in simulations with a known shared error."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bids_sr.group.combination.run_combination import (
    OPPOSITE_ACTIVE,
    OPPOSITE_INACTIVE,
    OPPOSITE_SMOOTHED,
    RunEstimate,
    combine_estimates,
    correlate_error,
    correlate_opposite,
    weigh_runs,
    widen_error,
)


def estimates(n_runs, shape=(4, 5, 6), seed=0, dof=80.0):
    rng = np.random.default_rng(seed)
    return [
        RunEstimate(
            effect=rng.normal(2, 3, shape),
            variance=rng.uniform(0.5, 4, shape),
            sd=rng.uniform(0.1, 2, shape),
            dof=dof + number,
        )
        for number in range(n_runs)
    ]


def single_voxel_estimate(effect, variance, sd=None, dof=50.0):
    def filled(value):
        return np.full((1, 1, 1), float(value))

    error = None if sd is None else filled(sd)
    return RunEstimate(effect=filled(effect), variance=filled(variance), sd=error, dof=dof)


@pytest.mark.parametrize("n_runs", [2, 3, 6])
@pytest.mark.parametrize("shared", [0.0, 0.75, 1.0])
def test_equal_runs_have_the_closed_form(n_runs, shared):
    combined = combine_estimates([single_voxel_estimate(7, 3, 2)] * n_runs, shared=shared)
    total = (3 + (1 - shared) * 4) / n_runs + shared * 4
    assert combined.effect.item() == pytest.approx(7)
    assert combined.variance.item() == pytest.approx(3 / n_runs)
    assert combined.total_variance.item() == pytest.approx(total)
    assert combined.t.item() == pytest.approx(7 / (3 / n_runs) ** 0.5)
    assert combined.dof == 50 * n_runs
    tail = stats.t.sf(combined.t.item(), combined.dof)
    assert combined.z.item() == pytest.approx(stats.norm.isf(tail), rel=1e-6)


def test_unequal_weights_by_hand():
    runs = [single_voxel_estimate(1, 2, 3), single_voxel_estimate(5, 4, 1)]
    combined = combine_estimates(runs, [0.75, 0.25], shared=0.6)
    assert combined.effect.item() == pytest.approx(0.75 * 1 + 0.25 * 5)
    assert combined.variance.item() == pytest.approx(0.5625 * 2 + 0.0625 * 4)
    squared = 0.4 * (0.5625 * 9 + 0.0625 * 1) + 0.6 * (0.75 * 3 + 0.25 * 1) ** 2
    assert combined.sd.item() ** 2 == pytest.approx(squared)
    assert combined.shared_sd.item() ** 2 == pytest.approx(0.6 * 2.5**2)


@pytest.mark.parametrize("rho", [0.0, 0.75, 1.0])
def test_intervals_have_their_nominal_coverage(rho):
    """Simulate 95 % intervals with a known correlation of the error between runs."""
    rng = np.random.default_rng(1)
    n_runs, n = 3, 40_000
    sd = rng.uniform(0.5, 2, (n_runs, n))
    noise = rng.uniform(0.5, 1, (n_runs, n))
    common, separate = rng.normal(size=n), rng.normal(size=(n_runs, n))
    error = sd * (rho**0.5 * common + (1 - rho) ** 0.5 * separate)
    effects = 5 + error + noise * rng.normal(size=(n_runs, n))
    runs = [
        RunEstimate(effect=effects[run], variance=noise[run] ** 2, sd=sd[run], dof=100)
        for run in range(n_runs)
    ]

    def coverage(shared):
        combined = combine_estimates(runs, shared=shared)
        return np.mean(np.abs(combined.effect - 5) < 1.96 * np.sqrt(combined.total_variance))

    assert coverage(rho) == pytest.approx(0.95, abs=0.005)
    if rho == 0.75:
        assert coverage(0.0) < 0.9  # error divided by n
        assert coverage(1.0) > 0.96


def test_variance_between_runs_requires_three_runs():
    combined = combine_estimates(
        [single_voxel_estimate(1, 1), single_voxel_estimate(2, 1), single_voxel_estimate(6, 1)],
        shared=0.75,
    )
    assert combined.between_variance.item() == pytest.approx(np.var([1, 2, 6], ddof=1) / 3)
    assert combined.person_sd.item() ** 2 == pytest.approx(np.var([1, 2, 6], ddof=1) / 3)
    with_error = combine_estimates(
        [single_voxel_estimate(e, 1, 2) for e in (1, 2, 6)], shared=0.75
    )
    assert with_error.person_sd.item() ** 2 == pytest.approx(7 / 3 + 0.75 * 4)


def test_intervals_of_the_participant_have_nominal_coverage_with_unequal_weights():
    rng = np.random.default_rng(2)
    n_runs, n = 4, 40_000
    weights = [1 / 6, 2 / 6, 2 / 6, 1 / 6]
    effects = rng.normal(3, 2, (n_runs, n))
    runs = [RunEstimate(effect=effect, variance=np.ones(n), dof=100) for effect in effects]
    combined = combine_estimates(runs, weights, shared=1)
    expected = 4 * sum(weight**2 for weight in weights)
    assert combined.between_variance.mean() == pytest.approx(expected, rel=0.02)
    inside = np.abs(combined.effect - 3) < stats.t.isf(0.025, 3) * combined.person_sd
    assert inside.mean() == pytest.approx(0.95, abs=0.01)


def test_z_of_noise_has_the_nominal_false_positive_rate():
    """Check p < .001 (each side) with few degrees of freedom and runs of equal noise."""
    rng = np.random.default_rng(3)
    n, dof = 400_000, 20
    runs = [
        RunEstimate(effect=rng.normal(size=n), variance=rng.chisquare(dof, n) / dof, dof=dof)
        for _ in range(3)
    ]
    z = combine_estimates(runs, shared=0.75).z
    assert 0.0008 <= np.mean(np.abs(z) > stats.norm.isf(0.001)) / 2 <= 0.00125


def test_voxels_missing_in_a_run_are_0():
    first, second = estimates(2)
    first.variance[0] = 0
    second.variance[..., 1] = 0
    combined = combine_estimates([first, second], shared=0.75)
    expected = np.ones(first.effect.shape, dtype=bool)
    expected[0], expected[..., 1] = False, False
    np.testing.assert_array_equal(combined.mask, expected)
    for values in (combined.effect, combined.variance, combined.sd, combined.t, combined.z):
        assert not values[~expected].any()
        assert values[expected].all()


def test_weights_are_inverse_variances():
    first, second = estimates(2)
    noisy = replace(second, variance=9 * first.variance)
    assert weigh_runs([first, noisy]) == pytest.approx([0.9, 0.1])


def test_the_shared_error_grows_with_smoothing():
    assert correlate_error(2.5 / 6, calibrated=False, n_runs=3) == pytest.approx(0.775)
    correlations = [correlate_error(fwhm / 6, calibrated=False, n_runs=3) for fwhm in (0, 5, 5.1)]
    assert correlations == [0.75, 0.8, 1.0]
    assert correlate_error(5 / 6, calibrated=True, n_runs=3) == 1.0


@pytest.mark.parametrize("n_runs", [2, 4])
def test_intervals_of_estimated_errors_cover_95_percent(n_runs):
    """Each run estimates the SD of its error from 14 independent values; errors are shared."""
    rng = np.random.default_rng(0)
    shape = (40_000,)
    common = rng.normal(size=shape)
    runs = []
    for _ in range(n_runs):
        error = np.sqrt(0.9) * common + np.sqrt(0.1) * rng.normal(size=shape)
        sd = np.sqrt(rng.chisquare(14, shape) / 14)
        runs.append(RunEstimate(effect=error, variance=np.full(shape, 1e-6), dof=80, sd=sd))
    shared = correlate_error(0, calibrated=False, n_runs=n_runs)
    widening = widen_error(0, n_runs=n_runs)
    combined = combine_estimates(runs, shared=max(shared, 0.9), widening=widening)
    covered = np.abs(combined.effect) < 1.96 * np.sqrt(combined.total_variance)
    assert covered.mean() == pytest.approx(0.95, abs=0.012)
    assert widen_error(0, n_runs=1) == widen_error(5 / 6, n_runs=2) == 1.0


def test_fewer_runs_have_no_error_or_spread():
    """The spread needs three runs with weight, and the error an estimate in every run."""
    (run,) = estimates(1)
    alone = combine_estimates([run], shared=0.75)
    for name in ("effect", "variance", "sd"):
        np.testing.assert_allclose(getattr(alone, name), getattr(run, name))
    without_error = [single_voxel_estimate(1, 1, 2), single_voxel_estimate(1, 1)]
    combined = combine_estimates(without_error, shared=0.75)
    assert combined.sd is combined.shared_sd is None
    assert combined.total_variance.item() == pytest.approx(0.5)
    for result in (alone, combined, combine_estimates(estimates(3), [0.5, 0.5, 0], shared=0.75)):
        assert result.between_variance is result.person_sd is None


def test_a_run_without_weight_adds_no_degrees_of_freedom():
    none = np.zeros((4, 5, 6))
    runs = [*estimates(3), RunEstimate(effect=none, variance=none, dof=500.0)]
    weights = [2.0, 1.0, 1.0, 0.0]
    combined = combine_estimates(runs, weights, shared=0.75)
    expected = combine_estimates(runs[:3], weights[:3], shared=0.75)
    assert combined.dof == expected.dof == 80 + 81 + 82
    for stat in ("mask", "effect", "variance", "sd", "z", "person_sd"):
        np.testing.assert_array_equal(getattr(combined, stat), getattr(expected, stat))


def test_doubled_weights_double_effect_and_sd():
    rng = np.random.default_rng(4)
    for signs in ([1, 1, 1], [1, -1, 1]):
        weights = signs * rng.uniform(0.2, 2, 3)
        once, twice = (
            combine_estimates(estimates(3), factor * weights, shared=0.75, opposite=0.4)
            for factor in (1, 2)
        )
        for stat, factor in (("effect", 2), ("sd", 2), ("variance", 4), ("t", 1), ("z", 1)):
            np.testing.assert_allclose(getattr(twice, stat), factor * getattr(once, stat))
        assert once.dof == twice.dof
        assert once.person_sd is None  # weights of a mean sum to 1


def test_a_difference_loses_the_error_that_runs_share():
    """Simulate runs with noise, shared and own errors; t of a difference has unit variance."""
    rng = np.random.default_rng(0)
    n, noise, sd, rho = 200_000, 1.0, 2.0, 0.6
    shared = rng.normal(0, sd * np.sqrt(rho), n)
    runs = [
        RunEstimate(
            effect=5 + shared + rng.normal(0, sd * np.sqrt(1 - rho), n) + rng.normal(0, noise, n),
            variance=np.full(n, noise**2),
            sd=np.full(n, sd),
            dof=1e6,
        )
        for _ in range(4)
    ]
    weights = [0.5, 0.5, -1.0, 0.0]
    difference = combine_estimates(runs, weights, shared=rho, opposite=rho)
    assert difference.t.std() == pytest.approx(1, abs=0.01)
    assert difference.variance[0] == pytest.approx(1.5)
    swapped = combine_estimates(runs, [-weight for weight in weights], shared=rho, opposite=rho)
    np.testing.assert_allclose(swapped.t, -difference.t)
    careful = combine_estimates(runs, weights, shared=rho, opposite=0.35)
    assert 0.5 < careful.t.std() < 0.9
    assert difference.person_sd is None


def test_only_runs_of_one_condition_share_their_error():
    active, inactive = single_voxel_estimate(9, 1, 1), single_voxel_estimate(1, 1, 1)
    options = {"calibrated": False, "same_condition": True}
    assert correlate_opposite(0, [active] * 2, **options) == OPPOSITE_ACTIVE
    assert correlate_opposite(5 / 6, [active] * 2, **options) == OPPOSITE_SMOOTHED
    assert correlate_opposite(5 / 6, [inactive] * 2, **options) == OPPOSITE_INACTIVE
    for other in ({"calibrated": True}, {"same_condition": False}):
        assert correlate_opposite(0, [active] * 2, **options | other) == 0
    assert correlate_opposite(5.1 / 6, [active] * 2, **options) == 0
