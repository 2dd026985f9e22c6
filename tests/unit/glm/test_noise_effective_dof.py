"""Effective degrees of freedom if noise differs between voxels, and the false-positive rate."""

import numpy as np
import pandas as pd
import pytest
from scipy import signal, stats

from bids_sr.glm.autoregression import effective_dof
from bids_sr.glm.design import build_design, contrast_vector
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import estimate_noise
from bids_sr.glm.regressors import Events


def ar_noise(rng, n, voxels, rho):
    return signal.lfilter([1.0], [1.0, -rho], rng.standard_normal((n + 80, voxels)), axis=0)[80:]


def model(n, confounds, seed):
    rng = np.random.default_rng(seed)
    names = [f"c{k}" for k in range(confounds)]
    table = pd.DataFrame(np.cumsum(rng.standard_normal((n, confounds)), axis=0), columns=names)
    onsets = np.arange(6.0, 2 * n - 28, 28)
    events = pd.DataFrame({"onset": onsets, "duration": 14.0, "trial_type": "a"})
    design = build_design(
        Events(events), n_volumes=n, tr=2.0, confounds=table, confound_names=names
    )
    return design, contrast_vector(design, "a", {"a": 1.0})[None]


def test_effective_degrees_of_freedom_by_hand():
    assert effective_dof(40, 0.0) == pytest.approx(40)
    assert effective_dof(40, 0.05) == pytest.approx(20)  # 2/40 + .05 = .1
    assert effective_dof(40, -0.05) == pytest.approx(40)


@pytest.mark.parametrize("n", [60, 136])
def test_short_runs_keep_the_nominal_false_positive_rate_of_z(n):
    n_exceeding = total = 0
    for seed in range(6):
        design, vector = model(n, 8, seed)
        mask = np.ones((20, 20, 20), dtype=bool)
        time_series = 100 + ar_noise(np.random.default_rng(seed), n, mask.sum(), 0.3)
        noise = estimate_noise(
            [(slice(0, 8000), time_series)], design.matrix, mask, (3.0, 3.0, 3.0), 2.0
        )
        z = ContrastModel(design.matrix, vector, noise, rank=design.rank).fit(time_series)["z"]
        n_exceeding += int((np.abs(z) > stats.norm.isf(0.001)).sum())
        total += 2 * z.size
    # expectation 96 with an SD of 10; the tolerance is three SDs
    expected = total * 0.001
    assert abs(n_exceeding - expected) < 3 * np.sqrt(expected)


def test_isolated_voxels_keep_the_rate_with_fewer_degrees_of_freedom():
    """Voxels far apart are not pooled; the error of their own autocorrelation enters."""
    design, vector = model(60, 8, 1)
    time_series = 100 + ar_noise(np.random.default_rng(1), 60, 400, 0.3)
    mask = np.ones((400, 1, 1), dtype=bool)
    noise = estimate_noise(
        [(slice(0, 400), time_series)], design.matrix, mask, (100.0, 3.0, 3.0), 2.0
    )
    maps = ContrastModel(design.matrix, vector, noise, rank=design.rank).fit(time_series)
    assert (maps["effective"] < 0.9 * design.dof).all()
    n_exceeding_t = (np.abs(maps["t"]) > stats.t.isf(0.01, design.dof)).sum()
    n_exceeding_z = (np.abs(maps["z"]) > stats.norm.isf(0.01)).sum()
    assert n_exceeding_z < n_exceeding_t
    assert n_exceeding_z <= 8 + 3 * np.sqrt(8)


@pytest.mark.parametrize("tr", [0.1, 0.5])
@pytest.mark.parametrize("constant_s", [2.0, 10.0])
def test_slow_fluctuations_at_short_tr_have_their_true_variance(tr, constant_s):
    """Fit blocks of 20 s to white noise plus fluctuations of some seconds."""
    shape, n, keep = (12, 12, 8), round(200 / tr), np.exp(-tr / constant_s)
    rng = np.random.default_rng(2)
    onsets = np.arange(20.0, 180.0, 40.0)
    events = pd.DataFrame({"onset": onsets, "duration": 20.0, "trial_type": "a"})
    design = build_design(Events(events), n_volumes=n, tr=tr, confound_names=())
    vector = contrast_vector(design, "a", {"a": 1.0})[None]
    innovations = rng.standard_normal((n, np.prod(shape))) * np.sqrt(1 - keep**2)
    innovations[0] /= np.sqrt(1 - keep**2)
    slow = signal.lfilter([1.0], [1.0, -keep], innovations, axis=0)
    time_series = 1000 + 7 * slow + 13 * rng.standard_normal(slow.shape)
    noise = estimate_noise(
        [(slice(0, slow.shape[1]), time_series)],
        design.matrix,
        np.ones(shape, dtype=bool),
        (3.0, 3.0, 3.0),
        tr,
    )
    maps = ContrastModel(design.matrix, vector, noise, rank=design.rank).fit(time_series)
    # 1,152 voxels: the variance of the effect has a sampling error of 4 %
    ratio = maps["variance"].mean() / np.square(maps["effect"]).mean()
    assert ratio == pytest.approx(1, abs=0.12)
    assert 0.9 < maps["z"].std() < 1.1
