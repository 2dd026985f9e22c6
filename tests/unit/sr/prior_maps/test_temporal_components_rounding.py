"""Test that components do not depend on the signs and last digits of eigenvectors."""

from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.preproc.confound_table import principal_components
from bids_sr.sr.prior_maps.temporal_components import temporal_statistics

SHAPE = (9, 8, 4)
COUNT = 40


def perturb_eigenvectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return eigenvectors with random signs and rounding noise from now on."""
    eigh = np.linalg.eigh
    rng = np.random.default_rng(9)

    def perturbed(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = eigh(matrix)
        noise = 1 + 1e-14 * rng.normal(size=vectors.shape)
        return values, vectors * rng.choice([-1, 1], len(values)) * noise

    monkeypatch.setattr(np.linalg, "eigh", perturbed)


def test_compcor_components_have_reproducible_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time courses are odd: their largest and smallest values have the same distance from 0."""
    times = (np.arange(COUNT) + 0.5) / COUNT
    time_courses = np.stack([np.sin(2 * np.pi * times * k) for k in (3, 4, 5, 6)])
    weights = np.array([[4.0, 1, 0, 0], [0, 3, 1, 0], [0, 0, 2.5, 1], [1, 0, 0, 2]])
    voxels = [weights @ time_courses]
    before = principal_components(voxels, 2.0)[0]
    perturb_eigenvectors(monkeypatch)
    for _ in range(5):
        after = principal_components(voxels, 2.0)[0]
        np.testing.assert_allclose(after, before, atol=1e-10)


def run(folder: Path, series: np.ndarray) -> SeriesReader:
    save_image(series.astype(np.float32), np.diag([3.0, 3, 4, 1]), folder / "run.nii", tr=0.0)
    return SeriesReader(folder / "run.nii")


def test_components_of_a_run_have_reproducible_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = 100 + np.random.default_rng(1).normal(size=(*SHAPE, COUNT))
    mask = np.ones(SHAPE, bool)
    with run(tmp_path, series) as reader:
        before = temporal_statistics(reader, mask, with_segments=True)
        perturb_eigenvectors(monkeypatch)
        after = temporal_statistics(reader, mask, with_segments=True)
    np.testing.assert_allclose(after.components, before.components, atol=1e-5)
    for segment, expected in zip(after.segments, before.segments, strict=True):
        np.testing.assert_allclose(segment, expected, atol=1e-5)


def test_components_of_nearly_equal_size_are_not_mixed(tmp_path: Path) -> None:
    """Amplitudes of the two components differ by a millionth."""
    rng = np.random.default_rng(2)
    time_courses = np.linalg.qr(rng.normal(size=(COUNT, 2)))[0]
    time_courses -= time_courses.mean(axis=0)
    time_courses = np.linalg.qr(time_courses)[0]
    images = np.linalg.qr(rng.normal(size=(np.prod(SHAPE), 2)))[0] * (300, 300 * (1 - 1e-6))
    series = 64 + (images @ time_courses.T).reshape(*SHAPE, COUNT)
    with run(tmp_path, series) as reader:
        components = temporal_statistics(reader, np.ones(SHAPE, bool), components=2).components
    change = series.astype(np.float32).reshape(-1, COUNT).astype(np.float64)
    change -= change.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    vectors, sizes, _ = np.linalg.svd(change, full_matrices=False)
    expected = (vectors[:, :2] * sizes[:2] / np.sqrt(COUNT)).T.reshape(2, *SHAPE)
    signs = np.sign((components * expected).sum(axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(components * signs, expected, atol=0.01 * float(expected.std()))
