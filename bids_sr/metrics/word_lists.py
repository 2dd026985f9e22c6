"""Enumerations of words in sentences."""

from collections.abc import Sequence


def enumerate_words(words: Sequence[str]) -> str:
    """Return words as an enumeration, "" if there are none.

    >>> enumerate_words(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
