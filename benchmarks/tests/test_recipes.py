"""The recipes of docs/extending.md work: their lines are applied to one copy of the program."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from pages import blocks

ROOT = Path(__file__).parents[2]
FILES = {
    "Add a method": {"bids_sr/sr/methods/new_net.py"},
    "Add a setting": {
        "bids_sr/config/sections/activation.py",
        "bids_sr/steps/clusters.py",
        "workflows/map_run.py",
        "workflows/run_plan.py",
    },
    "Add a figure": {"bids_sr/steps/figures/tsnr.py", "workflows/report_run.py"},
}
"""Chapter, and the files that it changes."""


class Change(NamedTuple):
    """Lines of a file, and their replacement; `before` is empty for a new file."""

    file: str
    before: str
    after: str


def changes_of(title: str) -> list[Change]:
    """Return the changes of a chapter: its diffs, and new files whose first line is a comment with
    the path.
    """
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    changes = []
    for kind, text in blocks(page.split(f"## {title}\n")[1].split("\n## ")[0]):
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


@pytest.mark.parametrize("title", FILES)
def test_a_recipe_changes_the_files_that_its_chapter_lists(title: str) -> None:
    assert {change.file for change in changes_of(title)} == FILES[title]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Copy the program and apply the changes of all recipes."""
    # links to workflows/ and boilerplate/ become folders
    shutil.copytree(ROOT / "bids_sr", tmp_path / "bids_sr")
    for file, before, after in [change for title in FILES for change in changes_of(title)]:
        path = tmp_path / (file if file.startswith("bids_sr/") else f"bids_sr/{file}")
        text = path.read_text(encoding="utf-8") if before else ""
        assert not before or text.count(before) == 1, f"{file}: {before}"
        path.write_text(text.replace(before, after) if before else after, encoding="utf-8")
    return tmp_path


def test_the_program_with_all_recipes_does_what_the_page_states(program: Path) -> None:
    checks = Path(__file__).with_name("recipe_checks.py")
    options = ["-q", "-o", "addopts=", "-p", "no:cacheprovider", "--import-mode=importlib"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(checks)],
        cwd=program,
        env={**os.environ, "PYTHONPATH": str(program)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
