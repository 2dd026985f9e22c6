"""Operators of a factor across slices: what is acquired, filled in, and lies beyond the limit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.apply_to_series import enforce
from bids_sr.sr.inference.guided_baselines import inject
from bids_sr.sr.matrices import MATRICES, acquire, downsample, fill, kspace_crop, upsample
from bids_sr.sr.operators import get_operator

THIN = (2.0, 2.0, 2.0)


def corners(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Outer corners (mm) of a field of view."""
    ends = np.array([[-0.5, n - 0.5] for n in shape])
    return np.stack([ends[:, 0], ends[:, 1]]) @ affine[:3, :3].T + affine[:3, 3]


sizes = st.tuples(st.integers(6, 13), st.integers(6, 13), st.integers(4, 11))
factors = st.tuples(*[st.sampled_from([1.0, 1.5, 2.0, 3.0])] * 3)


@given(sizes, factors, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_outer_edges_stay_and_voxels_shrink_by_the_factor_of_their_axis(shape, factor, seed):
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(1, 5, 3)
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    high_shape, high = hr_grid(shape, affine, factor)
    wanted = [int(np.floor(n * f + 0.5)) for n, f in zip(shape, factor, strict=True)]
    assert list(high_shape) == wanted
    np.testing.assert_allclose(corners(high_shape, high), corners(shape, affine), atol=1e-8)
    low, back = acquire(rng.random(high_shape), high, factor=factor)
    kept = [int(m * f + 1e-9) for m, f in zip(low.shape, factor, strict=True)]
    voxels, fine = (np.linalg.norm(each[:3, :3], axis=0) for each in (back, high))
    np.testing.assert_allclose(voxels, fine * factor, rtol=1e-8)
    if kept == list(high_shape):  # nothing had to be cropped
        np.testing.assert_allclose(corners(low.shape, back), corners(shape, affine), atol=1e-8)


def test_an_acquisition_crops_k_space_in_plane_and_averages_over_the_slice():
    image = np.random.default_rng(0).random((8, 6, 4))
    low, _ = acquire(image, np.eye(4), factor=THIN)
    flat = kspace_crop(image, np.eye(4), factor=(2, 2, 1))[0]
    np.testing.assert_allclose(low, flat.reshape(4, 3, 2, 2).mean(-1), atol=1e-12)
    np.testing.assert_allclose(low, downsample(image, (4, 3, 2)), atol=1e-12)
    in_plane = acquire(image.astype(complex), np.eye(4), factor=(2, 2, 1), magnitude=True)[0]
    crop = kspace_crop(image.astype(complex), np.eye(4), factor=(2, 2, 1), magnitude=True)[0]
    np.testing.assert_array_equal(in_plane, crop)
    operator = get_operator("multislice", image.shape, THIN)
    np.testing.assert_allclose(operator.forward(torch.from_numpy(image)).numpy(), low, atol=1e-12)
    assert not np.allclose(kspace_crop(image, np.eye(4), factor=THIN)[0], low, atol=1e-3)


def test_in_two_dimensions_a_slice_has_its_k_space_cropped():
    image = torch.from_numpy(np.random.default_rng(0).random((8, 6)))
    made = [
        get_operator(name, (8, 6), (2.0, 2.0)).forward(image) for name in ("multislice", "kspace")
    ]
    torch.testing.assert_close(*made)


@pytest.mark.parametrize("shape", [(6, 5, 4), (5, 7, 3)])
@pytest.mark.parametrize("factor", [THIN, (1.0, 1.0, 2.0), (1.5, 2.0, 3.0)])
def test_what_is_filled_in_restores_the_acquired_image(shape, factor):
    rng = np.random.default_rng(0)
    acquired = rng.random(shape)
    np.testing.assert_allclose(downsample(fill(acquired, factor), shape), acquired, atol=1e-10)
    guide = rng.random([int(np.floor(n * f + 0.5)) for n, f in zip(shape, factor, strict=True)])
    for made in (inject(acquired, guide, factor), enforce(guide, acquired, factor)):
        np.testing.assert_allclose(downsample(made, shape), acquired, atol=1e-10)


@pytest.mark.parametrize("name", MATRICES)
def test_interpolations_make_thinner_slices_of_a_ramp(name):
    ramp = np.broadcast_to(np.arange(12.0), (4, 4, 12))
    made = upsample(name, ramp, THIN)
    assert made.shape == (8, 8, 24)
    if name != "nearest":
        expected = (np.arange(24) + 0.5) / 2 - 0.5
        np.testing.assert_allclose(made[4, 4, 6:18], expected[6:18], atol=0.05)


def test_a_step_from_the_last_slice_to_the_first_is_no_detail():
    ramp = np.broadcast_to(np.linspace(0, 1, 16), (8, 8, 16))
    assert np.abs(beyond_nyquist(ramp, THIN)).max() < 0.02
    assert np.abs(np.fft.fft(ramp[0, 0]))[4:13].max() > 0.3, "a Fourier transform would see some"


def test_detail_is_beyond_the_limit_of_any_axis():
    x = np.arange(8)
    smooth, fine = (np.cos(np.pi * k * (np.arange(16) + 0.5) / 16) for k in (7, 8))
    flat = np.ones((8, 8, 1))
    np.testing.assert_allclose(beyond_nyquist(flat * smooth, THIN), 0, atol=1e-12)
    np.testing.assert_allclose(beyond_nyquist(flat * fine, THIN), flat * fine, atol=1e-12)
    np.testing.assert_allclose(beyond_nyquist(flat * fine, (2, 2, 1)), 0, atol=1e-12)
    in_plane = np.cos(2 * np.pi * 3 * x / 8)[:, None, None] * smooth * np.ones((1, 8, 1))
    np.testing.assert_allclose(beyond_nyquist(in_plane, THIN), in_plane, atol=1e-12)
    maps = np.random.default_rng(0).random((8, 8, 6, 2)).astype("float32")
    assert beyond_nyquist(maps, THIN).dtype == np.float32


def test_repeated_filtering_changes_nothing_and_the_rest_has_no_detail():
    maps = np.random.default_rng(0).standard_normal((9, 8, 7))
    detail = beyond_nyquist(maps, (1.5, 2.0, 2.0))
    np.testing.assert_allclose(beyond_nyquist(detail, (1.5, 2.0, 2.0)), detail, atol=1e-12)
    np.testing.assert_allclose(beyond_nyquist(maps - detail, (1.5, 2.0, 2.0)), 0, atol=1e-12)
