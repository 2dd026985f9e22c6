"""The linear model: recovery of a known effect, dense matrices and nilearn, null calibration."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.linalg import toeplitz

from bids_sr.glm.autoregression import autocorrelations, levinson
from bids_sr.glm.band_processes import find_band_processes
from bids_sr.glm.design import build_design, contrast_vector
from bids_sr.glm.lag_bands import LagBands
from bids_sr.glm.linear_model import ContrastModel, t_to_z
from bids_sr.glm.noise import NoiseModel, estimate_noise
from bids_sr.glm.regressors import Events

BLOCKS = Events(
    pd.DataFrame(
        {
            "onset": np.arange(10.0, 380.0, 30.0),
            "duration": 15.0,
            "trial_type": ["a", "b"] * 6 + ["a"],
        }
    )
)


def design(n=200):
    return build_design(BLOCKS, n_volumes=n, tr=2.0, confound_names=())


def ar_noise(rng, n, voxels, rho):
    noise = rng.standard_normal((n + 50, voxels))
    for t in range(1, n + 50):
        noise[t] += rho * noise[t - 1]
    return noise[50:]


def noise_of(time_series, matrix):
    mask = np.ones((time_series.shape[1], 1, 1), dtype=bool)
    return estimate_noise(
        [(slice(0, time_series.shape[1]), time_series)], matrix, mask, (3.0, 3.0, 3.0), 2.0
    )


def fit(time_series, matrix, vectors, **options):
    return ContrastModel(matrix, vectors, noise_of(time_series, matrix), **options).fit(
        time_series
    )


def exact_noise(rho, n):
    """Return a noise model with known autocorrelations at the first lags, shared by n voxels."""
    return NoiseModel.from_voxel_models(
        labels=np.zeros(n, dtype=np.intp),
        rho=np.array([rho]),
        spread=np.zeros((1, len(rho), len(rho))),
    )


def test_a_known_effect_is_recovered_within_its_standard_error():
    task_design = design()
    vector = contrast_vector(task_design, "a", {"a": 1.0})
    rng = np.random.default_rng(5)
    time_series = (
        1000
        + 20 * task_design.matrix[:, [0]]
        + 8 * task_design.matrix[:, [1]]
        + 3 * ar_noise(rng, 200, 4000, 0.3)
    )
    estimate = fit(time_series, task_design.matrix, vector[None], rank=task_design.rank)
    error = estimate["effect"][0] - 20
    stated = np.sqrt(estimate["variance"][0].mean())
    assert abs(error.mean()) < 4 * stated / np.sqrt(4000)
    assert error.std() == pytest.approx(stated, rel=0.05)
    assert task_design.dof == 200 - len(task_design.columns)


def test_results_with_white_noise_equal_nilearn():
    from nilearn.glm.contrasts import compute_contrast
    from nilearn.glm.first_level import run_glm

    task_design = design()
    vectors = np.array(
        [
            contrast_vector(task_design, "a", {"a": 1.0}),
            contrast_vector(task_design, "d", {"a": 1.0, "b": -1.0}),
        ]
    )
    rng = np.random.default_rng(7)
    time_series = 500 + 5 * task_design.matrix[:, [0]] + ar_noise(rng, 200, 300, 0.4)
    labels, results = run_glm(time_series, task_design.matrix, noise_model="ols")
    estimate = ContrastModel(task_design.matrix, vectors, NoiseModel.white(300)).fit(time_series)
    for index, vector in enumerate(vectors):
        expected = compute_contrast(labels, results, vector, stat_type="t")
        np.testing.assert_allclose(
            estimate["effect"][index], expected.effect_size(), rtol=1e-6, atol=1e-9
        )
        np.testing.assert_allclose(estimate["t"][index], expected.stat(), rtol=1e-6)
        np.testing.assert_allclose(estimate["z"][index], expected.z_score(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rho", [(0.5, 0.4), (-0.3, 0.2)])
def test_results_equal_generalized_least_squares_with_dense_matrices(rho):
    task_design = design(60)
    vector = contrast_vector(task_design, "a", {"a": 1.0})
    time_series = 100 + ar_noise(np.random.default_rng(3), 60, 20, 0.3)
    precision = np.linalg.inv(toeplitz(autocorrelations(levinson(np.array([rho]))[0], 60)[0]))
    matrix = task_design.matrix
    information = np.linalg.inv(matrix.T @ precision @ matrix)
    beta = information @ matrix.T @ precision @ time_series
    residuals = time_series - matrix @ beta
    dispersion = np.einsum("tn,ts,sn->n", residuals, precision, residuals) / (60 - matrix.shape[1])
    estimate = ContrastModel(matrix, vector[None], exact_noise(rho, 20)).fit(time_series)
    np.testing.assert_allclose(estimate["effect"][0], vector @ beta, rtol=1e-8)
    np.testing.assert_allclose(
        estimate["variance"][0], dispersion * (vector @ information @ vector), rtol=1e-8
    )
    assert (estimate["effective"] == 60 - matrix.shape[1]).all()


def test_bands_of_lags_equal_generalized_least_squares_with_dense_matrices():
    bands, n = LagBands(stops=(1, 3, 8)), 80
    task_design = design(n)
    vector = contrast_vector(task_design, "a", {"a": 1.0})
    time_series = 100 + ar_noise(np.random.default_rng(3), n, 20, 0.3)
    rho = np.array([[0.5, 0.35, 0.2]])
    noise = NoiseModel.from_voxel_models(
        labels=np.zeros(20, dtype=np.intp), rho=rho, spread=np.zeros((1, 3, 3)), bands=bands
    )
    precision = np.linalg.inv(toeplitz(find_band_processes(rho, bands).autocorrelations(n)[0]))
    matrix = task_design.matrix
    information = np.linalg.inv(matrix.T @ precision @ matrix)
    beta = information @ matrix.T @ precision @ time_series
    residuals = time_series - matrix @ beta
    dispersion = np.einsum("tn,ts,sn->n", residuals, precision, residuals) / task_design.dof
    estimate = ContrastModel(matrix, vector[None], noise).fit(time_series)
    np.testing.assert_allclose(estimate["effect"][0], vector @ beta, rtol=1e-6)
    np.testing.assert_allclose(
        estimate["variance"][0], dispersion * (vector @ information @ vector), rtol=1e-6
    )


def test_uncertain_noise_of_bands_reduces_degrees_of_freedom_as_the_variance_changes():
    """Compare with variances of two dense models, whose autocorrelation differs by one step."""
    bands, n, step = LagBands(stops=(1, 3, 8)), 80, 0.01
    task_design = design(n)
    vector = contrast_vector(task_design, "a", {"a": 1.0})
    variances = []
    for change in (-step, step):
        rho = np.array([[0.5, 0.35, 0.2 + change]])
        processes = find_band_processes(rho, bands)
        covariance = toeplitz(processes.autocorrelations(n)[0])
        # in units of the variance that the process cannot predict
        covariance *= np.linalg.inv(covariance)[n // 2, n // 2]
        covariance /= np.square(processes.prediction_filters()[0]).sum()
        information = task_design.matrix.T @ np.linalg.solve(covariance, task_design.matrix)
        variances.append(vector @ np.linalg.solve(information, vector))
    slope = np.log(variances[1] / variances[0]) / (2 * step)
    spread = np.zeros((1, 3, 3))
    spread[0, 2, 2] = 0.04
    noise = NoiseModel.from_voxel_models(
        labels=np.zeros(5, dtype=np.intp),
        rho=np.array([[0.5, 0.35, 0.2]]),
        spread=spread,
        bands=bands,
    )
    time_series = 100 + ar_noise(np.random.default_rng(3), n, 5, 0.3)
    fitted = ContrastModel(task_design.matrix, vector[None], noise).fit(time_series)
    expected = 2 / (2 / task_design.dof + 0.04 * slope**2)
    np.testing.assert_allclose(fitted["effective"], expected, rtol=0.02)


def test_voxels_are_fit_with_the_noise_model_of_their_group():
    task_design = design(60)
    vector = contrast_vector(task_design, "a", {"a": 1.0})[None]
    time_series = 100 + ar_noise(np.random.default_rng(3), 60, 6, 0.3)
    noise = NoiseModel.from_voxel_models(
        labels=np.array([0, 1, 0, 1, 1, 0]),
        rho=np.array([[0.6, 0.3], [0.1, 0.0]]),
        spread=np.zeros((2, 2, 2)),
    )
    mixed = ContrastModel(task_design.matrix, vector, noise).fit(time_series)["t"][0]
    for group, rho in enumerate(noise.rho):
        single = ContrastModel(task_design.matrix, vector, exact_noise(rho, 6)).fit(time_series)[
            "t"
        ][0]
        np.testing.assert_allclose(mixed[noise.labels == group], single[noise.labels == group])
        assert (np.abs(mixed - single)[noise.labels != group] > 1e-3).all()


def test_whitening_calibrates_null_statistics():
    """Null z keeps its rate with motion-like confounds and drift, which bias naive estimates."""
    rng = np.random.default_rng(11)
    confounds = pd.DataFrame(
        np.cumsum(rng.standard_normal((136, 12)), axis=0), columns=[f"c{i}" for i in range(12)]
    )
    task_design = build_design(
        BLOCKS, n_volumes=136, tr=2.0, confounds=confounds, confound_names=tuple(confounds.columns)
    )
    vectors = contrast_vector(task_design, "a", {"a": 1.0})[None]
    time_series = 100 + ar_noise(rng, 136, 40_000, 0.3)
    estimate = fit(time_series, task_design.matrix, vectors)
    n_exceeding = int((np.abs(estimate["z"][0]) > stats.norm.isf(0.001)).sum())
    assert abs(n_exceeding - 80) < 3 * np.sqrt(80)
    assert estimate["z"][0].std() == pytest.approx(1.0, abs=0.02)  # .0035 by sampling error
    white = NoiseModel.white(40_000)
    ordinary = ContrastModel(task_design.matrix, vectors, white).fit(time_series)["z"][0]
    assert (np.abs(ordinary) > stats.norm.isf(0.001)).sum() > 4 * n_exceeding


def test_degrees_of_freedom_use_the_rank_of_a_collinear_design():
    task_design = design()
    doubled = np.column_stack([task_design.matrix, task_design.matrix[:, 3]])
    vector = np.append(contrast_vector(task_design, "a", {"a": 1.0}), 0.0)
    time_series = 100 + ar_noise(np.random.default_rng(2), 200, 50, 0.3)
    single = fit(time_series, task_design.matrix, vector[:-1][None])
    collinear = fit(time_series, doubled, vector[None])
    assert ContrastModel(doubled, vector[None], NoiseModel.white(50)).dof == task_design.dof
    np.testing.assert_allclose(collinear["t"], single["t"], rtol=1e-7)


def test_voxels_that_do_not_vary_are_zero_without_a_warning():
    task_design = design()
    vectors = contrast_vector(task_design, "a", {"a": 1.0})[None]
    time_series = np.zeros((200, 3))
    time_series[:, 1], time_series[:, 2] = 812.3, task_design.matrix[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = fit(time_series.astype(np.float32), task_design.matrix, vectors)
        constant = fit(time_series[:, :2], task_design.matrix, vectors)
    assert (estimate["t"][:, :2] == 0).all()
    assert (estimate["effect"][:, :2] == 0).all()
    assert estimate["effect"][0, 2] == pytest.approx(1.0, abs=1e-6)
    assert estimate["t"][0, 2] > 1e4
    assert (constant["z"] == 0).all()


def test_t_to_z_equals_scipy_and_keeps_tails_and_signs():
    for dof in (5, 50, 500):
        for t in (-8.0, -1.0, 0.0, 0.5, 3.0, 8.0):
            expected = np.sign(t) * stats.norm.isf(stats.t.sf(abs(t), dof))
            assert t_to_z(np.array(t), dof) == pytest.approx(expected, abs=1e-9)
    t = np.linspace(-10, 10, 401)
    for dof in (60, 90.5, 300):  # degrees of freedom for which the expansion is used
        expected = stats.norm.isf(stats.t.sf(np.abs(t), dof))
        np.testing.assert_allclose(t_to_z(t, dof), np.sign(t) * expected, rtol=2e-10, atol=1e-15)
    mixed = t_to_z(np.array([[12.0, -4.0, 4.0]]), np.array([[100.0, 59.0, 61.0]]))
    expected = stats.norm.isf(stats.t.sf([[12.0, 4.0, 4.0]], [100.0, 59.0, 61.0]))
    np.testing.assert_allclose(mixed, expected * [1, -1, 1], rtol=2e-10)
    assert t_to_z(np.array(1e9), 100) == 37.0
    assert np.isfinite(t_to_z(np.array([-1e300, np.finfo(float).max]), 500)).all()
