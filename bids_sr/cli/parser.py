"""The command line of ``bids-sr``: what it accepts, and how it becomes `Settings`.

Defaults and choices are read from the settings themselves: they have one home.
"""

import dataclasses
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import get_type_hints

from bids_sr.boilerplate import data_of
from bids_sr.cli.options import Given, Parser, hyphens
from bids_sr.config import Settings
from bids_sr.config.settings import read_toml

_DESCRIPTION = """\
Super-resolution of fMRI as a BIDS-App: super-resolves every BOLD series of a BIDS data set, and
maps activation (connectivity at rest) on the acquired, the interpolated and the super-resolved
series side by side.
For research; not for clinical use."""
_EPILOG = """\
bids-sr --help-all lists all options; bids-sr report OUTPUT_DIR --open shows finished reports."""


def build_parser(*, everything: bool = False) -> Parser:
    """Return the parser of ``bids-sr``, whose help lists the common options or all.

    Nothing is read or changed.
    """
    parser = Parser("bids-sr", _DESCRIPTION)
    parser.usage = "bids-sr bids_dir output_dir {participant,group} [options]"
    parser.add_argument("--help-all", action="store_true", help="show all options and exit")
    parser.epilog = None if everything else _EPILOG
    add_settings(parser, everything=everything)
    return parser


def add_settings(
    parser: Parser, *, everything: bool = True, without: Collection[str] = ()
) -> None:
    """Add the option of every setting to a parser, whose help lists the common ones or all."""
    titles = {each.name: each.metadata.get("title", "") for each in dataclasses.fields(Settings)}
    for title in filter(None, titles.values()):  # in the order of the groups
        parser.titled(title)
    parser.add_foreign(**data_of("foreign_options.json"))
    for name, group in get_type_hints(Settings).items():
        parser.add_fields(group, title=titles[name], everything=everything, without=without)


def parse_settings(argv: Sequence[str]) -> Settings:
    """Return the settings of a command line, which override those of ``--config-file``.

    Raises `UsageError` for anything that is not understood, and SystemExit after ``--help`` and
    ``--version``.
    """
    if "--help-all" in hyphens(argv):
        return build_parser(everything=True).read(["--help"], settings_of)
    return build_parser().read(argv, settings_of)


def settings_of(given: Given) -> Settings:
    """Return the settings of the options that were given.

    Raises `UsageError` for values that cannot hold.

    `SettingError`: A value cannot hold; it is named by its option.
    """
    values: Given = {}
    if file := given.get("run", {}).get("config_file"):
        values = read_toml(Path(os.path.expanduser(str(file))), reusable_only=True)
    for section, names in given.items():
        values[section] = {**values.get(section, {}), **names}
    return Settings.from_mapping(values)
