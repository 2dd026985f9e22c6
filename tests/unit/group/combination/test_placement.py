"""Place of runs that are compared, with maps that are moved by known amounts."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_sr.group.combination.placement import (
    compute_place_gradients,
    compute_place_sd,
    filter_alike,
)
from bids_sr.spatial.resampling import sample_volume

SHAPE = (48, 50, 30)
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
AFFINE[:3, 3] = [-72, -75, -45]
INSIDE = (slice(9, -9), slice(9, -9), slice(9, -9))


def scene(fwhm_voxels=1.5, seed=0):
    noise = np.random.default_rng(seed).normal(size=SHAPE)
    image = ndimage.gaussian_filter(noise, fwhm_voxels / 2.355)
    return image / image.std()


@pytest.mark.parametrize("shift", [(0.5, 0.2, 0.4), (0.25, 0.75, 1.5), (0.0, 1.0, 0.0)])
def test_a_filtered_map_is_as_sharp_as_an_interpolated_map(shift):
    """Without the filter, the maps differ by the interpolation of a displaced scene."""
    image = scene()
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    voxels = np.eye(4)
    displaced = np.fft.ifftn(ndimage.fourier_shift(np.fft.fftn(image), shift)).real
    moved = sample_volume(displaced, voxels, SHAPE, voxels, matrix)
    filtered = filter_alike(image, [matrix])
    power = np.square(filtered[INSIDE]).mean()
    assert power == pytest.approx(np.square(moved[INSIDE]).mean(), rel=0.02)
    assert np.square(filtered - moved)[INSIDE].mean() < 0.001
    if any(value % 1 for value in shift):
        assert np.square(image - moved)[INSIDE].mean() > 0.03
        assert np.square(image[INSIDE]).mean() > 1.04 * power
    # the place does not change
    assert np.corrcoef(filtered[INSIDE].ravel(), image[INSIDE].ravel())[0, 1] > 0.97


def test_the_place_error_is_the_change_by_a_small_motion():
    """The SD over many motions is as predicted, in voxels and, smaller, in a region's mean."""
    image = scene(4.0)
    sds = np.array([0.1, 0.1, 0.1, *np.deg2rad([0.1, 0.1, 0.1])])
    rng = np.random.default_rng(1)
    changes = []
    for _ in range(60):
        motion = rng.normal(0, sds)
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_rotvec(motion[3:]).as_matrix()
        pose[:3, 3] = motion[:3]
        changes.append(sample_volume(image, AFFINE, SHAPE, AFFINE, pose) - image)
    gradients = compute_place_gradients(image, AFFINE, np.zeros(3))
    predicted = compute_place_sd(gradients, np.diag(sds**2))
    observed = np.std(changes, axis=0)
    assert np.square(observed[INSIDE]).mean() == pytest.approx(
        np.square(predicted[INSIDE]).mean(), rel=0.15
    )
    region_sd = compute_place_sd(gradients[INSIDE].mean(axis=(0, 1, 2)), np.diag(sds**2))
    means = [change[INSIDE].mean() for change in changes]
    assert np.std(means) == pytest.approx(region_sd, rel=0.35)
    assert region_sd < 0.15 * predicted[INSIDE].mean()
