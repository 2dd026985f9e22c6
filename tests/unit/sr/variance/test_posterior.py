"""Draws of the error of a reconstruction, the scale of an effect, and the sign it may have."""

import numpy as np
import pytest
import torch
from scipy import ndimage, special
from variance_helpers import dense_down, dense_prior, drawn, expected, fluctuation, prior_of, sizes

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.operators import level_above
from bids_sr.sr.threads import torch_threads
from bids_sr.sr.variance.in_reference import Detail, Modulation
from bids_sr.sr.variance.posterior import DRAWS, effect_scale, error_draws, wrong_sign

AFFINE = np.diag([-3.0, 3.0, 4.0, 1.0])


def errors_by_hand(prior, z):
    """The covariance of the error beyond the acquired band, as a matrix."""
    down, own = dense_down(prior.whole), dense_prior(prior, z)
    seen = down @ own
    data = seen @ down.T + prior.noise * np.eye(len(down))
    left = own - seen.T @ np.linalg.solve(data, seen)
    level = prior.whole.level
    unit = torch.eye(len(own)).reshape(-1, *level.fine[:2])
    beyond = level.beyond(unit).flatten(1).T.numpy()
    return beyond @ left @ beyond.T


@pytest.mark.parametrize(
    ("shape", "factor", "noise"),
    [
        ((10, 9, 2), (2.0, 2.0, 1.0), 0.01),
        ((12, 10, 1), (1.5, 2.0, 1.0), 0.3),
        ((8, 12, 3), (2.0, 2.0, 2.0), 0.05),
    ],
)
def test_the_sd_of_draws_is_that_of_the_conditional_covariance(shape, factor, noise):
    prior = prior_of(shape, factor, noise=noise)
    z = prior.whole.level.fine[2] - 1
    errors, seen = error_draws(prior, z, prior.at(z), DRAWS, seed=1)
    known = np.diag(errors_by_hand(prior, z)) ** 0.5
    ratio = errors.square().mean(0).sqrt().numpy().ravel() / known
    assert abs(ratio.mean() - 1) < 0.04
    assert np.sqrt(np.square(ratio - 1).mean()) < 0.12
    down = dense_down(prior.whole)
    known = np.diag(down @ dense_prior(prior, z) @ down.T)
    assert seen.square().mean(0).numpy().mean() == pytest.approx(known.mean(), rel=0.12)
    # nothing of it is in the acquired band, where the effect is known
    assert float(prior.whole.level.down(errors).abs().max()) < 1e-4 * float(errors.abs().max())


def test_a_slice_without_fluctuations_has_no_error():
    prior = prior_of((10, 9, 2), (2.0, 2.0, 1.0))
    prior.weight[:, 1] = 0
    for each in error_draws(prior, 1, prior.at(1), 4, seed=0):
        assert not each.any()


def power_of(prior, count=DRAWS):
    """Mean squares of errors (X, Y, Z) and of acquired draws (x, y, Z)."""
    found = [
        error_draws(prior, z, prior.at(z), count, seed=z) for z in range(len(prior.weight[0]))
    ]
    return [np.stack([each[k].square().mean(0).numpy() for each in found], -1) for k in range(2)]


@pytest.mark.parametrize(("shape", "within"), [((24, 20, 4), 0.03), ((30, 21, 1), 0.06)])
def test_intervals_of_effects_of_the_prior_hold_them(shape, within):
    """Effects with a scale that is not known, seen without noise: 95 % intervals of the detail. A
    slice alone tells less of the scale, which makes them narrower.
    """
    prior, generator = prior_of(shape, (2.0, 2.0, 1.0), noise=1e-3), torch.Generator()
    unit, power = power_of(prior)
    mask, level = np.ones(shape, bool), prior.whole.level
    inside, among = [], 0.0
    for seed in range(12):
        truth = 7 * fluctuation(prior, generator.manual_seed(seed))
        low = level.down(truth)
        found = level.beyond(expected(prior, low[None])[0] - truth)
        seen = np.moveaxis(low.numpy(), 0, 2)
        scale = effect_scale(seen, np.zeros_like(seen), power, mask, (3.0, 3.0, 4.0))
        among += float(scale.mean()) / 12
        scale = ndimage.zoom(scale, (2, 2, 1), order=1, mode="nearest", grid_mode=True)
        error = np.moveaxis(found.numpy(), 0, 2)
        inside.append((np.abs(error) < 1.96 * np.sqrt(scale * unit)).mean())
    assert np.mean(inside) == pytest.approx(0.95, abs=within)
    assert among == pytest.approx(49, rel=0.2)


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
    found = effect_scale(effect, variance, power, mask, sizes_mm)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert not found[~mask].any()
    inside = mask.copy()
    inside[:6] = False
    assert found[inside].mean() == pytest.approx(tau2[inside].mean(), rel=0.2)
    # a place of more than it has a scale of more
    assert np.corrcoef(found[inside], tau2[inside])[0, 1] > 0.2
    # as large as its noise and smaller
    assert not effect_scale(0.7 * np.ones(shape), variance, power, mask, sizes_mm).any()
    alone = rng.standard_normal(shape)
    assert effect_scale(alone, np.ones(shape), power, mask, sizes_mm).mean() < 0.5


def test_a_scale_is_finite_where_something_is_missing():
    shape, zooms = (12, 10, 1), (2.0, 2.0, 3.0)
    effect, mask = np.ones(shape, np.float32), np.ones(shape, bool)
    variance, power = np.full(shape, 0.25, np.float32), np.ones(shape, np.float32)
    variance[4], effect[4] = 0, 0  # a voxel that does not vary
    found = effect_scale(effect, variance, power, mask, zooms)
    assert np.isfinite(found).all()
    assert found[0].mean() == pytest.approx(0.75, rel=0.01)
    assert not effect_scale(effect, variance, 0 * power, mask, zooms).any()
    assert not effect_scale(effect, variance, power, ~mask, zooms).any()


def test_the_probability_of_the_opposite_sign():
    effect = np.array([0.0, 1.96, -1.96, 3.0, 0.0, -5.0, 1e4])
    variance = np.array([1.0, 1.0, 1.0, 4.0, 0.0, 0.0, 1.0])
    with np.errstate(all="raise", under="ignore"):
        found = wrong_sign(effect, variance)
    known = [0.5, 0.025, 0.025, special.ndtr(-1.5), 0.5, 0.5, 0.0]
    np.testing.assert_allclose(found, known, atol=1e-4)
    np.testing.assert_array_equal(found, wrong_sign(-effect, variance))
    assert found.dtype == np.float32


def files_of(prior_or_other, folder, threads=1, seed=3, shape=(10, 9, 2), factor=(2.0, 2.0, 1.0)):
    """The series with detail, and the two files of draws."""
    folder.mkdir(exist_ok=True)
    fine, affine = hr_grid(shape, AFFINE, factor)
    values = np.random.default_rng(0).normal(500, 5, (*fine, 9)).astype(np.float32)
    save_image(values, affine, folder / "filled.nii", tr=2.0)
    paths = folder / "errors.nii", folder / "seen.nii"
    with torch_threads(threads), SeriesReader(folder / "filled.nii") as reader:
        Detail(change=prior_or_other).add(reader, folder / "fine.nii", paths, seed=seed)
    return folder / "fine.nii", *paths


def values_of(path):
    with SeriesReader(path) as reader:
        return reader.slab(0, reader.shape[2]).copy(), reader.affine


@pytest.mark.parametrize("factor", [(2.0, 2.0, 1.0), (1.5, 2.0, 2.0)])
def test_files_of_draws_are_on_the_grids_of_what_they_are_of(factor, tmp_path):
    shape = (10, 9, 2)
    prior, fine = prior_of(shape, factor), level_above(shape, factor).fine
    series, errors, seen = files_of(prior, tmp_path, shape=shape, factor=factor)
    (detailed, affine), (drawn_errors, there), (low, below) = map(
        values_of, (series, errors, seen)
    )
    assert drawn_errors.shape == (*fine, DRAWS)
    assert low.shape == (*shape[:2], fine[2], DRAWS)
    np.testing.assert_allclose(there, affine, atol=1e-5)
    # thin slices of the acquired grid in plane: both cover one field of view
    np.testing.assert_allclose(below[:, :2], AFFINE[:, :2], atol=1e-5)
    np.testing.assert_allclose(below[:, 2], affine[:, 2], atol=1e-5)

    def corner(matrix):
        return matrix @ [-0.5, -0.5, -0.5, 1]

    np.testing.assert_allclose(corner(below), corner(affine), atol=1e-4)
    known, known_low = error_draws(prior, 1, prior.at(1), DRAWS, seed=4)
    np.testing.assert_allclose(drawn_errors[:, :, 1], known.permute(1, 2, 0).numpy(), atol=1e-5)
    np.testing.assert_allclose(low[:, :, 1], known_low.permute(1, 2, 0).numpy(), atol=1e-5)
    plain = tmp_path / "plain.nii"
    with SeriesReader(tmp_path / "filled.nii") as reader:
        Detail(change=prior).add(reader, plain)
    np.testing.assert_array_equal(values_of(plain)[0], detailed)


def test_draws_are_the_same_for_one_seed_and_any_number_of_threads(tmp_path):
    prior = prior_of((10, 9, 2), (2.0, 2.0, 1.0))
    once = files_of(prior, tmp_path / "a")
    again = files_of(prior, tmp_path / "b", threads=3)
    other = files_of(prior, tmp_path / "c", seed=50)
    for one, two, three in zip(once[1:], again[1:], other[1:], strict=True):
        values = values_of(one)[0]
        np.testing.assert_array_equal(values, values_of(two)[0])
        assert np.abs(values - values_of(three)[0]).max() > 0.1 * values.std()
    # slices have draws of their own
    correlation = np.corrcoef(values[:, :, 0].ravel(), values[:, :, 1].ravel())[0, 1]
    assert abs(correlation) < 0.1


def test_what_has_no_prior_has_no_draws(tmp_path):
    whole = prior_of((10, 9, 2), (2.0, 2.0, 1.0)).whole
    control = Modulation(whole=whole, weight=drawn(0, *sizes(whole)).abs() + 0.1)
    for change in (control, None):
        series, errors, seen = files_of(change, tmp_path)
        assert series.is_file()
        assert not errors.exists()
        assert not seen.exists()
