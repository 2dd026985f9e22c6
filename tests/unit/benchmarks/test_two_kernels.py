"""What `benchmarks/two_kernels.py` says of outputs that differ in a known way."""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

from two_kernels import compare, compare_maps, distance_from_threshold

SHAPE = (12, 10, 8)
VALUES = np.random.default_rng(0).normal(0, 2, SHAPE)
MAP = "sub-1_task-x_res-hr_contrast-A_stat-z_desc-sbl_statmap.nii.gz"
REGION = "sub-1_task-x_res-hr_label-A_desc-sblFdr_mask.nii.gz"
BRAIN = "sub-1_task-x_desc-brain_mask.nii.gz"


def saved(folder: Path, values: np.ndarray, region: np.ndarray, brain: np.ndarray) -> Path:
    folder.mkdir()
    for name, data in ((MAP, values), (REGION, region), (BRAIN, brain)):
        nib.save(nib.Nifti1Image(data.astype(np.float32), np.eye(4)), folder / name)
    return folder


def test_differences_are_in_standard_deviations() -> None:
    other = VALUES.copy()
    other[3, 3, 3] += 0.5 * VALUES.std()
    r, largest = compare_maps(VALUES, other)
    assert largest == pytest.approx(0.5)
    assert 0.999 < r < 1
    assert compare_maps(VALUES, VALUES.copy()) == (1.0, 0.0)


def test_a_region_may_differ_at_its_threshold() -> None:
    region = VALUES >= 1
    near = VALUES >= 1.01
    assert distance_from_threshold(region, near, [VALUES]) < 0.02
    assert distance_from_threshold(region, VALUES >= 1.5, [VALUES]) > 0.2
    assert distance_from_threshold(region, near, []) == np.inf


def test_what_does_not_meet_the_bar_is_listed(tmp_path: Path) -> None:
    brain = np.ones(SHAPE, bool)
    one = saved(tmp_path / "one", VALUES, VALUES >= 1, brain)
    same = saved(tmp_path / "same", VALUES * (1 + 1e-4), VALUES >= 1.005, brain)
    rows, beyond = compare(one, same)
    assert beyond == []
    assert {row["files"]: row["number"] for row in rows} == {
        "brain masks and regions of interest": 1,
        "maps, z": 1,
        "regions": 1,
    }
    brain[5, 5, 5] = False
    other = saved(tmp_path / "other", VALUES + 0.1 * VALUES.std(), VALUES >= 2, brain)
    _, beyond = compare(one, other)
    assert [line.split(":")[0] for line in beyond] == [BRAIN, MAP, REGION]
