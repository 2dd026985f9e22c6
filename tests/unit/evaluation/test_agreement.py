"""Explained variance, recovered amplitude and correct fraction: known values come back, from noisy
halves too.
"""

import numpy as np
import pytest

from bids_sr.evaluation.agreement import (
    _STATISTICS,
    ComparisonKey,
    Way,
    _inner_products,
    _statistics,
    _vary_seeds,
    interval,
    resampled,
)
from bids_sr.glm.blocks import TaskBlock, _assign_halves

N_BLOCKS, N_VOXELS = 12, 4000
BLOCKS = tuple(
    _assign_halves([TaskBlock(condition="a", events=((20.0 * k, 10.0),)) for k in range(N_BLOCKS)])
)
HALVES = np.array([[(b.half == h) / 6 for b in BLOCKS] for h in (0, 1)])


def scored(series, measured, weights=HALVES[:, None]):
    """Statistics of block maps in rows, each (B, N): the value, then its resamples; mean of both
    ways.
    """
    inner = (
        _inner_products(series, series),
        _inner_products(series, measured),
        _inner_products(measured, measured),
    )
    a, b = weights
    ways = (
        Way(contrast="a", source=a, target=b, twin=a),
        Way(contrast="a", source=b, target=a, twin=b),
    )
    both = [_statistics(way, *inner) for way in ways]
    return {name: np.mean([each[name] for each in both], axis=0) for name in _STATISTICS}


def simulated(seed, *, share, wrong, noise, true_sd=2.0, target_noise=3.0, voxels=N_VOXELS):
    """A series that holds a share of the truth, a wrong pattern and own noise; a measured one with
    other noise.
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
def test_known_figures_come_back_whatever_the_noise_of_the_target(share, wrong, noise):
    """From the construction: T of variance 4, e = share·T + a pattern + noise / sqrt(6), error
    over 40 runs < .02.
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
            scored(*simulated(k, share=share, wrong=wrong, noise=noise, target_noise=target_noise))
            for k in range(40)
        ]
        for name in ("ev", "amplitude", "correct_fraction"):
            found = np.mean([run[name][0] for run in runs])
            assert found == pytest.approx(expected[name], abs=0.02), name
    noisy = [scored(*simulated(k, share=share, wrong=wrong, noise=noise)) for k in range(40)]
    assert np.mean([run["r"][0] for run in noisy]) == pytest.approx(expected["r"], abs=0.02)


def test_a_hundredth_of_the_detail_has_the_correlation_of_all_of_it_and_explains_a_fiftieth():
    series, measured = simulated(0, share=1.0, wrong=0.0, noise=0.0)
    whole, faint = scored(series, measured), scored(0.01 * series, measured)
    assert faint["r"][0] == pytest.approx(whole["r"][0])
    assert faint["correct_fraction"][0] == pytest.approx(whole["correct_fraction"][0])
    assert whole["ev"][0] == pytest.approx(1, abs=0.03)
    assert faint["ev"][0] == pytest.approx(0.02, abs=0.001)
    assert scored(0 * series, measured)["ev"][0] == 0
    assert scored(-series, measured)["ev"][0] == pytest.approx(-3, abs=0.1)
    assert scored(-series, measured)["correct_fraction"][0] == pytest.approx(-1, abs=0.05)


def test_a_measured_half_explains_two_less_one_over_its_reliability():
    """Its own noise counts: .684 for a reliability of .76, as on studyforrest (.68 in TRAPS)."""
    _, measured = simulated(
        0,
        share=1.0,
        wrong=0.0,
        noise=0.0,
        voxels=200000,
        target_noise=np.sqrt(6 * 4 * 0.24 / 0.76),
    )
    found = scored(measured, measured)
    assert found["r"][0] == pytest.approx(0.76, abs=0.005)
    assert found["ev"][0] == pytest.approx(2 - 1 / 0.76, abs=0.01)
    assert found["amplitude"][0] == pytest.approx(1)
    assert found["correct_fraction"][0] == pytest.approx(found["r"][0], abs=1e-3)


def test_known_truth_gives_the_plain_formulas():
    rng = np.random.default_rng(0)
    e, t = rng.normal(3, 1, 300), rng.normal(-2, 2, 300)
    e += 0.4 * t
    inner = (
        _inner_products(e[None], e[None]),
        _inner_products(e[None], t[None]),
        _inner_products(t[None], t[None]),
    )
    once = np.ones((1, 1))
    found = _statistics(Way(contrast="a", source=once, target=once, twin=once), *inner)
    e, t = e - e.mean(), t - t.mean()
    assert found["ev"][0] == pytest.approx(1 - ((e - t) ** 2).sum() / (t**2).sum())
    assert found["amplitude"][0] == pytest.approx(np.polyfit(t, e, 1)[0])
    assert found["correct_fraction"][0] == pytest.approx(np.corrcoef(e, t)[0, 1] ** 2)


def test_where_the_measured_halves_do_not_agree_there_is_no_truth_to_explain():
    rng = np.random.default_rng(0)
    noise, series = rng.normal(size=(2, N_BLOCKS, 500))
    found = scored(series, noise, resampled(BLOCKS, HALVES, 300, 1, "a"))
    assert np.isfinite(found["r"][0])
    for name in _STATISTICS[1:]:
        assert np.isnan(found[name]).all()
    once = np.ones((1, 1))
    below = _statistics(
        Way(contrast="a", source=once, target=once, twin=-0.1 * once), once, once, once
    )
    assert below["r"] == 1
    assert np.isnan([below[name][0] for name in _STATISTICS[1:]]).all()


@pytest.mark.parametrize("name", ["ev", "amplitude", "correct_fraction"])
def test_intervals_hold_the_expected_figure_about_as_often_as_they_say(name):
    """Blocks vary around the same truth and the same wrong pattern; gains over a second series are
    held too.
    """
    rng = np.random.default_rng(0)
    truth, pattern = rng.normal(size=300), 0.5 * rng.normal(size=300)
    found = []
    for k in range(200):
        measured = truth + 2 * rng.normal(size=(N_BLOCKS, 300))
        own = rng.normal(size=(N_BLOCKS, 300))
        weights = resampled(BLOCKS, HALVES, 300, k, "a")
        one = scored(0.6 * truth + pattern + own, measured, weights)[name]
        less = one - scored(0.2 * truth + 0.5 * own, measured, weights)[name]
        found.append((one[0], *interval(one), less[0], *interval(less)))
    value, low, high, gain, gain_low, gain_high = np.array(found).T
    assert 0.88 <= np.mean((low < value.mean()) & (value.mean() < high)) <= 0.99
    assert 0.88 <= np.mean((gain_low < gain.mean()) & (gain.mean() < gain_high)) <= 0.99
    assert np.mean(high - low) / 3.92 == pytest.approx(value.std(), rel=0.3)


KEY = ComparisonKey("ev", "beyond", "a", "brain")


def drawn(value, spread, rng):
    """A score of two ways with resamples, in small steps, of a normal distribution."""
    draws = value + 0.2 * spread * rng.normal(size=2000)
    return {KEY: np.tile(np.concatenate([[value], draws]), (2, 1))}


def test_intervals_of_a_network_hold_its_seeds():
    """Five seeds that differ with sd .1, blocks that differ with sd .05: the interval is that of
    both together.
    """
    rng = np.random.default_rng(0)
    widths = []
    for seed in range(60):
        values = 0.5 + 0.1 * rng.normal(size=5)
        scores = {
            f"srganSeed{k}" if k else "srgan": drawn(v, 0.05, rng) for k, v in enumerate(values)
        }
        plain = interval(scores["srgan"][KEY].mean(axis=0))
        assert plain[1] - plain[0] == pytest.approx(3.92 * 0.05, rel=0.1)
        _vary_seeds(scores, seed)
        found = scores["srgan"][KEY].mean(axis=0)
        assert found[0] == pytest.approx(values[0])
        low, high = interval(found)
        widths.append((high - low) ** 2)
    # the resampled seeds are few points, so that the quantiles of a five-point distribution enter,
    # not a normal's
    assert np.sqrt(np.mean(widths)) / 3.92 == pytest.approx(np.hypot(0.1, 0.05), rel=0.25)


def test_only_methods_with_members_of_other_seeds_get_wider_intervals():
    def one(value):
        return drawn(value, 0.005, np.random.default_rng(3))

    scores = {
        "bspline": one(0.0),
        "srgan": one(0.5),
        "srganSeed1": one(0.4),
        "srganSeed2": one(0.6),
        "srganPhantom": one(0.1),
        "sbl": one(0.3),
    }
    before = {name: found[KEY].copy() for name, found in scores.items()}
    _vary_seeds(scores, 0)
    for name in scores:
        assert np.array_equal(scores[name][KEY], before[name]) == (name != "srgan")
    low, high = interval(scores["srgan"][KEY].mean(axis=0))
    assert high - low == pytest.approx(0.245, rel=0.1)  # ± .1 times sqrt(3/2)
    again = {name: {KEY: before[name].copy()} for name in ("srgan", "srganSeed1", "srganSeed2")}
    _vary_seeds(again, 0)
    np.testing.assert_array_equal(again["srgan"][KEY], scores["srgan"][KEY])
