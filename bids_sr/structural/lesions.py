"""Lesions in structural scans: multiple sclerosis and white matter hyperintensities."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import MaskArray, Real

_LESION_SD = 1.3  # standard deviations above the mean of the brain
_LESION_SMOOTHING_MM = 2.0  # mm, FWHM
_LESION_SHARE = 0.1  # smoothed value below which a voxel is removed
_LESION_Z = 0.95  # z score below which a voxel is removed
FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))
"""Full width at half maximum of a Gaussian of standard deviation 1."""


def white_matter_hyperintensities(
    flair: Real,
    brain: MaskArray,
    zooms: Sequence[float],
    location_probability: MaskArray | None = None,
) -> MaskArray:
    """Segment white-matter hyperintensities of a bias-corrected FLAIR image.

    Voxels above the mean + 1.3 SD of the brain, within the `location_probability` region, are
    smoothed by a Gaussian. Voxels with a smoothed value below 0.1 or a z score below .95 are
    removed.

    The method follows attention-unet, section 3.8.3. The paper does not report the width of the
    Gaussian, which is `_LESION_SMOOTHING_MM` here, and its lesion template is not public. Without
    `location_probability`, the mask also contains bright gray matter. Such masks compare images of
    one head but do not measure lesion load.

    Parameters
    ----------
    flair : Real
        FLAIR image with intensities in any unit (X, Y, Z).
    brain : MaskArray
        Brain voxels on the same grid (X, Y, Z).
    zooms : Sequence[float]
        Voxel size along each axis (mm).
    location_probability : MaskArray | None, optional
        Voxels where lesions are likely (X, Y, Z); None uses the whole brain.

    Returns
    -------
    MaskArray
        Voxels of hyperintensities (X, Y, Z; boolean).

    Raises
    ------
    ValueError
        The brain mask is empty.
    """
    inside = np.asarray(brain, dtype=bool)
    values = np.asarray(flair, dtype=np.float64)
    if not inside.any():
        raise ValueError("the brain mask is empty")
    spread = values[inside].std()
    if not spread > 0:
        return np.zeros(inside.shape, dtype=bool)
    z = (values - values[inside].mean()) / spread
    seeds = inside & (z > _LESION_SD)
    if location_probability is not None:
        seeds &= np.asarray(location_probability, dtype=bool)
    sigma = [_LESION_SMOOTHING_MM / FWHM_PER_SIGMA / float(mm) for mm in zooms[:3]]
    smooth = ndimage.gaussian_filter(seeds.astype(np.float64), sigma)
    lesion_mask = inside & (smooth >= _LESION_SHARE) & (z >= _LESION_Z)
    return np.asarray(lesion_mask, dtype=bool)


def lesions(
    series: Mapping[str, Real],
    mask: MaskArray,
    zooms: Sequence[float],
    location_probability: MaskArray | None = None,
) -> dict[str, dict[str, MaskArray]]:
    """Segment the FLAIR hyperintensities of each series, as a class for `segmentations`.

    Parameters
    ----------
    series : Mapping[str, Real]
        FLAIR scans (3D, 0 to 1) by series.
    mask : MaskArray
        Brain voxels (3D, boolean).
    zooms : Sequence[float]
        Voxel size along each axis (mm).
    location_probability : MaskArray | None, optional
        Voxels where lesions are likely (3D, boolean); None uses the whole brain.

    Returns
    -------
    dict[str, dict[str, MaskArray]]
        Voxels of class ``wmh`` by series.
    """
    return {
        name: {"wmh": white_matter_hyperintensities(image, mask, zooms, location_probability)}
        for name, image in series.items()
    }
