"""Lag products of time series, as compiled loops.

Import this module only in functions that compute, see `bids_sr.spatial.spline_kernels`.
"""

from typing import Any

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


@compile_for("void(float64[:,::1], int64[::1], float64[:,::1])")
def add_lag_products(series: Float, stops: Any, sums: Float) -> None:
    """Add sum_t y_t y_(t+l) of each time series, summed over the lags l of successive bands.

    `series` has one voxel per column (T, N). `stops` are the last lags of the bands, ascending
    (K,); the first band begins at lag 0. `sums` are updated, one band per row (K, N). A band of
    several lags takes as long as two lags.
    """
    n_times, n = series.shape
    # sums of the later values of each voxel over the lags of a band
    windows = np.zeros((len(stops), n))
    for t in range(n_times):
        values = series[t]
        first = 0
        for k in range(len(stops)):
            last = stops[k]
            band_sums = sums[k]
            if first == last:
                if t + last < n_times:
                    later_values = series[t + last]
                    for i in range(n):
                        band_sums[i] += values[i] * later_values[i]
            else:
                window = windows[k]
                if t == 0:
                    for lag in range(first, min(last, n_times)):
                        later_values = series[lag]
                        for i in range(n):
                            window[i] += later_values[i]
                if t > 0 and t + first - 1 < n_times:
                    earlier_values = series[t + first - 1]
                    for i in range(n):
                        window[i] -= earlier_values[i]
                if t + last < n_times:
                    later_values = series[t + last]
                    for i in range(n):
                        window[i] += later_values[i]
                if t + first < n_times:
                    for i in range(n):
                        band_sums[i] += values[i] * window[i]
            first = last + 1
