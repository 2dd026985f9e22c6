"""States of participants from status files, the queue and SLURM messages, and their table."""

import contextlib
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import read_json
from bids_sr.notices import CODES, Notice, read_failed_steps
from bids_sr.slurm.commands import ACTIVE, find_message_state, get_code, parse_squeue
from bids_sr.slurm.job_requests import enlarge_request, format_time
from bids_sr.slurm.submission import GROUP, ArrayJob, Request, Submission

_PENDING_STATES = frozenset(
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
_COLUMNS = ("participant", "state", "exit", "starts", "minutes", "job", "why")
CANCELLED_FILE = "cancelled.txt"
_TAIL_BYTES = 20_000  # end of a log that is searched for messages of SLURM
_ADVICE_BEFORE_RETRY = {
    "refused": "Correct the problem that is reported in the log. Then ",
    "left-out": (
        "Correct the data that are listed in the log, or continue without the skipped runs. Then "
    ),
    "killed": "The most frequent cause is insufficient memory, so add --mem SIZE. ",
}


class State(StrEnum):
    """State of a participant's processing."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REQUEUED = "requeued"
    UNSENT = "not submitted"


@frozen
class _StatusFile:
    """Content of the status file of a participant; see ``boilerplate/sbatch.tmpl``.

    Times are in seconds since 1970.

    Attributes
    ----------
    participant : str
        Participant (``sub-01``) or ``group``.
    state : str
        ``running``, ``done``, ``failed`` or ``requeued``.
    exit_code : int | None
        Exit code of the program; None if it has not ended.
    oom_kills : int
        Number of processes that the kernel ended for lack of memory.
    stopped : str
        ``limit`` before the time limit, ``cancel`` after a cancellation; otherwise empty.
    restarts : int
        Number of times that SLURM has requeued and restarted the job.
    job : str
        Number of the task in SLURM.
    host : str
        Host of the task.
    started : int | None
        Start of the program; None if it was not started.
    ended : int | None
        End of the program; None if it has not ended.
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
class JobStatus:
    """State of a participant, one row of the table.

    Attributes
    ----------
    participant : str
        Participant (``sub-01``) or ``group``.
    state : State
        State of its processing.
    code : str
        Code of the failure; empty if it did not fail.
    exit_code : int | None
        Exit code of the program; None if it has not ended.
    starts : int
        Number of times that the task was started.
    minutes : float | None
        Duration of the last start; None if unknown.
    started : int
        Time of the last start (s since 1970).
    job : str
        Number of the task in SLURM (``12_3``).
    log : Path
        Log of the task or of the group job.
    request : Request
        Request of the job.
    peak_mb : int
        Peak memory according to SLURM (MiB), if the job ran out of memory; otherwise 0.
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
    peak_mb: int = 0

    @property
    def is_open(self) -> bool:
        """Whether the task is pending, running or requeued."""
        return self.state in (State.PENDING, State.RUNNING, State.REQUEUED)


def _read_status(path: Path) -> _StatusFile | None:
    """Read a status file; return None if it is missing or not valid."""
    try:
        return _StatusFile(**read_json(path))
    except TypeError:
        return None


def find_job_statuses(submission: Submission, queue: Mapping[str, str]) -> list[JobStatus]:
    """Return the state of each participant of a submission, and of its group job at the end.

    A task writes its status file before it leaves the queue. The queue must therefore be read
    *before* this function is called, so that no task is missed.

    Parameters
    ----------
    submission : Submission
        Submission to examine.
    queue : Mapping[str, str]
        State by job number, as returned by `bids_sr.slurm.commands.queue`.
    """
    queue = {**_read_final_states(submission), **queue}
    return [
        _find_job_status(submission, job, name, queue)
        for job in submission.jobs
        for name in job.task_of
    ]


def _read_final_states(submission: Submission) -> dict[str, str]:
    """Return the final states of jobs in the files of the group job and of cancellations."""
    states: dict[str, str] = {}
    for name in (CANCELLED_FILE, "ended.txt"):
        with contextlib.suppress(OSError):
            entries = parse_squeue((submission.folder / name).read_text(encoding="utf-8"))
            states.update({job: state for job, state, _ in entries if state not in ACTIVE})
    return states


def _find_job_status(
    submission: Submission, job_array: ArrayJob, name: str, queue: Mapping[str, str]
) -> JobStatus:
    """Return the state of a participant in a job from status file, queue and log."""
    status = _read_status(submission.folder / "status" / f"{name}.json")
    # the number in the status file is needed if another user submitted the script
    job = job_array.find_number(name) or (status.job if status else "")
    log = submission.folder / "logs" / job_array.log_name(job_array.task_of[name])
    if not job:
        state, code = State.UNSENT, ""
    else:
        slurm_state = queue.get(job, "")
        has_ended = status is not None and status.state in ("done", "failed")
        # SLURM does not report the reason, which may be in the log
        if slurm_state in ("", "FAILED", "COMPLETED") and not has_ended:
            slurm_state = _find_log_state(log) or slurm_state
        state, code = _find_state(status, slurm_state)
    return JobStatus(
        participant=name,
        state=state,
        code=code,
        job=job,
        log=log,
        request=job_array.request,
        minutes=_compute_minutes(status, state),
        exit_code=status.exit_code if status and status.state in ("done", "failed") else None,
        starts=status.restarts + 1 if status else 0,
        started=(status.started if status else None) or 0,
    )


def _find_state(status: _StatusFile | None, slurm_state: str) -> tuple[State, str]:
    """Return the state of a task, and the code of its failure if it failed.

    The state is derived from the status file and the state in SLURM (empty if SLURM does not list
    the job).
    """
    if status is not None and status.state == "done":
        return State.DONE, ""
    if slurm_state in _PENDING_STATES:
        return (State.PENDING if status is None else State.REQUEUED), ""
    if status is not None and status.state == "failed":
        return State.FAILED, _find_failure_code(status, slurm_state)
    if slurm_state in ACTIVE:
        return (State.REQUEUED if status and status.state == "requeued" else State.RUNNING), ""
    return State.FAILED, _find_code_without_exit(status, slurm_state)


def _find_failure_code(status: _StatusFile, slurm_state: str) -> str:
    """Return the failure code of a task that recorded its exit code."""
    if status.stopped:
        return "time" if status.stopped == "limit" else "cancelled"
    if status.oom_kills or slurm_state == "OUT_OF_MEMORY":
        return "memory"
    # exit codes of bids-sr; a step in a separate job does not have these codes
    if program_code := {2: "refused", 3: "left-out"}.get(status.exit_code or 0):
        return program_code
    return get_code("FAILED", status.exit_code)


def _find_code_without_exit(status: _StatusFile | None, slurm_state: str) -> str:
    """Return the failure code of a task that ended without recording an exit code."""
    code = get_code(slurm_state)
    if code in ("unknown", "unseen", "crashed"):
        return "unknown" if status is None else "killed"
    return code


def _find_log_state(log: Path) -> str:
    """Return the state in the last SLURM message of a log, or "" if there is no message."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = stream.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next(filter(None, map(find_message_state, reversed(lines))), "")


def _compute_minutes(status: _StatusFile | None, state: State) -> float | None:
    """Return the duration of the last start (min); None if it is unknown."""
    if status is None or status.started is None:
        return None
    if status.ended is None and state is not State.RUNNING:
        return None
    return max(0.0, ((status.ended or time.time()) - status.started) / 60)


def format_table(statuses: Sequence[JobStatus]) -> list[tuple[str, ...]]:
    """Return the rows of the table, starting with the header."""
    return [_COLUMNS, *map(_format_row, statuses)]


def _format_row(status: JobStatus) -> tuple[str, ...]:
    """Return the cells of the table row of a participant."""
    code = "-" if status.exit_code is None else str(status.exit_code)
    minutes = "-" if status.minutes is None else f"{status.minutes:.1f}"
    return (
        status.participant,
        status.state,
        code,
        str(status.starts),
        minutes,
        status.job or "-",
        CODES[status.code][0] if status.code else "-",
    )


def format_summary(statuses: Sequence[JobStatus]) -> str:
    """Return a text with the number of participants in each state."""
    participants = [status for status in statuses if status.participant != GROUP]
    counts = Counter(status.state for status in participants)
    counts_text = [f"{counts[state]} {state}" for state in State if counts[state]]
    group = [f"group level {status.state}" for status in statuses if status.participant == GROUP]
    return f"{len(participants)} participants: {', '.join([*counts_text, *group])}"


def make_failure_notices(statuses: Sequence[JobStatus], output_dir: Path) -> list[Notice]:
    """Return notices of failed jobs, and of the steps that failed in their last start.

    States other than failed are ignored. The notice of a job contains the log of its task.
    """
    failed = [status for status in statuses if status.state is State.FAILED]
    start_times = {status.participant.removeprefix("sub-"): status.started for status in failed}
    steps = read_failed_steps(output_dir / "logs", start_times)
    notices = list[Notice]()
    retry_command = f"`bids-sr-slurm retry {shlex.quote(str(output_dir))}`"
    for status in failed:
        label = status.participant.removeprefix("sub-")
        retry_request = enlarge_request(status.request, status.code, status.peak_mb)
        retry_text = _format_resources(retry_request)
        first_advice = _ADVICE_BEFORE_RETRY.get(status.code, "")
        advice = f"{first_advice}{retry_command} resumes processing with {retry_text}."
        notices.append(
            Notice(
                what=status.participant,
                why=f"{CODES[status.code][0]} (resources requested per start of the job:"
                f" {_format_resources(status.request)})",
                # a retry would fail in the same way
                remedy="" if status.code == "absent" else advice,
                subject="" if status.participant == GROUP else label,
                code=status.code,
                file=str(status.log),
            )
        )
        notices += steps.get(label, []) if status.code == "crashed" else []
    return notices


def _format_resources(request: Request) -> str:
    """Return memory and time limit of a request as text."""
    return f"{request.memory_mb / 1024:.1f} GB and {format_time(request.minutes)}"
