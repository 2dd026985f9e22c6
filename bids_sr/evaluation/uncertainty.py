"""Standard deviation of the effect between members of an ensemble.

Members differ only in the seed of their training. Their standard deviation therefore measures the
random component of training; it does not contain errors that all members share, such as errors of
the pair or of the method.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from bids_sr.glm.block_effects import Effects, load_effects
from bids_sr.io.arrays import Float, MaskArray, Real


def spread(members: Iterable[Real]) -> Real:
    """Return the standard deviation (n - 1) between members.

    Welford's algorithm keeps a single member in memory.

    Raises
    ------
    ValueError
        If there are fewer than two members, or if their shapes differ.
    """
    mean: Real = np.zeros(())
    squares: Real = np.zeros(())
    n_members = 0
    for n_members, member in enumerate(members, 1):
        if n_members > 1 and member.shape != mean.shape:
            raise ValueError(
                f"all members of the ensemble must have the same shape, got {mean.shape} and "
                f"{member.shape}"
            )
        deviation = np.asarray(member, dtype=np.float64) - mean
        mean = mean + deviation / n_members
        squares = squares + deviation * (member - mean)
    if n_members < 2:
        raise ValueError(
            f"the spread of an ensemble cannot be computed from {n_members} member(s). Use "
            "--n-ensemble 2 or more."
        )
    return np.sqrt(squares / (n_members - 1))


def spread_of_effect(
    effects: Effects,
    members: Sequence[Path],
    weights: Mapping[str, float],
    mask: MaskArray,
    affine: Float,
) -> Real | None:
    """Return the standard deviation of a contrast's effect between ensemble members.

    Parameters
    ----------
    effects : Effects
        Block effects of the method's series.
    members : Sequence[Path]
        Effects files of the other members; they are loaded one at a time.
    weights : Mapping[str, float]
        Weights of the contrast by condition.
    mask, affine : ndarray
        Brain mask on the high-resolution grid (X, Y, Z), and the grid's voxel-to-RAS-mm matrix (4,
        4).

    Returns
    -------
    ndarray | None
        Standard deviation (X, Y, Z) in signal units; None if a condition has no block.

    Raises
    ------
    ValueError
        If effects are on another grid, or if `members` is empty.
    """
    block_weights = effects.run_weights(weights)
    if block_weights is None:
        return None
    return spread(
        _compute_effect(member, block_weights, mask, affine)
        for member in chain([effects], map(load_effects, members))
    )


def _compute_effect(effects: Effects, weights: Float, mask: MaskArray, affine: Float) -> Real:
    """Return a sum of block effects (X, Y, Z), after a check of the grid."""
    if effects.mask.shape != mask.shape or not np.allclose(effects.affine, affine, atol=1e-3):
        raise ValueError(
            f"the effects of {effects.series} (shape {effects.mask.shape}) are not on the grid of "
            f"the mask (shape {mask.shape})"
        )
    return effects.effect(weights)
