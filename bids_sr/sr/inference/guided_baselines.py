"""Baselines that know the subject's high-resolution T2* image: `inject` and `ratio`.

The guide is interpolated once, from the image as acquired, into each volume's pose.
"""

from dataclasses import dataclass, field

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor, Shape
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.resampling import sample_volume, spline_coefficients
from bids_sr.sr.matrices import downsample, fill, upsample

# a change relative to a mean below this part of the run's intensity says nothing about the head
_LEAST_MEAN = 0.1
_MOST_CHANGE = 3.0


@dataclass(kw_only=True)
class PosedImage:
    """Image to resample to any grid and head pose; spline coefficients are computed once.

    `affine`: voxel -> RAS mm. `from_boldref`: 4x4, takes a boldref point (RAS mm) to the image's
    point. `distortion`: of the volumes, where the boldref is free of it; or None.
    """

    data: Array
    affine: Array
    from_boldref: Array = field(default_factory=lambda: np.eye(4))
    distortion: Distortion | None = None
    _coefficients: Array | None = field(default=None, init=False, repr=False)

    def seen(self, shape: Shape, affine: Array, pose: Array | None) -> Array:
        """Resample the image to a grid in the frame of a volume, given its pose.

        The pose takes boldref points to the volume's points.

        A pose of None is the boldref itself: of the pose of the identity, but without the
        distortion of a volume.

        `pose`: transform of a boldref point to its volume point (4 x 4, RAS+ mm).
        """
        if self._coefficients is None:
            self._coefficients = spline_coefficients(np.asarray(self.data, np.float32))
        if pose is None or self.distortion is None:
            xfm = self.from_boldref @ np.linalg.inv(np.eye(4) if pose is None else pose)
            shift = None
        else:
            amount, unposed = self.distortion.back(shape, affine, pose)
            xfm = self.from_boldref @ unposed
            shift = (amount, -(xfm[:3, :3] @ self.distortion.step))
        return sample_volume(
            self.data,
            self.affine,
            shape,
            affine,
            xfm,
            coefficients=self._coefficients,
            shift=shift,
        )


def match_gain(guide: Array, boldref: Array, mask: Array) -> float:
    """Fit one gain for the run that scales the guide to the BOLD intensity in the mask.

    The fit is by least squares.

    guide: (X, Y, Z) on the high-resolution grid in the boldref's pose; boldref, mask: on the
    acquired grid. A gain per volume would give back the global signal as static detail.
    """
    seen = downsample(guide, boldref.shape)
    inside = np.asarray(mask) > 0
    a = seen[inside].astype(np.float64)
    b = np.asarray(boldref)[inside].astype(np.float64)
    if not a.size or a @ a == 0:
        raise ValueError(
            "the high-resolution image and the BOLD run do not overlap within the brain mask"
        )
    return float(a @ b / (a @ a))


def inject(volume: Array, guide_in_pose: Array, factor: Factor) -> Array:
    """The volume's k-space inside the acquired band, the guide's outside it.

    volume: (x, y, z); guide_in_pose: (X, Y, Z) on the volume's high-resolution grid, in its
    intensity.

    Upsampled volume (X, Y, Z), equal to the acquired one when downsampled.
    """
    return guide_in_pose + fill(volume - downsample(guide_in_pose, volume.shape), factor)


def ratio(
    volume: Array, mean_in_pose: Array, guide_in_pose: Array, factor: Factor, scale: float
) -> Array:
    """The guide times the interpolated relative change of the volume.

    mean_in_pose: (x, y, z) the boldref in the volume's pose. Where it is below a tenth of `scale`
    (99th percentile of the boldref in the mask) the denominator is held there, and relative
    intensity is kept within 0 … 3, so that nothing is divided by air.

    `guide_in_pose`: high-resolution image in the pose and intensity of the volume (X, Y, Z).
    """
    floor = _LEAST_MEAN * scale
    relative = np.clip(
        1 + (volume - mean_in_pose) / np.maximum(mean_in_pose, floor), 0, _MOST_CHANGE
    )
    return guide_in_pose * upsample("bspline", relative.astype(np.float32), factor)
