"""A known field shifts a known head by a known amount; it is undone and applied to within a
twentieth of a voxel.
"""

import numpy as np
import pytest
from nibabel.affines import apply_affine as apply
from scipy import ndimage

from bids_sr.spatial.distortion import Distortion, load_distortion, save_distortion, voxel_shift
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, rigid_matrix
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import super_resolve_series
from bids_sr.sr.inference.guided_baselines import PosedImage
from bids_sr.sr.inference.upsamplers import make_upsampler

SHAPE, READOUT = (24, 26, 12), 0.05
AFFINE = np.array([[3.0, 0, 0, -36], [0, 3, 0, -38], [0, 0, 4, -20], [0, 0, 0, 1]])
POSE = rigid_matrix([1.4, -2.2, 0.7, 0.02, -0.015, 0.03], [0, 0, 0])
BLOBS = np.array([[-14.0, -12, 0], [10, -15, 4], [0, 12, -6], [15, 10, 2], [-10, 14, 3]])


def scene(points):
    """Five blobs 12 mm wide (N, 3 -> N): smooth enough for the voxels."""
    return sum(np.exp(-((points - blob) ** 2).sum(-1) / (2 * 5.2**2)) for blob in BLOBS) * 100


def hertz(points):
    """A field of up to 40 Hz, two voxels at this readout time."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    return 30 * np.sin(x / 25) * np.cos(z / 30) + 0.3 * y + 6


def grid(shape=SHAPE, affine=AFFINE):
    return (
        np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) @ affine[:3, :3].T
        + affine[:3, 3]
    )


def acquired(pose, sign=1.0):
    """The volume as it is measured: at q stands the scene's p with q = pose p + field(p) readout
    step; by Newton-free iteration on the formula itself, in double precision."""
    q, back, step = grid().reshape(-1, 3), invert(pose), AFFINE[:3, 1]
    p = apply(back, q)
    for _ in range(60):
        p = apply(back, q - sign * READOUT * hertz(p)[:, None] * step)
    return scene(p).reshape(SHAPE)


@pytest.fixture(scope="module")
def known():
    fine = (60, 60, 40)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -59, -61, -39
    return voxel_shift(hertz(grid(fine, affine)), affine, np.eye(4), SHAPE, AFFINE, "j", READOUT)


def center(image, blob):
    """Where a blob lies in an image on the run's grid, in voxels: middle of what is above half of
    its peak.
    """
    at = grid()
    near = np.where(np.linalg.norm(at - blob, axis=-1) < 9, image, 0)
    near = np.clip(near - 0.4 * near.max(), 0, None)
    return np.array(ndimage.center_of_mass(near))


class _Reader:
    def __init__(self, volumes):
        self.shape, self.affine = (*volumes[0].shape, len(volumes)), AFFINE
        self._volumes = volumes

    def volumes(self):
        return iter(np.asarray(v, np.float32) for v in self._volumes)


class _Writer(list):
    pass


def resolved(
    volumes,
    poses,
    distortion,
    name="raw",
    factor=(1.0, 1.0, 1.0),
    shape=SHAPE,
    affine=AFFINE,
    **more,
):
    out = _Writer()
    upsampler = make_upsampler(name, UpsamplerInputs(factor=factor, affine=AFFINE, **more))
    super_resolve_series(
        _Reader(volumes),
        out,
        upsampler,
        np.stack(poses),
        shape,
        affine,
        factor=factor,
        distortion=distortion,
    )
    return out


def test_a_known_field_is_undone_within_a_twentieth_of_a_voxel(known):
    truth = scene(grid())
    poses = [np.eye(4), POSE]
    plain = resolved([acquired(pose) for pose in poses], poses, None)
    undone = resolved([acquired(pose) for pose in poses], poses, known)
    for before, after in zip(plain, undone, strict=True):
        off = [np.abs(center(after, blob) - center(truth, blob)).max() for blob in BLOBS]
        assert max(off) < 0.05
        assert (
            max(np.abs(center(before, blob) - center(truth, blob)).max() for blob in BLOBS) > 0.5
        )
        assert np.sqrt(np.mean((after - truth)[4:-4, 4:-4, 2:-2] ** 2)) < 0.02 * truth.max()


def test_on_the_fine_grid_it_is_undone_by_the_same_interpolation(known):
    fine = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    fine[:3, 3] = AFFINE[:3, :3] @ [-0.25, -0.25, 0] + AFFINE[:3, 3]
    shape = (48, 52, 12)
    after = resolved([acquired(POSE)], [POSE], known, "bspline", (2.0, 2.0, 1.0), shape, fine)[0]
    truth = scene(grid(shape, fine))
    assert np.sqrt(np.mean((after - truth)[8:-8, 8:-8, 2:-2] ** 2)) < 0.02 * truth.max()


def test_the_direction_of_phase_encoding_turns_the_shift_around(known):
    there = voxel_shift(hertz(grid()), AFFINE, np.eye(4), SHAPE, AFFINE, "j-", READOUT)
    after = resolved([acquired(np.eye(4), sign=-1.0)], [np.eye(4)], there)[0]
    assert np.sqrt(np.mean((after - scene(grid()))[4:-4, 4:-4, 2:-2] ** 2)) < 0.02 * 100


def test_a_constant_field_shifts_by_hertz_times_readout_in_voxels():
    constant = voxel_shift(np.full(SHAPE, 40.0), AFFINE, np.eye(4), SHAPE, AFFINE, "j", READOUT)
    np.testing.assert_allclose(constant.shift, 2.0)
    volume = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    out = resolved([volume], [np.eye(4)], constant)[0]
    np.testing.assert_allclose(out[:, :-2], volume[:, 2:], atol=1e-5)


def test_it_is_the_formula_of_fmriprep():
    """Its resampling adds field x readout to the voxel coordinates along the phase encoding, after
    head motion.
    """
    field = hertz(grid())
    volume = np.random.default_rng(2).random(SHAPE).astype(np.float32)
    motion = np.linalg.inv(AFFINE) @ POSE @ AFFINE
    at = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij")).reshape(3, -1)
    at = motion[:3, :3] @ at + motion[:3, 3:]
    at[1] += READOUT * field.ravel()
    theirs = ndimage.map_coordinates(volume, at, order=1, mode="nearest").reshape(SHAPE)
    shift = voxel_shift(field, AFFINE, np.eye(4), SHAPE, AFFINE, "j", READOUT).onto(SHAPE, AFFINE)
    ours = sample_volume(volume, AFFINE, SHAPE, AFFINE, POSE, order=1, shift=shift)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_field_map_elsewhere_is_brought_to_the_run():
    """Its own grid and pose: what counts is the field at the head."""
    to_field = rigid_matrix([3, -4, 2, 0.05, 0.02, -0.04], [0, 0, 0])
    shape, affine = (70, 70, 50), np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -70, -70, -50
    elsewhere = hertz(apply(invert(to_field), grid(shape, affine).reshape(-1, 3))).reshape(shape)
    found = voxel_shift(elsewhere, affine, to_field, SHAPE, AFFINE, "j", READOUT)
    assert np.abs(found.shift - READOUT * hertz(grid())).max() < 0.01


def test_guides_are_carried_into_the_distorted_volume(known):
    guide = PosedImage(data=scene(grid()), affine=AFFINE, distortion=known)
    for pose in (np.eye(4), POSE):
        seen, measured = guide.seen(SHAPE, AFFINE, pose), acquired(pose)
        inside = (slice(4, -4), slice(4, -4), slice(2, -2))
        assert np.sqrt(np.mean((seen - measured)[inside] ** 2)) < 0.02 * measured.max()
        for blob in BLOBS[:2]:
            moved = apply(pose, blob[None])[0] + READOUT * hertz(blob) * AFFINE[:3, 1]
            assert np.abs(center(seen, moved) - center(measured, moved)).max() < 0.05
    np.testing.assert_array_equal(guide.seen(SHAPE, AFFINE, None), guide.data.astype(np.float32))


def test_ratio_of_a_run_that_does_not_change_is_its_guide(known):
    """Mean and guide lie where the volume's signal lies: nothing is left over that moves with the
    head.
    """
    mean = PosedImage(data=scene(grid()) + 50, affine=AFFINE, distortion=known)
    volume = acquired(POSE) + 50
    out = resolved(
        [volume], [POSE], known, "ratio", (1.0, 1.0, 1.0), guide=mean, mean=mean, scale=150.0
    )[0]
    assert np.abs(out - scene(grid()) - 50)[4:-4, 4:-4, 2:-2].max() < 5


def test_without_a_shift_it_is_the_plain_interpolation():
    none = Distortion(shift=np.zeros(SHAPE), affine=AFFINE, axis=1)
    volume = np.random.default_rng(3).random(SHAPE).astype(np.float32)
    for how in ({}, {"order": 1, "zero_outside": True}):
        warped = sample_volume(
            volume, AFFINE, SHAPE, AFFINE, POSE, **how, shift=none.onto(SHAPE, AFFINE)
        )
        np.testing.assert_allclose(
            warped, sample_volume(volume, AFFINE, SHAPE, AFFINE, POSE, **how), atol=1e-5
        )


def test_a_field_that_folds_is_refused():
    steep = np.zeros(SHAPE)
    steep[:, 13:] = 6.0
    folding = Distortion(
        shift=np.where(np.arange(26)[:, None] % 2, 3.0, -3.0) + steep, affine=AFFINE, axis=1
    )
    with pytest.raises(ValueError, match="cannot be inverted"):
        folding.back(SHAPE, AFFINE, np.eye(4))


def test_it_is_kept_in_a_file(tmp_path, known):
    save_distortion(known, tmp_path / "shift.nii")
    read = load_distortion(tmp_path / "shift.nii")
    np.testing.assert_allclose(read.shift, known.shift)
    np.testing.assert_allclose(read.step, known.step)


def test_a_file_without_an_axis_is_refused(tmp_path):
    import nibabel as nb

    nb.Nifti1Image(np.zeros(SHAPE, np.float32), AFFINE).to_filename(tmp_path / "x.nii")
    with pytest.raises(ValueError, match="phase-encoding axis"):
        load_distortion(tmp_path / "x.nii")
