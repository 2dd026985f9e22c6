"""Lists of labels in messages."""

from collections.abc import Sequence

from bids_sr.config import suggest_name

_LISTED = 20  # maximum number of labels in a message


def list_some(labels: Sequence[str], limit: int = _LISTED) -> str:
    """List labels for a message, ``none`` if there are none, and only the first of many.

    >>> list_some(["a", "b"])
    'a, b'
    >>> list_some("abcd", 2)
    'a, b and 2 more'
    """
    text = ", ".join(labels[:limit]) or "none"
    return text + (f" and {len(labels) - limit} more" if len(labels) > limit else "")


def choice(label: str, existing: Sequence[str]) -> str:
    """Return the available labels as a sentence, with a suggestion if not all are listed.

    `existing` must be sorted.

    >>> choice("3", ["01", "02", "03"])
    '01, 02, 03.'
    """
    if not existing:
        return "none; omit the option."
    hidden = existing[_LISTED:]
    return f"{list_some(existing, _LISTED)}. {suggest_name(label, hidden)}".strip()
