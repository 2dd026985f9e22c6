"""Sums of products of a series with itself some volumes later, as a compiled loop.

Only what computes imports this module, see `bids_sr.spatial.spline_kernels`.
"""

from bids_sr.io.array_types import Float
from bids_sr.spatial.spline_kernels import compiled


@compiled("void(float64[:,::1], float64[:,::1])")
def add_lag_products(series: Float, sums: Float) -> None:
    """Add sum_t y_t y_(t+k) of each series at lags k = 0, 1, ….

    `series`: time series, one voxel a column (T, N). `sums`: array (K, N) to which the sums of
    products are added, one lag a row.
    """
    for t in range(len(series)):
        y = series[t]
        for k in range(min(len(sums), len(series) - t)):
            later, row = series[t + k], sums[k]
            for i in range(len(y)):
                row[i] += y[i] * later[i]
