"""The number of dummy scans does not depend on hot voxels, padding or an offset."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.nifti import save_image
from bids_sr.preproc.nonsteady import count_nonsteady_volumes

SHAPE, N_VOLUMES, DUMMIES = (16, 16, 8), 30, 3
Alter = Callable[[np.ndarray], None]


def series() -> np.ndarray:
    rng = np.random.default_rng(0)
    x, y, z = np.indices(SHAPE)
    head = (x - 7.5) ** 2 + (y - 7.5) ** 2 + 4 * (z - 3.5) ** 2 < 40
    values = np.where(head, 1000.0, 20.0)[..., None] * np.ones(N_VOLUMES)
    values[head, :DUMMIES] *= 1 + np.array([0.4, 0.2, 0.1])
    return values + rng.normal(0, 5, values.shape)


def hot_voxel(values: np.ndarray) -> None:
    values[0, 0, 0] = np.random.default_rng(1).normal(1e7, 1e6, N_VOLUMES)


def offset(values: np.ndarray) -> None:
    values += 1e5


def padding(values: np.ndarray) -> None:
    values[:5] = -30_000.0


def bright_padding(values: np.ndarray) -> None:
    values[:, :4] = 1e6


@pytest.mark.parametrize("alter", [None, hot_voxel, offset, padding, bright_padding])
def test_dummies_are_counted_in_the_head(tmp_path: Path, alter: Alter | None) -> None:
    values = series()
    if alter is not None:
        alter(values)
    save_image(values.astype(np.float32), np.eye(4), tmp_path / "bold.nii", tr=2.0)
    assert count_nonsteady_volumes(tmp_path / "bold.nii") == DUMMIES


TIMES = np.arange(60)


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        (np.ones(60), 0),
        (1 + 0.4 * (TIMES < 1), 1),
        (1 + np.r_[0.5, 0.2, 0.08, 0.03, np.zeros(56)], 4),
        ((1 - 0.0008 * TIMES) * (1 + np.r_[0.3, 0.05, 0.02, np.zeros(57)]), 3),
        (1 - 0.0002 * TIMES, 0),
        (1 + 0.5 * (TIMES == 10), 0),
        (np.r_[0, 1.2, 1.05, np.ones(57)], 3),
        (np.r_[1.4, 0.1, 1.1, np.ones(57)], 3),
        (np.r_[0, np.ones(59)], 0),
        (np.r_[1.4, 1.1, 1.03, np.ones(57)] * (1 - 0.1 * (TIMES % 2)), 3),
        (1 - 0.1 * (TIMES % 2), 0),
        (1 - 0.5 * (TIMES < 3), 0),  # darker volumes at the start are not a T1 transient
    ],
    ids=[
        "steady",
        "one",
        "four",
        "drift after",
        "drift",
        "spike",
        "empty",
        "noise",
        "only",
        "three of alternating contrasts",
        "alternating contrasts",
        "dark",
    ],
)
def test_only_brighter_volumes_at_the_start_are_counted(tmp_path, signal, expected) -> None:
    steady = series()[..., DUMMIES:].mean(axis=-1)
    values = steady[..., None] * (signal + 0.001 * np.random.default_rng(3).normal(size=60))
    save_image(values.astype(np.float32), np.eye(4), tmp_path / "bold.nii", tr=2.0)
    assert count_nonsteady_volumes(tmp_path / "bold.nii") == expected


def test_at_most_the_first_half_of_a_short_run_is_counted(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 0.1, (*SHAPE, 6)) + 20.0
    values[4:12, 4:12, 2:6] += 1000 * np.array([1.4, 1.3, 1.2, 1.1, 1.0, 1.0])
    save_image(values.astype(np.float32), np.eye(4), tmp_path / "bold.nii", tr=2.0)
    assert count_nonsteady_volumes(tmp_path / "bold.nii") == 3


@pytest.mark.parametrize("tr", [0.1, 0.05])
def test_a_transient_of_seconds_is_counted_at_short_tr(tmp_path: Path, tr: float) -> None:
    times = tr * np.arange(round(40 / tr))
    signal = 1 + 0.3 * np.exp(-times / 1.0)  # above 1 % of the steady state for 3.4 s
    steady = series()[..., DUMMIES:].mean(axis=-1)
    noise = 0.001 * np.random.default_rng(3).normal(size=len(times))
    save_image(
        (steady[..., None] * (signal + noise)).astype(np.float32),
        np.eye(4),
        tmp_path / "bold.nii",
        tr=tr,
    )
    assert count_nonsteady_volumes(tmp_path / "bold.nii") * tr == pytest.approx(3.4, abs=0.3)
