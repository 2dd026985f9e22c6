"""Lag products of time series over bands of lags."""

import numpy as np

from bids_sr.spatial.lag_products import add_lag_products


def test_products_are_summed_over_the_lags_of_a_band() -> None:
    series = np.random.default_rng(0).standard_normal((12, 5))
    sums = np.zeros((5, 5))
    add_lag_products(series, np.array([0, 1, 4, 9, 15]), sums)
    products = [(series[: 12 - lag] * series[lag:]).sum(axis=0) for lag in range(12)]
    lags = [[0], [1], [2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    expected = [np.sum([products[lag] for lag in band], axis=0) for band in lags]
    np.testing.assert_allclose(sums, expected, atol=1e-12)
