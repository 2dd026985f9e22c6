"""Bias and limits of agreement of two measurements of the same quantity.

Sources: Bland and Altman 1986 (Lancet 327:307) for bias and limits; Bland and Altman 1999
(Statistical Methods in Medical Research 8:135) for their intervals.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Float

_NORMAL_WIDTH = (
    1.96  # standard deviations, half width of the central 95 % of a normal distribution
)
_LEVEL = 0.95  # confidence level of the intervals


@frozen
class Agreement:
    """Bias and 95 % limits of agreement with 95 % confidence intervals, in the unit of the data.

    For a single pair, all values except `n` and `bias` are NaN.
    """

    n: int
    bias: float
    bias_lower: float
    bias_upper: float
    sd: float
    low_limit: float
    low_limit_lower: float
    low_limit_upper: float
    high_limit: float
    high_limit_lower: float
    high_limit_upper: float


def limits_of_agreement(differences: npt.ArrayLike) -> Agreement:
    """Return bias and limits of agreement of paired differences.

    The limits are bias ± 1.96 SD. The bias has the standard error SD / √n, and a limit
    SD √(1/n + 1.96² / (2 (n − 1))). Intervals use the t distribution with n − 1 degrees of
    freedom.

    Parameters
    ----------
    differences : npt.ArrayLike
        Finite differences of independent units (n,), such as participants.

    Raises
    ------
    ValueError
        If there are no differences, or any difference is not finite.

    Examples
    --------
    >>> agreement = limits_of_agreement([1.0, 2.0, 3.0])
    >>> round(agreement.low_limit, 2), agreement.bias, round(agreement.high_limit, 2)
    (0.04, 2.0, 3.96)
    """
    values = np.asarray(differences, dtype=np.float64).ravel()
    if not values.size or not np.isfinite(values).all():
        raise ValueError(
            "limits of agreement require at least one difference, and all differences must be "
            "finite"
        )
    n, bias = len(values), float(values.mean())
    sd = float(values.std(ddof=1)) if n > 1 else math.nan
    quantile = float(stats.t.ppf((1 + _LEVEL) / 2, n - 1)) if n > 1 else math.nan
    half = quantile * sd / math.sqrt(n)
    spread = 1 / n + _NORMAL_WIDTH**2 / (2 * (n - 1)) if n > 1 else math.nan
    limit_half = quantile * sd * math.sqrt(spread)
    low, high = bias - _NORMAL_WIDTH * sd, bias + _NORMAL_WIDTH * sd
    return Agreement(
        n=n,
        bias=bias,
        bias_lower=bias - half,
        bias_upper=bias + half,
        sd=sd,
        low_limit=low,
        low_limit_lower=low - limit_half,
        low_limit_upper=low + limit_half,
        high_limit=high,
        high_limit_lower=high - limit_half,
        high_limit_upper=high + limit_half,
    )


def percent_differences(values: npt.ArrayLike, reference: npt.ArrayLike) -> Float:
    """Return differences from a reference in percent of the mean of both (n,).

    NaN if both values are zero. Source: attention-unet, figure 10.

    >>> percent_differences([3.0], [1.0]).tolist()
    [100.0]
    """
    first, second = (np.asarray(data, dtype=np.float64) for data in (values, reference))
    means = (first + second) / 2
    return 100 * (first - second) / np.where(means == 0, np.nan, means)


def compute_within_unit_sd(repeats: list[npt.ArrayLike]) -> float:
    """Return the pooled standard deviation of repeated measurements within units.

    The variances of units are weighted by their degrees of freedom. Source: Bland and Altman 1996
    (BMJ 312:1654).

    Parameters
    ----------
    repeats : list[array_like]
        Repeated values of each unit, such as the sessions of a participant; non-finite values are
        ignored.

    Returns
    -------
    float
        NaN if no unit was measured twice.

    >>> round(compute_within_unit_sd([[1.0, 3.0], [10.0, 10.0]]), 3)
    1.0
    """
    arrays = [np.asarray(unit, dtype=np.float64) for unit in repeats]
    arrays = [unit[np.isfinite(unit)] for unit in arrays]
    dof = sum(len(unit) - 1 for unit in arrays if len(unit) > 1)
    if not dof:
        return math.nan
    squares = sum(float(((unit - unit.mean()) ** 2).sum()) for unit in arrays if len(unit) > 1)
    return math.sqrt(squares / dof)
