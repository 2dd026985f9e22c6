"""Values from JSON files with their expected type; a value of another type counts as absent."""

import json
import math
from collections.abc import Mapping
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises `ValueError` if the text is not valid, nested more deeply than can be read, or contains
    an integer that is too large for a float.
    """
    try:
        return json.loads(text, parse_int=_parse_integer)
    except RecursionError as error:
        raise ValueError("lists or objects are nested too deeply") from error


def _parse_integer(digits: str) -> int:
    """Return an integer; `ValueError` if it is too large for a float."""
    if math.isinf(float(digits)):
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def as_number(value: object, absent: float = math.nan) -> float:
    """Return a number, or `absent` if the value is not a number.

    >>> as_number(0.5), as_number("n/a", 1.0), as_number(None)
    (0.5, 1.0, nan)
    """
    return float(value) if isinstance(value, int | float) else absent


def as_texts(value: object) -> list[str]:
    """Return the items of a list or tuple as text, or [] for any other value."""
    return [str(item) for item in as_list(value)]


def as_list(value: object) -> list[object]:
    """Return the items of a list or tuple, or [] for any other value."""
    return list(value) if isinstance(value, list | tuple) else []


def as_mapping(value: object) -> Mapping[str, object]:
    """Return a mapping, or {} for any other value."""
    return value if isinstance(value, Mapping) else {}
