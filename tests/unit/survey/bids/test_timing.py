"""Repetition time, slice times and slice axis from headers and sidecars."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import about, problem_of
from data.dataset import affine_for

from bids_sr.io.image_header import Header
from bids_sr.survey.bids import headers, slice_axis, timing
from bids_sr.survey.notices import Choice, InputError

TIMES = [0.0, 0.3, 0.6, 0.9, 1.2, 1.5]
HEADER = Header(
    path=Path("x_bold.nii.gz"),
    shape=(8, 8, 6, 30),
    zooms=(6.0, 6.0, 4.0),
    tr=2.0,
    affine=affine_for((6, 6, 4)),
    slice_axis=None,
    complex=False,
)


@pytest.mark.parametrize(
    ("header_tr", "value"), [(2.0, 2.0), (1.9999, 2), (None, 2.0), (2000.0, 2), (0.002, 2)]
)
def test_the_repetition_time_of_the_sidecar_is_used(
    header_tr: float | None, value: object
) -> None:
    header = dataclasses.replace(HEADER, tr=header_tr)
    assert timing.require_repetition_time(header, value) == 2.0


@pytest.mark.parametrize(
    ("header_tr", "value", "values"),
    [
        (2.0, None, ['"RepetitionTime": 2']),
        (2000.0, None, ["2000", '"RepetitionTime": 2']),
        (0.002, None, ["2", '"RepetitionTime": 2']),
        (2.0, 2000, ["2000", '"RepetitionTime": 2']),
        *((2.0, value, []) for value in ("2", True, 0, -1, [2.0])),
        (2.0, 2.5, ["2", "2.5"]),
    ],
)
def test_a_repetition_time_that_is_invalid_or_not_that_of_the_header_is_refused(
    header_tr: float, value: object, values: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        timing.require_repetition_time(dataclasses.replace(HEADER, tr=header_tr), value)
    problem_of(caught.value.problems, "x_bold", *values)


def test_milliseconds_in_the_header_are_converted(tmp_path: Path) -> None:
    image = nb.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), HEADER.affine)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 2000
    nb.save(image, tmp_path / "x_bold.nii")
    assert headers.read_header(tmp_path / "x_bold.nii").tr == pytest.approx(2.0)


# ---- volumes


@pytest.mark.parametrize(
    ("times", "n_volumes", "tr"),
    [
        ([0.0, 2.0, 4.001, 6.0], 4, None),
        ([5.0, 7.0, 9.0], 3, 2.0),
        ([0.0, 2.0025, 4.0, 6.0], 4, None),  # in steps of 2.5 ms
    ],
)
def test_equal_intervals_determine_the_repetition_time(
    times: list[float], n_volumes: int, tr: float | None
) -> None:
    spacing = timing.require_spacing(HEADER.path, times, n_volumes, tr)
    assert spacing == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("times", "tr", "values"),
    [
        ([0.0, 2.0, 4.0, 14.0], None, ["2", "10"]),
        ([0.0, 2.0, 4.0, 14.0], 2.0, ["2", "10"]),
        ([0.0, 2.0, 4.0], None, ["3", "4"]),
        ([0.0, 0.0, 2.0, 4.0], None, ["0"]),
        ([0.0, 2.0, 4.001, 6.0], 3.0, ["2", "3"]),
        ([0.0, 0.012, 0.024, 0.0395], None, ["0.012", "0.0155"]),
        ("0 2 4 6", None, []),
    ],
)
def test_invalid_volume_timing_is_refused(
    times: object, tr: float | None, values: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        timing.require_spacing(HEADER.path, times, 4, tr)
    problem_of(caught.value.problems, "x_bold", "VolumeTiming", *values)


# ---- slices


@pytest.mark.parametrize(
    ("sidecar", "expected"),
    [
        ({"SliceTiming": TIMES}, tuple(TIMES)),
        ({"SliceTiming": TIMES, "SliceEncodingDirection": "k-"}, tuple(TIMES[::-1])),
        ({"SliceTiming": [0.0] * 6}, None),
        ({}, None),
    ],
)
def test_slice_times_follow_the_encoding_direction(
    sidecar: dict[str, object], expected: tuple[float, ...] | None
) -> None:
    assert timing.choose_slice_times(HEADER, sidecar, 2.0) == Choice(value=expected)


@pytest.mark.parametrize(
    ("times", "direction", "values"),
    [
        ([0.0, 1.0], "k", ["2", "6"]),
        ([0, 1, 2, 3, 4, 5.0], "k", ["2"]),
        ("0 1", "k", []),
        *(([time] * 6, "k", []) for time in (10**400, float("nan"), 1e300, "0")),
        ([0, 0.1, 0.2, 0.3, 0.4, 0.5], "i", ["i"]),
    ],
)
def test_invalid_slice_times_are_ignored_with_a_notice(
    times: object, direction: str, values: list[str]
) -> None:
    sidecar = {"SliceTiming": times, "SliceEncodingDirection": direction}
    choice = timing.choose_slice_times(HEADER, sidecar, 2.0)
    assert choice.value is None
    (notice,) = about(choice.notices, "x_bold", *values)
    assert notice.level == "note"


@pytest.mark.parametrize(
    ("zooms", "dim_info", "direction", "expected"),
    [
        ((3, 3, 3), None, "", 2),
        ((3, 3, 4), None, "", 2),
        ((4, 3, 3), None, "", 0),
        ((3, 4, 3), None, "", 1),
        ((2, 3, 4), None, "", 2),
        ((4, 3, 3), 2, "", 2),
        ((3, 3, 3), 1, "", 1),
        ((3, 3, 3), 1, "k-", 2),
    ],
)
def test_slice_axis_from_voxel_size_header_and_sidecar(
    zooms: tuple[float, float, float], dim_info: int | None, direction: str, expected: int
) -> None:
    header = dataclasses.replace(HEADER, zooms=zooms, slice_axis=dim_info)
    sidecar = {"SliceEncodingDirection": direction}
    assert slice_axis.find_slice_axis(header, sidecar)[0] == expected


@pytest.mark.parametrize(
    ("shape", "n_times", "expected"),
    [
        ((9, 8, 6), 6, 2),
        ((6, 8, 9), 6, 0),
        ((8, 6, 9), 6, 1),
        ((6, 8, 6), 6, 2),
        ((6, 6, 9), 6, 2),
        ((6, 8, 9), 5, 2),
        ((1, 8, 9), 5, 0),  # a single slice
        ((1, 8, 9), 9, 2),
    ],
)
def test_the_number_of_slice_times_determines_the_slice_axis(
    shape: tuple[int, int, int], n_times: int, expected: int
) -> None:
    header = dataclasses.replace(HEADER, shape=(*shape, 30), zooms=(3.0, 3.0, 3.0))
    assert slice_axis.find_slice_axis(header, {"SliceTiming": [0.1] * n_times})[0] == expected
