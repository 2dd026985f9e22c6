"""States of participants from status files, the queue and SLURM messages in logs; their table."""

import contextlib
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import read_json
from bids_sr.notices import CODES, Notice, failed_steps
from bids_sr.slurm.calls import ACTIVE, rows
from bids_sr.slurm.job_endings import code_of, message_state
from bids_sr.slurm.job_requests import enlarged, time_text
from bids_sr.slurm.submission import GROUP, Job, Request, Submission

_WAITING = frozenset(
    {
        "PENDING",
        "CONFIGURING",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "RESV_DEL_HOLD",
        "SPECIAL_EXIT",
    }
)
_HEADS = ("participant", "state", "exit", "starts", "minutes", "job", "why")
CANCELLED_FILE = "cancelled.txt"
_TAIL_BYTES = 20_000
_BEFORE_RETRY = {
    "refused": "Correct the problem that is reported in the log. Then ",
    "left-out": (
        "Correct the data that are listed in the log, or continue without the skipped runs. Then "
    ),
    "killed": "The most frequent cause is insufficient memory, so add --mem SIZE. ",
}


class State(StrEnum):
    """Where a participant is on the way."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REQUEUED = "requeued"
    UNSENT = "not submitted"


@frozen
class _Status:
    """What a task wrote of one participant; see ``boilerplate/sbatch.tmpl``.

    Times are in seconds since 1970.

    `state`: ``running``, ``done``, ``failed`` or ``requeued``. `exit_code`: exit code of the
    program; None where it has not ended. `stopped`: ``limit`` before the time limit, ``cancel``
    after a cancellation; else empty. `restarts`: how often SLURM has put the job back and started
    it again. `started`: when the program was started (s since 1970); None where it was not.
    `ended`: when the program ended (s since 1970); None where it has not.
    """

    participant: str
    state: str
    exit_code: int | None = None
    oom_kills: int = 0
    stopped: str = ""
    restarts: int = 0
    job: str = ""
    host: str = ""
    started: int | None = None
    ended: int | None = None


@frozen
class Fate:
    """One line of the table.

    `code`: of its notice, where it failed. `starts`: how often the task was started; `minutes`:
    duration of the last start; `started`: time of that (s since 1970). `job`: its number in SLURM
    (``12_3``). `log`: of its task, or of the group job. `request`: what its job asked for.
    `seen_mb`: most memory (MiB) that SLURM saw, where it was too little the first time; else 0.
    """

    participant: str
    state: State
    code: str = ""
    exit_code: int | None = None
    starts: int = 0
    minutes: float | None = None
    started: int = 0
    job: str = ""
    log: Path
    request: Request
    seen_mb: int = 0

    @property
    def open(self) -> bool:
        """Whether something is still to come of it."""
        return self.state in (State.PENDING, State.RUNNING, State.REQUEUED)


def _read_status(path: Path) -> _Status | None:
    """Read a status file; None if it is missing or not a valid status file."""
    try:
        return _Status(**read_json(path))
    except TypeError:
        return None


def fates(submission: Submission, queue: Mapping[str, str]) -> list[Fate]:
    """What became of everyone in a submission, and of its group job at the end.

    `queue`, number → state as the function `queue` gives it, is asked *before* this is called: a
    task writes its status file and then leaves the queue, so that the two read in this order miss
    nothing.
    """
    queue = {**_ended(submission), **queue}
    return [_fate(submission, job, name, queue) for job in submission.jobs for name in job.task_of]


def _ended(submission: Submission) -> dict[str, str]:
    """Return the states at the end of the array, as the group job saw them, and cancellations.

    The cancellations are those made from here.
    """
    states: dict[str, str] = {}
    for name in (CANCELLED_FILE, "ended.txt"):
        with contextlib.suppress(OSError):
            listed = rows((submission.folder / name).read_text(encoding="utf-8"))
            states.update({job: state for job, state, _ in listed if state not in ACTIVE})
    return states


def _fate(submission: Submission, of: Job, name: str, queue: Mapping[str, str]) -> Fate:
    status = _read_status(submission.folder / "status" / f"{name}.json")
    # the latter where somebody else submitted the script
    job = of.number_of(name) or (status.job if status else "")
    log = submission.folder / "logs" / of.log_name(of.task_of[name])
    if not job:
        state, code = State.UNSENT, ""
    else:
        seen = queue.get(job, "")
        if seen not in ACTIVE and not (status and status.state in ("done", "failed")):
            seen = seen if seen not in ("", "FAILED", "COMPLETED") else _message_in(log) or seen
        state, code = _state_of(status, seen)
    return Fate(
        participant=name,
        state=state,
        code=code,
        job=job,
        log=log,
        request=of.request,
        minutes=_minutes(status, state),
        exit_code=status.exit_code if status and status.state in ("done", "failed") else None,
        starts=status.restarts + 1 if status else 0,
        started=(status.started if status else None) or 0,
    )


def _state_of(status: _Status | None, seen: str) -> tuple[State, str]:
    """Return state and, where it failed, its code.

    They follow from status file and SLURM state (empty: forgotten by SLURM).
    """
    if status is not None and status.state == "done":
        return State.DONE, ""
    if seen in _WAITING:
        return (State.PENDING if status is None else State.REQUEUED), ""
    if status is not None and status.state == "failed":
        return State.FAILED, _code(status, seen)
    if seen in ACTIVE:
        return (State.REQUEUED if status and status.state == "requeued" else State.RUNNING), ""
    return State.FAILED, _lost(status, seen)


def _code(status: _Status, seen: str) -> str:
    """The reason of a task that told its exit code."""
    if status.stopped:
        return "time" if status.stopped == "limit" else "cancelled"
    if status.oom_kills or seen == "OUT_OF_MEMORY":
        return "memory"
    # of bids-sr; a step that runs as a job of its own has no such codes
    if of_program := {2: "refused", 3: "left-out"}.get(status.exit_code or 0):
        return of_program
    return code_of("FAILED", status.exit_code)


def _lost(status: _Status | None, seen: str) -> str:
    """The reason of a task that is gone without a last word."""
    code = code_of(seen)
    if code in ("unknown", "unseen", "crashed"):
        return "unknown" if status is None else "killed"
    return code


def _message_in(log: Path) -> str:
    """The state that the last message of SLURM in a log tells; empty where there is none."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = stream.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next(filter(None, map(message_state, reversed(lines))), "")


def _minutes(status: _Status | None, state: State) -> float | None:
    if status is None or status.started is None:
        return None
    if status.ended is None and state is not State.RUNNING:
        return None
    return max(0.0, ((status.ended or time.time()) - status.started) / 60)


def table(fates: Sequence[Fate]) -> list[tuple[str, ...]]:
    """Return rows of the table, the heads first."""
    return [_HEADS, *map(_row, fates)]


def _row(fate: Fate) -> tuple[str, ...]:
    code = "-" if fate.exit_code is None else str(fate.exit_code)
    minutes = "-" if fate.minutes is None else f"{fate.minutes:.1f}"
    return (
        fate.participant,
        fate.state,
        code,
        str(fate.starts),
        minutes,
        fate.job or "-",
        CODES[fate.code][0] if fate.code else "-",
    )


def summary(fates: Sequence[Fate]) -> str:
    """How many are where."""
    people = [fate for fate in fates if fate.participant != GROUP]
    counts = Counter(fate.state for fate in people)
    parts = [f"{counts[state]} {state}" for state in State if counts[state]]
    group = [f"group level {fate.state}" for fate in fates if fate.participant == GROUP]
    return f"{len(people)} participants: {', '.join([*parts, *group])}"


def failures(fates: Sequence[Fate], output_dir: Path) -> list[Notice]:
    """Return what failed, and why: each job, and the steps that its last call has recorded.

    `fates`: of a submission; those that did not fail are left out. Notices of jobs have the log of
    the task.
    """
    failed = [fate for fate in fates if fate.state is State.FAILED]
    since = {fate.participant.removeprefix("sub-"): fate.started for fate in failed}
    steps = failed_steps(output_dir / "logs", since)
    notices = list[Notice]()
    retry = f"`bids-sr-slurm retry {shlex.quote(str(output_dir))}`"
    for fate in failed:
        label = fate.participant.removeprefix("sub-")
        had, gets = map(_room, (fate.request, enlarged(fate.request, fate.code, fate.seen_mb)))
        again = f"{_BEFORE_RETRY.get(fate.code, '')}{retry} resumes processing with {gets}."
        notices.append(
            Notice(
                what=fate.participant,
                why=f"{CODES[fate.code][0]} (resources requested per start of the job: {had})",
                remedy="" if fate.code == "absent" else again,  # a retry would miss it, too
                subject="" if fate.participant == GROUP else label,
                code=fate.code,
                file=str(fate.log),
            )
        )
        notices += steps.get(label, []) if fate.code == "crashed" else []
    return notices


def _room(request: Request) -> str:
    return f"{request.memory_mb / 1024:.1f} GB and {time_text(request.minutes)}"
