"""Test the effect in the mean time series of a region: its noise, its interval, its weights."""

import numpy as np
import pandas as pd
import pytest
from scipy import signal

from bids_sr.glm.design import build_design, contrast_vector
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import estimate_noise
from bids_sr.glm.region_means import (
    MeanEffect,
    fit_mean_series,
    locate_region,
    weigh_means,
    weigh_smoothed_mean,
)
from bids_sr.glm.regressors import Events
from bids_sr.spatial.smoothing import smooth

N_VOLUMES, N_VOXELS, N_RUNS = 120, 40, 80
TASK = Events(
    pd.DataFrame({"onset": np.arange(10.0, 220.0, 40.0), "duration": 16.0, "trial_type": "a"})
)
DESIGN = build_design(TASK, n_volumes=N_VOLUMES, tr=2.0, confound_names=())
VECTOR = contrast_vector(DESIGN, "a", {"a": 1.0})


def correlated_noise(rng, share=0.3, rho=0.4):
    """Return noise (T, voxels) with unit variance and a share that all voxels have in common."""
    noise = np.sqrt(1 - rho**2) * rng.standard_normal((N_VOLUMES + 30, N_VOXELS + 1))
    noise = signal.lfilter([1.0], [1.0, -rho], noise, axis=0)[30:]
    return np.sqrt(share) * noise[:, :1] + np.sqrt(1 - share) * noise[:, 1:]


def test_the_noise_of_a_mean_includes_the_correlation_between_voxels():
    """The standard deviation is that of the estimates up to three times its sampling error of
    8 %, and intervals cover.
    """
    rng, means = np.random.default_rng(7), []
    for _ in range(N_RUNS):
        series = 900 + 5 * DESIGN.matrix[:, :1] + 6 * correlated_noise(rng)
        means.append(
            fit_mean_series(series.mean(1, keepdims=True), DESIGN, VECTOR[None], ["a"])[0]["a"]
        )
    effects = np.array([mean.effect for mean in means])
    expected_sd = effects.std()
    assert effects.mean() == pytest.approx(5, abs=4 * expected_sd / np.sqrt(N_RUNS))
    found_sd = np.sqrt(np.mean([mean.noise_sd**2 for mean in means]))
    assert found_sd == pytest.approx(expected_sd, rel=0.25)
    intervals = np.array([mean.compute_interval() for mean in means])
    coverage = np.mean((intervals[:, 0] < 5) & (intervals[:, 1] > 5))
    assert coverage >= 0.87
    assert all(mean.noise_dof < DESIGN.dof / 2 for mean in means)


def test_the_interval_covers_both_errors():
    mean = MeanEffect(effect=2.0, noise_sd=3.0, noise_dof=1e6)
    lower, upper = mean.add_error(4.0, 1e6).compute_interval()
    assert (lower, upper) == pytest.approx((2 - 1.96 * 5, 2 + 1.96 * 5), abs=1e-3)
    # with one known and one uncertain standard deviation, by Welch and Satterthwaite: 12 degrees
    # of freedom, and the 97.5 % quantile of Student's t is 2.1788
    uncertain = MeanEffect(effect=0.0, noise_sd=1.0, noise_dof=3.0)
    _, upper = uncertain.add_error(1.0, 1e9).compute_interval()
    assert upper == pytest.approx(2.1788 * np.sqrt(2), rel=1e-4)


def test_several_series_are_fitted_as_if_they_were_alone():
    """A constant series among them does not change the others."""
    rng = np.random.default_rng(5)
    series = 900 + 5 * DESIGN.matrix[:, :1] + 6 * correlated_noise(rng)[:, :6]
    series[:, 2] = 300.0
    together = fit_mean_series(series, DESIGN, VECTOR[None], ["a"])
    for column, found in enumerate(together):
        (alone,) = fit_mean_series(series[:, [column]], DESIGN, VECTOR[None], ["a"])
        noise = estimate_noise(
            [(slice(0, 1), series[:, [column]])],
            DESIGN.matrix,
            np.ones((1, 1, 1), bool),
            (1.0, 1.0, 1.0),
            DESIGN.tr,
        )
        voxel = ContrastModel(DESIGN.matrix, VECTOR[None], noise, rank=DESIGN.rank).fit(
            series[:, [column]]
        )
        for name, stat in (("effect", "effect"), ("noise_dof", "effective")):
            expected = float(voxel[stat][0, 0])
            assert getattr(found["a"], name) == pytest.approx(expected, rel=1e-4, abs=1e-9)
            assert getattr(alone["a"], name) == pytest.approx(expected, rel=1e-4, abs=1e-9)
        assert found["a"].noise_sd ** 2 == pytest.approx(float(voxel["variance"][0, 0]), rel=1e-4)


def test_p_is_below_the_level_if_the_interval_excludes_0():
    for effect in (1.9, 2.1):
        mean = MeanEffect(effect=effect, noise_sd=0.6, noise_dof=1e6).add_error(0.8, 1e6)
        lower, _ = mean.compute_interval()
        assert (lower > 0) is (mean.compute_p() < 0.05)
    assert np.isnan(MeanEffect(effect=1.0, noise_sd=0.0, noise_dof=3.0).compute_p())


@pytest.mark.parametrize("fwhm_mm", [0.0, 5.0, 9.0])
def test_weights_give_the_mean_of_the_smoothed_image_also_at_edges(fwhm_mm):
    rng = np.random.default_rng(3)
    values = rng.standard_normal((14, 11, 5)).astype(np.float32)
    region, zooms = rng.random(values.shape) > 0.8, (2.0, 2.5, 4.0)
    region[0, :, -1] = True
    weights = weigh_smoothed_mean(region, zooms, fwhm_mm)
    expected = smooth(values, zooms, fwhm_mm)[region].mean()
    assert (weights * values).sum() == pytest.approx(expected, abs=1e-6)
    assert weights.sum() == pytest.approx(1, abs=1e-5)


def test_the_weights_of_several_means_are_in_the_order_of_files():
    rng = np.random.default_rng(4)
    values = np.asfortranarray(rng.standard_normal((7, 6, 5)).astype(np.float32))
    brain = np.ones(values.shape, bool)
    brain[0] = False
    masks = rng.random((2, *values.shape)) > 0.7
    regions = [locate_region(f"r{k}", "roi", mask, brain) for k, mask in enumerate(masks)]
    weights = weigh_means(
        [(regions[0].voxels, 0.0), (regions[1].voxels, 5.0)], values.shape, (2.0, 2.0, 3.0)
    )
    expected = [
        values[masks[0] & brain].mean(),
        smooth(values, (2.0, 2.0, 3.0), 5.0)[masks[1] & brain].mean(),
    ]
    assert weights @ values.ravel(order="F") == pytest.approx(expected, abs=1e-6)


def test_noise_is_pooled_over_regions_of_like_size_only():
    """Pooled noise is better known, and its intervals cover (SE of the coverage .015)."""
    rng, inside, dofs = np.random.default_rng(3), [], []
    sizes = [100.0] * 8 + [1e6]
    for _ in range(25):
        series = (
            np.stack([correlated_noise(rng, share=1.0)[:, 0] for _ in sizes], axis=1)
            + 5 * DESIGN.matrix[:, :1]
        )
        pooled = fit_mean_series(series, DESIGN, VECTOR[None], ["a"], sizes=sizes)
        (alone,) = fit_mean_series(series[:, -1:], DESIGN, VECTOR[None], ["a"])
        assert pooled[-1]["a"].noise_dof == pytest.approx(alone["a"].noise_dof, rel=1e-3)
        dofs.append(
            (np.median([mean["a"].noise_dof for mean in pooled[:-1]]), alone["a"].noise_dof)
        )
        intervals = np.array([mean["a"].compute_interval() for mean in pooled[:-1]])
        inside += ((intervals[:, 0] < 5) & (intervals[:, 1] > 5)).tolist()
    pooled_dof, separate_dof = np.median(dofs, axis=0)
    assert pooled_dof > 2 * separate_dof
    assert 0.91 < np.mean(inside) < 0.99
