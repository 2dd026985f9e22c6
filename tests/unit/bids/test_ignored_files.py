"""Patterns of ``.bidsignore`` select files as in gitignore."""

from pathlib import Path

import pytest

from bids_sr.bids.ignored_files import is_ignored, read_patterns

ROOT = Path("/data")
RUN = ROOT / "sub-01/func/sub-01_task-tap_run-2_bold.nii.gz"


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*_bold.nii.gz"], True),
        (["*_run-2_*"], True),
        (["*_run-1_*"], False),
        (["/sub-01/func/sub-01_task-tap_run-2_bold.nii.gz"], True),
        (["sub-01/func/*run-2*"], True),
        (["func/*run-2*"], False),
        (["**/func/*run-2*"], True),
        (["sub-01/"], True),
        (["func"], True),
        (["sub-*/**"], True),
        (["sub-0[2-9]/"], False),
        (["sub-0[!2-9]/"], True),
        (["sub-01/", "!sub-01/"], False),
        (["sub-01_task-tap_run-2_bold.nii.gz/"], False),
        (["sub-01?task-tap*"], True),
        ([], False),
    ],
)
def test_patterns(patterns: list[str], expected: bool) -> None:
    assert is_ignored(RUN, ROOT, patterns) == expected


def test_comments_and_missing_files(tmp_path: Path) -> None:
    assert read_patterns(tmp_path) == ()
    (tmp_path / ".bidsignore").write_text("# a comment\n\n*_run-2_*\n!keep\n")
    assert read_patterns(tmp_path) == ("*_run-2_*", "!keep")
