"""Image similarity: MAE, RMSE, NMSE, PSNR and SSIM.

Images are neither scaled nor cropped, and the data range must be specified.
"""

from __future__ import annotations

import numpy as np

from bids_sr.io.arrays import Float, MaskArray, Real


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


def _flatten_inside(reference: Real, image: Real, mask: MaskArray | None) -> tuple[Float, Float]:
    """Return the values of two images in the mask as vectors; None includes all voxels."""
    _check_shapes(reference, image, mask)
    included_voxels = slice(None) if mask is None else mask
    reference_values, image_values = (
        values[included_voxels].astype(np.float64).ravel() for values in (reference, image)
    )
    return reference_values, image_values


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

    Raises
    ------
    ValueError
        The shapes differ, the mask is empty, or a slice is smaller than the window of 11 pixels.
    """
    from skimage.metrics import structural_similarity

    _check_shapes(reference, image, mask)
    _, index_map = structural_similarity(
        reference.astype(np.float64),
        image.astype(np.float64),
        data_range=data_range,
        gaussian_weights=True,
        use_sample_covariance=False,
        channel_axis=2 if image.ndim == 3 else None,
        full=True,
    )
    return float(index_map[slice(None) if mask is None else mask].mean())


def _check_shapes(reference: Real, image: Real, mask: MaskArray | None) -> None:
    """Raise ValueError if shapes differ, or the mask is empty."""
    if reference.shape != image.shape or (mask is not None and mask.shape != image.shape):
        shapes = [reference.shape, image.shape, *([] if mask is None else [mask.shape])]
        raise ValueError(
            f"images and mask must have the same shape, got {', '.join(map(str, shapes))}"
        )
    if mask is not None and not mask.any():
        raise ValueError("the mask is empty")
