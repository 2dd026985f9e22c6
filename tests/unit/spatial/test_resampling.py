"""Test the single interpolation: exact cases, landmarks, direction, order of composition,
edges.
"""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from nibabel.affines import apply_affine as apply
from scipy import ndimage

from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import rigid_matrix

AFFINE = rigid_matrix([0, 0, 0, 0.1, 0.0, 0.2], [0, 0, 0]) @ np.diag([3.0, 3.0, 4.0, 1.0])
SHAPE = (14, 12, 9)


def _noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def _blob(
    center: np.ndarray, shape: tuple[int, ...] = (30, 30, 30), width: float = 2.0
) -> np.ndarray:
    grid = np.indices(shape)
    return np.exp(
        -sum((g - c) ** 2 for g, c in zip(grid, center, strict=True)) / (2 * width**2)
    ).astype(np.float32)


@given(st.tuples(*[st.integers(-3, 3)] * 3))
@settings(max_examples=25, deadline=None)
def test_integer_voxel_shifts_are_exact_and_repeat_the_edge(shift: tuple[int, int, int]) -> None:
    volume = _noise()
    xfm = np.eye(4)
    xfm[:3, 3] = AFFINE[:3, :3] @ np.array(shift)
    index = np.ix_(
        *[np.clip(np.arange(n) + s, 0, n - 1) for n, s in zip(SHAPE, shift, strict=True)]
    )
    np.testing.assert_array_equal(sample_volume(volume, AFFINE, SHAPE, AFFINE, xfm), volume[index])


def test_a_landmark_appears_at_the_inverse_position() -> None:
    """Resampling with the transform of a moved head, turned by +10 degrees about z, returns the
    blob to its place.
    """
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    center = np.array([30.0, 30.0, 30.0])
    reference = np.array([21.0, 15.0, 14.0])  # voxels
    moved_to = rigid_matrix([3.0, -1.0, 2.0, 0, 0, np.deg2rad(10)], center)
    in_volume = apply(np.linalg.inv(affine) @ moved_to @ affine, reference)
    resampled = sample_volume(_blob(in_volume), affine, (30, 30, 30), affine, moved_to)
    np.testing.assert_allclose(
        ndimage.center_of_mass(resampled * (resampled > 1e-3)), reference, atol=0.02
    )
    wrong = sample_volume(_blob(in_volume), affine, (30, 30, 30), affine, np.linalg.inv(moved_to))
    assert np.linalg.norm(np.array(ndimage.center_of_mass(wrong)) - reference) > 2


def test_transforms_are_composed_right_to_left() -> None:
    """Resampling by `second` and then by `first` equals one resampling by second @ first."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    shape = (30, 30, 30)
    first = rigid_matrix([2, 0, 0, 0, 0, 0.3], [30, 30, 30])
    second = rigid_matrix([0, 3, 0, 0.3, 0, 0], [30, 30, 30])
    volume = _blob(np.array([15.0, 17.0, 13.0]), width=3.0)
    middle = sample_volume(volume, affine, shape, affine, second)
    two_steps = sample_volume(middle, affine, shape, affine, first)
    np.testing.assert_allclose(
        two_steps, sample_volume(volume, affine, shape, affine, second @ first), atol=0.01
    )
    assert (
        np.abs(two_steps - sample_volume(volume, affine, shape, affine, first @ second)).max()
        > 0.05
    )


def test_edge_slices_stay_filled_if_the_head_moves() -> None:
    volume = np.full(SHAPE, 7.0, np.float32)
    xfm = rigid_matrix([1.0, 2.0, 3.0, 0.02, 0.03, 0.1], [20, 20, 20])
    np.testing.assert_allclose(sample_volume(volume, AFFINE, SHAPE, AFFINE, xfm), 7.0, rtol=1e-6)
    blanked = sample_volume(volume, AFFINE, SHAPE, AFFINE, xfm, zero_outside=True)
    assert (blanked == 0).any()
    assert (blanked[5:9, 5:9, 3:6] == 7).all()


LEFT_AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -14], [0, 0, 3, -15], [0, 0, 0, 1]])


def test_a_displacement_in_mm_is_along_ras_for_any_axes_of_the_file():
    volume, displacement = _noise(), np.zeros((3, *SHAPE))
    # mm: two voxels along the negative first axis, which points left, and one slice down
    displacement[0], displacement[2] = 4.0, -3.0
    resampled = sample_volume(volume, LEFT_AFFINE, SHAPE, LEFT_AFFINE, displacement=displacement)
    np.testing.assert_allclose(resampled[2:, :, 1:], volume[:-2, :, :-1], atol=5e-5)


@pytest.mark.parametrize("flip", [1, -1])
def test_nearest_voxels_on_a_parallel_grid_are_those_of_scipy(flip: int) -> None:
    volume, shape = _noise(), (40, 20, 7)
    target_affine = np.diag([flip * 1.25, 1.5, 4.0, 1.0])
    target_affine[:3, 3] = [-flip * 3.1, -2.2, 1.3]
    to_voxel = np.linalg.inv(np.diag([3.0, 3.0, 4.0, 1.0])) @ target_affine
    expected = ndimage.affine_transform(
        volume, to_voxel[:3, :3], to_voxel[:3, 3], output_shape=shape, order=0, mode="nearest"
    )
    affine = np.diag([3.0, 3.0, 4.0, 1.0])
    nearest = sample_volume(volume, affine, shape, target_affine, order=0)
    np.testing.assert_array_equal(nearest, expected)
    inside = sample_volume(volume, affine, shape, target_affine, order=0, zero_outside=True)
    points = apply(to_voxel, np.moveaxis(np.indices(shape), 0, -1))
    is_outside = ((points < -0.5) | (points > np.array(SHAPE) - 0.5)).any(-1)
    assert is_outside.any()
    np.testing.assert_array_equal(inside, np.where(is_outside, 0, expected))
