"""Tests over subjects whose values in several series are paired.

The tests take the differences ``method - reference``, one per subject.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Float
from bids_sr.statistics.summaries import compute_half_width

# relative to the largest value, difference between equal values (tables have six digits)
_TOLERANCE = 1e-9


def differences(values: npt.ArrayLike, reference: npt.ArrayLike) -> Float:
    """Return paired differences, with differences within rounding error set to zero.

    Parameters
    ----------
    values : npt.ArrayLike
        Values of the subjects (n,).
    reference : npt.ArrayLike
        Values of the same subjects in the reference series (n,).

    Returns
    -------
    Float
        Values minus reference, one per subject (n,).

    Raises
    ------
    ValueError
        If the values are not paired, not finite, or empty.
    """
    first = np.asarray(values, dtype=np.float64)
    second = np.asarray(reference, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"paired values are required, but the two series have {first.size} and {second.size} "
            "values"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError(
            "paired tests cannot be computed with undefined values; exclude these participants"
        )
    step = _TOLERANCE * max(float(np.abs(first).max()), float(np.abs(second).max()))
    paired_differences = first - second
    if step > 0:
        # equal differences must have equal ranks
        paired_differences = np.round(paired_differences / step) * step
    return paired_differences


@frozen
class PairedT:
    """Mean difference with its 95 % t interval, and Student's paired t test."""

    mean_difference: float
    mean_lower: float
    mean_upper: float
    t: float
    dof: int
    p_t: float


def paired_t(values: npt.ArrayLike) -> PairedT:
    """Test by Student's two-sided t test whether the mean of differences (n,) is zero.

    The interval is NaN for a single difference, and t and p also if all differences are equal.

    >>> round(paired_t([1.0, 2.0, 3.0]).p_t, 4)
    0.0742
    """
    sample = np.asarray(values, dtype=np.float64)
    mean, dof = float(sample.mean()), len(sample) - 1
    half_width = compute_half_width(sample)
    t = p = math.nan
    if dof >= 1 and not _is_constant(sample):
        t = mean / _compute_standard_error(sample)
        p = 2 * float(special.stdtr(dof, -abs(t)))
    return PairedT(
        mean_difference=mean,
        mean_lower=mean - half_width,
        mean_upper=mean + half_width,
        t=t,
        dof=dof,
        p_t=p,
    )


def equivalence(values: npt.ArrayLike, margin: float) -> float:
    """Return the TOST p value for a mean difference within ±margin (Schuirmann 1987).

    TOST are two one-sided t tests. `values` are the differences (n,).

    Returns
    -------
    float
        Larger p value of both tests. If the differences are all equal, 0 for a mean inside the
        margin and 1 otherwise. NaN if there are fewer than two differences or the margin is not
        positive.
    """
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2 or not margin > 0:
        return math.nan
    mean_size = abs(float(sample.mean()))
    if _is_constant(sample):
        return 0.0 if mean_size < margin else 1.0
    return float(
        special.stdtr(len(sample) - 1, (mean_size - margin) / _compute_standard_error(sample))
    )


def _compute_standard_error(sample: Float) -> float:
    """Return the standard error of the mean."""
    return float(sample.std(ddof=1)) / math.sqrt(len(sample))


def _is_constant(sample: Float) -> bool:
    """Return whether values vary by no more than rounding error."""
    return not float(sample.std(ddof=1)) > _TOLERANCE * abs(float(sample.mean()))


def friedman(series: Sequence[npt.ArrayLike]) -> float:
    """Return Friedman's p value for differences between series of the same subjects (1937).

    Ties are corrected for. The p value is computed from the chi-square distribution, which is a
    rough approximation for fewer than about ten subjects.

    Parameters
    ----------
    series : Sequence[npt.ArrayLike]
        Values of each series (n,); subjects with a non-finite value are excluded.

    Returns
    -------
    float
        NaN if there are fewer than two series or subjects, or if all ranks are equal.
    """
    values = np.array([np.asarray(column, dtype=np.float64) for column in series]).T
    if values.ndim != 2 or values.shape[1] < 2:
        return math.nan
    values = values[np.isfinite(values).all(axis=1)]
    n, k = values.shape  # subjects, series
    ranks = stats.rankdata(values, axis=1) if n else values
    total_squares = float((ranks**2).sum()) - n * k * (k + 1) ** 2 / 4
    if n < 2 or not total_squares > 0:
        return math.nan
    rank_sums = ranks.sum(axis=0)
    squares_between_series = float(((rank_sums - n * (k + 1) / 2) ** 2).sum())
    return float(stats.chi2.sf((k - 1) * squares_between_series / total_squares, k - 1))
