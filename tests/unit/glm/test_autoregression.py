"""Autocorrelation of noise seen through a design, compared with dense matrices and simulations."""

import numpy as np
import pytest
from scipy import linalg, signal

from bids_sr.glm import autoregression
from bids_sr.glm.autoregression import orthonormal
from bids_sr.glm.lag_bands import single_lags


def basis(n=50, columns=6, seed=0):
    walks = np.random.default_rng(seed).standard_normal((n, columns)).cumsum(axis=0)
    return orthonormal(np.hstack([np.ones((n, 1)), walks]))


def expected_ratios(rho, space, order):
    """Return ratios of expected lag products of AR(1) residuals, by dense matrices."""
    n = len(space)
    projector = np.eye(n) - space @ space.T
    noise = projector @ linalg.toeplitz(rho ** np.arange(n)) @ projector
    return np.array([np.trace(noise, lag) for lag in range(1, order + 1)]) / np.trace(noise)


def test_predictors_solve_the_normal_equations():
    rho = np.array([[0.5, 0.3, 0.2], [-0.4, 0.3, 0.0]])
    predictors, variances = autoregression.levinson(rho)
    for row, (weights, variance) in enumerate(zip(predictors[3], variances[:, 3], strict=True)):
        full = np.concatenate([[1.0], rho[row]])
        expected = np.linalg.solve(linalg.toeplitz(full[:3]), full[1:])
        np.testing.assert_allclose(weights, expected, atol=1e-12)
        assert variance == pytest.approx(1 - expected @ full[1:])


@pytest.mark.parametrize("rho", [-0.3, 0.7])
def test_autocorrelation_is_recovered_from_biased_residual_ratios(rho):
    true = rho ** np.arange(1, 5)[None]
    products = autoregression.compute_expected_products(basis(120), single_lags(4))
    biased = expected_ratios(rho, basis(120), 4)[None]
    assert np.abs(biased - true).max() > 0.03
    np.testing.assert_allclose(
        autoregression.noise_autocorrelations(biased, products, single_lags(4)), true, atol=1e-4
    )


def test_bias_and_covariance_of_a_voxel_agree_with_simulation():
    space, rho, count = basis(60, 12), 0.5, 40_000
    noise = signal.lfilter(
        [1.0], [1.0, -rho], np.random.default_rng(1).standard_normal((160, count)), axis=0
    )[100:]
    residuals = noise - space @ (space.T @ noise)
    ratios = np.stack([(residuals[:-k] * residuals[k:]).sum(axis=0) for k in (1, 2, 3)]) / (
        residuals**2
    ).sum(axis=0)
    true = rho ** np.arange(1, 4)
    first_order = expected_ratios(rho, space, 3)
    products = autoregression.compute_expected_products(space, single_lags(3))
    bias, covariance = autoregression.ratio_moments(true, space, products, single_lags(3))
    error = ratios.std(axis=1) / np.sqrt(count)
    assert (np.abs(ratios.mean(axis=1) - first_order) > 10 * error)[:2].all()  # bias of a ratio
    # the bias is exact to second order
    np.testing.assert_allclose(
        ratios.mean(axis=1) - first_order, bias, atol=0.3 * np.abs(bias).max()
    )
    np.testing.assert_allclose(np.cov(ratios), covariance, atol=0.12 * covariance.max())
