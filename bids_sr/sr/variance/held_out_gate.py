"""Held-out test of a run's variance maps before they are used.

One level of resolution down, where the answer was acquired, the map of one half of the run reconstructs the strongest
components of the other. The share explained of what zero filling misses decides: a map that has fitted noise explains
less than nothing.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.sr.recipe import Estimator
from bids_sr.sr.resolution.degradation import Factor
from bids_sr.sr.resolution.operators import Level, level_below
from bids_sr.sr.variance.prior import Prior, Window
from bids_sr.sr.variance.variance_estimation import blended, estimate_prior

_ROUNDS, _DRAWS = 4, 32  # fewer than for the map itself: enough to tell something from nothing


def explained_share(prior: Prior, level: Level, images: Tensor, mask: Tensor) -> float:
    """Share of zero filling's squared error that a prior explains, mean over images.

    Parameters
    ----------
    prior, level : prior on a window of the level
    images : (C, Z, X, Y) on the high-resolution grid of the level; downsampled they are the data
    mask : (Z, X, Y) bool, voxels that count

    Returns
    -------
    1 - |zero filling + reconstruction - image|^2 / |zero filling - image|^2; 1 is all, 0 is zero filling, less is harm
    """
    shares = []
    for image in images:
        coarse = level.down(image)
        missed = (image - level.up(coarse))[mask]
        found = prior.beyond(coarse)[mask]
        energy = float(missed.square().sum())
        if energy > 0:
            shares.append(1 - float((missed - found).square().sum()) / energy)
    return float(np.mean(shares)) if shares else 0.0


def held_out_shares(
    halves: Sequence[Tensor], mask: NDArray[np.bool_], factor: Factor, estimator: Estimator, *, seed: int = 0,
    measured: Tensor | None = None, blends: Sequence[float] = (0.0,),
) -> dict[float, tuple[float, ...]]:  # fmt: skip
    """Explained share of each half's components by the map of the other half, one level of resolution down.

    Parameters
    ----------
    halves : two tensors (C, z, x, y), components of each half on the acquired grid
    mask : (x, y, z) brain
    factor : acquired over wanted voxel size
    estimator, seed : of the map
    measured : (z, x, y) standard deviation on the acquired grid that was measured in another run; or None
    blends : shares of that map to try, see `blended`; 0 is the run's own map alone

    Returns
    -------
    dict from blend to the explained shares of the two halves

    Raises
    ------
    ResolutionError : an axis too short to be downsampled
    """
    shape = mask.shape
    level, cut = level_below((shape[0], shape[1], shape[2]), factor)
    inside = np.asarray(mask)[cut]
    low = np.moveaxis(level.down(torch.from_numpy(np.moveaxis(inside, 2, 0).astype(np.float32))).numpy(), 0, 2) > 0.5
    if not low.any():
        return dict.fromkeys(blends, (0.0, 0.0))
    counted = torch.from_numpy(np.moveaxis(inside, 2, 0).copy())
    window = Window.around(level, low)
    parts = [half[:, cut[2], cut[0], cut[1]].contiguous() for half in halves]
    quick = replace(estimator, rounds=min(estimator.rounds, _ROUNDS), draws=min(estimator.draws, _DRAWS))
    other_map = None if measured is None else measured[cut[2], cut[0], cut[1]][window.fine].contiguous()
    found: dict[float, list[float]] = {blend: [] for blend in blends}
    with torch.inference_mode():
        for own, other in (parts, parts[::-1]):
            prior = estimate_prior(level.down(own), window, quick, seed=seed)
            for blend, shares in found.items():
                tried = prior if other_map is None else blended(prior, other_map, blend)
                shares.append(explained_share(tried, level, other, counted))
    return {blend: tuple(shares) for blend, shares in found.items()}
