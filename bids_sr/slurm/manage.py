"""Submit, retry, cancel and wait: the records of an output joined with the calls of SLURM."""

import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.config import UsageError
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import write_whole
from bids_sr.notices import CODES
from bids_sr.slurm import calls
from bids_sr.slurm.arrays import in_tasks
from bids_sr.slurm.job_requests import enlarged, group_request, job_mb
from bids_sr.slurm.job_states import CANCELLED_FILE, Fate, State, fates
from bids_sr.slurm.scripts import sbatch_arguments, write_scripts
from bids_sr.slurm.submission import (
    GROUP,
    Job,
    Request,
    Site,
    Submission,
    group_job,
    latest,
    new_id,
    submissions,
)

_PATIENCE_S = 900.0
"""How long the waiting goes on while SLURM does not answer: a controller that is restarted takes
minutes.
"""


@frozen
class Overview:
    """An output as a whole: the fates by the last submission of each, `origin`."""

    fates: tuple[Fate, ...]
    origin: dict[str, Submission]
    group_origin: Submission | None
    open_jobs: tuple[str, ...]
    open_groups: tuple[tuple[Submission, str], ...]

    @property
    def failed(self) -> tuple[Fate, ...]:
        """Return participants that failed, without the group level."""
        return tuple(f for f in self.fates if f.state is State.FAILED and f.participant != GROUP)


def overview(output_dir: Path) -> Overview:
    """Query the queue and read the records.

    Raises `UsageError` where there are no records, or SLURM does not answer.
    """
    known = submissions(output_dir)
    if not known:
        what = (
            f"{output_dir}: no submitted jobs were found (logs/slurm/*/submission.json is missing)"
        )
        fix = "check the path, or submit jobs with bids-sr-slurm DIR OUT"
        raise UsageError(what, "no jobs were submitted for this output directory", fix)
    queue = calls.queue([each.job_name for each in known])
    every = {each.id: {fate.participant: fate for fate in fates(each, queue)} for each in known}
    counted = [each for each in known if not _unused(each, every[each.id])]
    origin = latest(counted or known)
    shown = [every[each.id][name] for name, each in origin.items()]
    again = {name for each in counted for name in each.participants if origin[name] != each}
    short = [f.job for f in shown if f.code == "memory" and f.participant not in again]
    seen = calls.peaks_mb(short)
    shown = [replace(fate, seen_mb=seen.get(fate.job, 0)) for fate in shown]
    groups = [(each, fate) for each in counted or known if (fate := every[each.id].get(GROUP))]
    shown += [fate for _, fate in groups[-1:]]
    opened = [fate.job for of in every.values() for fate in of.values() if fate.open]
    return Overview(
        fates=tuple(shown),
        origin=origin,
        group_origin=groups[-1][0] if groups else None,
        open_jobs=tuple(dict.fromkeys(job.partition("_")[0] for job in opened)),
        open_groups=tuple((each, fate.job) for each, fate in groups if fate.open),
    )


def _unused(submission: Submission, fates: dict[str, Fate]) -> bool:
    """Whether scripts were only printed, and nobody has submitted them since."""
    return submission.printed and all(fate.state is State.UNSENT for fate in fates.values())


def open_now(output_dir: Path) -> Overview | None:
    """The overview, or None where nothing was ever submitted; raises as `overview` does.

    What became of everyone, or None.
    """
    return overview(output_dir) if submissions(output_dir) else None


def submit(submission: Submission, settings_toml: str, *, after: Sequence[str] = ()) -> Submission:
    """Write the scripts and submit them; all jobs, or none where SLURM refuses one.

    `settings_toml` holds the settings of the program for everyone, `after` the jobs that the group
    job waits for besides the arrays. Returns the submission with the numbers of its jobs, saved.

    `SlurmError`: SLURM refuses a job; those sent before are cancelled.
    """
    write_scripts(submission, settings_toml)
    sent: list[str] = []
    try:
        for job in submission.jobs:
            waits = [*sent, *after] if job.is_group else []
            sent.append(calls.submit(sbatch_arguments(submission, job, waits)))
            jobs = [replace(j, number=sent[-1]) if j is job else j for j in submission.jobs]
            submission = replace(submission, jobs=tuple(jobs))
            submission.save()
    except (calls.SlurmError, KeyboardInterrupt):
        if sent:
            calls.cancel(sent)
        (submission.folder / "submission.json").unlink(missing_ok=True)
        raise
    return submission


def print_scripts(
    submission: Submission, settings_toml: str, *, after: Sequence[str] = ()
) -> tuple[list[Path], Path]:
    """Write the scripts and return (scripts, shell lines that submit them).

    Nothing is submitted.

    `after`: numbers of further jobs that the group job waits for.
    """
    submission = replace(submission, printed=True)
    scripts = write_scripts(submission, settings_toml)
    lines = ["#!/bin/bash", "# shellcheck disable=SC2016 # paths may hold anything", "set -e"]
    waits: list[str] = []
    for number, job in enumerate(submission.jobs, start=1):
        words = shlex.join(sbatch_arguments(submission, job))
        if job.is_group:
            lines.append(f'sbatch "--dependency=afterany:{":".join([*waits, *after])}" {words}')
        else:
            waits.append(f"${{job{number}%%;*}}")
            lines.append(f"job{number}=$(sbatch {words})")
    return scripts, write_whole(submission.folder / "submit.sh", "\n".join(lines) + "\n")


def retries(
    seen: Overview,
    chosen: Iterable[str] = (),
    *,
    mem: float | None = None,
    minutes: int | None = None,
) -> list[tuple[Submission, str]]:
    """Return new submissions of failed participants, as few as their settings allow.

    Each participant keeps its settings.

    Those that ran out of memory get more of it, those that timed out more time, each in an array
    of their own.

    `chosen` are participants (``sub-01``), by default all that failed; `mem` (GiB, of the program)
    and `minutes` are what every task gets, whatever it had. Raises `UsageError` where nobody
    failed, or someone who was chosen did not.
    """
    ids = set(chosen)
    failed = {fate.participant: fate for fate in seen.failed if not ids or fate.participant in ids}
    if strangers := sorted(ids - set(failed)):
        fix = "run `bids-sr-slurm status OUT` to see which participants failed"
        raise UsageError(
            f"{' '.join(strangers)}: there is nothing to retry",
            "only failed participants can be retried",
            fix,
        )
    if not failed:
        return [_group_again(seen, mem, minutes)]
    kinds: dict[tuple[str, Site, Path, Path], dict[Request, list[str]]] = {}
    for name, fate in failed.items():
        old = seen.origin[name]
        text = (old.folder / "settings.toml").read_text(encoding="utf-8")
        request = _request_again(fate, mem, minutes)
        kinds.setdefault((text, old.site, old.bids_dir, old.work_dir), {}).setdefault(
            request, []
        ).append(name)
    retried = []
    numbers = tuple(range(1, len(failed) + 1))
    for (text, site, bids_dir, work_dir), by_request in kinds.items():
        old = seen.origin[next(iter(by_request.values()))[0]]
        arrays = [
            Job(
                name=f"array-{k}",
                tasks=in_tasks(names, 1),
                indices=numbers[: len(names)],
                request=each,
            )
            for k, (each, names) in enumerate(by_request.items(), 1)
        ]
        group = [group_job(group_request(len(seen.origin)))] if old.group else []
        made = Submission(
            id=new_id(),
            bids_dir=bids_dir,
            output_dir=old.output_dir,
            work_dir=work_dir,
            site=site,
            jobs=(*arrays, *group),
        )
        retried.append((made, text))
    return retried


def _group_again(seen: Overview, mem: float | None, minutes: int | None) -> tuple[Submission, str]:
    """The group job alone, where nothing else failed."""
    fate = next((fate for fate in seen.fates if fate.participant == GROUP), None)
    old = seen.group_origin
    if fate is None or old is None or fate.state is not State.FAILED:
        raise UsageError(
            "there is nothing to retry",
            "the group-level job did not fail",
            "run `bids-sr-slurm status OUT` to see the state of all jobs",
        )
    request = _request_again(fate, mem, minutes)
    made = replace(old, id=new_id(), jobs=(group_job(request),), printed=False)
    return made, (old.folder / "settings.toml").read_text(encoding="utf-8")


def _request_again(fate: Fate, mem: float | None, minutes: int | None) -> Request:
    """What a job asks for the next time: more of what it ran out of, or what the user fixed."""
    request = enlarged(fate.request, fate.code, fate.seen_mb)
    memory = request.memory_mb if mem is None else job_mb(mem, request.cpus * request.resident)
    return replace(request, memory_mb=memory, minutes=minutes or request.minutes)


def cancel(seen: Overview, chosen: Iterable[str] = ()) -> list[str]:
    """Cancel what is left: the tasks of those chosen, or everything with the group jobs.

    Returns the participants and ``group`` whose jobs were cancelled, whoever shares a task with
    them, too. Raises `UsageError` where someone who was chosen is not waiting or running.

    `chosen`: participants with the prefix; empty for everything.
    """
    chosen_ids = set(chosen)
    opened = {f.participant: f.job for f in seen.fates if f.open and f.participant != GROUP}
    if strangers := sorted(chosen_ids - set(opened)):
        what = f"{' '.join(strangers)}: there is nothing to cancel"
        raise UsageError(
            what,
            "these participants have no pending or running job",
            "run `bids-sr-slurm status OUT` to see the state of all jobs",
        )
    jobs = {job for name, job in opened.items() if not chosen_ids or name in chosen_ids}
    names = [name for name, job in opened.items() if job in jobs]
    marks = [(seen.origin[name], opened[name]) for name in names]
    if not chosen_ids and seen.open_groups:
        marks += seen.open_groups
        names.append(GROUP)
    if marks:
        _mark_cancelled(marks)
        calls.cancel(dict.fromkeys(job for _, job in marks))
    return names


def _mark_cancelled(marks: Sequence[tuple[Submission, str]]) -> None:
    """Keep that jobs were cancelled: one that never started leaves no trace of its own."""
    for folder in {submission.folder for submission, _ in marks}:
        file = folder / CANCELLED_FILE
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        jobs = dict.fromkeys(job for submission, job in marks if submission.folder == folder)
        write_whole(file, before + "".join(f"{job}|CANCELLED|\n" for job in jobs))


def wait(
    output_dir: Path, say: Callable[[str], None], *, sleep: Callable[[float], None] = time.sleep
) -> tuple[Fate, ...]:
    """Return what became of everyone when nothing is left; `say` is called with each change.

    Raises `SlurmError` where SLURM has not answered for 15 min. `sleep` waits for so many seconds.
    """
    last_states: dict[str, State] = {}
    began = last_answer = time.monotonic()
    doubted = False
    while True:
        try:
            fates = overview(output_dir).fates
        except calls.SlurmError as error:
            if time.monotonic() - last_answer > _PATIENCE_S:
                raise
            say(f"SLURM does not respond ({error.notice.what}); waiting for an answer")
            sleep(30)
            continue
        last_answer = time.monotonic()
        settled = not any(fate.open for fate in fates)
        lost = any(fate.state is State.FAILED and fate.exit_code is None for fate in fates)
        if not (settled and lost and not doubted):  # a status file may come late over a network
            for fate in fates:
                if last_states.get(fate.participant) != fate.state:
                    last_states[fate.participant] = fate.state
                    why = f" ({CODES[fate.code][0]})" if fate.code else ""
                    say(f"{fate.participant}: {fate.state}{why}")
            if settled:
                return fates
        doubted = settled
        sleep(min(30.0, 2 + (time.monotonic() - began) / 60))
