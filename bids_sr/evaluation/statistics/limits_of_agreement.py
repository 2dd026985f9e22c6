"""Bias and limits of agreement of two measurements of the same quantity.

Sources: Bland and Altman 1986 (Lancet 327:307) for bias and limits; Bland and Altman 1999
(Statistical Methods in Medical Research 8:135) for their intervals.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from bids_sr.io.arrays import Float
from bids_sr.io.frozen import frozen

# standard deviations, half width of the central 95 % of a normal distribution
_NORMAL_HALF_WIDTH = 1.96
_CONFIDENCE_LEVEL = 0.95


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

    The limits are bias ± 1.96 SD. The bias has the standard error SD / √n, and a limit SD √(1/n +
    1.96² / (2 (n − 1))). Intervals use the t distribution with n − 1 degrees of freedom.
    `differences` (n,) are of independent units, such as participants; there is at least one, and
    all are finite.

    Examples
    --------
    >>> agreement = limits_of_agreement([1.0, 2.0, 3.0])
    >>> round(agreement.low_limit, 2), agreement.bias, round(agreement.high_limit, 2)
    (0.04, 2.0, 3.96)
    """
    values = np.asarray(differences, dtype=np.float64).ravel()
    n, bias = len(values), float(values.mean())
    sd = float(values.std(ddof=1)) if n > 1 else math.nan
    quantile = float(stats.t.ppf((1 + _CONFIDENCE_LEVEL) / 2, n - 1)) if n > 1 else math.nan
    bias_half_width = quantile * sd / math.sqrt(n)
    limit_variance = 1 / n + _NORMAL_HALF_WIDTH**2 / (2 * (n - 1)) if n > 1 else math.nan
    limit_half_width = quantile * sd * math.sqrt(limit_variance)
    low_limit, high_limit = bias - _NORMAL_HALF_WIDTH * sd, bias + _NORMAL_HALF_WIDTH * sd
    return Agreement(
        n=n,
        bias=bias,
        bias_lower=bias - bias_half_width,
        bias_upper=bias + bias_half_width,
        sd=sd,
        low_limit=low_limit,
        low_limit_lower=low_limit - limit_half_width,
        low_limit_upper=low_limit + limit_half_width,
        high_limit=high_limit,
        high_limit_lower=high_limit - limit_half_width,
        high_limit_upper=high_limit + limit_half_width,
    )


def percent_differences(values: npt.ArrayLike, reference: npt.ArrayLike) -> Float:
    """Return differences from a reference in percent of the mean of value and reference (n,).

    A difference is NaN if the mean is zero. Source: attention-unet, figure 10.

    >>> percent_differences([3.0], [1.0]).tolist()
    [100.0]
    """
    value_array = np.asarray(values, dtype=np.float64)
    reference_array = np.asarray(reference, dtype=np.float64)
    means = (value_array + reference_array) / 2
    return 100 * (value_array - reference_array) / np.where(means == 0, np.nan, means)


def compute_within_unit_sd(repeats: list[npt.ArrayLike]) -> float:
    """Return the pooled standard deviation of repeated measurements within units.

    The variances of units are weighted by their degrees of freedom. Source: Bland and Altman 1996
    (BMJ 312:1654). `repeats` are the repeated values of each unit, such as the sessions of a
    participant; non-finite values are ignored. NaN if no unit was measured twice.

    >>> round(compute_within_unit_sd([[1.0, 3.0], [10.0, 10.0]]), 3)
    1.0
    """
    units = [np.asarray(values, dtype=np.float64) for values in repeats]
    units = [values[np.isfinite(values)] for values in units]
    repeated_units = [values for values in units if len(values) > 1]
    dof = sum(len(values) - 1 for values in repeated_units)
    if not dof:
        return math.nan
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in repeated_units)
    return math.sqrt(squares / dof)
