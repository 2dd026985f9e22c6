"""Copies of a series are found by their noise; runs that share signals are not copies."""

import json
from collections.abc import Callable

import nibabel as nb
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from bids_sr.preproc.copied_series import (
    COPY_CORRELATION,
    NoiseRecord,
    SeriesSample,
    correlate_noise,
    find_copies,
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


def record(series: np.ndarray, affine: np.ndarray = AFFINE) -> NoiseRecord:
    sample = SeriesSample(series.shape[:3], affine)
    for volume in np.moveaxis(series, -1, 0):
        sample.add(np.rint(volume).ravel(order="F"))
    return sample.record_noise()


def correlate(first: NoiseRecord, second: NoiseRecord) -> float:
    return float(correlate_noise([first, second])[0, 1])


def each_volume(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda series: np.stack([change(v) for v in np.moveaxis(series, -1, 0)], axis=-1)


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda series: series, 0.999),
        (lambda series: series + 1, 0.999),
        (lambda series: np.rint(0.2 * series), 0.98),
        (lambda series: series[..., 5:], 0.7),
        (lambda series: series[..., :40], 0.5),
        (each_volume(lambda volume: shift(volume, 0.3)), 0.5),
        (each_volume(lambda volume: gaussian_filter(volume, 0.6)), 0.6),
    ],
    ids=["same", "plus one", "rescaled", "cut at the start", "cut at the end", "moved", "smooth"],
)
def test_a_changed_copy_is_found(change: Callable[[np.ndarray], np.ndarray], least: float) -> None:
    series = make_series(1, n_volumes=70)
    records = [record(make_series(2)), record(series), record(change(series))]
    ((first, second, correlation),) = find_copies(records)
    assert (first, second) == (1, 2)
    assert correlation > least


def test_volumes_that_are_equal_are_found_at_any_lag() -> None:
    series = make_series(1, n_volumes=90)
    records = [record(series), record(series[..., 30:])]
    assert correlate(*records) < COPY_CORRELATION
    assert [*find_copies(records)] == [(0, 1, 1.0)]


def test_a_record_is_stored_in_few_bytes() -> None:
    stored = record(make_series(1))
    text = json.dumps(stored.to_json())
    assert len(text) < 50_000
    restored = NoiseRecord.from_json(json.loads(text))
    assert restored.checksums == stored.checksums
    np.testing.assert_array_equal(restored.noise, stored.noise)


def test_storage_order_does_not_matter() -> None:
    series = make_series(1)
    image = nb.Nifti1Image(series, AFFINE)
    turned = image.as_reoriented([[1, -1], [0, 1], [2, -1]])
    other = record(turned.get_fdata(), turned.affine)
    assert correlate(record(series), other) == pytest.approx(1)


@pytest.mark.parametrize("alternation", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(5))
def test_runs_with_the_same_response_and_alternation_are_not(
    seed: int, alternation: float
) -> None:
    first, second = (make_series(number, alternation=alternation) for number in (seed, seed + 50))
    assert abs(correlate(record(first), record(second))) < 0.15


@pytest.mark.parametrize("size", [0.5, 2.0])
def test_runs_with_movements_at_the_same_moments_are_not(size: float) -> None:
    """Every third volume is moved by voxels along y."""
    runs = []
    for seed in (1, 2):
        series = make_series(seed)
        for volume in range(seed, series.shape[-1], 3):
            series[..., volume] = shift(series[..., volume], (0, size, 0))
        runs.append(record(series))
    assert abs(correlate(*runs)) < 0.15


def test_other_grids_and_short_series_are_not_compared() -> None:
    series = make_series(1)
    records = [record(series), record(series[1:]), record(series[..., :10] + 1)]
    records += [record(series[..., :n_volumes] * scale) for n_volumes, scale in ((3, 2), (40, 0))]
    assert [*find_copies(records)] == []
    assert correlate(records[0], records[2]) == 0
