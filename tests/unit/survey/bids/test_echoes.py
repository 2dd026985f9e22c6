"""Echoes are combined if they have one grid and one timing, in any order of storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data.calls import about, problem_of
from data.dataset import BidsMaker, affine_for

from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.echoes import Echo, judge_echoes, read_echoes
from bids_sr.survey.bids.layout import open_index
from bids_sr.survey.notices import InputError

TIMES = [0.0, 0.5, 0.2, 0.7, 0.3, 0.8]
NAME = "sub-01_task-tap_echo-{}_bold.nii.gz"
SHAPE = (8, 8, 6)


def make_echo(
    number: int,
    te_ms: float = 0.0,
    *,
    axes: Sequence[int] = (0, 1, 2),
    flipped: int | None = None,
    shift: float = 0.0,
    tr: float = 1.0,
    **sidecar: object,
) -> Echo:
    """Return an echo whose voxels are stored with other axes first, one axis reversed."""
    affine = affine_for((6.0, 6.0, 4.0))[:, [*axes, 3]]
    shape = tuple(SHAPE[axis] for axis in axes)
    if flipped is not None:
        affine[:, 3] = affine @ [*(np.eye(3)[flipped] * (shape[flipped] - 1)), 1]
        affine[:, flipped] *= -1
    affine[0, 3] += shift
    header = Header(
        path=Path(NAME.format(number)),
        shape=(*shape, 30),
        zooms=tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist()),
        tr=tr,
        affine=affine,
        slice_axis=None,
        complex=False,
    )
    content = {"RepetitionTime": 1.0, "SliceTiming": TIMES, **sidecar}
    return Echo(header=header, sidecar=content, te_ms=te_ms or 12.0 * number)


def judge_second(second: Echo) -> list[Notice]:
    """Return the notices on two echoes, except for the note on their combination."""
    notices = [*judge_echoes([make_echo(1), second])]
    combined = about(notices, "sub-01_task-tap", "12", "24")
    assert len(combined) == 1
    return [notice for notice in notices if notice not in combined]


@pytest.mark.parametrize(
    ("storage", "sidecar", "letters"),
    [
        ({}, {}, None),
        ({"flipped": 0}, {}, "LAS"),
        ({"flipped": 2}, {"SliceTiming": TIMES[::-1]}, "RAI"),
        ({"flipped": 2}, {"SliceEncodingDirection": "k-"}, "RAI"),
        ({"axes": (2, 0, 1)}, {"SliceEncodingDirection": "i"}, "SRA"),
        ({}, {"RepetitionTime": 1.001}, None),
        ({}, {"RepetitionTime": 0.999}, None),
        ({}, {"SliceTiming": [time + 0.0025 for time in TIMES]}, None),
        ({"tr": 1000.0}, {}, None),  # in milliseconds
    ],
)
def test_echoes_on_one_grid_are_combined_in_any_order_of_storage(
    storage: Mapping[str, object], sidecar: Mapping[str, object], letters: str | None
) -> None:
    notices = judge_second(make_echo(2, **storage, **sidecar))  # type: ignore[arg-type]
    assert {notice.level for notice in notices} <= {"note"}
    assert len(notices) == len(about(notices, "echo-2", letters or "")) == (letters is not None)


@pytest.mark.parametrize(
    ("storage", "sidecar", "values"),
    [
        ({"flipped": 2}, {}, ["SliceTiming", "reverse"]),  # slice times must be reversed, too
        ({}, {"SliceTiming": TIMES[::-1]}, ["SliceTiming"]),
        ({}, {"RepetitionTime": 1.002}, ["RepetitionTime", "1.002"]),
        ({"axes": (1, 0, 2), "flipped": 1, "shift": 2.0}, {}, ["2"]),
        ({"tr": 3.0}, {}, ["3"]),
        ({"tr": 1.002}, {}, ["1.002"]),
    ],
)
def test_echoes_with_another_place_or_timing_are_refused(
    storage: Mapping[str, object], sidecar: Mapping[str, object], values: Sequence[str]
) -> None:
    notices = judge_second(make_echo(2, **storage, **sidecar))  # type: ignore[arg-type]
    problems = [notice for notice in notices if notice.level == "error"]
    problem_of(problems, "echo-2", NAME.format(1), "--echo-idx", *values)


def test_echoes_of_another_shape_or_equal_time_are_refused() -> None:
    first = make_echo(1)
    longer = make_echo(2)
    longer = replace(longer, header=replace(longer.header, shape=(*SHAPE, 31)))
    assert about(judge_echoes([first, longer]), "echo-2", "31")
    (problem,) = judge_echoes([first, make_echo(2, 12.5)])
    assert about([problem], "echo-2", "12.5", "12", NAME.format(1), "--echo-idx")


@pytest.mark.parametrize(
    ("times", "file", "values"),
    [
        ((None, 0.028), "echo-1_bold", ["EchoTime", "None"]),
        ((0.012, 12.0), "echo-2_bold", ["12.0", '"EchoTime": 0.012', "--echo-idx"]),
    ],
)
def test_echoes_without_an_echo_time_are_refused(
    maker: BidsMaker, times: tuple[float | None, ...], file: str, values: Sequence[str]
) -> None:
    paths = [
        maker.bold(f"sub-01_task-tap_echo-{number}", sidecar={"EchoTime": time})
        for number, time in enumerate(times, 1)
    ]
    with pytest.raises(InputError) as refusal:
        read_echoes(open_index(maker.root, ["01"], ["01"], None, {}), paths)
    problem_of(refusal.value.problems, file, *values)


def test_the_order_of_echo_times_is_noted_if_it_is_not_that_of_the_numbers() -> None:
    echoes = [make_echo(3, 14.0), make_echo(1, 30.0), make_echo(2, 45.0)]
    (notice,) = judge_echoes(echoes)
    assert about([notice], "sub-01_task-tap", "14", "30", "45", "echo-3, echo-1, echo-2")
