"""Susceptibility distortion: where a field shifts the signal, and how to resample images.

A field of f Hz shifts the signal by f times the total readout time, in acquired voxels along the
phase encoding. The shift belongs to the head and is known on the grid of the run's reference, in
which nothing is distorted; its direction belongs to the scanner. A reference point p lies in a
volume with the pose M at

    q = M p + d(p) v

with d in voxels and v the step of one acquired voxel (RAS mm). The same convention as fMRIPrep's
own resampling.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array, Float
from bids_sr.io.grids import Shape
from bids_sr.spatial.resampling import Shift, sample_volume

_ROUNDS = 30
_CLOSE = 1e-3  # voxels; the inverse is refined until its steps are below


@frozen
class Distortion:
    """Shift of the signal along one axis of the acquired grid.

    `shift`: (X, Y, Z) acquired voxels, on the grid of the reference.
    """

    shift: Array
    affine: Array
    axis: int

    @property
    def step(self) -> Float:
        """One acquired voxel along the phase encoding (mm)."""
        return np.asarray(self.affine, dtype=np.float64)[:3, self.axis]

    def onto(self, shape: Shape, affine: Array) -> Shift:
        """Return the shift at each voxel of a grid in the reference frame, into any volume.

        Acquired voxels of shift (3D), and the step of one (3,; RAS+ mm).
        """
        return sample_volume(self.shift, self.affine, shape, affine), self.step

    def back(self, shape: Shape, affine: Array, pose: Array) -> tuple[Array, Float]:
        """Return the shift of the signal at each voxel of a grid in the frame of a volume.

        Solves s(q) = d(inv(M) (q - s v)) by iteration, which converges where the field folds
        nothing (ValueError).

        `pose`: transform of a reference point to its position in the volume (4 x 4, RAS+ mm).
        `DistortionError`: the iteration does not converge, as the field folds the image. (amount
        (shape), matrix): the voxel's reference point is matrix @ q - amount * (matrix @ step).
        """
        from nibabel.affines import apply_affine

        unposed = np.linalg.inv(np.asarray(pose, dtype=np.float64))
        to_map = np.linalg.inv(self.affine) @ unposed
        start = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(
            -1, 3
        )
        points = apply_affine(to_map @ affine, start).T
        way = (to_map[:3, :3] @ self.step)[:, None]
        amount = np.zeros(points.shape[1])
        values = np.asarray(self.shift, dtype=np.float64)
        for _ in range(_ROUNDS):
            moved = ndimage.map_coordinates(values, points - way * amount, order=1, mode="nearest")
            change = float(np.abs(moved - amount).max())
            amount = moved
            if change < _CLOSE:
                return amount.reshape(shape).astype(np.float32), unposed
        raise ValueError(
            "the field map cannot be inverted, because the shifts of neighboring voxels "
            "differ by one voxel or more"
        )


def voxel_shift(
    hertz: Array,
    affine: Array,
    xfm: Array,
    shape: Shape,
    grid: Array,
    direction: str,
    readout: float,
) -> Distortion:
    """The distortion of a run from its field map.

    `grid`: voxel-to-world matrix of the run's reference (4 x 4, RAS+ mm). `direction`: phase
    encoding as BIDS has it: ``j`` shifts a positive field towards higher voxel numbers, ``j-``
    lower. `readout`: total readout time (s).
    """
    seen = sample_volume(hertz, affine, shape, grid, xfm)
    sign = -1.0 if direction.endswith("-") else 1.0
    return Distortion(
        shift=np.float32(sign * readout) * seen,
        affine=np.asarray(grid),
        axis="ijk".index(direction[0]),
    )


def save_distortion(distortion: Distortion, path: Path) -> None:
    """Write the shift as NIfTI; its header names the axis of the phase encoding."""

    import nibabel as nb

    image: Any = nb.Nifti1Image(np.asarray(distortion.shift, dtype=np.float32), distortion.affine)
    image.header.set_dim_info(phase=distortion.axis)
    image.to_filename(path)


def load_distortion(path: Path) -> Distortion:
    """Read what `save_distortion` wrote.

    `DistortionError`: the header names no axis of phase encoding. Shift of the signal, its grid
    and its axis.
    """

    import nibabel as nb

    image: Any = nb.load(path)
    axis = image.header.get_dim_info()[1]
    if axis is None:
        raise ValueError(f"{path}: the image header does not define the phase-encoding axis")
    return Distortion(
        shift=np.asarray(image.dataobj, dtype=np.float32), affine=image.affine, axis=int(axis)
    )
