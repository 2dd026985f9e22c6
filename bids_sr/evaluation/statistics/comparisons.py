"""Paired comparisons of series: estimates, tests, and their correction within families.

A unit, such as a participant, has one value per series. All programs compare series here: the
group level of functional runs and of structural scans, ``bids-sr-models``, and blinded ratings.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from scipy import stats

from bids_sr.evaluation.statistics.multiple_comparisons import holm
from bids_sr.evaluation.statistics.summaries import compute_half_width, quartiles
from bids_sr.evaluation.statistics.wilcoxon import hodges_lehmann, signed_rank
from bids_sr.io.arrays import Float
from bids_sr.io.frozen import frozen

# relative to the largest value, difference between equal values (tables have six digits)
_TOLERANCE = 1e-9


@frozen
class PairedComparison:
    """Comparison of a series with another series (`minus`), over `n` units with both values.

    The fields are columns of ``comparisons`` in ``columns.json``, which describes them. Numbers
    that are not defined are NaN. `family` is the number of p values that were corrected together;
    0 before the correction.
    """

    series: str
    minus: str
    n: int
    n_undefined: int
    n_above: int = 0
    median_series: float
    q1_series: float
    q3_series: float
    median_minus: float
    q1_minus: float
    q3_minus: float
    difference: float = math.nan
    lower: float = math.nan
    upper: float = math.nan
    level: float = math.nan
    effect_size: float = math.nan
    w_plus: float = math.nan
    n_nonzero: float = math.nan
    method: str = ""
    p_wilcoxon: float = math.nan
    p_smallest: float = math.nan
    mean_difference: float = math.nan
    mean_lower: float = math.nan
    mean_upper: float = math.nan
    t: float = math.nan
    dof: float = math.nan
    p_t: float = math.nan
    margin: float = math.nan
    p_equivalence: float = math.nan
    family: int = 0
    p_holm: float = math.nan
    p_t_holm: float = math.nan
    p_equivalence_holm: float = math.nan

    def cells(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def compare_pairs(
    values: Mapping[str, Float],
    pairs: Iterable[tuple[str, str]],
    *,
    margin: float = math.nan,
    optimum: float | None = None,
) -> list[PairedComparison]:
    """Compare pairs of series over units, without correction.

    Parameters
    ----------
    values : Mapping[str, Float]
        Values by series, for the same units (n,): NaN if a value is missing, infinite if it is not
        defined. A pair is compared over units with two finite values; undefined values are
        counted.
    pairs : Iterable[tuple[str, str]]
        Series, and series that is subtracted.
    margin : float
        Margin of equivalence; NaN for no test of equivalence.
    optimum : float, optional
        Best value. Differences are then between distances from this value, so that a negative
        difference is an improvement.

    Returns
    -------
    list[PairedComparison]
        One comparison per pair; numbers are NaN if no unit has both values.

    Examples
    --------
    >>> values = {"method": np.array([3.0, 4.0, 6.0]), "linear": np.array([1.0, 3.0, 3.0])}
    >>> (comparison,) = compare_pairs(values, [("method", "linear")])
    >>> comparison.n, round(comparison.difference, 6), comparison.p_wilcoxon
    (3, 2.0, 0.25)
    """
    return [_compare_pair(values, series, minus, margin, optimum) for series, minus in pairs]


def _compare_pair(
    values: Mapping[str, Float], series: str, minus: str, margin: float, optimum: float | None
) -> PairedComparison:
    """Compare two series; see `compare_pairs`."""
    both = np.array([values[series], values[minus]], dtype=np.float64)
    first, second = both[:, np.isfinite(both).all(axis=0)]
    n = len(first)
    q1_series, median_series, q3_series = quartiles(first)
    q1_minus, median_minus, q3_minus = quartiles(second)
    comparison = PairedComparison(
        series=series,
        minus=minus,
        n=n,
        n_undefined=int((~np.isnan(both)).all(axis=0).sum()) - n,
        median_series=median_series,
        q1_series=q1_series,
        q3_series=q3_series,
        median_minus=median_minus,
        q1_minus=q1_minus,
        q3_minus=q3_minus,
        margin=margin,
    )
    if not n:
        return comparison
    changes = compute_differences(first, second, optimum)
    mean, half_width = float(changes.mean()), compute_half_width(changes)
    t, p_t = _test_mean(changes)
    return replace(
        comparison,
        n_above=int((changes > 0).sum()),
        mean_difference=mean,
        mean_lower=mean - half_width,
        mean_upper=mean + half_width,
        t=t,
        dof=n - 1,
        p_t=p_t,
        p_equivalence=_test_equivalence(changes, margin),
        **asdict(signed_rank(changes)),
        **asdict(hodges_lehmann(changes)),
    )


def compute_differences(values: Float, references: Float, optimum: float | None = None) -> Float:
    """Return paired differences (n,) of finite values (n,), zero if within rounding error.

    See `compare_pairs` for the optimum.
    """
    first, second = (
        (values, references)
        if optimum is None
        else (np.abs(values - optimum), np.abs(references - optimum))
    )
    step = _TOLERANCE * max(float(np.abs(first).max()), float(np.abs(second).max()))
    # equal differences must have equal ranks
    return np.round((first - second) / step) * step if step > 0 else first - second


def _test_mean(changes: Float) -> tuple[float, float]:
    """Return t and p of Student's t test; NaN if the differences (n,) do not vary."""
    if _is_constant(changes):
        return math.nan, math.nan
    test = stats.ttest_1samp(changes, 0.0)
    return float(test.statistic), float(test.pvalue)


def _test_equivalence(changes: Float, margin: float) -> float:
    """Return the TOST p value for a mean difference within ±margin (Schuirmann 1987).

    TOST are two one-sided t tests of the differences (n,). If the differences are all equal, the p
    value is 0 for a mean inside the margin and 1 otherwise. It is NaN if there are fewer than two
    differences or the margin is not positive.
    """
    if len(changes) < 2 or not margin > 0:
        return math.nan
    if _is_constant(changes):
        return 0.0 if abs(float(changes.mean())) < margin else 1.0
    from statsmodels.stats.weightstats import DescrStatsW  # takes .1 s

    return float(DescrStatsW(changes).ttost_mean(-margin, margin)[0])


def _is_constant(changes: Float) -> bool:
    """Return whether differences vary by no more than rounding error, as a single one."""
    return len(changes) < 2 or not changes.std(ddof=1) > _TOLERANCE * abs(changes.mean())


def correct(
    comparisons: Sequence[PairedComparison], families: Sequence[Hashable], *, least_n: int
) -> list[PairedComparison]:
    """Correct all p values by Holm's procedure within families, given per comparison.

    Comparisons of fewer than `least_n` units are not part of a family, and have no corrected p
    value.

    >>> values = {"a": np.array([1.0, 2.0, 3.0]), "b": np.zeros(3), "c": np.ones(3)}
    >>> compared = compare_pairs(values, [("a", "b"), ("a", "c")])
    >>> [comparison.p_holm for comparison in correct(compared, ["psnr", "psnr"], least_n=2)]
    [0.5, 0.5]
    """
    indices_by_family: dict[Hashable, list[int]] = defaultdict(list)
    for index, family in enumerate(families):
        indices_by_family[family].append(index)
    corrected = list(comparisons)
    for indices in indices_by_family.values():
        p_values = [
            (item.p_wilcoxon, item.p_t, item.p_equivalence)
            if item.n >= least_n
            else (math.nan, math.nan, math.nan)
            for item in (comparisons[index] for index in indices)
        ]
        n_corrected = sum(math.isfinite(p_wilcoxon) for p_wilcoxon, _, _ in p_values)
        for index, p_holm, p_t_holm, p_equivalence_holm in zip(
            indices, *(holm(tests) for tests in zip(*p_values, strict=True)), strict=True
        ):
            corrected[index] = replace(
                comparisons[index],
                family=n_corrected,
                p_holm=p_holm,
                p_t_holm=p_t_holm,
                p_equivalence_holm=p_equivalence_holm,
            )
    return corrected
