"""Where a series of another program lies on its run, also where it was masked."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.phantom.bold_run import bold_run
from bids_sr.phantom.poses import CENTER
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.registration.compared_frame import align_volumes, refusal_of
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.transforms import rigid_matrix

Volumes = dict[int, np.ndarray]


@pytest.fixture(scope="module")
def scanned() -> tuple[Volumes, Volumes, np.ndarray]:
    """A head that moves, the same lying still, and the affine."""
    run = bold_run(SimulatedSubject(PRESETS["tiny"], "ribbon", seed=3))
    rest, _ = run.parts
    moved = {
        0: np.eye(4),
        1: np.eye(4),
        7: rigid_matrix(np.array([0.4, 0.6, 0.9, 0.01, 0, 0]), CENTER),
        8: rigid_matrix(np.array([0.5, 0.6, 0.9, 0.01, 0, 0]), CENTER),
    }
    series = [
        {
            t: run.scanner.moving(rest, pose, sigma=3.0, rng=np.random.default_rng(t))
            for t, pose in poses.items()
        }
        for poses in (moved, dict.fromkeys(moved, np.eye(4)))
    ]
    return series[0], series[1], run.preset.bold_affine


def masked(volumes: Volumes, affine: np.ndarray) -> Volumes:
    """As tedana leaves a series: zeros outside a tight mask of the brain."""
    inside = ndimage.binary_erosion(brain_mask(np.mean(list(volumes.values()), axis=0), affine))
    return {t: volume * inside for t, volume in volumes.items()}


def test_a_masked_series_lies_where_its_run_does(
    scanned: tuple[Volumes, Volumes, np.ndarray],
) -> None:
    run, _, affine = scanned
    seen = align_volumes(run, masked(run, affine), affine)
    assert refusal_of(seen) is None
    assert seen.moves
    assert np.abs(seen.shift).max() < 0.02
    assert (seen.scale, seen.offset) == (1.0, 0.0)


def test_another_unit_is_a_scale_and_another_zero_an_offset(
    scanned: tuple[Volumes, Volumes, np.ndarray],
) -> None:
    run, _, affine = scanned
    seen = align_volumes(run, {t: 30 * volume for t, volume in run.items()}, affine)
    assert (seen.scale, seen.offset) == (pytest.approx(1 / 30), 0.0)
    level = 0.3 * float(np.median(run[0][brain_mask(run[0], affine)]))
    seen = align_volumes(run, {t: volume + level for t, volume in run.items()}, affine)
    assert (seen.scale, seen.offset) == (1.0, pytest.approx(-level, rel=0.01))


def test_a_masked_series_without_its_motion_is_seen_as_such(
    scanned: tuple[Volumes, Volumes, np.ndarray],
) -> None:
    run, still, affine = scanned
    seen = align_volumes(run, masked(still, affine), affine)
    assert refusal_of(seen) is None
    assert not seen.moves


def test_a_masked_series_that_is_shifted_is_refused(
    scanned: tuple[Volumes, Volumes, np.ndarray],
) -> None:
    run, _, affine = scanned
    off = {t: np.roll(volume, 1, axis=1) for t, volume in masked(run, affine).items()}
    assert refusal_of(align_volumes(run, off, affine)) is not None


def test_a_series_without_its_mean_is_refused(
    scanned: tuple[Volumes, Volumes, np.ndarray],
) -> None:
    run, _, affine = scanned
    mean = np.mean(list(run.values()), axis=0)
    refused = refusal_of(
        align_volumes(run, {t: volume - mean for t, volume in run.items()}, affine)
    )
    assert refused is not None
    assert "mean may have been subtracted" in refused[0]
