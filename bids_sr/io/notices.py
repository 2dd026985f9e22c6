"""Messages to the user (notes, warnings and errors) with subject, reason and remedy."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from bids_sr.io.frozen import frozen

NoticeLevel = Literal["note", "warning", "error"]
"""Severity: a fact, a possible problem, or a failure or rejected request."""

RECORD = "notices.jsonl"
_RERUN_TEXT = "then rerun the same command to resume"
CODES: dict[str, tuple[str, str]] = {
    "input": ("problem with the dataset or the command line", ""),
    "events": (
        "problem with the events or the volumes of a run",
        "Correct the events file, or exclude the run (--task-id, --run-id).",
    ),
    "method": ("requirement of a method is not met", "Choose other methods with --sr-method."),
    "validator": (
        "error reported by the BIDS validator",
        "Correct the dataset, or use --skip-bids-validation.",
    ),
    "space": ("problem with output spaces, atlas or regions", ""),
    "room": (
        "not enough disk space or memory",
        "Use a larger disk, fewer parallel processes (--nprocs), or fewer series.",
    ),
    "option": ("invalid or incompatible option", ""),
    "annex": ("file content is not available locally (git-annex)", ""),
    "lfs": ("file content is not available locally (Git LFS)", ""),
    "reference": ("high-resolution reference found", ""),
    "left-out": ("run skipped, or missing at the group level", ""),
    "advice": ("scan or option that would improve the results", ""),
    "step": ("warning from a processing step", ""),
    "missing": (
        "output file is missing",
        f"A processing step failed or was stopped; {_RERUN_TEXT}.",
    ),
    "slurm": ("SLURM rejected a request or did not respond", ""),
    "full": ("disk full", f"Free disk space, or choose other directories, {_RERUN_TEXT}."),
    "memory": (
        "out of memory",
        "Use fewer parallel processes (--nprocs), a larger memory limit (--mem), or a"
        " computer with more memory. With a SLURM plugin, increase memory_extra_gb in the"
        f" plugin file, {_RERUN_TEXT}.",
    ),
    "forbidden": (
        "permission denied",
        f"Check the file permissions and whether the file system is read-only, {_RERUN_TEXT}.",
    ),
    "crashed": (
        "crashed",
        "Rerun the same command to retry this step; completed steps are kept. If the step"
        " fails again, report the bug with the crash file attached.",
    ),
    "ended": (
        "job ended without a result",
        "The end of the job log, if available, is in the crash file. Check the settings"
        " template and sbatch_args in the plugin file.",
    ),
    "killed": (
        "killed",
        "The most frequent cause is insufficient memory. Request more memory (--mem, or"
        f" memory_extra_gb in the plugin file), {_RERUN_TEXT}.",
    ),
    "time": (
        "job timed out",
        f"Increase time_minutes in the plugin file, {_RERUN_TEXT}.",
    ),
    "cancelled": (
        "cancelled",
        "The job was cancelled with scancel or by an administrator. Rerun the same command"
        " to resume.",
    ),
    "node": (
        "compute node failed",
        "The compute node failed or was removed from the job. Rerun the same command to resume.",
    ),
    "interrupted": ("interrupted", "Rerun the same command to resume."),
    "unknown": (
        "job never started",
        "SLURM no longer has a record of the job. Rerun the same command to resume.",
    ),
    "refused": (
        "rejected",
        "Correct the problem reported in the log, which may concern the options, the data,"
        " or the requested resources (sbatch_args, time_minutes and memory_extra_gb in the"
        " plugin file, or the partition).",
    ),
    "absent": (
        "program not found",
        "The program was not found on the PATH of the compute node. Check the settings"
        " template and sbatch_args in the plugin file.",
    ),
    "unseen": (
        "job result not found",
        "The working directory (-w) must be accessible under the same path on all nodes of"
        " the cluster.",
    ),
}
"""Cause, and remedy of errors whose notice has no remedy, by code.

The console prints the cause before the name of a failed step.
"""


@frozen
class Notice:
    """Message to the user: a note, a warning or an error.

    A message without `subject` and `run` concerns the whole call. An error without a remedy gets
    the remedy of its code.

    Parameters
    ----------
    what : str
        Subject of the message: a path, or an option if no file is concerned.
    why : str
        Text of a note or warning, or reason of an error.
    remedy : str
        Advice for the user.
    level : NoticeLevel
        Severity: ``note``, ``warning`` or ``error``.
    subject : str
        Label of the participant, without prefix; "" if the message concerns all participants.
    run : str
        Name of the run; "" if the message concerns all runs.
    code : str
        Key of `CODES`.
    file : str
        File with details: a crash file or a log.
    """

    what: str
    why: str = ""
    remedy: str = ""
    level: NoticeLevel = "error"
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
        """Name of the run, or else of the participant; "" for the whole call."""
        return whom_text(self.subject, self.run)

    @property
    def failed(self) -> bool:
        """Whether a step or job failed; skipped runs were never started."""
        return self.level == "error" and self.code != "left-out"

    def concerns(self, label: str) -> bool:
        """Return whether the message concerns a participant.

        Parameters
        ----------
        label : str
            Label of the participant, without prefix.

        Returns
        -------
        bool
            True also for a message about the whole call.
        """
        return self.subject in ("", label)

    def of_all(self) -> "Notice":
        """Return the message as a message about the whole call, to show it once for several runs.

        Returns
        -------
        'Notice'
            Copy without participant and run.
        """
        return replace(self, subject="", run="")


def whom_text(subject: str, run: str) -> str:
    """Return the name of a run, or else of a participant, "" if both are empty.

    `subject` is the label of the participant.
    """
    return run or (subject and f"sub-{subject}")


class Remark(Exception):
    """Reason and remedy of an error or warning about a value or file.

    `argument` is the argument or option and `file` the file that the text is about, "" if only the
    caller knows them.
    """

    def __init__(
        self, reason: str, remedy: str = "", argument: str = "", file: Path | str = ""
    ) -> None:
        super().__init__(reason, remedy, argument, file)
        self.reason, self.remedy, self.argument, self.file = reason, remedy, argument, file

    def __str__(self) -> str:
        text = ": ".join(filter(None, (self.argument, str(self.file), self.reason)))
        return f"{text}. {self.remedy}" if self.remedy else text


class InvalidInput(Remark, ValueError):
    """Error in a value or file."""


def explain(error: Exception) -> str:
    """Return the reason of an error: of other programs the first line, or the class without text.

    >>> explain(InvalidInput("the image is empty", file="a.nii")), explain(EOFError())
    ('the image is empty', 'EOFError')
    """
    if isinstance(error, Remark):
        return error.reason
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class UsageError(Exception):
    """Error that a request cannot be carried out; `notice` has the reason and a remedy.

    The program exits with code 2.
    """

    code = "input"

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what, why, remedy)
        self.notice = Notice(what=what, why=why, remedy=remedy, code=self.code)
        self.problems: tuple[Notice, ...] = (self.notice,)

    def __str__(self) -> str:
        return str(self.notice)

    @classmethod
    def about(cls, error: Remark, subject: str = "", remedy: str = "") -> "UsageError":
        """Return the error of a program about a file or argument.

        `subject` and `remedy` are words of the program that replace those of the error, if any.
        """
        subject = subject or error.argument or str(error.file)
        if not subject:
            return cls(error.reason, remedy=error.remedy)
        return cls(subject, error.reason, remedy or error.remedy)


def record(folder: Path, notices: Iterable[Notice]) -> None:
    """Append notices to the record in an existing log directory of a run.

    All lines of a call are written at once, because processes and jobs of a run share the file.
    """
    text = "".join(f"{json.dumps(asdict(notice), ensure_ascii=False)}\n" for notice in notices)
    if not text:
        return
    target = os.open(folder / RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(target, text.encode())
    finally:
        os.close(target)


def read_failed_steps(logs: Path) -> dict[str, list[Notice]]:
    """Return the failed steps of the last recorded run of each participant (label).

    Errors without a participant are listed under "".
    """
    steps_by_participant: dict[str, list[Notice]] = {}
    for path in sorted(logs.glob(f"*/{RECORD}")):
        steps_of_record: dict[str, list[Notice]] = {}
        for notice in read_record(path.parent):
            if notice.failed:
                steps_of_record.setdefault(notice.subject, []).append(notice)
        steps_by_participant |= steps_of_record
    return steps_by_participant


def read_record(folder: Path) -> list[Notice]:
    """Return the notices in the record of a run without duplicates, in order of appearance.

    The list is empty if there is no record. Unreadable lines are skipped.
    """
    path = folder / RECORD
    try:
        state = path.stat()
        return list(_read_notices(path, state.st_mtime_ns, state.st_size))
    except OSError:
        return []


@lru_cache(maxsize=4)  # a single record is read for the reports of thousands of participants
def _read_notices(path: Path, _mtime: int, _size: int) -> tuple[Notice, ...]:
    """Read the notices of a record; modification time and size make the cache entry unique."""
    notices: dict[Notice, None] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            fields = json.loads(line)
            notices[Notice(**fields)] = None
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # truncated because the disk was full, or written by another version
    return tuple(notices)
