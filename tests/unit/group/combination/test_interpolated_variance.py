"""Variance of interpolated noise, compared with interpolations of simulated noise."""

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.group.combination.interpolated_variance import (
    compute_variance_factor,
    noise_autocorrelation,
)
from bids_sr.group.combination.placement import find_nearest_voxels
from bids_sr.spatial.resampling import sample_volume

SHAPE = (40, 40, 20)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])


def noise(sigma, seed=0):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), sigma)
    return values / values.std()


def shifted_by(*voxels):
    xfm = np.eye(4)
    xfm[:3, 3] = np.multiply(voxels, np.diag(AFFINE)[:3])
    return xfm


@pytest.mark.parametrize("sigma", [0.0, 0.5, (0.9, 0.9, 0.0)])
def test_the_factor_equals_the_variance_ratio_of_interpolated_noise(sigma):
    xfm = shifted_by(0.5, 0.3, 0.45)
    inside = (slice(5, -5),) * 3
    ratios = []
    for seed in range(3):
        original = noise(sigma, seed).astype(np.float32)
        interpolated = sample_volume(original, AFFINE, SHAPE, AFFINE, xfm)
        ratios.append(interpolated[inside].var() / original[inside].var())
    mask = np.ones(SHAPE, bool)
    factor = compute_variance_factor(
        noise_autocorrelation(noise(sigma), mask), SHAPE, AFFINE, AFFINE, xfm
    )
    assert factor[inside].mean() == pytest.approx(np.mean(ratios), rel=0.05)
    assert factor.std() == pytest.approx(0, abs=1e-5)


def test_variance_is_not_reduced_next_to_extrapolated_values():
    """Copies of a voxel are not averaged; variances would be a third too small."""
    brain = np.zeros(SHAPE, bool)
    brain[8:-8, 8:-8, 4:-4] = True
    rng = np.random.default_rng(0)
    for motion in ((0.4, 0.0, 0.3), (-0.2, 0.45, -0.1)):
        xfm = shifted_by(*motion)
        outside = np.zeros(SHAPE, bool)  # points beyond the outermost voxels of the brain
        for axis, distance in enumerate(motion):
            face = np.moveaxis(outside, axis, 0)
            margin = 4 if axis == 2 else 8
            face[-margin - 1 if distance > 0 else margin] = distance != 0
        outside &= brain
        ratios = []
        for _ in range(20):
            values = rng.normal(size=SHAPE)
            white = noise_autocorrelation(values, brain)
            filled = values[find_nearest_voxels(brain)].astype(np.float32)
            moved = sample_volume(filled, AFFINE, SHAPE, AFFINE, xfm)
            factor = compute_variance_factor(white, SHAPE, AFFINE, AFFINE, xfm, brain)
            ratios.append(
                [np.mean(np.square(moved[at]) / factor[at]) for at in (outside, brain & ~outside)]
            )
        at_edge, inside = np.mean(ratios, axis=0)
        assert 0.8 < at_edge < 1.05
        assert inside == pytest.approx(0.95, abs=0.05)


def test_variance_is_unchanged_at_voxel_centers_and_in_smooth_noise():
    mask = np.ones(SHAPE, bool)
    white = noise_autocorrelation(noise(0.0), mask)
    at_voxels = compute_variance_factor(white, SHAPE, AFFINE, AFFINE, shifted_by(1, 0, -2))
    np.testing.assert_allclose(at_voxels, 1, atol=1e-4)
    smooth = noise_autocorrelation(noise(2.5), mask)
    between = compute_variance_factor(smooth, SHAPE, AFFINE, AFFINE, shifted_by(0.5, 0.5, 0.5))
    assert between.min() > 0.9


def test_noise_autocorrelation_equals_the_gaussian_closed_form():
    mask = np.ones(SHAPE, bool)
    autocorrelation = noise_autocorrelation(noise((1.0, 0.0, 0.0)), mask)
    # autocorrelation of a Gaussian of standard deviation 1: exp(-lag^2 / 4)
    np.testing.assert_allclose(autocorrelation[0, :3], np.exp([0, -0.25, -1.0]), atol=0.06)
    np.testing.assert_allclose(autocorrelation[1:, 1], 0, atol=0.03)


def test_activation_is_not_mistaken_for_smooth_noise():
    active = noise(0.0)
    active[10:20, 10:20] += 10
    autocorrelation = noise_autocorrelation(active, np.ones(SHAPE, bool))
    np.testing.assert_allclose(autocorrelation[:, 1], 0, atol=0.03)
