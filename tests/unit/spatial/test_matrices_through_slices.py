"""Test operators with a factor across slices: acquisition, filling, and detail above the Nyquist
frequency.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from bids_sr.spatial.matrices import acquire, downsample, kspace_crop, upsample_residual
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.apply_to_series import enforce_consistency
from bids_sr.sr.operators import get_operator

THIN = (2.0, 2.0, 2.0)


def corners(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Return outer corners (mm) of a field of view."""
    ends = np.array([[-0.5, n - 0.5] for n in shape])
    return np.stack([ends[:, 0], ends[:, 1]]) @ affine[:3, :3].T + affine[:3, 3]


sizes = st.tuples(st.integers(6, 13), st.integers(6, 13), st.integers(4, 11))
factors = st.tuples(*[st.sampled_from([1.0, 1.5, 2.0, 3.0])] * 3)


@given(sizes, factors, st.integers(0, 1000))
@settings(max_examples=40)
def test_outer_edges_are_kept_and_voxel_sizes_follow_the_factor(shape, factor, seed):
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(1, 5, 3)
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    high_shape, high_affine = hr_grid(shape, affine, factor)
    expected = [int(np.floor(n * f + 0.5)) for n, f in zip(shape, factor, strict=True)]
    assert list(high_shape) == expected
    np.testing.assert_allclose(corners(high_shape, high_affine), corners(shape, affine), atol=1e-8)
    low_res, low_affine = acquire(rng.random(high_shape), high_affine, factor=factor)
    covered = [int(m * f + 1e-9) for m, f in zip(low_res.shape, factor, strict=True)]
    low_voxels, high_voxels = (
        np.linalg.norm(grid_affine[:3, :3], axis=0) for grid_affine in (low_affine, high_affine)
    )
    np.testing.assert_allclose(low_voxels, high_voxels * factor, rtol=1e-8)
    if covered == list(high_shape):  # Cropping was not necessary.
        np.testing.assert_allclose(
            corners(low_res.shape, low_affine), corners(shape, affine), atol=1e-8
        )


def test_an_acquisition_crops_k_space_in_plane_and_averages_across_slices():
    image = np.random.default_rng(0).random((8, 6, 4))
    low_res, _ = acquire(image, np.eye(4), factor=THIN)
    cropped = kspace_crop(image, np.eye(4), factor=(2, 2, 1))[0]
    np.testing.assert_allclose(low_res, cropped.reshape(4, 3, 2, 2).mean(-1), atol=1e-12)
    np.testing.assert_allclose(low_res, downsample(image, (4, 3, 2)), atol=1e-12)
    in_plane = acquire(image.astype(complex), np.eye(4), factor=(2, 2, 1), magnitude=True)[0]
    crop = kspace_crop(image.astype(complex), np.eye(4), factor=(2, 2, 1), magnitude=True)[0]
    np.testing.assert_array_equal(in_plane, crop)
    operator = get_operator("multislice", image.shape, THIN)
    np.testing.assert_allclose(
        operator.forward(torch.from_numpy(image)).numpy(), low_res, atol=1e-12
    )
    assert not np.allclose(kspace_crop(image, np.eye(4), factor=THIN)[0], low_res, atol=1e-3)


@pytest.mark.parametrize("shape", [(6, 5, 4), (5, 7, 3)])
@pytest.mark.parametrize("factor", [THIN, (1.0, 1.0, 2.0), (1.5, 2.0, 3.0)])
def test_filling_restores_the_acquired_image(shape, factor):
    rng = np.random.default_rng(0)
    acquired = rng.random(shape)
    np.testing.assert_allclose(
        downsample(upsample_residual(acquired, factor), shape), acquired, atol=1e-10
    )
    guide = rng.random([int(np.floor(n * f + 0.5)) for n, f in zip(shape, factor, strict=True)])
    high_res = enforce_consistency(guide, acquired, factor)
    np.testing.assert_allclose(downsample(high_res, shape), acquired, atol=1e-10)


def test_a_step_from_the_last_slice_to_the_first_is_not_detail():
    ramp = np.broadcast_to(np.linspace(0, 1, 16), (8, 8, 16))
    assert np.abs(beyond_nyquist(ramp, THIN)).max() < 0.02
    assert np.abs(np.fft.fft(ramp[0, 0]))[4:13].max() > 0.3, "a Fourier transform would see some"


def test_detail_is_above_the_nyquist_frequency_of_any_axis():
    x = np.arange(8)
    smooth, detail = (np.cos(np.pi * k * (np.arange(16) + 0.5) / 16) for k in (7, 8))
    flat = np.ones((8, 8, 1))
    np.testing.assert_allclose(beyond_nyquist(flat * smooth, THIN), 0, atol=1e-12)
    np.testing.assert_allclose(beyond_nyquist(flat * detail, THIN), flat * detail, atol=1e-12)
    np.testing.assert_allclose(beyond_nyquist(flat * detail, (2, 2, 1)), 0, atol=1e-12)
    in_plane = np.cos(2 * np.pi * 3 * x / 8)[:, None, None] * smooth * np.ones((1, 8, 1))
    np.testing.assert_allclose(beyond_nyquist(in_plane, THIN), in_plane, atol=1e-12)
    maps = np.random.default_rng(0).random((8, 8, 6, 2)).astype("float32")
    assert beyond_nyquist(maps, THIN).dtype == np.float32
