"""Paired tests over subjects: exact Wilcoxon, Hodges-Lehmann, t, TOST, Friedman, Holm and Benjamini-Hochberg.

Wilcoxon's signed-rank test is computed from its own permutation distribution (every sign of every difference equally
likely), so that its p value is exact with tied ranks too and needs no table. All functions take the differences
``method - reference``, one a subject. Maps of the group are tested voxel by voxel, with running sums (`Running`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array, Float

EXACT_UP_TO = 100  # differences; beyond, the normal approximation is better than three digits
ALPHA = 0.05
_ALIKE = 1e-9  # of the largest metric: differences nearer than this are equal (tables hold six digits)


@frozen
class Wilcoxon:
    """Result of the signed-rank test."""

    n: int  # differences that are not zero; the others say nothing about the sign and are left out
    w_plus: float  # sum of the ranks of the positive differences
    p_value: float  # two-sided; 1 where all differences are zero
    smallest_p: float  # what this test could at best have reached with so many differences and these ties
    effect_size: float  # matched-pairs rank-biserial correlation, -1 to 1; NaN where all differences are zero
    method: str  # exact, normal, or identical (all differences are zero)

    @property
    def can_reach(self) -> bool:
        """Whether p < .05 was possible at all."""
        return self.smallest_p < ALPHA


@frozen
class Interval:
    """An estimate, its interval, and the confidence that the interval really has.

    `level` falls short of .95 where so few differences allow no wider interval than from the smallest to the largest.
    """

    value: float
    lower: float
    upper: float
    level: float


@frozen
class TTest:
    """A paired t test; `t` and `p_value` are NaN where the differences do not vary."""

    t: float
    dof: float
    p_value: float


@frozen
class Spread:
    """Median and quartiles (linear between order statistics) of `n` values; NaN where there are none."""

    median: float
    first: float
    third: float
    n: int


def differences(values: npt.ArrayLike, reference: npt.ArrayLike) -> Float:
    """Differences of metrics, those within rounding of zero set to zero; ValueError unless finite and equally many."""
    a, b = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"{a.size} and {b.size} figures are no pairs")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("figures that are not defined cannot be compared; leave those subjects out")
    grain = _ALIKE * max(float(np.abs(a).max()), float(np.abs(b).max()))
    found = a - b
    if grain > 0:
        found = np.round(found / grain) * grain  # so that equal differences are equal ranks
    return found


@lru_cache(maxsize=64)
def _distribution(doubled_ranks: tuple[int, ...]) -> Float:
    """Probability of every value of twice the sum of the ranks of the positive differences, each sign a coin toss."""
    found = np.zeros(sum(doubled_ranks) + 1)
    found[0] = 1.0
    for rank in doubled_ranks:
        shifted = np.zeros_like(found)
        shifted[rank:] = found[: len(found) - rank]
        found = 0.5 * (found + shifted)
    return found


def wilcoxon(found: npt.ArrayLike) -> Wilcoxon:
    """Wilcoxon's signed-rank test of differences, two-sided.

    Ties get their mean rank. Up to `EXACT_UP_TO` differences the p value is exact given the ranks; beyond it is that
    of the normal approximation with corrections for ties and continuity.
    """
    d = np.asarray(found, dtype=np.float64)
    used = d[d != 0]
    n = len(used)
    if not n:
        return Wilcoxon(n=0, w_plus=0.0, p_value=1.0, smallest_p=1.0, effect_size=math.nan, method="identical")
    ranks = stats.rankdata(np.abs(used))
    total = float(ranks.sum())
    w_plus = float(ranks[used > 0].sum())
    if n <= EXACT_UP_TO:
        chances = _distribution(tuple(sorted(round(2 * rank) for rank in ranks)))
        at = round(2 * w_plus)
        tail = min(chances[: at + 1].sum(), chances[at:].sum())
        p_value, smallest, method = min(1.0, 2 * float(tail)), min(1.0, 2.0 ** (1 - n)), "exact"
    else:
        spread = math.sqrt(float((ranks**2).sum()) / 4)
        p_value = _normal_p(w_plus, total, spread)
        smallest, method = _normal_p(total, total, spread), "normal"
    effect = (2 * w_plus - total) / total
    return Wilcoxon(n=n, w_plus=w_plus, p_value=p_value, smallest_p=smallest, effect_size=effect, method=method)


def _normal_p(w_plus: float, total: float, spread: float) -> float:
    beyond = max(abs(w_plus - total / 2) - 0.5, 0.0)
    return min(1.0, 2 * float(special.ndtr(-beyond / spread)))


def hodges_lehmann(found: npt.ArrayLike) -> Interval:
    """Median of the means of all pairs of differences (each with itself too), and its exact interval of 95 %.

    The interval is the set of shifts that the signed-rank test does not reject, between two of the ordered means; its
    true confidence is given. With ties that confidence is a lower bound.
    """
    d = np.sort(np.asarray(found, dtype=np.float64))
    n = len(d)
    count = n * (n + 1) // 2
    alpha = 1 - 0.95
    if n <= EXACT_UP_TO:
        below = np.cumsum(_distribution(tuple(range(2, 2 * n + 1, 2)))[::2])
        # the largest number of means that may be cut off at each end
        cut = int(np.searchsorted(below, alpha / 2, side="right"))
        reached = 1 - 2 * float(below[max(cut, 1) - 1])
    else:
        spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        cut = max(1, math.floor(count / 2 - float(special.ndtri(1 - alpha / 2)) * spread))
        reached = 0.95
    cut = max(cut, 1)
    wanted = {(count - 1) // 2, count // 2, cut - 1, count - cut}
    means = {rank: _ordered_mean(d, rank) for rank in wanted} if n > EXACT_UP_TO else _ordered_means(d)
    value = (means[(count - 1) // 2] + means[count // 2]) / 2
    return Interval(value=float(value), lower=float(means[cut - 1]), upper=float(means[count - cut]), level=reached)


def _ordered_means(d: Float) -> Float:
    """The means of all pairs, each with itself too, ascending."""
    i, j = np.triu_indices(len(d))
    return np.asarray(np.sort((d[i] + d[j]) / 2))


def _ordered_mean(d: Float, rank: int) -> float:
    """One of `_ordered_means` of ascending `d`, without making them all.

    The sums between two bounds are counted by bisection of `d`; the bounds close in until few are between.
    """
    n = len(d)
    own = np.arange(n)

    def ends(bound: float, side: Literal["left", "right"]) -> npt.NDArray[np.intp]:
        return np.maximum(np.searchsorted(d, bound - d, side=side), own)

    low, high = 2 * d[0], 2 * d[-1]
    grain = 1e-12 * max(abs(low), abs(high))
    for _ in range(60):
        middle = (low + high) / 2
        if not low + grain < middle < high - grain:
            break
        if int((ends(middle, "right") - own).sum()) > rank:
            high = middle
        else:
            low = middle
        if int((ends(high, "right") - ends(low, "left")).sum()) <= 4 * n:
            break
    first, last = ends(low - grain, "left"), ends(high + grain, "right")
    sizes = last - first
    if int(sizes.sum()) > 8 * n:  # ties: all between are one value to rounding, and may be millions
        one = int(np.argmax(sizes > 0))
        return float((d[one] + d[first[one]]) / 2)
    i = np.repeat(own, sizes)
    j = np.arange(len(i)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(first, sizes)
    at = rank - int((first - own).sum())
    return float(np.partition((d[i] + d[j]) / 2, at)[at])


def paired_t(found: npt.ArrayLike) -> TTest:
    """Student's t test that the mean of the differences is zero, two-sided.

    Examples
    --------
    >>> round(paired_t([1.0, 2.0, 3.0]).p_value, 4)
    0.0742
    """
    d = np.asarray(found, dtype=np.float64)
    dof = len(d) - 1
    if dof < 1 or _alike(d):
        return TTest(t=math.nan, dof=dof, p_value=math.nan)
    test = stats.ttest_1samp(d, 0.0)
    return TTest(t=float(test.statistic), dof=dof, p_value=float(test.pvalue))


def equivalence(found: npt.ArrayLike, margin: float) -> float:
    """p value of two one-sided t tests that the mean difference lies within -margin and +margin (Schuirmann 1987).

    Where the differences do not vary the answer is certain: 0 inside the margin, 1 outside. NaN for one difference.
    """
    d = np.asarray(found, dtype=np.float64)
    if len(d) < 2 or not margin > 0:
        return math.nan
    if _alike(d):
        return 0.0 if abs(float(d.mean())) < margin else 1.0
    above = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
    return float(max(above, stats.ttest_1samp(d, margin, alternative="less").pvalue))


def _alike(d: Float) -> bool:
    """Whether differences vary by no more than rounding."""
    return not float(d.std(ddof=1)) > _ALIKE * abs(float(d.mean()))


def friedman(series: Sequence[npt.ArrayLike]) -> float:
    """p value of Friedman's test that several series of the same subjects do not differ (1937), ties corrected.

    Each of the series is (n,), NaN where a subject lacks it, who is left out. From the chi-square distribution, which
    is rough below some ten subjects; NaN where there is nothing to rank.
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
    """p values corrected by Holm's step-down procedure; NaN stay NaN and do not count.

    Not by `statsmodels.stats.multitest.multipletests`, which collects garbage at each call: half a second, a family.
    """
    p = np.array(p_values, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    p[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return p.tolist()


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p values as false discovery rates (Benjamini and Hochberg 1995); NaN stay NaN and do not count."""
    p = np.array(p_values, dtype=np.float64)
    known = np.isfinite(p)
    if known.any():
        p[known] = stats.false_discovery_control(p[known])
    return p.tolist()


def spread(values: npt.ArrayLike) -> Spread:
    """Median and quartiles of the values that are finite."""
    v = np.asarray(values, dtype=np.float64)
    v = v[np.isfinite(v)]
    if not len(v):
        return Spread(median=math.nan, first=math.nan, third=math.nan, n=0)
    first, median, third = (float(q) for q in np.quantile(v, [0.25, 0.5, 0.75]))
    return Spread(median=median, first=first, third=third, n=len(v))


_SMALLEST_P = 1e-300  # so that z stays finite


@dataclass(slots=True)
class Running:
    """Mean and sum of squared deviations of what was added (Welford), (voxels,) each."""

    # mean, squares: float64
    mean: Array
    squares: Array
    people: list[str] = field(default_factory=list)  # names of those who were added

    @classmethod
    def of(cls, voxels: int | tuple[int, ...]) -> "Running":
        """Nothing added yet."""
        return cls(mean=np.zeros(voxels), squares=np.zeros(voxels))

    def add(self, values: Array, who: str) -> None:
        """Add one participant's values, (voxels,)."""
        self.people.append(who)
        away = values - self.mean
        self.mean += away / len(self.people)
        away *= values - self.mean
        self.squares += away

    def keep(self, which: Array) -> None:
        """Go on with some of the voxels."""
        self.mean, self.squares = self.mean[which], self.squares[which]

    def join(self, other: "Running") -> None:
        """Add all that another holds of the same voxels (Chan)."""
        n, m = len(self.people), len(other.people)
        if not m:
            return
        away = other.mean - self.mean
        self.mean = self.mean + away * (m / (n + m))
        self.squares = self.squares + other.squares + away**2 * (n * m / (n + m))
        self.people += other.people

    def tested(self) -> dict[str, Array]:
        """Effect (the mean), its variance, t and z of each voxel, float32; t, z are 0 where nothing varies.

        Raises
        ------
        ValueError : fewer than two participants
        """
        n = len(self.people)
        if n < 2:
            raise ValueError(f"{n} participants leave no degree of freedom")
        variance = self.squares / (n - 1) / n
        error = np.sqrt(variance)
        t = np.divide(self.mean, error, out=np.zeros_like(self.mean), where=error > 0)
        p = np.clip(special.stdtr(n - 1, -np.abs(t)), _SMALLEST_P, None)
        z = -np.sign(t) * special.ndtri(p)
        found = {"effect": self.mean, "variance": variance, "t": t, "z": z}
        return {stat: values.astype(np.float32) for stat, values in found.items()}
