"""Lists of labels in messages."""

from collections.abc import Sequence

from bids_sr.config import suggest_name

_LIST_LIMIT = 20  # maximum number of labels in a message


def list_available(label: str, existing: Sequence[str]) -> str:
    """Return the available labels as a sentence, with a suggestion if not all are listed.

    `label` is the missing label, `existing` the available labels, sorted.

    >>> list_available("3", ["01", "02", "03"])
    '01, 02, 03.'
    """
    if not existing:
        return "none; omit the option."
    unlisted = existing[_LIST_LIMIT:]
    return f"{list_some(existing)}. {suggest_name(label, unlisted)}".strip()


def list_some(labels: Sequence[str], limit: int = _LIST_LIMIT) -> str:
    """List labels for a message, ``none`` if there are none, and only the first of many.

    >>> list_some(["a", "b"])
    'a, b'
    >>> list_some("abcd", 2)
    'a, b and 2 more'
    """
    text = ", ".join(labels[:limit]) or "none"
    return text + (f" and {len(labels) - limit} more" if len(labels) > limit else "")
