"""Alignment of images with the same head and contrast, starting from their headers."""

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.io.volume import Volume
from bids_sr.preproc.same_contrast import align_same_contrast, estimate_covariance, refine

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


@pytest.mark.parametrize(("noise", "bias"), [(10.0, 0.0), (3.0, 0.03)])
def test_the_error_of_the_alignment_is_estimated_from_its_residual(noise, bias):
    """Errors of known poses are within the estimate, with noise and smooth intensity changes."""
    rng = np.random.default_rng(5)
    image, mask = head()
    squares = []
    for _ in range(8):
        known = pose(rng.uniform(-0.5, 0.5, 3), rng.uniform(-0.5, 0.5))
        values = ndimage.affine_transform(image.data, *_to_voxels(np.linalg.inv(known)), order=3)
        field = ndimage.gaussian_filter(rng.normal(size=SHAPE), 6)
        values = values * (1 + bias * field / field.std()) + rng.normal(0, noise, SHAPE)
        fixed = Volume((image.data + rng.normal(0, noise, SHAPE)).astype(np.float32), AFFINE)
        moving = Volume(values.astype(np.float32), AFFINE)
        estimate = refine(fixed, moving, mask, np.eye(4))
        covariance, center = estimate_covariance(fixed, moving, mask, estimate)
        step = np.linalg.inv(known) @ estimate
        shift = (step @ [*center, 1])[:3] - center
        turn = np.array([step[2, 1], step[0, 2], step[1, 0]])
        error = np.array([*shift, *turn])
        squares.append(error @ np.linalg.solve(covariance, error) / 6)
    assert 0.2 < np.median(squares) < 2.5


def _to_voxels(xfm):
    matrix = np.linalg.inv(AFFINE) @ xfm @ AFFINE
    return matrix[:3, :3], matrix[:3, 3]
