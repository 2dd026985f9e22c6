"""Write docs/field_options.md, what options of fMRIPrep, MRIQC and XCP-D are here:
python docs/field_options_page.py compares docs/field_options.toml with the parser.
"""

import argparse
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from bids_sr.boilerplate import data_of
from bids_sr.cli import parser

PAGE = Path(__file__).parent / "field_options.md"
LIST = PAGE.with_suffix(".toml")
INTRODUCTION = """\
# From fMRIPrep, MRIQC or XCP-D

A command line of fMRIPrep runs with the name of the program changed, or is refused with what
serves in the place of an option. What is taken *without effect* is told in one line when the run
starts. Made by `python docs/field_options_page.py` from the parsers of the versions named;
[Options](options.md) has all options of bids-sr.
"""


def answers() -> dict[str, tuple[str, str]]:
    """Option → what is here (an option, or nothing), and the difference."""
    ours = parser.build_parser(everything=True)
    foreign = data_of("foreign_options.json")
    unused = {each.split()[0]: why for why, flags in foreign["unused"].items() for each in flags}
    refused = {flag: fix for fix, flags in foreign["refused"].items() for flag in flags}
    found = {flag: ("", f"refused: {fix}") for flag, fix in refused.items()}
    for action in ours._actions:
        for flag in action.option_strings:
            if flag in unused:
                found[flag] = "", f"without effect: {unused[flag]}"
            else:
                found[flag] = _first_long(action), ""
    return found


def _first_long(action: argparse.Action) -> str:
    return next(flag for flag in action.option_strings if flag.startswith("--"))


def rows(options: Sequence[str], differences: dict[str, str]) -> Iterator[str]:
    """The rows of a program, in its own order."""
    known = answers()
    for names in map(str.split, options):
        here = [known.get(name, ("", "refused")) for name in names]
        ours = next((option for option, _ in here if option), "")
        says = differences.get(ours, "the same") if ours else here[0][1]
        shown = ", ".join(f"`{name}`" for name in names)
        yield f"| {shown} | {f'`{ours}`' if ours else ''} | {says} |"


def page() -> str:
    """The whole page."""
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))
    parts = [INTRODUCTION]
    for program in listed["program"]:
        older = " (what the newest no longer has)" if " " in program["name"] else ""
        parts += [
            f"\n## {program['name']}\n",
            f"{program['version']}{older}\n",
            f"| {program['name']} | bids-sr | difference |\n| --- | --- | --- |",
            *rows(program["options"], listed["differences"]),
        ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
