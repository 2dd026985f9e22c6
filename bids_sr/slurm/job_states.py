"""States of participants from status files, the queue and SLURM messages in logs; their table.

Calls of SLURM, all of them, by argument lists and never a line of the shell.

Why SLURM jobs fail, by state and exit code, as codes of `bids_sr.notices.CODES`.
"""

import contextlib
import getpass
import math
import os
import re
import shlex
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from bids_sr.config import UsageError
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import read_json
from bids_sr.notices import CODES, Notice, failed_steps
from bids_sr.slurm.submission import GROUP, Job, Request, Submission, enlarged, time_text

QUEUE_FORMAT = "%i|%T|%r"
"""What is asked of ``squeue`` of each job: its number (``12_3`` of a task), its state, the reason.
"""
ACTIVE = frozenset(
    {
        "PENDING",
        "CONFIGURING",
        "RUNNING",
        "COMPLETING",
        "SUSPENDED",
        "STOPPED",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "RESV_DEL_HOLD",
        "RESIZING",
        "SIGNALING",
        "SPECIAL_EXIT",
        "STAGE_OUT",
    }
)
"""States in which a job still holds, or waits for, a place."""
_SECONDS = 120.0
_AT_ONCE = 500  # jobs or names that one command line can hold
_OF_THE_SUBMITTER = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
_PEAK = re.compile(r"^([\d_]+)\..*\|([\d.]+)M$", re.MULTILINE)
_NUMBER = re.compile(r"\d+")
_LARGEST = re.compile(r"^MaxArraySize\s*=\s*(\d+)", re.MULTILINE)


class SlurmError(UsageError):
    """SLURM cannot be used as it was asked for; its own words are the reason."""

    code = "slurm"


def call(
    program: str, *arguments: str, seconds: float | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run one command of SLURM; one that hangs has failed, and says so.

    It gets a session of its own, so that Ctrl-C at the terminal does not end it between submitting
    and reporting. What a job hands down to the jobs that it submits, its own memory and
    processors, is left out of the environment; the name of the user, which some sites' plugins
    need, is in it. Raises `SlurmError` where there is no such program.

    `seconds`: time limit (s), after which exit code and output are 1 and a message; None takes
    120 s.
    """
    seconds = _SECONDS if seconds is None else seconds
    if shutil.which(program) is None:
        fix = "run the command on a login node, use --print-only, or omit --use-plugin"
        raise SlurmError(
            f"the command {program} was not found",
            "SLURM is not installed on this computer",
            fix,
        )
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user that no list knows
        name = str(os.getuid())
    kept = {k: v for k, v in os.environ.items() if k[:6] != "SLURM_" or k in _OF_THE_SUBMITTER}
    words = [program, *arguments]
    try:
        return subprocess.run(
            words,
            env={"LOGNAME": name, "USER": name, **kept, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(
            words, 1, "", f"the command timed out after {seconds:.0f} s"
        )


def submit(arguments: Sequence[str]) -> str:
    """Submit a script and return the number of the job. Raises `SlurmError` if SLURM refuses."""
    out = _answer("sbatch", *arguments)
    number = job_number(out)
    if _NUMBER.fullmatch(number) is None:
        fix = "use squeue to check whether the job was submitted"
        raise SlurmError("sbatch did not return a job number", out.strip() or "no output", fix)
    return number


def job_number(said: str) -> str:
    """The number of a job as ``sbatch --parsable`` writes it, behind which a cluster may stand."""
    return said.strip().rpartition("\n")[2].partition(";")[0]


def queue(job_names: Sequence[str]) -> dict[str, str]:
    """Return jobs by number (``12_3`` for a task) with states, recently ended ones included."""
    states: dict[str, str] = {}
    asked = ("--noheader", "--array", "--all", "--states=all", f"--format={QUEUE_FORMAT}")
    for names in chunks(job_names):
        listed = rows(_answer("squeue", *asked, f"--name={','.join(names)}"))
        states.update({job: state for job, state, _ in listed})
    return states


def peaks_mb(jobs: Sequence[str]) -> dict[str, int]:
    """The most memory (MiB) that SLURM's accounting saw of jobs; without accounting of none.

    Of the largest step of each, by its number (``12_3`` for a task).
    """
    if not jobs or shutil.which("sacct") is None:
        return {}
    asked = ("--noheader", "--parsable2", "--units=M", "--format=JobID,MaxRSS")
    said = call("sacct", *asked, f"--jobs={','.join(jobs)}").stdout
    sizes = sorted((float(size), job) for job, size in _PEAK.findall(said))
    return {job: math.ceil(size) for size, job in sizes}


def rows(listed: str) -> list[list[str]]:
    """Return lines of three columns as ``squeue`` writes them.

    Three cells of each line; other lines are left out.
    """
    lines = (line.split("|", 2) for line in listed.splitlines())
    return [[cell.strip() for cell in line] for line in lines if len(line) == 3]


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs and tasks (``12_3``).

    `UsageError`: someone who was chosen neither waits nor runs.
    """
    for chosen in chunks(list(jobs)):
        _answer("scancel", *chosen)


def largest_index() -> int | None:
    """The largest number that a task may have; None where SLURM does not say."""
    found = _LARGEST.search(_answer("scontrol", "show", "config"))
    return int(found[1]) - 1 if found else None


def sums_resident() -> bool:
    """Whether memory limits may be kept by sums over processes, what they share counted for each.

    Also where SLURM does not tell.
    """
    if shutil.which("scontrol") is None:
        return True
    told = call("scontrol", "show", "config").stdout
    return "JobAcctGather" not in told or (
        "OverMemoryKill" in told and "UsePss" not in told and "jobacct_gather/cgroup" not in told
    )


def chunks(items: Sequence[str]) -> list[Sequence[str]]:
    """Return items in groups that one command line can hold."""
    return [items[at : at + _AT_ONCE] for at in range(0, len(items), _AT_ONCE)]


def _answer(program: str, *arguments: str) -> str:
    """What a command writes. Raises `SlurmError` where it fails."""
    done = call(program, *arguments)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or "no output"
        fix = "correct the reported problem and try again"
        raise SlurmError(f"{program} failed with exit code {done.returncode}", said, fix)
    return done.stdout


_BY_STATE = {
    "OUT_OF_MEMORY": "memory",
    "TIMEOUT": "time",
    "DEADLINE": "time",
    "CANCELLED": "cancelled",
    "PREEMPTED": "node",
    "NODE_FAIL": "node",
    "BOOT_FAIL": "node",
    "COMPLETED": "unseen",
    "UNKNOWN": "unknown",
    "": "unknown",
}
_BY_EXIT = {126: "absent", 127: "absent", 130: "interrupted", 137: "killed", 143: "killed"}
_MESSAGES = (  # of slurmstepd, in the log of a task
    ("DUE TO TIME LIMIT", "TIMEOUT"),
    ("oom-kill event", "OUT_OF_MEMORY"),
    ("oom_kill event", "OUT_OF_MEMORY"),
    ("exceeded memory limit", "OUT_OF_MEMORY"),
    ("exceeded job memory limit", "OUT_OF_MEMORY"),
    ("DUE TO NODE FAILURE", "NODE_FAIL"),
    ("DUE TO PREEMPTION", "PREEMPTED"),
    (" CANCELLED AT ", "CANCELLED"),
)


def code_of(state: str, exit_code: int | None = None) -> str:
    """Return why a job failed, from its state in SLURM, else from its exit code.

    `exit_code`: that of the shell: 128 and the signal for a process that a signal ended.

    >>> code_of("CANCELLED+"), code_of("FAILED", 137), code_of("FAILED")
    ('cancelled', 'killed', 'crashed')
    """
    return _BY_STATE.get(state.rstrip("+")) or _BY_EXIT.get(exit_code or 1, "crashed")


def message_state(line: str) -> str:
    """The state that a line of a log gives, where SLURM wrote it; empty for any other.

    State as SLURM names it, such as ``TIMEOUT``, or an empty text.
    """
    texts = _MESSAGES if line.startswith("slurmstepd") else ()
    return next((state for text, state in texts if text in line), "")


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
