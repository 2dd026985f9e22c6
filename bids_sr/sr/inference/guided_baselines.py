"""Baselines that know the subject's high-resolution T2* image: `inject` and `ratio`.

The guide is interpolated once, from the image as acquired, into each volume's pose.
"""

from dataclasses import dataclass, field

import numpy as np

from bids_sr.io.array_types import Array
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.resampling import sample_volume, spline_coefficients
from bids_sr.sr.resolution.matrices import Factor, downsample, upsample

# a change relative to a mean below this part of the run's intensity says nothing about the head
_LEAST_MEAN = 0.1
_MOST_CHANGE = 3.0


@dataclass(kw_only=True)
class PosedImage:
    """Image to resample to any grid and head pose; spline coefficients are computed once.

    Parameters
    ----------
    data : Array
        (X, Y, Z).
    affine : Array
        Voxel -> RAS mm.
    from_boldref : Array
        4x4, takes a boldref point (RAS mm) to the image's point.
    distortion : Distortion | None
        Of the volumes, where the boldref is free of it; or None.
    """

    data: Array
    affine: Array
    from_boldref: Array = field(default_factory=lambda: np.eye(4))
    distortion: Distortion | None = None
    _coefficients: Array | None = field(default=None, init=False, repr=False)

    def seen(self, shape: tuple[int, int, int], affine: Array, pose: Array | None) -> Array:
        """Resample the image to a grid in the frame of a volume, given its pose.

        The pose takes boldref points to the volume's points.

        A pose of None is the boldref itself: of the pose of the identity, but without the
        distortion of a volume.

        Parameters
        ----------
        shape : tuple[int, int, int]
            Numbers of voxels along the axes of the grid (x, y, z).
        affine : Array
            Voxel-to-world matrix of the grid (4 x 4, RAS+ mm).
        pose : Array | None
            Transform of a boldref point to its volume point (4 x 4, RAS+ mm).

        Returns
        -------
        Array
            Values of the image on the grid (3D).
        """
        if self._coefficients is None:
            self._coefficients = spline_coefficients(np.asarray(self.data, np.float32))
        if pose is None or self.distortion is None:
            xfm, shift = (
                self.from_boldref @ np.linalg.inv(np.eye(4) if pose is None else pose),
                None,
            )
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

    Parameters
    ----------
    guide : Array
        High-resolution image in the pose of boldref (X, Y, Z).
    boldref : Array
        Reference image of the BOLD run (x, y, z).
    mask : Array
        Voxels of the brain in boldref (3D, boolean).

    Returns
    -------
    float
        Factor on the intensity of the guide.

    Raises
    ------
    ValueError
        The guide has no signal inside the mask.
    """
    seen = downsample(guide, boldref.shape)
    inside = np.asarray(mask) > 0
    a, b = seen[inside].astype(np.float64), np.asarray(boldref)[inside].astype(np.float64)
    if not a.size or a @ a == 0:
        raise ValueError("the high-resolution image and the BOLD run do not overlap in the mask")
    return float(a @ b / (a @ a))


def inject(volume: Array, guide_in_pose: Array, factor: Factor) -> Array:
    """The volume's k-space inside the acquired band, the guide's outside it.

    volume: (x, y, z); guide_in_pose: (X, Y, Z) on the volume's high-resolution grid, in its
    intensity.

    Parameters
    ----------
    volume : Array
        Volume as acquired (x, y, z).
    guide_in_pose : Array
        High-resolution image in the pose and intensity of the volume (X, Y, Z).
    factor : Factor
        Low- over high-resolution voxel size along each axis.

    Returns
    -------
    Array
        Upsampled volume (X, Y, Z), equal to the acquired one when downsampled.
    """
    low = downsample(guide_in_pose, volume.shape)
    return guide_in_pose + upsample("zerofill", volume - low, factor)


def ratio(
    volume: Array, mean_in_pose: Array, guide_in_pose: Array, factor: Factor, scale: float
) -> Array:
    """The guide times the interpolated relative change of the volume.

    mean_in_pose: (x, y, z) the boldref in the volume's pose. Where it is below a tenth of `scale`
    (99th percentile of the boldref in the mask) the denominator is held there, and relative
    intensity is kept within 0 … 3, so that nothing is divided by air.

    Parameters
    ----------
    volume : Array
        Volume as acquired (x, y, z).
    mean_in_pose : Array
        Boldref in the pose of the volume (x, y, z).
    guide_in_pose : Array
        High-resolution image in the pose and intensity of the volume (X, Y, Z).
    factor : Factor
        Low- over high-resolution voxel size along each axis.
    scale : float
        Intensity of boldref at its 99th percentile in the mask.

    Returns
    -------
    Array
        Upsampled volume (X, Y, Z) with the detail of the guide.
    """
    floor = _LEAST_MEAN * scale
    relative = np.clip(
        1 + (volume - mean_in_pose) / np.maximum(mean_in_pose, floor), 0, _MOST_CHANGE
    )
    return guide_in_pose * upsample("bspline", relative.astype(np.float32), factor)
