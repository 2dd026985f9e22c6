"""Estimate of a run's variance maps w on the high-resolution grid, from what was acquired alone.

w maximizes the marginal likelihood of the acquired components, ``y_c ~ N(0, D C D' + s2 I)``:
sparse Bayesian learning (Tipping 2001; Wipf and Rao 2004), where all components share the variance
map.

The update compares data with draws from the current prior. With ``a = (D C D' + s2 I)^-1 y`` and
``b = D' a`` the derivative of the log likelihood by log w_q is ``<b W_q K_q W_q b>`` over the data
less the same over draws, voxel by voxel, so w_q is multiplied by a power of their ratio: no
determinant is needed. Components enter with nearly equal weight, as each is a sample of where the
run fluctuates. The likelihood alone fits noise, so ratios are smoothed by less than a voxel and
log w is drawn a little towards its neighborhood. Settings were fixed on one person, one level of
resolution down (``benchmarks/people.py settings``).
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.variance.prior import Prior, Window

_FLOOR = 0.02  # of the median of w: where nothing fluctuates w is small, but never nothing
_RATIO = 20.0  # a step multiplies w by no more than a power of this
_SCALE = 1e-30  # below what any run has, in any unit


def filled_sd(components: Tensor, window: Window) -> Tensor:
    """Return the RMS over zero-filled components (C, z, x, y), on the fine window (Z, X, Y).

    Parameters
    ----------
    components : Tensor
        Temporal components on the acquired grid (C, z, x, y).
    window : Window
        Both grids around the mask.

    Returns
    -------
    Tensor
        Root mean square on the high-resolution window (Z, X, Y).
    """
    total = torch.zeros(tuple(s.stop - s.start for s in window.fine))
    for image in components:
        total += window.level.up(image)[window.fine].square()
    return (total / len(components)).sqrt()


def _floored(weight: Tensor) -> Tensor:
    """Positive everywhere."""
    positive = weight[weight > 0]
    if not len(positive):
        raise ValueError("the components are zero everywhere")
    return weight.clamp_min(_FLOOR * float(positive.median()))


def _scaled(weight: Tensor, window: Window, recipe: VarianceRecipe, variance: float) -> Prior:
    """A prior (Q maps) that gives the data their mean variance."""
    plain = Prior(window=window, weight=weight, fwhm=recipe.fwhm, noise=0.0)
    weight = weight * (variance / max(plain.mean_variance, _SCALE)) ** 0.5
    return Prior(window=window, weight=weight, fwhm=recipe.fwhm, noise=recipe.noise * variance)


def _cut(components: Tensor, window: Window) -> Tensor:
    return components[(slice(None), *window.coarse)].contiguous()


def estimate_prior(
    components: Tensor,
    window: Window,
    recipe: VarianceRecipe,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Prior:
    """Find the variance maps (Q, Z, X, Y) of a run, in the unit of its components.

    Parameters
    ----------
    components : Tensor
        (C, z, x, y) strongest temporal components on the acquired grid.
    window : Window
        Around the mask.
    recipe, seed : VarianceRecipe
        Settings, seed of the draws.
    progress : Callable[[int, int], None] | None, optional
        Called with (rounds done, rounds).

    Returns
    -------
    Prior
        Prior with the maps and the noise on the window.

    Raises
    ------
    ValueError : components that are zero or not finite
    """
    if not bool(torch.isfinite(components).all()):
        raise ValueError("the components of the series are not finite")
    with torch.inference_mode():
        if recipe.kind == "sdmod":
            return Prior(
                window=window, weight=filled_sd(components, window)[None], fwhm=(0.0,), noise=0.0
            )
        return _marginal_likelihood(components, window, recipe, seed, progress)


def _marginal_likelihood(
    components: Tensor,
    window: Window,
    recipe: VarianceRecipe,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Prior:
    """Sparse Bayesian learning; see the module."""
    data = _cut(components, window)
    total = float(data.square().sum(0).mean())
    sizes = data.square().mean((1, 2, 3)).sqrt().clamp_min(_SCALE)
    gains = (sizes[:, None, None, None] / sizes.max()) ** -recipe.equalize
    data = data * gains
    variance = float(data.square().mean())
    count = len(recipe.fwhm)
    first = _floored(filled_sd(components * gains, window))
    prior = _scaled(first.expand(count, *first.shape) / count**0.5, window, recipe, variance)
    generator = torch.Generator().manual_seed(seed)
    for done in range(recipe.rounds):
        draws = (prior.draw(generator) for _ in range(recipe.draws))
        seen, expected = _responses(prior, list(data)), _responses(prior, draws)
        weight = torch.stack(
            [
                _updated(w, s, e, recipe)
                for w, s, e in zip(prior.weight, seen, expected, strict=True)
            ]
        )
        prior = replace(prior, weight=weight)
        if progress is not None:
            progress(done + 1, recipe.rounds)
    return _scaled(prior.weight, window, recipe, total)


def _responses(prior: Prior, images) -> Tensor:  # type: ignore[no-untyped-def]
    """Return the mean over images (z, x, y) of b K_q W_q b, (Q, Z, X, Y).

    Here b = D' (D C D' + s2 I)^-1 y, where y is an image.
    """
    total, count = torch.zeros_like(prior.weight), 0
    for image in images:
        back = prior.window.adjoint(prior.solve(image, iterations=10))
        for number, weight in enumerate(prior.weight):
            total[number].addcmul_(back, prior.correlate(number, weight * back))
        count += 1
    return total / max(count, 1)


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
