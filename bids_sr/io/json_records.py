"""Frozen records as values of a JSON file, and back with the types of their fields."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def record_to_json(value: Any) -> Any:
    """Return a record, with all records in it, as values of a JSON file.

    Mappings become lists of pairs, because their keys may be tuples, and numbers that JSON cannot
    express become texts.
    """
    if is_dataclass(value):
        return {item.name: record_to_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return [[record_to_json(key), record_to_json(item)] for key, item in value.items()]
    if isinstance(value, tuple):
        return [record_to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def record_from_json(content: Any, kind: Any) -> Any:
    """Return the value that `record_to_json` has converted; `kind` is its annotated type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (UnionType, Union):  # optional
        (inner_kind,) = (argument for argument in arguments if argument is not type(None))
        return None if content is None else record_from_json(content, inner_kind)
    if hasattr(kind, "__dataclass_fields__"):
        hints = _get_hints(kind)
        return kind(
            **{name: record_from_json(item, hints[name]) for name, item in content.items()}
        )
    if origin is tuple:
        kinds = arguments[:1] * len(content) if arguments[-1] is ... else arguments
        return tuple(map(record_from_json, content, kinds))
    if origin is not None and origin is not Literal:  # mapping
        key_kind, item_kind = arguments
        return {
            record_from_json(key, key_kind): record_from_json(item, item_kind)
            for key, item in content
        }
    return content if origin is Literal else kind(content)


@cache
def _get_hints(kind: type) -> dict[str, Any]:
    """Return the types of the fields of a record."""
    return get_type_hints(kind)
