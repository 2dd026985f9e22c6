"""Scene overlap: patches of both fingers, known regions, and regions of the acquired series."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from bids_sr.glm.activation_regions import nonempty_dice, quarter_region
from bids_sr.glm.cross_correlation import temporal_filter
from bids_sr.io.arrays import Array
from bids_sr.io.region_names import find_atlas
from bids_sr.phantom.activity import FOCI, make_foci, select_foci
from bids_sr.phantom.block_design import predict_response
from bids_sr.phantom.bold_run import BOLD_BRAIN_SIGNAL, SimulatedRun, simulate_bold_run
from bids_sr.phantom.ground_truth import simulate_effects
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.spatial.matrices import downsample

FINGERS = ("thumb", "little")
MOTOR_LABELS = (2001, 2002, 2401, 2402, 6001, 6002)
NOISE = 0.0045  # of the brain, in one volume after filtering; measured with head motion
LEAST_MM3, LARGEST_MM3 = 60 * 3.75**2 * 4, 250 * 3.75**2 * 4


def finger_changes(subject: SimulatedSubject, scene: str, seed: int) -> tuple[Array, Array]:
    """Return the signal change of each finger on the grid of the head."""
    thumb, little = make_foci(np.random.default_rng(seed), subject.head, FINGERS, scene)
    return thumb.amplitude, little.amplitude


def test_both_fingers_activate_one_area_only_in_the_scene_overlap(
    subject: SimulatedSubject,
) -> None:
    assert select_foci("ribbon") == select_foci("veins") == select_foci("free") == FOCI
    for seed in range(3):
        apart, shared = (
            nonempty_dice(
                *(change >= change.max() / 4 for change in finger_changes(subject, scene, seed))
            )
            for scene in ("ribbon", "overlap")
        )
        assert apart is not None
        assert shared is not None
        assert apart < 0.2
        assert shared > 0.75


def test_patches_of_both_fingers_alternate_within_millimeters(subject: SimulatedSubject) -> None:
    for seed in range(3):
        thumb, little = finger_changes(subject, "overlap", seed)
        assert min(thumb.max(), little.max()) >= 0.04
        assert max(thumb.max(), little.max()) <= 0.05
        area = thumb + little > (thumb + little).max() / 4
        difference = np.zeros_like(thumb)
        difference[area] = (thumb[area] - little[area]) / (thumb[area] + little[area])
        difference[area] -= difference[area].mean()
        assert 0.05 < difference[area].std() < 0.2
        # neighbors within a patch are similar, and patches 8 mm apart are independent
        voxel_mm = float(subject.head.affine[0, 0])
        near, far = (correlate_shifted(difference, area, round(mm / voxel_mm)) for mm in (2, 8))
        assert near > 0.5
        assert abs(far) < 0.2


def correlate_shifted(values: Array, area: Array, voxels: int) -> float:
    """Return the mean correlation of values in an area with values that many voxels away."""
    correlations = []
    for axis in range(3):
        both = area & np.roll(area, voxels, axis)
        correlations.append(np.corrcoef(values[both], np.roll(values, voxels, axis)[both])[0, 1])
    return float(np.mean(correlations))


def motor_area(run: SimulatedRun) -> Array:
    """Return the motor area of the AAL atlas on the acquired grid."""
    atlas = nib.load(find_atlas().image)
    labels = np.asarray(atlas.dataobj).astype(int)
    shape, affine = run.subject.bold_grid
    head = run.subject.head
    points = apply_affine(run.scanner.pose @ affine, np.indices(shape).reshape(3, -1).T)
    index = np.rint(apply_affine(np.linalg.inv(head.affine), points)).astype(int)
    inside = np.all((index >= 0) & (index < head.brain.shape), axis=1)
    index = np.where(inside[:, None], index, 0)
    points = points + head.deformation[(slice(None), *index.T)].T
    inside &= head.brain[tuple(index.T)]
    voxel = np.rint(apply_affine(np.linalg.inv(atlas.affine), points)).astype(int)
    voxel = np.clip(voxel, 0, np.array(labels.shape) - 1)
    return (np.isin(labels[tuple(voxel.T)], MOTOR_LABELS) & inside).reshape(shape)


def simulate(seed: int) -> SimulatedRun:
    """Return a run of the scene overlap without motion."""
    preset = replace(PRESETS["tiny"], volumes=88)
    run = simulate_bold_run(SimulatedSubject(preset, "overlap", seed=seed))
    return replace(run, motion=np.tile(np.eye(4), (preset.volumes, 1, 1)))


def predicted_tasks(run: SimulatedRun) -> Array:
    """Return the response to each finger in the steady-state volumes (T, 2)."""
    times = (np.arange(run.preset.volumes)[2:] + 0.5) * run.preset.tr
    return np.stack([predict_response(run.events, name, times) for name in FINGERS], axis=1)


def regions_of(maps: Array, area: Array) -> list[Array]:
    """Return the upper quarter of the range of each map (2, N) in an area."""
    regions = []
    for values in maps:
        cc = np.zeros(area.shape)
        cc[area] = values
        regions.append(quarter_region(cc, area)[0])
    return regions


def true_overlap(run: SimulatedRun, area: Array, changes: Array) -> float | None:
    """Return the overlap of the regions of known changes (2, X, Y, Z) with constant noise.

    The variance of the noise is added to the variance of the change, without random error.
    """
    tasks = predicted_tasks(run)
    _, band = temporal_filter(len(tasks), run.preset.tr, 0.1)
    assert band is not None
    task = band.T @ tasks
    change = task @ changes[:, area]
    noise = len(tasks) * (NOISE * BOLD_BRAIN_SIGNAL) ** 2
    size = np.linalg.norm(task, axis=0)[:, None] * np.sqrt((change**2).sum(0) + noise)
    return nonempty_dice(*regions_of(task.T @ change / size, area))


@pytest.mark.slow
def test_known_regions_overlap_less_on_the_high_resolution_grid() -> None:
    lower = []
    for seed in range(20, 26):
        run = simulate(seed)
        area = motor_area(run)
        _, changes = simulate_effects([run])
        fine = np.stack([changes[name] for name in FINGERS])
        coarse = np.stack([downsample(change, area.shape) for change in fine])
        fine_overlap = true_overlap(run, area.repeat(2, axis=0).repeat(2, axis=1), fine)
        coarse_overlap = true_overlap(run, area, coarse)
        assert fine_overlap is not None
        assert coarse_overlap is not None
        lower.append(coarse_overlap - fine_overlap)
    assert min(lower) > 0.08
