"""Susceptibility distortion: signal shifts from a field map, and their use in resampling.

A field of f Hz shifts the signal along the phase-encoding axis by f times the total readout time,
in acquired voxels. The shift moves with the head and is defined on the undistorted grid of the
run's boldref, but its direction is fixed to the scanner. In a volume with the pose M, a reference
point p is found at

    q = M p + d(p) v

with d in voxels and v the step of one acquired voxel (RAS mm). This is the convention of
fMRIPrep's resampling.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import ndimage

from bids_sr.engine.artifacts import Artifact
from bids_sr.io.arrays import Array, Float
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Shape
from bids_sr.spatial.resampling import Shift, sample_volume

_MAX_ITERATIONS = 30  # iterations of the inversion
_SHIFT_TOLERANCE = 1e-3  # voxels; the inversion stops if no shift changes by more


@frozen
class Distortion(Artifact):
    """Shift of the signal along one axis of the acquired grid.

    `shift` is in acquired voxels on the grid of the boldref (X, Y, Z), `affine` is the
    voxel-to-world matrix of the boldref (4 x 4, RAS+ mm), and `axis` the phase-encoding axis of
    the grid (0, 1 or 2).
    """

    shift: Array
    affine: Array
    axis: int

    @property
    def step(self) -> Float:
        """Step of one acquired voxel along the phase-encoding axis (3,; RAS mm)."""
        return np.asarray(self.affine, dtype=np.float64)[:3, self.axis]

    def shift_on_grid(self, shape: Shape, affine: Array) -> Shift:
        """Return the shift at each voxel of a grid in the reference frame.

        The result contains the shift in acquired voxels (3D), and the step of one acquired voxel
        (3,; RAS mm).
        """
        return sample_volume(self.shift, self.affine, shape, affine), self.step

    def shift_in_volume(self, shape: Shape, affine: Array, pose: Array) -> tuple[Array, Float]:
        """Return the signal shift at each voxel of a grid in the frame of a volume.

        The equation s(q) = d(inv(M) (q - s v)) is solved by iteration. The iteration converges if
        the field does not fold the image.

        `affine` is the voxel-to-world matrix of the grid, and `pose` the transform of a reference
        point to its position in the volume (4 x 4, RAS+ mm). Returns the shift s in acquired
        voxels (3D), and the inverse pose P (4 x 4, RAS+ mm). The reference point of a position q
        in the volume is P (q - s v). Raises `ValueError` if the iteration does not converge
        because the field folds the image.
        """
        from nibabel.affines import apply_affine

        inverse_pose = np.linalg.inv(np.asarray(pose, dtype=np.float64))
        volume_to_map = np.linalg.inv(self.affine) @ inverse_pose
        voxel_grids = np.meshgrid(*map(np.arange, shape), indexing="ij")
        voxels = np.stack(voxel_grids, axis=-1).reshape(-1, 3)
        map_points = apply_affine(volume_to_map @ affine, voxels).T
        step_in_map = (volume_to_map[:3, :3] @ self.step)[:, None]
        shift = np.zeros(map_points.shape[1])
        map_shifts = np.asarray(self.shift, dtype=np.float64)
        for _ in range(_MAX_ITERATIONS):
            updated_shift = ndimage.map_coordinates(
                map_shifts, map_points - step_in_map * shift, order=1, mode="nearest"
            )
            largest_change = float(np.abs(updated_shift - shift).max())
            shift = updated_shift
            if largest_change < _SHIFT_TOLERANCE:
                return shift.reshape(shape).astype(np.float32), inverse_pose
        raise ValueError(
            "the field map cannot be inverted, because the shifts of neighboring voxels "
            "differ by one voxel or more"
        )

    def save(self, stem: Path) -> Path:
        """Write the shift as NIfTI; the header records the phase-encoding axis."""
        import nibabel as nb

        image: Any = nb.Nifti1Image(np.asarray(self.shift, dtype=np.float32), self.affine)
        image.header.set_dim_info(phase=self.axis)
        image.to_filename(path := stem.with_suffix(".nii"))
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the distortion in a file of `save`.

        Raises `ValueError` if the header does not define the phase-encoding axis.
        """
        import nibabel as nb

        image: Any = nb.load(path)
        axis = image.header.get_dim_info()[1]
        if axis is None:
            raise ValueError(f"{path}: the image header does not define the phase-encoding axis")
        return cls(
            shift=np.asarray(image.dataobj, dtype=np.float32), affine=image.affine, axis=int(axis)
        )


def distortion_from_field_map(
    field_hz: Array,
    affine: Array,
    xfm: Array,
    shape: Shape,
    boldref_affine: Array,
    phase_encoding: str,
    total_readout_s: float,
) -> Distortion:
    """Compute the distortion of a run from its field map.

    `field_hz` is the field map (3D). `affine` and `boldref_affine` are voxel-to-world matrices of
    the field map and of the boldref, and `xfm` transforms a boldref point to its point in the
    field map (4 x 4, RAS+ mm). `shape` is the number of voxels of the boldref along each axis.
    `phase_encoding` is the direction as in BIDS: a positive field shifts the signal towards higher
    voxel numbers for ``j`` and lower ones for ``j-``.
    """
    field_on_grid = sample_volume(field_hz, affine, shape, boldref_affine, xfm)
    sign = -1.0 if phase_encoding.endswith("-") else 1.0
    return Distortion(
        shift=np.float32(sign * total_readout_s) * field_on_grid,
        affine=np.asarray(boldref_affine),
        axis="ijk".index(phase_encoding[0]),
    )
