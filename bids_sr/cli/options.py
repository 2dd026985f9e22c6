"""Options of ``bids-sr``, made from the settings: each field says its flags, its help and where it is shown."""

import argparse
import dataclasses
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from bids_sr.config import Settings
from bids_sr.config.readers import path
from bids_sr.config.section import option_of

READERS = {Path: path, int: int, float: float}


def add_options(parser: argparse.ArgumentParser, *, everything: bool = True) -> None:
    """Add the option of every setting to a parser; the help lists the common ones, or everything."""
    settings = list(_settings())
    for group in dataclasses.fields(Settings):
        if group.metadata:
            titled = parser.add_argument_group(group.metadata["title"])
            for to, item, kind in settings:
                option = option_of(item)
                if option.flags and (option.among or to) == group.name:
                    *names, last = option.flags.split()
                    names, how = ([*names, last], {}) if last.startswith("-") else (names, {"metavar": last})
                    help = option.help if everything or option.common else argparse.SUPPRESS
                    how |= {"dest": f"{to}.{item.name}", "help": help}
                    titled.add_argument(*names, **_of_kind({**how, **option.how}, kind, item.default))


def _settings() -> Iterator[tuple[str, "dataclasses.Field[Any]", Any]]:
    """Yield of every setting its group, its field and its type."""
    for group, section in get_type_hints(Settings).items():
        kinds = get_type_hints(section)
        yield from ((group, item, kinds[item.name]) for item in dataclasses.fields(section))


def _of_kind(how: dict[str, Any], kind: Any, default: object) -> dict[str, Any]:
    """What the type of a setting and its default say of its option, besides what is said already."""
    if kind is bool:
        return {**how, "action": "store_true"}
    if how.get("action") == "count":
        return how
    several = get_origin(kind) in (tuple, types.UnionType, Union)
    inner = get_args(kind)[0] if several else kind
    if get_origin(inner) is Literal:
        how = {"choices": get_args(inner), **how}
    elif inner in READERS:
        how = {"type": READERS[inner], **how}
    if isinstance(default, tuple):
        how = {"nargs": "+", "action": "extend", **how}
    if default not in (None, ()) and how["help"] != argparse.SUPPRESS:
        how["help"] += f" (default: {_shown(default)})"
    return how


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
