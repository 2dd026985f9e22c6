"""Series without a mean and phase images are rejected in preflight."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from data.dataset import BidsMaker

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.preflight import check, check_data

Alter = Callable[[np.ndarray], np.ndarray]


def demeaned(values: np.ndarray) -> np.ndarray:
    return values - values.mean(-1, keepdims=True)


def demeaned_with_a_bright_start(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[..., 0] *= 10
    return demeaned(values)


def percent_change(values: np.ndarray) -> np.ndarray:
    mean = values.mean(-1, keepdims=True)
    return 100 * (values - mean) / np.maximum(mean, 1)


def negative(values: np.ndarray) -> np.ndarray:
    return values - values.max() - 1


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    return maker


def settings_of(maker: BidsMaker) -> object:
    out = str(maker.root.parent / "out")
    return parse_settings([str(maker.root), out, "participant", "--skip-bids-validation"])


@pytest.mark.parametrize(
    "alter", [demeaned, demeaned_with_a_bright_start, percent_change, negative]
)
def test_a_series_without_a_mean_is_rejected(maker: BidsMaker, alter: Alter) -> None:
    plan = check(settings_of(maker))
    assert not any("negative" in str(notice) for notice in check_data(plan))
    path = maker.path("sub-01_task-tap_bold.nii.gz", "func")
    image = nib.load(path)
    values = alter(image.get_fdata())
    nib.Nifti1Image(values.astype(np.float32), image.affine).to_filename(path)
    problems = [notice for notice in check_data(plan) if notice.level == "error"]
    assert any("not a magnitude series" in str(problem) for problem in problems)


@pytest.mark.parametrize("name", ["sub-01_T1w.nii.gz", "sub-01_acq-highres_T2starw.nii.gz"])
def test_an_anatomical_image_with_negative_values_is_rejected_with_the_reason(
    maker: BidsMaker, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = maker.path(name, "anat")
    image = nib.load(path)
    inverted = -np.abs(image.get_fdata()) - 1
    nib.Nifti1Image(inverted.astype(np.float32), image.affine).to_filename(path)
    out = maker.root.parent / "out"
    assert main([str(maker.root), str(out), "participant", "--skip-bids-validation"]) == 2
    message = " ".join(capfd.readouterr().err.split())
    assert name in message
    assert "all of the voxel values are negative, so this is not a magnitude image" in message
    assert "constant" not in message
    assert not out.exists()


def test_a_phase_image_named_as_a_magnitude_is_rejected(maker: BidsMaker) -> None:
    maker.bold(sidecar={"ImageType": ["ORIGINAL", "PRIMARY", "P", "NORM"]})
    (problem,) = check(settings_of(maker)).problems
    assert "phase image" in str(problem)
    assert "part-phase" in str(problem)


@pytest.mark.parametrize(("value", "rejected"), [(32767, True), (-900, True), (0, False)])
def test_padding_far_from_all_other_values_is_rejected(
    maker: BidsMaker, value: int, *, rejected: bool
) -> None:
    path = maker.path("sub-01_task-tap_bold.nii.gz", "func")
    image = nib.load(path)
    values = image.get_fdata()
    values[0, :2] = value
    nib.Nifti1Image(values.astype(np.int16), image.affine).to_filename(path)
    plan = check(settings_of(maker))
    problems = [str(notice) for notice in check_data(plan) if notice.level == "error"]
    assert any(f"of the voxels have the value {value}" in text for text in problems) is rejected


def test_saturated_voxels_are_not_mistaken_for_padding(maker: BidsMaker) -> None:
    path = maker.path("sub-01_task-tap_bold.nii.gz", "func")
    image = nib.load(path)
    values = np.minimum(image.get_fdata(), 900)
    nib.Nifti1Image(values.astype(np.int16), image.affine).to_filename(path)
    plan = check(settings_of(maker))
    assert not any("padding" in str(notice) for notice in check_data(plan))
