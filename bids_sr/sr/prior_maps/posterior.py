"""Reconstruction error of effects that are super-resolved with prior SD maps.

For an effect ``beta``, acquired as ``D beta``, a linear method R gives the estimate ``R D beta``.
Its error ``(R D - I) beta`` is the same in every task block and proportional to the effect.
Therefore, neither more volumes nor the residuals of a linear model show the error.

Under the prior of the run, ``beta ~ N(0, tau^2 C)``, the error can be sampled: fluctuations x of
unit scale are acquired with noise and reconstructed, and their missing part above the acquired
Nyquist frequency is the error. The scale tau^2 of a contrast is estimated from its acquired power,
its noise, and the power of acquired samples (`effect_scale`). No parameter is fitted to a
reference.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage, sparse, special
from torch import Tensor

from bids_sr.io.arrays import Array, Float, Float32, MaskArray
from bids_sr.spatial.masks import bounding_box
from bids_sr.sr.prior_maps.prior import Prior, gaussian_correlation

N_SAMPLES = 64
"""Number of samples; the relative error of their standard deviation is 9 %."""
# acquired voxels in plane, standard deviations of the local averages
_AVERAGE_SDS = (6.0, 3.0, 1.5, 0.75)
_AVERAGE_TRUNCATION = 3.0  # half-width of the Gaussian in standard deviations
# Effects of neighboring voxels are correlated (r = .3 to .5 in participants), which raises the
# variance of averages of their squares 1.5 to 2 times.
_VOXELS_PER_INDEPENDENT = 2.0
# standard deviation of the logarithm of the scale in an average around the next wider average; the
# likelihood of eight acquired effects is highest for .5 to .7
_LOG_SCALE_SD = 0.5
_LOWEST_RATIO = -1000.0  # standard deviations; limits the loss of digits
_LOG_SCALES = np.arange(-4, 5)  # possible scales, in standard deviations of the logarithm


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


def mean_error_sd(samples: Iterable[Array], weights: Array | sparse.csr_array) -> Float:
    """Return the standard deviation of the reconstruction error of weighted sums of voxels (K,).

    The error of a sum is the sum of the errors of its voxels in the same sample, with their signs,
    so that it follows from their correlation. Most errors above the acquired Nyquist frequency
    cancel in the mean of a region.

    `samples` have unit scale (N,). `weights` are the weights of the voxels (K, N), multiplied by
    the square root of the local scale of the effect (`effect_scale`).
    """
    sums = np.array([weights @ sample.astype(np.float64) for sample in samples])
    return np.asarray(np.sqrt(np.square(sums).mean(axis=0)), dtype=np.float64)


def effect_scale(
    effect: Array, variance: Array, power: Array, mask: MaskArray, zooms: Sequence[float]
) -> Float32:
    """Return the scale tau^2 of a contrast from its effect and variance on the acquired grid.

    The scale is estimated in smaller and smaller neighborhoods, as a posterior mean. Its prior is
    log-normal around the scale of the next wider neighborhood. Therefore, the scale is local if
    the effect exceeds its noise, follows the surroundings otherwise, and is never negative.

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
        Scale of the sample variance (3D). It is above 0 in the mask, unless effects or samples are
        0 in a wide neighborhood, and 0 outside the mask.
    """
    scale = np.zeros(mask.shape, np.float32)
    if not mask.any():
        return scale
    box = bounding_box(mask)
    in_brain = mask[box]
    images = [
        np.where(in_brain, image[box], 0).astype(np.float32)
        for image in (np.square(effect), variance, power, np.ones(mask.shape))
    ]
    local_scale: Float32 | None = None
    for sd in _AVERAGE_SDS:
        sigma = [sd * zooms[0] / size for size in zooms]
        mean_square, noise, mean_power, brain_fraction = (
            ndimage.gaussian_filter(image, sigma, mode="constant", truncate=_AVERAGE_TRUNCATION)[
                in_brain
            ]
            for image in images
        )
        n_voxels = brain_fraction * _count_averaged_voxels(sigma, in_brain.shape)
        if local_scale is None:
            local_scale = _estimate_wide_scale(mean_square, noise, mean_power, n_voxels)
        else:
            local_scale = _narrow_scale(local_scale, mean_square, noise, mean_power, n_voxels)
    scale[mask] = local_scale
    return scale


def _count_averaged_voxels(sigma: Sequence[float], shape: Sequence[int]) -> float:
    """Return the number of independent voxels whose mean is as precise as a Gaussian average.

    `sigma` are the standard deviations of the Gaussian (voxels), and `shape` the number of voxels
    along each axis.
    """
    count = 1 / _VOXELS_PER_INDEPENDENT
    for width, n in zip(sigma, shape, strict=True):
        offsets = np.arange(-np.ceil(4 * width), np.ceil(4 * width) + 1)
        weights = np.exp(-np.square(offsets / width) / 2)
        count *= min(weights.sum() ** 2 / np.square(weights).sum(), n)
    return count


def _estimate_wide_scale(
    mean_square: Float32, noise: Float32, power: Float32, n_voxels: Float32
) -> Float32:
    """Return the mean of a non-negative scale under a flat prior (N,).

    `mean_square`, `noise` and `power` are local averages of squared effects, their noise variance,
    and the power of samples. The averages of squares are normal, because `n_voxels` are many.
    """
    has_scale = (mean_square > 0) & (power > 0)
    total, divisor = (np.where(has_scale, x, 1).astype(np.float64) for x in (mean_square, power))
    error = np.sqrt(2 / n_voxels) * total
    # mean of a normal distribution that is cut off at 0
    ratio = np.maximum((total - noise) / error, _LOWEST_RATIO)
    hazard = np.sqrt(2 / np.pi) / special.erfcx(-ratio / np.sqrt(2))
    return np.where(has_scale, error * (ratio + hazard) / divisor, 0).astype(np.float32)


def _narrow_scale(
    wide_scale: Float32,
    mean_square: Float32,
    noise: Float32,
    power: Float32,
    n_voxels: Float32,
) -> Float32:
    """Return the posterior mean of the scale in neighborhoods within wider ones (N,).

    `wide_scale` is the scale in the wider neighborhood. Effects of `n_voxels` independent voxels
    are normal, and their variance is the sum of noise and scaled power. For the averages, see
    `_estimate_wide_scale`.
    """
    weights = np.exp(-np.square(_LOG_SCALES, dtype=np.float32) / 2)
    factors = np.exp(_LOG_SCALE_SD * _LOG_SCALES).astype(np.float32)
    factors *= weights.sum() / (weights @ factors)  # the prior mean is the wide scale
    wide_power = wide_scale * power
    expected = noise + wide_power
    has_scale = expected > 0
    expected = np.where(has_scale, expected, 1)
    square_ratio = mean_square / expected
    log_posteriors = np.empty((len(factors), len(power)), np.float32)
    for log_posterior, factor, weight in zip(log_posteriors, factors, weights, strict=True):
        # without the factors of the likelihood that are the same for all scales
        ratio = expected / np.where(has_scale, noise + factor * wide_power, 1)
        log_posterior[:] = np.log(weight) + n_voxels / 2 * (
            np.log(ratio) - square_ratio * (ratio - 1)
        )
    posteriors = np.exp(log_posteriors - log_posteriors.max(axis=0))
    return wide_scale * (factors @ posteriors) / posteriors.sum(axis=0)


def wrong_sign_probability(effect: Array, variance: Array) -> Float32:
    """Return the posterior probability that an effect has the opposite sign.

    The probability is 0.5 in voxels without a variance.
    """
    sd = np.sqrt(np.where(variance > 0, variance, 1))
    probability: Float32 = np.where(variance > 0, special.ndtr(-np.abs(effect) / sd), 0.5).astype(
        np.float32
    )
    return probability
