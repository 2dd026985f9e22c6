"""Command line of ``bids-sr``, and its conversion to `Settings`.

Defaults and choices are read from the settings classes, which are their only definition.
"""

import dataclasses
from collections.abc import Sequence
from typing import get_type_hints

from bids_sr.cli.assignments import (
    add_assignments,
    format_settings,
    list_settings_without_flag,
)
from bids_sr.cli.options import ParsedOptions, Parser, normalize_flags
from bids_sr.config import Settings
from bids_sr.config.presets import find_config_file, preset_names
from bids_sr.config.settings import read_toml
from bids_sr.config.values import SettingError
from bids_sr.io.json_values import as_texts

_DESCRIPTION = """\
BIDS App for super-resolution of fMRI data. bids-sr super-resolves all BOLD
series of a BIDS dataset and computes activation maps (task runs) or
connectivity maps (resting-state runs) for the acquired, interpolated and
super-resolved series.
For research use only, not for clinical use."""
_EPILOG = "Run bids-sr --help-all to list all options and settings."


def parse_settings(argv: Sequence[str]) -> Settings:
    """Return the settings of a command line, which override settings of ``--config-file``.

    Raises `UsageError` if the command line is invalid, and `SystemExit` after ``--help`` and
    ``--version``.
    """
    if "--help-all" in normalize_flags(argv):
        return build_parser(show_all=True).read(["--help"], make_settings)
    return build_parser().read(argv, make_settings)


def build_parser(*, show_all: bool = False) -> Parser:
    """Return the parser of ``bids-sr``, whose help lists the common options or all."""
    parser = Parser("bids-sr", _DESCRIPTION)
    parser.usage = "bids-sr bids_dir output_dir {participant,group} [options]"
    parser.add_argument(
        "--help-all", action="store_true", help="show the help for all options and exit"
    )
    parser.epilog = format_settings() if show_all else _EPILOG
    titles = {item.name: item.metadata.get("title", "") for item in dataclasses.fields(Settings)}
    for title in filter(None, titles.values()) if show_all else ():  # in order of the groups
        parser.get_group(title)
    parser.setting_names = tuple(list_settings_without_flag())
    for name, section in get_type_hints(Settings).items():
        parser.add_fields(section, title=titles[name], show_all=show_all)
    return parser


def make_settings(inputs: ParsedOptions) -> Settings:
    """Return the settings of the options on a command line.

    Raises `SettingError` if a value is invalid; the message names the setting.
    """
    inputs, assigned = add_assignments(inputs)
    try:
        return _merge_settings(inputs)
    except SettingError as error:
        if error.setting not in assigned:
            raise
        notice = error.notice
        setting = f"--set {error.setting}"
        raise SettingError(setting, error.value, notice.why, notice.remedy) from None


def _merge_settings(inputs: ParsedOptions) -> Settings:
    """Return the settings of a command line and of ``--config-file``."""
    values = _read_config_files(inputs)
    for section, names in inputs.items():
        values[section] = {**values.get(section, {}), **names}
    kinds = values.get("activation", {}).get("kinds")
    # cc is part of the default too, but only explicitly requested maps are drawn
    if isinstance(kinds, list) and "cc" in kinds:
        values["activation"].setdefault("draws_cc", True)
    return Settings.from_mapping(values)


def _read_config_files(inputs: ParsedOptions) -> ParsedOptions:
    """Return the settings of ``--config-file``; later files take precedence over earlier files.

    Presets have no influence on the group level, which reads tables.
    """
    is_group = inputs.get("selection", {}).get("analysis_level") == "group"
    values: ParsedOptions = {}
    for name in as_texts(inputs.get("run", {}).get("config_file")):
        file = find_config_file(name)
        if is_group and name in preset_names():
            continue
        for section, settings in read_toml(file, reusable_only=True).items():
            values[section] = {**values.get(section, {}), **settings}
    return values
