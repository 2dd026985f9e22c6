"""Wilcoxon's signed-rank test, and the Hodges-Lehmann estimate of differences.

The test is computed from its permutation distribution, in which the signs of all differences are
equally likely. Its p value is therefore also exact with tied ranks.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bids_sr.io.arrays import Float
from bids_sr.io.frozen import frozen

# largest number of differences with exact p values; for more, the normal approximation is accurate
# to three digits
_MAX_EXACT = 100
ALPHA = 0.05
LOWEST_NOMINAL_LEVEL = 1 - ALPHA - 0.001
"""Confidence level below which an interval counts as narrower than nominal, with a tolerance for
rounding.
"""
_RELATIVE_PRECISION = 1e-12  # relative to the largest difference, precision of a pairwise mean


@frozen
class SignedRank:
    """Result of a signed-rank test.

    `effect_size` is the matched-pairs rank-biserial correlation (NaN if all differences are zero),
    `method` exact, normal or identical, and `p_smallest` the smallest p value that the test can
    reach with these ranks.
    """

    effect_size: float
    w_plus: float
    n_nonzero: int
    method: str
    p_wilcoxon: float
    p_smallest: float


@frozen
class Shift:
    """Hodges-Lehmann estimate with its interval, whose confidence level is `level`."""

    difference: float
    lower: float
    upper: float
    level: float


def signed_rank(values: npt.ArrayLike) -> SignedRank:
    """Test differences (n,) by the two-sided Wilcoxon signed-rank test, without zeros.

    Ties are assigned their mean rank. The p value is exact given the ranks for up to
    `_MAX_EXACT` nonzero differences. For more, it is computed from the normal approximation with
    corrections for ties and continuity.
    """
    sample = np.asarray(values, dtype=np.float64)
    nonzero = sample[sample != 0]
    n = len(nonzero)
    if not n:
        return SignedRank(
            effect_size=math.nan,
            w_plus=0.0,
            n_nonzero=0,
            method="identical",
            p_wilcoxon=1.0,
            p_smallest=1.0,
        )
    ranks = stats.rankdata(np.abs(nonzero))
    total, w_plus = float(ranks.sum()), float(ranks[nonzero > 0].sum())
    if n > _MAX_EXACT:
        method = "normal"
        sd = math.sqrt(float((ranks**2).sum()) / 4)
        p, p_smallest = (_compute_normal_p(rank_sum, total, sd) for rank_sum in (w_plus, total))
    else:
        method = "exact"
        probabilities = _compute_null_distribution(
            tuple(sorted(round(2 * rank) for rank in ranks))
        )
        doubled = round(2 * w_plus)
        tail = min(probabilities[: doubled + 1].sum(), probabilities[doubled:].sum())
        p, p_smallest = min(1.0, 2 * float(tail)), min(1.0, 2.0 ** (1 - n))
    return SignedRank(
        effect_size=(2 * w_plus - total) / total,
        w_plus=w_plus,
        n_nonzero=n,
        method=method,
        p_wilcoxon=p,
        p_smallest=p_smallest,
    )


def _compute_normal_p(w_plus: float, total: float, sd: float) -> float:
    """Return the p value of the normal approximation with a correction for continuity.

    `sd` is the standard deviation of the rank sum under the null hypothesis.
    """
    distance = max(abs(w_plus - total / 2) - 0.5, 0.0)
    return min(1.0, 2 * float(special.ndtr(-distance / sd)))


def hodges_lehmann(values: npt.ArrayLike) -> Shift:
    """Return the median of all pairwise means and its exact 95 % interval.

    Pairs of a difference with itself are included. The interval contains the shifts that the
    signed-rank test does not reject; its limits are two of the ordered means. With ties, its
    confidence level is a lower bound. For more than `_MAX_EXACT` differences, the limits are
    computed from the normal approximation. The level is below 0.95 if there are too few
    differences.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    n_pairs = n * (n + 1) // 2
    tail = ALPHA / 2
    # n_outside: largest number of pairwise means that may lie outside either limit of the interval
    if n <= _MAX_EXACT:
        cumulative = np.cumsum(_compute_null_distribution(tuple(range(2, 2 * n + 1, 2)))[::2])
        n_outside = max(int(np.searchsorted(cumulative, tail, side="right")), 1)
        level = 1 - 2 * float(cumulative[n_outside - 1])
    else:
        sd = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        n_outside = max(1, math.floor(n_pairs / 2 - float(special.ndtri(1 - tail)) * sd))
        level = 1 - ALPHA
    middle_ranks = ((n_pairs - 1) // 2, n_pairs // 2)
    low, high, lower, upper = _select_pairwise_means(
        ordered, (*middle_ranks, n_outside - 1, n_pairs - n_outside)
    )
    return Shift(difference=(low + high) / 2, lower=lower, upper=upper, level=level)


@lru_cache(maxsize=64)
def _compute_null_distribution(doubled_ranks: tuple[int, ...]) -> Float:
    """Return the null distribution of twice the rank sum of the positive differences.

    Signs are independent and positive with probability 1/2.
    """
    counts = np.zeros(sum(doubled_ranks) + 1)
    counts[0] = 1.0
    for rank in doubled_ranks:
        shifted = np.zeros_like(counts)
        shifted[rank:] = counts[: len(counts) - rank]
        counts = 0.5 * (counts + shifted)
    return counts


def _select_pairwise_means(ordered: Float, ranks: Sequence[int]) -> list[float]:
    """Return the pairwise means with some ranks (0 is the smallest).

    `ordered` are values in ascending order. Pairs of a value with itself are included. Means of
    many values are not listed, but found by bisection with `_RELATIVE_PRECISION`.
    """
    order = np.arange(len(ordered))
    if len(ordered) <= _MAX_EXACT:
        means = np.sort(((ordered[:, None] + ordered) / 2)[order[:, None] <= order])
        return means[list(ranks)].tolist()
    step = _RELATIVE_PRECISION * (float(np.abs(ordered[[0, -1]]).max()) or 1.0)
    selected_means = []
    for rank in ranks:
        low, high = float(ordered[0]) - step, float(ordered[-1])
        while high - low > step / 4:
            middle = (low + high) / 2
            ends = np.searchsorted(ordered, 2 * middle - ordered, side="right")
            if np.maximum(ends - order, 0).sum() <= rank:
                low = middle
            else:
                high = middle
        selected_means.append(round(high / step) * step)
    return selected_means
