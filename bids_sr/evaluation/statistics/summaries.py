"""Summaries of the values of one series over participants or other units."""

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from bids_sr.evaluation.statistics.wilcoxon import ALPHA
from bids_sr.io.arrays import Float
from bids_sr.io.frozen import frozen


@frozen
class Summary:
    """Summary of `n` values: mean with SD and 95 % t interval, quartiles and range.

    All values but `n` are NaN if there is no value; SD and interval also for a single value.
    """

    n: int
    mean: float
    sd: float
    lower: float
    upper: float
    median: float
    q1: float
    q3: float
    minimum: float
    maximum: float


def summarize(values: npt.ArrayLike) -> Summary:
    """Summarize the finite values of an array."""
    sample = select_finite(values)
    n = len(sample)
    mean = float(sample.mean()) if n else math.nan
    half_width = compute_half_width(sample)
    first, median, third = quartiles(sample)
    return Summary(
        n=n,
        mean=mean,
        sd=float(sample.std(ddof=1)) if n > 1 else math.nan,
        lower=mean - half_width,
        upper=mean + half_width,
        median=median,
        q1=first,
        q3=third,
        minimum=float(sample.min()) if n else math.nan,
        maximum=float(sample.max()) if n else math.nan,
    )


def compute_half_width(sample: Float) -> float:
    """Return half the width of the 95 % t interval of the mean of finite values; NaN if n < 2."""
    n = len(sample)
    if n < 2:
        return math.nan
    return float(special.stdtrit(n - 1, 1 - ALPHA / 2)) * float(sample.std(ddof=1)) / math.sqrt(n)


def quartiles(values: npt.ArrayLike) -> tuple[float, float, float]:
    """Return first quartile, median and third quartile of the finite values, NaN without any."""
    sample = select_finite(values)
    if not len(sample):
        return math.nan, math.nan, math.nan
    first, median, third = np.quantile(sample, [0.25, 0.5, 0.75]).tolist()
    return first, median, third


def select_finite(values: npt.ArrayLike) -> Float:
    """Return the finite values of an array (n,)."""
    sample = np.asarray(values, dtype=np.float64)
    return sample[np.isfinite(sample)]
