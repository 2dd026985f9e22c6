"""Patterns of ``.bidsignore`` select files as in gitignore."""

from pathlib import Path

import pytest

from bids_sr.survey.bids.ignored_files import is_ignored, read_patterns

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


@pytest.mark.parametrize("line", ["sub-01/extra[1", "[z-a].txt", "!sub-[0-", "[]", "[!]", r"[a\]"])
def test_a_line_that_is_not_a_pattern_is_skipped(tmp_path: Path, line: str) -> None:
    (tmp_path / ".bidsignore").write_text(f"{line}\n*_run-2_*\n")
    assert read_patterns(tmp_path) == ("*_run-2_*",)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("[]x]b", "]b", True),
        ("[!]x]b", "]b", False),
        (r"[a\]b]c", "]c", True),
        (r"a\[1", "a[1", True),
        (r"a\*", "ab", False),
        (r"[\w]", "z", False),
        ("[&&~~||]", "&", True),
        ("a[!b]c", "a/c", False),
        ("*a" * 30 + "b", "a" * 250, False),  # would otherwise take years
        ("**a" * 30 + "b", "a" * 250, False),
    ],
)
def test_brackets_and_wildcards(pattern: str, name: str, expected: bool) -> None:
    assert is_ignored(ROOT / name, ROOT, [pattern]) == expected
