"""Degrees of freedom where voxels of one model differ in noise, and the rate that follows."""

import numpy as np
import pandas as pd
import pytest
from scipy import signal, stats

from bids_sr.glm.autoregression import effective_dof
from bids_sr.glm.design import build_design, contrast_vector
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import NoiseModel, estimate_noise
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


def test_degrees_of_freedom_by_hand():
    assert effective_dof(40, 0.0) == pytest.approx(40)
    assert effective_dof(40, 0.05) == pytest.approx(20)  # 2/40 + .05 = .1
    assert effective_dof(40, -0.05) == pytest.approx(40)


def test_uncertainty_is_that_of_the_logarithm_of_the_variance():
    """Against noise whose coefficient is drawn anew for each voxel: the scatter of log k over
    these draws.
    """
    design, vector = model(60, 4, 5)
    drawn = np.random.default_rng(0).normal(0.3, 0.03, 4000)
    rho = drawn[:, None] ** np.arange(1, 4)
    noise = NoiseModel.shared(
        np.zeros(1, dtype=np.intp), rho.mean(axis=0)[None], np.cov(rho.T)[None]
    )
    found = ContrastModel(design.matrix, vector, noise, rank=design.rank)
    logs = np.log([found._variance_factors(each)[0] for each in rho[:400]])
    stated = 2 / found._solve(0).effective[0] - 2 / found.dof
    # 400 draws know a variance to 7 %; the rest is curvature
    assert stated == pytest.approx(logs.var(), rel=0.25)


@pytest.mark.parametrize("n", [60, 136])
def test_short_runs_keep_the_rate_that_z_promises(n):
    beyond = total = 0
    for seed in range(6):
        design, vector = model(n, 8, seed)
        mask = np.ones((20, 20, 20), dtype=bool)
        courses = 100 + ar_noise(np.random.default_rng(seed), n, mask.sum(), 0.3)
        noise = estimate_noise([(slice(0, 8000), courses)], design.matrix, mask, (3.0, 3.0, 3.0))
        z = ContrastModel(design.matrix, vector, noise, rank=design.rank).fit(courses)["z"]
        beyond += int((np.abs(z) > stats.norm.isf(0.001)).sum())
        total += 2 * z.size
    # 96, to ± 10 by counting: three of these, within what is promised elsewhere
    expected = total * 0.001
    assert abs(beyond - expected) < 3 * np.sqrt(expected)


def test_voxels_of_their_own_keep_it_by_fewer_degrees_of_freedom():
    """Far apart in the mask: nothing to pool, and the error of its own autocorrelation counts."""
    design, vector = model(60, 8, 1)
    courses = 100 + ar_noise(np.random.default_rng(1), 60, 400, 0.3)
    mask = np.ones((400, 1, 1), dtype=bool)
    noise = estimate_noise([(slice(0, 400), courses)], design.matrix, mask, (100.0, 3.0, 3.0))
    found = ContrastModel(design.matrix, vector, noise, rank=design.rank).fit(courses)
    assert (found["effective"] < 0.9 * design.dof).all()
    beyond_t = (np.abs(found["t"]) > stats.t.isf(0.01, design.dof)).sum()
    beyond_z = (np.abs(found["z"]) > stats.norm.isf(0.01)).sum()
    assert beyond_z < beyond_t
    assert beyond_z <= 8 + 3 * np.sqrt(8)


def test_a_voxel_that_does_not_vary_has_no_z():
    design, vector = model(60, 0, 0)
    courses, mask = np.full((60, 3), 7.0), np.ones((3, 1, 1), dtype=bool)
    noise = estimate_noise([(slice(0, 3), courses)], design.matrix, mask, (3.0, 3.0, 3.0))
    fitted = ContrastModel(design.matrix, vector, noise).fit(courses)
    assert not fitted["z"].any()
    assert (fitted["effective"] == design.dof).all()
