"""Agreement of the effects of runs of one participant, and runs that disagree.

The effect of one run is compared with the effect of another run in the voxels that are active in
the other run. Their noise is independent, so the slope of a regression through the origin is
unbiased by the noise of the compared run, and its standard error follows from the variance map. A
noisy run has a large standard error and is therefore never found to disagree; a run with a wrong
log has a slope that is far from 1 relative to its standard error.
"""

from collections.abc import Collection, Sequence
from itertools import combinations

import numpy as np

from bids_sr.glm.linear_model import compute_t
from bids_sr.group.combination.interpolated_variance import noise_autocorrelation
from bids_sr.io.arrays import Array, MaskArray
from bids_sr.io.frozen import frozen

ACTIVE_T = 4.0
"""Absolute t above which a voxel is active."""
_MIN_VOXELS = 20  # smallest number of active voxels for a comparison
MIN_SLOPE = 0.25
"""Smallest effect, relative to another run, of a contrast without negative weights."""
MIN_SLOPE_OF_DIFFERENCE = -0.25
"""The same for a difference between conditions, which may vary from run to run: only a reversed
difference shows that conditions were confused.
"""
_MIN_STANDARD_ERRORS = 3.0  # smallest distance of a slope below its limit, in standard errors
_MAX_DISAGREEING_RUNS = 12  # largest number of disagreeing runs for which all sets are compared


@frozen
class EffectAgreement:
    """Effect of one contrast in a run, relative to another run, in active voxels.

    `slope` is the slope of the regression through the origin; 1 if the effects are equal, negative
    if they are reversed. `error` is the standard error of the slope due to the noise of the
    compared run, and `correlation` the correlation of both effects over the active voxels.
    `n_voxels` is the number of voxels that are active in the other run. `is_difference` states
    whether the contrast has a negative weight.
    """

    slope: float
    error: float
    correlation: float
    n_voxels: int
    is_difference: bool

    @property
    def disagrees(self) -> bool:
        """Whether the slope is below its limit by more than noise explains."""
        limit = MIN_SLOPE_OF_DIFFERENCE if self.is_difference else MIN_SLOPE
        return self.slope + _MIN_STANDARD_ERRORS * self.error < limit


def compare_effects(
    effect: Array,
    variance: Array,
    other_effect: Array,
    other_variance: Array,
    *,
    is_difference: bool,
) -> EffectAgreement | None:
    """Compare the effect of a run with the effect of another run.

    `variance` is the effect's variance due to noise (X, Y, Z). Voxels without a positive variance
    have no estimate. The active voxels of the other run are compared, in the same unit.
    `is_difference` states whether the contrast has a negative weight. Returns None if too few
    voxels are active in the other run.
    """
    has_both = (variance > 0) & (other_variance > 0)
    active = has_both & (other_effect**2 > ACTIVE_T**2 * other_variance)
    n_voxels = int(active.sum())
    if n_voxels < _MIN_VOXELS:
        return None
    values = effect[active].astype(np.float64)
    noise_variance = variance[active].astype(np.float64)
    reference = other_effect[active].astype(np.float64)
    energy = float(reference @ reference)
    n_correlated = min(_count_correlated_voxels(effect, variance, has_both), n_voxels)
    error = float(np.sqrt(np.square(reference) @ noise_variance * n_correlated)) / energy
    is_constant = min(values.std(), reference.std()) == 0
    return EffectAgreement(
        slope=float(reference @ values) / energy,
        error=error,
        correlation=0.0 if is_constant else float(np.corrcoef(values, reference)[0, 1]),
        n_voxels=n_voxels,
        is_difference=is_difference,
    )


def _count_correlated_voxels(effect: Array, variance: Array, mask: MaskArray) -> float:
    """Return the number of voxels that share the noise of a voxel.

    It is the variance of a sum of noise over voxels, relative to its variance for uncorrelated
    noise.
    """
    autocorrelation = noise_autocorrelation(compute_t(effect, variance), mask)
    # lags in both directions along each axis
    return float(np.prod(1 + 2 * autocorrelation[:, 1:].sum(axis=1)))


def find_agreeing_runs(
    names: Sequence[str], disagreements: Collection[tuple[str, str]]
) -> list[str] | None:
    """Return the largest set of runs that agree with each other, in the order of `names`.

    `disagreements` are pairs of runs that disagree. Returns None if several sets are the largest,
    or if no two runs agree.

    >>> find_agreeing_runs(["a", "b", "c"], [("a", "b"), ("c", "b")])
    ['a', 'c']
    >>> find_agreeing_runs(["a", "b"], [("a", "b")]) is None
    True
    >>> find_agreeing_runs(["a", "b"], [])
    ['a', 'b']
    """
    pairs = {frozenset(pair) for pair in disagreements}
    disagreeing = [name for name in names if any(name in pair for pair in pairs)]
    if len(disagreeing) > _MAX_DISAGREEING_RUNS:
        return None
    for n_removed in range(len(disagreeing) + 1):
        sufficient_removals = [
            removed
            for removed in combinations(disagreeing, n_removed)
            if all(pair & set(removed) for pair in pairs)
        ]
        if sufficient_removals:
            agreeing = [name for name in names if name not in sufficient_removals[0]]
            return agreeing if len(sufficient_removals) == 1 and len(agreeing) > 1 else None
    return None
