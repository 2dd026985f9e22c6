"""Seed correlation: what is cleaned away, what is censored, and maps whose answer is known."""

import numpy as np
import pytest

from bids_sr.stats.glm import seedcorr
from bids_sr.stats.glm.time_series import VoxelCourses

N, TR = 120, 2.0


@pytest.fixture
def params():
    rng = np.random.default_rng(5)
    return np.cumsum(rng.normal(scale=[0.05] * 3 + [0.0005] * 3, size=(N, 6)), axis=0)


def on_disk(tmp_path, values):
    path = tmp_path / "courses"
    np.ascontiguousarray(values, dtype="<f4").tofile(path)
    return VoxelCourses(path=path, n_times=values.shape[0], n_voxels=values.shape[1])


def test_drift_motion_and_its_derivative_are_gone(params):
    design = seedcorr.nuisance(N, TR, params)
    t = np.linspace(-1, 1, N)
    change = np.concatenate([[0], np.diff(params[:, 4])])
    courses = np.stack([3 - t + 2 * t**4, params[:, 2] + 7, change, np.cos(2 * np.pi * np.arange(N) / N)], axis=1)
    assert abs(seedcorr.clean(courses, design)).max() < 1e-9  # the last is 1/240 Hz, below the band
    quintic = np.polynomial.legendre.legval(t, [0] * 5 + [1])
    assert abs(seedcorr.clean(quintic[:, None], seedcorr.nuisance(N, TR, band_hz=(0, 9)))).max() > 0.5


def test_the_band_ends_where_it_says():
    design = seedcorr.nuisance(N, TR, degree=0, band_hz=(0.02, 0.1))
    cycles = np.arange(1, 60)
    waves = np.cos(2 * np.pi * np.arange(N)[:, None] * cycles / N + 0.3)
    left = np.linalg.norm(seedcorr.clean(waves, design), axis=0) / np.linalg.norm(waves, axis=0)
    inside = (cycles / (N * TR) >= 0.02) & (cycles / (N * TR) <= 0.1)
    np.testing.assert_allclose(left[inside], 1, atol=1e-9)
    np.testing.assert_allclose(left[~inside], 0, atol=1e-9)
    # above the Nyquist frequency an end of the band does nothing
    assert seedcorr.nuisance(N, 3.0, band_hz=(0, 2.0)).shape[1] == seedcorr.DEGREE + 1


def test_volumes_after_a_jump_are_censored_in_mm_and_degrees():
    params = np.zeros((6, 6))
    params[2:, 0] = 0.31
    params[3:, 1] = 0.29
    params[4:, 5] = np.radians(0.4)
    assert seedcorr.kept(params).tolist() == [True, True, False, True, False, True]
    params[5, :2] = [0.31 + 0.2, 0.29 + 0.25]  # norm .32
    assert not seedcorr.kept(params)[5]


def test_a_map_is_the_partial_correlation_over_the_volumes_that_are_kept(tmp_path, params):
    rng = np.random.default_rng(0)
    courses = rng.normal(size=(N, 40)) + 100
    courses[:, :20] += rng.normal(size=(N, 1))
    courses += (5 * params[:, :1]) * rng.normal(size=40)
    courses[:, 39] = 100
    keep = np.ones(N, bool)
    keep[[7, 50, 51]] = False
    courses[~keep] += 1000 * rng.normal(size=(3, 40))
    seeds = np.zeros((2, 40), bool)
    seeds[0, 3:6] = seeds[1, 30] = True
    design = seedcorr.nuisance(N, TR, params)
    with on_disk(tmp_path, courses) as scratch:
        found = seedcorr.seed_maps(scratch, seeds, design, keep, budget=2**14)
    stored = courses.astype(np.float32).astype(float)[keep]
    fitted = design[keep] @ np.linalg.lstsq(design[keep], stored, rcond=None)[0]
    rest = stored - fitted
    for s in range(2):
        wanted = [np.corrcoef(rest[:, seeds[s]].mean(1), rest[:, v])[0, 1] for v in range(39)]
        np.testing.assert_allclose(found[s, :39], wanted, atol=1e-6)
    assert found[1, 30] == pytest.approx(1)
    assert found[0, 39] == 0
    assert found[0, :20].mean() > 0.4
    assert abs(found[0, 20:39].mean()) < 0.1


def test_a_seed_is_a_sphere_in_mm_or_the_voxel_it_lies_in():
    affine = np.diag([2.0, 3.0, 1.5, 1])
    affine[:3, 3] = [-20, 5, 7]
    mask = np.ones((20, 20, 20), bool)
    center = affine[:3, :3] @ [10, 10, 10] + affine[:3, 3]
    found = np.argwhere(seedcorr.seed_sphere(mask, affine, center)) - 10
    wanted = [
        (i, j, k) for i in range(-2, 3) for j in range(-2, 3) for k in range(-3, 4)
        if (2 * i) ** 2 + (3 * j) ** 2 + (1.5 * k) ** 2 <= 9
    ]  # fmt: skip
    assert sorted(map(tuple, found.tolist())) == sorted(wanted)
    tiny = seedcorr.seed_sphere(mask, affine, np.add(center, [0.9, 1.4, -0.7]), radius_mm=0.1)
    assert np.argwhere(tiny).tolist() == [[10, 10, 10]]
    mask[8:13, 8:13] = False
    with pytest.raises(ValueError, match="outside the brain"):
        seedcorr.seed_sphere(mask, affine, center)


def test_agreement_by_hand():
    reference = np.array([0.5, 0.9, 0.6, 0.1, -0.8, 0.2])
    found = np.array([0.5, 0.4, 0.7, 0.5, 0.1, 0.2])
    seen = seedcorr.agreement(reference, found)
    assert seen.accuracy == pytest.approx(4 / 6)
    assert seen.false_discovery_rate == pytest.approx(1 / 3)


def test_too_few_volumes_are_refused():
    with pytest.raises(ValueError, match="5 regressors"):
        seedcorr.clean(np.ones((6, 2)), seedcorr.nuisance(6, TR, band_hz=(0, 9)))
    with pytest.raises(ValueError, match="belong"):
        seedcorr.nuisance(6, TR, np.zeros((5, 6)))
