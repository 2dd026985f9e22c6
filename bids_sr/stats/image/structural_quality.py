"""No-reference quality metrics of structural images: CJV, EFC, FWHM, WM2max, ratios between tissues.

Source: attention-unet, section on metrics (equations 6 to 8), in the form that MRIQC (Esteban et al. 2017) gives them;
where the paper's text and MRIQC part, both are there and the docstring says which is the default.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from bids_sr.io.array_types import Float, Mask, Real
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.stats.image.temporal_quality import smoothness

STATISTICS = ("mean", "sd", "p05", "p95")
PAIRS = (("gm", "wm"), ("csf", "gm"), ("csf", "wm"))


def summary(image: Real, masks: Mapping[str, Mask]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation (of the population), 5 % and 95 % percentile of the intensity in each tissue.

    Raises
    ------
    ValueError : a tissue without a voxel, or a mask on another grid
    """
    return {name: _summary(_inside(image, mask, name)) for name, mask in masks.items()}


def summary_ratios(image: Real, masks: Mapping[str, Mask]) -> dict[str, float]:
    """Ratio of each summary statistic between tissues, `gm_over_wm_mean` and so on.

    Parameters
    ----------
    image : any unit that has a zero
    masks : gm, wm and csf

    Source: attention-unet, "ratio between the summary stats of GM, WM and CSF". Denominators of 0 are left out.
    """
    found = summary(image, masks)
    return {
        f"{one}_over_{other}_{what}": float(np.divide(found[one][what], found[other][what]))
        for one, other in PAIRS
        for what in STATISTICS
        if found[other][what] != 0
    }


def cjv(image: Real, gm: Mask, wm: Mask, *, robust: bool = False) -> float:
    """Coefficient of joint variation, (sd WM + sd GM) / |mean WM - mean GM|; lower is better.

    Parameters
    ----------
    robust : median and median absolute deviation (times 1.4826, a standard deviation of normal values) in place of
        mean and standard deviation, as MRIQC runs it

    Source: attention-unet, equation 6 (Ganzetti et al. 2016), with the absolute value that MRIQC takes. Infinite where
    the tissues have one intensity.
    """
    (gray, gray_sd), (white, white_sd) = (_center(_inside(image, m, n), robust) for m, n in ((gm, "gm"), (wm, "wm")))
    return (white_sd + gray_sd) / abs(white - gray) if white != gray else float("inf")


def efc(image: Real, mask: Mask | None = None) -> float:
    """Entropy focus criterion: entropy of the magnitudes over its largest value; 0 for one bright voxel, 1 for a
    constant image. Lower is better (less ghosting and blurring).

    Parameters
    ----------
    image : any unit; the magnitude is taken, as methods may give small negative values
    mask : voxels that count, those of zero intensity too; None: all of them

    Source: attention-unet, equation 7, with the sign and normalization of MRIQC (Atkinson et al. 1997).
    """
    x = np.abs(np.asarray(image if mask is None else image[mask], dtype=np.float64)).ravel()
    if x.size < 2 or not x.any():
        raise ValueError("the entropy focus criterion wants an image of at least two voxels that is not empty")
    part = x / np.linalg.norm(x)
    entropy = -(part * np.log(np.where(part > 0, part, 1.0))).sum()
    return float(entropy / (np.sqrt(x.size) * np.log(np.sqrt(x.size))))


def fwhm(image: Real, zooms: Sequence[float], mask: Mask | None = None) -> dict[str, float | None]:
    """Smoothness of an image along each axis: full width at half maximum of the Gaussian under which white noise would
    have its neighbors' differences.

    Parameters
    ----------
    image : (X, Y, Z)
    zooms : voxel size (mm)
    mask : pairs of neighbors inside it count

    Returns
    -------
    x, y, z and their mean (avg), in mm; None for an axis whose neighbors do not correlate

    Notes
    -----
    FWHM = d sqrt(-2 ln 2 / ln(1 - var(x_i+1 - x_i) / 2 var(x))), Forman et al. 1995, the estimator of AFNI's 3dFWHMx
    that MRIQC runs. Equation 8 of attention-unet names half the maximum only. An anatomical image is no noise: the
    metric compares images of one head on one grid.
    """
    x = np.asarray(image, dtype=np.float64)
    inside = np.ones(x.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    variance = float(x[inside].var())
    if variance == 0:
        raise ValueError("a constant image has no smoothness")
    correlations = []
    for axis in range(3):
        first, second = (np.take(x, range(k, x.shape[axis] - 1 + k), axis) for k in (0, 1))
        pairs = np.take(inside, range(x.shape[axis] - 1), axis) & np.take(inside, range(1, x.shape[axis]), axis)
        change = (second - first)[pairs]
        correlations.append(1 - float(change.var()) / (2 * variance) if change.size else 0.0)
    widths = smoothness(correlations, [float(z) for z in zooms[:3]])
    known = [w for w in widths if w is not None]
    return {**dict(zip("xyz", widths, strict=True)), "avg": float(np.mean(known)) if known else None}


def wm2max(image: Real, wm: Mask, *, percentile: float = 99.95) -> float:
    """Median of the white matter over a high percentile of the whole image; about .6 to .8 in a T1w of a whole head.

    Parameters
    ----------
    percentile : MRIQC's 99.95 %; attention-unet prints 95 %, as MRIQC's manual does
    """
    top = float(np.percentile(np.asarray(image, dtype=np.float64), percentile))
    if top == 0:
        raise ValueError(f"{percentile:g} % of the image are zero or less")
    return float(np.median(_inside(image, wm, "wm")) / top)


def white_matter_hyperintensities(
    flair: Real, brain: Mask, zooms: Sequence[float], *, deviations: float = 1.3, smooth_mm: float = 0.0,
    least_mm3: float = 0.0,
) -> Mask:  # fmt: skip
    """Voxels of a FLAIR brighter than mean + 1.3 standard deviations of the brain.

    Parameters
    ----------
    flair : (X, Y, Z), bias corrected
    brain : mask of the brain
    zooms : voxel size (mm)
    deviations : of the threshold
    smooth_mm : FWHM of a Gaussian before the threshold; the paper smooths the found mask and cuts it at .1, by a width
        it does not give, so none is the default
    least_mm3 : clusters (faces touch) below this volume are dropped

    Source: attention-unet, section 3.8.3. Its template of where lesions occur is not public and is left out, so this is
    its raw mask, which also holds bright gray matter: it compares images of one head, it is no lesion load.
    """
    inside = np.asarray(brain, dtype=bool)
    values = np.asarray(flair, dtype=np.float64)
    if not inside.any():
        raise ValueError("the brain mask is empty")
    if smooth_mm > 0:
        sigma = [smooth_mm / FWHM_PER_SIGMA / z for z in zooms[:3]]
        values = ndimage.gaussian_filter(np.where(inside, values, 0), sigma)
        values = values / np.maximum(ndimage.gaussian_filter(inside.astype(float), sigma), 1e-6)
    found = inside & (values > values[inside].mean() + deviations * values[inside].std())
    if least_mm3 > 0:
        labels, _ = ndimage.label(found)
        volume = np.bincount(labels.ravel()) * float(np.prod(zooms[:3]))
        volume[0] = 0
        found = (volume >= least_mm3)[labels]
    return np.asarray(found, dtype=bool)


def _inside(image: Real, mask: Mask, name: str) -> Float:
    if mask.shape != image.shape:
        raise ValueError(f"the mask {name} {mask.shape} is not on the image's grid {image.shape}")
    values = np.asarray(image, dtype=np.float64)[np.asarray(mask, dtype=bool)]
    if not values.size:
        raise ValueError(f"there is no voxel of {name}")
    return values


def _summary(values: Float) -> dict[str, float]:
    low, high = np.percentile(values, [5, 95])
    return dict(zip(STATISTICS, map(float, (values.mean(), values.std(), low, high)), strict=True))


def _center(values: Float, robust: bool) -> tuple[float, float]:
    if not robust:
        return float(values.mean()), float(values.std())
    middle = float(np.median(values))
    return middle, float(1.4826022185056018 * np.median(np.abs(values - middle)))
