"""Image similarity: MAE, RMSE, NMSE, PSNR and SSIM.

Images are neither scaled nor cropped, and the data range must be specified.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bids_sr.io.arrays import Float, MaskArray, Real

_SSIM_WINDOW = 11  # pixels, side of the Gaussian window of SSIM
_SSIM_RADIUS = _SSIM_WINDOW // 2
_SSIM_SIGMA = 1.5  # pixels, standard deviation of the window


def _check_shapes(reference: Real, image: Real, mask: MaskArray | None) -> None:
    """Raise ValueError if shapes differ, or the mask is empty."""
    if reference.shape != image.shape or (mask is not None and mask.shape != image.shape):
        shapes = [reference.shape, image.shape, *([] if mask is None else [mask.shape])]
        raise ValueError(
            f"images and mask must have the same shape, got {', '.join(map(str, shapes))}"
        )
    if mask is not None and not mask.any():
        raise ValueError("the mask is empty")


def _flatten_inside(reference: Real, image: Real, mask: MaskArray | None) -> tuple[Float, Float]:
    """Return the values of two images in the mask as vectors; None includes all voxels."""
    _check_shapes(reference, image, mask)
    included_voxels = slice(None) if mask is None else mask
    reference_values, image_values = (
        values[included_voxels].astype(np.float64).ravel() for values in (reference, image)
    )
    return reference_values, image_values


def reference_range(reference: Real, mask: MaskArray | None = None) -> float:
    """Return the range of a reference, the data range for PSNR and SSIM.

    The range is maximum minus minimum in the unit of the image. `mask` selects the voxels to
    include (same shape); None includes all voxels.
    """
    reference_values = reference if mask is None else reference[mask]
    return float(reference_values.max()) - float(reference_values.min())


def mae(reference: Real, image: Real, *, mask: MaskArray | None = None) -> float:
    """Return the mean absolute error, in the unit of the images.

    Images and mask have the same shape, and images the same unit. `mask` selects the voxels to
    include; None includes all voxels.
    """
    reference_values, values = _flatten_inside(reference, image, mask)
    return float(np.abs(reference_values - values).mean())


def rmse(reference: Real, image: Real, *, mask: MaskArray | None = None) -> float:
    """Return the root mean square error, in the unit of the images.

    Images and mask have the same shape, and images the same unit. `mask` selects the voxels to
    include; None includes all voxels.
    """
    reference_values, values = _flatten_inside(reference, image, mask)
    return float(np.sqrt(((reference_values - values) ** 2).mean()))


def nmse(reference: Real, image: Real, *, mask: MaskArray | None = None) -> float:
    """Return the normalized mean square error, ‖image − reference‖² / ‖reference‖².

    Images and mask have the same shape, and images the same unit. `mask` selects the voxels to
    include; None includes all voxels.
    """
    reference_values, values = _flatten_inside(reference, image, mask)
    return float(((reference_values - values) ** 2).sum() / (reference_values**2).sum())


def psnr(
    reference: Real, image: Real, *, data_range: float, mask: MaskArray | None = None
) -> float:
    """Return the peak signal-to-noise ratio, 10 log10(data_range² / MSE).

    The ratio is in dB, and infinite for equal images. Images and mask have the same shape, and
    images the same unit. `data_range` is the largest minus the smallest possible value in this
    unit. `mask` selects the voxels to include; None includes all voxels.
    """
    error = rmse(reference, image, mask=mask)
    return float("inf") if error == 0 else float(20 * np.log10(data_range / error))


def _compute_ssim_map(x: Float, y: Float, data_range: float) -> Float:
    """Return the structural similarity of slices (..., X, Y) of two images around each pixel.

    The index is equation 13 of Wang et al. (2004), with the same values as in scikit-image, which
    is not required for training. Raises `ValueError` if the image is smaller than the window of 11
    pixels.
    """
    if min(x.shape[-2:]) < _SSIM_WINDOW:
        raise ValueError(
            f"the image has {x.shape[-2:]} pixels; the structural similarity index requires at "
            f"least {_SSIM_WINDOW} pixels along each axis"
        )

    window_x, window_y = (_make_window_matrix(size) for size in x.shape[-2:])

    def average_locally(values: Float) -> Float:
        return window_x @ values @ window_y.T

    mean_x, mean_y = average_locally(x), average_locally(y)
    # variances are only needed as their sum
    variances = average_locally(x * x + y * y) - (mean_x * mean_x + mean_y * mean_y)
    covariance = average_locally(x * y) - mean_x * mean_y
    luminance_constant, contrast_constant = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    numerator = (2 * mean_x * mean_y + luminance_constant) * (2 * covariance + contrast_constant)
    index: Float = numerator / (
        (mean_x**2 + mean_y**2 + luminance_constant) * (variances + contrast_constant)
    )
    return index


@lru_cache(maxsize=16)
def _make_window_matrix(size: int) -> Float:
    """Return the matrix (size, size) that averages pixels along an axis in the Gaussian window.

    Pixels are reflected at the edges.
    """
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(np.eye(size), _SSIM_SIGMA, axis=0, radius=_SSIM_RADIUS))


def _find_frame(mask: MaskArray) -> tuple[slice, slice]:
    """Return the pixels along x and y on which the index inside a mask depends, at least a window.

    `mask` is (X, Y) or (X, Y, Z).
    """
    extents = []
    for axis in (0, 1):
        other_axes = tuple(dimension for dimension in range(mask.ndim) if dimension != axis)
        mask_indices = np.flatnonzero(mask.any(axis=other_axes))
        first, last = int(mask_indices[0]), int(mask_indices[-1])
        start = max(0, min(first - _SSIM_RADIUS, mask.shape[axis] - _SSIM_WINDOW))
        stop = max(last + 1 + _SSIM_RADIUS, start + _SSIM_WINDOW)
        extents.append(slice(start, stop))
    return extents[0], extents[1]


def ssim(
    reference: Real, image: Real, *, data_range: float, mask: MaskArray | None = None
) -> float:
    """Return the structural similarity (SSIM) averaged over the mask or the image.

    The definition follows Wang et al. (2004): Gaussian window with σ = 1.5 pixels, K1 = 0.01, K2 =
    0.03, biased covariance. An image (X, Y, Z) is compared slice by slice, because the methods
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
    _check_shapes(reference, image, mask)
    frame = (slice(None), slice(None)) if mask is None else _find_frame(mask)
    # slices first, so that each is contiguous
    framed_reference, framed_image = (
        np.ascontiguousarray(np.moveaxis(values[frame], values.ndim - 1, 0), dtype=np.float64)
        if values.ndim == 3
        else values[frame].astype(np.float64)
        for values in (reference, image)
    )
    index = _compute_ssim_map(framed_reference, framed_image, data_range)
    if image.ndim == 3:
        index = np.moveaxis(index, 0, -1)
    return float(index.mean() if mask is None else index[mask[frame]].mean())
