"""The prior against every matrix written down by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from variance_helpers import (
    acquired,
    dense_covariance,
    dense_down,
    dense_prior,
    drawn,
    expected,
    fluctuation,
    patchy,
    prior_of,
    sizes,
    whole_of,
)

from bids_sr.sr.method import get_method
from bids_sr.sr.operators import level_above, to_slices
from bids_sr.sr.variance import prior as prior_module
from bids_sr.sr.variance.estimation import estimate_prior
from bids_sr.sr.variance.prior import Prior, Tile, correlation, covariance, data_covariance

GRIDS = [((8, 7, 2), (2, 2, 1)), ((6, 9, 2), (1.5, 1.5, 1)), ((5, 6, 3), (2, 2, 2))]
FACTOR = (2.0, 2.0, 1.0)


def distance(a, b):
    """|a - b| / |b|."""
    a, b = (np.asarray(each, float) for each in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def signed(shape=(10, 12, 2), noise=0.05):
    """A prior with two maps and three patterns, which have signs."""
    whole = whole_of(shape, FACTOR)
    maps = torch.cat([drawn(1, 2, *sizes(whole)).abs() + 0.1, drawn(2, 3, *sizes(whole))])
    return Prior(whole=whole, weight=maps, fwhm=(3.0, 1.5, 8.0, 8.0, 8.0), noise=noise)


@pytest.mark.parametrize("fwhm", [1.5, 3.0])
def test_no_correlation_is_a_subnormal_number(fwhm):
    """Many processors are slow with them, and they change no sum."""
    found = correlation(96, fwhm)
    assert float(found[found != 0].min()) >= 1e-20
    gap = np.subtract.outer(np.arange(96), np.arange(96))
    np.testing.assert_allclose(found, np.exp(-4 * np.log(2) * gap**2 / fwhm**2), atol=1e-6)


@pytest.mark.parametrize("make", [signed, lambda: prior_of((9, 8, 2), FACTOR)])
def test_covariances_are_the_dense_ones(make):
    prior = make()
    whole, down = prior.whole, dense_down(prior.whole)
    for z in range(2):
        maps, known = prior.weight[:, z], dense_prior(prior, z)
        data = covariance(maps, prior.fwhm, whole.down, whole.down)
        assert distance(data, down @ known @ down.T) < 1e-5
        each = torch.eye(maps.shape[1]), torch.eye(maps.shape[2])
        assert distance(covariance(maps, prior.fwhm, whole.down, each), known @ down.T) < 1e-5
        left = drawn(7, 3, whole.level.fine[0]), drawn(8, 5, whole.level.fine[1])
        some = np.kron(left[0].numpy(), left[1].numpy()).astype(float)
        found = covariance(maps, prior.fwhm, whole.down, left)
        assert distance(found, some @ known @ down.T) < 1e-5


@pytest.mark.parametrize("fwhm", [(3.0, 1.5), (1.0,), (2.0, 9.0, 1.2)])
def test_the_covariance_of_data_is_the_dense_one(fwhm):
    prior = prior_of((17, 12, 2), FACTOR, fwhm=fwhm)  # more rows than are computed at once
    whole, down = prior.whole, dense_down(prior.whole)
    for z in range(2):
        found = data_covariance(prior.weight[:, z], fwhm, whole.down)
        assert distance(np.tril(found), np.tril(down @ dense_prior(prior, z) @ down.T)) < 1e-5


@pytest.mark.parametrize("make", [signed, lambda: prior_of((9, 8, 2), FACTOR)])
def test_roots_are_those_of_the_dense_covariance(make):
    prior = make()
    for z in range(2):
        root = np.tril(prior.root(z, prior.whole)).astype(float)
        assert distance(root @ root.T, dense_covariance(prior, z)) < 1e-5


@pytest.mark.parametrize(("shape", "factor"), GRIDS)
def test_what_is_expected_is_the_dense_conditional_mean(shape, factor):
    prior = prior_of(shape, factor)
    data = torch.stack([acquired(prior, torch.Generator().manual_seed(k)) for k in range(3)])
    found, down = expected(prior, data), dense_down(prior.whole)
    for z in range(prior.whole.level.fine[2]):
        solved = np.linalg.solve(dense_covariance(prior, z), data[:, z].flatten(1).numpy().T)
        known = dense_prior(prior, z) @ down.T @ solved
        assert distance(found[:, z].flatten(1).T, known) < 1e-3


def test_patterns_have_signs():
    prior, data = signed(), drawn(3, 4, 2, 10, 12)
    down = dense_down(prior.whole)
    known = (
        dense_prior(prior)
        @ down.T
        @ np.linalg.solve(dense_covariance(prior), data[:, 0].flatten(1).numpy().T)
    )
    assert distance(expected(prior, data)[:, 0].flatten(1).T, known) < 1e-3


@pytest.mark.parametrize(("shape", "factor"), GRIDS)
def test_the_mean_variance_is_exact(shape, factor):
    prior = prior_of(shape, factor)
    count = prior.whole.level.fine[2]
    known = np.mean([np.trace(dense_covariance(prior, z)) for z in range(count)])
    known = known / np.prod(shape[:2]) - prior.noise
    assert prior.mean_variance == pytest.approx(known, rel=1e-4)
    assert prior.scaled(3.0).mean_variance == pytest.approx(3.0, rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(8, 70),
    st.integers(8, 70),
    st.sampled_from([1, 1.25, 1.5, 2, 3]),
    st.integers(1, 12),
)
def test_tiles_make_each_voxel_once_of_data_around_it(x, y, factor, reach):
    whole = whole_of((x, y, 1), (factor, factor, 1))
    count = torch.zeros(whole.level.fine[:2])
    for tile in whole.parts(reach, 0):
        count[tile.made] += 1
        assert tuple(len(range(*s.indices(999))) for s in tile.fine) == tuple(
            each.shape[1] for each in tile.down
        )
        for axis, (made, fine) in enumerate(zip(tile.made, tile.fine, strict=True)):
            assert made.start - fine.start >= reach or fine.start == 0
            assert fine.stop - made.stop >= reach or fine.stop == whole.level.fine[axis]
    assert torch.equal(count, torch.ones_like(count))


def test_tiles_agree_with_the_whole(monkeypatch):
    prior = prior_of((56, 60, 1), FACTOR, noise=0.05, seed=1, spread=0.3)
    images = torch.stack([acquired(prior, torch.Generator().manual_seed(k)) for k in range(3)])
    assert (len(prior.tiles()), len(prior.tiles(3360)), len(prior.tiles(3359))) == (9, 1, 9)
    at_once = expected(prior, images)
    monkeypatch.setattr(prior_module, "_WHOLE", 1600)
    assert 1e-6 < distance(expected(prior, images), at_once) < 0.1


@pytest.mark.parametrize("shape", [(10, 12, 2), (44, 13, 1)])
def test_many_maps_are_written_out_to_the_same_end(shape, monkeypatch):
    prior, data = signed(shape), drawn(3, 4, shape[2], *shape[:2])
    monkeypatch.setattr(prior_module, "_LARGEST", 100)
    written = expected(prior, data)
    monkeypatch.setattr(prior_module, "_MANY", 9)
    monkeypatch.setattr(prior_module, "_WHOLE", 100)
    assert distance(written, expected(prior, data)) < 1e-3


def test_nothing_of_the_acquired_band_is_added_and_two_changes_give_the_sum():
    prior = prior_of((9, 8, 2), FACTOR)
    generator, beyond = torch.Generator().manual_seed(3), prior.whole.level.beyond
    one, two = (acquired(prior, generator)[None] for _ in range(2))
    added = beyond(expected(prior, one))
    assert float(prior.whole.level.down(added).norm()) < 1e-5 * float(added.norm())
    assert float(added.norm()) > 0.01 * float(one.norm())
    both = expected(prior, one - 2 * two)
    assert distance(both, expected(prior, one) - 2 * expected(prior, two)) < 1e-4
    assert not expected(prior, torch.zeros_like(one)).any()


def test_what_lies_around_the_mask_serves_what_lies_in_it():
    shape = (26, 24, 2)
    level = level_above(shape, FACTOR)
    x, y, _ = np.indices(shape)
    mask = np.hypot(x - 12, y - 12) < 5
    small, whole = Tile.around(level, mask), whole_of(shape, FACTOR)
    assert small.inner == (slice(4, 21), slice(4, 21))
    weight = patchy(whole, 1)[None] * torch.from_numpy(
        np.kron(mask[..., 0], np.ones((2, 2))).astype(np.float32)
    )
    wide = Prior(whole=whole, weight=weight + 0.02, fwhm=(2.0,), noise=0.01)
    data = acquired(wide, torch.Generator().manual_seed(0))[None]
    inside = torch.from_numpy(np.kron(np.moveaxis(mask, 2, 0), np.ones((1, 2, 2))) > 0)
    narrow = expected(replace(wide, whole=small), data)
    # four voxels away the sidelobes of what lies inside are small
    left = distance(level.beyond(narrow)[0, inside], level.beyond(expected(wide, data))[0, inside])
    assert left < 0.08
    assert not narrow[:, :, :8].any()


def test_tiles_far_from_the_brain_are_left_out_and_change_little_in_it(monkeypatch):
    monkeypatch.setattr(prior_module, "_LARGEST", 400)
    monkeypatch.setattr(prior_module, "_WHOLE", 400)
    shape = (56, 52, 2)
    x, y, z = np.indices(shape)
    mask = np.where(z == 0, np.hypot(x - 26, y - 26) < 24, np.hypot(x - 9, y - 9) < 5)
    small = Tile.around(level_above(shape, FACTOR).in_plane(), mask)
    every = replace(small, near=np.ones(shape, bool))
    inside = to_slices(np.kron(mask, np.ones((2, 2, 1)))) > 0
    truth = Prior(
        whole=every, weight=(patchy(every) * inside + 0.02)[None], fwhm=(2.0,), noise=0.1
    )
    generator = torch.Generator().manual_seed(0)
    data = torch.stack([acquired(truth, generator) for _ in range(12)])
    recipe = replace(get_method("sbl").variance, rounds=3)
    found, known = (estimate_prior(data, whole, recipe) for whole in (small, every))
    tiles = found.tiles()
    kept = [tile.counts(1) for tile in tiles]
    assert 0 < sum(kept) < len(tiles)
    assert all(tile.counts(0) for tile in tiles)
    assert 0 < distance(found.weight[:, inside], known.weight[:, inside]) < 0.08
    left_out = next(tile for tile, there in zip(tiles, kept, strict=True) if not there)
    assert not expected(found, data)[:, 1, *left_out.made].any()
    assert distance(*(expected(one, data)[:, inside] for one in (found, known))) < 0.05


def test_a_slice_without_maps_gets_nothing():
    prior = prior_of((9, 8, 2), FACTOR)
    prior.weight[:, 1] = 0
    assert not prior.at(1)(drawn(0, 2, 9, 8)).any()
    assert prior.at(0)(drawn(0, 2, 9, 8)).any()


def test_as_many_maps_as_correlations():
    whole = whole_of((4, 4, 1), FACTOR)
    with pytest.raises(ValueError, match="2 variance maps but 1 correlation widths"):
        Prior(whole=whole, weight=torch.ones(2, *sizes(whole)), fwhm=(2.0,), noise=0.1)


def test_draws_have_the_covariance_of_the_prior():
    """Of the helper that the other tests draw with."""
    prior, generator = prior_of((5, 4, 1), FACTOR), torch.Generator().manual_seed(0)
    draws = torch.stack([fluctuation(prior, generator)[0].flatten() for _ in range(4000)])
    found = (draws.T @ draws / 4000).numpy()
    assert distance(found, dense_prior(prior)) < 0.15
