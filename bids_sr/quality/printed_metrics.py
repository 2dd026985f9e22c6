"""Image metrics as attention-unet prints them, where they differ from the usual definitions.

The usual ones are in `bids_sr.metrics.rows` (NMSE) and `bids_sr.quality.image_quality` (CJV, EFC,
FWHM and WM2max, as MRIQC computes them). Source: attention-unet, section 3.8.1.
"""

import math

import numpy as np

from bids_sr.io.arrays import Mask, Real

_TOP_PERCENTILE = 95.0


def nmse_voxel(reference: Real, image: Real, *, mask: Mask | None = None) -> float:
    """Return the mean over voxels of (image - reference)² / reference² (equation 3).

    Voxels where the reference is 0 have no value and do not count; NaN if there are no others.
    Dark voxels weigh most: the usual NMSE divides the sums instead.

    `reference`: high-resolution reference, in any unit of intensity. `image`: image to judge, of
    the same shape and unit. `mask`: voxels that count (boolean, same shape); None for all of them.
    """
    inside = slice(None) if mask is None else mask
    x, y = (np.asarray(one[inside], dtype=np.float64).ravel() for one in (reference, image))
    known = x != 0
    if not known.any():
        return math.nan
    return float((((y - x)[known] / x[known]) ** 2).mean())


def cjv_signed(image: Real, gm: Mask, wm: Mask) -> float:
    """Return (sd WM + sd GM) / (mean WM - mean GM), with the sign of the contrast (equation 6).

    It is negative in images in which gray matter is brighter, such as T2w and FLAIR; MRIQC takes
    the absolute difference of the means. Infinite for equal means.

    `image`: image in any unit of intensity (3D). `gm`, `wm`: voxels of gray and white matter (3D,
    boolean). ValueError for a tissue without a voxel.
    """
    if not (gm.any() and wm.any()):
        raise ValueError("the segmentation contains no gray-matter or no white-matter voxels")
    gray, white = (np.asarray(image, dtype=np.float64)[mask] for mask in (gm, wm))
    difference = float(white.mean()) - float(gray.mean())
    spread = float(white.std()) + float(gray.std())
    return spread / difference if difference else math.inf


def efc_sum(image: Real, mask: Mask | None = None) -> float:
    """Return the sum over voxels of B/Bmax ln(B/Bmax) (equation 7), at most 0.

    Bmax, which the paper does not define, is the root of the sum of squared magnitudes, as in
    Atkinson et al. 1997, whom it cites. The value depends on the number of voxels: compare images
    of one head on one grid. MRIQC's criterion has the opposite sign and is divided by its maximum.

    `image`: image in any unit of intensity. `mask`: voxels that count (boolean, same shape); None
    for all. ValueError for an image without any intensity.
    """
    x = np.abs(np.asarray(image if mask is None else image[mask], dtype=np.float64)).ravel()
    if not x.any():
        raise ValueError(
            "the entropy focus criterion requires an image with at least one nonzero voxel"
        )
    part = x / np.linalg.norm(x)
    return float((part * np.log(np.where(part > 0, part, 1.0))).sum())


def half_maximum(image: Real, mask: Mask | None = None) -> float:
    """Return half of the largest intensity (equation 8, which the paper calls FWHM).

    It is an intensity and no width, and does not measure smoothness.

    `image`: image in any unit of intensity. `mask`: voxels that count (boolean, same shape); None
    for all.
    """
    return float(np.asarray(image if mask is None else image[mask], dtype=np.float64).max()) / 2


def wm2max_p95(image: Real, wm: Mask) -> float:
    """Return the white-matter median over the 95th percentile of the image.

    MRIQC takes the 99.95th percentile. ValueError if the percentile is 0, or without a voxel of
    white matter.

    `image`: image in any unit of intensity (3D). `wm`: voxels of white matter (3D, boolean).
    """
    values = np.asarray(image, dtype=np.float64)
    top = float(np.percentile(values, _TOP_PERCENTILE))
    if top == 0:
        raise ValueError(
            "the white-matter-to-maximum intensity ratio cannot be computed, because "
            f"{_TOP_PERCENTILE:g} % of the voxels have an intensity of 0 or less"
        )
    if not wm.any():
        raise ValueError("the segmentation contains no white-matter voxels")
    return float(np.median(values[wm]) / top)
