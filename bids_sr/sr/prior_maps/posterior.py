"""Reconstruction error of effects that are super-resolved with prior SD maps.

For an effect ``beta``, acquired as ``D beta``, a linear method R gives the estimate ``R D beta``.
Its error ``(R D - I) beta`` is the same in every task block and proportional to the effect.
Therefore, neither more volumes nor the residuals of a linear model show the error.

Under the prior of the run, ``beta ~ N(0, tau^2 C)``, the error can be sampled: fluctuations x of
unit scale are acquired with noise and reconstructed, and their missing part above the acquired
Nyquist frequency is the error. The scale tau^2 of a contrast is the excess of its acquired power
over noise, divided by the power of acquired samples, both averaged locally. No parameter is fitted
to a reference.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage, special
from torch import Tensor

from bids_sr.io.arrays import Array, Float, Float32, MaskArray
from bids_sr.sr.prior_maps.prior import Prior, gaussian_correlation

N_SAMPLES = 64
"""Number of samples; the relative error of their standard deviation is 9 %."""
_LOCAL_SD = 0.75  # acquired voxels in plane, standard deviation of the local average


def draw_errors(
    prior: Prior, z: int, reconstruct: Callable[[Tensor], Tensor], count: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Sample reconstruction errors of a slice above the acquired Nyquist frequency.

    `z` is the number of the slice. `reconstruct` is the reconstruction of the slice, as returned
    by `prior.make_slice_function`. `count` is the number of samples.

    Returns errors (count, X, Y), and the fluctuations as acquired without noise (count, x, y).
    Both have unit scale.
    """
    level, highres_range = prior.region.level, prior.region.highres_range
    generator = torch.Generator().manual_seed(seed)
    change = torch.zeros(count, *level.highres_shape[:2])
    in_region = change[:, *highres_range]
    for width, weight in zip(prior.fwhm, prior.weight[:, z, *highres_range], strict=True):
        white_noise = torch.randn(count, *weight.shape, generator=generator)
        along_x, along_y = (_compute_square_root(size, width) for size in weight.shape)
        in_region.addcmul_(weight, along_x @ white_noise @ along_y)
    acquired = level.downsample(change)
    noise = prior.noise**0.5 * torch.randn(acquired.shape, generator=generator)
    return level.select_above_nyquist(change - reconstruct(acquired + noise)), acquired


@lru_cache(maxsize=64)
def _compute_square_root(size: int, fwhm: float) -> Tensor:
    """Return the symmetric square root of the matrix `gaussian_correlation` (size, size)."""
    with torch.inference_mode(False):
        values, vectors = torch.linalg.eigh(gaussian_correlation(size, fwhm).double())
        return ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).float()


def mean_error_sd(samples: Iterable[Array], weights: Array) -> Float:
    """Return the standard deviation of the reconstruction error of weighted sums of voxels (K,).

    The error of a sum is the sum of the errors of its voxels in the same sample, with their signs,
    so that it follows from their correlation. Most errors above the acquired Nyquist frequency
    cancel in the mean of a region.

    `samples` have unit scale (X, Y, Z). `weights` are the weights of the voxels (K, X, Y, Z),
    multiplied by the square root of the local scale of the effect (`effect_scale`).
    """
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    sums = np.array([rows @ np.ravel(sample) for sample in samples])
    return np.asarray(np.sqrt(np.square(sums).mean(axis=0)), dtype=np.float64)


def effect_scale(
    effect: Array, variance: Array, power: Array, mask: MaskArray, zooms: Sequence[float]
) -> Float32:
    """Return the scale tau^2 of a contrast from its effect and variance on the acquired grid.

    Parameters
    ----------
    effect : Array
        Effect (3D), in any unit. The error has the same unit.
    variance : Array
        Variance of the effect from the linear model (3D).
    power : Array
        Mean square of acquired samples from the prior (3D).
    mask : MaskArray
        Brain mask (3D, boolean).
    zooms : Sequence[float]
        Voxel size along each axis (mm).

    Returns
    -------
    Float32
        Scale of the sample variance (3D). It is 0 in voxels whose effect does not exceed its
        noise.
    """
    sigma = [_LOCAL_SD * zooms[0] / size for size in zooms]
    excess, sample_power = (
        ndimage.gaussian_filter(np.where(mask, image, 0).astype(np.float32), sigma)
        for image in (np.square(effect) - variance, power)
    )
    scale: Float32 = np.where(
        mask & (sample_power > 0),
        np.maximum(excess, 0) / np.where(sample_power > 0, sample_power, 1),
        0,
    ).astype(np.float32)
    return scale


def wrong_sign_probability(effect: Array, variance: Array) -> Float32:
    """Return the posterior probability that an effect has the opposite sign.

    The probability is 0.5 in voxels without a variance.
    """
    sd = np.sqrt(np.where(variance > 0, variance, 1))
    probability: Float32 = np.where(variance > 0, special.ndtr(-np.abs(effect) / sd), 0.5).astype(
        np.float32
    )
    return probability
