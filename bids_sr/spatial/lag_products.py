"""Lag products of time series, as compiled loops.

Import this module only in functions that compute, see `bids_sr.spatial.spline_kernels`.
"""

import numpy as np

from bids_sr.io.arrays import Float, Float32
from bids_sr.io.compiled_loops import compile_for


@compile_for(
    "void(float32[:,::1], float64[:,::1], float64[:,::1])",
    "void(float64[:,::1], float64[:,::1], float64[:,::1])",
)
def center(series: Float32, centered: Float, stats: Float) -> None:
    """Subtract the mean of each time series, in double precision.

    `series` has one voxel per column (T, N). The differences are written to `centered` (T, N), and
    to `stats` (3, N) the means, the sums of squares of the differences, and the largest magnitudes
    of the series.
    """
    stats[:] = 0
    mean, sum_of_squares, largest = stats[0], stats[1], stats[2]
    for t in range(len(series)):
        for i in range(len(mean)):
            value = np.float64(series[t, i])
            centered[t, i] = value
            mean[i] += value
            largest[i] = max(largest[i], abs(value))
    for i in range(len(mean)):
        mean[i] /= len(series)
    for t in range(len(series)):
        for i in range(len(mean)):
            value = centered[t, i] - mean[i]
            centered[t, i] = value
            sum_of_squares[i] += value * value


@compile_for("void(float64[:,::1], float64[:,::1])")
def add_lag_products(series: Float, sums: Float) -> None:
    """Add sum_t y_t y_(t+k) of each time series at lags k = 0, 1, ….

    `series` has one voxel per column (T, N). `sums` are updated, one lag per row (K, N).
    """
    for t in range(len(series)):
        values = series[t]
        for k in range(min(len(sums), len(series) - t)):
            later_values = series[t + k]
            lag_sums = sums[k]
            for i in range(len(values)):
                lag_sums[i] += values[i] * later_values[i]
