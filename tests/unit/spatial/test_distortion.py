"""Shift a known head by a known field; the distortion is undone and applied to within a twentieth
of a voxel.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from nibabel.affines import apply_affine as apply
from scipy import ndimage

from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.spatial.distortion import Distortion, distortion_from_field_map
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, rigid_matrix
from bids_sr.sr.inference.apply_to_series import write_series
from bids_sr.sr.inference.posed_image import PosedImage
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler

SHAPE, READOUT = (24, 26, 12), 0.05
AFFINE = np.array([[3.0, 0, 0, -36], [0, 3, 0, -38], [0, 0, 4, -20], [0, 0, 0, 1]])
POSE = rigid_matrix([1.4, -2.2, 0.7, 0.02, -0.015, 0.03], [0, 0, 0])
BLOBS = np.array([[-14.0, -12, 0], [10, -15, 4], [0, 12, -6], [15, 10, 2], [-10, 14, 3]])


def scene(points):
    """Return five blobs 12 mm wide at points, (N, 3) -> (N,): smooth enough for the voxels."""
    return sum(np.exp(-((points - blob) ** 2).sum(-1) / (2 * 5.2**2)) for blob in BLOBS) * 100


def hertz(points):
    """Return a field of up to 40 Hz, two voxels at this readout time, at points (..., 3)."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    return 30 * np.sin(x / 25) * np.cos(z / 30) + 0.3 * y + 6


def grid(shape=SHAPE, affine=AFFINE):
    return (
        np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) @ affine[:3, :3].T
        + affine[:3, 3]
    )


def acquired(pose, sign=1.0):
    """Return the volume as measured: point p of the scene appears at q = pose p + field(p) readout
    step.

    The equation is solved by fixed-point iteration in double precision, without the code under
    test.
    """
    q, back, step = grid().reshape(-1, 3), invert(pose), AFFINE[:3, 1]
    p = apply(back, q)
    for _ in range(60):
        p = apply(back, q - sign * READOUT * hertz(p)[:, None] * step)
    return scene(p).reshape(SHAPE)


@pytest.fixture(scope="module")
def known_distortion():
    shape = (60, 60, 40)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -59, -61, -39
    return distortion_from_field_map(
        hertz(grid(shape, affine)), affine, np.eye(4), SHAPE, AFFINE, "j", READOUT
    )


def center(image, blob):
    """Return the position of a blob in an image on the run's grid, in voxels: center of mass of
    the values above 0.4 of its peak.
    """
    points = grid()
    near = np.where(np.linalg.norm(points - blob, axis=-1) < 9, image, 0)
    near = np.clip(near - 0.4 * near.max(), 0, None)
    return np.array(ndimage.center_of_mass(near))


def super_resolved(
    volumes,
    poses,
    distortion,
    name="acquired",
    factor=(1.0, 1.0, 1.0),
    shape=SHAPE,
    affine=AFFINE,
    **inputs,
):
    upsampler = make_upsampler(name, UpsamplerInputs(factor=factor, affine=AFFINE, **inputs))
    with TemporaryDirectory() as folder:
        source, target = (Path(folder) / file for file in ("in.nii", "out.nii"))
        save_image(np.stack(volumes, -1).astype(np.float32), AFFINE, source, tr=2.0)
        with SeriesReader(source) as reader:
            write_series(
                reader,
                target,
                upsampler,
                np.stack(poses),
                shape,
                affine,
                factor=factor,
                distortion=distortion,
            )
        return list(np.moveaxis(load_image(target)[0], -1, 0))


def test_a_known_field_is_undone_within_a_twentieth_of_a_voxel(known_distortion):
    truth = scene(grid())
    poses = [np.eye(4), POSE]
    distorted = super_resolved([acquired(pose) for pose in poses], poses, None)
    corrected = super_resolved([acquired(pose) for pose in poses], poses, known_distortion)
    for before, after in zip(distorted, corrected, strict=True):
        shifts = [np.abs(center(after, blob) - center(truth, blob)).max() for blob in BLOBS]
        assert max(shifts) < 0.05
        assert (
            max(np.abs(center(before, blob) - center(truth, blob)).max() for blob in BLOBS) > 0.5
        )
        assert np.sqrt(np.mean((after - truth)[4:-4, 4:-4, 2:-2] ** 2)) < 0.02 * truth.max()


@pytest.mark.parametrize(("direction", "sign"), [("j", 1), ("j-", -1)])
def test_the_correction_equals_the_formula_of_fmriprep(direction, sign):
    """fMRIPrep adds field x readout to the voxel coordinates along the phase encoding, after head
    motion.
    """
    field = hertz(grid())
    volume = np.random.default_rng(2).random(SHAPE).astype(np.float32)
    motion = np.linalg.inv(AFFINE) @ POSE @ AFFINE
    coordinates = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij")).reshape(3, -1)
    coordinates = motion[:3, :3] @ coordinates + motion[:3, 3:]
    coordinates[1] += sign * READOUT * field.ravel()
    expected = ndimage.map_coordinates(volume, coordinates, order=1, mode="nearest").reshape(SHAPE)
    shift = distortion_from_field_map(
        field, AFFINE, np.eye(4), SHAPE, AFFINE, direction, READOUT
    ).shift_on_grid(SHAPE, AFFINE)
    resampled = sample_volume(volume, AFFINE, SHAPE, AFFINE, POSE, order=1, shift=shift)
    np.testing.assert_allclose(resampled, expected, atol=1e-4)


def test_a_field_map_in_another_space_is_resampled_to_the_run():
    """Compare the field at the head for a field map with its own grid and pose."""
    to_field = rigid_matrix([3, -4, 2, 0.05, 0.02, -0.04], [0, 0, 0])
    shape, affine = (70, 70, 50), np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -70, -70, -50
    field = hertz(apply(invert(to_field), grid(shape, affine).reshape(-1, 3))).reshape(shape)
    distortion = distortion_from_field_map(field, affine, to_field, SHAPE, AFFINE, "j", READOUT)
    assert np.abs(distortion.shift - READOUT * hertz(grid())).max() < 0.01


def test_guides_are_transformed_into_the_distorted_volume(known_distortion):
    guide = PosedImage(data=scene(grid()), affine=AFFINE, distortion=known_distortion)
    for pose in (np.eye(4), POSE):
        predicted, measured = guide.resample(SHAPE, AFFINE, pose), acquired(pose)
        inside = (slice(4, -4), slice(4, -4), slice(2, -2))
        assert np.sqrt(np.mean((predicted - measured)[inside] ** 2)) < 0.02 * measured.max()
        for blob in BLOBS[:2]:
            moved = apply(pose, blob[None])[0] + READOUT * hertz(blob) * AFFINE[:3, 1]
            assert np.abs(center(predicted, moved) - center(measured, moved)).max() < 0.05
    np.testing.assert_array_equal(
        guide.resample(SHAPE, AFFINE, None), guide.data.astype(np.float32)
    )


def test_a_field_that_folds_is_rejected():
    steep = np.zeros(SHAPE)
    steep[:, 13:] = 6.0
    folding = Distortion(
        shift=np.where(np.arange(26)[:, None] % 2, 3.0, -3.0) + steep, affine=AFFINE, axis=1
    )
    with pytest.raises(ValueError, match="cannot be inverted"):
        folding.shift_in_volume(SHAPE, AFFINE, np.eye(4))
