"""Runs that were processed in separate calls are named, because no map combines them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from data.dataset import BidsMaker
from graphmaker import planned_call

from bids_sr.io.dataset_description import write_dataset
from bids_sr.version import __version__

OPTIONS = ["--sr-method", "bspline", "--sr-factor", "2"]
ALL_SESSIONS = "sub-01_task-tap_space-firstBoldref"
"""Beginning of the names of maps of all sessions."""


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    data = BidsMaker(tmp_path / "bids")
    write_dataset(tmp_path / "out", bids_dir=data.root, version=__version__)
    return data


def add(maker: BidsMaker, *names: str) -> None:
    for name in names:
        maker.bold(f"sub-01_{name}")
        maker.events(f"sub-01_{name}")


def write_maps(tmp_path: Path, *prefixes: str) -> None:
    """Write empty maps to the output folder, as if an earlier call had processed the runs."""
    for prefix in prefixes:
        session = next((part for part in prefix.split("_") if part.startswith("ses-")), "")
        folder = tmp_path / "out" / "sub-01" / session / "func"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{prefix}_contrast-thumb_stat-effect_desc-acquired_statmap.nii.gz").touch()


def warnings_of(maker: BidsMaker, tmp_path: Path, *options: str) -> list[str]:
    """Return the warnings about maps of separate calls."""
    _, plan = planned_call(maker, tmp_path, *OPTIONS, *options)
    assert not plan.problems
    notices = [notice for notice in plan.warnings if "another call" in notice.why]
    assert {(notice.what, notice.subject) for notice in notices} <= {("sub-01", "01")}
    return [notice.why for notice in notices]


def test_sessions_of_separate_calls_are_named_with_the_remedy(
    maker: BidsMaker, tmp_path: Path
) -> None:
    add(maker, *(f"ses-{session}_task-tap" for session in ("pre", "mid", "post")))
    assert warnings_of(maker, tmp_path, "--session-label", "pre") == []
    write_maps(tmp_path, "sub-01_ses-pre_task-tap")
    (text,) = warnings_of(maker, tmp_path, "--session-label", "post")
    assert "maps of ses-pre (task tap)" in text
    assert "not combined with ses-post" in text
    assert "omit --session-label" in text
    assert "existing maps" not in text
    assert "ses-mid" not in text
    assert warnings_of(maker, tmp_path, "--session-label", "pre", "post") == []
    assert warnings_of(maker, tmp_path) == []


@pytest.mark.parametrize(
    ("names", "mapped"),
    [
        (["ses-post_task-tap"], ["sub-01_ses-gone_task-tap"]),
        (["ses-post_task-tap", "ses-pre_task-other"], ["sub-01_ses-pre_task-other"]),
        (["ses-post_task-tap", "ses-pre_task-tap_acq-x"], ["sub-01_ses-pre_task-tap_acq-x"]),
        (["ses-post_task-tap", "ses-pre_task-tap"], ["sub-01_ses-post_task-tap", ALL_SESSIONS]),
    ],
    ids=["removed", "another task", "another acquisition", "only the same run"],
)
def test_runs_that_cannot_be_combined_anyway_are_not_named(
    maker: BidsMaker, tmp_path: Path, names: Sequence[str], mapped: Sequence[str]
) -> None:
    add(maker, *names)
    write_maps(tmp_path, *mapped)
    assert warnings_of(maker, tmp_path, "--session-label", "post") == []
