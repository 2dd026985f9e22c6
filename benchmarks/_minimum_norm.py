"""Minimum norm with the standard deviation of the zero-filled change as its weights, and FOCUSS:
what `sbl` is beside.

WMN is the first step of `sbl` with one correlation and components as they are (Gorodnitsky and Rao
1997). FOCUSS estimates the weights again from its own result and flattens them by a power (for
series, Jung et al. 2009).
"""

import torch
from torch import Tensor

from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.variance.prior import Prior, Window
from bids_sr.sr.variance.variance_estimation import _floored, _scaled, estimate_prior, filled_sd

WMN = VarianceRecipe(fwhm=(2.0,), rounds=0, equalize=0.0)


def minimum_norm(
    components: Tensor,
    window: Window,
    *,
    start: Tensor | None = None,
    power: float = 1.0,
    rounds: int = 0,
    estimator: VarianceRecipe = WMN,
) -> Prior:
    """Weights (1, Z, X, Y) from the components (C, z, x, y), estimated again in each round.

    `start` is a standard deviation (Z, X, Y) on the window in the place of that of the zero-filled
    components.
    """
    variance = float(components[(slice(None), *window.coarse)].square().sum(0).mean())
    with torch.inference_mode():
        sd = filled_sd(components, window) if start is None else start
        prior = _scaled(_floored(sd)[None] ** power, window, estimator, variance)
        for _ in range(rounds):
            total = torch.zeros_like(sd)
            for image in components:
                total += (window.level.up(image) + prior.beyond(image))[window.fine].square()
            prior = _scaled(_floored(total.sqrt())[None] ** power, window, estimator, variance)
    return prior


def prior_by(
    name: str, components: Tensor, window: Window, sbl: VarianceRecipe, *, seed: int = 0
) -> Prior:
    """What `wmn`, `focuss` or `sbl` makes of components."""
    if name == "sbl":
        return estimate_prior(components, window, sbl, seed=seed)
    return minimum_norm(
        components, window, **({"power": 0.7, "rounds": 2} if name == "focuss" else {})
    )
