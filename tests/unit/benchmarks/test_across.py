"""Test the arithmetic of benchmarks/across.py on known effects."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

import _across_runs
import across

SHAPE = (20, 20, 10)
INSIDE = np.ones(SHAPE, dtype=bool)


def runs_of(
    effect: np.ndarray, noise: float, blocks: tuple[int, int] = (8, 6)
) -> list[np.ndarray]:
    """Return block effects of two runs (B_r, X, Y, n) with independent noise."""
    rng = np.random.default_rng(3)
    return [effect + noise * rng.normal(size=(count, *SHAPE)) for count in blocks]


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.5, 0.5)])
@pytest.mark.parametrize("amplitude", [0.5, 1.0])
def test_explained_variance_is_unbiased_by_noise_of_the_target(
    amplitude: float, shares: tuple[float, float]
) -> None:
    """Noise-free estimates of amplitude a explain 2 a - a²."""
    effect = np.random.default_rng(1).normal(size=SHAPE)
    targets = runs_of(effect, 2.0)
    parts = [np.repeat(amplitude * effect[None] / 14, count, axis=0) for count in (8, 6)]
    values = across.explained_variance(parts, targets, shares, INSIDE)
    assert values[0] == pytest.approx(2 * amplitude - amplitude**2, abs=0.08)
    assert len(values) == 1 + 14


def test_noise_shared_with_the_same_blocks_does_not_count_as_agreement() -> None:
    """Means over the blocks of a run explain 1 minus their noise energy."""
    effect = np.random.default_rng(1).normal(size=SHAPE)
    targets = runs_of(effect, 2.0)
    parts = [targets[0] / 8, np.zeros_like(targets[1])]
    values = across.explained_variance(parts, targets, (1.0, 0.0), INSIDE)
    assert values[0] == pytest.approx(1 - 4 / 8, abs=0.08)


def test_the_interval_is_as_wide_as_the_scatter_of_estimates() -> None:
    rng = np.random.default_rng(0)
    estimates, widths = [], []
    for _ in range(60):
        blocks = 1 + rng.normal(size=12)
        means = np.array([blocks.mean(), *[np.delete(blocks, k).mean() for k in range(12)]])
        estimates.append(means[0])
        widths.append(across.interval(means))
    assert np.mean(widths) == pytest.approx(1.96 * np.std(estimates), rel=0.25)


def test_dephasing_has_the_stated_sd_and_removes_signal() -> None:
    field = _across_runs.dephasing_field((40, 40, 12), 1.0)
    assert np.diff(field, axis=2).std() == pytest.approx(1.0, abs=0.05)
    thin = np.ones((40, 40, 12, 2), dtype=np.float32)
    positions = np.array([0.5, 2.5, 4.5])
    thick = _across_runs.Profile(dephasing=1.0).acquire(thin, positions)
    halves = np.abs(np.cos(np.diff(field, axis=2)[:, :, 0:6:2] / 2))
    np.testing.assert_allclose(thick[..., 0], halves, atol=1e-5)


@pytest.mark.parametrize("profile", [_across_runs.Profile(), _across_runs.Profile(gaussian=True)])
def test_slice_profiles_preserve_constants_and_shift_with_the_object(
    profile: _across_runs.Profile,
) -> None:
    thin = np.random.default_rng(0).normal(size=(4, 4, 12, 3)).astype(np.float32)
    positions = np.array([2.5, 4.5, 6.5])
    np.testing.assert_allclose(profile.acquire(np.ones_like(thin), positions), 1, rtol=1e-6)
    moved = profile.acquire(np.roll(thin, 1, axis=2), positions + 1)
    if not profile.gaussian:  # Gaussian tails reach the ends
        np.testing.assert_allclose(moved, profile.acquire(thin, positions), atol=1e-6)
