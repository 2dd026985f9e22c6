"""Test the compiled spline: it equals scipy to rounding on every grid and at every point, and
repeats edges.
"""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import ndimage

from bids_sr.spatial import spline_kernels
from bids_sr.spatial.resampling import (
    PAD,
    evaluate_spline,
    sample_grid,
    sample_volume,
    spline_coefficients,
)
from bids_sr.spatial.transforms import rigid_matrix

CLOSE = 3e-6  # relative to the largest value
shapes = st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(1, 9))
poses = st.tuples(*[st.floats(-9, 9)] * 3, *[st.floats(-3.2, 3.2)] * 3)


def _volume(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(3).normal(1000, 30, size=shape).astype(np.float32)


def _by_scipy(volume: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Evaluate the spline through the volume at points (3, ...); points beyond the edge are moved
    to the edge.
    """
    padded = np.pad(volume.astype(float), PAD, mode="edge")
    beyond = PAD - 1  # The spline has settled at this distance.
    lowest, highest = (
        -beyond,
        np.array(volume.shape).reshape(3, *[1] * (points.ndim - 1)) - 1 + beyond,
    )
    return ndimage.map_coordinates(
        padded, np.clip(points, lowest, highest) + PAD, order=3, mode="mirror"
    )


def _points(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.tensordot(matrix[:3, :3], np.indices(shape), axes=1) + matrix[:3, 3].reshape(
        3, 1, 1, 1
    )


def _sampled(volume: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return sample_volume(volume, np.eye(4), shape, np.eye(4), matrix)


@given(shapes)
@settings(max_examples=30, deadline=None)
def test_coefficients_equal_scipy(shape: tuple[int, int, int]) -> None:
    volume = _volume(shape)
    padded = np.pad(volume.astype(float), PAD, mode="edge")
    coefficients = spline_coefficients(volume)
    assert coefficients.flags.f_contiguous
    np.testing.assert_allclose(
        coefficients,
        ndimage.spline_filter(padded, order=3, mode="mirror"),
        atol=CLOSE * volume.max(),
    )


@given(shapes, shapes, poses, st.sampled_from([1.0, -1.0, 0.5, 2.0]))
@settings(max_examples=80, deadline=None)
def test_any_grid_in_any_pose_equals_scipy(
    shape: tuple[int, int, int],
    target: tuple[int, int, int],
    params: tuple[float, ...],
    scale: float,
) -> None:
    volume = _volume(shape)
    matrix = rigid_matrix(params, [8, 6, 3]) @ np.diag([scale, abs(scale), 1, 1])
    resampled = _sampled(volume, matrix, target)
    assert (resampled.shape, resampled.dtype) == (target, np.float32)
    np.testing.assert_allclose(
        resampled, _by_scipy(volume, _points(matrix, target)), atol=CLOSE * volume.max()
    )


@given(shapes, st.lists(st.tuples(*[st.floats(-60, 60)] * 3), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_single_points_equal_scipy(
    shape: tuple[int, int, int], points: list[tuple[float, ...]]
) -> None:
    volume, positions = _volume(shape), np.array(points)
    samples = evaluate_spline(spline_coefficients(volume), positions)
    assert (samples.shape, samples.dtype) == ((len(points),), np.float32)
    np.testing.assert_allclose(samples, _by_scipy(volume, positions.T), atol=CLOSE * volume.max())


@pytest.mark.parametrize("coordinate", [np.nan, np.inf, -np.inf, 1e300])
def test_points_without_a_position_do_not_leave_the_array(coordinate: float) -> None:
    volume = _volume((12, 10, 6))
    assert np.isfinite(
        evaluate_spline(spline_coefficients(volume), np.full((50, 3), coordinate))
    ).all()
    turned = np.diag([1.0, 1.0, 1.0, 1.0])
    turned[:3, 0] = 1e12
    assert np.isfinite(_sampled(volume, turned, (40, 40, 4))).all()


def test_a_slightly_rotated_grid_is_not_taken_for_one_with_the_same_axes():
    volume = _volume((30, 18, 7))
    matrix = rigid_matrix([0.3, 0, 0, 0, 0, 1e-4], [15, 9, 3])
    resampled = sample_grid(spline_coefficients(volume), matrix, volume.shape)
    expected = _by_scipy(volume, _points(matrix, volume.shape))
    np.testing.assert_allclose(resampled, expected, atol=CLOSE * volume.max())


def test_linear_samples_of_several_maps_equal_scipy_and_are_0_outside() -> None:
    maps = np.random.default_rng(0).normal(size=(9, 8, 7, 2)).astype(np.float32)
    points = np.random.default_rng(1).uniform(-3, 11, (3, 400))
    out = np.full((400, 2), 99, np.float32)  # the memory of another result
    spline_kernels.sample_linear(maps, points, out)
    size = np.array([[9], [8], [7]])
    inside = ((points >= -0.5) & (points <= size - 0.5)).all(axis=0)
    assert 0.1 < inside.mean() < 0.9
    for k in range(2):
        expected = ndimage.map_coordinates(maps[..., k], points, order=1, mode="nearest")
        np.testing.assert_allclose(out[:, k], np.where(inside, expected, 0), atol=1e-5)
