"""Values from JSON files as their expected types; a value of another type counts as absent."""

import math
from collections.abc import Mapping


def real(value: object, absent: float = math.nan) -> float:
    """A number.

    >>> real(0.5), real("n/a", 1.0), real(None)
    (0.5, 1.0, nan)
    """
    return float(value) if isinstance(value, int | float) else absent


def listed(value: object) -> list[object]:
    """The items of a list.

    Items in order; empty for anything but a list or tuple.
    """
    return list(value) if isinstance(value, list | tuple) else []


def texts(value: object) -> list[str]:
    """The items of a list as text.

    Items in order as text; empty for anything but a list or tuple.
    """
    return [str(each) for each in listed(value)]


def mapped(value: object) -> Mapping[str, object]:
    """A mapping.

    The mapping itself; empty for anything else.
    """
    return value if isinstance(value, Mapping) else {}
