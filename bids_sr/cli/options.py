"""Options of ``bids-sr``, made from the fields of the settings.

Each field states its flags, its help and where it is shown.
"""

import argparse
import dataclasses
import types
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from bids_sr.config import Settings
from bids_sr.config.readers import path
from bids_sr.config.section import Checked, option_of

_READERS = {Path: path, int: int, float: float}


def add_options(parser: argparse.ArgumentParser, *, everything: bool = True) -> None:
    """Add the option of every setting to a parser, whose help lists the common ones or all."""
    groups = list(get_type_hints(Settings).items())
    for shown in dataclasses.fields(Settings):
        if shown.metadata:
            titled = parser.add_argument_group(shown.metadata["title"])
            for name, group in groups:
                add_group(titled, name, group, among=shown.name, everything=everything)


def add_group(
    parser: argparse._ActionsContainer,
    name: str,
    group: type[Checked],
    *,
    among: str = "",
    everything: bool = True,
    only: Collection[str] = (),
) -> None:
    """Add the options of one group, those with help `among` others, or `only` some settings."""
    kinds = get_type_hints(group)
    for item in dataclasses.fields(group):  # type: ignore[arg-type]  # all groups are dataclasses
        option = option_of(item)
        if (
            option.flags
            and (option.among or name) == (among or name)
            and (not only or item.name in only)
        ):
            *names, last = option.flags.split()
            names, how = (
                ([*names, last], {}) if last.startswith("-") else (names, {"metavar": last})
            )
            help = option.help if everything or option.common else argparse.SUPPRESS
            how |= {"dest": f"{name}.{item.name}", "help": help}
            parser.add_argument(
                *names, **_of_kind({**how, **option.how}, kinds[item.name], item.default)
            )


def _of_kind(how: Mapping[str, object], kind: object, default: object) -> dict[str, Any]:
    """Complete option arguments from the type and default of a setting."""
    if kind is bool:
        return {**how, "action": "store_true"}
    if how.get("action") == "count":
        return dict(how)
    several = get_origin(kind) in (tuple, types.UnionType, Union)
    inner = get_args(kind)[0] if several else kind
    if get_origin(inner) is Literal:
        how = {"choices": get_args(inner), **how}
    elif inner in _READERS:
        how = {"type": _READERS[inner], **how}
    if isinstance(default, tuple):
        how = {"nargs": "+", "action": "extend", **how}
    if default not in (None, (), "") and how["help"] != argparse.SUPPRESS:
        how = {**how, "help": f"{how['help']} (default: {_shown(default)})"}
    return dict(how)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
