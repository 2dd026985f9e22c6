"""Bands of lags: memory in seconds, means and shifts."""

import numpy as np
import pytest

from bids_sr.glm.lag_bands import LagBands, choose_bands


@pytest.mark.parametrize("tr", [2.0, 2.5, 14.0])
def test_long_tr_has_six_single_lags(tr: float) -> None:
    assert choose_bands(tr, 500).stops == (1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("tr", [0.05, 0.1, 0.25, 0.5, 0.72, 1.0, 1.5, 1.9])
def test_memory_is_12_s_with_bands_that_widen(tr: float) -> None:
    bands = choose_bands(tr, 5000)
    assert 12 <= bands.n_lags * tr < 12 + tr
    assert len(bands.stops) == 6
    assert bands.stops[0] == 1
    assert (np.diff(bands.widths) >= 0).all()
    assert bands.widths.sum() == bands.n_lags


def test_few_degrees_of_freedom_allow_few_bands_and_lags() -> None:
    assert choose_bands(0.1, 20).stops == (1, 2, 3)
    assert choose_bands(0.1, 0).stops == (1,)
    assert choose_bands(0.1, 100).n_lags == 16


def test_means_and_shifts_over_bands() -> None:
    bands = LagBands(stops=(1, 3))
    np.testing.assert_allclose(bands.average(np.array([[1.0], [2.0], [6.0]])), [[1.0], [4.0]])
    columns = np.array([[1.0], [10.0], [100.0], [1000.0]])
    later, earlier = bands.shift(columns, 1), bands.shift(columns, -1)
    np.testing.assert_allclose(later[..., 0], [[10, 100, 1000, 0], [550, 500, 0, 0]])
    np.testing.assert_allclose(earlier[..., 0], [[0, 1, 10, 100], [0, 0, 0.5, 5.5]])
