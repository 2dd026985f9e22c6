"""Standard deviation of the effect between members of an ensemble.

Members differ in the seed of their training only. Their standard deviation shows what chance in
training decides; what all members share (the same pair, the same method, the same blind spot) it
cannot see.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from bids_sr.glm.block_effects import Effects, load_effects
from bids_sr.io.arrays import Float, Mask, Real


def spread(members: Iterable[Real]) -> Real:
    """Standard deviation (n - 1) between members, one in memory at a time (Welford's update).

    ValueError for fewer than two members, or grids that differ.
    """
    mean: Real = np.zeros(())
    squares: Real = np.zeros(())
    count = 0
    for count, member in enumerate(members, 1):
        if count > 1 and member.shape != mean.shape:
            raise ValueError(
                f"all members of the ensemble must have the same shape, got {mean.shape} and "
                f"{member.shape}"
            )
        away = np.asarray(member, dtype=np.float64) - mean
        mean = mean + away / count
        squares = squares + away * (member - mean)
    if count < 2:
        raise ValueError(
            f"the spread of an ensemble cannot be computed from {count} member(s). Use "
            "--n-ensemble 2 or more."
        )
    return np.sqrt(squares / (count - 1))


def spread_of_effect(
    effects: Effects,
    members: Sequence[Path],
    weights: Mapping[str, float],
    mask: Mask,
    affine: Float,
) -> Real | None:
    """Return the spread of a contrast's effect over both halves' blocks, None if too few.

    `effects`: of the method. `members`: effects files of the further members, of which one is held
    at a time. `mask, affine`: brain on the high-resolution grid. `ValueError`: effects on another
    grid, or no further member. Returns the standard deviation (3D, signal units), or None.
    """
    whole = effects.whole(weights)
    if whole is None:
        return None
    return spread(
        _effect(each, whole, mask, affine) for each in chain([effects], map(load_effects, members))
    )


def _effect(effects: Effects, weights: Float, mask: Mask, affine: Float) -> Real:
    if effects.mask.shape != mask.shape or not np.allclose(effects.affine, affine, atol=1e-3):
        name, own = effects.series, effects.mask.shape
        raise ValueError(
            f"the effects of {name} (shape {own}) are not on the grid of the mask (shape "
            f"{mask.shape})"
        )
    return effects.effect(weights)
