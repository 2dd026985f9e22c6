"""Image metrics as defined in attention-unet, if they differ from the usual definitions.

The usual metrics are in `bids_sr.spatial.image_similarity` (NMSE) and
`bids_sr.structural.image_quality` (CJV, EFC, FWHM and WM2max as in MRIQC). Source: attention-unet,
section 3.8.1.
"""

import math

import numpy as np

from bids_sr.io.arrays import Float, MaskArray, Real

_TOP_PERCENTILE = 95.0  # of the intensities of the image, as the maximum of WM2max


def nmse_voxel(reference: Real, image: Real, *, mask: MaskArray | None = None) -> float:
    """Return the mean over voxels of (image - reference)² / reference² (equation 3).

    Voxels with a reference of 0 are excluded; the result is NaN if no voxel remains. Dark voxels
    have the largest weight, while the usual NMSE is a ratio of sums.

    Images and mask have the same shape, and images the same unit. `mask` selects the voxels to
    include; None includes all voxels.
    """
    expected, observed = _select_intensities(reference, mask), _select_intensities(image, mask)
    nonzero = expected != 0
    if not nonzero.any():
        return math.nan
    return float((((observed - expected)[nonzero] / expected[nonzero]) ** 2).mean())


def cjv_signed(image: Real, gm: MaskArray, wm: MaskArray) -> float:
    """Return (sd WM + sd GM) / (mean WM - mean GM), with the sign of the contrast (equation 6).

    The value is negative if gray matter is brighter, as in T2w and FLAIR, and infinite for equal
    means. MRIQC uses the absolute difference of the means. Intensities are in any unit, and image
    and masks are 3D.
    """
    gray, white = (np.asarray(image, dtype=np.float64)[mask] for mask in (gm, wm))
    difference = float(white.mean()) - float(gray.mean())
    summed_sd = float(white.std()) + float(gray.std())
    return summed_sd / difference if difference else math.inf


def efc_sum(image: Real, mask: MaskArray | None = None) -> float:
    """Return the sum over voxels of B/Bmax ln(B/Bmax) (equation 7), at most 0.

    The paper does not define Bmax. It is the root of the sum of squared magnitudes here, as in
    Atkinson et al. 1997, which the paper cites. The value depends on the number of voxels, so only
    images of one head on one grid can be compared. MRIQC's criterion has the opposite sign and is
    divided by its maximum.

    Intensities are in any unit. `mask` selects the voxels to include (same shape); None includes
    all voxels. Raises `ValueError` if the image is 0 everywhere.
    """
    magnitudes = np.abs(_select_intensities(image, mask))
    if not magnitudes.any():
        raise ValueError(
            "the entropy focus criterion requires an image with at least one nonzero voxel"
        )
    fraction = magnitudes / np.linalg.norm(magnitudes)
    return float((fraction * np.log(np.where(fraction > 0, fraction, 1.0))).sum())


def half_maximum(image: Real, mask: MaskArray | None = None) -> float:
    """Return half of the largest intensity (equation 8, called FWHM in the paper).

    The value is an intensity, not a width, and does not measure smoothness. Intensities are in any
    unit. `mask` selects the voxels to include (same shape); None includes all voxels.
    """
    return float(_select_intensities(image, mask).max()) / 2


def wm2max_p95(image: Real, wm: MaskArray) -> float:
    """Return the median of white matter divided by the 95th percentile of the image.

    MRIQC uses the 99.95th percentile. Intensities are in any unit, and image and mask are 3D.
    Raises `ValueError` if the percentile is 0.
    """
    return compare_with_percentile(image, wm, _TOP_PERCENTILE)


def compare_with_percentile(image: Real, wm: MaskArray, percentile: float) -> float:
    """Return the median of white matter divided by a percentile of the image, see `wm2max_p95`."""
    intensities = np.asarray(image, dtype=np.float64)
    maximum = float(np.percentile(intensities, percentile))
    if maximum == 0:
        raise ValueError(
            "the white-matter-to-maximum intensity ratio cannot be computed, because "
            f"{percentile:g} % of the voxels have an intensity of 0 or less"
        )
    return float(np.median(intensities[wm]) / maximum)


def _select_intensities(image: Real, mask: MaskArray | None) -> Float:
    """Return the values of an image in a mask, or all values, in double precision (N,)."""
    return np.asarray(image if mask is None else image[mask], dtype=np.float64).ravel()
