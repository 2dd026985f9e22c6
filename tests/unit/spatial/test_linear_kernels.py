"""Linear interpolation and smoothing at some samples equal scipy to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import ndimage

from bids_sr.spatial.low_resolution_grids import downsample_volume
from bids_sr.spatial.reproducible_numbers import round_values
from bids_sr.spatial.resampling import PAD, sample_volume, smooth
from bids_sr.spatial.transforms import hr_grid, rigid_matrix

shapes = st.tuples(st.integers(1, 14), st.integers(1, 20), st.integers(1, 9))
poses = st.tuples(*[st.floats(-9, 9)] * 3, *[st.floats(-3.2, 3.2)] * 3)


def _volume(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(3).normal(1000, 30, size=shape).astype(np.float32)


def _by_scipy(volume: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    matrix = round_values(matrix)
    return ndimage.affine_transform(
        np.pad(volume, PAD, mode="edge"),
        matrix[:3, :3],
        matrix[:3, 3] + PAD,
        output_shape=shape,
        output=np.float32,
        order=1,
        mode="nearest",
    )


@given(shapes, shapes, poses, st.sampled_from([0.4, 1.0, 2.3]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_linear_interpolation_equals_scipy(
    shape: tuple[int, int, int],
    target: tuple[int, int, int],
    pose: tuple[float, ...],
    step: float,
    rotated: bool,
) -> None:
    matrix = rigid_matrix([*pose[:3], *(pose[3:] if rotated else (0, 0, 0))], [0, 0, 0])
    matrix = matrix @ np.diag([step, step, 1.5, 1.0])
    volume = _volume(shape)
    expected = _by_scipy(volume, matrix, target)
    sampled = sample_volume(np.asfortranarray(volume), np.eye(4), target, matrix, order=1)
    # rounding to single precision may differ in the last digit
    np.testing.assert_allclose(sampled, expected, rtol=2e-7)
    points = np.tensordot(matrix[:3, :3], np.indices(target), axes=1)
    points += matrix[:3, 3].reshape(3, 1, 1, 1)
    edges = np.reshape(shape, (3, 1, 1, 1)) - 0.5
    outside = ((points < -0.5 - 1e-4) | (points > edges + 1e-4)).any(axis=0)
    inside = ((points > -0.5 + 1e-4) & (points < edges - 1e-4)).all(axis=0)
    masked = sample_volume(volume, np.eye(4), target, matrix, order=1, zero_outside=True)
    assert not masked[outside].any()
    np.testing.assert_allclose(masked[inside], expected[inside], rtol=2e-7)


@pytest.mark.parametrize("mm", [2.0, 3.7, (1.0, 5.0, 2.2)])
def test_downsampling_equals_scipy(mm: float | tuple[float, float, float]) -> None:
    volume, affine = _volume((31, 22, 17)), np.diag([1.0, 1.1, 2.0, 1.0])
    data, grid = downsample_volume(volume, affine, mm)
    factor = np.minimum(np.diagonal(affine)[:3] / mm, 1)
    shape, expected_grid = hr_grid(volume.shape, affine, factor)
    smooth = ndimage.gaussian_filter(volume, 0.4247 * np.sqrt(factor**-2 - 1), mode="nearest")
    assert np.array_equal(grid, expected_grid)
    assert np.array_equal(data, _by_scipy(smooth, np.linalg.inv(affine) @ grid, shape))


@given(shapes, st.tuples(*[st.sampled_from([0.0, 0.05, 0.7, 2.2])] * 3))
@settings(max_examples=30, deadline=None)
def test_smoothing_equals_scipy(
    shape: tuple[int, int, int], sigmas: tuple[float, float, float]
) -> None:
    volume = _volume(shape)
    expected = ndimage.gaussian_filter(volume, sigmas, mode="nearest", truncate=3.0)
    assert np.array_equal(smooth(volume, sigmas, truncate=3.0), expected)
