"""Notices as values: what rules yield, what readers raise, and what choices carry.

A *reader* returns what a file contains, or raises `InputError` with what is wrong with the file.
A *rule* yields notices about a record and returns nothing. A *choice* is a pure function of
records; it returns a `Choice`, which is the chosen value with the notices about it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.findings import InputError

Value = TypeVar("Value")
Record = ParamSpec("Record")


@frozen
class Choice(Generic[Value]):
    """Chosen value, and notices about the choice; a choice with a problem has no valid value."""

    value: Value
    notices: tuple[Notice, ...] = ()


def problem(what: Path | str, why: str, remedy: str = "", *, code: str = "input") -> Notice:
    """Return a problem; without a remedy, the remedy of the code is shown."""
    return Notice(what=str(what), why=why, remedy=remedy, code=code)


def option_problem(what: str, why: str, remedy: str) -> Notice:
    """Return a problem of an option, which stops the whole call even if found in one run."""
    return problem(what, why, remedy, code="option")


def note(what: Path | str, why: str, *, code: str = "input") -> Notice:
    """Return a note."""
    return Notice(what=str(what), why=why, level="note", code=code)


def warning(what: Path | str, why: str, *, code: str = "input") -> Notice:
    """Return a warning."""
    return Notice(what=str(what), why=why, level="warning", code=code)


def problem_unless(forced: bool, what: Path | str, why: str, remedy: str) -> Notice:
    """Return a problem, or a note if `superres.force` is true."""
    if forced:
        return note(what, f"{why}. Processing continues because of --set superres.force=true.")
    return problem(what, why, remedy)


def is_problem(notice: Notice) -> bool:
    """Return whether a notice is a problem, which stops a run or the call."""
    return notice.level == "error"


def judge(
    rules: Iterable[Callable[Record, Iterable[Notice]]],
    *record: Record.args,
    **settings: Record.kwargs,
) -> Iterator[Notice]:
    """Yield the notices of rules on a record, or why the part that a rule needs is unreadable.

    All rules take the same arguments.
    """
    for rule in rules:
        try:
            yield from rule(*record, **settings)
        except InputError as error:
            yield from error.problems


def attempt(
    default: Value,
    choose: Callable[Record, Choice[Value]],
    *record: Record.args,
    **settings: Record.kwargs,
) -> Choice[Value]:
    """Return a choice; if it is refused, return a default value with the problems."""
    try:
        return choose(*record, **settings)
    except InputError as error:
        return Choice(value=default, notices=error.problems)


def attribute(
    notices: Iterable[Notice], subject: str = "", run: str = "", *, code: str = ""
) -> Iterator[Notice]:
    """Yield notices as notices about a participant and run, unless they are about another one.

    `code` replaces the general code ``input``; "" keeps it.
    """
    for notice in notices:
        if subject and not notice.subject:
            notice = replace(notice, subject=subject, run=run)
        yield replace(notice, code=code) if code and notice.code == "input" else notice
