"""Error of the registration of two boldrefs, and its estimate from the residuals.

python benchmarks/place_error.py OUT

OUT is the output of a call with participant sub-01. Its boldref is moved by up to .5 mm and .5
degrees along and around each axis. Noise (percent of the mean, in both boldrefs), smooth changes
of intensity (bias) and changes from voxel to voxel (local) are added.
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from _table import keep
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from bids_sr.io.volume import Volume
from bids_sr.preproc.same_contrast import align_same_contrast, estimate_covariance
from bids_sr.spatial.resampling import sample_volume

N_DRAWS = 12
CASES = ((0.5, 0.0, 0.0), (0.5, 0.0, 1.0), (0.5, 3.0, 0.0), (1.0, 3.0, 2.0))  # percent


def make_pose(motion):
    """Return the transform of a fixed point to the moved point (4 x 4, mm).

    `motion` (6,) are rotations (degrees) and shifts (mm).
    """
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", motion[:3], degrees=True).as_matrix()
    pose[:3, 3] = motion[3:]
    return pose


def measure(boldref, mask, case, rng):
    """Return the rms error over the brain and its estimate (mm), and the ratio of both squared."""
    noise, bias, local = (percent / 100 for percent in case)
    data, affine = boldref.data, boldref.affine
    pose = make_pose(rng.uniform(-0.5, 0.5, 6))
    moved = sample_volume(data, affine, data.shape, affine, np.linalg.inv(pose))
    fields = [gaussian_filter(rng.normal(size=data.shape), width) for width in ((8, 8, 6), 1.0)]
    smooth, rough = (field / field[mask].std() for field in fields)
    sd = noise * data[mask].mean()
    moving, fixed = (
        Volume((values + rng.normal(0, sd, data.shape)).astype(np.float32), affine)
        for values in (moved * (1 + bias * smooth + local * rough), data)
    )
    xfm = align_same_contrast(fixed, moving, mask)
    covariance, center = estimate_covariance(fixed, moving, mask, xfm)
    step = np.linalg.inv(pose) @ xfm
    error = np.concatenate(
        [(step @ [*center, 1])[:3] - center, Rotation.from_matrix(step[:3, :3]).as_rotvec()]
    )
    points = nib.affines.apply_affine(affine, np.argwhere(mask)) - center
    jacobian = np.stack([np.cross(axis, points) for axis in np.eye(3)], axis=-1)
    jacobian = np.concatenate([np.broadcast_to(np.eye(3), jacobian.shape), jacobian], axis=-1)
    expected = np.einsum("vxi,ij,vxj->v", jacobian, covariance, jacobian)
    return (
        np.square(jacobian @ error).sum(-1).mean(),
        expected.mean(),
        (error @ np.linalg.solve(covariance, error) / 6),
    )


def main(out):
    """Measure all cases."""
    (boldref_file,) = Path(out).rglob("sub-01_*desc-hmc_boldref.nii.gz")
    (mask_file,) = Path(out).rglob("sub-01_*space-boldref_label-brain_desc-acquired_mask.nii.gz")
    image = nib.load(boldref_file)
    boldref = Volume(np.asarray(image.dataobj, np.float32), image.affine)
    mask = np.asarray(nib.load(mask_file).dataobj) > 0
    rng = np.random.default_rng(0)
    rows = []
    for case in CASES:
        squares = np.mean([measure(boldref, mask, case, rng) for _ in range(N_DRAWS)], axis=0)
        rows.append(
            dict(zip(("noise, %", "bias, %", "local, %"), case, strict=True))
            | {
                "rms error, mm": float(np.sqrt(squares[0])),
                "estimated, mm": float(np.sqrt(squares[1])),
                "squared error over its estimate": float(squares[2]),
            }
        )
    keep("place_error", "Error of the registration of two boldrefs", rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
