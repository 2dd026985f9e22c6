"""Signal, position and head motion of another program's series, relative to its run."""

import numpy as np
import pytest
from nibabel.affines import apply_affine as apply
from scipy import ndimage

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.preproc.series_alignment import (
    align_volumes,
    comparison_volumes,
    find_rejection,
    read_comparison_volumes,
    register_corrected,
)
from bids_sr.spatial.matrices import upsample
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, rigid_matrix

AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
SHAPE = (32, 30, 14)
COUNT = 24


def textured_head(seed):
    """Return a still image of a textured head, and the generator of its noise."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(SHAPE)
    head = ((x - 15) / 12) ** 2 + ((y - 14) / 11) ** 2 + ((z - 6.5) / 8) ** 2 < 1
    texture = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.2)
    return np.where(head, 800 + 300 * texture / texture.std(), 20).astype(np.float32), rng


CENTER = apply(AFFINE, np.array([[15.0, 14, 6.5]]))[0]


def scan(still, pose, rng):
    return sample_volume(still, AFFINE, SHAPE, AFFINE, invert(pose)) + rng.normal(0, 12, SHAPE)


@pytest.fixture(scope="module")
def scene():
    """Return a still image of a textured head, (T, 4, 4) poses, and noisy volumes.

    Displacement grows over `COUNT` poses.
    """
    still, rng = textured_head(0)
    poses = np.stack(
        [rigid_matrix([0.05 * t, -0.03 * t, 0, 0, 0, 0.001 * t], CENTER) for t in range(COUNT)]
    )
    return still, poses, {t: scan(still, poses[t], rng) for t in range(COUNT)}


def align_changed(scene, change):
    volumes = {t: scene[2][t] for t in comparison_volumes(COUNT)}
    return align_volumes(volumes, {t: change(volume, t) for t, volume in volumes.items()}, AFFINE)


def test_a_denoised_series_is_aligned_with_its_run(scene):
    alignment = align_changed(scene, lambda volume, t: 0.97 * ndimage.gaussian_filter(volume, 0.6))
    assert alignment.motion == pytest.approx(0.9, abs=0.1)
    assert np.abs(alignment.shift).max() < 0.05
    assert find_rejection(alignment, is_corrected=False) is None


@pytest.mark.parametrize(
    ("axis", "voxels", "message"),
    [(0, 1.0, "+1.00 voxels"), (1, -0.5, "−0.50 voxels")],
)
def test_error_of_a_shifted_series_states_the_shift_in_voxels(scene, axis, voxels, message):
    shift = [voxels if k == axis else 0.0 for k in range(3)]
    alignment = align_changed(
        scene, lambda volume, t: ndimage.shift(volume, shift, mode="nearest")
    )
    assert alignment.shift[axis] == pytest.approx(voxels, abs=0.03)
    reason, _ = find_rejection(alignment, is_corrected=False)
    assert message in reason


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_smoothing_across_the_edge_of_the_field_of_view_is_not_a_shift(scene, shift):
    sigma = np.array([14.0, 14, 14]) / 2.355 / (3, 3, 4)
    cut = {t: volume[:, :, 4:] for t, volume in scene[2].items() if t in comparison_volumes(COUNT)}
    smooth = {
        t: ndimage.shift(ndimage.gaussian_filter(volume_cut, sigma), (0, 0, shift), mode="nearest")
        for t, volume_cut in cut.items()
    }
    alignment = align_volumes(cut, smooth, AFFINE)
    assert (np.abs(alignment.shift).max() > 0.2) == (shift > 0)


def test_a_shift_by_half_a_high_resolution_voxel_is_detected(scene):
    """A k-space crop that keeps the position of the first sample shifts the field of view."""
    alignment = align_changed(
        scene, lambda volume, t: np.roll(upsample("zerofill", volume, (2, 2, 1)), 1, axis=0)
    )
    assert alignment.shift[0] == pytest.approx(0.5, abs=0.03)
    assert find_rejection(alignment, is_corrected=False) is not None


@pytest.fixture(scope="module")
def moving():
    """Return a function that scales the motion of a head, and returns volumes and poses."""
    still, rng = textured_head(4)

    def move(parameters):
        poses = {
            t: rigid_matrix(np.array(parameters) * (t / COUNT - 0.5), CENTER)
            for t in comparison_volumes(COUNT)
        }
        return {t: scan(still, pose, rng) for t, pose in poses.items()}, poses

    return move


MOTION = {
    "small": [0.8, 0.0, 0.0, 0.0, 0.0, 0.0],
    "across slices": [0.0, 0.0, 1.6, 0.0, 0.0, 0.0],
    "rotation": [0.0, 0.0, 0.0, 0.03, 0.0, 0.04],
    "large": [3.0, -2.0, 1.0, 0.02, 0.0, 0.03],
}


@pytest.mark.parametrize("parameters", MOTION.values(), ids=MOTION)
def test_a_wrong_mark_is_rejected_in_both_directions_and_the_right_mark_accepted(
    moving, parameters
):
    volumes, poses = moving(parameters)
    rng = np.random.default_rng(5)
    corrected = {
        t: sample_volume(volume, AFFINE, SHAPE, AFFINE, poses[t]) + rng.normal(0, 3, SHAPE)
        for t, volume in volumes.items()
    }
    denoised = {t: ndimage.gaussian_filter(volume, 0.6) for t, volume in volumes.items()}
    for series, is_corrected, motion, remedy in (
        (corrected, True, 0.0, "Append :corrected"),
        (denoised, False, 1.0, "Omit :corrected"),
    ):
        alignment = align_volumes(volumes, series, AFFINE)
        assert alignment.motion == pytest.approx(motion, abs=0.2)
        assert find_rejection(alignment, is_corrected=is_corrected) is None
        _, fix = find_rejection(alignment, is_corrected=not is_corrected)
        assert remedy in fix


def test_a_series_of_a_still_head_is_accepted_with_both_marks(moving):
    volumes, poses = moving([0.2, -0.1, 0.0, 0.0, 0.0, 0.002])
    corrected = {
        t: sample_volume(volume, AFFINE, SHAPE, AFFINE, poses[t]) for t, volume in volumes.items()
    }
    for series in (volumes, corrected):
        alignment = align_volumes(volumes, series, AFFINE)
        assert np.isnan(alignment.motion)
        assert find_rejection(alignment, is_corrected=True) is None
        assert find_rejection(alignment, is_corrected=False) is None


def test_a_corrected_series_may_have_another_reference(moving):
    volumes, poses = moving(MOTION["large"])
    away = rigid_matrix([2.5, 0, 0, 0, 0, 0], np.zeros(3))
    corrected = {
        t: sample_volume(volume, AFFINE, SHAPE, AFFINE, poses[t] @ away)
        for t, volume in volumes.items()
    }
    alignment = align_volumes(volumes, corrected, AFFINE)
    assert find_rejection(alignment, is_corrected=True) is None
    assert abs(alignment.shift[0]) == pytest.approx(2.5 / 3, abs=0.05)


def test_another_run_and_a_demeaned_series_are_rejected(scene):
    rng = np.random.default_rng(2)
    other_run = align_changed(scene, lambda volume, t: scene[0] + rng.normal(0, 12, SHAPE))
    assert "another run" in find_rejection(other_run, is_corrected=True)[0]
    demeaned = align_changed(scene, lambda volume, t: volume - scene[0])
    assert "mean may have been subtracted" in find_rejection(demeaned, is_corrected=False)[0]


def test_the_reference_of_a_corrected_series_is_registered(scene, tmp_path):
    still, poses, volumes = scene
    reference_pose = rigid_matrix([0.9, 0.4, 0, 0, 0, 0], np.zeros(3))
    series = {
        "acquired": [volumes[t] for t in range(COUNT)],
        "corrected": [
            sample_volume(volumes[t], AFFINE, SHAPE, AFFINE, poses[t] @ invert(reference_pose))
            for t in range(COUNT)
        ],
    }
    for name, series_volumes in series.items():
        data = np.stack(series_volumes, -1).astype(np.float32)
        save_image(data, AFFINE, tmp_path / f"{name}.nii", tr=2.0)
    with (
        SeriesReader(tmp_path / "acquired.nii") as acquired,
        SeriesReader(tmp_path / "corrected.nii") as corrected,
    ):
        mask = still > 300
        alignment = align_volumes(
            read_comparison_volumes(acquired), read_comparison_volumes(corrected), AFFINE
        )
    pose = register_corrected(alignment, Volume(still, AFFINE), mask)
    points = apply(AFFINE, np.argwhere(mask)[::11])
    assert np.abs(apply(pose, points) - apply(reference_pose, points)).max() < 0.15


def mask_volumes(still, volumes):
    """Set voxels outside a tight brain mask to zero, as tedana does."""
    inside = ndimage.binary_erosion(still > 300)
    return {t: volume * inside for t, volume in volumes.items()}


def test_a_masked_series_is_aligned_and_a_shifted_one_rejected(moving, scene):
    volumes, poses = moving(MOTION["large"])
    still, _ = textured_head(4)
    masked = mask_volumes(still, volumes)
    alignment = align_volumes(volumes, masked, AFFINE)
    assert find_rejection(alignment, is_corrected=False) is None
    assert alignment.motion == pytest.approx(1, abs=0.1)
    assert np.abs(alignment.shift).max() < 0.02
    assert (alignment.scale, alignment.offset) == (1.0, 0.0)
    corrected = {
        t: sample_volume(volume, AFFINE, SHAPE, AFFINE, poses[t]) for t, volume in volumes.items()
    }
    alignment = align_volumes(volumes, mask_volumes(still, corrected), AFFINE)
    assert find_rejection(alignment, is_corrected=True) is None
    assert abs(alignment.motion) < 0.1
    shifted = {t: np.roll(volume, 1, axis=1) for t, volume in masked.items()}
    assert find_rejection(align_volumes(volumes, shifted, AFFINE), is_corrected=False)


def test_intensity_scale_and_offset_are_estimated(scene):
    alignment = align_changed(scene, lambda volume, t: 30 * volume)
    assert (alignment.scale, alignment.offset) == (pytest.approx(1 / 30), 0.0)
    alignment = align_changed(scene, lambda volume, t: volume + 240)
    assert (alignment.scale, alignment.offset) == (1.0, pytest.approx(-240, rel=0.01))
