"""Test explained variance, amplitude and correct fraction: known values are recovered, also from
noisy halves.
"""

import numpy as np
import pytest

from bids_sr.evaluation.agreement import (
    _STATISTICS,
    BlockComparison,
    ComparisonKey,
    _compute_inner_products,
    _compute_statistics,
    interval,
    resample_weights,
)
from bids_sr.glm.blocks import TaskBlock, _assign_halves

N_BLOCKS, N_VOXELS = 12, 4000
BLOCKS = tuple(
    _assign_halves([TaskBlock(condition="a", events=((20.0 * k, 10.0),)) for k in range(N_BLOCKS)])
)
HALVES = np.array([[(b.half == h) / 6 for b in BLOCKS] for h in (0, 1)])


def score_series(series, measured, weights=HALVES[:, None]):
    """Return statistics of block maps, each (B, N), averaged over both ways: the value, then its
    resamples.
    """
    inner = (
        _compute_inner_products(series, series),
        _compute_inner_products(series, measured),
        _compute_inner_products(measured, measured),
    )
    a, b = weights
    ways = (
        BlockComparison(contrast="a", source=a, target=b, twin=a),
        BlockComparison(contrast="a", source=b, target=a, twin=b),
    )
    statistics_of_ways = [_compute_statistics(way, *inner) for way in ways]
    return {
        name: np.mean([statistics[name] for statistics in statistics_of_ways], axis=0)
        for name in _STATISTICS
    }


def simulated(seed, *, share, wrong, noise, true_sd=2.0, target_noise=3.0, voxels=N_VOXELS):
    """Simulate a series with a share of the truth, a wrong pattern and noise, and a measured
    series with other noise.
    """
    rng = np.random.default_rng(seed)
    truth = true_sd * rng.normal(size=voxels)
    pattern = wrong * rng.normal(size=voxels)
    measured = truth + target_noise * rng.normal(size=(N_BLOCKS, voxels))
    return share * truth + pattern + noise * rng.normal(size=(N_BLOCKS, voxels)), measured


@pytest.mark.parametrize(
    ("share", "wrong", "noise"),
    [
        (1.0, 0.0, 0.0),
        (0.5, 0.0, 0.0),
        (0.0, 1.5, 0.0),
        (0.6, 0.8, 1.0),
        (0.1, 0.0, 0.0),
        (1.5, 0.0, 0.0),
    ],
)
def test_known_values_are_recovered_at_any_noise_of_the_reference(share, wrong, noise):
    """Expected values follow from the construction: T has variance 4, e = share·T + a pattern +
    noise / sqrt(6); errors over 40 runs are below .02.
    """
    true, energy = 4.0, share**2 * 4 + wrong**2 + noise**2 / 6
    expected = {
        "ev": 1 - ((1 - share) ** 2 * true + wrong**2 + noise**2 / 6) / true,
        "amplitude": share,
        "correct_fraction": share**2 * true / energy,
        "r": share * 2 / np.sqrt(energy) * np.sqrt(4 / (4 + 9 / 6)),
    }
    for target_noise in (3.0, 0.0):
        runs = [
            score_series(
                *simulated(k, share=share, wrong=wrong, noise=noise, target_noise=target_noise)
            )
            for k in range(40)
        ]
        for name in ("ev", "amplitude", "correct_fraction"):
            value = np.mean([run[name][0] for run in runs])
            assert value == pytest.approx(expected[name], abs=0.02), name
    noisy = [score_series(*simulated(k, share=share, wrong=wrong, noise=noise)) for k in range(40)]
    assert np.mean([run["r"][0] for run in noisy]) == pytest.approx(expected["r"], abs=0.02)


def test_explained_variance_depends_on_amplitude_and_correlation_does_not():
    series, measured = simulated(0, share=1.0, wrong=0.0, noise=0.0)
    full, faint = score_series(series, measured), score_series(0.01 * series, measured)
    assert faint["r"][0] == pytest.approx(full["r"][0])
    assert faint["correct_fraction"][0] == pytest.approx(full["correct_fraction"][0])
    assert full["ev"][0] == pytest.approx(1, abs=0.03)
    assert faint["ev"][0] == pytest.approx(0.02, abs=0.001)
    assert score_series(0 * series, measured)["ev"][0] == 0
    assert score_series(-series, measured)["ev"][0] == pytest.approx(-3, abs=0.1)
    assert score_series(-series, measured)["correct_fraction"][0] == pytest.approx(-1, abs=0.05)


def test_a_measured_half_explains_2_minus_1_over_its_reliability():
    """Noise of the half counts: .684 at a reliability of .76, as in studyforrest (.68 in
    TRAPS).
    """
    _, measured = simulated(
        0,
        share=1.0,
        wrong=0.0,
        noise=0.0,
        voxels=200000,
        target_noise=np.sqrt(6 * 4 * 0.24 / 0.76),
    )
    statistics = score_series(measured, measured)
    assert statistics["r"][0] == pytest.approx(0.76, abs=0.005)
    assert statistics["ev"][0] == pytest.approx(2 - 1 / 0.76, abs=0.01)
    assert statistics["amplitude"][0] == pytest.approx(1)
    assert statistics["correct_fraction"][0] == pytest.approx(statistics["r"][0], abs=1e-3)


def test_statistics_against_known_activation_equal_closed_forms():
    rng = np.random.default_rng(0)
    e, t = rng.normal(3, 1, 300), rng.normal(-2, 2, 300)
    e += 0.4 * t
    inner = (
        _compute_inner_products(e[None], e[None]),
        _compute_inner_products(e[None], t[None]),
        _compute_inner_products(t[None], t[None]),
    )
    weight = np.ones((1, 1))
    statistics = _compute_statistics(
        BlockComparison(contrast="a", source=weight, target=weight, twin=weight), *inner
    )
    e, t = e - e.mean(), t - t.mean()
    assert statistics["ev"][0] == pytest.approx(1 - ((e - t) ** 2).sum() / (t**2).sum())
    assert statistics["amplitude"][0] == pytest.approx(np.polyfit(t, e, 1)[0])
    assert statistics["correct_fraction"][0] == pytest.approx(np.corrcoef(e, t)[0, 1] ** 2)


def test_statistics_are_nan_if_the_measured_halves_do_not_agree():
    rng = np.random.default_rng(0)
    noise, series = rng.normal(size=(2, N_BLOCKS, 500))
    statistics = score_series(series, noise, resample_weights(BLOCKS, HALVES, 300, 1, "a"))
    assert np.isfinite(statistics["r"][0])
    for name in _STATISTICS[1:]:
        assert np.isnan(statistics[name]).all()
    weight = np.ones((1, 1))
    unreliable = _compute_statistics(
        BlockComparison(contrast="a", source=weight, target=weight, twin=-0.1 * weight),
        weight,
        weight,
        weight,
    )
    assert unreliable["r"] == 1
    assert np.isnan([unreliable[name][0] for name in _STATISTICS[1:]]).all()


@pytest.mark.parametrize("name", ["ev", "amplitude", "correct_fraction"])
def test_intervals_have_nominal_coverage(name):
    """Blocks vary around the same truth and the same wrong pattern; gains over a second series are
    tested as well.
    """
    rng = np.random.default_rng(0)
    truth, pattern = rng.normal(size=300), 0.5 * rng.normal(size=300)
    estimates = []
    for k in range(200):
        measured = truth + 2 * rng.normal(size=(N_BLOCKS, 300))
        series_noise = rng.normal(size=(N_BLOCKS, 300))
        weights = resample_weights(BLOCKS, HALVES, 300, k, "a")
        scores = score_series(0.6 * truth + pattern + series_noise, measured, weights)[name]
        gains = scores - score_series(0.2 * truth + 0.5 * series_noise, measured, weights)[name]
        estimates.append((scores[0], *interval(scores), gains[0], *interval(gains)))
    value, low, high, gain, gain_low, gain_high = np.array(estimates).T
    assert 0.88 <= np.mean((low < value.mean()) & (value.mean() < high)) <= 0.99
    assert 0.88 <= np.mean((gain_low < gain.mean()) & (gain.mean() < gain_high)) <= 0.99
    assert np.mean(high - low) / 3.92 == pytest.approx(value.std(), rel=0.3)


KEY = ComparisonKey("ev", "beyond", "a", "brain")
