"""Write docs/options.md, the options of all commands: python docs/options_page.py.

They are made from the fields that hold them, so that no option is written down twice. Options that
several commands of ``bids-sr-models`` share are in one table.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bids_sr.cli import parser
from bids_sr.cli.assignments import format_value, list_settings_without_flag
from bids_sr.config.section import get_option
from bids_sr.model_commands.cli import main as models_main
from bids_sr.phantom import cli as phantom_cli
from bids_sr.slurm.cli import main as slurm_main

PAGE = Path(__file__).parent / "options.md"
INTRODUCTION = """\
# Options

This page is made by `python docs/options_page.py`. [Usage](usage.md) shows which options a task
needs.

- All commands also have `--help` and `--version`; `bids-sr --help-all` prints this page's part on
  `bids-sr`.
- Labels can be given with or without prefix (`sub-01`, `01`), and option names with hyphens or
  underscores.
- Place positional arguments before options that accept several values.
"""
MODELS = "bids-sr-models"


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Heading and parser of each command."""
    yield "bids-sr", parser.build_parser(show_all=True)
    yield "bids-sr-phantom", phantom_cli.build_parser()
    yield "bids-sr-slurm", slurm_main.build_parser()
    for name, each in models_main.parsers().items():
        yield f"bids-sr-models {name}", each


def value_of(action: argparse.Action) -> str:
    """The name of an option's value, or its choices."""
    if action.nargs == 0:
        return ""
    shown = (
        ", ".join(map(str, action.choices))
        if action.choices
        else str(action.metavar or action.dest).strip("{}")
    )
    return re.sub(r" *[,|] *", ", ", shown) + (" …" if action.nargs in ("+", "*") else "")


def names_of(action: argparse.Action) -> str:
    """Return the names of an option with its value, or the name of an argument."""
    if not action.option_strings:
        return f"`{str(action.metavar or action.dest).strip('{}')}`"
    *synonyms, last = action.option_strings
    return ", ".join(f"`{name}`" for name in [*synonyms, f"{last} {value_of(action)}".strip()])


def meaning_of(action: argparse.Action) -> str:
    """Return the help of an option for a table cell."""
    return escape((action.help or "") % {**vars(action), "prog": ""})


def options_of(
    command: argparse.ArgumentParser,
) -> Iterator[tuple[str, list[argparse.Action]]]:
    """Yield the heading and the options of each group of a command."""
    for group in command._action_groups:
        shown = [
            action
            for action in group._group_actions
            if action.help != argparse.SUPPRESS and action.dest not in ("help", "version")
        ]
        title = group.title or ""
        if shown:
            yield {"positional arguments": "arguments"}.get(title, title), shown


def tables(command: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a table of each group of a command's options."""
    for heading, actions in options_of(command):
        rows = (f"| {names_of(action)} | {meaning_of(action)} |" for action in actions)
        yield "\n".join(["", f"| {heading} | meaning |", "| --- | --- |", *rows])


def model_tables(parsers: Mapping[str, argparse.ArgumentParser]) -> Iterator[str]:
    """Yield one table of the arguments and options of all commands of ``bids-sr-models``."""
    commands_of: dict[tuple[str, str], list[str]] = {}
    for name, command in parsers.items():
        for _, actions in options_of(command):
            for action in actions:
                commands_of.setdefault((names_of(action), meaning_of(action)), []).append(name)
    yield f"\n## {MODELS}"
    yield f"\n`{MODELS} COMMAND --help` groups the options of one command."
    yield "\n| command | argument or option | meaning |\n| --- | --- | --- |"
    for (names, meaning), commands in commands_of.items():
        yield f"| {', '.join(commands)} | {names} | {meaning} |"


def escape(text: str) -> str:
    """Return a text for a table cell of Markdown."""
    return re.sub(r"([*|<])", lambda one: chr(92) + one[0], " ".join(text.split()))


def settings() -> Iterator[str]:
    """Yield a table of the settings without a flag, and a line on the other settings."""
    yield "\n## Settings"
    yield (
        "\nThese settings have no flag and are set by"
        " [`--set SETTING=VALUE`](usage.md#settings-without-a-flag). The settings of the flags are"
        " in `settings.toml`\nof each call. Settings of methods (`--set METHOD.SETTING=VALUE`) are"
        " printed by `bids-sr-models list METHOD`, with default, range and meaning."
    )
    yield "\n| setting and default | meaning |"
    yield "| --- | --- |"
    for name, item in list_settings_without_flag().items():
        yield f"| `{name}={format_value(item.default)}` | {escape(get_option(item).help)} |"


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    model_parsers = {}
    for name, command in commands():
        if name.startswith(MODELS):
            model_parsers[name.removeprefix(MODELS).strip()] = command
        else:
            parts.append("\n".join([f"\n## {name}", *tables(command)]))
    return "\n".join([*parts, *model_tables(model_parsers), *settings()]) + "\n"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    PAGE.write_text(page(), encoding="utf-8")
