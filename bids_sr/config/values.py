"""Values from files: reading, checking, conversion to annotated types, and writing as TOML."""

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from bids_sr.io.notices import InvalidInput, UsageError
from bids_sr.sr.recipe_changes import RecipeChange

_MAX_FLOAT = sys.float_info.max
_MIN_SIMILARITY = 0.75  # of a proposed name and an unknown name, as defined by difflib
_MIN_KEYWORD_LENGTH = 3  # characters; shorter keywords begin or end too many names


class SettingError(UsageError):
    """Error that a setting (``group.name``) has an invalid value."""

    def __init__(self, setting: str, value: object, why: str, fix: str) -> None:
        super().__init__(f"{setting}: {value}", why, fix)
        self.setting, self.value = setting, value


def read_tables(path: Path, kind: str, yaml: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file, or a YAML file if its extension is in `yaml`.

    Returns the values by key; a YAML file may also contain another type. `kind` names the kind of
    file in messages.
    """
    import tomllib

    from yaml import YAMLError, safe_load

    from bids_sr.io.atomic_files import read_text

    form, parse = ("YAML", safe_load) if path.suffix in yaml else ("TOML", tomllib.loads)
    try:
        return parse(read_text(path).replace("\r\n", "\n"))
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror}"
        fix = "check the path"
        raise UsageError(f"{kind} {path}", reason, fix) from error
    except (ValueError, RecursionError, YAMLError) as error:
        reason = f"the file is not valid {form}: {error}"
        fix = "correct the line that is mentioned in this message"
        raise UsageError(f"{kind} {path}", reason, fix) from error


def as_annotated(value: object, hint: object, setting: str) -> object:
    """Return `value` converted to the annotation `hint`.

    Lists become tuples, single numbers tuples, text becomes a path, integers become floats, and
    mappings become objects of a dataclass. The word ``none`` means None.
    Raises `SettingError` with the name `setting` if the value cannot be converted.
    """
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    # typing.Union if one of the two types is a Literal
    if origin in (types.UnionType, typing.Union):
        inner = next(arg for arg in args if arg is not type(None))
        if value is None or value == "none":
            return None
        return as_annotated(value, inner, setting)
    if origin is Literal:
        return _as_choice(value, args, setting)
    if isinstance(value, dict) and isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint(**value)
    if hint is RecipeChange and isinstance(value, str):
        try:
            return RecipeChange.from_text(value)
        except InvalidInput as error:
            raise SettingError(setting, value, error.reason, error.remedy) from None
    if origin is tuple:
        is_single = args[0] is float and isinstance(value, int | float)
        items = (value,) if is_single else value
        if isinstance(items, list | tuple):
            return tuple(as_annotated(item, args[0], setting) for item in items)
    elif hint is Path:
        if isinstance(value, str | Path):
            return Path(value)
    elif hint is float:
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) <= _MAX_FLOAT
        ):
            return float(value)
    elif (
        isinstance(hint, type)
        and isinstance(value, hint)
        and (hint is bool or not isinstance(value, bool))  # a bool is also an int
    ):
        return value
    type_name = getattr(hint, "__name__", str(hint)) if origin is None else "list"
    raise SettingError(
        setting, repr(value), f"expected a value of type {type_name}", "change the value"
    )


def _as_choice(value: object, choices: Sequence[object], setting: str) -> object:
    """Return `value` if it is one of the choices of a setting; otherwise raise `SettingError`."""
    if value in choices:
        return value
    names = list(map(str, choices))
    fix = suggest_name(str(value), names) or "choose one of these values"
    reason = f"the value must be one of {', '.join(names)}"
    raise SettingError(setting, repr(value), reason, fix)


def suggest_name(name: str, names: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` with the known name most similar to `name`, or "".

    >>> suggest_name("--smothing", ["--smoothing", "--roi"])
    "did you mean '--smoothing'?"
    >>> suggest_name("--run", ["--run-id", "--truth"])
    "did you mean '--run-id'?"
    >>> suggest_name("precentrla", ["Heschl_L", "Precentral_L"])
    "did you mean 'Precentral_L'?"
    >>> suggest_name("--notrack", ["--level", "--truth"])
    ''
    """
    keyword = name.lstrip("-").lower()
    known_names = {known_name.lstrip("-").lower(): known_name for known_name in names}
    matches = []
    if len(keyword) >= _MIN_KEYWORD_LENGTH:
        endings = (f".{keyword}", f"-{keyword}")
        matches = [
            candidate
            for candidate in known_names
            if candidate.startswith(keyword) or candidate.endswith(endings)
        ]
    if len(matches) != 1:
        from difflib import get_close_matches

        matches = get_close_matches(keyword, list(known_names), n=1, cutoff=_MIN_SIMILARITY)
    return f"did you mean {known_names[matches[0]]!r}?" if matches else ""


def as_toml(value: object) -> str:
    """Return a value as TOML.

    Strings are escaped as in JSON, which differs from TOML only in the delete character.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def split_named(text: str) -> tuple[str, str]:
    """Split ``NAME=VALUE`` of an option into name and value.

    The name is "" if it is missing, as in a path that contains ``=``.

    >>> split_named("fmriprep=out"), split_named("./a=b"), split_named("tap-rest=map.nii.gz")
    (('fmriprep', 'out'), ('', './a=b'), ('tap-rest', 'map.nii.gz'))
    """
    name, equals, value = text.partition("=")
    return (name.strip(), value) if equals and name.strip() and "/" not in name else ("", text)
