"""Error of a reconstruction by variance maps: what an effect on the high-resolution grid lacks.

A method that is linear in the data, R, gives of an effect ``beta`` that was acquired as ``D beta``
the estimate ``R D beta``. Its error ``(R D - I) beta`` is the same in every block and proportional
to the effect, so that neither more volumes nor the residuals of a linear model tell it. Under the
prior of the run, ``beta ~ N(0, tau^2 C)``, it is drawn: fluctuations x of unit scale are acquired
with noise and reconstructed, and what is missing of them beyond the acquired band is the error.
The scale tau^2 of a contrast is how much the power of its acquired effect exceeds that of noise,
over the power of acquired draws, both averaged locally; nothing is tuned on a reference.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage, special
from torch import Tensor

from bids_sr.io.arrays import Array, Float32, Mask
from bids_sr.sr.variance.prior import Prior, correlation

DRAWS = 64  # of which the standard deviation errs by 9 %
_AROUND = 0.75  # standard deviation of the local average (acquired voxels in plane)


@lru_cache(maxsize=64)
def _root(size: int, fwhm: float) -> Tensor:
    """The symmetric square root of `correlation`."""
    with torch.inference_mode(False):
        values, vectors = torch.linalg.eigh(correlation(size, fwhm).double())
        return ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).float()


def error_draws(
    prior: Prior, z: int, expect: Callable[[Tensor], Tensor], count: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Draw errors (count, X, Y) of what `prior.at` expects of a slice, beyond the acquired band.

    Second come the fluctuations as acquired, without noise (count, x, y); both of unit scale.
    """
    level, fine = prior.whole.level, prior.whole.fine
    generator = torch.Generator().manual_seed(seed)
    change = torch.zeros(count, *level.fine[:2])
    inside = change[:, *fine]
    for width, weight in zip(prior.fwhm, prior.weight[:, z, *fine], strict=True):
        white = torch.randn(count, *weight.shape, generator=generator)
        along_x, along_y = (_root(size, width) for size in weight.shape)
        inside.addcmul_(weight, along_x @ white @ along_y)
    seen = level.down(change)
    noise = prior.noise**0.5 * torch.randn(seen.shape, generator=generator)
    return level.beyond(change - expect(seen + noise)), seen


def effect_scale(
    effect: Array, variance: Array, power: Array, mask: Mask, zooms: Sequence[float]
) -> Float32:
    """Return tau^2 of a contrast, by its effect and variance on the acquired grid.

    Where the effect does not exceed its noise it is 0.

    Parameters
    ----------
    effect : Array
        Effect in signal units (3D).
    variance : Array
        Variance of the effect by the linear model (3D).
    power : Array
        Mean square of acquired draws from the prior (3D).
    mask : Mask
        Voxels of the brain (3D, boolean).
    zooms : Sequence[float]
        Voxel size along each axis (mm).

    Returns
    -------
    Float32
        Scale of the draws' variance (3D), 0 or more.
    """
    sigma = [_AROUND * zooms[0] / size for size in zooms]
    above, drawn = (
        ndimage.gaussian_filter(np.where(mask, each, 0).astype(np.float32), sigma)
        for each in (np.square(effect) - variance, power)
    )
    found: Float32 = np.where(
        mask & (drawn > 0), np.maximum(above, 0) / np.where(drawn > 0, drawn, 1), 0
    ).astype(np.float32)
    return found


def wrong_sign(effect: Array, variance: Array) -> Float32:
    """The posterior probability that an effect has the opposite sign, .5 where it is unknown."""
    sd = np.sqrt(np.where(variance > 0, variance, 1))
    found: Float32 = np.where(variance > 0, special.ndtr(-np.abs(effect) / sd), 0.5).astype(
        np.float32
    )
    return found
