"""Submission, retry, cancellation and monitoring of the SLURM jobs of an output."""

import shlex
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.config import UsageError
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import write_text
from bids_sr.notices import CODES
from bids_sr.slurm import commands
from bids_sr.slurm.arrays import divide_into_tasks
from bids_sr.slurm.job_requests import compute_job_mb, enlarge_request, make_group_request
from bids_sr.slurm.job_states import CANCELLED_FILE, JobStatus, State, find_job_statuses
from bids_sr.slurm.scripts import make_sbatch_arguments, write_scripts
from bids_sr.slurm.submission import (
    GROUP,
    ArrayJob,
    Request,
    Site,
    Submission,
    latest_submissions,
    make_group_job,
    make_id,
    submissions,
)

_MAX_SILENCE_S = 900.0
"""Time (s) for which monitoring continues without an answer of SLURM. Restarting a controller
takes minutes.
"""
_StatusesBySubmission = Mapping[str, Mapping[str, JobStatus]]
"""States by participant, by the identifier of a submission."""


@frozen
class Overview:
    """States of all participants of an output, each from its last submission.

    Attributes
    ----------
    statuses : tuple[JobStatus, ...]
        State of each participant, and of the group level at the end.
    origin : dict[str, Submission]
        Last submission of each participant.
    group_origin : Submission | None
        Last submission with a group job, if any.
    open_jobs : tuple[str, ...]
        Numbers of pending and running jobs.
    open_groups : tuple[tuple[Submission, str], ...]
        Submissions with a pending or running group job, and its number.
    """

    statuses: tuple[JobStatus, ...]
    origin: dict[str, Submission]
    group_origin: Submission | None
    open_jobs: tuple[str, ...]
    open_groups: tuple[tuple[Submission, str], ...]

    @property
    def failed(self) -> tuple[JobStatus, ...]:
        """Failed participants, without the group level."""
        return tuple(
            status
            for status in self.statuses
            if status.state is State.FAILED and status.participant != GROUP
        )


def read_overview(output_dir: Path) -> Overview:
    """Query the queue and read the records of an output.

    Raises
    ------
    UsageError
        There are no records, or SLURM does not answer.
    """
    records = submissions(output_dir)
    if not records:
        message = (
            f"{output_dir}: no submitted jobs were found (logs/slurm/*/submission.json is missing)"
        )
        fix = "check the path, or submit jobs with bids-sr-slurm DIR OUT"
        raise UsageError(message, "no jobs were submitted for this output directory", fix)
    queue = commands.queue([submission.job_name for submission in records])
    statuses_by_submission: _StatusesBySubmission = {
        submission.id: {
            status.participant: status for status in find_job_statuses(submission, queue)
        }
        for submission in records
    }
    submitted = [
        submission
        for submission in records
        if not _is_unused(submission, statuses_by_submission[submission.id])
    ]
    relevant = submitted or records
    origin = latest_submissions(relevant)
    retried = {
        name
        for submission in submitted
        for name in submission.participants
        if origin[name] != submission
    }
    participant_statuses = _add_memory_peaks(
        [statuses_by_submission[submission.id][name] for name, submission in origin.items()],
        retried,
    )
    groups = [
        (submission, status)
        for submission in relevant
        if (status := statuses_by_submission[submission.id].get(GROUP))
    ]
    group_statuses = [status for _, status in groups[-1:]]
    return Overview(
        statuses=(*participant_statuses, *group_statuses),
        origin=origin,
        group_origin=groups[-1][0] if groups else None,
        open_jobs=_list_open_jobs(statuses_by_submission),
        open_groups=tuple(
            (submission, status.job) for submission, status in groups if status.is_open
        ),
    )


def _list_open_jobs(statuses_by_submission: _StatusesBySubmission) -> tuple[str, ...]:
    """Return the numbers of pending and running jobs, without the numbers of their tasks."""
    open_jobs = {
        status.job.partition("_")[0]: None
        for statuses in statuses_by_submission.values()
        for status in statuses.values()
        if status.is_open
    }
    return tuple(open_jobs)


def _add_memory_peaks(statuses: Sequence[JobStatus], retried: Collection[str]) -> list[JobStatus]:
    """Return states with the peak memory of jobs that ran out of memory, if SLURM knows it.

    `retried`: participants that were submitted again, for which the peak is not needed.
    """
    out_of_memory = [
        status.job
        for status in statuses
        if status.code == "memory" and status.participant not in retried
    ]
    peaks = commands.read_peak_memory_mb(out_of_memory)
    return [replace(status, peak_mb=peaks.get(status.job, 0)) for status in statuses]


def _is_unused(submission: Submission, statuses: Mapping[str, JobStatus]) -> bool:
    """Return whether scripts were only printed and have not been submitted since."""
    return submission.printed and all(status.state is State.UNSENT for status in statuses.values())


def read_current_overview(output_dir: Path) -> Overview | None:
    """Return the overview, or None if nothing was submitted; see `read_overview` for errors."""
    return read_overview(output_dir) if submissions(output_dir) else None


def submit(
    submission: Submission, settings_toml: str, *, open_jobs: Sequence[str] = ()
) -> Submission:
    """Write the scripts and submit all jobs.

    Parameters
    ----------
    submission : Submission
        Jobs to submit.
    settings_toml : str
        Settings of the program for all participants.
    open_jobs : Sequence[str], optional
        Numbers of further jobs that must end before the group job.

    Returns
    -------
    Submission
        Saved submission with the numbers of its jobs.

    Raises
    ------
    SlurmError
        SLURM rejects a job; previously submitted jobs are cancelled.
    """
    write_scripts(submission, settings_toml)
    numbers: list[str] = []
    try:
        for job in submission.jobs:
            dependencies = [*numbers, *open_jobs] if job.is_group else []
            numbers.append(commands.submit(make_sbatch_arguments(submission, job, dependencies)))
            jobs = [
                replace(other_job, number=numbers[-1]) if other_job is job else other_job
                for other_job in submission.jobs
            ]
            submission = replace(submission, jobs=tuple(jobs))
            submission.save()
    except (commands.SlurmError, KeyboardInterrupt):
        if numbers:
            commands.cancel(numbers)
        (submission.folder / "submission.json").unlink(missing_ok=True)
        raise
    return submission


def print_scripts(
    submission: Submission, settings_toml: str, *, open_jobs: Sequence[str] = ()
) -> tuple[list[Path], Path]:
    """Write the scripts without submitting them.

    Parameters
    ----------
    submission : Submission
        Jobs of the scripts.
    settings_toml : str
        Settings of the program for all participants.
    open_jobs : Sequence[str], optional
        Numbers of further jobs that must end before the group job.

    Returns
    -------
    tuple[list[Path], Path]
        Scripts, and a shell script that submits them.
    """
    submission = replace(submission, printed=True)
    scripts = write_scripts(submission, settings_toml)
    script_lines = [
        "#!/bin/bash",
        "# shellcheck disable=SC2016 # paths may hold anything",
        "set -e",
    ]
    dependencies: list[str] = []
    for number, job in enumerate(submission.jobs, start=1):
        arguments = shlex.join(make_sbatch_arguments(submission, job))
        if job.is_group:
            job_ids = ":".join([*dependencies, *open_jobs])
            script_lines.append(f'sbatch "--dependency=afterany:{job_ids}" {arguments}')
        else:
            dependencies.append(f"${{job{number}%%;*}}")
            script_lines.append(f"job{number}=$(sbatch {arguments})")
    return scripts, write_text(submission.folder / "submit.sh", "\n".join(script_lines) + "\n")


def make_retries(
    snapshot: Overview,
    participants: Iterable[str] = (),
    *,
    mem: float | None = None,
    minutes: int | None = None,
) -> list[tuple[Submission, str]]:
    """Return new submissions of failed participants with their previous settings.

    There is one submission per combination of settings and directories. Jobs that ran out of
    memory request more memory, jobs that timed out more time; each request has a separate array.

    Parameters
    ----------
    snapshot : Overview
        States of all participants.
    participants : Iterable[str], optional
        Participants to retry (``sub-01``); if empty, all failed participants.
    mem : float | None, optional
        Memory of the program for all tasks (GiB); None uses the enlarged requests.
    minutes : int | None, optional
        Time limit of all tasks (min); None uses the enlarged requests.

    Returns
    -------
    list[tuple[Submission, str]]
        Submissions with their settings.

    Raises
    ------
    UsageError
        No participant failed, or a selected participant did not fail.
    """
    selected_participants = set(participants)
    failed = {
        status.participant: status
        for status in snapshot.failed
        if not selected_participants or status.participant in selected_participants
    }
    if unknown := sorted(selected_participants - set(failed)):
        fix = "run `bids-sr-slurm status OUT` to see which participants failed"
        raise UsageError(
            f"{' '.join(unknown)}: there is nothing to retry",
            "only failed participants can be retried",
            fix,
        )
    if not failed:
        return [_retry_group(snapshot, mem, minutes)]
    groups: dict[_RetryGroup, dict[Request, list[str]]] = {}
    for name, status in failed.items():
        previous = snapshot.origin[name]
        group = _RetryGroup(
            settings_toml=_read_settings(previous),
            site=previous.site,
            bids_dir=previous.bids_dir,
            work_dir=previous.work_dir,
        )
        request = _make_retry_request(status, mem, minutes)
        groups.setdefault(group, {}).setdefault(request, []).append(name)
    return [
        (_make_retry(snapshot, group, names_by_request), group.settings_toml)
        for group, names_by_request in groups.items()
    ]


@frozen
class _RetryGroup:
    """Settings and directories that the participants of one new submission share."""

    settings_toml: str
    site: Site
    bids_dir: Path
    work_dir: Path


def _make_retry(
    snapshot: Overview, group: _RetryGroup, names_by_request: Mapping[Request, Sequence[str]]
) -> Submission:
    """Return a submission with one array per request, and a group job if there was one before.

    `names_by_request`: participants (``sub-01``) of each request.
    """
    previous = snapshot.origin[next(iter(names_by_request.values()))[0]]
    arrays = [
        ArrayJob(
            name=f"array-{number}",
            tasks=divide_into_tasks(names, 1),
            indices=tuple(range(1, len(names) + 1)),
            request=request,
        )
        for number, (request, names) in enumerate(names_by_request.items(), 1)
    ]
    group_jobs = (
        [make_group_job(make_group_request(len(snapshot.origin)))] if previous.group else []
    )
    return Submission(
        id=make_id(),
        bids_dir=group.bids_dir,
        output_dir=previous.output_dir,
        work_dir=group.work_dir,
        site=group.site,
        jobs=(*arrays, *group_jobs),
    )


def _read_settings(submission: Submission) -> str:
    """Return the settings file (TOML) of a submission."""
    return (submission.folder / "settings.toml").read_text(encoding="utf-8")


def _retry_group(
    snapshot: Overview, mem: float | None, minutes: int | None
) -> tuple[Submission, str]:
    """Return a new submission of a failed group job, with its settings."""
    status = next((status for status in snapshot.statuses if status.participant == GROUP), None)
    previous = snapshot.group_origin
    if status is None or previous is None or status.state is not State.FAILED:
        raise UsageError(
            "there is nothing to retry",
            "the group-level job did not fail",
            "run `bids-sr-slurm status OUT` to see the state of all jobs",
        )
    request = _make_retry_request(status, mem, minutes)
    submission = replace(previous, id=make_id(), jobs=(make_group_job(request),), printed=False)
    return submission, _read_settings(previous)


def _make_retry_request(status: JobStatus, mem: float | None, minutes: int | None) -> Request:
    """Return the request of a retried job: enlarged, or as set by the user."""
    request = enlarge_request(status.request, status.code, status.peak_mb)
    memory = (
        request.memory_mb if mem is None else compute_job_mb(mem, request.cpus * request.resident)
    )
    return replace(request, memory_mb=memory, minutes=minutes or request.minutes)


def cancel(snapshot: Overview, participants: Iterable[str] = ()) -> list[str]:
    """Cancel the tasks of selected participants, or all tasks and group jobs.

    Parameters
    ----------
    snapshot : Overview
        States of all participants.
    participants : Iterable[str], optional
        Participants to cancel (``sub-01``); if empty, all tasks and group jobs.

    Returns
    -------
    list[str]
        Participants and ``group`` whose jobs were cancelled, including participants in the same
        task.

    Raises
    ------
    UsageError
        A selected participant has no pending or running job.
    """
    selected_participants = set(participants)
    open_tasks = {
        status.participant: status.job
        for status in snapshot.statuses
        if status.is_open and status.participant != GROUP
    }
    if unknown := sorted(selected_participants - set(open_tasks)):
        message = f"{' '.join(unknown)}: there is nothing to cancel"
        raise UsageError(
            message,
            "these participants have no pending or running job",
            "run `bids-sr-slurm status OUT` to see the state of all jobs",
        )
    jobs = {
        job
        for name, job in open_tasks.items()
        if not selected_participants or name in selected_participants
    }
    names = [name for name, job in open_tasks.items() if job in jobs]
    cancelled_jobs = [(snapshot.origin[name], open_tasks[name]) for name in names]
    if not selected_participants and snapshot.open_groups:
        cancelled_jobs += snapshot.open_groups
        names.append(GROUP)
    if cancelled_jobs:
        _record_cancelled(cancelled_jobs)
        commands.cancel(dict.fromkeys(job for _, job in cancelled_jobs))
    return names


def _record_cancelled(cancelled_jobs: Sequence[tuple[Submission, str]]) -> None:
    """Record cancelled jobs in a file, because a job that never started leaves no status file.

    `cancelled_jobs`: submission and number of each job.
    """
    for folder in {submission.folder for submission, _ in cancelled_jobs}:
        file = folder / CANCELLED_FILE
        previous = file.read_text(encoding="utf-8") if file.exists() else ""
        jobs = dict.fromkeys(
            job for submission, job in cancelled_jobs if submission.folder == folder
        )
        write_text(file, previous + "".join(f"{job}|CANCELLED|\n" for job in jobs))


def wait(
    output_dir: Path,
    print_line: Callable[[str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[JobStatus, ...]:
    """Wait until no job is pending or running, and return the final states.

    Parameters
    ----------
    output_dir : Path
        Output directory.
    print_line : Callable[[str], None]
        Function that is called with one line per change.
    sleep : Callable[[float], None], optional
        Function that waits for a number of seconds.

    Raises
    ------
    SlurmError
        SLURM has not answered for 15 min.
    """
    last_states: dict[str, State] = {}
    start = last_answer = time.monotonic()
    is_recheck = False
    while True:
        try:
            statuses = read_overview(output_dir).statuses
        except commands.SlurmError as error:
            if time.monotonic() - last_answer > _MAX_SILENCE_S:
                raise
            print_line(f"SLURM does not respond ({error.notice.what}); waiting for an answer")
            sleep(30)
            continue
        last_answer = time.monotonic()
        is_settled = not any(status.is_open for status in statuses)
        has_lost_job = any(
            status.state is State.FAILED and status.exit_code is None for status in statuses
        )
        # a status file may appear late on a network file system
        if not (is_settled and has_lost_job and not is_recheck):
            for status in statuses:
                if last_states.get(status.participant) != status.state:
                    last_states[status.participant] = status.state
                    reason = f" ({CODES[status.code][0]})" if status.code else ""
                    print_line(f"{status.participant}: {status.state}{reason}")
            if is_settled:
                return statuses
        is_recheck = is_settled
        sleep(min(30.0, 2 + (time.monotonic() - start) / 60))
