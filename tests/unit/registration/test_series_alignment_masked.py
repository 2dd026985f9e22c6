"""Frame of another program's series after brain masking."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.phantom.bold_run import simulate_bold_run
from bids_sr.phantom.poses import ROTATION_CENTER
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.registration.series_alignment import align_volumes, find_rejection
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.transforms import rigid_matrix

Volumes = dict[int, np.ndarray]


@pytest.fixture(scope="module")
def simulated_series() -> tuple[Volumes, Volumes, np.ndarray]:
    """Return volumes of a moving head, of the still head, and the affine."""
    run = simulate_bold_run(SimulatedSubject(PRESETS["tiny"], "ribbon", seed=3))
    rest, _ = run.prepared_scenes
    motion = {
        0: np.eye(4),
        1: np.eye(4),
        7: rigid_matrix(np.array([0.4, 0.6, 0.9, 0.01, 0, 0]), ROTATION_CENTER),
        8: rigid_matrix(np.array([0.5, 0.6, 0.9, 0.01, 0, 0]), ROTATION_CENTER),
    }
    series = [
        {
            t: run.scanner.acquire_moving(rest, pose, sigma=3.0, rng=np.random.default_rng(t))
            for t, pose in poses.items()
        }
        for poses in (motion, dict.fromkeys(motion, np.eye(4)))
    ]
    return series[0], series[1], run.preset.bold_affine


def mask_volumes(volumes: Volumes, affine: np.ndarray) -> Volumes:
    """Set voxels outside a tight brain mask to zero, as tedana does."""
    inside = ndimage.binary_erosion(brain_mask(np.mean(list(volumes.values()), axis=0), affine))
    return {t: volume * inside for t, volume in volumes.items()}


def test_a_masked_series_is_aligned_with_its_run(
    simulated_series: tuple[Volumes, Volumes, np.ndarray],
) -> None:
    run, _, affine = simulated_series
    alignment = align_volumes(run, mask_volumes(run, affine), affine)
    assert find_rejection(alignment, is_corrected=False) is None
    assert alignment.motion == pytest.approx(1, abs=0.1)
    assert np.abs(alignment.shift).max() < 0.02
    assert (alignment.scale, alignment.offset) == (1.0, 0.0)


def test_intensity_scale_and_offset_are_estimated(
    simulated_series: tuple[Volumes, Volumes, np.ndarray],
) -> None:
    run, _, affine = simulated_series
    alignment = align_volumes(run, {t: 30 * volume for t, volume in run.items()}, affine)
    assert (alignment.scale, alignment.offset) == (pytest.approx(1 / 30), 0.0)
    level = 0.3 * float(np.median(run[0][brain_mask(run[0], affine)]))
    alignment = align_volumes(run, {t: volume + level for t, volume in run.items()}, affine)
    assert (alignment.scale, alignment.offset) == (1.0, pytest.approx(-level, rel=0.01))


def test_a_masked_series_without_motion_is_found_to_be_corrected(
    simulated_series: tuple[Volumes, Volumes, np.ndarray],
) -> None:
    run, still, affine = simulated_series
    alignment = align_volumes(run, mask_volumes(still, affine), affine)
    assert find_rejection(alignment, is_corrected=True) is None
    assert abs(alignment.motion) < 0.1


def test_a_masked_shifted_series_is_rejected(
    simulated_series: tuple[Volumes, Volumes, np.ndarray],
) -> None:
    run, _, affine = simulated_series
    shifted = {t: np.roll(volume, 1, axis=1) for t, volume in mask_volumes(run, affine).items()}
    assert find_rejection(align_volumes(run, shifted, affine), is_corrected=False)


def test_a_demeaned_series_is_rejected(
    simulated_series: tuple[Volumes, Volumes, np.ndarray],
) -> None:
    run, _, affine = simulated_series
    mean = np.mean(list(run.values()), axis=0)
    refusal = find_rejection(
        align_volumes(run, {t: volume - mean for t, volume in run.items()}, affine),
        is_corrected=False,
    )
    assert refusal is not None
    assert "mean may have been subtracted" in refusal[0]
