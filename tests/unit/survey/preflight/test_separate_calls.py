"""Runs that were processed in separate calls are named, because no map combines them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from data.records import make_run, make_settings

from bids_sr.survey.preflight.separate_calls import (
    EarlierRuns,
    find_earlier_runs,
    list_run_options,
    separate_runs,
)

PRE, MID, POST = (f"sub-01_ses-{session}_task-tap" for session in ("pre", "mid", "post"))
ALL_SESSIONS = "sub-01_task-tap"
"""Beginning of the names of maps of all sessions."""


def warnings_of(
    runs: Sequence[str], mapped: Sequence[str], existing: Sequence[str] = (PRE, MID, POST)
) -> list[str]:
    """Return the warnings about maps of a call that processes these runs."""
    earlier = EarlierRuns(mapped=frozenset(mapped), existing=frozenset(existing))
    notices = [*separate_runs([*map(make_run, runs)], (), earlier, ["--session-label"])]
    assert {(notice.what, notice.level) for notice in notices} <= {("sub-01", "warning")}
    return [notice.why for notice in notices]


def test_sessions_of_separate_calls_are_named_with_the_remedy() -> None:
    assert warnings_of([PRE], []) == []
    (text,) = warnings_of([POST], [PRE])
    assert "maps of ses-pre (task tap)" in text
    assert "not combined with ses-post" in text
    assert "omit --session-label" in text
    assert "existing maps" not in text
    assert "ses-mid" not in text
    assert "existing maps of all sessions" in warnings_of([POST], [PRE, ALL_SESSIONS])[0]
    assert warnings_of([PRE, POST], [PRE]) == []


@pytest.mark.parametrize(
    ("mapped", "existing"),
    [
        (["sub-01_ses-gone_task-tap"], [POST]),
        (["sub-01_ses-pre_task-other"], [POST, "sub-01_ses-pre_task-other"]),
        ([f"{PRE}_acq-x"], [POST, f"{PRE}_acq-x"]),
        ([POST, ALL_SESSIONS], [POST, PRE]),
    ],
    ids=["removed", "another task", "another acquisition", "only the same run"],
)
def test_runs_that_cannot_be_combined_anyway_are_not_named(
    mapped: Sequence[str], existing: Sequence[str]
) -> None:
    assert warnings_of([POST], mapped, existing) == []


def test_maps_and_series_are_found_in_the_folders_of_all_sessions(tmp_path: Path) -> None:
    for name in (
        f"bids/sub-01/ses-pre/func/{PRE}_bold.nii.gz",
        "out/sub-01/func/sub-01_task-tap_space-firstBoldref_contrast-a_stat-z_statmap.nii.gz",
        f"out/sub-01/ses-pre/func/{PRE}_contrast-a_stat-z_statmap.nii.gz",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    settings = make_settings("--session-label", "pre", "--run-id", "1")
    paths = replace(settings.paths, bids_dir=tmp_path / "bids", output_dir=tmp_path / "out")
    earlier = find_earlier_runs("01", paths)
    assert (earlier.mapped, earlier.existing) == ({PRE, ALL_SESSIONS}, {PRE})
    assert list_run_options(settings.selection) == ["--session-label", "--run-id"]
    assert list_run_options(make_settings("--task-id", "tap").selection) == []
