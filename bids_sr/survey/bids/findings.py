"""Notices collected while a data set is checked; notices of level error are called problems."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from bids_sr.io.checksums import once_per_state
from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice, NoticeLevel, UsageError

_DENIED = "permission denied"
_HAS_EFFECTIVE_IDS = os.access in os.supports_effective_ids


class InputError(UsageError):
    """Error that the data set cannot be used; `problems` lists all reasons."""

    def __init__(self, problems: Sequence[Notice]) -> None:
        super().__init__("\n".join(str(problem) for problem in group_problems(problems)))
        self.problems = tuple(problems)


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


def input_error(what: Path | str, why: str, remedy: str) -> InputError:
    """Return the exception for a single problem, for the caller to raise."""
    return InputError([Notice(what=str(what), why=why, remedy=remedy)])


def require_content(path: Path) -> None:
    """Raise `InputError` if the content of a file was not downloaded, or may not be read."""
    reason = missing_content_reason(path)
    if reason:
        raise InputError([_describe_missing_content(path, reason)])


@dataclass(slots=True)
class Findings:
    """Notices about the inputs, without duplicates, in order of addition.

    While its context is open, functions such as `add_problem` add notices to it. Contexts are
    nested: the innermost collects the notices, and `add_all` hands them on.
    """

    problems: list[Notice] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    headers: dict[Path, Header] = field(default_factory=dict)
    _scope: tuple[str, str, str] = field(default=("", "", "input"), init=False, compare=False)
    _known: set[Notice] = field(default_factory=set, init=False, repr=False, compare=False)
    _token: Token[Findings] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._known = {*self.problems, *self.notices}

    def __enter__(self) -> Self:
        self._token = _CURRENT.set(self)
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._token is not None
        _CURRENT.reset(self._token)

    def raise_problems(self) -> None:
        """Raise `InputError` if there are problems."""
        if self.problems:
            raise InputError(self.problems)


_CURRENT: ContextVar[Findings] = ContextVar("findings")


def current_findings() -> Findings:
    """Return the findings that collect notices; `LookupError` outside of their context."""
    return _CURRENT.get()


@contextlib.contextmanager
def about(subject: str = "", run: str = "", *, code: str = "") -> Iterator[None]:
    """Attribute notices that are added in this context to a participant and run.

    `run` is the name of the run, "" for notices about the participant. `code` is for notices
    with the general code ``input``; "" keeps the current code.
    """
    findings = current_findings()
    previous = findings._scope
    findings._scope = subject, run, code or previous[2]
    try:
        yield
    finally:
        findings._scope = previous


def add_problem(what: Path | str, why: str, remedy: str = "", *, code: str = "input") -> None:
    """Add a problem; without a remedy, the remedy of the code is shown.

    `code` is a kind of notice in `bids_sr.io.notices.CODES`.
    """
    add_notices([Notice(what=str(what), why=why, remedy=remedy, code=code)])


def refuse_option(what: str, why: str, remedy: str) -> None:
    """Add a problem of an option, which stops the whole call even if found in one run."""
    add_problem(what, why, remedy, code="option")


def note(what: Path | str, why: str, *, code: str = "input") -> None:
    """Add a note; `code` is a kind of notice in `bids_sr.io.notices.CODES`."""
    add_notices([Notice(what=str(what), why=why, level="note", code=code)])


def warn(what: Path | str, why: str, *, code: str = "input") -> None:
    """Add a warning; `code` is a kind of notice in `bids_sr.io.notices.CODES`."""
    add_notices([Notice(what=str(what), why=why, level="warning", code=code)])


def refuse_unless(forced: bool, what: Path | str, why: str, remedy: str) -> None:
    """Add a problem, or a note if `superres.force` is true."""
    if forced:
        note(what, f"{why}. Processing continues because of --set superres.force=true.")
    else:
        add_problem(what, why, remedy)


def is_downloaded(path: Path) -> bool:
    """Return whether a file was downloaded (DataLad, Git LFS) and may be read.

    If not, the reason is reported as a problem. Files that do not exist count as downloaded.
    """
    reason = missing_content_reason(path)
    if reason:
        add_notices([_describe_missing_content(path, reason)])
    return not reason


def add_notices(notices: Iterable[Notice]) -> None:
    """Add notices that have not been added before."""
    findings = current_findings()
    subject, run, code = findings._scope
    for unattributed in notices:
        notice = (
            unattributed
            if unattributed.subject or not subject
            else replace(unattributed, subject=subject, run=run)
        )
        if notice.code == "input":
            notice = replace(notice, code=code)
        if notice not in findings._known:
            findings._known.add(notice)
            (findings.problems if notice.level == "error" else findings.notices).append(notice)


def add_all(other: Findings) -> None:
    """Add the problems and notices of other findings."""
    add_notices([*other.problems, *other.notices])


def count_problems() -> int:
    """Return the number of problems that were found so far."""
    return len(current_findings().problems)


def has_problem(path: Path | None) -> bool:
    """Return whether a problem of a file was found."""
    return any(problem.what == str(path) for problem in current_findings().problems)


def missing_content_reason(path: Path) -> str:
    """Return why the content of a file is missing, or "" if it is not.

    An example is ``the file is a git-annex pointer``. Content is also missing if it may not be
    read.
    """
    try:
        if path.is_symlink() and not path.exists():
            return "the symbolic link is broken"
        if not path.is_file():
            return ""
        start = _read_start(path)
    except PermissionError:
        return _DENIED
    except OSError:
        return ""
    if start.startswith(b"/annex/objects/"):
        return "the file is a git-annex pointer"
    return "the file is a Git LFS pointer" if start.startswith(b"version https://git-lfs") else ""


@once_per_state
def _read_start(path: Path) -> bytes:
    """Read the first bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(64)


def is_denied(folder: Path) -> bool:
    """Return whether a folder exists whose files this user may not list or read."""
    return os.path.isdir(folder) and not os.access(
        folder, os.R_OK | os.X_OK, effective_ids=_HAS_EFFECTIVE_IDS
    )


@contextlib.contextmanager
def refuse_denied() -> Iterator[None]:
    """Raise `InputError` in place of the error about a file that this user may not read."""
    try:
        yield
    except PermissionError as error:
        if error.filename is None:
            raise
        raise InputError([describe_denied(Path(error.filename))]) from error


def _describe_missing_content(path: Path, reason: str) -> Notice:
    """Return the problem of a file without content, with the command that makes it available.

    `reason` is the reason from `missing_content_reason`.
    """
    if reason == _DENIED:
        return describe_denied(path)
    code = "lfs" if "LFS" in reason else "annex"
    command = (
        f"`git lfs pull -I {path.name}`"
        if code == "lfs"
        else f"`datalad get {path}` (or `git annex get`)"
    )
    return Notice(
        what=str(path),
        why=f"the file content has not been downloaded: {reason}",
        remedy=f"Download it: {command}.",
        code=code,
    )


def describe_denied(path: Path) -> Notice:
    """Return the problem of a file or folder that this user may not read.

    The problem names the folder above it that cannot be entered, if there is one.
    """
    closed_folders = (
        folder
        for folder in reversed(path.parents)
        if not os.access(folder, os.X_OK, effective_ids=_HAS_EFFECTIVE_IDS)
    )
    path = next(closed_folders, path)
    is_folder = path.is_dir()
    is_owner = path.stat().st_uid == os.geteuid()
    mode = f"{'u' if is_owner else 'a'}+r{'X' if is_folder else ''}"
    command = f"`chmod {'-R ' if is_folder else ''}{mode} {shlex.quote(str(path))}`"
    return Notice(
        what=str(path),
        why=f"{_DENIED}: this user may not read the {'directory' if is_folder else 'file'}",
        remedy=f"Change the permissions: {command}."
        if is_owner
        else f"Ask the owner of the data for read permission, for example by {command}.",
        code="forbidden",
    )


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
