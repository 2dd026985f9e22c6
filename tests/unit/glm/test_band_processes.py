"""Noise processes of bands of lags, compared with Levinson's recursion and dense matrices."""

import numpy as np
import pytest
from scipy.linalg import toeplitz

from bids_sr.glm import autoregression
from bids_sr.glm.autoregression import compute_expected_products, orthonormal
from bids_sr.glm.band_processes import find_band_processes, invert_band_ratios
from bids_sr.glm.lag_bands import LagBands, choose_bands, single_lags

WIDE = LagBands(stops=(1, 3, 8))


def fluctuations(n: int, tr: float, constant_s: float, share: float) -> np.ndarray:
    """Return autocorrelations of white noise plus fluctuations with a share of the variance."""
    rho = share * np.exp(-tr / constant_s * np.arange(n))
    rho[0] = 1
    return rho


def make_basis(n: int = 80) -> np.ndarray:
    walks = np.random.default_rng(0).standard_normal((n, 4)).cumsum(axis=0)
    return orthonormal(np.hstack([np.ones((n, 1)), walks]))


def test_single_lags_are_the_process_of_levinson() -> None:
    rho = np.array([[0.6, 0.5, 0.3], [-0.4, 0.3, 0.1], [0.0, 0.0, 0.0]])
    processes = find_band_processes(rho, single_lags(3))
    predictors = autoregression.levinson(rho)[0]
    np.testing.assert_allclose(processes.rho, rho, atol=1e-8)
    np.testing.assert_allclose(
        processes.autocorrelations(40), autoregression.autocorrelations(predictors, 40), atol=1e-7
    )
    np.testing.assert_allclose(processes.prediction_filters()[:, 1:], -predictors[-1], atol=1e-7)


@pytest.mark.parametrize("tr", [0.1, 0.5])
@pytest.mark.parametrize("constant_s", [2.0, 10.0])
def test_slow_fluctuations_are_extrapolated_from_six_bands(tr: float, constant_s: float) -> None:
    bands = choose_bands(tr, 5000)
    expected = fluctuations(int(40 / tr), tr, constant_s, 0.3)
    processes = find_band_processes(bands.average(expected[1 : bands.n_lags + 1])[None], bands)
    rho = processes.autocorrelations(len(expected))[0]
    # the sum of autocorrelations is the variance of slow effects
    assert 1 + 2 * rho[1:].sum() == pytest.approx(1 + 2 * expected[1:].sum(), rel=0.07)
    np.testing.assert_allclose(
        bands.average(rho[1 : bands.n_lags + 1]), processes.rho[0], atol=1e-7
    )


def test_filters_solve_the_normal_equations_of_the_process() -> None:
    processes = find_band_processes(np.array([[0.5, 0.35, 0.2]]), WIDE)
    rho = processes.autocorrelations(30)[0]
    errors = toeplitz(rho[:20], rho[:9]) @ processes.prediction_filters()[0]
    np.testing.assert_allclose(errors[1:], 0, atol=1e-8)


def test_noise_is_recovered_from_biased_residual_ratios() -> None:
    basis, rho = make_basis(), np.array([[0.5, 0.35, 0.2]])
    noise = toeplitz(find_band_processes(rho, WIDE).autocorrelations(len(basis))[0])
    projector = np.eye(len(basis)) - basis @ basis.T
    residual = projector @ noise @ projector
    traces = np.array([np.trace(residual, lag) for lag in range(1, 9)]) / np.trace(residual)
    target = WIDE.average(traces)[None]
    assert np.abs(target - rho).max() > 0.05
    products = compute_expected_products(basis, WIDE)
    processes, errors = invert_band_ratios(target, products, WIDE)
    np.testing.assert_allclose(processes.rho, rho, atol=1e-6)
    assert errors[0] < 1e-8
    derivatives = processes.derivatives(products)[0]
    moved = target + derivatives @ np.array([1e-4, 0, 0])
    moved_rho = invert_band_ratios(moved, products, WIDE)[0].rho
    np.testing.assert_allclose(moved_rho - rho, [[1e-4, 0, 0]], atol=2e-7)


@pytest.mark.parametrize(
    ("tr", "constant_s"), [(0.1, 50.0), (0.5, 36.0), (0.5, 100.0), (1.0, 1e4)]
)
def test_processes_with_a_long_memory_are_approximated(tr: float, constant_s: float) -> None:
    n = int(200 / tr)
    cosines = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(4)) / n)
    basis, bands = orthonormal(cosines), choose_bands(tr, n - 4)
    products = compute_expected_products(basis, bands)
    power, *lag_products = products @ fluctuations(n, tr, constant_s, 1.0)
    target = np.array([lag_products]) / power
    rho = autoregression.noise_autocorrelations(target, products, bands)
    # noise of lower memory, or white noise, would have far smaller variances of slow effects
    noise = find_band_processes(rho, bands).autocorrelations(n)[0]
    ratios = (products @ noise)[1:] / (products @ noise)[0]
    np.testing.assert_allclose(ratios, target[0], atol=0.03)


def test_moments_of_ratios_equal_dense_matrices() -> None:
    basis, rho = make_basis(), np.array([0.5, 0.35, 0.2])
    n = len(basis)
    noise = toeplitz(find_band_processes(rho[None], WIDE).autocorrelations(n)[0])
    projector = np.eye(n) - basis @ basis.T
    residual = projector @ noise @ projector
    shifts = [(np.eye(n, k=lag) + np.eye(n, k=-lag)) / 2 for lag in range(1, 9)]
    forms = [np.eye(n), *WIDE.average(np.array(shifts))]
    moved = [form @ residual for form in forms]
    means = np.array([np.trace(form) for form in moved])
    covariances = np.array([[2 * np.sum(one * two.T) for two in moved] for one in moved])
    ratios = means / means[0]
    slopes = np.hstack([-ratios[1:, None], np.eye(3)]) / means[0]
    bias, covariance = autoregression.ratio_moments(
        rho, basis, compute_expected_products(basis, WIDE), WIDE
    )
    np.testing.assert_allclose(covariance, slopes @ covariances @ slopes.T, rtol=1e-6)
    expected_bias = (ratios * covariances[0, 0] - covariances[0]) / means[0] ** 2
    np.testing.assert_allclose(bias, expected_bias[1:], rtol=1e-6)
