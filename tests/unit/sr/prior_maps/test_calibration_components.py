"""Test the components of a calibration run: they equal the simulated fluctuations, in spite of
noise, drift, motion and task.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import numpy.testing as npt
import pytest

from bids_sr.sr.prior_maps import calibration_components as variance_calibration_components
from bids_sr.sr.prior_maps.temporal_components import SeriesError

SHAPE, NOISE = (32, 30, 6), 5.0


def known_sd() -> np.ndarray:
    """Return standard deviations of 2 to 22 units that vary from voxel to voxel."""
    rng = np.random.default_rng(1)
    return np.asarray(2 + 20 * rng.random(SHAPE) ** 3, dtype=np.float64)


def fluctuations(sd: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return a few sources with a separate mixture per voxel, like physiology and activity.

    The sources are uncorrelated with each other and with drift, so each voxel has the given
    standard deviation.
    """
    mixture = rng.standard_normal((*SHAPE, 4))
    mixture /= np.linalg.norm(mixture, axis=-1, keepdims=True)
    time_courses = np.linalg.qr(np.hstack([drift_of(count), rng.standard_normal((count, 4))]))[0][
        :, 2:
    ]
    return sd[..., None] * (mixture @ time_courses.T) * np.sqrt(count - 2)


def drift_of(count: int) -> np.ndarray:
    return np.stack([np.ones(count), np.linspace(-1, 1, count)], axis=1)


def scene(count: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (series, mask, sd): 800 units, known fluctuations, noise, and a drift that is larger
    than both.
    """
    rng = np.random.default_rng(seed)
    sd, mask = known_sd(), np.ones(SHAPE, dtype=bool)
    mask[:4] = False
    series = 800 + fluctuations(sd, count, rng) + NOISE * rng.standard_normal((*SHAPE, count))
    series += rng.uniform(-40, 40, SHAPE)[..., None] * np.linspace(-1, 1, count)
    return series.astype(np.float32), mask, sd


def calibration_components(*arrays: np.ndarray, **regressors: np.ndarray) -> SimpleNamespace:
    """Return patterns and facts about them as attributes."""
    patterns, facts = variance_calibration_components.calibration_components(*arrays, **regressors)
    return SimpleNamespace(patterns=patterns, **facts)


def strength(components: SimpleNamespace, count: int = 4) -> np.ndarray:
    """Return the standard deviation of the strongest components, as many as there are sources."""
    return np.sqrt(np.square(components.patterns[:count]).sum(0))


def test_known_fluctuations_and_noise_are_recovered_without_drift() -> None:
    series, mask, sd = scene(count=200)
    before = series.copy()
    components = calibration_components(series, mask, drift=drift_of(200))
    npt.assert_array_equal(series, before)
    assert components.noise_sd == pytest.approx(NOISE, rel=0.03)
    assert not components.patterns.flags.writeable
    for voxels in (mask & (sd > NOISE), ~mask & (sd > NOISE)):
        assert np.median(strength(components)[voxels] / sd[voxels]) == pytest.approx(1.0, abs=0.03)
        assert np.corrcoef(strength(components)[voxels], sd[voxels])[0, 1] > 0.97
    assert (components.dof, components.n_used, components.censored) == (198, 200, [])


def test_the_noise_estimate_accounts_for_regressors() -> None:
    """Without the correct degrees of freedom, the variance would be 10 to 50 % too low."""
    rng = np.random.default_rng(3)
    white = rng.standard_normal((*SHAPE, 20)).astype(np.float32)
    for motion, task in ((None, None), (rng.standard_normal((20, 6)), rng.random((20, 2)))):
        components = calibration_components(
            white, np.ones(SHAPE, bool), drift=drift_of(20), motion=motion, task=task
        )
        assert components.noise_sd == pytest.approx(1.0, abs=0.05)
        assert components.noise_share > 0.9
    assert (components.n_drift, components.n_motion, components.n_task, components.dof) == (
        2,
        3,
        2,
        13,
    )


def test_spikes_bad_slices_and_fast_motion_are_censored() -> None:
    series, mask, sd = scene(seed=4)
    clean = calibration_components(series, mask, drift=drift_of(20))
    rng = np.random.default_rng(5)
    series[..., 7] += 60 * rng.standard_normal(SHAPE)
    series[:, :, 2, 12] += 32 * rng.standard_normal(SHAPE[:2])
    fd = np.full(20, 0.05)
    fd[0], fd[16] = np.nan, 0.9
    components = calibration_components(series, mask, drift=drift_of(20), fd=fd)
    assert components.censored == [7, 12, 16]
    assert (components.n_used, components.dof) == (17, 15)
    voxels = mask & (sd > NOISE)
    assert np.median(np.abs(strength(components)[voxels] / strength(clean)[voxels] - 1)) < 0.15


def test_motion_is_regressed_out_unless_it_is_negligible() -> None:
    series, mask, _ = scene(count=40, seed=6)
    rng = np.random.default_rng(7)
    motion_trace = np.cumsum(rng.standard_normal(40)) * 0.1
    series += 60 * rng.standard_normal(SHAPE)[..., None] * motion_trace
    motion = np.zeros((40, 6))
    motion[:, 2] = motion_trace
    components = calibration_components(series, mask, drift=drift_of(40), motion=motion)
    assert (components.n_motion, components.dof) == (1, 37)
    assert components.noise_sd == pytest.approx(NOISE, rel=0.05)
    tiny = 0.01 * rng.standard_normal((40, 6))
    components = calibration_components(series, mask, drift=drift_of(40), motion=tiny)
    assert (components.n_motion, components.dof) == (0, 38)


def test_the_task_is_regressed_out_only_if_enough_degrees_of_freedom_remain() -> None:
    series, mask, sd = scene(count=24, seed=9)
    task = np.zeros((24, 1))
    task[6:12] = task[18:] = 1
    active = mask & (np.arange(SHAPE[1])[None, :, None] < 3)
    series[active] += 90 * task[:, 0]
    components = calibration_components(series, mask, drift=drift_of(24), task=task)
    assert components.n_task == 1
    assert np.median(strength(components)[active] / np.maximum(sd[active], NOISE)) < 1.6
    many_regressors = np.random.default_rng(10).random((24, 11))
    not_regressed = calibration_components(series, mask, drift=drift_of(24), task=many_regressors)
    assert (not_regressed.n_task, not_regressed.dof) == (0, 22)
    assert np.median(strength(not_regressed)[active]) > 30


@pytest.mark.parametrize(
    ("modify", "message"),
    [
        (lambda s, m: (np.full_like(s, 7), m), "constant over time"),
        (lambda s, m: (s * np.nan, m), "NaN"),
    ],
)
def test_series_without_fluctuations_are_rejected(modify, message: str) -> None:
    series, mask = modify(*scene()[:2])
    with pytest.raises(SeriesError, match=message):
        calibration_components(series, mask, drift=drift_of(series.shape[3]))


def test_too_many_bad_volumes_are_an_error() -> None:
    series, mask, _ = scene()
    fd = np.where(np.arange(20) < 7, 0.1, 2.0)
    with pytest.raises(SeriesError, match=r"13 .* 20 "):
        calibration_components(series, mask, drift=drift_of(20), fd=fd)
