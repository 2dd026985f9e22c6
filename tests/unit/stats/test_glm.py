"""The linear model: recovery of a planted effect, nilearn as second implementation, calibration of t."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bids_sr.stats.design import build_design, contrast_vector
from bids_sr.stats.glm import ContrastModel, NoiseCoefficients, expected_autocorrelation, t_to_z

BLOCKS = pd.DataFrame({"onset": np.arange(10.0, 380.0, 30.0), "duration": 15.0, "trial_type": ["a", "b"] * 6 + ["a"]})


def design(n=200):
    return build_design(BLOCKS, n_volumes=n, tr=2.0, confound_names=())


def ar_noise(rng, n, voxels, rho):
    noise = rng.standard_normal((n + 50, voxels))
    for t in range(1, n + 50):
        noise[t] += rho * noise[t - 1]
    return noise[50:]


def test_planted_effect_is_recovered_with_its_own_standard_error():
    found = design()
    vector = contrast_vector(found, "a", {"a": 1.0})
    rng = np.random.default_rng(5)
    courses = 1000 + 20 * found.matrix[:, [0]] + 8 * found.matrix[:, [1]] + 3 * ar_noise(rng, 200, 4000, 0.3)
    estimate = ContrastModel(found.matrix, vector[None], rank=found.rank).fit(courses)
    error = estimate.effect[0] - 20
    stated = np.sqrt(estimate.variance[0].mean())
    assert abs(error.mean()) < 4 * stated / np.sqrt(4000)
    assert error.std() == pytest.approx(stated, rel=0.05)
    assert estimate.dof == 200 - len(found.columns)


def test_agrees_with_nilearn():
    from nilearn.glm.contrasts import compute_contrast
    from nilearn.glm.first_level import run_glm

    found = design()
    vectors = np.array([contrast_vector(found, "a", {"a": 1.0}), contrast_vector(found, "d", {"a": 1.0, "b": -1.0})])
    rng = np.random.default_rng(7)
    courses = 500 + 5 * found.matrix[:, [0]] + ar_noise(rng, 200, 300, 0.4)
    labels, results = run_glm(courses, found.matrix, noise_model="ar1")
    model = ContrastModel(found.matrix, vectors)
    model._coefficients = _yule_walker  # the one thing that we do otherwise
    estimate = model.fit(courses)
    for index, vector in enumerate(vectors):
        theirs = compute_contrast(labels, results, vector, stat_type="t")
        np.testing.assert_allclose(estimate.effect[index], theirs.effect_size(), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(estimate.t[index], theirs.stat(), rtol=1e-6)
        np.testing.assert_allclose(
            t_to_z(estimate.t[index], estimate.dof), theirs.z_score(), rtol=1e-4, atol=1e-6
        )  # with degrees of freedom as they count them
        assert (np.abs(estimate.z[index]) <= np.abs(theirs.z_score()) + 1e-6).all()


def _yule_walker(residuals):
    n = len(residuals)
    lagged = (residuals[:-1] * residuals[1:]).sum(axis=0) / (n - 1)
    return np.trunc(lagged / (residuals**2).mean(axis=0) * 100) / 100


def test_whitening_calibrates_null_statistics():
    """Motion-like confounds and drift: the case in which coefficients taken from residuals as they are mislead."""
    rng = np.random.default_rng(11)
    confounds = pd.DataFrame(np.cumsum(rng.standard_normal((136, 12)), axis=0), columns=[f"c{i}" for i in range(12)])
    found = build_design(BLOCKS, n_volumes=136, tr=2.0, confounds=confounds, confound_names=tuple(confounds.columns))
    vectors = contrast_vector(found, "a", {"a": 1.0})[None]
    courses = 100 + ar_noise(rng, 136, 40_000, 0.3)
    estimate = ContrastModel(found.matrix, vectors).fit(courses)
    beyond = int((estimate.z[0] > stats.norm.isf(0.001)).sum())
    assert 20 <= beyond <= 65  # 40 expected with a standard deviation of 6
    assert estimate.z[0].std() == pytest.approx(1.0, abs=0.04)
    naive = ContrastModel(found.matrix, vectors)
    naive._coefficients = _yule_walker
    assert (naive.fit(courses).z[0] > stats.norm.isf(0.001)).sum() > 2 * beyond
    ordinary = _ordinary_t(found.matrix, vectors[0], courses)
    assert (ordinary > stats.t.isf(0.001, estimate.dof)).sum() > 4 * beyond


def _ordinary_t(matrix, vector, courses):
    inverse = np.linalg.pinv(matrix)
    beta = inverse @ courses
    residuals = courses - matrix @ beta
    variance = (
        (residuals**2).sum(axis=0) / (matrix.shape[0] - matrix.shape[1]) * (vector @ inverse @ inverse.T @ vector)
    )
    return vector @ beta / np.sqrt(variance)


def test_degrees_of_freedom_by_rank_on_a_collinear_design():
    found = design()
    doubled = np.column_stack([found.matrix, found.matrix[:, 3]])
    vector = np.append(contrast_vector(found, "a", {"a": 1.0}), 0.0)
    courses = 100 + ar_noise(np.random.default_rng(2), 200, 50, 0.3)
    lean = ContrastModel(found.matrix, vector[:-1][None]).fit(courses)
    fat = ContrastModel(doubled, vector[None]).fit(courses)
    assert fat.dof == lean.dof
    np.testing.assert_allclose(fat.t, lean.t, rtol=1e-7)


def test_a_voxel_does_not_depend_on_its_block():
    found = design()
    vectors = contrast_vector(found, "a", {"a": 1.0})[None]
    courses = 100 + ar_noise(np.random.default_rng(4), 200, 500, 0.3)
    whole = ContrastModel(found.matrix, vectors).fit(courses).t
    model = ContrastModel(found.matrix, vectors)
    parts = np.hstack([model.fit(courses[:, i : i + 37]).t for i in range(0, 500, 37)])
    np.testing.assert_allclose(parts, whole, rtol=1e-9)


def test_voxels_that_do_not_vary_are_zero_without_a_warning():
    found = design()
    vectors = contrast_vector(found, "a", {"a": 1.0})[None]
    courses = np.zeros((200, 3))
    courses[:, 1], courses[:, 2] = 812.3, found.matrix[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = ContrastModel(found.matrix, vectors).fit(courses.astype(np.float32))
        nothing = ContrastModel(found.matrix, vectors).fit(courses[:, :2])
    assert (estimate.t[:, :2] == 0).all()
    assert (estimate.effect[:, :2] == 0).all()
    assert estimate.effect[0, 2] == pytest.approx(1.0, abs=1e-6)
    assert estimate.t[0, 2] > 1e4
    assert (nothing.z == 0).all()


def test_expected_autocorrelation_is_the_trace_formula():
    matrix, rho = design(60).matrix, np.array([-0.4, 0.0, 0.3, 0.8])
    off = np.eye(60) - matrix @ np.linalg.pinv(matrix)
    shift = np.eye(60, k=1)
    lags = np.abs(np.subtract.outer(np.arange(60), np.arange(60)))
    expected = [np.trace(off @ shift @ off @ r**lags) / np.trace(off @ r**lags) for r in rho]
    np.testing.assert_allclose(expected_autocorrelation(matrix, rho), expected, atol=1e-10)
    assert expected[1] < -0.05  # white noise leaves residuals that look anticorrelated


@pytest.mark.parametrize("rho", [-0.3, 0.0, 0.4, 0.7])
def test_coefficient_of_the_noise_is_found_behind_the_design(rho):
    found = design()
    noise = ar_noise(np.random.default_rng(0), 200, 3000, rho)
    residuals = noise - found.matrix @ (np.linalg.pinv(found.matrix) @ noise)
    coefficients = NoiseCoefficients(found.matrix)(residuals)
    assert abs(coefficients.mean() - rho) < 0.012
    assert coefficients.mean() - _yule_walker(residuals).mean() > 0.02  # as they are, residuals tell too little
    np.testing.assert_allclose(coefficients * 100, np.round(coefficients * 100), atol=1e-9)


def test_t_to_z_keeps_tails_and_signs():
    for dof in (5, 50, 500):
        for t in (-8.0, -1.0, 0.0, 0.5, 3.0, 8.0):
            expected = np.sign(t) * stats.norm.isf(stats.t.sf(abs(t), dof))
            assert t_to_z(np.array(t), dof) == pytest.approx(expected, abs=1e-9)
    assert t_to_z(np.array(1e9), 100) == 37.0
    assert np.isfinite(t_to_z(np.array([-1e300, np.finfo(float).max]), 500)).all()
