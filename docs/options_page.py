"""Write docs/options.md, the options of `bids-sr`: python docs/options_page.py.

The tables are generated from the fields that declare the options.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bids_sr.cli import parser, phantom as phantom_cli
from bids_sr.cli.assignments import format_value, list_settings, list_settings_without_flag
from bids_sr.cli.models.commands import main as models_main
from bids_sr.cli.slurm import main as slurm_main
from bids_sr.config.section import get_option

PAGE = Path(__file__).parent / "options.md"
INTRODUCTION = """\
# Options

These tables list the options of `bids-sr`; [Usage](usage.md) explains them. For other programs,
call `bids-sr-models COMMAND --help`, `bids-sr-slurm --help` and `bids-sr-phantom --help`.

- Hyphens and underscores in option names are interchangeable.
- Labels can have a prefix (`sub-01` or `01`).
- Options with `…` accept several values. Place positional arguments before them.

This page is generated from the definitions of the options with `python docs/options_page.py`.
"""


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield name and parser of each command."""
    yield "bids-sr", parser.build_parser(show_all=True)
    yield "bids-sr-phantom", phantom_cli.build_parser()
    yield "bids-sr-slurm", slurm_main.build_parser()
    for name, command in models_main.parsers().items():
        yield f"bids-sr-models {name}", command


def page() -> str:
    """Return the whole page."""
    return (
        "\n".join([INTRODUCTION, *tables(parser.build_parser(show_all=True)), *settings()]) + "\n"
    )


def tables(command: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a table of the arguments and options of each group of a command."""
    for title, actions in groups(command):
        yield table((title, "meaning"), ((term(action), meaning(action)) for action in actions))


def groups(command: argparse.ArgumentParser) -> Iterator[tuple[str, list[argparse.Action]]]:
    """Yield heading and options of each group of a command, arguments first."""
    for group in command._action_groups:
        actions = [
            action
            for action in group._group_actions
            if action.help != argparse.SUPPRESS and action.dest not in ("help", "version")
        ]
        title = group.title or ""
        if actions:
            yield (
                {"positional arguments": "argument", "options": "option"}.get(title, title),
                actions,
            )


def term(action: argparse.Action) -> str:
    """Return the names of an option with its value or choices, or the name of an argument."""
    names = list(action.option_strings)
    if not names:
        names = [value_of(action)]
    elif action.nargs != 0:
        names[-1] += f" {value_of(action)}"
    return ", ".join(f"`{name}`" for name in names)


def value_of(action: argparse.Action) -> str:
    """Return the name of an option's value, or its choices in braces."""
    names = [str(choice) for choice in action.choices or ()] or re.split(
        r" *[,|] *", str(action.metavar or action.dest).strip("{}")
    )
    text = f"{{{','.join(names)}}}" if len(names) > 1 else names[0]
    if action.nargs == "?":
        return f"[{text}]"
    return text + ("…" if action.nargs in ("+", "*") else "")


def meaning(action: argparse.Action) -> str:
    """Return the help text of an option for a table cell."""
    return escape((action.help or "") % {**vars(action), "prog": ""})


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown with an empty line before it."""
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join(["", lines[0], "|---" * len(heads) + "|", *lines[1:]])


def escape(text: str) -> str:
    """Return a text for a table cell of Markdown."""
    return re.sub(r"([*|<])", lambda one: chr(92) + one[0], " ".join(text.split()))


def settings() -> Iterator[str]:
    """Yield the section on settings: those without a flag, of flags and of methods."""
    yield "\n## Settings"
    yield (
        "\nThese settings of `bids-sr` have no flag. Change them with"
        " [`--set SETTING=VALUE`](usage.md#settings-without-a-flag).\nThe table shows their"
        " default values."
    )
    yield table(
        ("setting", "meaning"),
        (
            (f"`{name}={format_value(item.default)}`", escape(get_option(item).help))
            for name, item in list_settings_without_flag().items()
        ),
    )
    yield f"\n{settings_of_flags()}"
    yield (
        "\n`bids-sr-models list METHOD` prints all settings of a method, with default, range, unit"
        " and description in each recipe,\nand the papers that varied them. Change a setting with"
        " `--set METHOD.SETTING=VALUE` in `bids-sr` or, for networks,\nwith `--set SETTING=VALUE`"
        " in `bids-sr-models train`. See [Models](models.md#settings-of-recipes)."
    )


def settings_of_flags() -> str:
    """Return the paragraph on options with a flag in ``settings.toml``."""
    exceptions = []
    for name, item in list_settings().items():
        flags = [flag for flag in get_option(item).flags.split() if flag.startswith("--")]
        if flags and flags[0].removeprefix("--").replace("-", "_") != item.name:
            exceptions.append(f"`{flags[0]}` (`{name}`)")
    *first, last = exceptions
    return (
        "`settings.toml` lists all settings. A setting with a flag has the name of the flag, with"
        f" underscores, except\n{', '.join(first)} and {last}."
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    PAGE.write_text(page(), encoding="utf-8")
