"""Pooling of noise autocorrelation: mask, brightness, own weight, groups and determinism."""

import numpy as np
import pytest
from scipy import ndimage, signal

from bids_sr.glm import noise as pooling
from bids_sr.glm.autoregression import (
    compute_expected_products,
    noise_autocorrelations,
    orthonormal,
)
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import _build_lattice, _compute_lag_ratios, _Neighborhood, estimate_noise
from bids_sr.spatial.lag_products import center
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA

ZOOMS = (3.0, 3.0, 3.0)
SHAPE = (16, 16, 8)
COUNT = 16 * 16 * 8


def design(n):
    time = np.linspace(-1, 1, n)
    return np.stack([np.ones(n), time, np.sin(9 * time), np.cos(9 * time)], axis=1)


def ar_series(n, rho, seed=0):
    """Return (n, voxels) AR(1) series with a coefficient per voxel and unit innovations."""
    out = np.random.default_rng(seed).standard_normal((n, len(rho)))
    out[0] /= np.sqrt(1 - rho**2)
    for t in range(1, n):
        out[t] += rho * out[t - 1]
    return out


def estimate(values, mask=None, zooms=ZOOMS):
    mask = np.ones(SHAPE, dtype=bool) if mask is None else mask
    return estimate_noise([(slice(0, values.shape[1]), values)], design(len(values)), mask, zooms)


def test_lag_ratios_equal_ratios_of_residuals():
    values, matrix = ar_series(40, np.full(5, 0.4)), design(40)
    values[:, 4] = 3 + 2 * matrix[:, 1]  # fitted to rounding
    ratios, valid, mean = _compute_lag_ratios(values, orthonormal(matrix), 2)
    residuals = values - matrix @ np.linalg.lstsq(matrix, values, rcond=None)[0]
    for lag in (1, 2):
        expected = (residuals[lag:] * residuals[:-lag]).sum(axis=0) / (residuals**2).sum(axis=0)
        np.testing.assert_allclose(ratios[lag - 1, :4], expected[:4])
    assert valid.tolist() == [True, True, True, True, False]
    np.testing.assert_allclose(mean, values.mean(axis=0))
    assert (ratios[:, 4] == 0).all()


@pytest.mark.parametrize("n", [60, 200])
def test_homogeneous_noise_is_estimated_without_bias_and_pooled(n):
    noise = estimate(100 + ar_series(n, np.full(COUNT, 0.4)))
    mean = noise.mix(noise.rho).mean(axis=0)
    # 2048 voxels with an SD of .2 in 60 volumes: .005 in the mean; twice as much with the
    # variation that the design absorbs
    np.testing.assert_allclose(mean[:3], 0.4 ** np.arange(1, 4), atol=0.02)
    assert noise.mix(noise.rho)[:, 0].std() < 0.05


def test_random_walk_confounds_leave_no_bias():
    """Fit twelve random walks in 60 volumes; the bias of the ratio by itself would be .03."""
    walks = np.random.default_rng(4).standard_normal((60, 12)).cumsum(axis=0)
    matrix = np.hstack([np.ones((60, 1)), walks])
    values, mask = (
        ar_series(60, np.full(8 * COUNT, 0.6), seed=5),
        np.ones((32, 32, 16), dtype=bool),
    )
    noise = estimate_noise([(slice(0, 8 * COUNT), 100 + values)], matrix, mask, ZOOMS)
    mean = noise.mix(noise.rho)[:, 0].mean()
    assert mean == pytest.approx(0.6, abs=0.01)  # SD .2 per voxel: .0016 by sampling error


def test_tissues_of_different_brightness_are_distinguished():
    """Stripes are thinner than the neighborhood and only differ in brightness and time series."""
    kind = (np.indices(SHAPE)[0] // 2 % 2).ravel()
    rho = np.where(kind, 0.55, 0.15)
    values = ar_series(150, rho)
    flat = estimate(100 + values)
    bright = estimate(100 + 20 * kind + values)
    for noise, limit in ((bright, 0.08), (flat, 0.16)):
        estimates = noise.mix(noise.rho)[:, 0]
        # .2 if all voxels shared the estimate
        assert np.sqrt(np.mean((estimates - rho) ** 2)) < limit
    estimates = bright.mix(bright.rho)[:, 0]
    step = estimates[kind == 1].mean() - estimates[kind == 0].mean()
    assert step == pytest.approx(0.4, abs=0.06)


def test_uncertainty_is_reported_only_if_voxels_differ():
    homogeneous = estimate(100 + ar_series(100, np.full(COUNT, 0.3)))
    mixed = estimate(100 + ar_series(100, np.random.default_rng(3).choice([0.0, 0.6], COUNT)))

    def uncertainty(noise):
        return float(noise.mix(noise.spread)[:, 0, 0].mean())

    assert abs(uncertainty(homogeneous)) < 0.004
    # .09 is the variance of the two coefficients; a voxel's own series reduces it
    assert 0.01 < uncertainty(mixed) < 0.09


def test_estimates_do_not_depend_on_voxels_outside_the_mask():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:9, 3:12, 1:6] = True
    mask[4, 5, 3] = False
    values = ar_series(80, np.full(mask.sum(), 0.3))
    wide = np.zeros((20, 20, 10), dtype=bool)
    wide[4:11, 6:15, 2:7] = mask[2:9, 3:12, 1:6]
    first, second = estimate(values, mask), estimate(values, wide)
    np.testing.assert_allclose(first.mix(first.rho), second.mix(second.rho), atol=1e-9)


def test_neighborhood_means_are_normalized_at_edges_in_planes_and_for_single_voxels():
    for shape, n_voxels in (((12, 12, 1), 144), ((1, 1, 1), 1)):
        neighborhood = _Neighborhood(
            np.ones(n_voxels, dtype=bool), np.ones(shape, dtype=bool), ZOOMS, 12.0
        )
        np.testing.assert_allclose(
            neighborhood.average(np.full((1, n_voxels), 2.5)), 2.5, rtol=1e-6
        )
        assert (neighborhood.own_weights <= 1 + 1e-6).all()
        assert (neighborhood.square_sums <= neighborhood.own_weights).all()
    assert neighborhood.own_weights[0] == pytest.approx(1)
    volume = _Neighborhood(
        np.ones(31**3, dtype=bool), np.ones((31, 31, 31), dtype=bool), ZOOMS, 12.0
    )
    impulse = np.zeros((1, 31**3))
    impulse[0, 31**3 // 2] = 1.0
    weights = volume.average(impulse)[0]
    assert volume.own_weights[31**3 // 2] == pytest.approx(weights.max(), rel=1e-6)
    assert volume.square_sums[31**3 // 2] == pytest.approx((weights**2).sum(), rel=1e-4)


def test_neighborhood_means_do_not_depend_on_padding_around_the_mask():
    rng = np.random.default_rng(0)
    mask = rng.random((9, 8, 6)) < 0.7
    valid = rng.random(int(mask.sum())) < 0.9
    values = rng.normal(size=(2, len(valid)))
    padded = np.pad(mask, ((3, 9), (0, 5), (20, 1)))
    means = _Neighborhood(valid, mask, ZOOMS, 6.0).average(values)
    np.testing.assert_array_equal(_Neighborhood(valid, padded, ZOOMS, 6.0).average(values), means)
    smooth = []
    for row in (*(values * valid), valid.astype(float)):
        volume = np.zeros(padded.shape)
        volume[padded] = row
        sigma = 6.0 / FWHM_PER_SIGMA / 3.0
        smooth.append(ndimage.gaussian_filter(volume, sigma, mode="constant")[padded])
    np.testing.assert_allclose(means, np.stack(smooth[:2]) / smooth[2], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centered_series_and_their_statistics_equal_numpy(dtype):
    series = (1000 + 30 * np.random.default_rng(0).normal(size=(40, 7))).astype(dtype)
    series[:, 2] *= -1
    series[:, 3] = 0.1
    centered, statistics = np.empty((40, 7)), np.full((3, 7), np.nan)
    center(series, centered, statistics)
    expected = series.astype(float) - series.mean(axis=0, dtype=float)
    np.testing.assert_allclose(centered, expected, atol=1e-12)
    np.testing.assert_allclose(statistics[0], series.mean(axis=0, dtype=float), rtol=1e-14)
    np.testing.assert_allclose(statistics[1], (expected**2).sum(axis=0), rtol=1e-12, atol=1e-24)
    np.testing.assert_array_equal(statistics[2], np.abs(series).max(axis=0))


def test_width_of_the_neighborhood_is_in_mm():
    fine = _Neighborhood(
        np.ones(40, dtype=bool), np.ones((40, 1, 1), dtype=bool), (1.5, 3, 3), 12.0
    )
    coarse = _Neighborhood(
        np.ones(20, dtype=bool), np.ones((20, 1, 1), dtype=bool), (3.0, 3, 3), 12.0
    )
    assert fine.own_weights[20] == pytest.approx(coarse.own_weights[10] / 2, rel=0.01)


def mixed_ratios(lattice):
    return lattice.mix(lattice.node_ratios)


def test_a_lattice_approximates_ratios_with_few_nodes():
    rng = np.random.default_rng(0)
    similar = 0.3 + 0.005 * rng.standard_normal((6, 500))
    assert len(_build_lattice(similar).node_ratios) <= 9
    # two parameters, nonlinear in the space of lags
    decay, depth = rng.uniform(0.3, 0.8, 4000), rng.uniform(0.2, 0.6, 4000)
    ratios = depth * decay ** np.arange(6)[:, None]
    lattice = _build_lattice(ratios)
    assert len(lattice.node_ratios) < 120
    np.testing.assert_allclose(lattice.shares.sum(axis=0), 1)
    assert lattice.shares.min() >= 0
    np.testing.assert_array_equal(lattice.cells[lattice.labels].T, lattice.nodes)
    error = np.abs(mixed_ratios(lattice) - ratios).mean()
    assert error < 0.01
    assert np.abs(ratios - ratios.mean(axis=1, keepdims=True)).mean() > 0.05


@pytest.mark.parametrize("order", [1, 2, 6])
@pytest.mark.parametrize("count", [1, 6, 2000])
def test_a_lattice_is_continuous_in_the_ratios(order, count):
    """Rounding moves some voxels to another cell, which must not matter."""
    rng = np.random.default_rng(order)
    slopes = rng.normal(size=(order, order)) * np.geomspace(0.1, 0.01, order)
    ratios = slopes @ rng.standard_normal((order, count))
    perturbed = ratios + 1e-8 * rng.standard_normal(ratios.shape)
    before, after = (mixed_ratios(_build_lattice(values)) for values in (ratios, perturbed))
    assert np.abs(after - before).max() < 1e-6


@pytest.mark.parametrize("size", [8, 3])
def test_maps_do_not_depend_on_rounding(size):
    """Change data and design slightly, with tissues of different noise and two mask sizes."""
    rng = np.random.default_rng(0)
    shape, count = (2 * size, 2 * size, size), 4 * size**3
    values = 100 + ar_series(100, rng.choice([0.1, 0.4, 0.8], count), seed=1)
    values += 0.5 * ar_series(100, np.full(count, 0.97), seed=2) * rng.random(count)
    matrix = np.column_stack([design(100), np.sin(np.arange(100) / 4)])

    def maps(signals, columns):
        mask = np.ones(shape, dtype=bool)
        noise = estimate_noise([(slice(0, count), signals)], columns, mask, ZOOMS)
        return ContrastModel(columns, np.eye(5)[-1:], noise).fit(signals)

    before = maps(values, matrix)
    perturbed = [(values + 1e-4 * rng.standard_normal(values.shape), matrix) for _ in range(4)]
    perturbed.append((values, matrix + 1e-8 * rng.standard_normal(matrix.shape) * [0, 1, 1, 1, 1]))
    for signals, columns in perturbed:
        after = maps(signals, columns)
        for stat in ("effect", "variance", "t", "z"):
            change = np.abs(after[stat] - before[stat]).max() / before[stat].std()
            assert change < 0.005


def test_estimates_do_not_depend_on_blocks_of_voxels_or_repetition():
    values = 100 + ar_series(70, np.full(COUNT, 0.3))
    full = estimate(values)
    parts = [(slice(k, k + 300), values[:, k : k + 300]) for k in range(0, COUNT, 300)]
    blockwise = estimate_noise(iter(parts), design(70), np.ones(SHAPE, dtype=bool), ZOOMS)
    np.testing.assert_allclose(full.mix(full.rho), blockwise.mix(blockwise.rho), atol=1e-9)


def test_short_runs_get_fewer_lags_and_constant_series_zero_autocorrelation():
    assert estimate(ar_series(22, np.full(COUNT, 0.2))).rho.shape[1] == 3  # 18 degrees of freedom
    assert estimate(ar_series(6, np.full(COUNT, 0.2))).rho.shape[1] == 1
    constant = estimate(np.full((30, COUNT), 5.0))
    assert (constant.rho == 0).all()


def test_noise_near_a_random_walk_stays_stationary():
    walk = signal.lfilter(
        [1.0], [1.0, -1.0], np.random.default_rng(0).standard_normal((80, COUNT)), axis=0
    )
    noise = estimate(walk)
    assert np.isfinite(noise.rho).all()
    assert np.isfinite(noise.spread).all()
    assert np.abs(noise.rho).max() < 1


def test_the_methods_text_reports_width_and_order():
    from bids_sr.steps.activation_texts import describe_noise

    text = describe_noise()
    assert f"{pooling.FWHM_MM:g} mm FWHM" in text
    assert f"autoregressive of order {pooling.ORDER}" in text


def test_unreachable_targets_are_approximated_without_amplifying_rounding() -> None:
    """Perturb targets of smooth series in a model with many columns by rounding noise."""
    rng = np.random.default_rng(1)
    t = np.arange(60)
    cosines = [np.cos(np.pi * (t + 0.5) * k / 60) for k in range(8)]
    basis = orthonormal(np.column_stack([*cosines, rng.normal(size=(60, 6)).cumsum(axis=0)]))
    products = compute_expected_products(basis, 6)
    targets = 0.9 ** np.arange(1, 7) - 0.15 + 0.03 * rng.normal(size=(400, 6))
    before = noise_autocorrelations(targets, products)
    changes = [
        np.abs(
            noise_autocorrelations(targets + 1e-7 * rng.normal(size=targets.shape), products)
            - before
        ).max()
        for _ in range(10)
    ]
    assert max(changes) < 1e-3


def test_sums_and_mixtures_of_a_lattice_equal_dense_matrices():
    rng = np.random.default_rng(0)
    lattice = _build_lattice(rng.normal(0.3, 0.1, (3, 500)))
    shares = np.zeros((len(lattice.node_ratios), 500))
    np.add.at(shares, (lattice.nodes, np.arange(500)), lattice.shares)
    first, second = rng.normal(size=(2, 500)), rng.normal(size=(3, 500))
    matrices = rng.normal(size=(len(shares), 2, 3))
    products = np.einsum("gn,kn,ln->gkl", shares, first, second)
    np.testing.assert_allclose(lattice.sum_products(first, second), products, atol=1e-12)
    np.testing.assert_allclose(lattice.sum_by_node(first), shares @ first.T, atol=1e-12)
    mixed = np.einsum("gn,gkl,ln->kn", shares, matrices, second)
    np.testing.assert_allclose(lattice.mix_products(matrices, second), mixed, atol=1e-12)
    np.testing.assert_allclose(lattice.mix(lattice.node_ratios), lattice.node_ratios.T @ shares)
