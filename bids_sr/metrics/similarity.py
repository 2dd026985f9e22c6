"""Image similarity: MAE, RMSE, NMSE, PSNR and SSIM.

Images are neither scaled nor cropped, and the data range must be specified.
"""

from __future__ import annotations

import numpy as np

from bids_sr.io.arrays import Float, MaskArray, Real

_SSIM_WINDOW = 11  # pixels, side of the Gaussian window of SSIM


def _flatten_inside(reference: Real, image: Real, mask: MaskArray | None) -> tuple[Float, Float]:
    if reference.shape != image.shape or (mask is not None and mask.shape != image.shape):
        shapes = [reference.shape, image.shape, *([] if mask is None else [mask.shape])]
        raise ValueError(
            f"images and mask must have the same shape, got {', '.join(map(str, shapes))}"
        )
    if mask is not None and not mask.any():
        raise ValueError("the mask is empty")
    inside = slice(None) if mask is None else mask
    return reference[inside].astype(np.float64).ravel(), image[inside].astype(np.float64).ravel()


def reference_range(reference: Real, mask: MaskArray | None = None) -> float:
    """Return the range of a reference, the data range for PSNR and SSIM.

    Parameters
    ----------
    reference : Real
        Reference image, with intensities in any unit.
    mask : MaskArray | None, optional
        Voxels to include (boolean, same shape); None includes all voxels.

    Returns
    -------
    float
        Maximum minus minimum, in the unit of the image.
    """
    inside = reference if mask is None else reference[mask]
    return float(inside.max()) - float(inside.min())


def mae(reference: Real, image: Real, *, mask: MaskArray | None = None) -> float:
    """Return the mean absolute error, in the unit of the images.

    Parameters
    ----------
    reference : Real
        Reference image, with intensities in any unit.
    image : Real
        Image to evaluate, with the same shape and unit.
    mask : MaskArray | None, optional
        Voxels to include (boolean, same shape); None includes all voxels.
    """
    x, y = _flatten_inside(reference, image, mask)
    return float(np.abs(x - y).mean())


def rmse(reference: Real, image: Real, *, mask: MaskArray | None = None) -> float:
    """Return the root mean square error, in the unit of the images.

    Parameters
    ----------
    reference : Real
        Reference image, with intensities in any unit.
    image : Real
        Image to evaluate, with the same shape and unit.
    mask : MaskArray | None, optional
        Voxels to include (boolean, same shape); None includes all voxels.
    """
    x, y = _flatten_inside(reference, image, mask)
    return float(np.sqrt(((x - y) ** 2).mean()))


def nmse(reference: Real, image: Real, *, mask: MaskArray | None = None) -> float:
    """Return the normalized mean square error, ‖image − reference‖² / ‖reference‖².

    Parameters
    ----------
    reference : Real
        Reference image, with intensities in any unit.
    image : Real
        Image to evaluate, with the same shape and unit.
    mask : MaskArray | None, optional
        Voxels to include (boolean, same shape); None includes all voxels.
    """
    x, y = _flatten_inside(reference, image, mask)
    return float(((x - y) ** 2).sum() / (x**2).sum())


def psnr(
    reference: Real, image: Real, *, data_range: float, mask: MaskArray | None = None
) -> float:
    """Return the peak signal-to-noise ratio, 10 log10(data_range² / MSE).

    Parameters
    ----------
    reference : Real
        Reference image, with intensities in any unit.
    image : Real
        Image to evaluate, with the same shape and unit.
    data_range : float
        Largest minus smallest possible value, in the unit of the images.
    mask : MaskArray | None, optional
        Voxels to include (boolean, same shape); None includes all voxels.

    Returns
    -------
    float
        Ratio in dB; infinite for equal images.
    """
    error = rmse(reference, image, mask=mask)
    return float("inf") if error == 0 else float(20 * np.log10(data_range / error))


def _ssim_map(x: Float, y: Float, data_range: float) -> Float:
    """Return the structural similarity of two images (X, Y) around each pixel.

    The index is equation 13 of Wang et al. (2004), with the same values as in scikit-image, which
    is not required for training.

    Raises
    ------
    ValueError
        The image is smaller than the window of 11 pixels.
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
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    index: Float = numerator / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return index


def ssim(
    reference: Real, image: Real, *, data_range: float, mask: MaskArray | None = None
) -> float:
    """Return the structural similarity (SSIM) averaged over the mask or the image.

    The definition follows Wang et al. (2004): Gaussian window with σ = 1.5 pixels, K1 = .01, K2 =
    .03, biased covariance. An image (X, Y, Z) is compared slice by slice, because the methods
    process slices. The index is computed on unmasked slices and then averaged over the mask, so
    that the border of the mask does not create edges.

    Parameters
    ----------
    reference : Real
        Reference image (X, Y) or (X, Y, Z).
    image : Real
        Image to evaluate, with the same shape and unit.
    data_range : float
        Largest minus smallest possible value, in the unit of the images.
    mask : MaskArray | None, optional
        Voxels to include (boolean, same shape); None includes all voxels.

    Returns
    -------
    float
        Mean index, 1 for equal images.
    """
    _flatten_inside(reference, image, mask)
    pairs = (
        [(reference, image)]
        if image.ndim == 2
        else list(zip(np.moveaxis(reference, -1, 0), np.moveaxis(image, -1, 0), strict=True))
    )
    index = [_ssim_map(x.astype(np.float64), y.astype(np.float64), data_range) for x, y in pairs]
    full = index[0] if image.ndim == 2 else np.stack(index, axis=-1)
    return float(full.mean() if mask is None else full[mask].mean())
