"""Preparation of a submission to SLURM, with all checks before jobs are submitted."""

import dataclasses
import math
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.config import Settings, UsageError
from bids_sr.slurm import commands, manage, scripts
from bids_sr.slurm.arrays import divide_into_tasks, parse_tasks
from bids_sr.slurm.cli.options import SlurmOptions
from bids_sr.slurm.job_requests import (
    compute_job_mb,
    format_time,
    make_group_request,
    make_request,
    parse_minutes,
)
from bids_sr.slurm.manage import Overview
from bids_sr.slurm.submission import ArrayJob, Site, Submission, make_group_job, make_id

if TYPE_CHECKING:
    from bids_sr.preflight import Estimate, Plan

_NO_LIMIT_GB = 1e6


def prepare(
    settings: Settings, options: SlurmOptions, site: Site
) -> "tuple[Submission, str, Overview | None]":
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
        Jobs to submit.
    text : str
        Settings file (TOML) of the tasks.
    state : Overview or None
        State of earlier submissions, if known.

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
    site = _complete_site(site, settings)
    problems += _find_path_problems(settings, site)
    arrays: tuple[ArrayJob, ...] = ()
    try:
        arrays = _make_arrays(
            _estimate_costs(plan, task_settings), settings, options, may_query=not problems
        )
    except UsageError as error:
        problems.append(str(error))
    scripts.raise_problems(problems)
    is_printed = bool(options.print_only or settings.run.dry_run)
    state = None
    if shutil.which("squeue") or not is_printed:
        state = manage.read_current_overview(settings.paths.output_dir)
    scripts.raise_problems(_find_conflicts(arrays, state, is_printed=is_printed))
    submission = _make_submission(settings, options, site, arrays, state)
    for notice in preflight.notes(plan, settings):
        print(f"  {notice.level}: {notice}")
    for text in preflight.describe_skipped_runs(plan.skipped):
        print(text)
    _print_resources(submission, plan)
    # The data set has been validated here. Tasks would validate all participants again, which is
    # only necessary if runs were skipped, so that the tasks skip them as well.
    skips_validation = settings.selection.skip_bids_validation or not plan.skipped
    selection = dataclasses.replace(settings.selection, skip_bids_validation=skips_validation)
    return submission, dataclasses.replace(settings, selection=selection).to_toml(), state


def _find_path_problems(settings: Settings, site: Site) -> list[str]:
    """Return problems of names and paths that jobs use."""
    site_paths = [
        Path(text)
        for text in (site.setup, site.container, site.program)
        if text and "://" not in text
    ]
    paths = (
        settings.paths.bids_dir,
        settings.paths.output_dir,
        *_list_paths(settings),
        *site_paths,
    )
    return scripts.find_invalid_names(site, paths)


def _make_submission(
    settings: Settings,
    options: SlurmOptions,
    site: Site,
    arrays: "tuple[ArrayJob, ...]",
    state: "Overview | None",
) -> Submission:
    """Return a submission, with a group job if the output has several participants."""
    participants = {name for array in arrays for name in array.task_of}
    if state is not None:
        participants |= state.origin.keys()
    jobs = list(arrays)
    if not options.no_group and len(participants) > 1:
        jobs.append(make_group_job(make_group_request(len(participants))))
    return Submission(
        id=make_id(),
        bids_dir=settings.paths.bids_dir,
        output_dir=settings.paths.output_dir,
        work_dir=settings.paths.work_dir or Path("work").absolute(),
        jobs=tuple(jobs),
        site=site,
    )


def _estimate_costs(plan: "Plan", settings: Settings) -> "dict[str, Estimate]":
    """Return the cost of each participant (``sub-01``), without time if the plan has problems."""
    from bids_sr.cli.stages import estimate_with_time

    return {
        f"sub-{subject.label}": plan.estimate
        if plan.problems
        else estimate_with_time(dataclasses.replace(plan, subjects=(subject,)), settings)
        for subject in plan.subjects
    }


def _make_arrays(
    costs: "dict[str, Estimate]", settings: Settings, options: SlurmOptions, *, may_query: bool
) -> "tuple[ArrayJob, ...]":
    """Return the job array of a submission.

    `may_query` states whether SLURM may be queried for its memory accounting.
    """
    minutes = parse_minutes(options.time) if options.time else None
    tasks = divide_into_tasks(sorted(costs), options.batch)
    if not tasks:
        return ()
    indices, at_once = parse_tasks(options.array, len(tasks))
    task_costs = [[costs[name] for name in tasks[index - 1]] for index in indices]
    memory_gb = settings.resources.mem_gb
    cpus = settings.resources.nprocs or 1
    counts_resident = not may_query or commands.counts_shared_memory()
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
    return (
        ArrayJob(name="array-1", tasks=tasks, indices=indices, request=request, at_once=at_once),
    )


def _complete_site(site: Site, settings: Settings) -> Site:
    """Return the site with absolute paths, the program, and the paths bound in a container."""
    container, setup = (
        str(Path(text).expanduser().absolute()) if text and "://" not in text else text
        for text in (site.container, site.setup)
    )
    # symbolic links are not resolved, because a link determines the environment
    program = Path(sys.executable).parent / "bids-sr"
    return dataclasses.replace(
        site,
        setup=setup,
        container=container,
        program=str(program) if not setup and program.exists() else "bids-sr",
        binds=tuple(map(str, _list_paths(settings))),
    )


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
            "--use-plugin: tasks of a job array cannot submit jobs; use this option with bids-sr"
        )
    if settings.run.clean_workdir:
        problems.append(
            "--set run.clean_workdir=true: a requeued task would lose its completed steps; specify"
            " a new working directory with -w instead"
        )
    for name, text in (("setup", site.setup), ("container", site.container)):
        if text and "://" not in text and not Path(text).expanduser().exists():
            problems.append(f"--{name} {text}: the file does not exist; check the path")
    return problems


def _find_conflicts(
    arrays: "tuple[ArrayJob, ...]", state: "Overview | None", *, is_printed: bool
) -> list[str]:
    """Return problems with participants whose jobs are active, and with large arrays."""
    names = {name for array in arrays for name in array.task_of}
    problems = []
    if state and (
        active := [
            status.participant
            for status in state.statuses
            if status.is_open and status.participant in names
        ]
    ):
        names_text = " ".join(active[:20]) + (
            f" and {len(active) - 20} more" if len(active) > 20 else ""
        )
        problems.append(
            f"{names_text}: jobs for these participants are already pending or running. Wait until"
            " the jobs have finished, or cancel the jobs with `bids-sr-slurm cancel OUT` first."
        )
    if not is_printed and arrays:
        largest = commands.read_largest_index()
        last = max(array.indices[-1] for array in arrays)
        if largest is not None and last > largest:
            batch = math.ceil(len(names) / largest)
            problems.append(
                f"The job array has {last} tasks, but this cluster allows at most {largest}"
                f" tasks per array. Use --batch {max(2, batch)}."
            )
    return problems


def _print_resources(submission: Submission, plan: "Plan") -> None:
    """Print the resources of the jobs."""
    cost = plan.estimate
    for array in submission.arrays:
        request = array.request
        print(
            f"  {len(array.task_of)} participants in {len(array.indices)} tasks; each task"
            f" requests {request.cpus} processors, {request.memory_mb / 1024:.1f} GB of"
            f" memory and {format_time(request.minutes)}"
            + (f" and {request.gpus} GPUs" if request.gpus else "")
        )
    print(
        f"  Estimated memory: {cost.memory_gb:.1f} GB. Resources that were not specified on"
        " the command line are estimated from the most demanding task, plus a safety margin"
        " (see docs/hpc.md)."
    )
    print(
        "  A group-level job follows."
        if submission.group
        else "  No group-level job is submitted."
    )
