"""Tests over subjects whose values in several series are paired.

The tests take the differences ``method - reference``, one per subject, and return columns of the
table of comparisons.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bids_sr.io.arrays import Float

# relative to the largest value; differences within it are equal (tables have six digits)
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
    a, b = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(
            f"paired values are required, but the two series have {a.size} and {b.size} values"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(
            "paired tests cannot be computed with undefined values; exclude these participants"
        )
    step = _TOLERANCE * max(float(np.abs(a).max()), float(np.abs(b).max()))
    change = a - b
    if step > 0:
        change = np.round(change / step) * step  # equal differences must have equal ranks
    return change


def paired_t(values: npt.ArrayLike) -> dict[str, float]:
    """Test by Student's two-sided t test whether the mean difference is zero.

    >>> round(paired_t([1.0, 2.0, 3.0])["p_t"], 4)
    0.0742
    """
    d = np.asarray(values, dtype=np.float64)
    dof = len(d) - 1
    if dof < 1 or _is_constant(d):
        return {"t": math.nan, "dof": dof, "p_t": math.nan}
    value = float(d.mean()) / _standard_error(d)
    return {"t": value, "dof": dof, "p_t": 2 * float(special.stdtr(dof, -abs(value)))}


def equivalence(values: npt.ArrayLike, margin: float) -> float:
    """Return the TOST p value for a mean difference within ±margin (Schuirmann 1987).

    TOST are two one-sided t tests.

    Returns
    -------
    float
        Larger p value of both tests. If the differences are all equal, 0 for a mean inside the
        margin and 1 otherwise. NaN if there are fewer than two differences or the margin is not
        positive.
    """
    d = np.asarray(values, dtype=np.float64)
    if len(d) < 2 or not margin > 0:
        return math.nan
    if _is_constant(d):
        return 0.0 if abs(float(d.mean())) < margin else 1.0
    return float(special.stdtr(len(d) - 1, (abs(float(d.mean())) - margin) / _standard_error(d)))


def _standard_error(d: Float) -> float:
    return float(d.std(ddof=1)) / math.sqrt(len(d))


def _is_constant(d: Float) -> bool:
    """Return whether differences vary by no more than rounding error."""
    return not float(d.std(ddof=1)) > _TOLERANCE * abs(float(d.mean()))


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
    n, k = values.shape
    ranks = stats.rankdata(values, axis=1) if n else values
    spread = float((ranks**2).sum()) - n * k * (k + 1) ** 2 / 4
    if n < 2 or not spread > 0:
        return math.nan
    between = float(((ranks.sum(axis=0) - n * (k + 1) / 2) ** 2).sum())
    return float(stats.chi2.sf((k - 1) * between / spread, k - 1))
