"""Test prior SD maps estimated from acquired data with a known map."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from data.known_priors import (
    acquired,
    dense_covariance,
    expected,
    fluctuation,
    patchy,
    prior_of,
    sizes,
    whole_of,
)

from bids_sr.sr.prior_maps.estimation import compute_filled_sd, estimate_prior
from bids_sr.sr.prior_maps.prior import Prior
from bids_sr.sr.recipe import VarianceRecipe

SBL = VarianceRecipe()
QUICK = replace(SBL, rounds=2, draws=6)
FIRST = VarianceRecipe(fwhm=(2.0,), rounds=0, equalize=0.0)
"""Standard deviation of the zero-filled change, without sparse Bayesian learning."""


@pytest.fixture(scope="module")
def scene():
    """Return (true prior, 40 components simulated from it, 20 other high-resolution images)."""
    grid = whole_of((20, 22, 2), (2, 2, 1))
    map_ = patchy(grid, 3) * 50
    truth = Prior(region=grid, weight=torch.stack([map_, map_ * 0.7]), fwhm=SBL.fwhm, noise=0.0)
    truth = replace(truth, noise=1e-3 * truth.mean_variance)
    generator = torch.Generator().manual_seed(0)
    components = torch.stack([acquired(truth, generator) for _ in range(40)])
    return truth, components, torch.stack([fluctuation(truth, generator) for _ in range(20)])


@pytest.fixture(scope="module")
def estimated(scene):
    truth, components, _ = scene
    return {
        name: estimate_prior(components, truth.region, estimator)
        for name, estimator in (("sbl", SBL), ("first", FIRST))
    }


def size(prior):
    """Return the logarithm of a prior's map as one vector."""
    return prior.weight.square().sum(0).sqrt().log().numpy().ravel()


def explained(prior, images):
    """Return the share of the detail of high-resolution images that a prior explains."""
    level = prior.region.level
    detail = level.select_above_nyquist(images)
    low_res = torch.stack([level.downsample(image) for image in images])
    residual = detail - level.select_above_nyquist(expected(prior, low_res))
    return 1 - float(residual.square().sum() / detail.square().sum())


def test_learning_recovers_the_map_better_than_the_sd_of_the_change(scene, estimated):
    correlation = {
        kind: np.corrcoef(size(prior), size(scene[0]))[0, 1] for kind, prior in estimated.items()
    }
    assert correlation["sbl"] > 0.85
    assert correlation["sbl"] > correlation["first"] + 0.05
    # The map has the unit of the data: the prior's variance of the data equals their variance,
    # summed over components.
    data = scene[1].square().sum(0).mean()
    for prior in estimated.values():
        assert prior.mean_variance == pytest.approx(float(data), rel=1e-3)


def test_learning_explains_new_images_nearly_as_well_as_the_true_map(scene, estimated):
    truth, _, images = scene
    share = {kind: explained(prior, images) for kind, prior in estimated.items()}
    oracle = explained(truth, images)
    assert share["sbl"] > 0.8 * oracle
    assert oracle > share["sbl"] > share["first"] + 0.02
    assert share["first"] > 0


def test_the_likelihood_of_the_data_grows_with_each_round():
    """Compute it from the determinant, up to the scale of the covariance, which is fitted to the
    data at the end.
    """
    truth = prior_of((8, 8, 1), (2, 2, 1), noise=0.01, spread=1.0)
    generator = torch.Generator().manual_seed(1)
    data = torch.stack([acquired(truth, generator) for _ in range(40)])
    flat = data.reshape(40, -1).numpy().astype(float)

    def likelihood(prior):
        covariance = dense_covariance(prior)
        energy = np.trace(flat @ np.linalg.solve(covariance, flat.T)) / flat.size
        return -0.5 * (np.linalg.slogdet(covariance)[1] + len(covariance) * np.log(energy))

    unregularized = VarianceRecipe(
        noise=0.01, draws=300, equalize=0.0, smooth=0.0, across=0.0, pull=0.0
    )
    likelihoods = [
        likelihood(estimate_prior(data, truth.region, replace(unregularized, rounds=n)))
        for n in (0, 1, 2, 4)
    ]
    assert np.all(np.diff(likelihoods) > 0.1), likelihoods
    # The likelihood also grows with the default regularization: smoothed ratios and maps drawn to
    # their neighborhood.
    regularized = [
        likelihood(estimate_prior(data, truth.region, replace(SBL, noise=0.01, rounds=n)))
        for n in (0, 6)
    ]
    assert regularized[1] > regularized[0] + 0.1, regularized


def test_the_map_is_small_and_positive_without_fluctuations(scene):
    truth, components, _ = scene
    half = components[:8].clone()
    half[:, :, :10] = 0
    for estimator in (replace(SBL, rounds=3, draws=8), FIRST):
        weight = estimate_prior(half, truth.region, estimator).weight
        assert bool((weight > 0).all())
        assert float(weight[:, :, :14].mean()) < 0.2 * float(weight[:, :, 26:].mean())


@pytest.mark.parametrize(
    ("shape", "factor"), [((12, 10, 4), (2, 2, 2)), ((12, 11, 3), (1.5, 1.5, 1))]
)
def test_any_factor_is_supported(shape, factor):
    truth = prior_of(shape, factor, noise=1e-3)
    generator = torch.Generator().manual_seed(0)
    data = torch.stack([acquired(truth, generator) for _ in range(10)])
    for estimator in (QUICK, FIRST):
        prior = estimate_prior(data, truth.region, estimator)
        assert prior.weight.shape == (len(estimator.fwhm), *sizes(truth.region))
        assert bool((torch.isfinite(prior.weight) & (prior.weight > 0)).all())
        assert bool(torch.isfinite(prior.make_slice_function(0)(data[:, 0])).all())


def test_the_control_has_the_sd_of_the_zero_filled_change(scene):
    truth, components, _ = scene
    grid, level = truth.region, truth.region.level
    zero_filled_sd = (
        torch.stack([level.upsample(component) for component in components])
        .square()
        .mean(0)
        .sqrt()
    )
    torch.testing.assert_close(compute_filled_sd(components, grid), zero_filled_sd)
    sdmod = estimate_prior(components, grid, VarianceRecipe(kind="sdmod", fwhm=(), rounds=0))
    torch.testing.assert_close(sdmod.weight[0], zero_filled_sd)
