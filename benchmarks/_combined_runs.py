"""Arithmetic of combined runs of one participant: noise-free products of effects, the correlation
of the reconstruction error between runs, and coverage of intervals.

Products of different runs share no noise. Within a run, the blocks are split into halves A and B,
and one half is corrected for their covariance in the linear model, so that its noise is
independent: B' = (B - lambda A) / (1 - lambda).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Z95 = 1.96


@dataclass(frozen=True, kw_only=True)
class SplitEffect:
    """Effect of one run in the two halves of its blocks.

    `halves`: (2, N), values of voxels. `shares`: (2,), covariance of the halves over the variance
    of each half, for noise of variance one. `run`: number of the run; effects of other runs share
    no noise.
    """

    halves: Array
    shares: Array
    run: int

    @property
    def combined(self) -> Array:
        """Effect of all blocks (N,)."""
        return np.asarray(self.halves.mean(0))

    def times(self, weight: Array | float) -> SplitEffect:
        """Weight the effect by one value, or by one value per voxel."""
        return replace(self, halves=self.halves * weight)

    def within(self, region: Array, *, centered: bool = False) -> SplitEffect:
        """Take the effect in a region, less its mean there if `centered`."""
        values = self.halves[:, region]
        return replace(self, halves=values - values.mean(1, keepdims=True) * centered)

    def less(self, effect: SplitEffect) -> SplitEffect:
        """Subtract another effect of the same run."""
        return replace(self, halves=self.halves - effect.halves)


def split_shares(halves: Array, covariance: Array) -> Array:
    """Return the covariance of two halves over the variance of each half (2,).

    `halves`: (2, B), weights of blocks. `covariance`: (B, B), covariance of block effects for
    noise of variance one.
    """
    inner = halves @ covariance @ halves.T
    return np.asarray(inner[0, 1] / np.diagonal(inner))


def signal(first: SplitEffect, second: SplitEffect) -> float:
    """Return the inner product of two effects without the product of their noise."""
    if first.run != second.run:
        return float(first.combined.astype(float) @ second.combined)
    total = 0.0
    for half in (0, 1):
        a, b = first.halves[half], second.halves[1 - half]
        share = first.shares[half]
        independent = (b.astype(float) - share * second.halves[half]) / (1 - share)
        total += float(a @ independent)
    return total / 2


def signals(first: Sequence[SplitEffect], second: Sequence[SplitEffect]) -> float:
    """Return `signal` of two sums over runs."""
    return sum(signal(a, b) for a in first for b in second)


def explained(estimate: Sequence[SplitEffect], truth: Sequence[SplitEffect]) -> float:
    """Return the variance of a true sum over runs that another sum explains.

    The noise of the estimate counts as its error; the noise of the reference does not count.
    """
    total = np.sum([effect.combined for effect in estimate], axis=0, dtype=float)
    return (2 * signals(estimate, truth) - float(total @ total)) / signals(truth, truth)


def error_correlation(first: SplitEffect, second: SplitEffect) -> float:
    """Return the correlation of the errors of two runs over voxels, corrected for noise.

    The errors are not centered, as in the variance of their mean. NaN if either error does not
    exceed its noise.
    """
    energies = signal(first, first), signal(second, second)
    return (
        signal(first, second) / float(np.sqrt(energies[0] * energies[1]))
        if min(energies) > 0
        else float("nan")
    )


def block_noise(
    blocks: Array, weights: Array, covariance: Array, conditions: Sequence[str]
) -> Array:
    """Return the variance of a weighted sum of block effects from their scatter (N,).

    Parameters
    ----------
    blocks : Array
        Effects of blocks (B, N).
    weights : Array
        Weights of the blocks in the effect (B,); blocks of weight 0 are not used.
    covariance : Array
        Covariance of the block effects for noise of variance one (B, B).
    conditions : Sequence[str]
        Condition of each block, whose mean is subtracted.

    Returns
    -------
    Array
        Variance of the effect, for noise that is white in time.
    """
    used = np.flatnonzero(weights)
    names = [conditions[k] for k in used]
    same_condition = np.array([[a == b for b in names] for a in names], float)
    without_mean = np.eye(len(used)) - same_condition / same_condition.sum(1)
    block_covariance = covariance[np.ix_(used, used)]
    scatter = np.square(without_mean @ blocks[used]).sum(0)
    scale = np.trace(without_mean @ block_covariance @ without_mean)
    return np.asarray(scatter / scale * (weights[used] @ block_covariance @ weights[used]))


def coverage(error: Array, variance: Array, region: Array) -> float:
    """Return the proportion of voxels in a region whose error lies within its 95 % interval.

    `variance`: variance of the error from noise and reconstruction.
    """
    return float((error**2 < Z95**2 * variance)[region].mean())
