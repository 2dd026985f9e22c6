"""Baselines with a high-resolution T2*-weighted image of the participant: `inject` and `ratio`.

The guide is interpolated once, from the image as acquired to the pose of each volume.
"""

from dataclasses import dataclass, field

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor, Shape
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.resampling import sample_volume, spline_coefficients
from bids_sr.sr.matrices import downsample, fill, upsample

# fraction of the run's intensity scale; smaller means are replaced, because relative changes are
# meaningless in air
_MIN_MEAN = 0.1
_MAX_RELATIVE = 3.0  # largest intensity relative to the mean


@dataclass(kw_only=True)
class PosedImage:
    """Image that can be resampled to any grid and head pose.

    Spline coefficients are computed once.

    Parameters
    ----------
    data : Array
        Image (X, Y, Z).
    affine : Array
        Voxel-to-world matrix of the image (4 x 4, RAS+ mm).
    from_boldref : Array
        Transform of boldref points to points of the image (4 x 4, RAS+ mm).
    distortion : Distortion | None
        Susceptibility distortion of the volumes if the boldref is distortion-corrected, else None.
    """

    data: Array
    affine: Array
    from_boldref: Array = field(default_factory=lambda: np.eye(4))
    distortion: Distortion | None = None
    _coefficients: Array | None = field(default=None, init=False, repr=False)

    def resample(self, shape: Shape, affine: Array, pose: Array | None) -> Array:
        """Resample the image to a grid in the frame of a volume, given the pose of the volume.

        `pose` transforms boldref points to points of the volume (4 x 4, RAS+ mm). If `pose` is
        None, the grid is in the boldref frame, which has neither motion nor distortion.
        """
        if self._coefficients is None:
            self._coefficients = spline_coefficients(np.asarray(self.data, np.float32))
        if pose is None or self.distortion is None:
            xfm = self.from_boldref @ np.linalg.inv(np.eye(4) if pose is None else pose)
            shift = None
        else:
            amount, unposed = self.distortion.shift_in_volume(shape, affine, pose)
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
    """Fit the gain that scales the guide to the BOLD intensity within the mask, by least squares.

    One gain is used for the whole run, because a gain per volume would add the global signal to
    the static detail.

    Parameters
    ----------
    guide : Array
        Guide on the high-resolution boldref grid (X, Y, Z).
    boldref, mask : Array
        Boldref and brain mask on the acquired grid (x, y, z).

    Raises
    ------
    ValueError
        If the guide is zero throughout the mask, or the mask is empty.
    """
    downsampled = downsample(guide, boldref.shape)
    inside = np.asarray(mask) > 0
    a = downsampled[inside].astype(np.float64)
    b = np.asarray(boldref)[inside].astype(np.float64)
    if not a.size or a @ a == 0:
        raise ValueError(
            "the high-resolution image and the BOLD run do not overlap within the brain mask"
        )
    return float(a @ b / (a @ a))


def inject(volume: Array, guide_in_pose: Array, factor: Factor) -> Array:
    """Combine the volume's k-space within the acquired band with the guide's k-space outside.

    Parameters
    ----------
    volume : Array
        Acquired volume (x, y, z).
    guide_in_pose : Array
        Guide on the volume's high-resolution grid (X, Y, Z), in the intensity of the volume.
    factor : Factor
        Ratio of acquired to high-resolution voxel size.

    Returns
    -------
    Array
        Upsampled volume (X, Y, Z) that equals the acquired volume after downsampling.
    """
    return guide_in_pose + fill(volume - downsample(guide_in_pose, volume.shape), factor)


def ratio(
    volume: Array, mean_in_pose: Array, guide_in_pose: Array, factor: Factor, scale: float
) -> Array:
    """Multiply the guide by the interpolated relative signal of the volume.

    If the mean is below a tenth of `scale`, a tenth of `scale` is used as the denominator. The
    relative signal is limited to the range from 0 to 3. Both limits exclude extreme values in air.

    Parameters
    ----------
    volume : Array
        Acquired volume (x, y, z).
    mean_in_pose : Array
        Boldref in the pose of the volume (x, y, z).
    guide_in_pose : Array
        Guide in the pose and intensity of the volume (X, Y, Z).
    factor : Factor
        Ratio of acquired to high-resolution voxel size.
    scale : float
        99th percentile of the boldref within the mask.

    Returns
    -------
    Array
        Upsampled volume (X, Y, Z).
    """
    floor = _MIN_MEAN * scale
    relative = np.clip(
        1 + (volume - mean_in_pose) / np.maximum(mean_in_pose, floor), 0, _MAX_RELATIVE
    )
    return guide_in_pose * upsample("bspline", relative.astype(np.float32), factor)
