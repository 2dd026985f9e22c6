"""Pooling of the noise's autocorrelation: within the mask, by brightness, own share, groups, and
determinism.
"""

import numpy as np
import pytest
from scipy import ndimage, signal

from bids_sr.glm import noise as pooling
from bids_sr.glm.autoregression import expected_products, orthonormal, unseen
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import _lag_ratios, _lattice, _Neighborhood, estimate_noise
from bids_sr.spatial.lag_products import center
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA

ZOOMS = (3.0, 3.0, 3.0)
SHAPE = (16, 16, 8)
COUNT = 16 * 16 * 8


def design(n):
    time = np.linspace(-1, 1, n)
    return np.stack([np.ones(n), time, np.sin(9 * time), np.cos(9 * time)], axis=1)


def courses(n, rho, seed=0):
    """(n, voxels) with a coefficient for each voxel, unit innovations."""
    out = np.random.default_rng(seed).standard_normal((n, len(rho)))
    out[0] /= np.sqrt(1 - rho**2)
    for t in range(1, n):
        out[t] += rho * out[t - 1]
    return out


def estimate(values, mask=None, zooms=ZOOMS, **options):
    mask = np.ones(SHAPE, dtype=bool) if mask is None else mask
    return estimate_noise(
        [(slice(0, values.shape[1]), values)], design(len(values)), mask, zooms, **options
    )


def test_ratios_are_those_of_residuals():
    values, matrix = courses(40, np.full(5, 0.4)), design(40)
    values[:, 4] = 3 + 2 * matrix[:, 1]  # fitted to rounding
    found, known, mean = _lag_ratios(values, orthonormal(matrix), 2)
    rest = values - matrix @ np.linalg.lstsq(matrix, values, rcond=None)[0]
    for lag in (1, 2):
        expected = (rest[lag:] * rest[:-lag]).sum(axis=0) / (rest**2).sum(axis=0)
        np.testing.assert_allclose(found[lag - 1, :4], expected[:4])
    assert known.tolist() == [True, True, True, True, False]
    np.testing.assert_allclose(mean, values.mean(axis=0))
    assert (found[:, 4] == 0).all()


@pytest.mark.parametrize("n", [60, 200])
def test_homogeneous_noise_is_found_without_bias_and_shared(n):
    found = estimate(100 + courses(n, np.full(COUNT, 0.4)))
    mean = found.mixed(found.rho).mean(axis=0)
    # of 2048 voxels: a scatter of .2 each in 60 volumes leaves .005, twice that with what the
    # design hides
    np.testing.assert_allclose(mean[:3], 0.4 ** np.arange(1, 4), atol=0.02)
    assert found.mixed(found.rho)[:, 0].std() < 0.05


def test_neither_confounds_nor_the_ratio_leave_a_bias():
    """Twelve random walks in 60 volumes; the ratio's own bias alone would be .03."""
    walks = np.random.default_rng(4).standard_normal((60, 12)).cumsum(axis=0)
    matrix = np.hstack([np.ones((60, 1)), walks])
    values, mask = courses(60, np.full(8 * COUNT, 0.6), seed=5), np.ones((32, 32, 16), dtype=bool)
    found = estimate_noise([(slice(0, 8 * COUNT), 100 + values)], matrix, mask, ZOOMS)
    mean = found.mixed(found.rho)[:, 0].mean()
    assert mean == pytest.approx(0.6, abs=0.01)  # .2 a voxel: .0016 by counting


def test_tissues_of_different_brightness_are_told_apart():
    """Stripes thinner than the neighborhood: only brightness and the voxels themselves can tell
    them.
    """
    kind = (np.indices(SHAPE)[0] // 2 % 2).ravel()
    rho = np.where(kind, 0.55, 0.15)
    values = courses(150, rho)
    flat = estimate(100 + values)
    bright = estimate(100 + 20 * kind + values)
    for found, most in ((bright, 0.08), (flat, 0.16)):
        own = found.mixed(found.rho)[:, 0]
        assert np.sqrt(np.mean((own - rho) ** 2)) < most  # .2 if all voxels are taken to be alike
    own = bright.mixed(bright.rho)[:, 0]
    step = own[kind == 1].mean() - own[kind == 0].mean()
    assert step == pytest.approx(0.4, abs=0.06)


def test_doubt_is_named_where_voxels_differ_and_only_there():
    like = estimate(100 + courses(100, np.full(COUNT, 0.3)))
    mixed = estimate(100 + courses(100, np.random.default_rng(3).choice([0.0, 0.6], COUNT)))

    def doubt(found):
        return float(found.mixed(found.spread)[:, 0, 0].mean())

    assert abs(doubt(like)) < 0.004
    # .09 is the variance of the two coefficients; own courses tell part of it
    assert 0.01 < doubt(mixed) < 0.09


def test_nothing_outside_the_mask_counts():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:9, 3:12, 1:6] = True
    mask[4, 5, 3] = False
    values = courses(80, np.full(mask.sum(), 0.3))
    wide = np.zeros((20, 20, 10), dtype=bool)
    wide[4:11, 6:15, 2:7] = mask[2:9, 3:12, 1:6]
    first, second = estimate(values, mask), estimate(values, wide)
    np.testing.assert_allclose(first.mixed(first.rho), second.mixed(second.rho), atol=1e-9)


def test_means_are_normalized_at_edges_in_planes_and_alone():
    for shape, known in (((12, 12, 1), 144), ((1, 1, 1), 1)):
        around = _Neighborhood(np.ones(known, dtype=bool), np.ones(shape, dtype=bool), ZOOMS, 12.0)
        np.testing.assert_allclose(around(np.full((1, known), 2.5)), 2.5)
        assert (around.own <= 1 + 1e-12).all()
        assert (around.squares <= around.own).all()
    assert around.own[0] == pytest.approx(1)
    inner = _Neighborhood(
        np.ones(31**3, dtype=bool), np.ones((31, 31, 31), dtype=bool), ZOOMS, 12.0
    )
    impulse = np.zeros((1, 31**3))
    impulse[0, 31**3 // 2] = 1.0
    weights = inner(impulse)[0]
    assert inner.own[31**3 // 2] == pytest.approx(weights.max(), rel=1e-6)
    assert inner.squares[31**3 // 2] == pytest.approx((weights**2).sum(), rel=1e-4)


def test_neighbors_are_averaged_alike_with_more_space_around_the_mask():
    rng = np.random.default_rng(0)
    mask = rng.random((9, 8, 6)) < 0.7
    known = rng.random(int(mask.sum())) < 0.9
    values = rng.normal(size=(2, len(known)))
    padded = np.pad(mask, ((3, 9), (0, 5), (20, 1)))
    means = _Neighborhood(known, mask, ZOOMS, 6.0)(values)
    np.testing.assert_array_equal(_Neighborhood(known, padded, ZOOMS, 6.0)(values), means)
    smooth = []
    for row in (*(values * known), known.astype(float)):
        volume = np.zeros(padded.shape)
        volume[padded] = row
        sigma = 6.0 / FWHM_PER_SIGMA / 3.0
        smooth.append(ndimage.gaussian_filter(volume, sigma, mode="constant")[padded])
    np.testing.assert_allclose(means, np.stack(smooth[:2]) / smooth[2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centered_series_and_their_facts_are_those_of_numpy(dtype):
    series = (1000 + 30 * np.random.default_rng(0).normal(size=(40, 7))).astype(dtype)
    series[:, 2] *= -1
    series[:, 3] = 0.1
    centered, about = np.empty((40, 7)), np.full((3, 7), np.nan)
    center(series, centered, about)
    known = series.astype(float) - series.mean(axis=0, dtype=float)
    np.testing.assert_allclose(centered, known, atol=1e-12)
    np.testing.assert_allclose(about[0], series.mean(axis=0, dtype=float), rtol=1e-14)
    np.testing.assert_allclose(about[1], (known**2).sum(axis=0), rtol=1e-12, atol=1e-24)
    np.testing.assert_array_equal(about[2], np.abs(series).max(axis=0))


def test_width_is_in_millimeters():
    fine = _Neighborhood(
        np.ones(40, dtype=bool), np.ones((40, 1, 1), dtype=bool), (1.5, 3, 3), 12.0
    )
    coarse = _Neighborhood(
        np.ones(20, dtype=bool), np.ones((20, 1, 1), dtype=bool), (3.0, 3, 3), 12.0
    )
    assert fine.own[20] == pytest.approx(coarse.own[10] / 2, rel=0.01)


def mixed_ratios(lattice):
    return np.stack([lattice.mixed(column) for column in lattice.places.T])


def test_a_lattice_shows_the_ratios_of_its_voxels_with_few_nodes():
    rng = np.random.default_rng(0)
    alike = 0.3 + 0.005 * rng.standard_normal((6, 500))
    assert len(_lattice(alike).places) <= 9
    # two parameters, bent in the space of lags
    decay, depth = rng.uniform(0.3, 0.8, 4000), rng.uniform(0.2, 0.6, 4000)
    ratios = depth * decay ** np.arange(6)[:, None]
    lattice = _lattice(ratios)
    assert len(lattice.places) < 120
    np.testing.assert_allclose(lattice.shares.sum(axis=0), 1)
    assert lattice.shares.min() >= 0
    np.testing.assert_array_equal(lattice.cells[lattice.labels].T, lattice.nodes)
    error = np.abs(mixed_ratios(lattice) - ratios).mean()
    assert error < 0.01
    assert np.abs(ratios - ratios.mean(axis=1, keepdims=True)).mean() > 0.05


@pytest.mark.parametrize("order", [1, 2, 6])
@pytest.mark.parametrize("count", [1, 6, 2000])
def test_a_lattice_moves_with_its_voxels(order, count):
    """Rounding puts some voxels into another cell, which must not matter."""
    rng = np.random.default_rng(order)
    slopes = rng.normal(size=(order, order)) * np.geomspace(0.1, 0.01, order)
    ratios = slopes @ rng.standard_normal((order, count))
    moved = ratios + 1e-8 * rng.standard_normal(ratios.shape)
    before, after = (mixed_ratios(_lattice(values)) for values in (ratios, moved))
    assert np.abs(after - before).max() < 1e-6


@pytest.mark.parametrize("size", [8, 3])
def test_maps_do_not_depend_on_rounding(size):
    """Tissues with different noise, in a large mask and in a small one."""
    rng = np.random.default_rng(0)
    shape, count = (2 * size, 2 * size, size), 4 * size**3
    values = 100 + courses(100, rng.choice([0.1, 0.4, 0.8], count), seed=1)
    values += 0.5 * courses(100, np.full(count, 0.97), seed=2) * rng.random(count)
    matrix = np.column_stack([design(100), np.sin(np.arange(100) / 4)])

    def maps(signals, columns):
        mask = np.ones(shape, dtype=bool)
        found = estimate_noise([(slice(0, count), signals)], columns, mask, ZOOMS)
        return ContrastModel(columns, np.eye(5)[-1:], found).fit(signals)

    before = maps(values, matrix)
    moved = [(values + 1e-4 * rng.standard_normal(values.shape), matrix) for _ in range(4)]
    moved.append((values, matrix + 1e-8 * rng.standard_normal(matrix.shape) * [0, 1, 1, 1, 1]))
    for signals, columns in moved:
        after = maps(signals, columns)
        for stat in ("effect", "variance", "t", "z"):
            change = np.abs(after[stat] - before[stat]).max() / before[stat].std()
            assert change < 0.005


def test_blocks_and_repetitions_change_nothing():
    values = 100 + courses(70, np.full(COUNT, 0.3))
    whole = estimate(values)
    parts = [(slice(k, k + 300), values[:, k : k + 300]) for k in range(0, COUNT, 300)]
    again = estimate_noise(iter(parts), design(70), np.ones(SHAPE, dtype=bool), ZOOMS)
    np.testing.assert_allclose(whole.mixed(whole.rho), again.mixed(again.rho), atol=1e-9)


def test_short_runs_get_fewer_lags_and_silent_ones_none():
    assert estimate(courses(22, np.full(COUNT, 0.2))).rho.shape[1] == 3  # 18 degrees of freedom
    assert estimate(courses(6, np.full(COUNT, 0.2))).rho.shape[1] == 1
    silent = estimate(np.full((30, COUNT), 5.0))
    assert (silent.rho == 0).all()


def test_noise_near_a_random_walk_stays_stationary():
    walk = signal.lfilter(
        [1.0], [1.0, -1.0], np.random.default_rng(0).standard_normal((80, COUNT)), axis=0
    )
    found = estimate(walk)
    assert np.isfinite(found.rho).all()
    assert np.isfinite(found.spread).all()
    assert np.abs(found.rho).max() < 1


def test_brightness_may_be_given(monkeypatch):
    seen = []
    monkeypatch.setattr(
        pooling,
        "_pooled_ratios",
        lambda ratios, level, around: seen.append(level) or around(ratios),
    )
    level = np.arange(COUNT, dtype=float)
    estimate(courses(30, np.full(COUNT, 0.0)), level=level)
    assert np.array_equal(seen[0], level)


def test_the_methods_text_gives_width_and_order():
    from bids_sr.steps.activation import describe_maps

    words = describe_maps(
        kinds=("glm",),
        thresholds=(),
        smoothing=(0.0,),
        high_pass=0.01,
        low_pass=None,
        nuisance=None,
        correlation_confounds=False,
        at_rest=False,
    )
    assert words.startswith("Activation was mapped")
    assert f"{pooling.FWHM_MM:g} mm FWHM" in words
    assert f"autoregressive of order {pooling.ORDER}" in words


def test_a_target_that_no_process_shows_is_approached_the_same_way() -> None:
    """Targets of smooth series in a model with many columns, with and without rounding noise."""
    rng = np.random.default_rng(1)
    t = np.arange(60)
    cosines = [np.cos(np.pi * (t + 0.5) * k / 60) for k in range(8)]
    basis = orthonormal(np.column_stack([*cosines, rng.normal(size=(60, 6)).cumsum(axis=0)]))
    products = expected_products(basis, 6)
    targets = 0.9 ** np.arange(1, 7) - 0.15 + 0.03 * rng.normal(size=(400, 6))
    before = unseen(targets, products)
    moved = [
        np.abs(unseen(targets + 1e-7 * rng.normal(size=targets.shape), products) - before).max()
        for _ in range(10)
    ]
    assert max(moved) < 1e-3
