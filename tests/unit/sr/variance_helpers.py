"""Priors on grids so small that every matrix can be written down, and runs whose variance map is
known.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from bids_sr.sr.operators import level_above
from bids_sr.sr.variance.prior import Prior, Tile
from bids_sr.sr.variance.temporal_components import temporal_statistics


def whole_of(shape, factor):
    """The whole grid (x, y, z) as a tile."""
    return Tile.around(level_above(shape, factor).in_plane(), np.ones(shape, bool))


def sizes(whole):
    """(Z, X, Y) of the fine grid."""
    x, y, z = whole.level.fine
    return z, x, y


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prior_of(shape, factor, fwhm=(3.0, 1.5), noise=0.1, seed=0, spread=0.7):
    """A prior with random maps; noise over the mean variance of the data."""
    whole = whole_of(shape, factor)
    weight = (spread * drawn(seed, len(fwhm), *sizes(whole))).exp()
    plain = Prior(whole=whole, weight=weight, fwhm=fwhm, noise=0.0)
    return Prior(whole=whole, weight=weight, fwhm=fwhm, noise=noise * plain.mean_variance)


def dense_down(whole):
    """D of one slice as a matrix."""
    rows, columns, _ = whole.level.down_matrices
    return np.kron(rows.numpy(), columns.numpy()).astype(float)


def dense_prior(prior, z=0):
    """C of one slice as a matrix."""
    out = 0.0
    for weight, width in zip(prior.weight[:, z], prior.fwhm, strict=True):
        gaps = [np.subtract.outer(np.arange(n), np.arange(n)) for n in weight.shape]
        along = [np.exp(-4 * np.log(2) * gap**2 / width**2) for gap in gaps]
        w = weight.numpy().ravel().astype(float)
        out = out + w[:, None] * np.kron(*along) * w
    return out


def dense_covariance(prior, z=0):
    """D C D' + s2 I of one slice as a matrix."""
    down = dense_down(prior.whole)
    return down @ dense_prior(prior, z) @ down.T + prior.noise * np.eye(len(down))


def _root(size, width):
    gap = np.subtract.outer(np.arange(size), np.arange(size))
    values, vectors = np.linalg.eigh(np.exp(-4 * np.log(2) * gap**2 / width**2))
    return torch.from_numpy((vectors * np.sqrt(values.clip(0))) @ vectors.T).float()


def fluctuation(prior, generator):
    """A fine image (Z, X, Y) as the prior makes it."""
    out = torch.zeros_like(prior.weight[0])
    for weight, width in zip(prior.weight, prior.fwhm, strict=True):
        white = torch.randn(out.shape, generator=generator)
        out += weight * (_root(out.shape[1], width) @ white @ _root(out.shape[2], width))
    return out


def acquired(prior, generator):
    """Data (z, x, y) as the prior and the noise make them."""
    out = prior.whole.level.down(fluctuation(prior, generator))
    return out + prior.noise**0.5 * torch.randn(out.shape, generator=generator)


def expected(prior, images):
    """Conditional means (T, Z, X, Y) of images (T, z, x, y)."""
    return torch.stack([prior.at(z)(images[:, z]) for z in range(images.shape[1])], 1)


def patchy(whole, seed=0, contrast=1.0):
    """A variance map (Z, X, Y) with structure finer than the acquired grid, as that of veins and
    cortex is.
    """
    rng = np.random.default_rng(seed)
    log = gaussian_filter(rng.standard_normal(sizes(whole)), (0, 0.8, 0.8))
    return torch.from_numpy(np.exp(contrast * log / log.std()).astype(np.float32))


@dataclass
class Array4D:
    """What `temporal_statistics` needs of a reader."""

    data: np.ndarray
    tr: float = 0.0

    @property
    def shape(self):
        return self.data.shape

    def slab(self, start, stop):
        return self.data[:, :, start:stop]


def statistics_of(data, mask, **given):
    """`temporal_statistics` of an array (x, y, z, T)."""
    return temporal_statistics(Array4D(np.asarray(data, np.float32)), mask, **given)
