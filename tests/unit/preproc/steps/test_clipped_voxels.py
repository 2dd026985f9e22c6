"""Clipped voxels are excluded from both brain masks of a run."""

from pathlib import Path

import numpy as np
import pytest
from data.noisy_run import make_run

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.aligned_series import BrainMasks
from bids_sr.preproc.steps.clipped_voxels import exclude_clipped
from bids_sr.spatial.transforms import hr_grid

AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])
N_VOLUMES, N_DUMMY, TOP = 24, 2, 800


@pytest.fixture(scope="module")
def series() -> np.ndarray:
    return np.rint(make_run(N_VOLUMES))


def save(series: np.ndarray, path: Path, affine: np.ndarray = AFFINE) -> SeriesReader:
    save_image(series, affine, path, dtype="i2", tr=2.0)
    return SeriesReader(path)


def masks(series: np.ndarray) -> tuple[Volume, Volume]:
    """Return the brain on both grids, which are in a ratio of 2 × 2 × 1."""
    brain = series.mean(-1) > 300
    _, affine_hr = hr_grid(brain.shape, AFFINE, (2.0, 2.0, 1.0))
    return Volume(brain, AFFINE), Volume(np.kron(brain, np.ones((2, 2, 1))) > 0, affine_hr)


def count_clipped(clipped: np.ndarray) -> np.ndarray:
    n_steady = N_VOLUMES - N_DUMMY
    return np.asarray((clipped[..., N_DUMMY:] == TOP).sum(-1) >= 0.05 * n_steady)


def test_clipped_voxels_are_excluded_with_all_their_fine_voxels(
    series: np.ndarray, tmp_path: Path
) -> None:
    clipped = np.minimum(series, TOP)
    clipped[..., :N_DUMMY] = TOP  # volumes that are not in the steady state
    brain, brain_hr = masks(series)
    is_clipped = count_clipped(clipped) & brain.data
    assert 10 < is_clipped.sum() < 0.2 * brain.data.sum()
    bold_mask, bold_mask_hr, [clipped_mask], facts = exclude_clipped(
        save(clipped, tmp_path / "bold.nii"),
        BrainMasks(bold_mask=brain, bold_mask_hr=brain_hr),
        n_dummy=N_DUMMY,
    )
    np.testing.assert_array_equal(bold_mask.data, brain.data & ~is_clipped)
    fine = np.kron(is_clipped, np.ones((2, 2, 1))) > 0
    np.testing.assert_array_equal(bold_mask_hr.data, brain_hr.data & ~fine)
    np.testing.assert_array_equal(clipped_mask.volume.data, is_clipped)
    assert clipped_mask.entities["label"] == "clipped"
    assert facts == {"clipped_voxels": is_clipped.sum()}


def test_voxels_that_are_clipped_in_one_echo_are_excluded(
    series: np.ndarray, tmp_path: Path
) -> None:
    """The axes of the first echo differ from the axes of the run, and the second is flipped."""
    order = (1, 0, 2)
    first, second = np.minimum(series, TOP), np.rint(0.6 * series)
    stored = [first.transpose(1, 0, 2, 3), second.transpose(1, 0, 2, 3)[::-1]]
    flipped = AFFINE.copy()
    flipped[:3, 0] *= -1
    paths = [tmp_path / f"echo{k}.nii" for k in range(2)]
    for path, data, affine in zip(paths, stored, (AFFINE, flipped), strict=True):
        save(data, path, affine)
    brain, brain_hr = masks(series)
    bold_mask, _, _, _ = exclude_clipped(
        save(first + second, tmp_path / "combined.nii"),
        BrainMasks(bold_mask=brain, bold_mask_hr=brain_hr),
        paths,
        n_dummy=N_DUMMY,
        axis_order=order,
    )
    np.testing.assert_array_equal(bold_mask.data, brain.data & ~count_clipped(first))
