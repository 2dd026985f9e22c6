"""Estimate of a run's variance maps w on the high-resolution grid, from what was acquired alone.

w climbs the marginal likelihood of the acquired components, ``y_c ~ N(0, D C D' + s2 I)``: the
model of sparse Bayesian learning (Tipping 2001; Wipf and Rao 2004), where all components share the
variance map. Stopped after a few smoothed steps, w is neither sparse nor at one of its maxima.

The update compares data with draws from the current prior. With ``a = (D C D' + s2 I)^-1 y`` and
``b = D' a`` the derivative of the log likelihood by log w_q is ``<b W_q K_q W_q b>`` over the data
less the same over draws, voxel by voxel, so w_q is multiplied by a power of their ratio: no
determinant is needed. For a draw a is ``L'^-1 white``, L the Cholesky factor of the covariance,
so that many draws cost little. Components enter with nearly equal weight, as each is a sample of
where the run fluctuates. The likelihood alone fits noise, so ratios are smoothed by less than a
voxel and log w is drawn a little towards its neighborhood. Settings were fixed on one person, one
level of resolution down (``benchmarks/people.py settings``).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bids_sr.sr.lapack import solve_in_place
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.threads import side_by_side
from bids_sr.sr.variance.prior import Prior, Tile

_FLOOR = 0.02  # of the median of w: where nothing fluctuates w is small, but never nothing
_RATIO = 20.0  # a step multiplies w by no more than a power of this
_SCALE = 1e-30  # below what any run has, in any unit


def filled_sd(components: Tensor, whole: Tile) -> Tensor:
    """Return the RMS over zero-filled components (C, z, x, y), 0 far from the mask (Z, X, Y).

    `components`: with as many slices as the high-resolution grid has.
    """
    x, y, z = whole.level.fine
    total = torch.zeros(z, x, y)
    for image in components:
        total[:, *whole.fine] += whole.level.up(image)[:, *whole.fine].square()
    return (total / len(components)).sqrt()


def _floored(weight: Tensor, whole: Tile) -> Tensor:
    """Positive around the mask."""
    positive = weight[weight > 0]
    if not len(positive):
        raise ValueError("the components of the series are zero in all voxels")
    out = torch.zeros_like(weight)
    out[:, *whole.fine] = weight[:, *whole.fine].clamp_min(_FLOOR * float(positive.median()))
    return out


def estimate_prior(
    components: Tensor,
    whole: Tile,
    recipe: VarianceRecipe,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Prior:
    """Find the variance maps (Q, Z, X, Y) of a run, in the unit of its components.

    `components`: (C, z, x, y) strongest temporal components, with as many slices as the
    high-resolution grid has. `progress`: called with (rounds done, rounds).
    """
    if not bool(torch.isfinite(components).all()):
        raise ValueError("the components of the series contain NaN or infinite values")
    with torch.inference_mode():
        if recipe.kind == "sdmod":
            sd = filled_sd(components, whole)
            return Prior(whole=whole, weight=sd[None], fwhm=(0.0,), noise=0.0)
        return _marginal_likelihood(components, whole, recipe, seed, progress)


def _marginal_likelihood(
    components: Tensor,
    whole: Tile,
    recipe: VarianceRecipe,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Prior:
    """Sparse Bayesian learning; see the module."""
    total = float(components[:, :, *whole.seen].square().sum(0).mean())
    sizes = components[:, :, *whole.seen].square().mean((1, 2, 3)).sqrt().clamp_min(_SCALE)
    data = components * ((sizes / sizes.max()) ** -recipe.equalize)[:, None, None, None]
    variance = float(data[:, :, *whole.seen].square().mean())
    first = _floored(filled_sd(data, whole), whole).expand(len(recipe.fwhm), -1, -1, -1)
    prior = Prior(
        whole=whole, weight=first, fwhm=recipe.fwhm, noise=recipe.noise * variance
    ).scaled(variance)
    generator = torch.Generator().manual_seed(seed)
    tiles = prior.tiles()
    for done in range(recipe.rounds):
        seen, drawn = _responses(prior, data, tiles, recipe.draws, generator)
        weight = torch.zeros_like(prior.weight)
        here = (slice(None), *whole.fine)
        for new, old, of_data, of_draws in zip(weight, prior.weight, seen, drawn, strict=True):
            new[here] = _updated(old[here], of_data[here], of_draws[here], recipe)
        prior = replace(prior, weight=weight)
        if progress is not None:
            progress(done + 1, recipe.rounds)
    return replace(prior, noise=recipe.noise * total).scaled(total)


def _responses(
    prior: Prior, data: Tensor, tiles: Sequence[Tile], draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mean of b W_q K_q W_q b over data (C, z, x, y), and over draws (Q, Z, X, Y)."""
    seen, drawn = torch.zeros_like(prior.weight), torch.zeros_like(prior.weight)

    def compare(job: tuple[int, Tile, Tensor]) -> None:
        z, tile, white = job
        root = prior.root(z, tile)
        of_data = data[:, z, *tile.seen].flatten(1).numpy()
        solved = np.concatenate([of_data, white.T.numpy()])
        count = len(of_data)
        solve_in_place(root, solved[:count], transposed=False)
        solve_in_place(root, solved, transposed=True)
        back, responses = prior.responses(z, tile, solved)
        for number, response in enumerate(responses):
            response *= back
            for out, part in ((seen, response[:count]), (drawn, response[count:])):
                out[number, z, *tile.made] = torch.from_numpy(part.mean(0))

    jobs = (
        (z, tile, torch.randn(math.prod(map(len, tile.down)), draws, generator=generator))
        for z in range(data.shape[1])
        for tile in tiles
    )
    # far from the brain maps stay as they began
    for _ in side_by_side(compare, (job for job in jobs if job[1].counts(job[0]))):
        pass
    return seen, drawn


def _updated(weight: Tensor, seen: Tensor, expected: Tensor, recipe: VarianceRecipe) -> Tensor:
    """One map after one update."""
    sigma = (recipe.across, recipe.smooth, recipe.smooth)
    above, below = (
        torch.from_numpy(gaussian_filter(each.numpy(), sigma)) for each in (seen, expected)
    )
    known = (above > 0) & (below > 0)
    ratio = torch.where(known, above / below.clamp_min(1e-30), torch.ones(())).clamp(
        1 / _RATIO, _RATIO
    )
    log = (weight * ratio**recipe.step).log()
    near = torch.from_numpy(gaussian_filter(log.numpy(), (recipe.across, 1.0, 1.0)))
    return torch.lerp(log, near, recipe.pull).exp()
