"""Lesions in structural scans: multiple sclerosis and white matter hyperintensities.

`zooms` are voxel sizes along each axis (mm).
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import MaskArray, Real
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA

_SEED_Z = 1.3  # z score in the brain above which a voxel may be a lesion
_SMOOTHING_FWHM_MM = 2.0
_MIN_SMOOTHED = 0.1  # smoothed value below which a voxel is removed
_MIN_Z = 0.95  # z score below which a voxel is removed


def segment_hyperintensities(
    flair: Real,
    brain: MaskArray,
    zooms: Sequence[float],
    lesion_locations: MaskArray | None = None,
) -> MaskArray:
    """Segment white-matter hyperintensities of a bias-corrected FLAIR image.

    The mask of voxels above the mean + 1.3 SD of the brain, within `lesion_locations`, is smoothed
    by a Gaussian. Voxels with a smoothed value below 0.1 or a z score below .95 are removed.

    The method follows attention-unet, section 3.8.3. The paper does not report the width of the
    Gaussian, which is `_SMOOTHING_FWHM_MM` here, and its lesion template is not public. Without
    `lesion_locations`, the mask also contains bright gray matter. Such masks compare images of one
    head but do not measure lesion load.

    `flair` is in any unit, and the masks are boolean; all have the shape (X, Y, Z).
    `lesion_locations` are the voxels where lesions are likely; None uses the whole brain.
    """
    inside = np.asarray(brain, dtype=bool)
    values = np.asarray(flair, dtype=np.float64)
    sd = values[inside].std()
    if not sd > 0:
        return np.zeros(inside.shape, dtype=bool)
    z = (values - values[inside].mean()) / sd
    seeds = inside & (z > _SEED_Z)
    if lesion_locations is not None:
        seeds &= np.asarray(lesion_locations, dtype=bool)
    sigma = [_SMOOTHING_FWHM_MM / FWHM_PER_SIGMA / float(mm) for mm in zooms[:3]]
    smoothed_seeds = ndimage.gaussian_filter(seeds.astype(np.float64), sigma)
    lesion_mask = inside & (smoothed_seeds >= _MIN_SMOOTHED) & (z >= _MIN_Z)
    return np.asarray(lesion_mask, dtype=bool)
