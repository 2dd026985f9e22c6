"""Test that the last digits of grids, samples, masks and head motion do not depend on the
processor.
"""

import numpy as np
import pytest

from bids_sr.spatial import masks
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, rigid_matrix

SHAPE = (24, 22, 15)
AFFINE = rigid_matrix([3, -8, 5, 0.1, -0.3, 0.2], [0, 0, 0]) @ np.diag([2.9, 2.9, 3.3, 1.0])
POSE = rigid_matrix([0.4, -0.2, 0.3, 0.01, 0.02, -0.01], [5, 5, 5])


def nudged(values: np.ndarray, size: float = 1e-12, seed: int = 0) -> np.ndarray:
    """Add relative noise, as from sums in another order."""
    return values * (1 + size * np.random.default_rng(seed).choice([-1, 1], np.shape(values)))


def image() -> np.ndarray:
    return np.random.default_rng(1).normal(10, 2, SHAPE).astype(np.float32)


@pytest.mark.parametrize("order", [1, 3])
def test_samples_are_bitwise_equal(order: int) -> None:
    shape, fine = hr_grid(SHAPE, AFFINE, (2, 2, 1))
    exact, noisy = (
        sample_volume(image(), a, shape, b, c, order=order)
        for a, b, c in ((AFFINE, fine, POSE), (nudged(AFFINE), nudged(fine), nudged(POSE)))
    )
    assert np.array_equal(exact, noisy)


@pytest.mark.parametrize("mm", [6.0, -6.0])
def test_a_distance_equal_to_the_limit_gives_one_mask(mm: float) -> None:
    """In voxels of 2 mm, the third voxel from the edge is at the limit."""
    cube = np.zeros((21, 21, 21), bool)
    cube[6:15, 6:15, 6:15] = True
    sizes = (2.0, np.float32(2) * (1 - 1e-7), np.float32(2) * (1 + 1e-7))
    first, *others_masks = (masks.grow(cube, np.diag([size] * 3 + [1.0]), mm) for size in sizes)
    assert all(np.array_equal(first, mask) for mask in others_masks)
