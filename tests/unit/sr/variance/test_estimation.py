"""Variance maps from what was acquired, where the map that made the data is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from variance_helpers import (
    acquired,
    dense_covariance,
    fluctuation,
    patchy,
    prior_of,
    sizes,
    whole_of,
)

from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.variance.estimation import estimate_prior, filled_sd
from bids_sr.sr.variance.one_level_down import _added_by, _explained_share
from bids_sr.sr.variance.prior import Prior

SBL = VarianceRecipe()
FIRST = VarianceRecipe(fwhm=(2.0,), rounds=0, equalize=0.0)
"""The standard deviation of the zero-filled change, before anything is learned."""


@pytest.fixture(scope="module")
def scene():
    """(truth as a prior, 40 components of it, 20 further fine images)."""
    whole = whole_of((20, 22, 2), (2, 2, 1))
    map_ = patchy(whole, 3) * 50
    truth = Prior(whole=whole, weight=torch.stack([map_, map_ * 0.7]), fwhm=SBL.fwhm, noise=0.0)
    truth = replace(truth, noise=1e-3 * truth.mean_variance)
    generator = torch.Generator().manual_seed(0)
    components = torch.stack([acquired(truth, generator) for _ in range(40)])
    return truth, components, torch.stack([fluctuation(truth, generator) for _ in range(20)])


@pytest.fixture(scope="module")
def found(scene):
    truth, components, _ = scene
    return {
        name: estimate_prior(components, truth.whole, e)
        for name, e in (("sbl", SBL), ("first", FIRST))
    }


def size(prior):
    """The map of a prior as one image, logarithm."""
    return prior.weight.square().sum(0).sqrt().log().numpy().ravel()


def test_learning_recovers_the_map_better_than_the_standard_deviation_of_the_change(scene, found):
    likeness = {
        kind: np.corrcoef(size(prior), size(scene[0]))[0, 1] for kind, prior in found.items()
    }
    assert likeness["sbl"] > 0.85
    assert likeness["sbl"] > likeness["first"] + 0.05
    # the map has the unit of the data: the variance that it gives them is theirs, summed over
    # components
    data = scene[1].square().sum(0).mean()
    for prior in found.values():
        assert prior.mean_variance == pytest.approx(float(data), rel=1e-3)


def test_learning_explains_images_that_it_has_not_seen_nearly_as_the_true_map_does(scene, found):
    truth, _, fine = scene
    everywhere = torch.ones(fine.shape[1:], dtype=torch.bool)
    share = {
        k: _explained_share(_added_by(p, truth.whole.level), truth.whole.level, fine, everywhere)
        for k, p in found.items()
    }
    oracle = _explained_share(
        _added_by(truth, truth.whole.level), truth.whole.level, fine, everywhere
    )
    assert share["sbl"] > 0.8 * oracle
    assert oracle > share["sbl"] > share["first"] + 0.02
    assert share["first"] > 0


def test_a_share_is_one_for_the_truth_zero_for_nothing_and_less_for_harm(scene):
    truth, _, fine = scene
    level, everywhere = truth.whole.level, torch.ones(fine.shape[1:], dtype=torch.bool)

    def fake(gain):
        return lambda coarse: [gain * level.beyond(fine[0])]

    for gain, share in ((1.0, 1.0), (0.0, 0.0), (0.5, 0.75), (-1.0, -3.0)):
        assert _explained_share(fake(gain), level, fine[:1], everywhere) == pytest.approx(
            share, abs=1e-4
        )
    assert _explained_share(fake(1.0), level, 0 * fine[:1], everywhere) == 0


def test_the_likelihood_of_the_data_grows_with_each_round():
    """By the determinant, up to the scale of the covariance, set to the data at the end."""
    truth = prior_of((8, 8, 1), (2, 2, 1), noise=0.01, spread=1.0)
    generator = torch.Generator().manual_seed(1)
    data = torch.stack([acquired(truth, generator) for _ in range(40)])
    flat = data.reshape(40, -1).numpy().astype(float)

    def likelihood(prior):
        covariance = dense_covariance(prior)
        energy = np.trace(flat @ np.linalg.solve(covariance, flat.T)) / flat.size
        return -0.5 * (np.linalg.slogdet(covariance)[1] + len(covariance) * np.log(energy))

    plain = VarianceRecipe(noise=0.01, draws=300, equalize=0.0, smooth=0.0, across=0.0, pull=0.0)
    course = [
        likelihood(estimate_prior(data, truth.whole, replace(plain, rounds=n)))
        for n in (0, 1, 2, 4)
    ]
    assert np.all(np.diff(course) > 0.1), course
    # with ratios smoothed and maps drawn to their neighborhood, as they are by default, it still
    # grows
    gentle = [
        likelihood(estimate_prior(data, truth.whole, replace(SBL, noise=0.01, rounds=n)))
        for n in (0, 6)
    ]
    assert gentle[1] > gentle[0] + 0.1, gentle


@pytest.mark.parametrize(
    "estimator", [replace(SBL, rounds=2, draws=6), FIRST], ids=["sbl", "first"]
)
@pytest.mark.parametrize("unit", [1e-9, 1e6])
def test_the_unit_of_the_data_is_that_of_the_map(scene, estimator, unit):
    truth, components, _ = scene
    one = estimate_prior(components[:8], truth.whole, estimator)
    other = estimate_prior(components[:8] * unit, truth.whole, estimator)
    # steps of the solver stop at the same residual, but single precision rounds otherwise
    torch.testing.assert_close(other.weight / unit, one.weight, rtol=0.02, atol=0.0)
    assert other.noise / unit**2 == pytest.approx(one.noise, rel=1e-4)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(scene):
    truth, components, _ = scene
    quick = replace(SBL, rounds=2, draws=6)
    one, same, other = (
        estimate_prior(components[:8], truth.whole, quick, seed=s).weight for s in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_components_that_cannot_be_used_are_refused(scene):
    truth, components, _ = scene
    broken = components[:3].clone()
    broken[1, 0, 3, 3] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        estimate_prior(broken, truth.whole, SBL)
    for estimator in (SBL, FIRST):
        with pytest.raises(ValueError, match="zero in all voxels"):
            estimate_prior(torch.zeros_like(broken), truth.whole, estimator)


def test_where_nothing_fluctuates_the_map_is_small_and_positive(scene):
    truth, components, _ = scene
    half = components[:8].clone()
    half[:, :, :10] = 0
    for estimator in (replace(SBL, rounds=3, draws=8), FIRST):
        weight = estimate_prior(half, truth.whole, estimator).weight
        assert bool((weight > 0).all())
        assert float(weight[:, :, :14].mean()) < 0.2 * float(weight[:, :, 26:].mean())


@pytest.mark.parametrize(
    ("shape", "factor"), [((12, 10, 4), (2, 2, 2)), ((12, 11, 3), (1.5, 1.5, 1))]
)
def test_any_factor(shape, factor):
    truth = prior_of(shape, factor, noise=1e-3)
    generator = torch.Generator().manual_seed(0)
    data = torch.stack([acquired(truth, generator) for _ in range(10)])
    told = []
    for estimator in (replace(SBL, rounds=2, draws=6), FIRST):
        prior = estimate_prior(
            data, truth.whole, estimator, progress=lambda *done: told.append(done)
        )
        assert prior.weight.shape == (len(estimator.fwhm), *sizes(truth.whole))
        assert bool((torch.isfinite(prior.weight) & (prior.weight > 0)).all())
        assert bool(torch.isfinite(prior.at(0)(data[:, 0])).all())
    assert told == [(1, 2), (2, 2)]


def test_the_control_has_the_deviation_of_the_zero_filled_change(scene):
    truth, components, _ = scene
    whole, level = truth.whole, truth.whole.level
    known = torch.stack([level.up(c) for c in components]).square().mean(0).sqrt()
    torch.testing.assert_close(filled_sd(components, whole), known)
    control = estimate_prior(components, whole, VarianceRecipe(kind="sdmod", fwhm=(), rounds=0))
    torch.testing.assert_close(control.weight[0], known)
