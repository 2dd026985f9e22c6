"""Sums of products of a series with itself some volumes later, as a compiled loop.

Only what computes imports this module, see `bids_sr.spatial.spline_kernels`.
"""

import numpy as np

from bids_sr.io.arrays import Float, Float32
from bids_sr.io.compiled_loops import compiled


@compiled(
    "void(float32[:,::1], float64[:,::1], float64[:,::1])",
    "void(float64[:,::1], float64[:,::1], float64[:,::1])",
)
def center(series: Float32, centered: Float, about: Float) -> None:
    """Subtract the mean of each time series, in double precision.

    `series`: (T, N). `centered`: array (T, N) for the differences. `about`: array (3, N) for the
    means, the sums of squares of the differences, and the largest magnitudes of the series.
    """
    about[:] = 0
    mean, energy, largest = about[0], about[1], about[2]
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
            energy[i] += value * value


@compiled("void(float64[:,::1], float64[:,::1])")
def add_lag_products(series: Float, sums: Float) -> None:
    """Add sum_t y_t y_(t+k) of each series at lags k = 0, 1, ….

    `series`: time series, one voxel a column (T, N). `sums`: array (K, N) to which the sums of
    products are added, one lag a row.
    """
    for t in range(len(series)):
        y = series[t]
        for k in range(min(len(sums), len(series) - t)):
            later = series[t + k]
            row = sums[k]
            for i in range(len(y)):
                row[i] += y[i] * later[i]
