"""Preparation of a submission to SLURM, with all checks before jobs are submitted."""

import dataclasses
import math
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.config import Settings, UsageError
from bids_sr.slurm import commands, scripts
from bids_sr.slurm.cli.options import SlurmOptions
from bids_sr.slurm.job_requests import (
    compute_job_mb,
    format_time,
    make_group_request,
    make_request,
    parse_minutes,
)
from bids_sr.slurm.records import compute_digests, find_open_jobs
from bids_sr.slurm.remaining import Remaining, find_remaining
from bids_sr.slurm.submission import ArrayJob, Site, Submission, make_id

if TYPE_CHECKING:
    from bids_sr.preflight import Estimate, Plan

_NO_LIMIT_GB = 1e6


def prepare(settings: Settings, options: SlurmOptions, site: Site) -> tuple[Submission, Remaining]:
    """Prepare a submission without writing files.

    SLURM is only queried if there are no problems.

    Parameters
    ----------
    settings : Settings
        Resolved settings.
    options, site : SlurmOptions, Site
        Options of the submission.

    Returns
    -------
    submission : Submission
        Jobs to submit, if any.
    remaining : Remaining
        Comparison with earlier submissions.

    Raises
    ------
    UsageError
        If there are problems; the message lists all of them.
    """
    from bids_sr import preflight

    limit_gb = settings.resources.mem_gb
    # the memory of the submitting machine is not relevant
    resources = dataclasses.replace(
        settings.resources, mem_gb=_NO_LIMIT_GB if limit_gb is None else limit_gb
    )
    task_settings = dataclasses.replace(settings, resources=resources)
    plan = preflight.check(task_settings)
    problems = [str(problem) for problem in plan.problems] + _find_option_problems(settings, site)
    site = _make_absolute(site)
    problems += _find_path_problems(settings, site)
    try:
        minutes = parse_minutes(options.time) if options.time else None
    except UsageError as error:
        problems.append(str(error))
    scripts.raise_problems(problems)
    for notice in preflight.notes(plan, settings):
        print(f"  {notice.level}: {notice}")
    for text in preflight.describe_skipped_runs(plan.skipped):
        print(text)
    remaining = _find_remaining(settings, options, plan)
    array = None
    if remaining.participants:
        costs = _estimate_costs(plan, task_settings, remaining.participants)
        array = _make_array(costs, settings, options, minutes)
    submission = Submission(
        id=make_id(),
        bids_dir=settings.paths.bids_dir,
        output_dir=settings.paths.output_dir,
        work_dir=settings.paths.work_dir or Path("work").absolute(),
        site=site,
        program=_find_program(site),
        binds=tuple(map(str, _list_paths(settings))),
        settings_toml=_make_task_settings(settings, plan).to_toml(),
        digests=compute_digests(settings),
        array=array,
        group=make_group_request(len(plan.subjects))
        if remaining.needs_group and not options.no_group
        else None,
    )
    _print_states(remaining, submission)
    return submission, remaining


def _find_remaining(settings: Settings, options: SlurmOptions, plan: "Plan") -> Remaining:
    """Compare the selected participants with earlier submissions.

    The queue is not read if nothing is submitted and SLURM is not installed on this computer.
    """
    output_dir = settings.paths.output_dir
    may_query = not (options.print_only or settings.run.dry_run) or shutil.which("squeue")
    open_jobs = find_open_jobs(output_dir) if may_query else []
    names = sorted(f"sub-{subject.label}" for subject in plan.subjects)
    return find_remaining(output_dir, names, compute_digests(settings), open_jobs)


def _make_task_settings(settings: Settings, plan: "Plan") -> Settings:
    """Return the settings of the jobs.

    The data set has been validated here. Tasks would validate all participants again, which is
    only necessary if runs were skipped, so that the tasks skip them as well.
    """
    skips_validation = settings.selection.skip_bids_validation or not plan.skipped
    selection = dataclasses.replace(settings.selection, skip_bids_validation=skips_validation)
    return dataclasses.replace(settings, selection=selection)


def _find_path_problems(settings: Settings, site: Site) -> list[str]:
    """Return problems of names and paths that jobs use."""
    site_paths = [
        Path(text)
        for text in (site.setup, site.container, _find_program(site))
        if text and "://" not in text
    ]
    paths = (
        settings.paths.bids_dir,
        settings.paths.output_dir,
        *_list_paths(settings),
        *site_paths,
    )
    return scripts.find_invalid_names(site, paths)


def _estimate_costs(
    plan: "Plan", settings: Settings, participants: Collection[str]
) -> "dict[str, Estimate]":
    """Return the cost of each of these participants (``sub-01``)."""
    from bids_sr.cli.stages import estimate_with_time

    return {
        name: estimate_with_time(dataclasses.replace(plan, subjects=(subject,)), settings)
        for subject in sorted(plan.subjects, key=lambda subject: subject.label)
        if (name := f"sub-{subject.label}") in participants
    }


def _make_array(
    costs: "dict[str, Estimate]", settings: Settings, options: SlurmOptions, minutes: int | None
) -> ArrayJob:
    """Return the job array of participants with their costs.

    `minutes`: time limit set by the user; None for the estimate.
    """
    names = list(costs)
    tasks = tuple(
        tuple(names[start : start + options.batch])
        for start in range(0, len(names), options.batch)
    )
    if not options.print_only and not settings.run.dry_run:
        _check_size(tasks)
    task_costs = [[costs[name] for name in task] for task in tasks]
    memory_gb = settings.resources.mem_gb
    cpus = settings.resources.nprocs or 1
    counts_resident = commands.counts_shared_memory()
    request = make_request(
        [
            (
                max(cost.memory_gb for cost in participant_costs),
                sum(cost.minutes for cost in participant_costs),
            )
            for participant_costs in task_costs
        ],
        cpus=cpus,
        gpus=int(settings.resources.device == "cuda") if options.gpus is None else options.gpus,
        memory_mb=None
        if memory_gb is None
        else compute_job_mb(memory_gb, cpus if counts_resident else 0),
        minutes=minutes,
        resident=counts_resident,
    )
    return ArrayJob(tasks=tasks, request=request, at_most=options.max_running)


def _check_size(tasks: Sequence[Sequence[str]]) -> None:
    """Raise `UsageError` if an array has more tasks than the cluster allows."""
    largest = commands.read_largest_index()
    if largest is not None and len(tasks) > largest:
        batch = math.ceil(sum(map(len, tasks)) / largest)
        raise UsageError(
            f"the job array has {len(tasks)} tasks",
            f"this cluster allows at most {largest} tasks per array",
            f"use --batch {batch}",
        )


def _make_absolute(site: Site) -> Site:
    """Return the site with absolute paths."""
    container, setup = (
        str(Path(text).expanduser().absolute()) if text and "://" not in text else text
        for text in (site.container, site.setup)
    )
    return dataclasses.replace(site, setup=setup, container=container)


def _find_program(site: Site) -> str:
    """Return the name or path of the installed program."""
    # symbolic links are not resolved, because a link determines the environment
    program = Path(sys.executable).parent / "bids-sr"
    return str(program) if not site.setup and program.exists() else "bids-sr"


def _list_paths(settings: Settings) -> list[Path]:
    """Return the files and directories in options, other than data, output and work."""
    groups = (values for group, values in dataclasses.asdict(settings).items() if group != "paths")
    paths = [value for values in groups for value in values.values() if isinstance(value, Path)]
    activation, calibration = settings.activation, settings.superres.calibration_file
    texts = [
        path
        for path in (Path(activation.roi), Path(activation.atlas), calibration)
        if path is not None and path.is_absolute()
    ]
    return [*dict.fromkeys([*paths, *texts])]


def _find_option_problems(settings: Settings, site: Site) -> list[str]:
    """Return problems with options that cannot be used with job arrays, and with missing files."""
    excluded = {
        "--boilerplate-only": settings.run.boilerplate_only,
        "--reports-only": settings.run.reports_only,
    }
    problems = [
        f"{flag}: this operation takes only seconds; use this option with bids-sr, without SLURM"
        for flag, is_given in excluded.items()
        if is_given
    ]
    if settings.resources.use_plugin is not None:
        problems.append(
            "--use-plugin: tasks of a job array cannot submit jobs, and their resources are set by"
            " --nprocs and --mem; use this option with bids-sr, without SLURM"
        )
    if settings.run.clean_workdir:
        problems.append(
            "--clean-workdir: a requeued task would lose its completed steps; specify a new"
            " working directory with -w instead"
        )
    for name, text in (("setup", site.setup), ("container", site.container)):
        if text and "://" not in text and not Path(text).expanduser().exists():
            problems.append(f"--{name} {text}: the file does not exist; check the path")
    return problems


def _print_states(remaining: Remaining, submission: Submission) -> None:
    """Print the number of participants in each state, and the resources of the jobs."""
    print(
        f"  {len(remaining.done)} participants are done, {len(remaining.active)} pending or"
        f" running, and {len(remaining.participants)} not done."
    )
    if array := submission.array:
        request = array.request
        print(
            f"  {len(array.participants)} participants in {len(array.tasks)} tasks; each task"
            f" requests {request.cpus} processors, {request.memory_mb / 1024:.1f} GB of"
            f" memory and {format_time(request.minutes)}"
            + (f" and {request.gpus} GPUs" if request.gpus else "")
        )
    if submission.group:
        print("  A group-level job follows.")
    if submission.is_empty:
        print("  There is nothing to submit.")
