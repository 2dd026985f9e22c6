"""Write docs/field_options.md: ``python docs/field_options_page.py``.

The page compares the options of fMRIPrep, MRIQC and XCP-D (docs/field_options.toml) with those
that the parser of bids-sr accepts.
"""

import argparse
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_sr.boilerplate import data_of
from bids_sr.cli import parser
from bids_sr.config.values import suggest_name

PAGE = Path(__file__).parent / "field_options.md"
LIST = PAGE.with_suffix(".toml")
INTRODUCTION = """\
# From fMRIPrep, MRIQC or XCP-D

If you have a command line for fMRIPrep, MRIQC or XCP-D, you can replace the name of the program
with `bids-sr` and run the command. The options fall into three categories:

- **Options with the same meaning.** Some of these options have a different name in `bids-sr` or
  differ in details.
- **Options without effect.** When processing starts, `bids-sr` prints a note that states why the
  option has no effect.
- **Rejected options.** `bids-sr` exits with an error (exit code 2) before any processing, and the
  error message recommends an alternative.

Many rejected options control processing steps that are performed by fMRIPrep, such as anatomical
preprocessing, registration, distortion correction, brain masking and confound estimation. To use
these options, run fMRIPrep first and pass its output directory with `-d fmriprep=DIR` (see
[On top of fMRIPrep](usage.md#on-top-of-fmriprep)).

All options of bids-sr are listed in [Options](options.md). The options in the following tables
were taken from the command line parsers of the listed versions. The tables are generated with
`python docs/field_options_page.py`.
"""
ACCEPTED = "bids-sr"  # title of the column of counterparts


@dataclass(frozen=True)
class Answer:
    """Response of bids-sr to an option of another program: one of the three is not empty."""

    counterpart: str = ""
    no_effect_because: str = ""
    use_instead: str = ""


def answers() -> dict[str, Answer]:
    """Return the response of bids-sr to each option, by name."""
    ours = parser.build_parser(show_all=True)
    foreign = data_of("foreign_options.json")
    reasons = {
        spec.split()[0]: reason for reason, specs in foreign["unused"].items() for spec in specs
    }
    known = {
        flag: Answer(use_instead=fix)
        for fix, flags in foreign["refused"].items()
        for flag in flags
    }
    for action in ours._actions:
        for flag in action.option_strings:
            if flag in reasons:
                known[flag] = Answer(no_effect_because=reasons[flag])
            else:
                known[flag] = Answer(counterpart=_first_long(action))
    return known


def _first_long(action: argparse.Action) -> str:
    """Return the first long name of an option."""
    return next(flag for flag in action.option_strings if flag.startswith("--"))


def tables(program: str, options: Sequence[str], differences: dict[str, str]) -> Iterator[str]:
    """Yield up to three tables: options with a counterpart, without effect, and rejected.

    Options without effect, and rejected options, share a row if they have the same reason.
    """
    known = answers()
    accepted: list[str] = []
    no_effect: dict[str, list[str]] = {}
    rejected: dict[str, list[str]] = {}
    for names in map(str.split, options):
        responses = [known.get(name) or _nearest(name, known) for name in names]
        response = next((answer for answer in responses if answer.counterpart), responses[0])
        if response.counterpart:
            difference = differences.get(response.counterpart, "none")
            accepted.append(f"| {_codes(names)} | `{response.counterpart}` | {difference} |")
        elif response.no_effect_because:
            no_effect.setdefault(response.no_effect_because, []).extend(names)
        else:
            rejected.setdefault(response.use_instead, []).extend(names)
    if accepted:
        yield _table(f"{program} | {ACCEPTED} | difference", accepted)
    for title, groups in (
        ("options without effect | reason", no_effect),
        ("rejected options | what to do", rejected),
    ):
        if groups:
            rows = [f"| {_codes(names)} | {_sentence(text)} |" for text, names in groups.items()]
            yield _table(title, rows)


def _nearest(name: str, known: dict[str, Answer]) -> Answer:
    """Return the suggestion of the parser for an option that is not in any list."""
    return Answer(use_instead=suggest_name(name, list(known)) or "remove the option")


def _codes(names: Sequence[str]) -> str:
    """Return names as code, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)


def _sentence(text: str) -> str:
    """Return a message as it reads in a table: capitalized, options as code."""
    plain = re.sub(r"did you mean '(.+)'\?", r"use \1", text)
    coded = re.sub(
        r"(?<![\w`])(--?[a-z][\w-]*(?: fmriprep=DIR| anat| N\b| fsnative fsaverage:den-10k)?)",
        r"`\1`",
        plain,
    )
    coded = coded.replace("output_dir", "`output_dir`")
    return coded[0].upper() + coded[1:] + "."


def _table(title: str, rows: Sequence[str]) -> str:
    """Return a Markdown table with the columns of `title`."""
    rule = "| " + " | ".join(["---"] * (title.count("|") + 1)) + " |"
    return "\n".join(["", f"| {title} |", rule, *rows])


def page() -> str:
    """Return the whole page."""
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))
    parts = [INTRODUCTION]
    for program in listed["program"]:
        older = " " in program["name"]
        note = (
            ". The table lists only options that were removed from later versions."
            if older
            else ""
        )
        parts += [
            f"\n## {program['name']}\n",
            f"Version {program['version']}{note}",
            *tables(program["name"], program["options"], listed["differences"]),
        ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
