"""Apply the recipes of docs/extending.md, whose chapters show changed lines, to a copy of the
program.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from pages import blocks

ROOT = Path(__file__).parents[1]


class Change(NamedTuple):
    """Lines of a file, and their replacement; `before` is empty for a new file."""

    file: str
    before: str
    after: str


def chapter_of(title: str) -> str:
    """Return a chapter of the page."""
    return (
        (ROOT / "docs" / "extending.md")
        .read_text(encoding="utf-8")
        .split(f"## {title}\n")[1]
        .split("\n## ")[0]
    )


def changes_of(title: str) -> list[Change]:
    """Return the changes of a chapter: its diffs, and new files whose first line is a comment with
    the path.
    """
    changes = []
    for kind, text in blocks(chapter_of(title)):
        if kind == "python" and (place := re.match(r"# (\S+\.py)\n", text)):
            changes.append(Change(place[1], "", text[place.end() :]))
        for part in text.split("--- a/")[1:] if kind == "diff" else ():
            for hunk in re.split(r"^@@ .*\n", part, flags=re.M)[1:]:
                lines = hunk.splitlines(keepends=True)
                sides = [
                    "".join(line[1:] or "\n" for line in lines if line[0] in marks)
                    for marks in (" -\n", " +\n")
                ]
                changes.append(Change(part.partition("\n")[0], *sides))
    return changes


def files_of(title: str) -> set[str]:
    """Return the files that a chapter changes."""
    return {change.file for change in changes_of(title)}


def copy_with(title: str, folder: Path) -> Path:
    """Copy the program below a folder and apply the changes of a chapter; return the folder."""
    # compiled files are also copied, except files that another process is writing;
    # links to workflows/ and boilerplate/ become folders
    ignored = shutil.ignore_patterns("*.pyc.*")
    shutil.copytree(ROOT / "bids_sr", folder / "bids_sr", ignore=ignored)
    for file, before, after in changes_of(title):
        place = folder / (file if file.startswith("bids_sr/") else f"bids_sr/{file}")
        text = place.read_text(encoding="utf-8") if before else ""
        assert not before or text.count(before) == 1, f"{file}: {before}"
        place.write_text(text.replace(before, after) if before else after, encoding="utf-8")
    return folder


def told_by(folder: Path, script: str, *args: str) -> str:
    """Run a script on a copy of the program and return its output.

    The script can import the helpers of the tests.
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT / "tests")))}
    command = [
        sys.executable,
        "-c",
        f"import bids_sr; assert {str(folder)!r} in bids_sr.__file__\n{script}",
        *args,
    ]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
