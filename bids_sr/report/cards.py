"""Cards of the pages of groups and structural scans."""

from typing import NamedTuple


class Card(NamedTuple):
    """Card of a page: a value, a clause about it, and facts, one per line.

    `hint` is a definition that is shown as a tooltip; it may be empty.
    """

    value: str
    label: str
    facts: tuple[str, ...] = ()
    hint: str = ""
