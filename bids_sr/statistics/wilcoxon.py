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

_EXACT_UP_TO = 100  # differences; with more, the normal approximation is accurate to three digits
ALPHA = 0.05
_PRECISION = 1e-12  # relative to the largest difference, precision of a pairwise mean
_MAX_PAIRS = 2  # pairs per difference, most that are sorted at once


@lru_cache(maxsize=64)
def _distribution(doubled_ranks: tuple[int, ...]) -> Float:
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


def signed_rank(values: npt.ArrayLike) -> dict[str, float | str]:
    """Test differences by the two-sided Wilcoxon signed-rank test.

    Ties are assigned their mean rank. The p value is exact given the ranks for up to
    `_EXACT_UP_TO` nonzero differences. For more, it is computed from the normal approximation with
    corrections for ties and continuity.

    Parameters
    ----------
    values : npt.ArrayLike
        Differences (n,); zeros are excluded.

    Returns
    -------
    dict[str, float | str]
        ``effect_size`` (matched-pairs rank-biserial correlation; NaN if all differences are zero),
        ``w_plus``, ``n_nonzero``, ``method`` (exact, normal, or identical), ``p_wilcoxon``, and
        ``p_smallest``, the smallest p value that the test can reach with these ranks.
    """
    d = np.asarray(values, dtype=np.float64)
    nonzero = d[d != 0]
    n = len(nonzero)
    if not n:
        return _columns(math.nan, 0.0, 0, "identical", 1.0, 1.0)
    ranks = stats.rankdata(np.abs(nonzero))
    total, w_plus = float(ranks.sum()), float(ranks[nonzero > 0].sum())
    effect = (2 * w_plus - total) / total
    if n > _EXACT_UP_TO:
        spread = math.sqrt(float((ranks**2).sum()) / 4)
        p, smallest = (_normal_p(w, total, spread) for w in (w_plus, total))
        return _columns(effect, w_plus, n, "normal", p, smallest)
    probabilities = _distribution(tuple(sorted(round(2 * rank) for rank in ranks)))
    position = round(2 * w_plus)
    tail = min(probabilities[: position + 1].sum(), probabilities[position:].sum())
    return _columns(
        effect, w_plus, n, "exact", min(1.0, 2 * float(tail)), min(1.0, 2.0 ** (1 - n))
    )


def _columns(
    effect: float, w_plus: float, n: int, method: str, p: float, smallest: float
) -> dict[str, float | str]:
    return {
        "effect_size": effect,
        "w_plus": w_plus,
        "n_nonzero": n,
        "method": method,
        "p_wilcoxon": p,
        "p_smallest": smallest,
    }


def _normal_p(w_plus: float, total: float, spread: float) -> float:
    distance = max(abs(w_plus - total / 2) - 0.5, 0.0)
    return min(1.0, 2 * float(special.ndtr(-distance / spread)))


def hodges_lehmann(values: npt.ArrayLike) -> dict[str, float]:
    """Return the median of all pairwise means and its exact 95 % interval.

    Pairs of a difference with itself are included. The interval contains the shifts that the
    signed-rank test does not reject; its limits are two of the ordered means. With ties, its
    confidence level is a lower bound. For more than `_EXACT_UP_TO` differences, the limits are
    computed from the normal approximation.

    Returns
    -------
    dict[str, float]
        ``difference``, ``lower``, ``upper``, and ``level``, the confidence level of the interval,
        which is below .95 if there are too few differences.
    """
    d = np.sort(np.asarray(values, dtype=np.float64))
    n = len(d)
    count = n * (n + 1) // 2
    tail = ALPHA / 2
    if n <= _EXACT_UP_TO:
        below = np.cumsum(_distribution(tuple(range(2, 2 * n + 1, 2)))[::2])
        # largest number of pairwise means that may lie outside either limit of the interval
        cut = max(int(np.searchsorted(below, tail, side="right")), 1)
        level = 1 - 2 * float(below[cut - 1])
    else:
        spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        cut = max(1, math.floor(count / 2 - float(special.ndtri(1 - tail)) * spread))
        level = 0.95
    low, high, lower, upper = _select_pairwise_means(
        d, ((count - 1) // 2, count // 2, cut - 1, count - cut)
    )
    return {"difference": (low + high) / 2, "lower": lower, "upper": upper, "level": level}


def _select_pairwise_means(d: Float, ranks: Sequence[int]) -> list[float]:
    """Return the pairwise means with some ranks (0 is the smallest), without computing all means.

    `d` is in ascending order. Pairs of a value with itself are included. If there are many values,
    bisection narrows two bounds until few means are between them, and only these means are
    computed. If they are equal within rounding, the bound is returned.
    """
    order = np.arange(len(d))
    max_pairs = _MAX_PAIRS * len(d) if len(d) > _EXACT_UP_TO else math.inf
    step = _PRECISION * (max(abs(float(d[0])), abs(float(d[-1]))) or 1.0)
    # For each bound: the number of means up to the bound and, for each value, the number of
    # smallest values whose mean with it is up to the bound.
    bounds = {
        float(d[0]) - step: (0, order),
        float(d[-1]): (len(d) * (len(d) + 1) // 2, np.full_like(order, len(d))),
    }
    means = []
    for rank in ranks:
        while True:
            low = max(bound for bound, (count, _) in bounds.items() if count <= rank)
            high = min(bound for bound, (count, _) in bounds.items() if count > rank)
            (below, first), (up_to, last) = bounds[low], bounds[high]
            if up_to - below <= max_pairs or high - low <= step / 4:
                break
            middle = (low + high) / 2
            ends = np.maximum(np.searchsorted(d, 2 * middle - d, side="right"), order)
            bounds[middle] = int((ends - order).sum()), ends
        if up_to - below > max_pairs:
            means.append(round(high / step) * step)
            continue
        count = last - first
        i = np.repeat(order, count)
        j = np.arange(len(i)) + np.repeat(last - np.cumsum(count), count)
        means.append(float(np.partition((d[i] + d[j]) / 2, rank - below)[rank - below]))
    return means
