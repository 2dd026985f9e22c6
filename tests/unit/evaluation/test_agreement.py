"""Test explained variance, amplitude and correct fraction: known values are recovered, also from
noisy halves, and intervals cover them.
"""

import numpy as np
import pytest
from data.block_effects import make_blocks

from bids_sr.evaluation.agreement import (
    BlockResamples,
    ComparedVoxels,
    Reference,
    compare_splits,
    compare_sums,
    interval,
    resample_blocks,
)
from bids_sr.glm.halves import average_splits

N_BLOCKS, N_VOXELS = 12, 4000
BLOCKS = make_blocks("a" * N_BLOCKS)


def score(series, reference, comparison):
    """Return the statistics of block maps (B, N) by name, followed by values of resamples."""
    region = ComparedVoxels(
        name="brain", voxels=np.ones(series.shape[1], dtype=bool), comparisons=[comparison]
    )
    scores = Reference(
        name="measured", targets={"all": reference.T}, regions=[region], block_counts={}
    ).scores({"all": series.T})
    return {key.statistic: values[0] for key, values in scores.items()}


def score_halves(series, measured, n_boot=0, seed=1):
    """Return the statistics of a series whose halves are compared with the other halves."""
    splits = average_splits(BLOCKS, {"a": 1.0})
    resamples = resample_blocks(BLOCKS, np.ones((1, N_BLOCKS)), n_boot, seed, "a")
    return score(series, measured, compare_splits("a", splits, resamples))


def simulated(seed, *, share, wrong, noise, target_noise=3.0, voxels=N_VOXELS):
    """Simulate a series with a share of the truth, a wrong pattern and noise, and a measured
    series with other noise. The standard deviation of the truth is 2.
    """
    rng = np.random.default_rng(seed)
    truth = 2.0 * rng.normal(size=voxels)
    pattern = wrong * rng.normal(size=voxels)
    measured = truth + target_noise * rng.normal(size=(N_BLOCKS, voxels))
    return share * truth + pattern + noise * rng.normal(size=(N_BLOCKS, voxels)), measured


@pytest.mark.parametrize(
    ("share", "wrong", "noise"), [(1.0, 0.0, 0.0), (0.0, 1.5, 0.0), (0.6, 0.8, 1.0), (1.5, 0, 0)]
)
def test_known_values_are_recovered_at_any_noise_of_the_reference(share, wrong, noise):
    """Expected values follow from the construction: T has variance 4, e = share·T + a pattern +
    noise / sqrt(6).
    """
    true, energy = 4.0, share**2 * 4 + wrong**2 + noise**2 / 6
    expected = {
        "ev": 1 - ((1 - share) ** 2 * true + wrong**2 + noise**2 / 6) / true,
        "amplitude": share,
        "correct_fraction": share**2 * true / energy,
    }
    r_of_noisy = share * 2 / np.sqrt(energy) * np.sqrt(4 / (4 + 9 / 6))
    for target_noise, values in ((3.0, {**expected, "r": r_of_noisy}), (0.0, expected)):
        options = {"share": share, "wrong": wrong, "noise": noise, "target_noise": target_noise}
        runs = [score_halves(*simulated(k, **options)) for k in range(30)]
        for name, value in values.items():
            mean = np.mean([run[name][0] for run in runs])
            assert mean == pytest.approx(value, abs=0.02), name


def test_explained_variance_depends_on_amplitude_and_correlation_does_not():
    series, measured = simulated(0, share=1.0, wrong=0.0, noise=0.0)
    full, faint = score_halves(series, measured), score_halves(0.01 * series, measured)
    assert faint["r"][0] == pytest.approx(full["r"][0])
    assert faint["correct_fraction"][0] == pytest.approx(full["correct_fraction"][0])
    assert full["ev"][0] == pytest.approx(1, abs=0.03)
    assert faint["ev"][0] == pytest.approx(0.02, abs=0.001)
    assert score_halves(0 * series, measured)["ev"][0] == 0
    inverted = score_halves(-series, measured)
    assert inverted["ev"][0] == pytest.approx(-3, abs=0.1)
    assert inverted["correct_fraction"][0] == pytest.approx(-1, abs=0.05)


def test_a_measured_half_explains_2_minus_1_over_its_reliability():
    """Noise of the half counts: .684 at a reliability of .76, as in studyforrest (.68 in
    TRAPS).
    """
    noise = np.sqrt(6 * 4 * 0.24 / 0.76)
    _, measured = simulated(0, share=1.0, wrong=0, noise=0, voxels=200_000, target_noise=noise)
    statistics = score_halves(measured, measured)
    assert statistics["r"][0] == pytest.approx(0.76, abs=0.005)
    assert statistics["ev"][0] == pytest.approx(2 - 1 / 0.76, abs=0.01)
    assert statistics["amplitude"][0] == pytest.approx(1)
    assert statistics["correct_fraction"][0] == pytest.approx(statistics["r"][0], abs=1e-3)


def test_statistics_against_a_known_map_equal_closed_forms():
    rng = np.random.default_rng(0)
    e, t = rng.normal(3, 1, 300), rng.normal(-2, 2, 300)
    e += 0.4 * t
    whole = np.ones(1), BlockResamples(changes=np.zeros((1, 1)), groups=())
    comparison = compare_sums("a", whole, whole, other_target=np.ones(1))
    statistics = score(e[None], t[None], comparison)
    r = np.corrcoef(e, t)[0, 1]
    assert statistics["r"][0] == pytest.approx(r)
    assert statistics["amplitude"][0] == pytest.approx(np.polyfit(t, e, 1)[0])
    assert statistics["correct_fraction"][0] == pytest.approx(r**2)
    e, t = e - e.mean(), t - t.mean()
    assert statistics["ev"][0] == pytest.approx(1 - ((e - t) ** 2).sum() / (t**2).sum())


def test_only_the_correlation_is_defined_if_the_measured_halves_do_not_agree():
    noise, series = np.random.default_rng(0).normal(size=(2, N_BLOCKS, 500))
    statistics = score_halves(series, noise, n_boot=300)
    assert np.isfinite(statistics.pop("r")[0])
    assert set(statistics) == {"ev", "amplitude", "correct_fraction"}
    assert all(np.isnan(values).all() for values in statistics.values())


def test_the_interval_of_the_amplitude_has_the_standard_error_of_a_mean():
    """Without noise of the reference, the amplitude is a mean over blocks, also of four blocks."""
    rng, blocks = np.random.default_rng(0), make_blocks("aaaa")
    truth = rng.normal(size=500)
    series = truth + rng.normal(size=(4, 500))
    splits = average_splits(blocks, {"a": 1.0})
    resamples = resample_blocks(blocks, np.ones((1, 4)), 2000, 0, "a", min_blocks=4)
    comparison = compare_splits("a", splits, resamples)
    values = score(series, np.tile(truth, (4, 1)), comparison)["amplitude"]
    slopes = [np.polyfit(truth, block_map, 1)[0] for block_map in series]
    assert values[0] == pytest.approx(np.mean(slopes))
    low, high = interval(values)
    assert (high - low) / 3.92 == pytest.approx(np.std(slopes, ddof=1) / 2, rel=0.1)


def test_intervals_have_nominal_coverage():
    """Blocks vary around the same truth and the same wrong pattern; gains over a second series are
    tested as well. Percentile intervals of plain resamples would cover r in a tenth of such runs.
    """
    rng = np.random.default_rng(0)
    truth, pattern = rng.normal(size=300), 0.5 * rng.normal(size=300)
    estimates = {}
    for k in range(150):
        measured = truth + 2 * rng.normal(size=(N_BLOCKS, 300))
        noise = rng.normal(size=(N_BLOCKS, 300))
        scores = score_halves(0.6 * truth + pattern + noise, measured, n_boot=300, seed=k)
        others = score_halves(0.2 * truth + 0.5 * noise, measured, n_boot=300, seed=k)
        for name, values in scores.items():
            gains = values - others[name]
            row = (values[0], *interval(values), gains[0], *interval(gains))
            estimates.setdefault(name, []).append(row)
    assert set(estimates) == {"r", "ev", "amplitude", "correct_fraction"}
    for rows in estimates.values():
        value, low, high, gain, gain_low, gain_high = np.array(rows).T
        assert np.mean((low < value.mean()) & (value.mean() < high)) >= 0.88
        assert 0.88 <= np.mean((gain_low < gain.mean()) & (gain.mean() < gain_high)) <= 0.99
        assert np.mean(high - low) / 3.92 == pytest.approx(value.std(), rel=0.4)
