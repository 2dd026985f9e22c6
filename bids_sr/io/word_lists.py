"""Enumerations of words in sentences."""

from collections.abc import Iterable, Sequence


def enumerate_unique(words: Iterable[str], conjunction: str = "and") -> str:
    """Return words as an enumeration that contains repeated words once.

    >>> enumerate_unique(["a", "b", "b", "c"], "or")
    'a, b or c'
    """
    return enumerate_words(list(dict.fromkeys(words)), conjunction)


def enumerate_words(words: Sequence[str], conjunction: str = "and") -> str:
    """Return words as an enumeration, "" if there are none.

    >>> enumerate_words(["a", "b", "c"])
    'a, b and c'
    """
    return f" {conjunction} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def add_counts(counts: Iterable[tuple[str, int]], noun: str) -> list[str]:
    """Return labels of participants as text, with the number of runs or sessions unless it is one.

    >>> add_counts([("sub-01", 1), ("sub-02", 2)], "runs")
    ['sub-01', 'sub-02 (2 runs)']
    """
    return [label if count == 1 else f"{label} ({count} {noun})" for label, count in counts]


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural.

    >>> format_count(1, "run"), format_count(2, "run")
    ('1 run', '2 runs')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
