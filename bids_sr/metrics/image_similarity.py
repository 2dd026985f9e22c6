"""Image similarity: MAE, RMSE, NMSE, PSNR and SSIM.

Nothing is scaled or cropped, and the data range is stated.
"""

import numpy as np

from bids_sr.io.array_types import Float, Mask, Real


def _both(reference: Real, image: Real, mask: Mask | None) -> tuple[Float, Float]:
    if reference.shape != image.shape or (mask is not None and mask.shape != image.shape):
        shapes = [reference.shape, image.shape, *([] if mask is None else [mask.shape])]
        raise ValueError(f"images of shapes {', '.join(map(str, shapes))} cannot be compared")
    if mask is not None and not mask.any():
        raise ValueError("the mask is empty")
    inside = slice(None) if mask is None else mask
    return reference[inside].astype(np.float64).ravel(), image[inside].astype(np.float64).ravel()


def reference_range(reference: Real, mask: Mask | None = None) -> float:
    """Return the range of the reference (in the mask): the data range stated for PSNR and SSIM.

    It is the maximum minus the minimum.

    `reference`: image that is held for true, in any unit of intensity. Difference in the unit of
    the image.
    """
    inside = reference if mask is None else reference[mask]
    return float(inside.max()) - float(inside.min())


def mae(reference: Real, image: Real, *, mask: Mask | None = None) -> float:
    """Mean absolute error, in the images' unit.

    `reference`: image that is held for true, in any unit of intensity. `image`: image to judge, of
    the same shape and unit.
    """
    x, y = _both(reference, image, mask)
    return float(np.abs(x - y).mean())


def rmse(reference: Real, image: Real, *, mask: Mask | None = None) -> float:
    """Root mean square error, in the images' unit.

    `reference`: image that is held for true, in any unit of intensity. `image`: image to judge, of
    the same shape and unit.
    """
    x, y = _both(reference, image, mask)
    return float(np.sqrt(((x - y) ** 2).mean()))


def nmse(reference: Real, image: Real, *, mask: Mask | None = None) -> float:
    """Return ‖image − reference‖² / ‖reference‖².

    `reference`: image that is held for true, in any unit of intensity. `image`: image to judge, of
    the same shape and unit. Error relative to the energy of the reference, 0 for equal images.
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
    from skimage.metrics import structural_similarity

    _both(reference, image, mask)
    pairs = (
        [(reference, image)]
        if image.ndim == 2
        else list(zip(np.moveaxis(reference, -1, 0), np.moveaxis(image, -1, 0), strict=True))
    )
    index = [
        structural_similarity(
            x.astype(np.float64),
            y.astype(np.float64),
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )[1]
        for x, y in pairs
    ]
    full = index[0] if image.ndim == 2 else np.stack(index, axis=-1)
    return float(full.mean() if mask is None else full[mask].mean())
