"""Priors on grids so small that every matrix can be written down, and runs whose variance map is
known.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from bids_sr.sr.data.temporal_components import temporal_statistics
from bids_sr.sr.resolution.operators import level_above
from bids_sr.sr.variance.prior import Prior, Window


def window_of(shape, factor):
    """The whole grid (x, y, z) as a window."""
    return Window.around(level_above(shape, factor), np.ones(shape, bool))


def sizes(window):
    """(Z, X, Y) of the fine window."""
    return tuple(s.stop - s.start for s in window.fine)


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prior_of(shape, factor, fwhm=(3.0, 1.5), noise=0.1, seed=0, spread=0.7):
    """A prior with random maps; noise over the mean variance of the data."""
    window = window_of(shape, factor)
    weight = (spread * drawn(seed, len(fwhm), *sizes(window))).exp()
    plain = Prior(window=window, weight=weight, fwhm=fwhm, noise=0.0)
    return Prior(window=window, weight=weight, fwhm=fwhm, noise=noise * plain.mean_variance)


def dense_down(window):
    """D as a matrix, voxels in the order of the tensors."""
    count = int(np.prod(sizes(window)))
    columns = window.down(torch.eye(count).reshape(count, *sizes(window)))
    return columns.reshape(count, -1).numpy().T.astype(float)


def dense_prior(prior):
    """C as a matrix."""
    out = 0.0
    for weight, width in zip(prior.weight, prior.fwhm, strict=True):
        along = []
        for axis, size in enumerate(weight.shape):
            gap = np.subtract.outer(np.arange(size), np.arange(size))
            stays = width <= 0 or (axis == 0 and not prior.window.thins)
            along.append(np.eye(size) if stays else np.exp(-4 * np.log(2) * gap**2 / width**2))
        w = weight.numpy().ravel().astype(float)
        out = out + w[:, None] * np.kron(np.kron(*along[:2]), along[2]) * w
    return out


def dense_covariance(prior):
    """D C D' + s2 I as a matrix."""
    down = dense_down(prior.window)
    return down @ dense_prior(prior) @ down.T + prior.noise * np.eye(len(down))


def patchy(window, seed=0, contrast=1.0):
    """A variance map (Z, X, Y) with structure finer than the acquired grid, as that of veins and
    cortex is.
    """
    rng = np.random.default_rng(seed)
    log = gaussian_filter(rng.standard_normal(sizes(window)), (0, 0.8, 0.8))
    return torch.from_numpy(np.exp(contrast * log / log.std()).astype(np.float32))


@dataclass
class Array4D:
    """What `temporal_statistics` needs of a reader."""

    data: np.ndarray

    @property
    def shape(self):
        return self.data.shape

    def slab(self, start, stop):
        return self.data[:, :, start:stop]


def statistics_of(data, mask, **given):
    """`temporal_statistics` of an array (x, y, z, T)."""
    return temporal_statistics(Array4D(np.asarray(data, np.float32)), mask, **given)
