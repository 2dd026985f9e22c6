"""Combined echoes must have the same grid and timing."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from data.dataset import BidsMaker

from bids_sr.bids import Survey, survey
from bids_sr.config import Paths, Settings

TIMES = [0.0, 0.5, 0.2, 0.7, 0.3, 0.8]


def survey_of(maker: BidsMaker) -> Survey:
    paths = Paths(bids_dir=maker.root, output_dir=maker.root.parent / "out")
    return survey(Settings(paths=paths))


def echoes(maker: BidsMaker, second: dict[str, object], **image: object) -> None:
    maker.subject()
    maker.path("sub-01_task-tap_bold.nii.gz", "func").unlink()
    maker.path("sub-01_task-tap_bold.json", "func").unlink()
    for echo, more in ((1, {}), (2, second)):
        maker.bold(
            f"sub-01_task-tap_echo-{echo}",
            sidecar={"EchoTime": 0.012 * echo, "SliceTiming": TIMES, **more},
        )


def test_echoes_with_the_same_grid_and_timing_are_combined(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    echoes(maker, {})
    result = survey_of(maker)
    assert not result.problems
    assert len(result.subjects[0].runs[0].echoes) == 2


def store_otherwise(path: Path, axes: tuple[int, int, int], *, flipped: int | None = None) -> None:
    """Store the same voxels with other axes first, and with one axis reversed."""
    image = nib.load(path)
    data, affine = image.get_fdata().transpose(*axes, 3), image.affine[:, [*axes, 3]].copy()
    if flipped is not None:
        data = np.flip(data, flipped)
        affine[:, 3] = affine @ [*(np.eye(3)[flipped] * (data.shape[flipped] - 1)), 1]
        affine[:, flipped] *= -1
    tr = image.header.get_zooms()[3]
    turned = nib.Nifti1Image(data.astype("i2"), affine)
    turned.header.set_zooms((*turned.header.get_zooms()[:3], tr))
    turned.to_filename(path)


@pytest.mark.parametrize(
    ("axes", "flipped", "second", "letters"),
    [
        ((0, 1, 2), 0, {}, "LAS"),
        ((0, 1, 2), 2, {"SliceTiming": TIMES[::-1]}, "RAI"),
        ((0, 1, 2), 2, {"SliceEncodingDirection": "k-"}, "RAI"),
        ((2, 0, 1), None, {"SliceEncodingDirection": "i"}, "SRA"),
    ],
)
def test_an_echo_that_is_stored_in_another_order_is_combined_with_a_note(
    tmp_path: Path,
    axes: tuple[int, int, int],
    flipped: int | None,
    second: dict[str, object],
    letters: str,
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    echoes(maker, second)
    store_otherwise(
        maker.path("sub-01_task-tap_echo-2_bold.nii.gz", "func"), axes, flipped=flipped
    )
    result = survey_of(maker)
    assert not result.problems
    assert len(result.subjects[0].runs[0].echoes) == 2
    (note,) = [notice for notice in result.notices if "echo-2" in notice.what]
    assert f"order {letters}" in note.why


def test_an_echo_whose_slices_are_reversed_needs_reversed_slice_times(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    echoes(maker, {})
    store_otherwise(maker.path("sub-01_task-tap_echo-2_bold.nii.gz", "func"), (0, 1, 2), flipped=2)
    (problem,) = survey_of(maker).problems
    assert "reverse order" in str(problem)
    assert "SliceTiming is equal" in str(problem)


def test_an_echo_in_another_place_is_rejected_with_its_distance(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    echoes(maker, {})
    path = maker.path("sub-01_task-tap_echo-2_bold.nii.gz", "func")
    store_otherwise(path, (1, 0, 2), flipped=1)
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 2
    nib.Nifti1Image(image.get_fdata().astype("i2"), affine, image.header).to_filename(path)
    (problem,) = survey_of(maker).problems
    assert "shifted by up to 2 mm" in str(problem)
    assert "echo-2" in str(problem)
    assert "--echo-idx" in str(problem)


@pytest.mark.parametrize(
    "second",
    [{"SliceTiming": TIMES[::-1]}, {"RepetitionTime": 1.0005}],
    ids=lambda sidecar: next(iter(sidecar)),
)
def test_echoes_with_different_timing_are_rejected(
    tmp_path: Path, second: dict[str, object]
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    echoes(maker, second)
    problems = "\n".join(map(str, survey_of(maker).problems))
    assert f"{next(iter(second))} differs from" in problems


@pytest.mark.parametrize(("tr", "unit", "refused"), [(3.0, "sec", True), (1000.0, "sec", False)])
def test_an_echo_whose_header_has_another_repetition_time_is_rejected(
    tmp_path: Path, tr: float, unit: str, *, refused: bool
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    echoes(maker, {})
    path = maker.path("sub-01_task-tap_echo-2_bold.nii.gz", "func")
    image = nib.load(path)
    assert image.header.get_zooms()[3] == 1
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4] = tr
    nib.Nifti1Image(image.get_fdata().astype("i2"), None, image.header).to_filename(path)
    problems = "\n".join(map(str, survey_of(maker).problems))
    assert ("header is 3 s" in problems) is refused
