"""Read code from the pages of the documentation."""

import importlib.util
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


def blocks(text: str) -> list[tuple[str, str]]:
    """Return language and code of all blocks of a text, in order."""
    matches = re.findall(r"^( *)```(\w*)\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    return [(language, textwrap.dedent(code)) for _, language, code in matches]


def scripts(page: Path, language: str = "python") -> list[str]:
    """Return the blocks of a page in one language, in order."""
    return [code for name, code in blocks(page.read_text(encoding="utf-8")) if name == language]


def loaded(path: Path) -> ModuleType:
    """Load a script outside of packages as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Change(NamedTuple):
    """Lines of a file and the lines that replace them.

    `before` is "" for a new file, and `after` equals `before` in an excerpt of the program.
    """

    file: str
    before: str
    after: str


def changes(text: str) -> Iterator[Change]:
    """Yield the changes of the program that a text shows.

    Diffs have one change per hunk. The first line of Python code is a comment with the path of the
    file: a new file, or the file that contains the lines. Code without a path raises ValueError.
    """
    for language, code in blocks(text):
        if language == "python":
            place = re.match(r"# (\S+\.py)\n", code)
            if not place:
                raise ValueError(f"no path in the first line of {code}")
            lines = code[place.end() :]
            yield Change(place[1], lines if (ROOT / place[1]).exists() else "", lines)
        elif language == "diff":
            for part in code.split("--- a/")[1:]:
                for hunk in re.split(r"^@@ .*\n", part, flags=re.MULTILINE)[1:]:
                    before, after = (
                        "".join(
                            line[1:] or "\n"
                            for line in hunk.splitlines(keepends=True)
                            if line[0] in marks
                        )
                        for marks in (" -\n", " +\n")
                    )
                    yield Change(part.partition("\n")[0], before, after)
