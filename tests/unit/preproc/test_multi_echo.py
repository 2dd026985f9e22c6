"""Test combined echoes with known T2*: their weights and values per volume."""

from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.preproc.multi_echo import combine_echoes

SHAPE, T, TES = (5, 4, 3), 19, (12.0, 28.0, 44.0)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])


@pytest.fixture
def echoes(tmp_path: Path) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Return series of three echoes, T2* (ms) and S0 over time."""
    rng = np.random.default_rng(1)
    times = rng.uniform(20, 70, SHAPE)
    s0 = 1000 * (1 + 0.02 * rng.normal(size=(*SHAPE, T)))
    paths = []
    for number, te in enumerate(TES, 1):
        data = s0 * np.exp(-te / times)[..., None]
        paths.append(tmp_path / f"echo-{number}.nii.gz")
        save_image(data.astype(np.float32), AFFINE, paths[-1], tr=1.5)
    return paths, times, s0


def test_known_t2star_and_weights_are_recovered(echoes: tuple, tmp_path: Path) -> None:
    paths, times, s0 = echoes
    t2star = combine_echoes(paths, TES, tmp_path / "combined.nii")
    assert np.allclose(t2star, times, rtol=0.01)
    with SeriesReader(tmp_path / "combined.nii") as reader:
        assert (reader.shape, reader.tr) == ((*SHAPE, T), 1.5)
        combined = np.stack(list(reader.volumes()), axis=-1)
    signals = [np.exp(-te / times) for te in TES]
    weights = np.array([te * signal for te, signal in zip(TES, signals, strict=True)])
    expected = (weights * np.array(signals)).sum(axis=0) / weights.sum(axis=0)
    assert np.allclose(combined, s0 * expected[..., None], rtol=0.01)


@pytest.mark.parametrize(
    ("axes", "flips"),
    [((0, 1, 2), (0,)), ((1, 2, 0), (1, 2))],
)
def test_echoes_that_are_stored_in_another_order_are_combined_voxel_by_voxel(
    echoes: tuple, tmp_path: Path, axes: tuple[int, int, int], flips: tuple[int, ...]
) -> None:
    paths, _, _ = echoes
    expected_t2star = combine_echoes(paths, TES, tmp_path / "expected.nii")
    with SeriesReader(paths[1]) as reader:
        stored = np.stack(list(reader.volumes()), axis=-1).transpose(*axes, 3)
    affine = AFFINE[:, [*axes, 3]].copy()
    for axis in flips:
        stored = np.flip(stored, axis)
        affine[:, 3] += affine[:, axis] * (stored.shape[axis] - 1)
        affine[:, axis] *= -1
    save_image(np.ascontiguousarray(stored), affine, paths[1], tr=1.5)
    t2star = combine_echoes(paths, TES, tmp_path / "combined.nii")
    assert np.array_equal(t2star, expected_t2star)
    with (
        SeriesReader(tmp_path / "combined.nii") as combined,
        SeriesReader(tmp_path / "expected.nii") as expected,
    ):
        assert np.array_equal(combined.affine, expected.affine)
        assert np.array_equal(list(combined.volumes()), list(expected.volumes()))


def test_echoes_with_signal_dropout_do_not_count(tmp_path: Path) -> None:
    shape = (24, 24, 12)
    x, y, z = np.indices(shape)
    head = (x - 11.5) ** 2 + (y - 11.5) ** 2 + 4 * (z - 5.5) ** 2 < 100
    lost = head & (x > 15)  # near the sinuses; the third echo is only noise
    times = np.where(lost, 12.0, 45.0)
    rng = np.random.default_rng(3)
    paths, signals = [], []
    for number, te in enumerate(TES):
        signal = np.where(head, 1000 * np.exp(-te / times), 3.0)
        if number == 2:
            # rectified noise, above the signal expected from T2*
            signal = np.where(lost, 20.0, signal)
        signals.append(signal)
        data = signal[..., None] + rng.normal(0, 1, (*shape, T))
        paths.append(tmp_path / f"{number}.nii")
        save_image(data.astype(np.float32), AFFINE, paths[-1], tr=1.5)
    t2star = combine_echoes(paths, TES, tmp_path / "combined.nii")
    assert np.median(t2star[lost]) == pytest.approx(12.0, rel=0.05)
    assert np.median(t2star[head & ~lost]) == pytest.approx(45.0, rel=0.02)
    weights = np.array([te * np.exp(-te / 12.0) for te in TES[:2]])
    expected = weights @ [signals[0][lost][0], signals[1][lost][0]] / weights.sum()
    with SeriesReader(tmp_path / "combined.nii") as reader:
        assert np.median(reader.volume(9)[lost]) == pytest.approx(expected, rel=0.02)


def test_a_transient_of_seconds_does_not_bias_t2star_at_short_tr(tmp_path: Path) -> None:
    times = 0.1 * np.arange(400)
    paths = []
    for number, te in enumerate(TES):
        # T1 recovery makes the first echo brighter for 8 s
        transient = 1 + (0.5 * (times < 8) if number == 0 else 0.0) * np.ones(len(times))
        data = 1000 * np.exp(-te / 40.0) * np.ones((*SHAPE, 1)) * transient
        paths.append(tmp_path / f"{number}.nii")
        save_image(data.astype(np.float32), AFFINE, paths[-1], tr=0.1)
    t2star = combine_echoes(paths, TES, tmp_path / "combined.nii")
    np.testing.assert_allclose(t2star, 40.0, rtol=0.01)
