"""Copies of a series are found by their noise; runs that share signals are not copies."""

from collections.abc import Callable

import nibabel as nb
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from bids_sr.preproc.copied_series import (
    MIN_COPY_CORRELATION,
    SeriesSample,
    correlate_series,
    find_equal_motion,
)

SHAPE = (24, 28, 16)
AFFINE = np.diag([-3.0, 3.0, 4.0, 1.0])


def make_series(seed: int, n_volumes: int = 60, alternation: float = 0.0) -> np.ndarray:
    """Return a head with a block response of 5 % and thermal noise of 1.5 %."""
    rng = np.random.default_rng(seed)
    distance = np.square(np.indices(SHAPE) / np.array(SHAPE).reshape(3, 1, 1, 1) - 0.5).sum(axis=0)
    head = 1000 * np.exp(-(np.square(distance / 0.18) ** 2)) * (1 + 0.2 * np.sin(np.arange(16)))
    times = np.arange(n_volumes)
    response = 0.05 * np.sin(np.maximum(np.sin(times / 4), 0)) * (distance < 0.02)[..., None]
    signal = head[..., None] * (1 + response + alternation * (-1.0) ** times)
    noise = rng.normal(0, 15, (*signal.shape, 2))
    return np.hypot(signal + noise[..., 0], noise[..., 1])


def sample(series: np.ndarray, affine: np.ndarray = AFFINE) -> SeriesSample:
    result = SeriesSample(series.shape[:3], affine)
    for volume in np.moveaxis(series, -1, 0):
        result.add(volume.ravel(order="F"))
    return result


def each_volume(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda series: np.stack([change(v) for v in np.moveaxis(series, -1, 0)], axis=-1)


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda series: series, 0.999),
        (lambda series: series + 1, 0.999),
        (lambda series: np.rint(0.2 * series), 0.98),
        (lambda series: series[..., 2:], 0.99),
        (lambda series: series[..., :40], 0.9),
        (each_volume(lambda volume: shift(volume, 0.3)), 0.6),
        (each_volume(lambda volume: gaussian_filter(volume, 0.6)), 0.6),
    ],
    ids=["same", "plus one", "rescaled", "cut at the start", "cut at the end", "moved", "smooth"],
)
def test_a_changed_copy_is_correlated(
    change: Callable[[np.ndarray], np.ndarray], least: float
) -> None:
    series = make_series(1)
    assert correlate_series(sample(series), sample(change(series))) > least


def test_storage_order_does_not_matter() -> None:
    series = make_series(1)
    image = nb.Nifti1Image(series, AFFINE)
    turned = image.as_reoriented([[1, -1], [0, 1], [2, -1]])
    other = sample(turned.get_fdata(), turned.affine)
    assert correlate_series(sample(series), other) == pytest.approx(1)


@pytest.mark.parametrize("alternation", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(5))
def test_runs_with_the_same_response_and_alternation_are_not(
    seed: int, alternation: float
) -> None:
    first, second = (make_series(number, alternation=alternation) for number in (seed, seed + 50))
    assert abs(correlate_series(sample(first), sample(second))) < 0.25


def make_motion(seed: int, n_volumes: int = 120) -> np.ndarray:
    """Return motion parameters with drift, noise and a sudden movement at volume 30."""
    rng = np.random.default_rng(seed)
    motion = np.cumsum(rng.normal(0, 0.02, (n_volumes, 6)), axis=0) + rng.normal(
        0, 0.02, (n_volumes, 6)
    )
    motion[30:] += 2
    return motion


def test_only_copies_have_equal_motion() -> None:
    motion = make_motion(0)
    constant = np.concatenate([motion[:, :2], np.zeros((120, 4))], axis=1)
    runs = [make_motion(seed) for seed in range(1, 20)]
    copies = [motion, motion[3:] * 1.01, motion[:60], constant, constant]
    pairs = {(first, second): value for first, second, value in find_equal_motion(copies + runs)}
    assert {(0, 1), (0, 2), (1, 2), (3, 4)} <= pairs.keys()
    assert max(second for _, second in pairs) < len(copies)
    assert pairs[0, 1] > 0.9 > MIN_COPY_CORRELATION
