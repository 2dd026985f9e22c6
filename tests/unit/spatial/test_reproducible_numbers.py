"""Test that the last digits of grids, samples, masks and head motion do not depend on the
processor.
"""

import subprocess
import sys

import numpy as np
import pytest

from bids_sr.spatial import linear_kernels, masks, spline_kernels
from bids_sr.spatial.reproducible_numbers import round_values
from bids_sr.spatial.resampling import sample_grid, sample_volume, spline_coefficients
from bids_sr.spatial.transforms import hr_grid, rigid_matrix

SHAPE = (24, 22, 15)
AFFINE = rigid_matrix([3, -8, 5, 0.1, -0.3, 0.2], [0, 0, 0]) @ np.diag([2.9, 2.9, 3.3, 1.0])
POSE = rigid_matrix([0.4, -0.2, 0.3, 0.01, 0.02, -0.01], [5, 5, 5])


def nudged(values: np.ndarray, size: float = 1e-12, seed: int = 0) -> np.ndarray:
    """Add relative noise, as from sums in another order."""
    return values * (1 + size * np.random.default_rng(seed).choice([-1, 1], np.shape(values)))


def image() -> np.ndarray:
    return np.random.default_rng(1).normal(10, 2, SHAPE).astype(np.float32)


def test_rounding_moves_points_by_less_than_10_nm() -> None:
    points = np.array([[120.0, -130, 90, 1], [0, 0, 0, 1]])
    assert np.abs(points @ (round_values(POSE) - POSE).T).max() < 1e-5
    assert np.array_equal(round_values(POSE), round_values(nudged(POSE, 1e-15)))


@pytest.mark.parametrize("order", [1, 3])
def test_sampling_positions_are_bitwise_equal(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare the arguments of both interpolations."""
    shape, fine = hr_grid(SHAPE, AFFINE, (2, 2, 1))
    matrices = []
    kernels = {1: linear_kernels, 3: spline_kernels}[order]
    compiled_sample = kernels.sample_grid

    def sample(samples: np.ndarray, matrix: np.ndarray, *rest) -> None:
        matrices.append(matrix[:3].copy())
        compiled_sample(samples, matrix, *rest)

    monkeypatch.setattr(kernels, "sample_grid", sample)
    exact, noisy = (
        sample_volume(image(), a, shape, b, c, order=order)
        for a, b, c in ((AFFINE, fine, POSE), (nudged(AFFINE), nudged(fine), nudged(POSE)))
    )
    assert np.array_equal(exact, noisy)
    assert len(matrices) == 2
    assert np.array_equal(*matrices)


def test_spline_sampling_matrices_are_bitwise_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = []
    monkeypatch.setattr(
        spline_kernels, "sample_grid", lambda _, matrix, out: matrices.append(matrix)
    )
    coefficients = spline_coefficients(image())
    matrix = np.linalg.inv(AFFINE) @ POSE @ AFFINE
    sample_grid(coefficients, matrix, SHAPE)
    sample_grid(coefficients, nudged(matrix), SHAPE)
    assert np.array_equal(*matrices)


def test_half_voxels_are_rounded_up_for_any_last_digit_of_a_header() -> None:
    """193 voxels of 1 mm fill 97 voxels of 2 mm."""
    for factor in (0.5, 0.5 * (1 - 1e-7), 0.5 * (1 + 1e-7)):
        assert hr_grid((193, 193, 193), np.eye(4), (factor,) * 3)[0] == (97,) * 3


@pytest.mark.parametrize("mm", [6.0, -6.0])
def test_a_distance_equal_to_the_limit_gives_one_mask(mm: float) -> None:
    """In voxels of 2 mm, the third voxel from the edge is at the limit."""
    cube = np.zeros((21, 21, 21), bool)
    cube[6:15, 6:15, 6:15] = True
    sizes = (2.0, np.float32(2) * (1 - 1e-7), np.float32(2) * (1 + 1e-7))
    first, *others_masks = (masks.grow(cube, np.diag([size] * 3 + [1.0]), mm) for size in sizes)
    assert all(np.array_equal(first, mask) for mask in others_masks)


TISSUES = """
import hashlib
import numpy as np
from scipy import ndimage
from bids_sr.registration.mixture_segmentation import compute_tissue_probabilities
rng = np.random.default_rng(0)
smooth = ndimage.gaussian_filter(rng.normal(size=(40, 40, 30)), 2)
t1w = (300 + 150 * np.tanh(smooth / smooth.std()) + rng.normal(0, 20, smooth.shape)).astype("f4")
probabilities = compute_tissue_probabilities(t1w, np.ones(t1w.shape, bool))
print(hashlib.sha256(probabilities.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_tissues_are_bitwise_equal_for_two_openblas_kernels() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", TISSUES],
            env={"OPENBLAS_CORETYPE": kernel, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for kernel in ("Nehalem", "Haswell")
    }
    assert len(digests) == 1
