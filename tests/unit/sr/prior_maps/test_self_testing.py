"""Test the share explained at half the resolution: its interval contains the mean of many runs,
and baselines are correct.
"""

import numpy as np
import pytest
from data.known_priors import FACTOR, SHAPE, mask_of, run_of

from bids_sr.spatial.matrices import downsample, upsample
from bids_sr.sr.method import get_method
from bids_sr.sr.prior_maps.self_testing import (
    SelfTest,
    SelfTestScore,
    score_interpolation,
    score_maps,
)
from bids_sr.sr.prior_maps.temporal_components import statistics_of_run_and_halves
from bids_sr.sr.recipe import VarianceRecipe

QUICK = VarianceRecipe(fwhm=(2.0,), rounds=0, equalize=0.0)


def statistics_of_halves(series, mask, n_dummy, components, nuisance, min_volumes):
    return statistics_of_run_and_halves(series, mask, n_dummy, components, nuisance, min_volumes)[
        1
    ]


def trial_of(series, mask):
    halves = statistics_of_halves(series, mask, 0, 40, None, 15)
    return SelfTest(
        [half.components for half in halves], mask, FACTOR, [half.segments for half in halves]
    )


@pytest.mark.parametrize(
    ("volumes", "memory", "noise"),
    [
        (100, 0.6, 4.0),
        pytest.param(100, 0.6, 20.0, marks=pytest.mark.slow),
        pytest.param(240, 0.8, 8.0, marks=pytest.mark.slow),
    ],
)
def test_the_interval_of_one_run_contains_the_mean_share_of_many_runs(volumes, memory, noise):
    mask, count = mask_of(), 24
    results = [
        score_maps(trial_of(run_of(seed, volumes, memory, noise), mask), QUICK)[0.0]
        for seed in range(count)
    ]
    shares = np.array([result.mean for result in results])
    ends = np.array([result.interval for result in results])
    assert {len(result.segment_scores) for result in results} == {8}
    inside = (ends[:, 0] <= shares.mean()) & (shares.mean() <= ends[:, 1])
    assert inside.mean() >= 0.85, (
        "95 of 100 are promised; of 24 runs, 20 pass in 999 of 1000 such tests"
    )
    widths = ends[:, 1] - ends[:, 0]
    assert np.median(widths) < 12 * shares.std(), "an interval that always holds says nothing"


def test_the_share_of_an_interpolation_equals_the_mean_over_its_volumes():
    series, mask = run_of(0, 60, 0.0, 4.0), mask_of()
    run_test = trial_of(series, mask)
    for name in ("linear", "bspline"):
        shares = []
        for image in run_test.halves[0]:
            high_res = np.moveaxis(image.numpy(), 0, 2)
            low_res = downsample(high_res, (SHAPE[0] // 2, SHAPE[1] // 2, SHAPE[2]))
            zero_filling_error, interpolation_error = (
                ((upsample(method, low_res, FACTOR) - high_res)[mask] ** 2).sum()
                for method in ("zerofill", name)
            )
            shares.append(1 - interpolation_error / zero_filling_error)
        assert score_interpolation(run_test, name).half_scores[0] == pytest.approx(
            np.mean(shares), abs=1e-4
        )
    assert score_interpolation(run_test, "zerofill").mean == pytest.approx(0, abs=1e-4)


def test_a_control_is_tested_as_it_is_applied():
    """`sdmod` multiplies the zero-filled change and only adds detail above the Nyquist
    frequency.
    """
    series, mask = run_of(1, 60, 0.0, 1.0), mask_of()
    sdmod = get_method("sdmod").variance
    run_test = trial_of(series, mask)
    assert 0 < score_maps(run_test, sdmod)[0.0].mean < score_maps(run_test, QUICK)[0.0].mean


def test_segments_belong_to_their_half_and_head_motion_is_regressed_out():
    mask, motion = mask_of(), np.sin(np.arange(64) / 5)[:, None]
    series = run_of(2, 64, 0.0, 4.0)
    series.data[..., 36] += 300 * mask

    def segments_of(data, nuisance):
        return [half.segments for half in statistics_of_halves(data, mask, 4, 40, nuisance, 15)]

    segments = segments_of(series, None)
    assert [[len(segment) for segment in half] for half in segments] == [[8, 8, 8], [8, 8, 8]], (
        "60 volumes, segments of 10"
    )
    sizes = [float(np.abs(segment[0][mask]).mean()) for half in segments for segment in half]
    assert np.argmax(sizes) == 3, (
        "volume 36 of 64, four left out, lies in the first stretch of the second half"
    )
    series.data[..., :] += 100 * mask[..., None] * motion[:, 0]
    cleaned = segments_of(series, motion)
    undisturbed = segments_of(run_of(2, 64, 0.0, 4.0), motion)
    np.testing.assert_allclose(np.abs(cleaned[0][1][0]), np.abs(undisturbed[0][1][0]), atol=0.05)


def test_motion_regressors_leave_fluctuations_in_the_halves_of_a_short_run():
    """Twelve regressors used to leave two components of 15 volumes, and six of rounding errors
    counted as much.
    """
    series, mask = run_of(3, 30, 0.0, 4.0), mask_of()
    without_regressors = statistics_of_halves(series, mask, 0, 40, None, 15)
    with_regressors = statistics_of_halves(
        series, mask, 0, 40, np.random.default_rng(0).normal(size=(30, 12)).cumsum(0), 15
    )
    sizes = [np.square(half.components[:, mask]).sum(1) for half in with_regressors]
    assert all(energies.min() > 1e-3 * energies.max() for energies in sizes)
    share, share_with_regressors = (
        score_maps(SelfTest([half.components for half in halves], mask, FACTOR), QUICK)[0.0].mean
        for halves in (without_regressors, with_regressors)
    )
    assert share_with_regressors > 0.7 * share > 0.02


def test_fewer_than_two_segments_give_no_interval():
    assert np.isnan(SelfTestScore(half_scores=(0.1, 0.2), segment_scores=(0.1,)).interval).all()
    assert SelfTestScore(half_scores=(0.1, 0.2), segment_scores=(0.1, 0.2)).interval[0] < 0.15
