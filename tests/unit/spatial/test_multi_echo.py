"""Echoes with a known T2*: combined with the weights that follow from it, volume by volume."""

from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.spatial.multi_echo import combine_echoes

SHAPE, T, TES = (5, 4, 3), 19, (12.0, 28.0, 44.0)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])


@pytest.fixture
def echoes(tmp_path: Path) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Series of three echoes, T2* (ms) and S0 over time."""
    rng = np.random.default_rng(1)
    times = rng.uniform(20, 70, SHAPE)
    s0 = 1000 * (1 + 0.02 * rng.normal(size=(*SHAPE, T)))
    paths = []
    for number, te in enumerate(TES, 1):
        data = s0 * np.exp(-te / times)[..., None]
        paths.append(tmp_path / f"echo-{number}.nii.gz")
        save_image(data.astype(np.float32), AFFINE, paths[-1], tr=1.5)
    return paths, times, s0


def test_t2star_and_weights_are_those_that_were_put_in(echoes: tuple, tmp_path: Path) -> None:
    paths, times, s0 = echoes
    found = combine_echoes(paths, TES, tmp_path / "combined.nii")
    assert np.allclose(found, times, rtol=0.01)
    with SeriesReader(tmp_path / "combined.nii") as reader:
        assert (reader.shape, reader.tr) == ((*SHAPE, T), 1.5)
        combined = np.stack(list(reader.volumes()), axis=-1)
    signals = [np.exp(-te / times) for te in TES]
    weights = np.array([te * signal for te, signal in zip(TES, signals, strict=True)])
    expected = (weights * np.array(signals)).sum(axis=0) / weights.sum(axis=0)
    assert np.allclose(combined, s0 * expected[..., None], rtol=0.01)


def test_echoes_of_other_shapes_are_refused(echoes: tuple, tmp_path: Path) -> None:
    paths, _, _ = echoes
    save_image(np.ones((*SHAPE, T - 1), dtype=np.float32), AFFINE, paths[2], tr=1.5)
    with pytest.raises(ValueError, match=r"echo-3\.nii\.gz: its shape"):
        combine_echoes(paths, TES, tmp_path / "combined.nii")
    assert not (tmp_path / "combined.nii").exists()


def test_noise_has_a_t2star_that_tissue_can_have(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.nii")
        save_image(rng.uniform(0, 3, (*SHAPE, T)).astype(np.float32), AFFINE, paths[-1], tr=1.5)
    found = combine_echoes(paths, TES, tmp_path / "combined.nii")
    assert 1 <= found.min() <= found.max() <= 500
    with SeriesReader(tmp_path / "combined.nii") as reader:
        assert np.isfinite(reader.volume(0)).all()
