"""Problems and notices that are collected while a data set is checked."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bids_sr.bids.image_header import Header
from bids_sr.config import UsageError

Word = Literal["note", "warning"]
_ABSENT = "it is not downloaded: "


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why the run cannot start."""

    file: str  # what it is about: a path, or an option where there is no file
    reason: str
    fix: str  # what the user can do
    about: str = ""  # participant (``sub-01``) or name of the run; "" for the whole call

    def __str__(self) -> str:
        return f"{self.file}\n  why: {self.reason}\n  fix: {self.fix}"


@dataclass(frozen=True, slots=True)
class Notice:
    """What the user should know of what is done: to the terminal, where `word` stands before it, and to the report."""

    file: str
    text: str
    about: str = ""  # as in `Problem`
    word: Word = "note"  # a fact, or something that may be wrong

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"

    def concerns(self, label: str) -> bool:
        """Whether it is about this participant or about all."""
        return self.about.partition("_")[0] in ("", f"sub-{label}")


class InputError(UsageError):
    """The data set cannot be used as it stands; `problems` holds every reason found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in grouped(self.problems)))


def refusal(file: Path | str, reason: str, fix: str) -> InputError:
    """Make the exception for a single problem, to raise."""
    return InputError([Problem(str(file), reason, fix)])


def absent(path: Path) -> str:
    """What stands in place of a file that was not downloaded: a dangling link or a pointer; "" for any other file."""
    if path.is_symlink() and not path.exists():
        return "a link whose target is missing"
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            start = stream.read(64)
    except OSError:
        return ""
    if start.startswith(b"/annex/objects/"):
        return "a pointer of git-annex"
    return "a pointer of Git LFS" if start.startswith(b"version https://git-lfs") else ""


def _not_downloaded(path: Path, what: str) -> Problem:
    get = f"git lfs pull -I {path.name}" if "LFS" in what else f"datalad get {path}"
    more = "" if "LFS" in what else " (or `git annex get`)"
    return Problem(str(path), f"{_ABSENT}{what}", f"Download it: `{get}`{more}.")


def require(path: Path) -> None:
    """Raise `InputError` for a file that was not downloaded."""
    what = absent(path)
    if what:
        raise InputError([_not_downloaded(path, what)])


def grouped(problems: Iterable[Problem]) -> list[Problem]:
    """Problems as they are shown: one of several runs once, all links of DataLad without a target with one command."""
    every = list(dict.fromkeys(replace(problem, about="") for problem in problems))
    links = [problem for problem in every if problem.reason.startswith(_ABSENT) and "datalad" in problem.fix]
    if len(links) < 2:
        return every
    top = Path(os.path.commonpath([problem.file for problem in links]))
    names = " ".join(shlex.quote(str(Path(problem.file).relative_to(top))) for problem in links)
    fix = f"Download them: `cd {shlex.quote(str(top))} && datalad get {names}` (or `git annex get`)."
    one = Problem(f"{top} ({len(links)} files)", "they are not downloaded: links or pointers of git-annex", fix)
    first = every.index(links[0])
    return [one if k == first else problem for k, problem in enumerate(every) if k == first or problem not in links]


def counted(notices: Iterable[Notice]) -> list[Notice]:
    """Notices as they are shown: of those that say the same, one with the first file and how many more there are."""
    files: dict[tuple[str, Word], dict[str, None]] = {}
    for notice in notices:
        files.setdefault((notice.text, notice.word), {})[notice.file] = None
    return [
        Notice(first if not others else f"{first} and {len(others)} more", text, word=word)
        for (text, word), (first, *others) in files.items()
    ]


@dataclass(slots=True)
class Findings:
    """What is found while inputs are checked, each problem and notice once, in the order of being found."""

    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    headers: dict[Path, Header] = field(default_factory=dict)  # of the images read so far
    _about: str = field(default="", init=False, repr=False, compare=False)
    _known: set[Problem | Notice] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._known = {*self.problems, *self.notices}

    @contextlib.contextmanager
    def about(self, whose: str) -> Iterator[None]:
        """Say that all that is added meanwhile is about this participant or run, unless it says so itself."""
        before, self._about = self._about, whose
        try:
            yield
        finally:
            self._about = before

    def refuse(self, file: Path | str, reason: str, fix: str) -> None:
        """Add a problem."""
        self.add([Problem(str(file), reason, fix)])

    def tell(self, file: Path | str, text: str) -> None:
        """Add a note."""
        self.add(notices=[Notice(str(file), text)])

    def warn(self, file: Path | str, text: str) -> None:
        """Add a warning."""
        self.add(notices=[Notice(str(file), text, word="warning")])

    def refuse_unless(self, forced: bool, file: Path | str, reason: str, fix: str) -> None:
        """Add a problem, or a notice where ``--force`` was given."""
        if forced:
            self.tell(file, f"{reason}; --force was given.")
        else:
            self.refuse(file, reason, fix)

    def fetched(self, path: Path) -> bool:
        """False, with a problem, for a file of DataLad or Git LFS that was not downloaded."""
        what = absent(path)
        if what:
            self.add([_not_downloaded(path, what)])
        return not what

    def add(self, problems: Sequence[Problem] = (), notices: Sequence[Notice] = ()) -> None:
        """Add problems and notices that are not there yet."""
        problems = [replace(problem, about=problem.about or self._about) for problem in problems]
        notices = [replace(notice, about=notice.about or self._about) for notice in notices]
        self.problems += [problem for problem in dict.fromkeys(problems) if problem not in self._known]
        self.notices += [notice for notice in dict.fromkeys(notices) if notice not in self._known]
        self._known.update(problems, notices)
