"""Correlation with the task: closed forms and invariances."""

import warnings

import numpy as np
import pytest

from bids_sr.glm.cross_correlation import cross_correlation, temporal_filter

TIMES = np.arange(120)
TASK = np.sin(2 * np.pi * TIMES / 40)[:, None] ** 3


@pytest.mark.parametrize("low_pass", [None, 0.1, 0.05])
def test_the_task_correlates_by_1_with_itself_at_any_scale_offset_and_slope(low_pass):
    filtered = temporal_filter(120, 2.0, low_pass)
    slope = np.linspace(-3, 5, 120)[:, None]
    time_series = np.hstack([TASK, 2.5 * TASK + 1000, 0.1 * TASK + 50 * slope, -TASK + 7])
    np.testing.assert_allclose(
        cross_correlation(time_series, TASK, filtered), [[1, 1, 1, -1]], atol=1e-9
    )


def apply_filter(basis: tuple, signals: np.ndarray) -> np.ndarray:
    trend, band = basis
    detrended = signals - trend @ (trend.T @ signals)
    return detrended if band is None else band @ (band.T @ detrended)


def test_correlation_equals_pearson_of_filtered_time_series():
    time_series = np.random.default_rng(3).standard_normal((120, 5)) + TASK
    filtered = temporal_filter(120, 2.0, 0.08)
    x, y = apply_filter(filtered, TASK)[:, 0], apply_filter(filtered, time_series)
    expected = [np.corrcoef(x, y[:, i])[0, 1] for i in range(5)]
    np.testing.assert_allclose(
        cross_correlation(time_series, TASK, filtered)[0], expected, atol=1e-10
    )


def test_low_pass_keeps_slow_and_removes_fast_cosines():
    filtered = temporal_filter(200, 0.5, 0.1)
    phase = np.pi / 200 * (np.arange(200) + 0.5)
    slow, fast = np.cos(4 * phase)[:, None], np.cos(60 * phase)[:, None]  # .02 and .3 Hz
    # even cosines have no slope
    np.testing.assert_allclose(apply_filter(filtered, slow), slow, atol=1e-9)
    np.testing.assert_allclose(apply_filter(filtered, fast), 0, atol=1e-9)


def test_without_low_pass_series_are_only_detrended():
    time_series = np.random.default_rng(0).standard_normal((90, 4))
    times = np.arange(90)
    expected = (
        time_series
        - np.array([np.polyval(np.polyfit(times, c, 1), times) for c in time_series.T]).T
    )
    for low_pass in (None, 0.0, 0.25, 9.0):
        np.testing.assert_allclose(
            apply_filter(temporal_filter(90, 2.0, low_pass), time_series), expected, atol=1e-10
        )


def test_voxels_that_do_not_vary_are_zero_without_a_warning():
    time_series = np.column_stack(
        [np.full(120, 812.3), np.zeros(120), np.linspace(0, 9, 120), TASK[:, 0]]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        correlation = cross_correlation(
            time_series.astype(np.float32), TASK, temporal_filter(120, 2.0, 0.1)
        )
    assert not correlation[
        :, :3
    ].any()  # exactly 0: a quotient of rounding errors is not a correlation
    assert correlation[0, 3] == pytest.approx(1.0, abs=1e-6)


def test_low_pass_that_removes_all_frequencies_is_rejected():
    with pytest.raises(ValueError, match="removes all"):
        temporal_filter(10, 2.0, 0.01)
