"""Test outlier_volumes: altered volumes are found, heads that move are not."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.preproc.outlier_volumes import (
    OutlierVolume,
    find_outlier_volumes,
    interpolation_weights,
)
from bids_sr.spatial.transforms import rigid_matrix

SHAPE, VOLUMES, MM = (32, 34, 12), 30, 6.0
AFFINE = np.diag([MM, MM, MM, 1.0])
AFFINE[:3, 3] = -(np.array(SHAPE) - 1) / 2 * MM
NOISE = 8.0
Alter = Callable[[np.ndarray, np.random.Generator], None]


@cache
def _texture() -> np.ndarray:
    """Return a folded pattern on a cube of 64 voxels (4 mm)."""
    folds = ndimage.gaussian_filter(np.random.default_rng(7).normal(size=(64, 64, 64)), 2.5)
    return np.asarray(folds / folds.std())


def _head(motion: np.ndarray) -> np.ndarray:
    """Return a head of brightness 500 to 1000 after `motion` (4 x 4, mm)."""
    points = np.indices(SHAPE).reshape(3, -1)
    moved = np.linalg.inv(motion) @ AFFINE @ np.vstack([points, np.ones(points.shape[1])])
    radius = np.sqrt((moved[:3].T / [66, 78, 60]) ** 2 @ np.ones(3))
    folds = ndimage.map_coordinates(_texture(), moved[:3] / 4 + 32, order=1, mode="nearest")
    return ((750 + 250 * np.tanh(folds)) / (1 + np.exp(15 * (radius - 1)))).reshape(SHAPE)


def _run(poses: np.ndarray | None = None, *, rng: np.random.Generator) -> np.ndarray:
    """Return a run with noise; `poses` are translations (mm) and rotations (rad), (T, 6)."""
    if poses is None:
        heads = np.repeat(_head(np.eye(4))[..., None], VOLUMES, -1)
    else:
        heads = np.stack([_head(rigid_matrix(pose, np.zeros(3))) for pose in poses], -1)
    return np.abs(heads + rng.normal(0, NOISE, heads.shape))


def _find(
    series: np.ndarray, folder: Path, *, tr: float = 2.0, **options: int
) -> tuple[OutlierVolume, ...]:
    save_image(series.astype(np.float32), AFFINE, folder / "bold.nii", tr=tr)
    with SeriesReader(folder / "bold.nii") as reader:
        return find_outlier_volumes(reader, **options)


def _noise(*volumes: int, slices: slice = slice(None)) -> Alter:
    def alter(series: np.ndarray, rng: np.random.Generator) -> None:
        for t in volumes:
            part = series[:, :, slices, t]
            series[:, :, slices, t] = np.abs(rng.normal(0, NOISE, part.shape))

    return alter


def _scale(volume: int, gain: float) -> Alter:
    def alter(series: np.ndarray, _rng: np.random.Generator) -> None:
        series[..., volume] *= gain

    return alter


def _unfinished(series: np.ndarray, _rng: np.random.Generator) -> None:
    series[:, :, 5:, -1] = 0


def _stripes(series: np.ndarray, _rng: np.random.Generator) -> None:
    series[..., 14] += 120 * np.cos(1.9 * np.arange(SHAPE[0]))[:, None, None]


def _inverted(series: np.ndarray, _rng: np.random.Generator) -> None:
    image = series[..., 9]
    series[..., 9] = np.where(image > 250, np.abs(1400 - image), image)


def _copies(series: np.ndarray, _rng: np.random.Generator) -> None:
    series[..., -8:] = series[..., -9:-8]


def _earlier_copies(series: np.ndarray, _rng: np.random.Generator) -> None:
    series[..., -3:] = series[..., 4:5]


@pytest.mark.parametrize(
    ("alter", "expected", "value"),
    [
        (_noise(27, 28, 29), [27, 28, 29], ""),
        (_noise(0), [0], ""),
        (_noise(12, slices=slice(6, 7)), [12], "slice 6"),
        (_unfinished, [29], ""),
        (_scale(10, 1.5), [10], "1.50 times"),
        (_scale(3, 1.05), [3], "1.05 times"),
        (_inverted, [9], ""),
        (_stripes, [14], ""),
        (_copies, list(range(22, 30)), "volume 21"),
        (_earlier_copies, [27, 28, 29], "volume 4"),
    ],
)
def test_volumes_that_do_not_show_the_head_are_found(
    tmp_path: Path, alter: Alter, expected: list[int], value: str
) -> None:
    rng = np.random.default_rng(1)
    series = _run(rng=rng)
    alter(series, rng)
    outliers = _find(series, tmp_path)
    assert [outlier.volume for outlier in outliers] == expected
    assert all(value in outlier.reason for outlier in outliers)


def _jump(start: int, stop: int, size: float) -> np.ndarray:
    poses = np.zeros((VOLUMES, 6))
    poses[start:stop] = [size, size / 2, -size / 2, np.radians(size), 0, np.radians(size / 2)]
    return poses


@pytest.mark.parametrize(
    "poses",
    [
        _jump(15, 30, 4.0),
        _jump(28, 30, 2.0),
        _jump(29, 30, 1.5),
        _jump(12, 13, 1.5),
        np.cumsum(np.random.default_rng(3).normal(0, 0.003, (VOLUMES, 6)) * [99] * 6, axis=0)
        * [1, 1, 1, 0.01, 0.01, 0.01],
    ],
    ids=["a step", "a step before two volumes", "a step at the end", "a nod", "wandering"],
)
def test_a_head_that_moves_is_not_an_outlier(tmp_path: Path, poses: np.ndarray) -> None:
    assert _find(_run(poses, rng=np.random.default_rng(2)), tmp_path) == ()


def test_noise_is_found_although_the_head_moves(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    series = _run(_jump(15, 30, 3.0), rng=rng)
    _noise(14)(series, rng)
    _noise(25, slices=slice(4, 5))(series, rng)
    assert [outlier.volume for outlier in _find(series, tmp_path)] == [14, 25]


def test_drift_blocks_of_global_signal_and_a_step_of_gain_are_no_outliers(tmp_path: Path) -> None:
    t = np.arange(VOLUMES)
    plain = _run(rng=np.random.default_rng(5))
    for gain in (1 + 0.1 * t / VOLUMES, 1 + 0.02 * (t // 5 % 2), 1 + 0.05 * (t >= 15)):
        assert _find(plain * gain, tmp_path) == ()


def test_weights_interpolate_between_the_nearest_other_volumes() -> None:
    assert interpolation_weights([3, 4], 8) == {
        3: {2: pytest.approx(2 / 3), 5: pytest.approx(1 / 3)},
        4: {2: pytest.approx(1 / 3), 5: pytest.approx(2 / 3)},
    }
    assert interpolation_weights([6, 7], 8) == {6: {5: 1.0}, 7: {5: 1.0}}
    # Non-steady-state volumes are not used.
    assert interpolation_weights([2], 8, n_dummy=2) == {2: {3: 1.0}}


@pytest.mark.parametrize(("tr", "n_outliers"), [(2.0, 0), (1.0, 6)])
def test_a_small_change_of_the_gain_is_an_outlier_if_it_lasts_up_to_ten_seconds(
    tmp_path: Path, tr: float, n_outliers: int
) -> None:
    series = _run(rng=np.random.default_rng(0))
    series[..., 12:18] *= 1.05
    assert len(_find(series, tmp_path, tr=tr)) == n_outliers
