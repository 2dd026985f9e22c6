"""Write docs/options.md, the options of all commands: python docs/options_page.py.

They are made from the fields that hold them, so that no option is written down twice.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path

from bids_sr.cli import parser
from bids_sr.cli.assignments import format_value, list_settings, list_settings_without_flag
from bids_sr.config.section import get_option
from bids_sr.model_commands.cli import main as models_main
from bids_sr.phantom import cli as phantom_cli
from bids_sr.slurm.cli import main as slurm_main
from bids_sr.sr.method import list_methods
from bids_sr.sr.recipe_changes import variable_fields

PAGE = Path(__file__).parent / "options.md"
INTRODUCTION = """\
# Options

This page lists the command line options of all commands. See [Usage](usage.md) for an explanation
of how the options of `bids-sr` are used.

- All commands also support `--help` and `--version`.
- Hyphens and underscores in option names are interchangeable.
- Labels can be specified with or without their prefix (`sub-01` or `01`).
- Positional arguments should be placed before options. Otherwise, options that accept multiple
  values may interpret positional arguments as additional values.

This page is generated from the option definitions with `python docs/options_page.py`.
"""


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


def row(action: argparse.Action) -> str:
    """An option as a row of a table."""
    names = ", ".join(
        f"`{name}`" for name in action.option_strings or [str(action.metavar or action.dest)]
    )
    value = f"`{value_of(action)}`" if action.option_strings and value_of(action) else ""
    says = " ".join(((action.help or "") % {**vars(action), "prog": ""}).split())
    return f"| {names} | {value} | {escape(says)} |"


def tables(command: argparse.ArgumentParser) -> Iterator[str]:
    """A table of each group of a command's options."""
    for group in command._action_groups:
        shown = [
            each
            for each in group._group_actions
            if each.help != argparse.SUPPRESS and each.dest not in ("help", "version")
        ]
        title = group.title or ""
        if shown:
            heading = {"positional arguments": "arguments", "options": "options"}.get(title, title)
            yield "\n".join(
                ["", f"| {heading} | value | meaning |", "| --- | --- | --- |", *map(row, shown)]
            )


def escape(text: str) -> str:
    """Return a text for a table cell of Markdown."""
    return re.sub(r"([*|<])", lambda one: chr(92) + one[0], " ".join(text.split()))


def settings() -> Iterator[str]:
    """Yield a table of the settings without a flag, and the settings of the flags."""
    yield "\n## Settings"
    yield (
        "\nThese settings of `bids-sr` have no flag and are set by"
        " [`--set SETTING=VALUE`](usage.md#settings-without-a-flag)."
    )
    yield "\n| setting | default | meaning |"
    yield "| --- | --- | --- |"
    for name, item in list_settings_without_flag().items():
        meaning = escape(get_option(item).help)
        yield f"| `{name}` | `{format_value(item.default)}` | {meaning} |"
    yield "\nThe other settings have a flag:"
    yield "\n| setting | flag |"
    yield "| --- | --- |"
    for name, item in list_settings().items():
        flags = [flag for flag in get_option(item).flags.split() if flag.startswith("--")]
        if flags:
            yield f"| `{name}` | `{flags[0]}` |"


def recipe_settings() -> Iterator[str]:
    """Yield a table of the settings of each method's recipes, see `--set`."""
    yield "\n## Settings of methods"
    yield (
        "\nThe following settings can be changed with `--set METHOD.SETTING=VALUE` in `bids-sr`"
        " and, for networks,\nwith `--set SETTING=VALUE` in `bids-sr-models train`. A dash means"
        " that a recipe does not have the setting.\nSee [Models](models.md#settings-of-recipes)"
        " for the settings that were varied in the papers."
    )
    for method in list_methods():
        recipes = {"default": method.variance} if method.variance else method.recipes
        fields = {
            name: {field.name: field for field in variable_fields(recipe)}
            for name, recipe in recipes.items()
        }
        heads = " | ".join(f"`{name}`" for name in fields)
        yield f"\n| `{method.name}` | {heads} | range | description |"
        yield f"| --- |{' --- |' * (len(fields) + 2)}"
        for name in dict.fromkeys(name for each in fields.values() for name in each):
            of_recipes = [each.get(name) for each in fields.values()]
            first = next(field for field in of_recipes if field is not None)
            defaults = " | ".join("-" if f is None else f.default_text for f in of_recipes)
            source = f" ({first.limits.source})" if first.limits.source else ""
            ranges = dict.fromkeys(field.range for field in of_recipes if field is not None)
            yield f"| `{name}` | {defaults} | {', '.join(ranges)} | {first.description}{source} |"


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for name, command in commands():
        found = list(tables(command))
        if found:
            parts.append("\n".join([f"\n## {name}", *found]))
    return "\n".join([*parts, *settings(), *recipe_settings()]) + "\n"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    PAGE.write_text(page(), encoding="utf-8")
