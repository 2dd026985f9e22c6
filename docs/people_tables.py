"""Puts the tables of `benchmarks/people.py` where pages have room for them: ``python docs/people_tables.py``.

A page has room for the table NAME of benchmarks/results between two comments: ``<!-- NAME, by
docs/people_tables.py -->`` and ``<!-- end of NAME -->``. What stands there is the table as the benchmark wrote it, with
its command.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("README.md", "docs/index.md", "docs/acquire.md", "docs/evaluation.md", "docs/methods.md")
ROOM = re.compile(r"<!-- (?P<name>\w+), by docs/people_tables\.py -->\n.*?<!-- end of (?P=name) -->", re.DOTALL)


def table(name: str) -> str:
    """A table of the results: title, rows, remarks, and the command that wrote it."""
    title, command, *rest = (RESULTS / f"{name}.md").read_text(encoding="utf-8").split("\n\n")
    command = command.replace("python people.py", "python benchmarks/people.py")
    text = "\n\n".join(rest).strip()
    return f"**{title.removeprefix('# ')}**\n\n{text}\n\nCommand: {command}."


def with_tables(text: str) -> str:
    """The text of a page with all its tables as they are now."""

    def filled(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- {name}, by docs/people_tables.py -->\n{table(name)}\n<!-- end of {name} -->"

    return ROOM.sub(filled, text)


def main() -> None:
    """Write all pages."""
    for page in PAGES:
        path = ROOT / page
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
