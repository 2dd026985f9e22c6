"""Where a series of another program lies on its run: as acquired, shifted, or with the head motion
undone.
"""

import numpy as np
import pytest
from nibabel.affines import apply_affine as apply
from scipy import ndimage

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.registration.compared_frame import (
    ComparedError,
    align_volumes,
    checked,
    moments,
    poses_of,
    refusal_of,
)
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, rigid_matrix
from bids_sr.sr.matrices import upsample

AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
SHAPE = (32, 30, 14)
COUNT = 24


@pytest.fixture(scope="module")
def scene():
    """A textured head in `COUNT` poses of growing size: still image, (T, 4, 4) poses, volumes with
    noise.
    """
    rng = np.random.default_rng(0)
    x, y, z = np.indices(SHAPE)
    head = ((x - 15) / 12) ** 2 + ((y - 14) / 11) ** 2 + ((z - 6.5) / 8) ** 2 < 1
    texture = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.2)
    still = np.where(head, 800 + 300 * texture / texture.std(), 20).astype(np.float32)
    center = apply(AFFINE, np.array([[15.0, 14, 6.5]]))[0]
    poses = np.stack(
        [rigid_matrix([0.05 * t, -0.03 * t, 0, 0, 0, 0.001 * t], center) for t in range(COUNT)]
    )
    volumes = {
        t: sample_volume(still, AFFINE, SHAPE, AFFINE, invert(poses[t])) + rng.normal(0, 12, SHAPE)
        for t in range(COUNT)
    }
    return still, poses, volumes


def seen(scene, change):
    own = {t: scene[2][t] for t in moments(COUNT)}
    return align_volumes(own, {t: change(volume, t) for t, volume in own.items()}, AFFINE)


def test_a_denoised_series_lies_on_its_run_and_is_not_refused(scene):
    found = seen(scene, lambda volume, t: 0.97 * ndimage.gaussian_filter(volume, 0.6))
    assert found.moves
    assert np.abs(found.shift).max() < 0.05
    assert refusal_of(found) is None
    assert found.facts()["frame"] == "as acquired"


@pytest.mark.parametrize(
    ("axis", "voxels", "words"),
    [(0, 1.0, "+1.00 voxels along x"), (1, -0.5, "−0.50 voxels along y")],
)
def test_a_shifted_series_is_refused_with_its_shift_in_voxels(scene, axis, voxels, words):
    by = [voxels if k == axis else 0.0 for k in range(3)]
    found = seen(scene, lambda volume, t: ndimage.shift(volume, by, mode="nearest"))
    assert found.shift[axis] == pytest.approx(voxels, abs=0.03)
    reason, _ = refusal_of(found)
    assert words in reason


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_smoothing_across_the_edge_of_the_field_of_view_is_told_from_a_shift(scene, shift):
    sigma = np.array([14.0, 14, 14]) / 2.355 / (3, 3, 4)
    cut = {t: volume[:, :, 4:] for t, volume in scene[2].items() if t in moments(COUNT)}
    smooth = {
        t: ndimage.shift(ndimage.gaussian_filter(each, sigma), (0, 0, shift), mode="nearest")
        for t, each in cut.items()
    }
    found = align_volumes(cut, smooth, AFFINE)
    assert (np.abs(found.shift).max() > 0.2) == (shift > 0)


def test_half_a_fine_voxel_is_seen_on_a_finer_grid(scene):
    """As a k-space crop leaves it that keeps the first sample in place, but not the FOV."""
    found = seen(
        scene, lambda volume, t: np.roll(upsample("zerofill", volume, (2, 2, 1)), 1, axis=0)
    )
    assert found.shift[0] == pytest.approx(0.5, abs=0.03)
    assert refusal_of(found) is not None


def test_motion_that_was_undone_is_told_from_that_of_the_run(scene):
    _still, poses, _ = scene
    rng = np.random.default_rng(1)
    found = seen(
        scene,
        lambda volume, t: (
            sample_volume(volume, AFFINE, SHAPE, AFFINE, poses[t]) + rng.normal(0, 1, SHAPE)
        ),
    )
    assert not found.moves
    assert found.spread_mm > 0.2
    assert refusal_of(found) is None


def test_another_run_and_a_series_without_its_mean_are_refused(scene):
    rng = np.random.default_rng(2)
    other = seen(scene, lambda volume, t: scene[0] + rng.normal(0, 12, SHAPE))
    assert "another run" in refusal_of(other)[0]
    demeaned = seen(scene, lambda volume, t: volume - scene[0])
    assert "mean may have been subtracted" in refusal_of(demeaned)[0]


def test_one_pose_brings_a_realigned_series_into_register(scene, tmp_path):
    """Its reference may be another one than that of the run; what moves with the run keeps the
    poses of the run.
    """
    still, poses, volumes = scene
    away = rigid_matrix([0.9, 0.4, 0, 0, 0, 0], np.zeros(3))
    kinds = {
        "acquired": [volumes[t] for t in range(COUNT)],
        "realigned": [
            sample_volume(volumes[t], AFFINE, SHAPE, AFFINE, poses[t] @ invert(away))
            for t in range(COUNT)
        ],
    }
    for name, each in kinds.items():
        save_image(np.stack(each, -1).astype(np.float32), AFFINE, tmp_path / f"{name}.nii", tr=2.0)
    with (
        SeriesReader(tmp_path / "acquired.nii") as own,
        SeriesReader(tmp_path / "realigned.nii") as other,
    ):
        reference, mask = Volume(still, AFFINE), still > 300
        np.testing.assert_array_equal(
            poses_of(checked(own, own), poses, own, reference, mask), poses
        )
        found = poses_of(checked(own, other), poses, other, reference, mask)
    assert len(found) == COUNT
    np.testing.assert_array_equal(found[0], found[-1])
    points = apply(AFFINE, np.argwhere(mask)[::11])
    assert np.abs(apply(found[0], points) - apply(away, points)).max() < 0.15


def test_a_series_in_no_frame_of_the_run_is_an_error(scene, tmp_path):
    _still, _poses, volumes = scene
    own = np.stack([volumes[t] for t in range(COUNT)], -1).astype(np.float32)
    save_image(own, AFFINE, tmp_path / "own.nii", tr=2.0)
    save_image(np.roll(own, 1, 0), AFFINE, tmp_path / "rolled.nii", tr=2.0)
    with (
        SeriesReader(tmp_path / "own.nii") as acquired,
        SeriesReader(tmp_path / "rolled.nii") as rolled,
        pytest.raises(ComparedError, match=r"\+1.00 voxels along x"),
    ):
        checked(acquired, rolled)
