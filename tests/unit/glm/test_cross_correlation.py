"""Correlation with the task: closed forms and invariances."""

import warnings

import numpy as np
import pytest

from bids_sr.glm.cross_correlation import (
    cross_correlation,
    filter_of_design,
    temporal_filter,
)
from bids_sr.glm.design import Design, DesignSettings
from bids_sr.io.confound_names import CENSORED

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


def make_design(n: int, tr: float, *censored: int) -> Design:
    """Make a model with a condition, and without the censored volumes."""
    return Design(
        matrix=np.column_stack([np.arange(n) % 20 < 10, np.eye(n)[:, censored]]).astype(float),
        columns=("thumb", *(f"{CENSORED}{volume:02d}" for volume in censored)),
        conditions=("thumb",),
        n_dummy=0,
        tr=tr,
        settings=DesignSettings(),
        rank=1 + len(censored),
    )


@pytest.mark.parametrize("low_pass", [None, 0.1])
def test_slopes_and_censored_volumes_do_not_change_the_correlation_of_a_censored_run(low_pass):
    filtered = filter_of_design(make_design(120, 2.0, 60), low_pass)
    time_series = np.random.default_rng(5).standard_normal((120, 3))
    changed = time_series + 40 * np.linspace(-1, 1, 120)[:, None] + 1000
    changed[60] += 500
    np.testing.assert_allclose(
        cross_correlation(changed, TASK, filtered),
        cross_correlation(time_series, TASK, filtered),
        atol=1e-9,
    )


@pytest.mark.parametrize(
    "filtered",
    [temporal_filter(200, 0.5, 0.1), filter_of_design(make_design(200, 0.5), 0.1)],
    ids=["run", "design"],
)
def test_low_pass_keeps_slow_and_removes_fast_cosines(filtered):
    phase = np.pi / 200 * (np.arange(200) + 0.5)
    slow, fast = np.cos(20 * phase)[:, None], np.cos(22 * phase)[:, None]  # .1 and .11 Hz
    # even cosines have no slope
    np.testing.assert_allclose(apply_filter(filtered, slow), slow, atol=1e-9)
    np.testing.assert_allclose(apply_filter(filtered, fast), 0, atol=1e-9)


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
