"""Alignment of images with the same head and contrast, starting from their headers."""

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.io.volume import Volume
from bids_sr.preproc.same_contrast import align_same_contrast

SHAPE = (36, 36, 18)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
AFFINE[:3, 3] = [-70, -70, -34]


def head(seed=0):
    x, y, z = (2 * index / n - 1 for index, n in zip(np.indices(SHAPE), SHAPE, strict=True))
    inside = x**2 + y**2 + (0.8 * z) ** 2 < 0.7
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.2)
    image = ndimage.gaussian_filter(np.where(inside, 600 + 150 * texture / texture.std(), 5), 0.7)
    return Volume(image.astype(np.float32), AFFINE), inside


def pose(shift_mm, degrees):
    angle = np.deg2rad(degrees)
    out = np.eye(4)
    out[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    out[:3, 3] = shift_mm
    return out


@pytest.mark.parametrize(
    ("shift_mm", "degrees"), [((0, 0, 0), 0.0), ((1.3, -0.7, 2.1), 1.0), ((5.0, -3.0, 1.0), 3.0)]
)
def test_a_known_pose_is_recovered(shift_mm, degrees):
    fixed, mask = head()
    known_pose = pose(shift_mm, degrees)
    # same values, another position in the scanner
    moving = Volume(fixed.data, known_pose @ AFFINE)
    estimate = align_same_contrast(fixed, moving, mask)
    assert estimate is not None
    np.testing.assert_allclose(estimate, known_pose, atol=0.05)


def test_another_head_is_not_aligned():
    fixed, mask = head()
    assert align_same_contrast(fixed, head(seed=1)[0], mask) is None
