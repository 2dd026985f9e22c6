"""PSNR and SSIM of a super-resolved image inside a mask, as model cards state them.

Both take the coarse image's 99th percentile in the mask as data range, because a maximum is one voxel's affair.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def psnr(image: Array, truth: Array, mask: Array, data_range: float) -> float:
    """10 log10(range^2 / mean squared error inside the mask), in dB; infinite where the images are equal."""
    error = float(np.mean((np.asarray(image, np.float64) - truth)[mask > 0] ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def ssim(image: Array, truth: Array, mask: Array, data_range: float) -> float:
    """Mean of the structural similarity over the mask; (Z, X, Y) slices one by one, Gaussian window of 1.5 voxels.

    Source: Wang et al. 2004, with their constants.
    """
    from skimage.metrics import structural_similarity

    values = []
    for a, b, inside in zip(np.asarray(image, np.float64), np.asarray(truth, np.float64), mask > 0, strict=True):
        if inside.any():
            _, full = structural_similarity(
                a, b, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
            )
            values.append(full[inside])
    return float(np.concatenate(values).mean())
