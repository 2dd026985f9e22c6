"""Test resampling of a volume through a displacement field."""

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import rigid_matrix

SHAPE = (12, 14, 10)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -14], [0, 0, 3, -15], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def volume():
    return ndimage.gaussian_filter(np.random.default_rng(0).random(SHAPE), 1.0).astype(np.float32)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_zero_displacement_equals_the_plain_interpolation(volume, order):
    xfm, target = (
        rigid_matrix([1.2, -0.7, 2.1, 0.1, 0.05, -0.08], (0, 0, 0)),
        AFFINE @ np.diag([0.9, 1.1, 1, 1]),
    )
    expected = sample_volume(volume, AFFINE, (9, 8, 7), target, xfm, order=order)
    displacement = np.zeros((3, 9, 8, 7))
    warped = sample_volume(
        volume, AFFINE, (9, 8, 7), target, xfm, order=order, displacement=displacement
    )
    np.testing.assert_allclose(warped, expected, atol=2e-5)


def test_a_displacement_in_mm_is_along_ras_for_any_axes_of_the_file(volume):
    displacement = np.zeros((3, *SHAPE))
    # mm: two voxels along the negative first axis, which points left, and one slice down
    displacement[0], displacement[2] = 4.0, -3.0
    resampled = sample_volume(volume, AFFINE, SHAPE, AFFINE, displacement=displacement)
    np.testing.assert_allclose(resampled[2:, :, 1:], volume[:-2, :, :-1], atol=1e-5)
