"""Degrees of freedom under an estimated coefficient: the error of the coefficient, and the rate that follows."""

import numpy as np
import pandas as pd
import pytest
from scipy import signal, stats

from bids_sr.stats.design import build_design, contrast_vector
from bids_sr.stats.effective import coefficient_variance, effective_dof, orthonormal
from bids_sr.stats.glm import ContrastModel, NoiseCoefficients, expected_autocorrelation


def ar_noise(rng, n, voxels, rho):
    return signal.lfilter([1.0], [1.0, -rho], rng.standard_normal((n + 80, voxels)), axis=0)[80:]


def model(n, confounds, seed):
    rng = np.random.default_rng(seed)
    names = [f"c{k}" for k in range(confounds)]
    table = pd.DataFrame(np.cumsum(rng.standard_normal((n, confounds)), axis=0), columns=names)
    onsets = np.arange(6.0, 2 * n - 28, 28)
    events = pd.DataFrame({"onset": onsets, "duration": 14.0, "trial_type": "a"})
    design = build_design(events, n_volumes=n, tr=2.0, confounds=table, confound_names=names)
    return design, contrast_vector(design, "a", {"a": 1.0})[None]


@pytest.mark.parametrize(("confounds", "rho"), [(0, 0.3), (8, 0.3), (8, -0.2)])
def test_error_of_the_coefficient_is_as_stated(confounds, rho):
    matrix = model(80, confounds, 1)[0].matrix
    stated = coefficient_variance(matrix, [rho], expected_autocorrelation)[0]
    basis, noise = orthonormal(matrix), ar_noise(np.random.default_rng(2), 80, 8000, rho)
    found = NoiseCoefficients(matrix)(noise - basis @ (basis.T @ noise))
    assert found.std() ** 2 == pytest.approx(stated, rel=0.12)
    assert stated > 1.15 * (1 - rho**2) / 80  # more than without a design


def test_variance_equals_dense_matrices():
    matrix = model(50, 5, 3)[0].matrix
    basis = orthonormal(matrix)
    off, rho = np.eye(50) - basis @ basis.T, 0.35
    noise = rho ** np.abs(np.subtract.outer(np.arange(50), np.arange(50)))
    lag = (np.eye(50, k=1) + np.eye(50, k=-1)) / 2
    r = np.trace(off @ lag @ off @ noise) / np.trace(off @ noise)
    form = off @ (lag - r * np.eye(50)) @ off @ noise
    low, high = expected_autocorrelation(matrix, np.array([rho - 0.01, rho + 0.01]))
    dense = 2 * np.trace(form @ form) / np.trace(off @ noise) ** 2 / ((high - low) / 0.02) ** 2
    assert coefficient_variance(matrix, [rho], expected_autocorrelation)[0] == pytest.approx(dense, rel=1e-9)


def test_degrees_of_freedom_by_hand():
    assert effective_dof(40, 2.0, 0.0) == pytest.approx(40)
    assert effective_dof(40, 2.0, 0.0125) == pytest.approx(20)  # 2/40 + 4 * .0125 = .1


def test_sensitivity_is_the_slope_of_the_variance():
    design, vector = model(60, 4, 5)
    found = ContrastModel(design.matrix, vector, rank=design.rank)
    around = [float(np.log(found._solve(rho).factors[0])) for rho in (0.29, 0.31)]
    error = np.interp(0.3, *(_grid(), found._errors))
    slope = (around[1] - around[0]) / 0.02
    assert found._solve(0.3).effective[0] == pytest.approx(float(effective_dof(found.dof, slope, error)), rel=1e-3)


def _grid():
    from bids_sr.stats import glm

    return glm._ERROR_GRID


def test_short_runs_keep_the_rate_that_z_promises():
    beyond_z = beyond_t = 0
    for seed in range(6):
        design, vector = model(60, 6, seed)
        fitted = ContrastModel(design.matrix, vector, rank=design.rank).fit(
            100 + ar_noise(np.random.default_rng(seed), 60, 10_000, 0.2)
        )
        assert (fitted.effective < fitted.dof).all()
        beyond_z += int((fitted.z > stats.norm.isf(0.001)).sum())
        beyond_t += int((fitted.t > stats.t.isf(0.001, fitted.dof)).sum())
    assert 35 <= beyond_z <= 95  # 60 expected; with one random design each
    assert beyond_t > 1.5 * beyond_z


def test_a_voxel_that_does_not_vary_has_no_z():
    design, vector = model(60, 0, 0)
    fitted = ContrastModel(design.matrix, vector).fit(np.full((60, 3), 7.0))
    assert not fitted.z.any()
    assert (fitted.effective == fitted.dof).all()
