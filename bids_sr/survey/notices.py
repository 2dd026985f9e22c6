"""Notices as values: what rules yield, what readers raise, and what choices carry.

A *reader* returns what a file contains, or raises `InputError` with what is wrong with the file.
A *rule* yields notices about a record and returns nothing. A *choice* is a pure function of
records; it returns a `Choice`, which is the chosen value with the notices about it.
"""

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice, NoticeLevel, UsageError

Value = TypeVar("Value")
Record = ParamSpec("Record")


class InputError(UsageError):
    """Error that the data set cannot be used; `problems` lists all reasons."""

    def __init__(self, problems: Sequence[Notice]) -> None:
        super().__init__("\n".join(str(problem) for problem in group_problems(problems)))
        self.problems = tuple(problems)


@frozen
class Choice(Generic[Value]):
    """Chosen value, and notices about the choice; a choice with a problem has no valid value."""

    value: Value
    notices: tuple[Notice, ...] = ()


def problem(what: Path | str, why: str, remedy: str = "", *, code: str = "input") -> Notice:
    """Return a problem; without a remedy, the remedy of the code is shown."""
    return Notice(what=str(what), why=why, remedy=remedy, code=code)


def input_error(what: Path | str, why: str, remedy: str) -> InputError:
    """Return the exception for a single problem, for the caller to raise."""
    return InputError([problem(what, why, remedy)])


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


def group_problems(problems: Iterable[Notice]) -> list[Notice]:
    """Group problems for display.

    A problem shared by several runs is shown once, and all git-annex files are shown with one
    command.
    """
    distinct = list(dict.fromkeys(problem.of_all() for problem in problems))
    annex_problems = [problem for problem in distinct if problem.code == "annex"]
    if len(annex_problems) < 2:
        return distinct
    folder = Path(os.path.commonpath([problem.what for problem in annex_problems]))
    names = " ".join(
        shlex.quote(str(Path(problem.what).relative_to(folder))) for problem in annex_problems
    )
    group = Notice(
        what=f"{folder} ({len(annex_problems)} files)",
        why=(
            "the file contents have not been downloaded: the files are broken links or git-annex"
            " pointers"
        ),
        remedy=(
            f"Download them: `cd {shlex.quote(str(folder))} && datalad get {names}` (or `git annex"
            " get`)."
        ),
    )
    index = distinct.index(annex_problems[0])
    others = [problem for problem in distinct if problem not in annex_problems]
    return [*others[:index], group, *others[index:]]


def group_notices(notices: Iterable[Notice]) -> list[Notice]:
    """Group notes and warnings for display, as the first file and the number of further files.

    Order of first appearance is kept.
    """
    groups: dict[tuple[str, NoticeLevel], dict[str, Notice]] = {}
    for notice in notices:
        groups.setdefault((notice.why, notice.level), {}).setdefault(notice.what, notice)
    return [
        replace(first.of_all(), what=f"{first.what} and {len(similar_notices)} more")
        if similar_notices
        else first
        for first, *similar_notices in (group.values() for group in groups.values())
    ]
