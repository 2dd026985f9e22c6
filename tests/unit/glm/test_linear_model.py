"""The linear model: recovery of a planted effect, dense matrices and nilearn as second
implementations, calibration.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.linalg import toeplitz

from bids_sr.glm.autoregression import autocorrelations, levinson
from bids_sr.glm.design import build_design, contrast_vector
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


def noise_of(courses, matrix):
    mask = np.ones((courses.shape[1], 1, 1), dtype=bool)
    return estimate_noise([(slice(0, courses.shape[1]), courses)], matrix, mask, (3.0, 3.0, 3.0))


def fit(courses, matrix, vectors, **options):
    return ContrastModel(matrix, vectors, noise_of(courses, matrix), **options).fit(courses)


def known(rho, n):
    """Noise of given autocorrelations at the first lags, known exactly, in n voxels."""
    return NoiseModel.shared(
        labels=np.zeros(n, dtype=np.intp),
        rho=np.array([rho]),
        spread=np.zeros((1, len(rho), len(rho))),
    )


def test_planted_effect_is_recovered_with_its_own_standard_error():
    found = design()
    vector = contrast_vector(found, "a", {"a": 1.0})
    rng = np.random.default_rng(5)
    courses = (
        1000
        + 20 * found.matrix[:, [0]]
        + 8 * found.matrix[:, [1]]
        + 3 * ar_noise(rng, 200, 4000, 0.3)
    )
    estimate = fit(courses, found.matrix, vector[None], rank=found.rank)
    error = estimate["effect"][0] - 20
    stated = np.sqrt(estimate["variance"][0].mean())
    assert abs(error.mean()) < 4 * stated / np.sqrt(4000)
    assert error.std() == pytest.approx(stated, rel=0.05)
    assert found.dof == 200 - len(found.columns)


def test_agrees_with_nilearn_where_noise_is_white():
    from nilearn.glm.contrasts import compute_contrast
    from nilearn.glm.first_level import run_glm

    found = design()
    vectors = np.array(
        [
            contrast_vector(found, "a", {"a": 1.0}),
            contrast_vector(found, "d", {"a": 1.0, "b": -1.0}),
        ]
    )
    rng = np.random.default_rng(7)
    courses = 500 + 5 * found.matrix[:, [0]] + ar_noise(rng, 200, 300, 0.4)
    labels, results = run_glm(courses, found.matrix, noise_model="ols")
    estimate = ContrastModel(found.matrix, vectors, NoiseModel.white(300)).fit(courses)
    for index, vector in enumerate(vectors):
        theirs = compute_contrast(labels, results, vector, stat_type="t")
        np.testing.assert_allclose(
            estimate["effect"][index], theirs.effect_size(), rtol=1e-6, atol=1e-9
        )
        np.testing.assert_allclose(estimate["t"][index], theirs.stat(), rtol=1e-6)
        np.testing.assert_allclose(estimate["z"][index], theirs.z_score(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rho", [(0.5, 0.4), (-0.3, 0.2), (0.0, 0.0)])
def test_equals_generalized_least_squares_with_dense_matrices(rho):
    found = design(60)
    vector = contrast_vector(found, "a", {"a": 1.0})
    courses = 100 + ar_noise(np.random.default_rng(3), 60, 20, 0.3)
    covariance = np.linalg.inv(toeplitz(autocorrelations(levinson(np.array([rho]))[0], 60)[0]))
    matrix = found.matrix
    information = np.linalg.inv(matrix.T @ covariance @ matrix)
    beta = information @ matrix.T @ covariance @ courses
    rest = courses - matrix @ beta
    dispersion = np.einsum("tn,ts,sn->n", rest, covariance, rest) / (60 - matrix.shape[1])
    estimate = ContrastModel(matrix, vector[None], known(rho, 20)).fit(courses)
    np.testing.assert_allclose(estimate["effect"][0], vector @ beta, rtol=1e-8)
    np.testing.assert_allclose(
        estimate["variance"][0], dispersion * (vector @ information @ vector), rtol=1e-8
    )
    assert (estimate["effective"] == 60 - matrix.shape[1]).all()


def test_each_voxel_gets_the_model_of_its_group():
    found = design(60)
    vector = contrast_vector(found, "a", {"a": 1.0})[None]
    courses = 100 + ar_noise(np.random.default_rng(3), 60, 6, 0.3)
    both = NoiseModel.shared(
        labels=np.array([0, 1, 0, 1, 1, 0]),
        rho=np.array([[0.6, 0.3], [0.1, 0.0]]),
        spread=np.zeros((2, 2, 2)),
    )
    mixed = ContrastModel(found.matrix, vector, both).fit(courses)["t"][0]
    for group, rho in enumerate(both.rho):
        alone = ContrastModel(found.matrix, vector, known(rho, 6)).fit(courses)["t"][0]
        np.testing.assert_allclose(mixed[both.labels == group], alone[both.labels == group])
        assert (np.abs(mixed - alone)[both.labels != group] > 1e-3).all()
    with pytest.raises(ValueError, match="noise was estimated for 6 voxels"):
        ContrastModel(found.matrix, vector, both).fit(courses[:, :4])


def test_whitening_calibrates_null_statistics():
    """Motion-like confounds and drift: the case in which autocorrelations of residuals as they are
    mislead.
    """
    rng = np.random.default_rng(11)
    confounds = pd.DataFrame(
        np.cumsum(rng.standard_normal((136, 12)), axis=0), columns=[f"c{i}" for i in range(12)]
    )
    found = build_design(
        BLOCKS, n_volumes=136, tr=2.0, confounds=confounds, confound_names=tuple(confounds.columns)
    )
    vectors = contrast_vector(found, "a", {"a": 1.0})[None]
    courses = 100 + ar_noise(rng, 136, 40_000, 0.3)
    estimate = fit(courses, found.matrix, vectors)
    beyond = int((np.abs(estimate["z"][0]) > stats.norm.isf(0.001)).sum())
    assert abs(beyond - 80) < 3 * np.sqrt(80)
    assert estimate["z"][0].std() == pytest.approx(1.0, abs=0.02)  # counting alone: .0035
    rest = courses - found.matrix @ (np.linalg.pinv(found.matrix) @ courses)
    seen = np.array(
        [[np.mean((rest[:-k] * rest[k:]).sum(axis=0) / (rest**2).sum(axis=0)) for k in (1, 2, 3)]]
    )
    naive = ContrastModel(found.matrix, vectors, known(seen[0], 40_000)).fit(courses)
    assert (np.abs(naive["z"][0]) > stats.norm.isf(0.001)).sum() > 2 * beyond
    ordinary = _ordinary_t(found.matrix, vectors[0], courses)
    assert (np.abs(ordinary) > stats.t.isf(0.001, found.dof)).sum() > 4 * beyond


def _ordinary_t(matrix, vector, courses):
    inverse = np.linalg.pinv(matrix)
    beta = inverse @ courses
    residuals = courses - matrix @ beta
    variance = (
        (residuals**2).sum(axis=0)
        / (matrix.shape[0] - matrix.shape[1])
        * (vector @ inverse @ inverse.T @ vector)
    )
    return vector @ beta / np.sqrt(variance)


def test_degrees_of_freedom_by_rank_on_a_collinear_design():
    found = design()
    doubled = np.column_stack([found.matrix, found.matrix[:, 3]])
    vector = np.append(contrast_vector(found, "a", {"a": 1.0}), 0.0)
    courses = 100 + ar_noise(np.random.default_rng(2), 200, 50, 0.3)
    lean = fit(courses, found.matrix, vector[:-1][None])
    fat = fit(courses, doubled, vector[None])
    assert ContrastModel(doubled, vector[None], NoiseModel.white(50)).dof == found.dof
    np.testing.assert_allclose(fat["t"], lean["t"], rtol=1e-7)


def test_a_voxel_does_not_depend_on_its_block():
    found = design()
    vectors = contrast_vector(found, "a", {"a": 1.0})[None]
    courses = 100 + ar_noise(np.random.default_rng(4), 200, 500, 0.3)
    model = ContrastModel(found.matrix, vectors, noise_of(courses, found.matrix))
    whole = model.fit(courses)["t"]
    parts = np.hstack(
        [model.fit(courses[:, i : i + 37], slice(i, i + 37))["t"] for i in range(0, 500, 37)]
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-9)


def test_voxels_that_do_not_vary_are_zero_without_a_warning():
    found = design()
    vectors = contrast_vector(found, "a", {"a": 1.0})[None]
    courses = np.zeros((200, 3))
    courses[:, 1], courses[:, 2] = 812.3, found.matrix[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = fit(courses.astype(np.float32), found.matrix, vectors)
        nothing = fit(courses[:, :2], found.matrix, vectors)
    assert (estimate["t"][:, :2] == 0).all()
    assert (estimate["effect"][:, :2] == 0).all()
    assert estimate["effect"][0, 2] == pytest.approx(1.0, abs=1e-6)
    assert estimate["t"][0, 2] > 1e4
    assert (nothing["z"] == 0).all()


def test_t_to_z_keeps_tails_and_signs():
    for dof in (5, 50, 500):
        for t in (-8.0, -1.0, 0.0, 0.5, 3.0, 8.0):
            expected = np.sign(t) * stats.norm.isf(stats.t.sf(abs(t), dof))
            assert t_to_z(np.array(t), dof) == pytest.approx(expected, abs=1e-9)
    t = np.linspace(-10, 10, 401)
    for dof in (60, 90.5, 300):  # of the expansion
        expected = stats.norm.isf(stats.t.sf(np.abs(t), dof))
        np.testing.assert_allclose(t_to_z(t, dof), np.sign(t) * expected, rtol=2e-10, atol=1e-15)
    mixed = t_to_z(np.array([[12.0, -4.0, 4.0]]), np.array([[100.0, 59.0, 61.0]]))
    expected = stats.norm.isf(stats.t.sf([[12.0, 4.0, 4.0]], [100.0, 59.0, 61.0]))
    np.testing.assert_allclose(mixed, expected * [1, -1, 1], rtol=2e-10)
    assert t_to_z(np.array(1e9), 100) == 37.0
    assert np.isfinite(t_to_z(np.array([-1e300, np.finfo(float).max]), 500)).all()
