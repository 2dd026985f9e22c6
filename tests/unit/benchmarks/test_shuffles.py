"""Test series without signal: random phases, random onsets, power, and false-positive rates on
known noise.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import signal, stats

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

import _shuffles
from _shuffles import (
    NoiseSource,
    NoiseSpace,
    NullSettings,
    familywise_threshold,
    filtered,
    mean_interval,
    null_rates,
    quarter_turn,
    random_events,
    random_phases,
    share_interval,
)

from bids_sr.glm.design import build_design
from bids_sr.glm.noise import NoiseModel
from bids_sr.glm.regressors import DesignError, Events
from bids_sr.io.nifti import SeriesReader, SeriesWriter

EVENTS = Events(
    pd.DataFrame(
        {"onset": np.arange(6.0, 100, 28), "duration": 14.0, "trial_type": ["a", "b", "a", "b"]}
    )
)


def ar_noise(seed, n, voxels, rho):
    noise = np.random.default_rng(seed).standard_normal((n + 80, voxels))
    return signal.lfilter([1.0], [1.0, -rho], noise, axis=0)[80:]


def write(path, series):
    with SeriesWriter(path, (series.shape[1] // 10, 10, 1, len(series)), np.eye(4), 2.0) as writer:
        for row in series.astype(np.float32):
            writer.append(row.reshape(-1, 10, 1))


def rates(tmp_path, series, **settings):
    path = tmp_path / "series.nii"
    write(path, series)
    null_settings = NullSettings(**{"tr": 2.0, "confound_names": (), "n_shuffles": 40, **settings})
    with SeriesReader(path) as reader:
        mask = np.ones(reader.shape[:3], dtype=bool)
        return null_rates(reader, mask, EVENTS, null_settings, scratch=tmp_path)


@pytest.mark.parametrize("n", [60, 61])
def test_equal_phases_preserve_spectra_and_covariance(n):
    rng = np.random.default_rng(0)
    series = rng.standard_normal((n, 3)) @ rng.standard_normal((3, 12))
    series -= series.mean(axis=0)
    shuffled = filtered(series, random_phases(n, rng))
    np.testing.assert_allclose(
        np.abs(np.fft.rfft(shuffled, axis=0)), np.abs(np.fft.rfft(series, axis=0)), atol=1e-9
    )
    np.testing.assert_allclose(shuffled.T @ shuffled, series.T @ series, atol=1e-9)
    assert np.abs(np.corrcoef(shuffled[:, 0], series[:, 0])[0, 1]) < 0.5


def test_random_phases_are_reproducible_by_seed():
    first, repeated, different = (random_phases(20, np.random.default_rng(k)) for k in (1, 1, 2))
    assert np.array_equal(first, repeated)
    assert not np.allclose(first, different)
    assert first[0] == 1
    assert first[-1] in (1, -1)
    np.testing.assert_allclose(np.abs(first), 1)


def test_random_events_do_not_overlap_and_stay_inside_the_run():
    orders_and_starts = set()
    for seed in range(200):
        events = random_events(EVENTS, 6.0, 120.0, np.random.default_rng(seed)).table
        starts, ends = (
            events["onset"].to_numpy(),
            (events["onset"] + events["duration"]).to_numpy(),
        )
        assert starts[0] >= 6
        assert ends[-1] <= 120 + 1e-9
        assert (starts[1:] >= ends[:-1] - 1e-9).all()
        assert sorted(events["trial_type"]) == ["a", "a", "b", "b"]
        assert (events["duration"] == 14).all()
        orders_and_starts.add((float(starts[0]), "".join(events["trial_type"])))
    assert len(orders_and_starts) == 200
    assert len({order for _, order in orders_and_starts}) == 6  # all orders of two of each


def test_overlapping_events_move_together_and_are_cut_by_the_window():
    events = pd.DataFrame(
        {
            "onset": [10.0, 12.0, 50.0, 95.0],
            "duration": [6.0, 1.0, 5.0, 20.0],
            "trial_type": list("abcd"),
        }
    )
    shuffled = random_events(Events(events), 0.0, 100.0, np.random.default_rng(3)).table.set_index(
        "trial_type"
    )
    assert shuffled.loc["b", "onset"] - shuffled.loc["a", "onset"] == pytest.approx(2)
    assert shuffled.loc["d", "duration"] == pytest.approx(5)
    with pytest.raises(DesignError, match="no event"):
        random_events(Events(events), 200.0, 300.0, np.random.default_rng(0))


def test_events_that_fill_the_run_are_only_reordered():
    events = pd.DataFrame(
        {"onset": np.arange(0.0, 100, 10), "duration": 10.0, "trial_type": list("ab" * 5)}
    )
    shuffled = random_events(Events(events), 0.0, 100.0, np.random.default_rng(1)).table
    np.testing.assert_allclose(shuffled["onset"], events["onset"])
    assert list(shuffled["trial_type"]) != list(events["trial_type"])


@pytest.mark.parametrize("n", [60, 61])
def test_a_quarter_turn_changes_cosine_to_sine(n):
    time = 2 * np.pi * np.arange(n)[:, None] / n
    frequencies = np.array([1, 4, 17])
    turned = filtered(5 + np.cos(time * frequencies + 0.3), quarter_turn(n))
    np.testing.assert_allclose(turned, 5 - np.sin(time * frequencies + 0.3), atol=1e-9)


CONFOUNDS = tuple(f"walk{k}" for k in range(8))


def walks(n, seed=4):
    return pd.DataFrame(
        np.cumsum(np.random.default_rng(seed).standard_normal((n, 8)), axis=0), columns=CONFOUNDS
    )


def test_the_noise_space_is_orthogonal_to_the_model():
    design = build_design(
        EVENTS, n_volumes=60, tr=2.0, confounds=walks(60), confound_names=CONFOUNDS
    )
    space = NoiseSpace.of(design)
    assert space.basis.shape == (60, design.rank)
    assert space.task.shape == space.quadrature.shape == (60, 2)
    confounds = design.matrix[:, 2:] / np.linalg.norm(design.matrix[:, 2:], axis=0)
    np.testing.assert_allclose(confounds.T @ space.task, 0, atol=1e-9)
    np.testing.assert_allclose(space.basis.T @ space.quadrature, 0, atol=1e-9)
    np.testing.assert_allclose(space.quadrature.T @ space.quadrature, np.eye(2), atol=1e-9)
    overlap = (space.quadrature * filtered(space.task, quarter_turn(60))).sum(axis=0)
    assert (overlap > 0.5).all()


def test_a_condition_explained_by_confounds_is_dropped_from_the_task_space():
    design = build_design(EVENTS, n_volumes=60, tr=2.0, confound_names=())
    confounds = pd.DataFrame({"copy": design.matrix[:, 0]})
    space = NoiseSpace.of(
        build_design(EVENTS, n_volumes=60, tr=2.0, confounds=confounds, confound_names=("copy",))
    )
    assert space.task.shape == (60, 1)


def test_white_noise_remains_white_outside_confounds():
    design = build_design(
        EVENTS, n_volumes=60, tr=2.0, confounds=walks(60), confound_names=CONFOUNDS
    )
    space, noise = NoiseSpace.of(design), ar_noise(5, 60, 20_000, 0.0)
    residuals = space.residuals(noise)
    shares = space.quadrature.T @ residuals / residuals.std(axis=0)
    for seed in range(3):
        phases = random_phases(60, np.random.default_rng(seed))
        left, _, _ = np.linalg.svd(filtered(design.matrix[:, 2:], phases))
        outside = left[:, design.matrix.shape[1] - 2 :]
        for used_shares, low in ((shares, 0.88), (0 * shares, -0.01)):
            shuffled = NoiseSource(
                space=space, shares=used_shares, level=np.zeros(20_000)
            ).shuffled(noise, slice(0, 20_000), phases, 7000)
            sizes = np.linalg.eigvalsh(np.cov(outside.T @ shuffled))
            assert low < sizes[0] < 1
            assert sizes[-1] < 1.12
        # without shares, both directions of the task are empty
        assert sizes[1] < 1e-9 < 0.8 < sizes[2]


def test_shuffled_noise_does_not_depend_on_blocks_of_voxels():
    design = build_design(EVENTS, n_volumes=60, tr=2.0, confound_names=())
    space, noise = NoiseSpace.of(design), ar_noise(5, 60, 40, 0.0)
    residuals = space.residuals(noise)
    source = NoiseSource(
        space=space,
        shares=space.quadrature.T @ residuals / residuals.std(axis=0),
        level=np.zeros(40),
    )
    ones = np.ones(31, dtype=complex)
    in_one_block = source.shuffled(noise, slice(0, 40), ones, 15)
    in_two_blocks = [
        source.shuffled(noise[:, voxels], voxels, ones, 15)
        for voxels in (slice(0, 30), slice(30, 40))
    ]
    np.testing.assert_allclose(in_one_block, np.hstack(in_two_blocks), atol=1e-12)
    expected = (
        space.quadrature.T
        @ residuals[:, (35 + 15) % 40]
        * residuals[:, 35].std()
        / residuals[:, 10].std()
    )
    np.testing.assert_allclose(space.task.T @ in_one_block[:, 35], expected)


def _once(courses):
    return lambda: iter([(slice(0, courses.shape[1]), courses)])


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_false_positive_rates_of_shuffles_and_fresh_noise_are_equal(tmp_path, rho):
    table = walks(60)
    null_settings = NullSettings(tr=2.0, confound_names=CONFOUNDS, n_shuffles=24, p=0.01)
    write(tmp_path / "series.nii", 500 + 5 * ar_noise(1, 60, 2000, rho))
    with SeriesReader(tmp_path / "series.nii") as reader:
        mask = np.ones(reader.shape[:3], dtype=bool)
        shuffled_rates = null_rates(
            reader, mask, EVENTS, null_settings, scratch=tmp_path, confounds=table
        )
    fresh = []
    for seed in range(24):
        rng = np.random.default_rng([0, 0, seed])
        drawn, vector = _shuffles._drawn_design(
            EVENTS, 60, null_settings, table, rng, random_phases(60, rng)
        )
        z = _shuffles._fitted(
            _once(ar_noise(seed + 50, 60, 2000, rho)),
            drawn,
            vector,
            mask,
            (1.0, 1.0, 1.0),
            np.full(2000, 500.0),
        )
        fresh.append((np.abs(z) > stats.norm.isf(0.01)).mean() / 2)
    assert shuffled_rates.rates.mean() == pytest.approx(np.mean(fresh), rel=0.15)


@pytest.mark.parametrize("rho", [pytest.param(0.0, marks=pytest.mark.slow), 0.3])
def test_rate_on_noise_is_nominal(tmp_path, rho):
    null = rates(tmp_path, 500 + 5 * ar_noise(1, 90, 4000, rho), n_shuffles=30)
    # the rate differs between voxels and all shuffles share these voxels, so the tolerance is
    # wider than the interval over shuffles
    assert null.rates.mean() == pytest.approx(0.001, rel=0.25)
    assert null.n_voxels == null.n_mask == 4000


def test_a_task_that_is_not_removed_raises_the_rate(tmp_path, monkeypatch):
    matrix = build_design(EVENTS, n_volumes=60, tr=2.0, confound_names=()).matrix
    series = 500 + 5 * ar_noise(1, 60, 1000, 0.0) + 30 * matrix[:, [0]]
    clean = rates(tmp_path, series, n_shuffles=20)
    real = _shuffles.orthonormal
    monkeypatch.setattr(_shuffles, "orthonormal", lambda m: real(np.ones((len(m), 1))))
    leaked = rates(tmp_path, series, n_shuffles=20)
    assert clean.rates.mean() < 0.002
    # all voxels share the task, so the mean rate depends on few shuffles
    assert leaked.rates.mean() > 0.01


def test_ignoring_autocorrelation_raises_the_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(
        _shuffles,
        "estimate_noise",
        lambda blocks, matrix, mask, zooms, level: NoiseModel.white(int(mask.sum())),
    )
    null = rates(tmp_path, 500 + 5 * ar_noise(1, 90, 2000, 0.5))
    assert mean_interval(null.rates, 0)[0] > 0.002


def test_rates_depend_on_the_seed_and_not_on_blocks(tmp_path):
    series = 500 + ar_noise(2, 60, 400, 0.2)
    in_one_block = rates(tmp_path, series, n_shuffles=5, p=0.05)
    in_small_blocks = rates(tmp_path, series, n_shuffles=5, p=0.05, block_bytes=60 * 36 * 30)
    other_seed = rates(tmp_path, series, n_shuffles=5, p=0.05, seed=1)
    assert np.array_equal(in_one_block.rates, in_small_blocks.rates)
    assert not np.array_equal(in_one_block.rates, other_seed.rates)


def test_large_masks_are_sampled_and_dummy_volumes_skipped(tmp_path):
    series = 500 + ar_noise(2, 60, 400, 0.2)
    series[:3] += 1e5
    null = rates(tmp_path, series, n_shuffles=3, max_voxels=100, n_dummy=3, p=0.05)
    assert (null.n_voxels, null.n_mask) == (100, 400)
    assert 0 < null.rates.mean() < 0.2
    assert not list(tmp_path.glob("*.raw"))


def test_intervals_equal_scipy_and_closed_forms():
    skewed = np.random.default_rng(0).exponential(size=80) / 1000
    expected = stats.bootstrap(
        (skewed,), np.mean, method="BCa", n_resamples=5000, rng=np.random.default_rng([0, 2])
    )
    assert mean_interval(skewed, 0) == tuple(expected.confidence_interval)
    assert share_interval(0, 100) == pytest.approx((0, 1 - 0.025 ** (1 / 100)))
    assert mean_interval(np.zeros(100), 0) == share_interval(0, 100)
    assert np.isnan(mean_interval(np.full(5, 0.1), 0)).all()
    assert np.isnan(mean_interval(np.array([0.1]), 0)).all()


def test_the_familywise_threshold_is_the_exact_quantile_of_maxima():
    maxima = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    # the run would be the 6th of 100 above 95, the 5th above 96 …
    assert familywise_threshold(maxima) == 95.0
    assert np.isnan(familywise_threshold(maxima[:18]))
    assert familywise_threshold(maxima[:19]) == maxima[:19].max()


def test_new_runs_exceed_the_threshold_at_the_nominal_rate():
    rng, beyond = np.random.default_rng(1), 0
    for _ in range(400):
        draws = rng.standard_normal((100, 500)).max(axis=1)
        beyond += int(draws[0] > familywise_threshold(draws[1:]))
    assert abs(beyond - 20) < 3 * np.sqrt(20)  # 5 % of 400


def test_the_threshold_of_sampled_voxels_is_valid_for_all_voxels():
    rng, beyond = np.random.default_rng(1), 0
    for _ in range(400):
        draws = rng.standard_normal((100, 200)).max(axis=1)
        beyond += int(rng.standard_normal(1000).max() > familywise_threshold(draws, 0.2))
    assert 2 <= beyond < 20 + 3 * np.sqrt(20)
    assert familywise_threshold(draws, 0.2) > familywise_threshold(draws)


def test_a_planted_effect_exceeds_the_threshold_and_noise_does_not(tmp_path):
    matrix = build_design(EVENTS, n_volumes=60, tr=2.0, confound_names=()).matrix
    series = 500 + 5 * ar_noise(1, 60, 1000, 0.3)
    silent = rates(tmp_path, series)
    series[:, :12] += 60 * matrix[:, [0]] + 60 * matrix[:, [1]]
    active = rates(tmp_path, series)
    assert silent.observed.max() < silent.threshold
    assert (active.observed > active.threshold)[:12].sum() >= 11
    assert (active.observed > active.threshold)[12:].sum() == 0
    assert 3.2 < active.threshold < 5.5  # Bonferroni over 1000 voxels: 3.9
