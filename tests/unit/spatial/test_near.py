"""The spline on nearly its own grid: the same values as point by point, and refused where it cannot give them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bids_sr.spatial import resampling
from bids_sr.spatial.resampling import PAD, is_small_motion, sample_small_motion, sample_volume, spline_coefficients
from bids_sr.spatial.transforms import rigid_matrix

SHAPE = (21, 17, 9)
VOLUME = np.random.default_rng(3).normal(1000, 30, size=SHAPE).astype(np.float32)
CLOSE = 2e-6 * VOLUME.max()
COEFFICIENTS = spline_coefficients(VOLUME)
small = st.tuples(*[st.floats(-2, 2)] * 3, *[st.floats(-0.08, 0.08)] * 3)


def _point_by_point(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return ndimage.affine_transform(
        COEFFICIENTS.astype(float), matrix[:3, :3], matrix[:3, 3] + PAD, output_shape=shape, order=3, mode="nearest",
        prefilter=False,
    )  # fmt: skip


@given(small, st.tuples(st.integers(17, 22), st.integers(14, 18), st.integers(7, 10)), st.integers(25, 700))
@settings(max_examples=60, deadline=None)
def test_values_are_those_of_the_spline_point_by_point(
    params: tuple[float, ...], shape: tuple[int, int, int], run: int
) -> None:
    matrix = rigid_matrix(params, [10, 8, 4])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "_MOST_TAPS", 10_000)
        patch.setattr(resampling, "_RUN", run)  # from a row at a time to a slice
        assert is_small_motion(matrix, SHAPE, shape, PAD)
        got = sample_small_motion(COEFFICIENTS, matrix, shape, PAD)
    assert got.shape == shape
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, _point_by_point(matrix, shape), atol=CLOSE)


def test_voxels_of_a_run_may_have_different_nearest_samples() -> None:
    """Stretched by a tenth: along a row of 21 the offset grows from 0 to 2."""
    matrix = np.diag([1.1, 1.0, 1.0, 1.0])
    matrix[:3, 3] = 0.3, -0.2, 0.1
    np.testing.assert_allclose(
        sample_small_motion(COEFFICIENTS, matrix, SHAPE, PAD), _point_by_point(matrix, SHAPE), atol=CLOSE
    )


def test_far_grids_are_left_to_others() -> None:
    def shifted(voxels: float, axis: int) -> bool:
        matrix = np.eye(4)
        matrix[axis, 3] = voxels
        return is_small_motion(matrix, SHAPE, SHAPE, PAD)

    assert all(shifted(sign * 6.9, axis) for sign in (-1, 1) for axis in range(3))
    assert not any(shifted(voxels, axis) for voxels in (-7.1, 7.1) for axis in range(3))
    assert not is_small_motion(np.diag([0.5, 0.5, 1, 1]), SHAPE, (42, 34, 9), PAD)
    assert not is_small_motion(rigid_matrix([0, 0, 0, 0.3, 0.3, 0.3], [10, 8, 4]), SHAPE, SHAPE, PAD)


def test_no_axis_and_no_larger_target_may_lead_out_of_the_padding() -> None:
    for row in range(3):
        for column in range(3):
            matrix = np.eye(4)
            matrix[row, column] += 7.5 / (SHAPE[column] - 1)
            assert not is_small_motion(matrix, SHAPE, SHAPE, PAD), (row, column)
    half = rigid_matrix([0.5, 0.5, 0.5, 0, 0, 0], [0, 0, 0])
    for axis in range(3):
        assert is_small_motion(half, SHAPE, tuple(n + 6 * (k == axis) for k, n in enumerate(SHAPE)), PAD)
        assert not is_small_motion(half, SHAPE, tuple(n + 7 * (k == axis) for k, n in enumerate(SHAPE)), PAD)


def test_a_displacement_that_ends_with_the_padding_to_rounding() -> None:
    """Summed in one order it is below 7 voxels along the last axis, in another it is 7."""
    matrix = np.eye(4)
    matrix[2] = 0.02, 0.04, 1.035, 5.83
    got = sample_volume(np.ones((12, 16, 11), np.float32), np.eye(4), (12, 16, 11), matrix)
    np.testing.assert_allclose(got, 1, rtol=1e-6)


@given(st.tuples(*[st.floats(-8, 8)] * 3, *[st.floats(-0.3, 0.3)] * 3))
@settings(max_examples=60, deadline=None)
def test_wherever_it_is_called_near_it_is_right(params: tuple[float, ...]) -> None:
    matrix = rigid_matrix(params, [10, 8, 4])
    if is_small_motion(matrix, SHAPE, SHAPE, PAD):
        got = sample_small_motion(COEFFICIENTS, matrix, SHAPE, PAD)
        np.testing.assert_allclose(got, _point_by_point(matrix, SHAPE), atol=CLOSE)


def test_a_volume_takes_the_short_way_in_its_pose_and_the_long_one_else(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(
        "bids_sr.spatial.resampling.sample_small_motion",
        lambda *at: taken.append(at) or sample_small_motion(*at),
    )
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    sample_volume(VOLUME, affine, SHAPE, affine, rigid_matrix([0.3, 0.2, -0.4, 0.01, 0, 0.02], [20, 16, 12]))
    assert len(taken) == 1
    sample_volume(VOLUME, affine, SHAPE, affine, rigid_matrix([30, 0, 0, 0, 0, 0], [20, 16, 12]))
    assert len(taken) == 1


def test_what_is_constant_stays_so() -> None:
    flat = spline_coefficients(np.full(SHAPE, 812.0, np.float32))
    got = sample_small_motion(flat, rigid_matrix([0.4, -0.7, 0.2, 0.02, 0.01, -0.03], [10, 8, 4]), SHAPE, PAD)
    assert (got == 812).all()
