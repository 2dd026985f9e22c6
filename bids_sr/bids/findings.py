"""Notices collected while a data set is checked; those that are errors are its problems."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bids_sr.config import UsageError
from bids_sr.io.image_header import Header
from bids_sr.notices import Level, Notice


class InputError(UsageError):
    """The data set cannot be used as it stands; `problems` holds every reason found."""

    def __init__(self, problems: Sequence[Notice]) -> None:
        super().__init__("\n".join(str(problem) for problem in grouped(problems)))
        self.problems = tuple(problems)


def refusal(what: Path | str, why: str, remedy: str) -> InputError:
    """Make the exception for a single problem, to raise."""
    return InputError([Notice(what=str(what), why=why, remedy=remedy)])


def absent(path: Path) -> str:
    """Return what replaces a file not downloaded (dangling link or pointer), or "" otherwise.

    Phrase such as ``a pointer of git-annex``, or an empty text.
    """
    if path.is_symlink() and not path.exists():
        return "the symbolic link is broken"
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            start = stream.read(64)
    except OSError:
        return ""
    if start.startswith(b"/annex/objects/"):
        return "the file is a git-annex pointer"
    return "the file is a Git LFS pointer" if start.startswith(b"version https://git-lfs") else ""


def _not_downloaded(path: Path, what: str) -> Notice:
    code = "lfs" if "LFS" in what else "annex"
    get = (
        f"`git lfs pull -I {path.name}`"
        if code == "lfs"
        else f"`datalad get {path}` (or `git annex get`)"
    )
    return Notice(
        what=str(path),
        why=f"the file content has not been downloaded: {what}",
        remedy=f"Download it: {get}.",
        code=code,
    )


def require(path: Path) -> None:
    """Raise `InputError` for a file that was not downloaded."""
    what = absent(path)
    if what:
        raise InputError([_not_downloaded(path, what)])


def grouped(problems: Iterable[Notice]) -> list[Notice]:
    """Group problems for display.

    A problem of several runs is shown once, all DataLad links without a target with one command.
    """
    every = list(dict.fromkeys(problem.of_all() for problem in problems))
    links = [problem for problem in every if problem.code == "annex"]
    if len(links) < 2:
        return every
    top = Path(os.path.commonpath([problem.what for problem in links]))
    names = " ".join(shlex.quote(str(Path(problem.what).relative_to(top))) for problem in links)
    notice = Notice(
        what=f"{top} ({len(links)} files)",
        why=(
            "the file contents have not been downloaded: the files are broken links or git-annex"
            " pointers"
        ),
        remedy=(
            f"Download them: `cd {shlex.quote(str(top))} && datalad get {names}` (or `git annex"
            " get`)."
        ),
    )
    first = every.index(links[0])
    return [
        notice if k == first else problem
        for k, problem in enumerate(every)
        if k == first or problem not in links
    ]


def counted(notices: Iterable[Notice]) -> list[Notice]:
    """Group equal notices for display, as the first file and the number of others.

    `notices`: notes and warnings in the order of being found.
    """
    alike: dict[tuple[str, Level], dict[str, Notice]] = {}
    for notice in notices:
        alike.setdefault((notice.why, notice.level), {}).setdefault(notice.what, notice)
    return [
        replace(first.of_all(), what=f"{first.what} and {len(others)} more") if others else first
        for first, *others in (each.values() for each in alike.values())
    ]


@dataclass(slots=True)
class Findings:
    """What is found while inputs are checked, each notice once, in the order of being found."""

    problems: list[Notice] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    headers: dict[Path, Header] = field(default_factory=dict)
    _subject: str = field(default="", init=False, repr=False, compare=False)
    _run: str = field(default="", init=False, repr=False, compare=False)
    _code: str = field(default="input", init=False, repr=False, compare=False)
    _known: set[Notice] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._known = {*self.problems, *self.notices}

    @contextlib.contextmanager
    def about(self, subject: str = "", run: str = "", *, code: str = "") -> Iterator[None]:
        """Attribute notices added in the context to this participant, run and code by default.

        `run`: name of the run; empty for the participant alone. `code`: code of notices that are
        added with the general one; empty changes nothing.
        """
        before = self._subject, self._run, self._code
        self._subject = subject
        self._run = run
        self._code = code or self._code
        try:
            yield
        finally:
            self._subject, self._run, self._code = before

    def refuse(self, what: Path | str, why: str, remedy: str = "", *, code: str = "input") -> None:
        """Add a problem; its code gives a remedy where there is none.

        `code`: kind of notice, as in `bids_sr.notices.CODES`.
        """
        self.add([Notice(what=str(what), why=why, remedy=remedy, code=code)])

    def refuse_option(self, what: str, why: str, remedy: str) -> None:
        """Add a problem of an option, which stops the whole call even if one run revealed it."""
        self.add([Notice(what=what, why=why, remedy=remedy, code="option")])

    def tell(self, what: Path | str, why: str, *, code: str = "input") -> None:
        """Add a note.

        `code`: kind of notice that readers tell apart; empty for none.
        """
        self.add([Notice(what=str(what), why=why, level="note", code=code)])

    def warn(self, what: Path | str, why: str, *, code: str = "input") -> None:
        """Add a warning.

        `code`: kind of notice, as in `bids_sr.notices.CODES`.
        """
        self.add([Notice(what=str(what), why=why, level="warning", code=code)])

    def refuse_unless(self, forced: bool, what: Path | str, why: str, remedy: str) -> None:
        """Add a problem, or a note where ``--force`` was given."""
        if forced:
            self.tell(what, f"{why}. Processing continues because of --force.")
        else:
            self.refuse(what, why, remedy)

    def fetched(self, path: Path) -> bool:
        """False, with a problem, for a file of DataLad or Git LFS that was not downloaded.

        True also for a file that does not exist.
        """
        what = absent(path)
        if what:
            self.add([_not_downloaded(path, what)])
        return not what

    def add(self, notices: Iterable[Notice]) -> None:
        """Add what is not there yet."""
        for each in notices:
            notice = (
                each
                if each.subject or not self._subject
                else replace(each, subject=self._subject, run=self._run)
            )
            if notice.code == "input":
                notice = replace(notice, code=self._code)
            if notice not in self._known:
                self._known.add(notice)
                (self.problems if notice.level == "error" else self.notices).append(notice)

    def add_all(self, other: Findings) -> None:
        """Add the problems and notices of other findings."""
        self.add([*other.problems, *other.notices])
