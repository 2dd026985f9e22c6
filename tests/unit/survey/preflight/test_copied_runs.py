"""Copied runs are left out if their events are the same, and both are processed otherwise."""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import plan_for
from data.dataset import EVENTS, BidsMaker

from bids_sr.io.notices import Notice
from bids_sr.survey.preflight.checks import exclude_runs
from bids_sr.survey.preflight.voxel_checks import check_data

LATER_EVENTS = [(onset + 1, *rest) for onset, *rest in EVENTS]


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    return BidsMaker(tmp_path / "bids")


def write_copies(maker: BidsMaker, *stems: str, offset: float = 1) -> None:
    """Write the same noise under several names, with values that are larger by `offset`."""
    noise = np.random.default_rng(0).integers(50, 1000, (8, 8, 6, 30))
    for number, stem in enumerate(stems):
        maker.bold(stem, data=(noise + number * offset).astype("float32"))
        maker.events(stem)


def check_voxels(maker: BidsMaker, *options: str) -> dict[str, Notice]:
    """Return the notices that mention a copy, by run."""
    plan = plan_for(maker, "--sr-method", "bspline", "--sr-factor", "2", *options)
    assert plan.problems == ()
    notices = [notice for notice in check_data(plan) if "copy" in notice.why]
    problems = [notice for notice in notices if notice.level == "error"]
    remaining = exclude_runs(plan, problems)
    rejected = {notice.run for notice in problems}
    assert {run.stem for run in plan.runs} - {run.stem for run in remaining.runs} == rejected
    return {notice.run: notice for notice in notices}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sub-01_task-tap_run-1", "sub-01_task-tap_run-2"),
        ("sub-01_ses-1_task-tap", "sub-01_ses-2_task-tap"),
    ],
)
def test_a_copy_with_the_same_events_is_left_out(
    maker: BidsMaker, first: str, second: str
) -> None:
    write_copies(maker, first, second)
    problems = check_voxels(maker)
    assert [(run, notice.level) for run, notice in problems.items()] == [(second, "error")]
    assert f"{first}_bold.nii.gz" in problems[second].why
    assert problems[second].remedy


@pytest.mark.parametrize("case", ["onsets", "absent", "task"])
def test_copies_with_other_events_are_both_processed_with_a_warning(
    maker: BidsMaker, case: str
) -> None:
    first = "sub-01_task-tap_run-1"
    second = "sub-01_task-press_run-2" if case == "task" else "sub-01_task-tap_run-2"
    write_copies(maker, first, second)
    if case == "onsets":
        maker.events(second, LATER_EVENTS)
    elif case == "absent":
        maker.path(f"{second}_events.tsv", "func").unlink()
    problems = check_voxels(maker)
    ((run, notice),) = problems.items()
    assert notice.level == "warning"
    (other,) = {first, second} - {run}
    assert f"{other}_bold.nii.gz" in notice.why


def test_variants_of_one_acquisition_and_other_noise_are_not_copies(maker: BidsMaker) -> None:
    write_copies(maker, "sub-01_task-tap_run-1", "sub-01_task-tap_rec-moco_run-1")
    maker.bold("sub-01_task-tap_run-2")
    maker.events("sub-01_task-tap_run-2")
    assert check_voxels(maker) == {}


def test_the_copy_of_a_damaged_run_is_kept(maker: BidsMaker) -> None:
    stems = "sub-01_task-tap_run-1", "sub-01_task-tap_run-2"
    write_copies(maker, *stems)
    path = maker.path(f"{stems[0]}_bold.nii.gz", "func")
    image = nb.load(path)
    data = image.get_fdata()
    data[..., 20] = np.nan
    nb.save(nb.Nifti1Image(data, image.affine, image.header), path)
    assert check_voxels(maker) == {}
