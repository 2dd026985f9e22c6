"""Runs that were processed in separate calls are named, because no map combines them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from data.records import make_run, make_settings

from bids_sr.survey.preflight.separate_calls import separate_runs

ALL_SESSIONS = "sub-01_task-tap_space-firstBoldref"
"""Beginning of the names of maps of all sessions."""


def touch(root: Path, *names: str) -> None:
    """Write empty functional files of sub-01, in the folders of their sessions."""
    for name in names:
        session = next((part for part in name.split("_") if part.startswith("ses-")), "")
        folder = root / "sub-01" / session / "func"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def add_runs(root: Path, *names: str) -> None:
    touch(root / "bids", *(f"sub-01_{name}_bold.nii.gz" for name in names))


def add_maps(root: Path, *prefixes: str) -> None:
    """Write maps, as if an earlier call had processed the runs."""
    end = "contrast-thumb_stat-effect_desc-acquired_statmap.nii.gz"
    touch(root / "out", *(f"{prefix}_{end}" for prefix in prefixes))


def warnings_of(root: Path, names: Sequence[str], *options: str) -> list[str]:
    """Return the warnings about maps of a call that processes these runs."""
    settings = make_settings(*options)
    paths = replace(settings.paths, bids_dir=root / "bids", output_dir=root / "out")
    runs = [make_run(f"sub-01_{name}") for name in names]
    notices = [*separate_runs(runs, (), replace(settings, paths=paths))]
    assert {(notice.what, notice.level) for notice in notices} <= {("sub-01", "warning")}
    return [notice.why for notice in notices]


def test_sessions_of_separate_calls_are_named_with_the_remedy(tmp_path: Path) -> None:
    runs = [f"ses-{session}_task-tap" for session in ("pre", "mid", "post")]
    add_runs(tmp_path, *runs)
    option = "--session-label"
    assert warnings_of(tmp_path, runs[:1], option, "pre") == []
    add_maps(tmp_path, "sub-01_ses-pre_task-tap")
    (text,) = warnings_of(tmp_path, runs[2:], option, "post")
    assert "maps of ses-pre (task tap)" in text
    assert "not combined with ses-post" in text
    assert f"omit {option}" in text
    assert "existing maps" not in text
    assert "ses-mid" not in text
    assert warnings_of(tmp_path, runs[::2], option, "pre", "post") == []
    assert warnings_of(tmp_path, runs) == []


@pytest.mark.parametrize(
    ("others", "mapped"),
    [
        ([], ["sub-01_ses-gone_task-tap"]),
        (["ses-pre_task-other"], ["sub-01_ses-pre_task-other"]),
        (["ses-pre_task-tap_acq-x"], ["sub-01_ses-pre_task-tap_acq-x"]),
        (["ses-pre_task-tap"], ["sub-01_ses-post_task-tap", ALL_SESSIONS]),
    ],
    ids=["removed", "another task", "another acquisition", "only the same run"],
)
def test_runs_that_cannot_be_combined_anyway_are_not_named(
    tmp_path: Path, others: Sequence[str], mapped: Sequence[str]
) -> None:
    add_runs(tmp_path, "ses-post_task-tap", *others)
    add_maps(tmp_path, *mapped)
    assert warnings_of(tmp_path, ["ses-post_task-tap"], "--session-label", "post") == []
