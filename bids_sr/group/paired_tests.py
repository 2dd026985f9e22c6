"""Paired tests over subjects: exact Wilcoxon, t, TOST, Friedman and corrections.

The Hodges-Lehmann estimate is here too; p values are corrected by Holm and Benjamini-Hochberg.

Wilcoxon's signed-rank test is computed from its own permutation distribution (every sign of every
difference equally likely), so that its p value is exact with tied ranks too and needs no table.
All functions take the differences ``method - reference``, one a subject; what they find are the
columns of the table of comparisons.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bids_sr.io.arrays import Float

_EXACT_UP_TO = 100  # differences; beyond, the normal approximation is better than three digits
ALPHA = 0.05
# of the largest metric: differences nearer than this are equal (tables hold six digits)
_ALIKE = 1e-9
_GRAIN = 1e-12  # of the largest difference: how near a mean of pairs is found
_PAIRS = 2  # a difference, that are few enough to be sorted


def differences(values: npt.ArrayLike, reference: npt.ArrayLike) -> Float:
    """Return differences of metrics, with those within rounding of zero set to zero.

    Raise ValueError unless the metrics are finite and equally many.

    Parameters
    ----------
    values : npt.ArrayLike
        Values of the subjects (n,).
    reference : npt.ArrayLike
        Values of the same subjects in the other series (n,).

    Returns
    -------
    Float
        Values less reference, one a subject (n,).

    Raises
    ------
    ValueError
        Values are no pairs, not finite, or there are none.
    """
    a, b = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(
            f"paired values are required, but the two series have {a.size} and {b.size} values"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(
            "paired tests cannot be computed with undefined values; exclude these participants"
        )
    grain = _ALIKE * max(float(np.abs(a).max()), float(np.abs(b).max()))
    found = a - b
    if grain > 0:
        found = np.round(found / grain) * grain  # so that equal differences are equal ranks
    return found


@lru_cache(maxsize=64)
def _distribution(doubled_ranks: tuple[int, ...]) -> Float:
    """Return the null distribution of twice the rank sum of the positive differences.

    Each sign is a coin toss.
    """
    counts = np.zeros(sum(doubled_ranks) + 1)
    counts[0] = 1.0
    for rank in doubled_ranks:
        shifted = np.zeros_like(counts)
        shifted[rank:] = counts[: len(counts) - rank]
        counts = 0.5 * (counts + shifted)
    return counts


def signed_rank(values: npt.ArrayLike) -> dict[str, float | str]:
    """Test differences by Wilcoxon's signed-rank test, two-sided.

    Ties get their mean rank. Up to `_EXACT_UP_TO` differences the p value is exact given the
    ranks; beyond it is that of the normal approximation with corrections for ties and continuity.

    `values`: differences; those of zero say nothing about the sign and are left out. Returns
    ``effect_size`` (matched-pairs rank-biserial correlation; NaN where all differences are zero),
    ``w_plus``, ``n_nonzero``, ``method`` (exact, normal, or identical), ``p_wilcoxon``, and
    ``p_smallest``, what the test could at best reach with these ranks.
    """
    d = np.asarray(values, dtype=np.float64)
    used = d[d != 0]
    n = len(used)
    if not n:
        return _columns(math.nan, 0.0, 0, "identical", 1.0, 1.0)
    ranks = stats.rankdata(np.abs(used))
    total, w_plus = float(ranks.sum()), float(ranks[used > 0].sum())
    effect = (2 * w_plus - total) / total
    if n > _EXACT_UP_TO:
        spread = math.sqrt(float((ranks**2).sum()) / 4)
        p, smallest = (_normal_p(w, total, spread) for w in (w_plus, total))
        return _columns(effect, w_plus, n, "normal", p, smallest)
    chances = _distribution(tuple(sorted(round(2 * rank) for rank in ranks)))
    at = round(2 * w_plus)
    tail = min(chances[: at + 1].sum(), chances[at:].sum())
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
    beyond = max(abs(w_plus - total / 2) - 0.5, 0.0)
    return min(1.0, 2 * float(special.ndtr(-beyond / spread)))


def hodges_lehmann(values: npt.ArrayLike) -> dict[str, float]:
    """Return the median of all pairwise means and its exact 95 % interval.

    Each difference is also paired with itself.

    The interval is the set of shifts that the signed-rank test does not reject, between two of the
    ordered means. With ties its confidence is a lower bound.

    ``difference``, ``lower``, ``upper``, and ``level``, the confidence that the interval really
    has: below .95 where so few differences allow no wider one.
    """
    d = np.sort(np.asarray(values, dtype=np.float64))
    n = len(d)
    count = n * (n + 1) // 2
    tail = ALPHA / 2
    if n <= _EXACT_UP_TO:
        below = np.cumsum(_distribution(tuple(range(2, 2 * n + 1, 2)))[::2])
        # the largest number of means that may be cut off at each end
        cut = max(int(np.searchsorted(below, tail, side="right")), 1)
        level = 1 - 2 * float(below[cut - 1])
    else:
        spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        cut = max(1, math.floor(count / 2 - float(special.ndtri(1 - tail)) * spread))
        level = 0.95
    low, high, lower, upper = _ordered_means(
        d, ((count - 1) // 2, count // 2, cut - 1, count - cut)
    )
    return {"difference": (low + high) / 2, "lower": lower, "upper": upper, "level": level}


def _ordered_means(d: Float, ranks: Sequence[int]) -> list[float]:
    """Return the pairwise means of ascending `d` at some ranks, counted from the smallest.

    Each value is also paired with itself.

    Of many differences only those pairs are made that lie between two bounds, which bisection
    brings together until few are left; where nearly all are one value, to rounding.
    """
    order = np.arange(len(d))
    few = _PAIRS * len(d) if len(d) > _EXACT_UP_TO else math.inf
    grain = _GRAIN * (max(abs(float(d[0])), abs(float(d[-1]))) or 1.0)
    # of each bound that was tried: how many means are up to it, and where the partners end with
    # which those of each value are
    tried = {
        float(d[0]) - grain: (0, order),
        float(d[-1]): (len(d) * (len(d) + 1) // 2, np.full_like(order, len(d))),
    }
    means = []
    for rank in ranks:
        while True:
            low = max(bound for bound, (count, _) in tried.items() if count <= rank)
            high = min(bound for bound, (count, _) in tried.items() if count > rank)
            (below, first), (up_to, last) = tried[low], tried[high]
            if up_to - below <= few or high - low <= grain / 4:
                break
            middle = (low + high) / 2
            ends = np.maximum(np.searchsorted(d, 2 * middle - d, side="right"), order)
            tried[middle] = int((ends - order).sum()), ends
        if up_to - below > few:
            means.append(round(high / grain) * grain)
            continue
        count = last - first
        i = np.repeat(order, count)
        j = np.arange(len(i)) + np.repeat(last - np.cumsum(count), count)
        means.append(float(np.partition((d[i] + d[j]) / 2, rank - below)[rank - below]))
    return means


def paired_t(values: npt.ArrayLike) -> dict[str, float]:
    """Test by Student's t whether the mean of the differences is zero, two-sided.

    >>> round(paired_t([1.0, 2.0, 3.0])["p_t"], 4)
    0.0742
    """
    d = np.asarray(values, dtype=np.float64)
    dof = len(d) - 1
    if dof < 1 or _alike(d):
        return {"t": math.nan, "dof": dof, "p_t": math.nan}
    value = float(d.mean()) / _standard_error(d)
    return {"t": value, "dof": dof, "p_t": 2 * float(special.stdtr(dof, -abs(value)))}


def equivalence(values: npt.ArrayLike, margin: float) -> float:
    """Return the TOST p value that the mean difference is within ±margin (Schuirmann 1987).

    TOST are two one-sided t tests.

    Where the differences do not vary the answer is certain: 0 inside the margin, 1 outside. NaN
    for one difference.

    Larger p of both tests; NaN without a positive margin.
    """
    d = np.asarray(values, dtype=np.float64)
    if len(d) < 2 or not margin > 0:
        return math.nan
    if _alike(d):
        return 0.0 if abs(float(d.mean())) < margin else 1.0
    return float(special.stdtr(len(d) - 1, (abs(float(d.mean())) - margin) / _standard_error(d)))


def _standard_error(d: Float) -> float:
    return float(d.std(ddof=1)) / math.sqrt(len(d))


def _alike(d: Float) -> bool:
    """Whether differences vary by no more than rounding."""
    return not float(d.std(ddof=1)) > _ALIKE * abs(float(d.mean()))


def friedman(series: Sequence[npt.ArrayLike]) -> float:
    """Return Friedman's p value that several series of the same subjects do not differ (1937).

    Ties are corrected for.

    Each of the series is (n,), NaN where a subject lacks it, who is left out. From the chi-square
    distribution, which is rough below some ten subjects; NaN where there is nothing to rank.
    """
    values = np.array([np.asarray(each, dtype=np.float64) for each in series]).T
    if values.ndim != 2 or values.shape[1] < 2:
        return math.nan
    values = values[np.isfinite(values).all(axis=1)]
    n, k = values.shape
    ranks = stats.rankdata(values, axis=1) if n else values
    spread = float((ranks**2).sum()) - n * k * (k + 1) ** 2 / 4
    if n < 2 or not spread > 0:
        return math.nan
    between = float(((ranks.sum(axis=0) - n * (k + 1) / 2) ** 2).sum())
    return float(stats.chi2.sf((k - 1) * between / spread, k - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected by Holm's step-down procedure; NaN stay NaN and do not count.

    Not by `statsmodels.stats.multitest.multipletests`, which collects garbage at each call: half a
    second, a family.

    `p_values`: uncorrected p values; NaN for unknown ones.
    """
    p = np.array(p_values, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    p[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return p.tolist()


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return p values as false discovery rates (Benjamini and Hochberg 1995).

    NaN stay NaN and do not count.

    `p_values`: uncorrected p values; NaN for unknown ones.
    """
    p = np.array(p_values, dtype=np.float64)
    known = np.isfinite(p)
    if known.any():
        p[known] = stats.false_discovery_control(p[known])
    return p.tolist()


def quartiles(values: npt.ArrayLike) -> tuple[float, float, float]:
    """Return first quartile, median and third quartile of the finite values; NaN if none.

    Three values in ascending order, or NaN.
    """
    v = np.asarray(values, dtype=np.float64)
    v = v[np.isfinite(v)]
    if not len(v):
        return math.nan, math.nan, math.nan
    first, median, third = np.quantile(v, [0.25, 0.5, 0.75]).tolist()
    return first, median, third
