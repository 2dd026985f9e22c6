"""High-resolution or reference image that is resampled to the head position of each volume."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Shape
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.resampling import sample_volume, spline_coefficients


@dataclass(kw_only=True)
class PosedImage:
    """Image that can be resampled to any grid and head pose.

    Spline coefficients are computed once.

    `data` is the image (X, Y, Z), and `affine` its voxel-to-world matrix (4 x 4, RAS+ mm).
    `from_boldref` is the transform of boldref points to points of the image (4 x 4, RAS+ mm).
    `distortion` is the susceptibility distortion of the volumes if the boldref is
    distortion-corrected, else None.
    """

    data: Array
    affine: Array
    from_boldref: Array = field(default_factory=lambda: np.eye(4))
    distortion: Distortion | None = None

    def resample(self, shape: Shape, affine: Array, pose: Array | None) -> Array:
        """Resample the image to a grid in the frame of a volume, given the pose of the volume.

        `pose` transforms boldref points to points of the volume (4 x 4, RAS+ mm). If `pose` is
        None, the grid is in the boldref frame, which has neither motion nor distortion.
        """
        shift = None
        if pose is None or self.distortion is None:
            xfm = self.from_boldref @ np.linalg.inv(np.eye(4) if pose is None else pose)
        else:
            shift_steps, volume_to_boldref = self.distortion.shift_in_volume(shape, affine, pose)
            xfm = self.from_boldref @ volume_to_boldref
            # The signal at a point of the volume was shifted there by the distortion, so it is
            # sampled in the opposite direction.
            shift = (shift_steps, -(xfm[:3, :3] @ self.distortion.step))
        return sample_volume(
            self.data,
            self.affine,
            shape,
            affine,
            xfm,
            coefficients=self._coefficients,
            shift=shift,
        )

    @cached_property
    def _coefficients(self) -> Array:
        """Spline coefficients of the image (X, Y, Z)."""
        return spline_coefficients(np.asarray(self.data, np.float32))
