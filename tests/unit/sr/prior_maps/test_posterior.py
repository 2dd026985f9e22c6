"""Test draws of the reconstruction error, the scale of an effect, and the probability of a wrong
sign.
"""

import numpy as np
import pytest
import torch
from data.known_priors import (
    dense_down,
    dense_prior,
    expected,
    fluctuation,
    prior_of,
)
from scipy import ndimage, special

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.operators import level_above
from bids_sr.sr.prior_maps.add_detail import Detail
from bids_sr.sr.prior_maps.posterior import (
    N_SAMPLES,
    draw_errors,
    effect_scale,
    mean_error_sd,
    wrong_sign_probability,
)
from bids_sr.sr.threads import torch_threads

AFFINE = np.diag([-3.0, 3.0, 4.0, 1.0])


def dense_error_covariance(prior, z):
    """Return the covariance of the error above the Nyquist frequency as a matrix."""
    down, covariance = dense_down(prior.region), dense_prior(prior, z)
    cross_covariance = down @ covariance
    data = cross_covariance @ down.T + prior.noise * np.eye(len(down))
    conditional = covariance - cross_covariance.T @ np.linalg.solve(data, cross_covariance)
    level = prior.region.level
    unit = torch.eye(len(covariance)).reshape(-1, *level.highres_shape[:2])
    beyond = level.select_above_nyquist(unit).flatten(1).T.numpy()
    return beyond @ conditional @ beyond.T


@pytest.mark.parametrize(
    ("shape", "factor", "noise"),
    [
        ((10, 9, 2), (2.0, 2.0, 1.0), 0.01),
        ((12, 10, 1), (1.5, 2.0, 1.0), 0.3),
        ((8, 12, 3), (2.0, 2.0, 2.0), 0.05),
    ],
)
def test_the_sd_of_draws_equals_the_conditional_covariance(shape, factor, noise):
    prior = prior_of(shape, factor, noise=noise)
    z = prior.region.level.highres_shape[2] - 1
    errors, acquired_draws = draw_errors(prior, z, prior.make_slice_function(z), N_SAMPLES, seed=1)
    expected_sd = np.diag(dense_error_covariance(prior, z)) ** 0.5
    ratio = errors.square().mean(0).sqrt().numpy().ravel() / expected_sd
    assert abs(ratio.mean() - 1) < 0.04
    assert np.sqrt(np.square(ratio - 1).mean()) < 0.12
    down = dense_down(prior.region)
    expected_variance = np.diag(down @ dense_prior(prior, z) @ down.T)
    assert acquired_draws.square().mean(0).numpy().mean() == pytest.approx(
        expected_variance.mean(), rel=0.12
    )
    # Errors have no part in the acquired band, in which the effect is known.
    assert float(prior.region.level.downsample(errors).abs().max()) < 1e-4 * float(
        errors.abs().max()
    )


@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_the_error_of_a_mean_equals_the_conditional_covariance(noise):
    """The largest error of 64 samples over 40 regions is 25 %, the mean error 5 %."""
    prior = prior_of((14, 12, 1), (2.0, 2.0, 1.0), noise=noise)
    shape = prior.region.level.highres_shape
    errors, _ = draw_errors(prior, 0, prior.make_slice_function(0), N_SAMPLES, seed=1)
    covariance = dense_error_covariance(prior, 0)
    rng, regions = np.random.default_rng(2), []
    for size in (2, 3, 4, 5) * 10:
        x, y = (int(rng.integers(n - size)) for n in shape[:2])
        region = np.zeros(shape[:2])
        region[x : x + size, y : y + size] = 1 / size**2
        regions.append(region)
    weights = np.array(regions)
    expected_sd = np.sqrt([region.ravel() @ covariance @ region.ravel() for region in regions])
    ratio = (
        mean_error_sd(errors.reshape(N_SAMPLES, -1).numpy(), weights.reshape(len(weights), -1))
        / expected_sd
    )
    assert abs(ratio.mean() - 1) < 0.05
    assert np.abs(ratio - 1).max() < 0.25
    # errors above the acquired Nyquist frequency cancel, so that the SD is below that of
    # independent errors
    independent = np.sqrt([region.ravel() ** 2 @ np.diag(covariance) for region in regions])
    assert np.median(expected_sd / independent) < 0.8


def test_a_slice_without_fluctuations_has_no_error():
    prior = prior_of((10, 9, 2), (2.0, 2.0, 1.0))
    prior.weight[:, 1] = 0
    for draws in draw_errors(prior, 1, prior.make_slice_function(1), 4, seed=0):
        assert not draws.any()


def power_of(prior, count=N_SAMPLES):
    """Return mean squares of errors (X, Y, Z) and of acquired draws (x, y, Z)."""
    draws_of_slices = [
        draw_errors(prior, z, prior.make_slice_function(z), count, seed=z)
        for z in range(len(prior.weight[0]))
    ]
    return [
        np.stack([draws[k].square().mean(0).numpy() for draws in draws_of_slices], -1)
        for k in range(2)
    ]


@pytest.mark.parametrize(("shape", "tolerance"), [((24, 20, 4), 0.03), ((30, 21, 1), 0.06)])
def test_95_percent_intervals_contain_effects_drawn_from_the_prior(shape, tolerance):
    """Effects have an unknown scale and no noise.

    A single slice contains less information about the scale, so its intervals are less exact.
    """
    prior, generator = prior_of(shape, (2.0, 2.0, 1.0), noise=1e-3), torch.Generator()
    unit, power = power_of(prior)
    mask, level = np.ones(shape, bool), prior.region.level
    coverage, mean_scale = [], 0.0
    for seed in range(12):
        truth = 7 * fluctuation(prior, generator.manual_seed(seed))
        low_res = level.downsample(truth)
        reconstruction_error = level.select_above_nyquist(
            expected(prior, low_res[None])[0] - truth
        )
        effect = np.moveaxis(low_res.numpy(), 0, 2)
        scale = effect_scale(effect, np.zeros_like(effect), power, mask, (3.0, 3.0, 4.0))
        mean_scale += float(scale.mean()) / 12
        scale = ndimage.zoom(scale, (2, 2, 1), order=1, mode="nearest", grid_mode=True)
        error = np.moveaxis(reconstruction_error.numpy(), 0, 2)
        coverage.append((np.abs(error) < 1.96 * np.sqrt(scale * unit)).mean())
    assert np.mean(coverage) == pytest.approx(0.95, abs=tolerance)
    assert mean_scale == pytest.approx(49, rel=0.2)


@pytest.mark.parametrize("shape", [(40, 36, 6), (40, 36, 1), (9, 80, 2)])
def test_the_scale_of_an_effect_is_recovered_above_its_noise(shape):
    rng, sizes_mm = np.random.default_rng(0), (3.0, 3.0, 4.0)
    mask = np.ones(shape, bool)
    mask[:3] = False
    power = (1 + np.indices(shape)[1] / shape[1]).astype(np.float32)
    tau2 = 4 + 3 * np.sin(np.indices(shape)[1] / 12)
    variance = np.full(shape, 0.5)
    effect = rng.standard_normal(shape) * np.sqrt(tau2 * power + variance)
    effect[~mask] = np.nan
    scale = effect_scale(effect, variance, power, mask, sizes_mm)
    assert scale.dtype == np.float32
    assert np.isfinite(scale).all()
    assert not scale[~mask].any()
    inside = mask.copy()
    inside[:6] = False
    assert scale[inside].mean() == pytest.approx(tau2[inside].mean(), rel=0.2)
    # The scale is larger in regions with larger effects.
    assert np.corrcoef(scale[inside], tau2[inside])[0, 1] > 0.2


def test_the_scale_is_positive_without_an_effect_and_below_its_noise():
    rng, shape, zooms = np.random.default_rng(1), (40, 36, 6), (3.0, 3.0, 4.0)
    mask, ones = np.ones(shape, bool), np.ones(shape)
    mask[:3] = False
    noise = rng.standard_normal(shape)
    for effect, most in ((noise, 0.1), (0.7 * noise, 0.01), (0.7 * ones, 0.01)):
        scale = effect_scale(effect, ones, ones, mask, zooms)
        assert scale[mask].min() > 0
        assert scale[mask].mean() < most
    # a quiet region in an active brain
    effect = noise * np.where(np.indices(shape)[1] < 18, 3.0, 0.5)
    scale = effect_scale(effect, ones, ones, mask, zooms)
    assert scale[mask].min() > 0
    assert scale[3:, 28:].max() < 0.1 * scale[3:, :12].mean()


def test_the_scale_of_a_small_region_is_its_own():
    rng, shape = np.random.default_rng(2), (40, 36, 20)
    mask, is_active = np.ones(shape, bool), np.zeros(shape, bool)
    is_active[16:22, 16:22, 8:14] = True
    effect = rng.standard_normal(shape) * np.where(is_active, 5.0, 1.0)
    scale = effect_scale(effect, np.ones(shape), np.ones(shape), mask, (3.0, 3.0, 3.0))
    assert scale[18:20, 18:20, 10:12].mean() == pytest.approx(24, rel=0.4)
    assert np.median(scale[~is_active]) < 0.5


@pytest.mark.parametrize("axis", [1, 2])
def test_the_scale_of_anisotropic_voxels_is_of_neighborhoods_in_mm(axis):
    """The scale of a layer is more its own if the next layers are further away."""
    rng, shape = np.random.default_rng(4), (20, 20, 20)
    mask, ones, layer = np.ones(shape, bool), np.ones(shape), np.indices(shape)[axis]
    effect = rng.standard_normal(shape) * np.where(layer == 10, 5.0, 1.0)

    def compare_layers(thickness):
        zooms = np.where(np.arange(3) == axis, thickness, 3.0)
        scale = effect_scale(effect, ones, ones, mask, zooms)
        np.testing.assert_array_equal(scale, effect_scale(effect, ones, ones, mask, 2 * zooms))
        return scale[(layer == 9) | (layer == 11)].mean() / scale[layer == 10].mean()

    assert compare_layers(9.0) < 0.7 * compare_layers(3.0)


def test_the_error_changes_in_proportion_to_a_small_change_of_the_effect():
    """The SD is proportional to the square root of the scale, which is steep near a scale of 0."""
    rng, shape = np.random.default_rng(3), (24, 20, 8)
    mask, ones = np.ones(shape, bool), np.ones(shape)
    noise = rng.standard_normal(shape)

    def largest_change(step):
        return max(
            np.abs(np.diff([sd_of(size * (1 + k * step) * noise) for k in (0, 1)], axis=0)).max()
            for size in np.linspace(0.8, 1.2, 9)
        )

    def sd_of(effect):
        return np.sqrt(effect_scale(effect, ones, ones, mask, (3.0, 3.0, 3.0)))

    # A change of 1 % changes the SD of no voxel by more than a tenth of the noise.
    assert largest_change(0.01) < 0.1
    assert largest_change(0.001) == pytest.approx(largest_change(0.01) / 10, rel=0.3)


def test_the_probability_of_the_opposite_sign():
    effect = np.array([0.0, 1.96, -1.96, 3.0, 0.0, -5.0, 1e4])
    variance = np.array([1.0, 1.0, 1.0, 4.0, 0.0, 0.0, 1.0])
    with np.errstate(all="raise", under="ignore"):
        probability = wrong_sign_probability(effect, variance)
    expected = [0.5, 0.025, 0.025, special.ndtr(-1.5), 0.5, 0.5, 0.0]
    np.testing.assert_allclose(probability, expected, atol=1e-4)
    np.testing.assert_array_equal(probability, wrong_sign_probability(-effect, variance))
    assert probability.dtype == np.float32


def files_of(change, folder, threads=1, seed=3, shape=(10, 9, 2), factor=(2.0, 2.0, 1.0)):
    """Return the series with detail and the two files of draws."""
    folder.mkdir(exist_ok=True)
    high_shape, affine = hr_grid(shape, AFFINE, factor)
    values = np.random.default_rng(0).normal(500, 5, (*high_shape, 9)).astype(np.float32)
    save_image(values, affine, folder / "filled.nii", tr=2.0)
    paths = folder / "errors.nii", folder / "seen.nii"
    with torch_threads(threads), SeriesReader(folder / "filled.nii") as reader:
        Detail(source=change).add(reader, folder / "fine.nii", paths, seed=seed)
    return folder / "fine.nii", *paths


def values_of(path):
    with SeriesReader(path) as reader:
        return np.stack(list(reader.volumes()), -1), reader.affine


@pytest.mark.parametrize("factor", [(2.0, 2.0, 1.0), (1.5, 2.0, 2.0)])
def test_files_of_draws_have_the_grids_of_the_effect_and_the_acquired_data(factor, tmp_path):
    shape = (10, 9, 2)
    prior, high_shape = prior_of(shape, factor), level_above(shape, factor).highres_shape
    series, errors, acquired_path = files_of(prior, tmp_path, shape=shape, factor=factor)
    (detail, affine), (drawn_errors, errors_affine), (acquired_draws, acquired_affine) = map(
        values_of, (series, errors, acquired_path)
    )
    assert drawn_errors.shape == (*high_shape, N_SAMPLES)
    assert acquired_draws.shape == (*shape[:2], high_shape[2], N_SAMPLES)
    np.testing.assert_allclose(errors_affine, affine, atol=1e-5)
    # Slices of the acquired draws are thin: both grids cover the same field of view.
    np.testing.assert_allclose(acquired_affine[:, :2], AFFINE[:, :2], atol=1e-5)
    np.testing.assert_allclose(acquired_affine[:, 2], affine[:, 2], atol=1e-5)

    def corner(matrix):
        return matrix @ [-0.5, -0.5, -0.5, 1]

    np.testing.assert_allclose(corner(acquired_affine), corner(affine), atol=1e-4)
    expected_errors, expected_acquired = draw_errors(
        prior, 1, prior.make_slice_function(1), N_SAMPLES, seed=4
    )
    np.testing.assert_allclose(
        drawn_errors[:, :, 1], expected_errors.permute(1, 2, 0).numpy(), atol=1e-5
    )
    np.testing.assert_allclose(
        acquired_draws[:, :, 1], expected_acquired.permute(1, 2, 0).numpy(), atol=1e-5
    )
    without_draws = tmp_path / "plain.nii"
    with SeriesReader(tmp_path / "filled.nii") as reader:
        Detail(source=prior).add(reader, without_draws)
    np.testing.assert_array_equal(values_of(without_draws)[0], detail)
