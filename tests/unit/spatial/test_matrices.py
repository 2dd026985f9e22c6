"""Test degradations: geometry, and exact values for known images."""

import numpy as np
import pytest
from data.known_positions import AFFINE, block_mean, gaussian_decimate
from hypothesis import given, settings, strategies as st

from bids_sr.spatial import matrices

OPERATORS = (matrices.kspace_crop, block_mean, gaussian_decimate)


@pytest.mark.parametrize("operator", OPERATORS)
def test_outer_edges_are_kept_and_a_constant_stays_constant(operator):
    low_res, affine = operator(np.full((12, 18, 4), 7.0), AFFINE, factor=(2, 3, 1))
    assert low_res.shape == (6, 6, 4)
    np.testing.assert_allclose(low_res, 7, rtol=1e-10)
    for high_edge, low_edge in (
        ((-0.5,) * 3, (-0.5,) * 3),
        ((11.5, 17.5, 3.5), (5.5, 5.5, 3.5)),
    ):
        np.testing.assert_allclose(affine @ [*low_edge, 1], AFFINE @ [*high_edge, 1], atol=1e-9)


def test_a_size_that_is_not_divisible_is_cropped_around_the_center():
    image = np.zeros((11, 8, 3))
    image[0], image[10] = 5, 9
    low_res, affine = block_mean(image, np.eye(4), factor=(3, 2, 1))
    assert low_res.shape == (3, 4, 3)
    assert not low_res.any()
    np.testing.assert_allclose(affine[:3, 3], [2, 0.5, 0])


def test_the_crop_equals_an_explicit_fourier_transform():
    rng = np.random.default_rng(0)
    x = rng.normal(size=12)
    k = np.arange(-3, 3)
    spectrum = np.array([(x * np.exp(-2j * np.pi * q * np.arange(12) / 12)).sum() for q in k])
    positions = 2 * np.arange(6) + 0.5
    expected = np.array(
        [(spectrum * np.exp(2j * np.pi * k * p / 12)).sum().real / 12 for p in positions]
    )
    lr, _ = matrices.kspace_crop(x[:, None, None], np.eye(4), factor=(2, 1, 1))
    np.testing.assert_allclose(lr[:, 0, 0], expected, atol=1e-12)


def test_a_complex_image_keeps_its_phase_and_magnitude_is_optional():
    x = np.full((8, 8, 1), 1j) * 3
    lr, _ = matrices.kspace_crop(x, np.eye(4), factor=(2, 2, 1))
    np.testing.assert_allclose(lr, 3j, atol=1e-12)
    np.testing.assert_allclose(
        matrices.kspace_crop(x, np.eye(4), factor=(2, 2, 1), magnitude=True)[0], 3, atol=1e-12
    )


@given(n=st.integers(4, 40), seed=st.integers(0, 99), f=st.sampled_from([1.5, 2, 3]))
@settings(max_examples=40)
def test_zero_filling_and_cropping_returns_the_measurement(n, seed, f):
    lr = np.random.default_rng(seed).normal(size=(n, n + 1, 2))
    hr = matrices.upsample("zerofill", lr, (f, f, 1))
    for axis in (0, 1):
        hr = matrices.apply_along(matrices.crop_matrix(hr.shape[axis], lr.shape[axis]), hr, axis)
    np.testing.assert_allclose(hr, lr, atol=1e-9)


@pytest.mark.parametrize("m", [10, 11])
def test_zero_filling_restores_a_band_limited_image(m):
    n = 2 * m
    j = np.arange(n)
    waves = [(0, 3, 0), (2, 1, 0.3), ((m - 1) // 2, 0.7, 1.1)]
    signal = sum(a * np.cos(2 * np.pi * k * j / n + p) for k, a, p in waves)
    x = signal[:, None, None] * signal[None, :, None]
    lr, _ = matrices.kspace_crop(x, np.eye(4), factor=(2, 2, 1))
    np.testing.assert_allclose(matrices.upsample("zerofill", lr, (2, 2, 1)), x, atol=1e-9)


@pytest.mark.parametrize("factor", [(0.5, 1, 1), (2, 2), (np.nan, 1, 1), (50, 1, 1)])
def test_impossible_factors_are_rejected(factor):
    with pytest.raises(matrices.ResolutionError, match="factor"):
        matrices.kspace_crop(np.ones((8, 8, 2)), np.eye(4), factor=factor)


def test_spline_matrices_have_no_subnormal_numbers():
    """Products with subnormal numbers are slow on many types of processors."""
    matrix = matrices.bspline_matrix(84, 168).astype(np.float32)
    assert np.abs(matrix[matrix != 0]).min() > np.finfo(np.float32).tiny


@pytest.mark.parametrize(("shape", "order"), [((6, 8, 5), "F"), ((6, 8, 5, 3), "C")])
def test_resized_images_are_fortran_ordered_and_use_one_matrix_per_axis(shape, order):
    image = np.asarray(np.random.default_rng(0).random(shape, np.float32), order=order)
    upsampled = matrices.upsample("bspline", image, (1.5, 2.0, 3.0))
    axis_matrices = [
        matrices.bspline_matrix(m, n) for m, n in zip(shape, (9, 16, 15), strict=False)
    ]
    expected = np.einsum("ax,by,cz,xyz...->abc...", *axis_matrices, image)
    np.testing.assert_allclose(upsampled, expected, atol=2e-6)
    assert upsampled.flags.f_contiguous
    assert upsampled.dtype == np.float32
    downsampled = matrices.downsample(upsampled, shape)
    assert downsampled.shape == shape
    assert downsampled.flags.f_contiguous
