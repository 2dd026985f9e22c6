"""Recipes of ``docs/extending.md``, applied to a copy of the package."""

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]


def hunks(title: str) -> list[tuple[str, str, str]]:
    """(file, lines that stand there, lines in their place) of the recipe under a title."""
    recipe = (ROOT / "docs" / "extending.md").read_text().split(f"## {title}")[1].split("\n## ")[0]
    diff = re.search(r"```diff\n(.*?)```", recipe, flags=re.S)
    assert diff is not None
    found = []
    for part in diff[1].split("--- a/")[1:]:
        file = part.partition("\n")[0]
        for hunk in re.split(r"^@@ .*\n", part, flags=re.M)[1:]:
            lines = hunk.splitlines(keepends=True)
            sides = ["".join(line[1:] or "\n" for line in lines if line[0] in marks) for marks in (" -", " +")]
            found.append((file, *sides))
    return found


def patched(title: str, root: Path) -> Path:
    """A copy of the package in `root` with the lines of a recipe."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "bids_sr", root / "bids_sr", ignore=ignored)
    for part in ("workflows", "boilerplate"):
        shutil.copytree(ROOT / part, root / "bids_sr" / part, ignore=ignored)
    for file, before, after in hunks(title):
        text = (root / file).read_text()
        assert text.count(before) == 1, f"{file}: {before}"
        (root / file).write_text(text.replace(before, after))
    return root
