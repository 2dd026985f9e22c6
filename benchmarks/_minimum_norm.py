"""Weighted minimum norm and FOCUSS, for comparison with `sbl`.

WMN uses the standard deviation of the zero-filled change as weights: the first step of `sbl` with
one correlation and unchanged components (Gorodnitsky and Rao 1997). FOCUSS estimates the weights
again from its own result and flattens them by a power (for series, Jung et al. 2009).
"""

from dataclasses import replace

import torch
from torch import Tensor

from bids_sr.sr.prior_maps.estimation import _apply_floor, compute_filled_sd, estimate_prior
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.recipe import VarianceRecipe

WMN = VarianceRecipe(fwhm=(2.0,), rounds=0, equalize=0.0)


def minimum_norm(
    components: Tensor,
    tile: Tile,
    *,
    start: Tensor | None = None,
    power: float = 1.0,
    rounds: int = 0,
    estimator: VarianceRecipe = WMN,
) -> Prior:
    """Estimate weights (1, Z, X, Y) from the components (C, z, x, y), again in each round.

    `start` is a standard deviation (Z, X, Y) that replaces the standard deviation of the
    zero-filled components.
    """
    variance = float(components[:, :, *tile.data_range].square().sum(0).mean())
    level = tile.level

    def prior_with(sd: Tensor) -> Prior:
        weight = _apply_floor(sd, tile)[None] ** power
        plain = Prior(region=tile, weight=weight, fwhm=estimator.fwhm, noise=0.0)
        return replace(plain.scale(variance), noise=estimator.noise * variance)

    with torch.inference_mode():
        prior = prior_with(compute_filled_sd(components, tile) if start is None else start)
        for _ in range(rounds):
            slices_detail = [
                prior.make_slice_function(z)(components[:, z])
                for z in range(level.highres_shape[2])
            ]
            total = level.upsample(components) + level.select_above_nyquist(
                torch.stack(slices_detail, 1)
            )
            prior = prior_with(total.square().sum(0).sqrt())
    return prior


def prior_by(
    name: str, components: Tensor, tile: Tile, sbl: VarianceRecipe, *, seed: int = 0
) -> Prior:
    """Return the prior that `wmn`, `focuss` or `sbl` estimates from components."""
    if name == "sbl":
        return estimate_prior(components, tile, sbl, seed=seed)
    return minimum_norm(
        components, tile, **({"power": 0.7, "rounds": 2} if name == "focuss" else {})
    )
