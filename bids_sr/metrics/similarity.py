"""Image similarity: MAE, RMSE, NMSE, PSNR and SSIM.

Nothing is scaled or cropped, and the data range is stated.
"""

from __future__ import annotations

import numpy as np

from bids_sr.io.arrays import Float, Mask, Real

_SSIM_WINDOW = 11  # pixels, side of the Gaussian window of SSIM


def _both(reference: Real, image: Real, mask: Mask | None) -> tuple[Float, Float]:
    if reference.shape != image.shape or (mask is not None and mask.shape != image.shape):
        shapes = [reference.shape, image.shape, *([] if mask is None else [mask.shape])]
        raise ValueError(
            f"images and mask must have the same shape, got {', '.join(map(str, shapes))}"
        )
    if mask is not None and not mask.any():
        raise ValueError("the mask is empty")
    inside = slice(None) if mask is None else mask
    return reference[inside].astype(np.float64).ravel(), image[inside].astype(np.float64).ravel()


def reference_range(reference: Real, mask: Mask | None = None) -> float:
    """Return the range of the reference (in the mask): the data range stated for PSNR and SSIM.

    It is the maximum minus the minimum, in the unit of the image.

    `reference`: image that is held for true, in any unit of intensity. `mask`: voxels that count
    (boolean, same shape); None for all of them.
    """
    inside = reference if mask is None else reference[mask]
    return float(inside.max()) - float(inside.min())


def mae(reference: Real, image: Real, *, mask: Mask | None = None) -> float:
    """Mean absolute error, in the images' unit.

    `reference`: image that is held for true, in any unit of intensity. `image`: image to judge, of
    the same shape and unit. `mask`: voxels that count (boolean, same shape); None for all of them.
    """
    x, y = _both(reference, image, mask)
    return float(np.abs(x - y).mean())


def rmse(reference: Real, image: Real, *, mask: Mask | None = None) -> float:
    """Root mean square error, in the images' unit.

    `reference`: image that is held for true, in any unit of intensity. `image`: image to judge, of
    the same shape and unit. `mask`: voxels that count (boolean, same shape); None for all of them.
    """
    x, y = _both(reference, image, mask)
    return float(np.sqrt(((x - y) ** 2).mean()))


def nmse(reference: Real, image: Real, *, mask: Mask | None = None) -> float:
    """Return ‖image − reference‖² / ‖reference‖².

    `reference`: image that is held for true, in any unit of intensity. `image`: image to judge, of
    the same shape and unit. `mask`: voxels that count (boolean, same shape); None for all of them.
    """
    x, y = _both(reference, image, mask)
    return float(((x - y) ** 2).sum() / (x**2).sum())


def psnr(reference: Real, image: Real, *, data_range: float, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio, 10 log10(data_range² / MSE) in dB; infinite for equal images.

    `reference`: image that is held for true, in any unit of intensity. `image`: image to judge, of
    the same shape and unit. `data_range`: largest minus smallest possible value, in the unit of
    the images.
    """
    error = rmse(reference, image, mask=mask)
    return float("inf") if error == 0 else float(20 * np.log10(data_range / error))


def _ssim_map(x: Float, y: Float, data_range: float) -> Float:
    """Return the structural similarity of two images (X, Y) around each pixel.

    Wang et al. (2004), equation 13. scikit-image gives the same values; training on a machine
    without it does not need it. ValueError: an image smaller than the window of 11 pixels.
    """
    from scipy.ndimage import gaussian_filter

    if min(x.shape) < _SSIM_WINDOW:
        raise ValueError(
            f"the image has {x.shape} pixels; the structural similarity index requires at "
            f"least {_SSIM_WINDOW} pixels along each axis"
        )

    def local_mean(values: Float) -> Float:
        return gaussian_filter(values, sigma=1.5, radius=_SSIM_WINDOW // 2)

    mean_x, mean_y = local_mean(x), local_mean(y)
    variances = local_mean(x * x) - mean_x * mean_x + (local_mean(y * y) - mean_y * mean_y)
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    index: Float = above / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return index


def ssim(reference: Real, image: Real, *, data_range: float, mask: Mask | None = None) -> float:
    """Return SSIM as the mean over the mask (or the image).

    An image (X, Y, Z) is compared slice by slice, as the methods see it.

    Gaussian window of σ = 1.5 pixels, K1 = .01, K2 = .03, biased covariance, as Wang et al. (2004)
    define it. The index is computed on whole slices and averaged over the mask, so that the mask's
    border is no edge in the images. `data_range` is the difference of the largest and the smallest
    value that is possible, in the images' unit.

    Parameters
    ----------
    reference : Real
        Image that is held for true (X, Y) or (X, Y, Z).
    image : Real
        Image to judge, of the same shape and unit.
    data_range : float
        Largest minus smallest possible value, in the unit of the images.
    mask : Mask | None, optional
        Voxels that count (boolean, same shape); None for all of them.

    Returns
    -------
    float
        Mean index, 1 for equal images.
    """
    _both(reference, image, mask)
    pairs = (
        [(reference, image)]
        if image.ndim == 2
        else list(zip(np.moveaxis(reference, -1, 0), np.moveaxis(image, -1, 0), strict=True))
    )
    index = [_ssim_map(x.astype(np.float64), y.astype(np.float64), data_range) for x, y in pairs]
    full = index[0] if image.ndim == 2 else np.stack(index, axis=-1)
    return float(full.mean() if mask is None else full[mask].mean())
