"""Baselines with a high-resolution T2*-weighted image of the participant: `inject` and `ratio`.

The guide is interpolated once, from the image as acquired to the pose of each volume.
"""

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.spatial.matrices import downsample, upsample

# smallest mean relative to the run's intensity scale; smaller means are replaced, because relative
# changes are meaningless in air
_MIN_RELATIVE_MEAN = 0.1
_MAX_RELATIVE_SIGNAL = 3.0  # largest intensity of a volume relative to the mean


def match_gain(guide: Array, boldref: Array, mask: Array) -> float:
    """Fit the gain that scales the guide to the BOLD intensity within the mask, by least squares.

    One gain is used for the whole run, because a gain per volume would add the global signal to
    the static detail.

    `guide` is on the high-resolution boldref grid (X, Y, Z), and `boldref` and `mask` are on the
    acquired grid (x, y, z). Raises `ValueError` if the guide is zero throughout the mask, or the
    mask is empty.
    """
    downsampled = downsample(guide, boldref.shape)
    in_mask = np.asarray(mask) > 0
    guide_values = downsampled[in_mask].astype(np.float64)
    bold_values = np.asarray(boldref)[in_mask].astype(np.float64)
    if not guide_values.size or guide_values @ guide_values == 0:
        raise ValueError(
            "the high-resolution image and the BOLD run do not overlap within the brain mask"
        )
    return float(guide_values @ bold_values / (guide_values @ guide_values))


def scale_guide(
    volume: Array,
    mean_in_pose: Array,
    guide_in_pose: Array,
    factor: Factor,
    intensity_scale: float,
) -> Array:
    """Multiply the guide by the interpolated relative signal of the volume.

    If the mean is below a tenth of `intensity_scale`, a tenth of `intensity_scale` is used as the
    denominator. The relative signal is limited to the range from 0 to 3. Both limits exclude
    extreme values in air.

    `volume` is the acquired volume and `mean_in_pose` the boldref in its pose (x, y, z).
    `guide_in_pose` is in the pose and intensity of the volume (X, Y, Z). `intensity_scale` is the
    99th percentile of the boldref within the mask. The result is the upsampled volume (X, Y, Z).
    """
    floor = _MIN_RELATIVE_MEAN * intensity_scale
    relative = np.clip(
        1 + (volume - mean_in_pose) / np.maximum(mean_in_pose, floor), 0, _MAX_RELATIVE_SIGNAL
    )
    return guide_in_pose * upsample("bspline", relative.astype(np.float32), factor)
