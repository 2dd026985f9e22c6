"""Messages to the user: subject, reason and remedy.

One class serves for notes, warnings and errors.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from bids_sr.frozen import frozen

Level = Literal["note", "warning", "error"]
"""A fact, something that may be wrong, and something that cannot be carried out."""

RECORD = "notices.jsonl"
_AGAIN = "then rerun the same command to resume"
CODES: dict[str, tuple[str, str]] = {
    "input": ("found in the data set or the call", ""),
    "events": (
        "events and volumes of a run",
        "Mend the table of events, or leave the run out (--task-id, --run-id).",
    ),
    "method": ("what a method needs", "Choose other methods (--sr-method)."),
    "validator": (
        "what the BIDS validator finds",
        "Mend the data set, or give --skip-bids-validation.",
    ),
    "space": ("output spaces, atlas and regions", ""),
    "room": (
        "disk or memory does not suffice",
        "Choose larger disks, fewer --nprocs, or fewer series.",
    ),
    "option": ("an option cannot be used as it is given", ""),
    "annex": ("a file of git-annex is not downloaded", ""),
    "lfs": ("a file of Git LFS is not downloaded", ""),
    "reference": ("a high-resolution reference was found", ""),
    "left-out": ("a run is left out", ""),
    "advice": ("a scan or an option would tell more", ""),
    "progress": ("what the program does, and what it has made", ""),
    "log": ("a message of the program's own log", ""),
    "step": ("a step warned", ""),
    "missing": ("an output is missing", f"A step failed or was stopped; {_AGAIN}."),
    "slurm": ("SLURM refuses or does not answer", ""),
    "full": ("disk full", f"Free some room, or choose other directories, {_AGAIN}."),
    "memory": (
        "out of memory",
        "Use fewer --nprocs, a larger --mem, or a bigger machine; on SLURM `bids-sr-slurm retry`"
        f" asks for more, as does memory_extra_gb in the plugin file; {_AGAIN}.",
    ),
    "forbidden": (
        "no permission",
        f"Check the permissions, and whether the file system is read-only, {_AGAIN}.",
    ),
    "crashed": (
        "crashed",
        "Rerun the same command: it retries this step and repeats nothing that was finished. If it"
        " fails again, run the step alone as its crash file says, and report the bug with this"
        " file.",
    ),
    "ended": (
        "ended without an answer",
        "Its last words, if any, are in the crash file. See template and sbatch_args in the plugin"
        " file.",
    ),
    "killed": (
        "killed",
        "Most often memory ran out: ask for more of it (--mem, memory_extra_gb in the plugin"
        f" file), {_AGAIN}.",
    ),
    "time": (
        "timed out",
        "Give it longer: `bids-sr-slurm retry` asks for twice the time; else raise time_minutes in"
        f" the plugin file, {_AGAIN}.",
    ),
    "cancelled": (
        "cancelled",
        "It was cancelled from outside (scancel, or an administrator). Run it again to resume.",
    ),
    "node": ("node failed", "The machine failed or was taken away. Run it again to resume."),
    "interrupted": ("interrupted", "Run it again to resume."),
    "unknown": ("never started", "SLURM knows nothing of it any more. Run it again to resume."),
    "refused": (
        "refused",
        "Mend what the log names: options or data, or what the job asks for (sbatch_args,"
        " time_minutes, memory_extra_gb in the plugin file, or another partition).",
    ),
    "absent": (
        "program not found",
        "The node does not find the program: give --setup FILE that makes it known, --container"
        " IMAGE, or see template and sbatch_args in the plugin file.",
    ),
    "unseen": (
        "result not found",
        "The work directory (-w) must be one that every machine of the cluster sees under the same"
        " path.",
    ),
}
"""Code → cause, and what the user can do about it where nothing better is known."""


@frozen
class Notice:
    """One thing to be told.

    `subject` is a label, `run` the name of a run; where both are empty it is about the whole call.
    A note or a warning says all in `why`, an error has the reason there. An error without a remedy
    has that of its code.

    Parameters
    ----------
    what : str
        A path, or an option where there is no file.
    why : str
        Whole text of a note or warning; the reason of an error.
    remedy : str
        What the user can do.
    level : Level
        How serious it is: ``note``, ``warning`` or ``error``.
    subject : str
        Label of the participant, without prefix; empty for all.
    run : str
        Name of the run; empty for the participant alone.
    code : str
        Of `CODES`.
    file : str
        That tells more: a crash file, a log.
    """

    what: str
    why: str = ""
    remedy: str = ""
    level: Level = "error"
    subject: str = ""
    run: str = ""
    code: str = "input"
    file: str = ""

    def __post_init__(self) -> None:
        _, remedy = CODES[self.code]
        if self.level == "error" and not self.remedy:
            object.__setattr__(self, "remedy", remedy)

    def __str__(self) -> str:
        if self.level != "error":
            head = (self.code == "step" and self.whom) or self.what
            return ": ".join(filter(None, (head, self.why)))
        lines = (
            self.what,
            self.why and f"  why: {self.why}",
            self.remedy and f"  fix: {self.remedy}",
            self.file and f"  see: {self.file}",
        )
        return "\n".join(filter(None, lines))

    @property
    def whom(self) -> str:
        """Name of the run, else of the participant; "" for the whole call."""
        return whom_text(self.subject, self.run)

    @property
    def failed(self) -> bool:
        """Whether a step or job failed: a run that is left out was never begun."""
        return self.level == "error" and self.code != "left-out"

    def concerns(self, label: str) -> bool:
        """Whether it is about this participant or about all.

        Parameters
        ----------
        label : str
            Label of the participant, without prefix.

        Returns
        -------
        bool
            True also for a notice about the whole call.
        """
        return self.subject in ("", label)

    def of_all(self) -> "Notice":
        """The same about the whole call, to tell once what holds for several.

        Returns
        -------
        'Notice'
            Copy without participant and run.
        """
        return replace(self, subject="", run="")


class UsageError(Exception):
    """A request that cannot be carried out, with the reason and a remedy, as `notice`.

    The program exits with code 2.
    """

    code = "input"

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what, why, remedy)
        self.notice = Notice(what=what, why=why, remedy=remedy, code=self.code)
        self.problems: tuple[Notice, ...] = (self.notice,)

    def __str__(self) -> str:
        return str(self.notice)


def whom_text(subject: str, run: str) -> str:
    """Name of a run, else of a participant (by its label); "" where there is neither.

    `subject`: label of the participant; empty for the whole call. `run`: name of the run; empty
    for the participant alone.
    """
    return run or (subject and f"sub-{subject}")


def as_json(notice: Notice, **more: str) -> str:
    """Return a notice as a line of JSON, with further keys before its own."""
    return json.dumps({**more, **asdict(notice)}, ensure_ascii=False)


def record(folder: Path, notices: Iterable[Notice]) -> None:
    """Add notices to the record in the folder of a run's logs, which has to exist.

    Processes and jobs of a run write to the same file: all lines of a call are written at once.
    """
    text = "".join(f"{as_json(each)}\n" for each in notices)
    if not text:
        return
    target = os.open(folder / RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(target, text.encode())
    finally:
        os.close(target)


def recorded(folder: Path) -> list[Notice]:
    """Return the unique notices in the record of a run, in the order in which they were found.

    The list is empty where there is no record.

    Notices of all steps; lines that cannot be read are left out.
    """
    path = folder / RECORD
    try:
        state = path.stat()
        return list(_read(path, state.st_mtime_ns, state.st_size))
    except OSError:
        return []


@lru_cache(maxsize=4)  # pages of thousands of participants follow from one record
def _read(path: Path, _mtime: int, _size: int) -> tuple[Notice, ...]:
    notices: dict[Notice, None] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            fields = json.loads(line)
            notices[Notice(**fields)] = None
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # cut off where a disk was full, or of another version
    return tuple(notices)


def failed_steps(logs: Path, since: Mapping[str, float] = {}) -> dict[str, list[Notice]]:
    """Return the steps that failed in the last run that recorded any, by participant (label).

    `since`: time (s since 1970) by participant: records that were left before do not count. Errors
    of no participant are under an empty text.
    """
    by_step: dict[str, list[Notice]] = {}
    for path in sorted(logs.glob(f"*/{RECORD}")):
        by_file: dict[str, list[Notice]] = {}
        left = path.stat().st_mtime
        for each in recorded(path.parent):
            if each.failed and left >= since.get(each.subject, 0):
                by_file.setdefault(each.subject, []).append(each)
        by_step |= by_file
    return by_step
