"""Estimation of a run's prior SD maps w on the high-resolution grid from acquired data only.

The maps increase the marginal likelihood of the acquired components,
``y_c ~ N(0, D C D' + s2 I)``. This is the model of sparse Bayesian learning (Tipping 2001; Wipf
and Rao 2004, https://doi.org/10.1109/TSP.2004.831016): all components share the prior variance.
Because the iteration is stopped after a few smoothed steps, w is neither sparse nor a maximum of
the likelihood.

An update compares the data with samples from the current prior. With ``a = (D C D' + s2 I)^-1 y``
and ``b = D' a``, the derivative of the log likelihood with respect to log w_q is
``<b W_q K_q W_q b>`` over the data minus the same term over samples, voxel by voxel. Hence, w_q is
multiplied by a power of their ratio, and determinants are not required. For a sample, a is
``L'^-1 white``, with the Cholesky factor L of the covariance, so many samples are inexpensive.
Components have nearly equal weight, as each is a sample of the regions with fluctuations. The
likelihood alone would fit noise. Therefore, ratios are smoothed by less than a voxel, and log w is
slightly smoothed. Settings were optimized in one participant at lower resolution
(``benchmarks/people.py settings``).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bids_sr.spatial.lapack import solve_in_place
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.threads import map_in_threads

# smallest w relative to the median; w must be positive in voxels without fluctuations
_MIN_RELATIVE_MAP = 0.02
_MAX_RATIO = 20.0  # largest ratio of data to samples, or of samples to data, in an update
_MIN_SIZE = 1e-30  # signal units, smaller than the fluctuations of any run
_LOG_MAP_SD = 1.0  # high-resolution voxels, smoothing of logarithms of maps in plane


def estimate_prior(
    components: Tensor, tile: Tile, recipe: VarianceRecipe, *, seed: int = 0
) -> Prior:
    """Estimate the prior SD maps (Q, Z, X, Y) of a run, in the unit of its components.

    `components` are the strongest temporal components (C, z, x, y), with as many slices as the
    high-resolution grid. `tile` is the grid and region around the mask. `seed` is the seed of the
    samples from the prior.
    """
    with torch.inference_mode():
        if recipe.kind == "sdmod":
            sd = compute_filled_sd(components, tile)
            return Prior(region=tile, weight=sd[None], fwhm=(0.0,), noise=0.0)
        return _maximize_likelihood(components, tile, recipe, seed)


def _maximize_likelihood(
    components: Tensor, tile: Tile, recipe: VarianceRecipe, seed: int
) -> Prior:
    """Estimate prior SD maps by sparse Bayesian learning (see the module documentation)."""
    total_variance = float(components[:, :, *tile.data_range].square().sum(0).mean())
    sizes = components[:, :, *tile.data_range].square().mean((1, 2, 3)).sqrt().clamp_min(_MIN_SIZE)
    # components of more equal size
    data = components * ((sizes / sizes.max()) ** -recipe.equalize)[:, None, None, None]
    prior = _make_first_prior(data, tile, recipe)
    generator = torch.Generator().manual_seed(seed)
    tiles = prior.make_tiles()
    around_mask = (slice(None), *tile.highres_range)
    for _ in range(recipe.rounds):
        responses = _compare_with_samples(prior, data, tiles, recipe.draws, generator)
        weight = torch.zeros_like(prior.weight)
        for number, old_map in enumerate(prior.weight):
            observed, sampled = (response[number][around_mask] for response in responses)
            weight[number][around_mask] = _update_map(
                old_map[around_mask], observed, sampled, recipe
            )
        prior = replace(prior, weight=weight)
    return replace(prior, noise=recipe.noise * total_variance).scale(total_variance)


def _make_first_prior(data: Tensor, tile: Tile, recipe: VarianceRecipe) -> Prior:
    """Return the prior before the first update, with the SD of the data in all maps.

    The maps are positive around the mask, and 0 elsewhere.
    """
    variance = float(data[:, :, *tile.data_range].square().mean())
    filled_sd = compute_filled_sd(data, tile)
    floor = _MIN_RELATIVE_MAP * float(filled_sd[filled_sd > 0].median())
    first_map = torch.zeros_like(filled_sd)
    first_map[:, *tile.highres_range] = filled_sd[:, *tile.highres_range].clamp_min(floor)
    return Prior(
        region=tile,
        weight=first_map.expand(len(recipe.fwhm), -1, -1, -1),
        fwhm=recipe.fwhm,
        noise=recipe.noise * variance,
    ).scale(variance)


def _update_map(
    old_map: Tensor, observed: Tensor, sampled: Tensor, recipe: VarianceRecipe
) -> Tensor:
    """Return a map (Z, X, Y) updated by the smoothed ratio of data to samples.

    `observed` and `sampled` are the result of `_compare_with_samples` for this map.
    """
    ratio_sigma = (recipe.across, recipe.smooth, recipe.smooth)
    smoothed_observed, smoothed_sampled = (
        torch.from_numpy(gaussian_filter(means.numpy(), ratio_sigma))
        for means in (observed, sampled)
    )
    is_positive = (smoothed_observed > 0) & (smoothed_sampled > 0)
    ratio = torch.where(
        is_positive, smoothed_observed / smoothed_sampled.clamp_min(1e-30), torch.ones(())
    ).clamp(1 / _MAX_RATIO, _MAX_RATIO)
    log_map = (old_map * ratio**recipe.step).log()
    log_map_sigma = (recipe.across, _LOG_MAP_SD, _LOG_MAP_SD)
    smoothed_log_map = torch.from_numpy(gaussian_filter(log_map.numpy(), log_map_sigma))
    return torch.lerp(log_map, smoothed_log_map, recipe.pull).exp()


def compute_filled_sd(components: Tensor, tile: Tile) -> Tensor:
    """Return the RMS over zero-filled components (Z, X, Y), 0 far from the mask.

    `components` (C, z, x, y) have as many slices as the high-resolution grid.
    """
    x, y, z = tile.level.highres_shape
    total = torch.zeros(z, x, y)
    for image in components:
        total[:, *tile.highres_range] += tile.level.upsample(image)[
            :, *tile.highres_range
        ].square()
    return (total / len(components)).sqrt()


def _compare_with_samples(
    prior: Prior, data: Tensor, tiles: Sequence[Tile], n_samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the means whose ratio updates the maps, over data and over samples.

    Both are means of b W_q K_q W_q b as defined in the module docstring, (Q, Z, X, Y). They are 0
    in tiles far from the brain, whose maps do not change.
    """
    observed, sampled = torch.zeros_like(prior.weight), torch.zeros_like(prior.weight)

    def compare_tile(job: tuple[int, Tile, Tensor]) -> None:
        z, tile, white_noise = job
        cholesky_factor = prior.factor_covariance(z, tile)
        tile_data = data[:, z, *tile.data_range].flatten(1).numpy()
        solutions = np.concatenate([tile_data, white_noise.T.numpy()])
        count = len(tile_data)
        solve_in_place(cholesky_factor, solutions[:count], transposed=False)
        solve_in_place(cholesky_factor, solutions, transposed=True)
        images, responses = prior.compute_responses(z, tile, solutions)
        for means, sample_range in ((observed, slice(count)), (sampled, slice(count, None))):
            for map_number, response in enumerate(responses):
                total = np.einsum("nxy,nxy->xy", response[sample_range], images[sample_range])
                means[map_number, z, *tile.output_range] = torch.from_numpy(
                    total / len(images[sample_range])
                )

    jobs = _draw_white_noise(data.shape[1], tiles, n_samples, generator)
    for _ in map_in_threads(compare_tile, jobs):
        pass
    return observed, sampled


def _draw_white_noise(
    n_slices: int, tiles: Sequence[Tile], n_samples: int, generator: torch.Generator
) -> Iterator[tuple[int, Tile, Tensor]]:
    """Yield slice, tile, and white noise (m, n_samples) for each tile near the brain.

    Noise is also drawn for other tiles, so that samples do not depend on the mask.
    """
    for z in range(n_slices):
        for tile in tiles:
            n_acquired = math.prod(map(len, tile.down_matrices))
            white_noise = torch.randn(n_acquired, n_samples, generator=generator)
            if tile.has_mask_voxels(z):
                yield z, tile, white_noise
