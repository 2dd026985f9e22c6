"""Overlapping foci: known regions of both fingers, and regions of the acquired series."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import numpy.testing as npt
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage

from bids_sr.glm.activation_regions import nonempty_dice, quarter_region
from bids_sr.glm.cross_correlation import cross_correlation, temporal_filter
from bids_sr.io.arrays import Array
from bids_sr.phantom.activity import FOCI, make_focus, select_foci
from bids_sr.phantom.block_design import predict_response
from bids_sr.phantom.bold_run import SimulatedRun, simulate_bold_run
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.region_names import find_atlas

FINGERS = ("thumb", "little")
MOTOR_LABELS = (2001, 2002, 2401, 2402, 6001, 6002)
LEAST_MM3, LARGEST_MM3 = 60 * 3.75**2 * 4, 250 * 3.75**2 * 4


def known_regions(subject: SimulatedSubject, scene: str, seed: int) -> tuple[Array, Array]:
    """Return the voxels with at least half of the peak change of each finger in the hand area."""
    rng = np.random.default_rng(seed)
    change = {name: np.zeros(subject.head.veins.shape, np.float32) for name in FINGERS}
    for label, place in select_foci(scene).items():
        if not set(place.conditions) & set(FINGERS) or label == "sma":
            continue
        focus = make_focus(rng, subject.head, label, scene)
        for name in focus.conditions:
            change[name] += focus.amplitude
    thumb, little = (values >= values.max() / 2 for values in change.values())
    return thumb, little


def test_known_regions_of_the_fingers_overlap_only_in_the_scene_overlap(
    subject: SimulatedSubject,
) -> None:
    for seed in range(3):
        apart, overlap = (
            nonempty_dice(*known_regions(subject, scene, seed)) for scene in ("ribbon", "overlap")
        )
        assert apart == 0
        assert overlap is not None
        assert 0.6 < overlap < 1


def test_both_fingers_share_a_focus_and_their_peaks_remain_below_5_percent(
    subject: SimulatedSubject,
) -> None:
    assert select_foci("ribbon") == select_foci("veins") == select_foci("free") == FOCI
    places = select_foci("overlap")
    shared = {label for label, place in places.items() if place.conditions == FINGERS}
    assert shared == {"hand", "sma"}
    assert {label for label in places if label not in FOCI} == {"hand"}
    assert places["hand"].peak[1] + places["thumb"].peak[1] < 5
    for finger in FINGERS:
        assert places[finger].mni == FOCI[finger].mni
        assert places[finger].peak[1] < places["hand"].peak[0]


def test_the_map_of_a_wide_focus_is_not_cut_off(subject: SimulatedSubject) -> None:
    for seed in range(3):
        amplitude = make_focus(
            np.random.default_rng(seed), subject.head, "hand", "overlap"
        ).amplitude
        box = amplitude[ndimage.find_objects((amplitude > 0).astype(int))[0]]
        faces = [box[0], box[-1], box[:, 0], box[:, -1], box[:, :, 0], box[:, :, -1]]
        assert max(float(face.max()) for face in faces) < 0.02 * amplitude.max()


def motor_area(run: SimulatedRun) -> Array:
    """Return the motor area of the AAL atlas on the grid of the BOLD run."""
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


def acquired_regions(seed: int) -> tuple[Array, Array, float]:
    """Return the region of each finger in an acquired series without motion, and the voxel size.

    The regions are the upper quarter of the range of the cross-correlation in the motor area.
    """
    preset = replace(PRESETS["tiny"], volumes=88)
    run = simulate_bold_run(SimulatedSubject(preset, "overlap", seed=seed))
    run = replace(run, motion=np.tile(np.eye(4), (preset.volumes, 1, 1)))
    area = motor_area(run)
    signals = np.stack([volume[area] for volume in run.volumes()])[2:]
    times = (np.arange(preset.volumes)[2:] + 0.5) * preset.tr
    tasks = np.stack([predict_response(run.events, name, times) for name in FINGERS], axis=1)
    maps = cross_correlation(signals, tasks, temporal_filter(len(tasks), preset.tr, 0.1))
    regions = []
    for values in maps:
        cc = np.zeros(area.shape)
        cc[area] = values
        regions.append(quarter_region(cc, area)[0])
    return regions[0], regions[1], float(np.prod(preset.bold_voxel))


@pytest.mark.slow
def test_regions_of_acquired_series_have_the_size_and_overlap_of_the_paper() -> None:
    overlaps, sizes = [], []
    for seed in range(20, 25):
        thumb, little, voxel = acquired_regions(seed)
        overlaps.append(nonempty_dice(thumb, little))
        sizes.append([thumb.sum() * voxel, little.sum() * voxel])
    assert 0.4 < np.median(overlaps) < 0.7
    assert np.ptp(overlaps) > 0.05
    npt.assert_array_less(LEAST_MM3, np.median(sizes, axis=0))
    npt.assert_array_less(np.median(sizes, axis=0), LARGEST_MM3)
