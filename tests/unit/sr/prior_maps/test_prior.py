"""Test the prior against explicit matrices."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from data.known_priors import (
    acquired,
    dense_covariance,
    dense_down,
    dense_prior,
    expected,
    normal_noise,
    patchy,
    prior_of,
    sizes,
    whole_of,
)
from hypothesis import given, settings, strategies as st

from bids_sr.sr.method import get_method
from bids_sr.sr.operators import level_above, to_slices
from bids_sr.sr.prior_maps import prior as prior_module
from bids_sr.sr.prior_maps.estimation import estimate_prior
from bids_sr.sr.prior_maps.prior import (
    Prior,
    Tile,
    covariance,
    gaussian_correlation,
)

GRIDS = [((8, 7, 2), (2, 2, 1)), ((6, 9, 2), (1.5, 1.5, 1)), ((5, 6, 3), (2, 2, 2))]
FACTOR = (2.0, 2.0, 1.0)


def relative_distance(a, b):
    """Return |a - b| / |b|."""
    a, b = (np.asarray(array, float) for array in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def prior_with_patterns(shape=(10, 12, 2), noise=0.05):
    """Return a prior with two maps and three patterns, which have signs."""
    grid = whole_of(shape, FACTOR)
    maps = torch.cat(
        [normal_noise(1, 2, *sizes(grid)).abs() + 0.1, normal_noise(2, 3, *sizes(grid))]
    )
    return Prior(region=grid, weight=maps, fwhm=(3.0, 1.5, 8.0, 8.0, 8.0), noise=noise)


@pytest.mark.parametrize("fwhm", [1.5, 3.0])
def test_correlations_are_never_subnormal_numbers(fwhm):
    """Subnormal numbers slow down many processors and do not change sums."""
    values = gaussian_correlation(96, fwhm)
    assert float(values[values != 0].min()) >= 1e-20
    gap = np.subtract.outer(np.arange(96), np.arange(96))
    np.testing.assert_allclose(values, np.exp(-4 * np.log(2) * gap**2 / fwhm**2), atol=1e-6)


@pytest.mark.parametrize("make_prior", [prior_with_patterns, lambda: prior_of((9, 8, 2), FACTOR)])
def test_covariances_equal_dense_matrices(make_prior):
    prior = make_prior()
    grid, down = prior.region, dense_down(prior.region)
    for z in range(2):
        maps, dense = prior.weight[:, z], dense_prior(prior, z)
        data = covariance(maps, prior.fwhm, grid.down_matrices, grid.down_matrices)
        assert relative_distance(data, down @ dense @ down.T) < 1e-5
        identity = torch.eye(maps.shape[1]), torch.eye(maps.shape[2])
        assert (
            relative_distance(
                covariance(maps, prior.fwhm, grid.down_matrices, identity), dense @ down.T
            )
            < 1e-5
        )
        factors = (
            normal_noise(7, 3, grid.level.highres_shape[0]),
            normal_noise(8, 5, grid.level.highres_shape[1]),
        )
        combination = np.kron(factors[0].numpy(), factors[1].numpy()).astype(float)
        result = covariance(maps, prior.fwhm, grid.down_matrices, factors)
        assert relative_distance(result, combination @ dense @ down.T) < 1e-5


def test_responses_of_several_bands_equal_dense_products():
    prior = prior_of((40, 35, 2), FACTOR, fwhm=(3.0, 1.5))
    whole = prior.region
    tile = whole.crop(slice(4, 36), slice(2, 30), 3)
    solved = (
        normal_noise(5, 3, len(tile.down_matrices[0]), len(tile.down_matrices[1]))
        .flatten(1)
        .numpy()
    )
    back, responses = prior.compute_responses(1, tile, solved)
    dense_back = np.einsum(
        "xX,nxy,yY->nXY",
        tile.down_matrices[0],
        solved.reshape(3, *map(len, tile.down_matrices)),
        tile.down_matrices[1],
    )
    assert relative_distance(back, dense_back[:, *tile.output_in_data]) < 1e-5
    for width, weight, response in zip(
        prior.fwhm, prior.weight[:, 1, *tile.highres_range].numpy(), responses, strict=True
    ):
        along_x, along_y = (gaussian_correlation(size, width).numpy() for size in weight.shape)
        dense = along_x @ (weight * dense_back) @ along_y
        assert relative_distance(response, dense[:, *tile.output_in_data]) < 1e-5


@pytest.mark.parametrize(
    "prior",
    [
        *(prior_of(shape, factor) for shape, factor in GRIDS),
        prior_of((17, 12, 2), FACTOR, fwhm=(2.0, 9.0, 1.2)),  # more rows than are computed at once
        prior_with_patterns(),
    ],
    ids=["in plane", "in plane, 1.5", "across slices", "large", "patterns"],
)
def test_the_expected_image_is_the_dense_conditional_mean(prior):
    data = torch.stack([acquired(prior, torch.Generator().manual_seed(k)) for k in range(3)])
    means, down = expected(prior, data), dense_down(prior.region)
    for z in range(prior.region.level.highres_shape[2]):
        dense = dense_covariance(prior, z)
        root = np.tril(prior.factor_covariance(z, prior.region)).astype(float)
        assert relative_distance(root @ root.T, dense) < 1e-5
        solved = np.linalg.solve(dense, data[:, z].flatten(1).numpy().T)
        dense_mean = dense_prior(prior, z) @ down.T @ solved
        assert relative_distance(means[:, z].flatten(1).T, dense_mean) < 1e-3


@pytest.mark.parametrize(("shape", "factor"), GRIDS)
def test_the_mean_variance_is_exact(shape, factor):
    prior = prior_of(shape, factor)
    count = prior.region.level.highres_shape[2]
    expected_variance = np.mean([np.trace(dense_covariance(prior, z)) for z in range(count)])
    expected_variance = expected_variance / np.prod(shape[:2]) - prior.noise
    assert prior.mean_variance == pytest.approx(expected_variance, rel=1e-4)
    assert prior.scale(3.0).mean_variance == pytest.approx(3.0, rel=1e-5)


@settings(max_examples=50)
@given(
    st.integers(8, 70),
    st.integers(8, 70),
    st.sampled_from([1, 1.25, 1.5, 2, 3]),
    st.integers(1, 12),
)
def test_tiles_compute_each_voxel_once_from_data_around_it(x, y, factor, reach):
    grid = whole_of((x, y, 1), (factor, factor, 1))
    count = torch.zeros(grid.level.highres_shape[:2])
    for tile in grid.divide(reach, 0):
        count[tile.output_range] += 1
        assert tuple(len(range(*rows.indices(999))) for rows in tile.highres_range) == tuple(
            matrix.shape[1] for matrix in tile.down_matrices
        )
        for axis, (computed, padded) in enumerate(
            zip(tile.output_range, tile.highres_range, strict=True)
        ):
            assert computed.start - padded.start >= reach or padded.start == 0
            assert (
                padded.stop - computed.stop >= reach
                or padded.stop == grid.level.highres_shape[axis]
            )
    assert torch.equal(count, torch.ones_like(count))


def test_added_detail_is_outside_the_acquired_band_and_linear():
    prior = prior_of((9, 8, 2), FACTOR)
    generator, beyond = torch.Generator().manual_seed(3), prior.region.level.select_above_nyquist
    first, second = (acquired(prior, generator)[None] for _ in range(2))
    detail = beyond(expected(prior, first))
    assert float(prior.region.level.downsample(detail).norm()) < 1e-5 * float(detail.norm())
    assert float(detail.norm()) > 0.01 * float(first.norm())
    combined = expected(prior, first - 2 * second)
    assert relative_distance(combined, expected(prior, first) - 2 * expected(prior, second)) < 1e-4
    assert not expected(prior, torch.zeros_like(first)).any()


def test_data_around_the_mask_are_used_for_voxels_in_the_mask():
    shape = (26, 24, 2)
    level = level_above(shape, FACTOR)
    x, y, _ = np.indices(shape)
    mask = np.hypot(x - 12, y - 12) < 5
    mask_tile, full_tile = Tile.from_mask(level, mask), whole_of(shape, FACTOR)
    assert mask_tile.inner_range == (slice(4, 21), slice(4, 21))
    weight = patchy(full_tile, 1)[None] * torch.from_numpy(
        np.kron(mask[..., 0], np.ones((2, 2))).astype(np.float32)
    )
    full_prior = Prior(region=full_tile, weight=weight + 0.02, fwhm=(2.0,), noise=0.01)
    data = acquired(full_prior, torch.Generator().manual_seed(0))[None]
    inside = torch.from_numpy(np.kron(np.moveaxis(mask, 2, 0), np.ones((1, 2, 2))) > 0)
    masked_result = expected(replace(full_prior, region=mask_tile), data)
    # Sidelobes of the voxels in the mask are small four voxels away.
    difference = relative_distance(
        level.select_above_nyquist(masked_result)[0, inside],
        level.select_above_nyquist(expected(full_prior, data))[0, inside],
    )
    assert difference < 0.08
    assert not masked_result[:, :, :8].any()


def test_skipping_tiles_far_from_the_brain_changes_little_in_the_brain(monkeypatch):
    monkeypatch.setattr(prior_module, "_MAX_TILE_VOXELS", 400)
    monkeypatch.setattr(prior_module, "_MAX_APPLIED_TILE_VOXELS", 400)
    shape = (56, 52, 2)
    x, y, z = np.indices(shape)
    mask = np.where(z == 0, np.hypot(x - 26, y - 26) < 24, np.hypot(x - 9, y - 9) < 5)
    brain_tile = Tile.from_mask(level_above(shape, FACTOR).restrict_to_plane(), mask)
    full_tile = replace(brain_tile, near_mask=np.ones(shape, bool))
    inside = to_slices(np.kron(mask, np.ones((2, 2, 1)))) > 0
    truth = Prior(
        region=full_tile, weight=(patchy(full_tile) * inside + 0.02)[None], fwhm=(2.0,), noise=0.1
    )
    generator = torch.Generator().manual_seed(0)
    data = torch.stack([acquired(truth, generator) for _ in range(8)])
    recipe = replace(get_method("sbl").variance, rounds=2)
    estimated, reference = (estimate_prior(data, grid, recipe) for grid in (brain_tile, full_tile))
    tiles = estimated.make_tiles()
    counted = [tile.has_mask_voxels(1) for tile in tiles]
    assert 0 < sum(counted) < len(tiles)
    assert all(tile.has_mask_voxels(0) for tile in tiles)
    assert 0 < relative_distance(estimated.weight[:, inside], reference.weight[:, inside]) < 0.08
    skipped = next(tile for tile, is_counted in zip(tiles, counted, strict=True) if not is_counted)
    assert not expected(estimated, data)[:, 1, *skipped.output_range].any()
    assert (
        relative_distance(*(expected(prior, data)[:, inside] for prior in (estimated, reference)))
        < 0.05
    )
