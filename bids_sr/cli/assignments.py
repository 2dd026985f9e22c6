"""Settings on the command line: ``--set SECTION.FIELD=VALUE``.

Values pass the readers of the flags and are then checked like values of flags and files.
"""

import argparse
import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from bids_sr.cli.options import ParsedOptions, flatten, get_reader
from bids_sr.config import Settings, suggest_name
from bids_sr.config.section import get_option
from bids_sr.config.values import SettingError, as_toml
from bids_sr.io.notices import UsageError
from bids_sr.sr.method import method_names

FLAG = "--set"
_FORM = "SECTION.FIELD=VALUE or METHOD.FIELD=VALUE"


def format_settings() -> str:
    """Return the settings without a flag for the help, with defaults and descriptions."""
    import textwrap

    lines = ["settings for --set SECTION.FIELD=VALUE, with their defaults:"]
    section = ""
    for name, item in list_settings_without_flag().items():
        if name.partition(".")[0] != section:
            section = name.partition(".")[0]
            lines.append(f"  {section}")
        assignment = f"    {item.name}={format_value(item.default)}"
        # up to the first detail; the documentation contains the whole text
        summary = re.split(r": |\. |, (?:for|such)| \(default", get_option(item).help)[0]
        lines += textwrap.wrap(
            f"{assignment:<29} {summary}",
            79,
            subsequent_indent=30 * " ",
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def list_settings_without_flag() -> dict[str, "dataclasses.Field[Any]"]:
    """Return the settings that only ``--set`` sets, by ``section.field``."""
    return {name: item for name, item in list_settings().items() if not get_option(item).flags}


def format_value(value: object) -> str:
    """Return a value as it is written on the command line."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"[{', '.join(map(format_value, value))}]"
    return value if isinstance(value, str) else as_toml(value)


def add_assignments(inputs: ParsedOptions) -> tuple[ParsedOptions, frozenset[str]]:
    """Return the options of a command line with the settings of ``--set``, and their names.

    Changes of recipes stay in ``superres.recipe_changes``. Raises `UsageError` if a setting is
    unknown, has a value of the wrong form or is specified twice.
    """
    texts = inputs.get("superres", {}).get("recipe_changes")
    if not isinstance(texts, Sequence):
        return inputs, frozenset()
    completed = {section: dict(names) for section, names in inputs.items()}
    completed["superres"]["recipe_changes"] = changes = []
    assigned = set[str]()
    settings = list_settings()
    for text in map(str, texts):
        name, equals, value = text.partition("=")
        name = name.strip()
        section, _, field = name.partition(".")
        if name in settings and equals:
            _check_once(name, settings[name], inputs.get(section, {}), assigned)
            assigned.add(name)
            completed.setdefault(section, {})[field] = read_value(name, settings[name], value)
        elif (
            section in method_names()
            and field
            and not get_close_matches(
                name, [known for known in settings if known.startswith(f"{section}.")], cutoff=0.8
            )
        ):
            changes.append(text)
        else:
            _reject(text, name, settings)
    if not changes:
        del completed["superres"]["recipe_changes"]
    return completed, frozenset(assigned)


def list_settings() -> dict[str, "dataclasses.Field[Any]"]:
    """Return the settings that ``--set`` accepts, by ``section.field``.

    Excluded are positional arguments, identifiers and the changes of recipes, which are set by
    ``METHOD.FIELD=VALUE``.
    """
    return {
        f"{section}.{item.name}": item
        for section, kind in get_type_hints(Settings).items()
        for item in dataclasses.fields(kind)
        if not get_option(item).is_internal
        and (not (flags := get_option(item).flags) or flags.startswith("-"))
        and not flags.startswith(FLAG)
    }


def _check_once(
    name: str,
    item: "dataclasses.Field[Any]",
    flag_values: Mapping[str, object],
    assigned: Collection[str],
) -> None:
    """Raise `UsageError` if a setting is already specified by its flag or by ``--set``."""
    other_door = ""
    if name in assigned:
        other_door = f"{FLAG} {name}"
    elif item.name in flag_values:
        other_door = next(flag for flag in get_option(item).flags.split() if flag.startswith("--"))
    if other_door:
        raise UsageError(
            f"{FLAG} {name}",
            f"this setting is also specified by {other_door}",
            "specify the setting only once",
        )


def read_value(name: str, item: "dataclasses.Field[Any]", text: str) -> object:
    """Return the value of a setting that is written as in TOML; quotes are optional.

    Raises `SettingError` if the reader of the setting does not accept the value.
    """
    hint = get_type_hints(Settings)[name.partition(".")[0]]
    annotation = get_type_hints(hint)[item.name]
    words = split_words(text)
    if annotation is bool:
        if words not in (["true"], ["false"]):
            raise SettingError(f"{FLAG} {name}", text, "expected true or false", _fix(item))
        return words == ["true"]
    reader = get_reader(item, annotation)
    is_tuple = get_origin(annotation) is tuple
    if words == ["none"] and type(None) in get_args(annotation):
        return None
    if not is_tuple and len(words) != 1:
        raise SettingError(f"{FLAG} {name}", text, "expected a single value", _fix(item))
    values = [_read_word(name, item, word, reader) for word in words]
    return flatten(values) if is_tuple else values[0]


def split_words(text: str) -> list[str]:
    """Return the elements of a TOML list as text, or a single element.

    Strings need no quotes, also in lists, unless they contain a comma.

    >>> split_words("[0, 5]"), split_words("quarter"), split_words("[quarter, 'fdr']")
    (['0', '5'], ['quarter'], ['quarter', 'fdr'])
    """
    import tomllib

    try:
        tables = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        tables = {}
    value = tables.get("value")
    if isinstance(value, str) and len(tables) == 1:
        return [value]
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")):
        return [stripped]
    if isinstance(value, list) and len(tables) == 1:
        return [str(element) for element in value]
    import csv

    words = next(csv.reader([stripped[1:-1]], skipinitialspace=True), [])
    return [word.strip().strip("'") for word in words]


def _read_word(
    name: str, item: "dataclasses.Field[Any]", word: str, reader: Callable[[str], object]
) -> object:
    """Return the value of one word, or raise `SettingError`."""
    try:
        return reader(word)
    except argparse.ArgumentTypeError as error:
        reason = str(error)
    except ValueError:
        type_name = getattr(reader, "__name__", "value")
        reason = f"expected a value of type {type_name}"
    raise SettingError(f"{FLAG} {name}", word, reason, _fix(item)) from None


def _fix(item: "dataclasses.Field[Any]") -> str:
    """Return the remedy for an invalid value: the description of the setting."""
    return f"change the value. Description: {get_option(item).help}"


def _reject(text: str, name: str, settings: Mapping[str, object]) -> NoReturn:
    """Raise `UsageError` with the nearest name for a setting that does not exist."""
    if name in settings:
        raise UsageError(f"{FLAG} {text}", f"expected {_FORM}", f"write {name}=VALUE")
    section, _, field = name.partition(".")
    names = [*settings, *(f"{method}.{field}" for method in method_names() if method != section)]
    fix = suggest_name(name, names)
    sections = dict.fromkeys(setting.partition(".")[0] for setting in settings)
    if section not in sections:
        reason = f"expected {_FORM}, with one of the sections {', '.join(sections)}"
    else:
        fields = (known.partition(".")[2] for known in settings if known.startswith(f"{section}."))
        reason = f"the section {section} has the fields {', '.join(fields)}"
    raise UsageError(
        f"{FLAG} {text}", reason, fix or "run bids-sr --help-all for the available settings"
    )
