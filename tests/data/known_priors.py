"""Provide priors on grids small enough for explicit matrices, and runs with known variance
maps.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from bids_sr.sr.operators import level_above
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.prior_maps.temporal_components import temporal_statistics


def whole_of(shape, factor):
    """Return the full grid (x, y, z) as a tile."""
    return Tile.from_mask(level_above(shape, factor).restrict_to_plane(), np.ones(shape, bool))


def sizes(tile):
    """Return (Z, X, Y) of the high-resolution grid."""
    x, y, z = tile.level.highres_shape
    return z, x, y


def normal_noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prior_of(shape, factor, fwhm=(3.0, 1.5), noise=0.1, seed=0, spread=0.7):
    """Return a prior with random maps; `noise` is relative to the mean variance of the data."""
    grid = whole_of(shape, factor)
    weight = (spread * normal_noise(seed, len(fwhm), *sizes(grid))).exp()
    without_noise = Prior(region=grid, weight=weight, fwhm=fwhm, noise=0.0)
    return Prior(region=grid, weight=weight, fwhm=fwhm, noise=noise * without_noise.mean_variance)


def dense_down(tile):
    """Return D of one slice as a matrix."""
    rows, columns, _ = tile.level.down_matrices
    return np.kron(rows.numpy(), columns.numpy()).astype(float)


def dense_prior(prior, z=0):
    """Return C of one slice as a matrix."""
    covariance = 0.0
    for weight, width in zip(prior.weight[:, z], prior.fwhm, strict=True):
        gaps = [np.subtract.outer(np.arange(n), np.arange(n)) for n in weight.shape]
        along = [np.exp(-4 * np.log(2) * gap**2 / width**2) for gap in gaps]
        w = weight.numpy().ravel().astype(float)
        covariance = covariance + w[:, None] * np.kron(*along) * w
    return covariance


def dense_covariance(prior, z=0):
    """Return D C D' + s2 I of one slice as a matrix."""
    down = dense_down(prior.region)
    return down @ dense_prior(prior, z) @ down.T + prior.noise * np.eye(len(down))


def _root(size, width):
    gap = np.subtract.outer(np.arange(size), np.arange(size))
    values, vectors = np.linalg.eigh(np.exp(-4 * np.log(2) * gap**2 / width**2))
    return torch.from_numpy((vectors * np.sqrt(values.clip(0))) @ vectors.T).float()


def fluctuation(prior, generator):
    """Draw a high-resolution image (Z, X, Y) from the prior."""
    image = torch.zeros_like(prior.weight[0])
    for weight, width in zip(prior.weight, prior.fwhm, strict=True):
        white = torch.randn(image.shape, generator=generator)
        image += weight * (_root(image.shape[1], width) @ white @ _root(image.shape[2], width))
    return image


def acquired(prior, generator):
    """Draw data (z, x, y) from the prior and its noise."""
    data = prior.region.level.downsample(fluctuation(prior, generator))
    return data + prior.noise**0.5 * torch.randn(data.shape, generator=generator)


def expected(prior, images):
    """Return conditional means (T, Z, X, Y) of images (T, z, x, y)."""
    return torch.stack(
        [prior.make_slice_function(z)(images[:, z]) for z in range(images.shape[1])], 1
    )


def patchy(tile, seed=0, contrast=1.0):
    """Return a prior SD map (Z, X, Y) with structure smaller than a voxel, like veins and
    cortex.
    """
    rng = np.random.default_rng(seed)
    log = gaussian_filter(rng.standard_normal(sizes(tile)), (0, 0.8, 0.8))
    return torch.from_numpy(np.exp(contrast * log / log.std()).astype(np.float32))


@dataclass
class Array4D:
    """Series in memory with the interface that `temporal_statistics` requires."""

    data: np.ndarray
    tr: float = 0.0

    @property
    def shape(self):
        return self.data.shape

    def slab(self, z):
        return self.data[:, :, z : z + 1]


def statistics_of(data, mask, **options):
    """Return `temporal_statistics` of an array (x, y, z, T)."""
    return temporal_statistics(Array4D(np.asarray(data, np.float32)), mask, **options)


SHAPE, FACTOR = (24, 22, 2), (2.0, 2.0, 1.0)
"""Acquired grid of the runs below, and the factor to their high-resolution grid."""


def mask_of(shape=SHAPE):
    """Return the mask of an ellipse."""
    x, y, _ = np.indices(shape)
    return np.hypot((x - shape[0] / 2) / shape[0], (y - shape[1] / 2) / shape[1]) < 0.42


def run_of(seed, volumes, memory, noise):
    """Return one of many runs of a participant: one prior SD map, autocorrelated fluctuations, and
    noise.

    Patches of the map are a little larger than a voxel, so that half the resolution resolves some
    of them. `memory` is the correlation of fluctuations of successive volumes.
    """
    x, y, z = SHAPE
    small = whole_of((x // 2, y // 2, z), FACTOR)
    map_ = patchy(small, 5).repeat_interleave(2, 1).repeat_interleave(2, 2)
    region = whole_of(SHAPE, FACTOR)
    prior = Prior(region=region, weight=20 * map_[None], fwhm=(3.0,), noise=0.0)
    generator = torch.Generator().manual_seed(seed)
    image, series = acquired(prior, generator), []
    for _ in range(volumes):
        image = memory * image + (1 - memory**2) ** 0.5 * acquired(prior, generator)
        series.append(
            np.moveaxis(
                (image + noise * torch.randn(image.shape, generator=generator)).numpy(), 0, 2
            )
        )
    return Array4D(500 + np.stack(series, -1).astype(np.float32))
