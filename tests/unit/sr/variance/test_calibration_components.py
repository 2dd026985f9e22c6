"""The components of a calibration are the fluctuations that were put in, whatever else was put on
top.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import numpy.testing as npt
import pytest

from bids_sr.sr.variance import calibration_components as variance_calibration_components
from bids_sr.sr.variance.temporal_components import SeriesError

SHAPE, NOISE = (32, 30, 6), 5.0


def known_sd() -> np.ndarray:
    """Fluctuations of 2 to 22 units, with structure at the voxel's own scale."""
    rng = np.random.default_rng(1)
    return np.asarray(2 + 20 * rng.random(SHAPE) ** 3, dtype=np.float64)


def fluctuations(sd: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Few sources of which each voxel has its own mixture, as physiology and activity are.

    The sources are uncorrelated to one another and to drift, so that each voxel's standard
    deviation is as given.
    """
    mixture = rng.standard_normal((*SHAPE, 4))
    mixture /= np.linalg.norm(mixture, axis=-1, keepdims=True)
    courses = np.linalg.qr(np.hstack([drift_of(count), rng.standard_normal((count, 4))]))[0][:, 2:]
    return sd[..., None] * (mixture @ courses.T) * np.sqrt(count - 2)


def drift_of(count: int) -> np.ndarray:
    return np.stack([np.ones(count), np.linspace(-1, 1, count)], axis=1)


def scene(count: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(series, mask, sd): 800 units, known fluctuations, noise and a drift that is larger than
    both.
    """
    rng = np.random.default_rng(seed)
    sd, mask = known_sd(), np.ones(SHAPE, dtype=bool)
    mask[:4] = False
    series = 800 + fluctuations(sd, count, rng) + NOISE * rng.standard_normal((*SHAPE, count))
    series += rng.uniform(-40, 40, SHAPE)[..., None] * np.linspace(-1, 1, count)
    return series.astype(np.float32), mask, sd


def calibration_components(*given: np.ndarray, **more: np.ndarray) -> SimpleNamespace:
    """Patterns and what is told of them, by name."""
    patterns, told = variance_calibration_components.calibration_components(*given, **more)
    return SimpleNamespace(patterns=patterns, **told)


def strength(found: SimpleNamespace, count: int = 4) -> np.ndarray:
    """Standard deviation of what the strongest components hold: as many as there are sources."""
    return np.sqrt(np.square(found.patterns[:count]).sum(0))


def test_components_and_noise_are_the_known_ones_with_drift_gone() -> None:
    series, mask, sd = scene(count=200)
    found = calibration_components(series, mask, drift=drift_of(200))
    assert found.noise_sd == pytest.approx(NOISE, rel=0.03)
    assert not found.patterns.flags.writeable
    for where in (mask & (sd > NOISE), ~mask & (sd > NOISE)):
        assert np.median(strength(found)[where] / sd[where]) == pytest.approx(1.0, abs=0.03)
        assert np.corrcoef(strength(found)[where], sd[where])[0, 1] > 0.97
    assert (found.dof, found.n_used, found.censored) == (198, 200, [])


def test_noise_is_that_of_white_noise_whatever_is_regressed_out() -> None:
    """The degrees of freedom are right: without them the variance would be too low by a tenth to a
    half.
    """
    rng = np.random.default_rng(3)
    white = rng.standard_normal((*SHAPE, 20)).astype(np.float32)
    for motion, task in ((None, None), (rng.standard_normal((20, 6)), rng.random((20, 2)))):
        found = calibration_components(
            white, np.ones(SHAPE, bool), drift=drift_of(20), motion=motion, task=task
        )
        assert found.noise_sd == pytest.approx(1.0, abs=0.05)
        assert found.noise_share > 0.9
    assert (found.n_drift, found.n_motion, found.n_task, found.dof) == (2, 3, 2, 13)


def test_a_spike_a_spoiled_slice_and_a_jerk_are_left_out(monkeypatch) -> None:
    series, mask, sd = scene(seed=4)
    clean = calibration_components(series, mask, drift=drift_of(20))
    rng = np.random.default_rng(5)
    series[..., 7] += 60 * rng.standard_normal(SHAPE)
    series[:, :, 2, 12] += 32 * rng.standard_normal(SHAPE[:2])
    fd = np.full(20, 0.05)
    fd[0], fd[16] = np.nan, 0.9
    found = calibration_components(series, mask, drift=drift_of(20), fd=fd)
    assert found.censored == [7, 12, 16]
    assert (found.n_used, found.dof) == (17, 15)
    where = mask & (sd > NOISE)
    assert np.median(np.abs(strength(found)[where] / strength(clean)[where] - 1)) < 0.15
    for name in ("_OUTLIER", "_SLICE_OUTLIER"):
        monkeypatch.setattr(variance_calibration_components, name, np.inf)
    kept = calibration_components(series, mask, drift=drift_of(20))
    assert np.median(strength(kept)[where] / strength(clean)[where]) > 1.15


def test_what_follows_head_motion_is_no_noise() -> None:
    series, mask, _ = scene(count=40, seed=6)
    rng = np.random.default_rng(7)
    course = np.cumsum(rng.standard_normal(40)) * 0.1
    series += 60 * rng.standard_normal(SHAPE)[..., None] * course
    motion = np.zeros((40, 6))
    motion[:, 2] = course
    found = calibration_components(series, mask, drift=drift_of(40), motion=motion)
    assert (found.n_motion, found.dof) == (1, 37)
    assert found.noise_sd == pytest.approx(NOISE, rel=0.05)


def test_motion_too_small_to_matter_costs_no_degree_of_freedom() -> None:
    series, mask, _ = scene()
    tiny = 0.01 * np.random.default_rng(8).standard_normal((20, 6))
    found = calibration_components(series, mask, drift=drift_of(20), motion=tiny)
    assert (found.n_motion, found.dof) == (0, 18)


def test_the_task_is_taken_out_where_enough_is_left_and_stays_where_not() -> None:
    series, mask, sd = scene(count=24, seed=9)
    task = np.zeros((24, 1))
    task[6:12] = task[18:] = 1
    active = mask & (np.arange(SHAPE[1])[None, :, None] < 3)
    series[active] += 90 * task[:, 0]
    found = calibration_components(series, mask, drift=drift_of(24), task=task)
    assert found.n_task == 1
    assert np.median(strength(found)[active] / np.maximum(sd[active], NOISE)) < 1.6
    many = np.random.default_rng(10).random((24, 11))
    left = calibration_components(series, mask, drift=drift_of(24), task=many)
    assert (left.n_task, left.dof) == (0, 22)
    assert np.median(strength(left)[active]) > 30


def test_the_input_stays_as_it_is() -> None:
    series, mask, _ = scene()
    before = series.copy()
    calibration_components(series, mask, drift=drift_of(20))
    npt.assert_array_equal(series, before)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s, m: (s[..., :3], m), "3 steady-state volumes, but at least 8"),
        (lambda s, m: (s, np.zeros_like(m)), "brain mask .* is empty"),
        (lambda s, m: (np.full_like(s, 7), m), "constant over time"),
        (lambda s, m: (s * np.nan, m), "NaN"),
        (lambda s, m: (s, m[:-1]), "but the mask has the shape"),
    ],
)
def test_what_has_no_fluctuations_is_refused(spoil, message: str) -> None:
    series, mask = spoil(*scene()[:2])
    with pytest.raises(SeriesError, match=message):
        calibration_components(series, mask, drift=drift_of(series.shape[3]))


def test_too_many_spoiled_volumes_are_said(monkeypatch) -> None:
    series, mask, _ = scene()
    fd = np.where(np.arange(20) < 7, 0.1, 2.0)
    with pytest.raises(SeriesError, match="13 of the 20 volumes"):
        calibration_components(series, mask, drift=drift_of(20), fd=fd)
    monkeypatch.setattr(variance_calibration_components, "_FD_MM", 3.0)
    assert calibration_components(series, mask, drift=drift_of(20), fd=fd).n_used == 20
