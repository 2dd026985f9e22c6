"""Pooling of noise autocorrelation: mask, brightness, own weight, groups and determinism."""

import numpy as np
import pytest

from bids_sr.glm.autoregression import (
    compute_expected_products,
    noise_autocorrelations,
    orthonormal,
)
from bids_sr.glm.lag_bands import single_lags
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import estimate_noise

ZOOMS = (3.0, 3.0, 3.0)
TR = 2.0
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
    return estimate_noise(
        [(slice(0, values.shape[1]), values)], design(len(values)), mask, zooms, TR
    )


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
    noise = estimate_noise([(slice(0, 8 * COUNT), 100 + values)], matrix, mask, ZOOMS, TR)
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
        noise = estimate_noise([(slice(0, count), signals)], columns, mask, ZOOMS, TR)
        return ContrastModel(columns, np.eye(5)[-1:], noise).fit(signals)

    before = maps(values, matrix)
    perturbed = [(values + 1e-4 * rng.standard_normal(values.shape), matrix) for _ in range(2)]
    perturbed.append((values, matrix + 1e-8 * rng.standard_normal(matrix.shape) * [0, 1, 1, 1, 1]))
    for signals, columns in perturbed:
        after = maps(signals, columns)
        for stat in ("effect", "variance", "t", "z"):
            change = np.abs(after[stat] - before[stat]).max() / before[stat].std()
            assert change < 0.005


def test_short_runs_get_fewer_lags_and_constant_series_zero_autocorrelation():
    assert estimate(ar_series(22, np.full(COUNT, 0.2))).rho.shape[1] == 3  # 18 degrees of freedom
    assert estimate(ar_series(6, np.full(COUNT, 0.2))).rho.shape[1] == 1
    constant = estimate(np.full((30, COUNT), 5.0))
    assert (constant.rho == 0).all()


def test_unreachable_targets_are_approximated_without_amplifying_rounding() -> None:
    """Perturb targets of smooth series in a model with many columns by rounding noise."""
    rng = np.random.default_rng(1)
    t = np.arange(60)
    cosines = [np.cos(np.pi * (t + 0.5) * k / 60) for k in range(8)]
    basis = orthonormal(np.column_stack([*cosines, rng.normal(size=(60, 6)).cumsum(axis=0)]))
    products = compute_expected_products(basis, single_lags(6))
    targets = 0.9 ** np.arange(1, 7) - 0.15 + 0.03 * rng.normal(size=(400, 6))
    before = noise_autocorrelations(targets, products, single_lags(6))
    changes = [
        np.abs(
            noise_autocorrelations(
                targets + 1e-7 * rng.normal(size=targets.shape), products, single_lags(6)
            )
            - before
        ).max()
        for _ in range(3)
    ]
    assert max(changes) < 1e-3


def test_width_of_the_neighborhood_is_in_mm():
    """Twice the voxel size leaves an eighth of the voxels in a neighborhood."""
    values = 100 + ar_series(100, np.full(COUNT, 0.4))
    spreads = []
    for size in (2.0, 4.0):
        noise = estimate(values, zooms=(size, size, size))
        spreads.append(noise.mix(noise.rho)[:, 0].std())
    assert spreads[0] < 0.6 * spreads[1]
