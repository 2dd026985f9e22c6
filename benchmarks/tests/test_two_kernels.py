"""Test `benchmarks/two_kernels.py` with outputs that differ in a known way."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from two_kernels import compare, compare_maps, compare_series, distance_from_threshold

SHAPE = (12, 10, 8)
VALUES = np.random.default_rng(0).normal(0, 2, SHAPE)
MAP = "sub-1_task-x_res-hr_contrast-A_stat-z_desc-sbl_statmap.nii.gz"
REGION = "sub-1_task-x_res-hr_label-A_desc-sblFdr_mask.nii.gz"
BRAIN = "sub-1_task-x_desc-brain_mask.nii.gz"


def save_outputs(folder: Path, values: np.ndarray, region: np.ndarray, brain: np.ndarray) -> Path:
    folder.mkdir()
    for name, data in ((MAP, values), (REGION, region), (BRAIN, brain)):
        nib.save(nib.Nifti1Image(data.astype(np.float32), np.eye(4)), folder / name)
    return folder


def test_differences_are_in_standard_deviations() -> None:
    changed = VALUES.copy()
    changed[3, 3, 3] += 0.5 * VALUES.std()
    r, largest = compare_maps(VALUES, changed)
    assert largest == pytest.approx(0.5)
    assert 0.999 < r < 1
    assert compare_maps(VALUES, VALUES.copy()) == (1.0, 0.0)


def save_series(path: Path, values: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return path


def test_series_are_compared_as_maps(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    series = 1000 + rng.normal(size=(*SHAPE, 3))
    series[:2] = 0
    changed = np.where(series, series + rng.normal(0, 0.01, series.shape), 0)
    first = save_series(tmp_path / "first.nii.gz", series)
    second = save_series(tmp_path / "second.nii.gz", changed)
    used = series != 0
    sd = series[used].std()
    assert compare_series(first, first) == (1.0, 0.0)
    assert compare_series(first, second) == pytest.approx(
        (np.corrcoef(series[used], changed[used])[0, 1], np.abs(series - changed).max() / sd)
    )


@pytest.mark.parametrize("volume", [0, 2])
def test_a_series_with_a_missing_value_is_not_equal(tmp_path: Path, volume: int) -> None:
    series = 1000 + np.random.default_rng(1).normal(size=(*SHAPE, 3))
    first = save_series(tmp_path / "first.nii.gz", series)
    series[3, 3, 3, volume] = np.nan
    second = save_series(tmp_path / "second.nii.gz", series)
    assert np.isnan(compare_series(first, second)).all()
    assert np.isnan(compare_series(second, first)).all()


def test_differences_of_a_region_are_measured_from_its_threshold() -> None:
    region = VALUES >= 1
    near = VALUES >= 1.01
    assert distance_from_threshold(region, near, [VALUES]) < 0.02
    assert distance_from_threshold(region, VALUES >= 1.5, [VALUES]) > 0.2
    assert distance_from_threshold(region, near, []) == np.inf


def test_files_that_exceed_the_tolerance_are_listed(tmp_path: Path) -> None:
    brain = np.ones(SHAPE, bool)
    reference = save_outputs(tmp_path / "one", VALUES, VALUES >= 1, brain)
    equivalent = save_outputs(tmp_path / "same", VALUES * (1 + 1e-4), VALUES >= 1.005, brain)
    rows, failures = compare(reference, equivalent)
    assert failures == []
    assert {row["files"]: row["number"] for row in rows} == {
        "brain masks and regions of interest": 1,
        "maps, z": 1,
        "regions": 1,
    }
    brain[5, 5, 5] = False
    different = save_outputs(tmp_path / "other", VALUES + 0.1 * VALUES.std(), VALUES >= 2, brain)
    _, failures = compare(reference, different)
    assert [line.split(":")[0] for line in failures] == [BRAIN, MAP, REGION]
