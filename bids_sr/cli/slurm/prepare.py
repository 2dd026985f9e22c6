"""Preparation of a submission to SLURM, with all checks before anything is submitted."""

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.cli.slurm.options import SlurmOptions
from bids_sr.config import Settings, UsageError
from bids_sr.slurm import calls, manage, scripts
from bids_sr.slurm.arrays import choose, in_tasks
from bids_sr.slurm.job_requests import group_request, job_mb, minutes_of, request_for, time_text
from bids_sr.slurm.manage import Overview
from bids_sr.slurm.submission import Job, Site, Submission, group_job, new_id

if TYPE_CHECKING:
    from bids_sr.preflight import Estimate, Plan

_NO_LIMIT_GB = 1e6


def prepare(
    settings: Settings, options: SlurmOptions, site: Site
) -> "tuple[Submission, str, Overview | None]":
    """Prepare a submission, its settings file and the state of earlier ones, writing nothing.

    `settings` are resolved, `options` and `site` the options of SLURM. Raises `UsageError` with
    every problem at once, and asks SLURM only where there is none.

    Submission, settings as TOML, and what became of earlier submissions or None.
    """
    from bids_sr import preflight

    given = settings.resources.mem_gb
    # the memory of the machine that submits tells nothing
    resources = dataclasses.replace(
        settings.resources, mem_gb=_NO_LIMIT_GB if given is None else given
    )
    settings_there = dataclasses.replace(settings, resources=resources)
    plan = preflight.check(settings_there)
    problems = [str(problem) for problem in plan.problems] + _unfit(settings, site)
    site = _found(site, settings)
    named = [
        Path(text)
        for text in (site.setup, site.container, site.program)
        if text and "://" not in text
    ]
    paths = (settings.paths.bids_dir, settings.paths.output_dir, *_paths(settings), *named)
    problems += scripts.check_words(site, paths)
    arrays: tuple[Job, ...] = ()
    try:
        arrays = _arrays(_costs(plan, settings_there), settings, options, ask=not problems)
    except UsageError as error:
        problems.append(str(error))
    scripts.require(problems)
    printed = bool(options.print_only or settings.run.dry_run)
    seen = (
        None
        if printed and not shutil.which("squeue")
        else manage.open_now(settings.paths.output_dir)
    )
    scripts.require(_clashes(arrays, seen, printed=printed))
    people = {name for array in arrays for name in array.task_of} | set(
        seen.origin if seen else ()
    )
    with_group = not options.no_group and len(people) > 1
    group = [group_job(group_request(len(people)))] if with_group else []
    submission = Submission(
        id=new_id(),
        bids_dir=settings.paths.bids_dir,
        output_dir=settings.paths.output_dir,
        work_dir=settings.paths.work_dir or Path("work").absolute(),
        jobs=(*arrays, *group),
        site=site,
    )
    for each in preflight.notes(plan, settings):
        print(f"  {each.level}: {each}")
    for text in preflight.left_out_text(plan.left_out):
        print(text)
    _describe(submission, plan)
    # The data set has been validated here; each task would validate all participants once more,
    # which it has to where runs were left out, so that it leaves them out, too.
    skip = settings.selection.skip_bids_validation or not plan.left_out
    selection = dataclasses.replace(settings.selection, skip_bids_validation=skip)
    return submission, dataclasses.replace(settings, selection=selection).to_toml(), seen


def _costs(plan: "Plan", settings: Settings) -> "dict[str, Estimate]":
    """Cost of each participant (``sub-01``) alone; without time where the plan has problems."""
    from bids_sr.cli.stages import expected

    return {
        f"sub-{one.label}": plan.estimate
        if plan.problems
        else expected(dataclasses.replace(plan, subjects=(one,)), settings)
        for one in plan.subjects
    }


def _arrays(
    costs: "dict[str, Estimate]", settings: Settings, options: SlurmOptions, *, ask: bool
) -> "tuple[Job, ...]":
    """The one array of a submission; `ask`: whether SLURM may be asked how it counts memory."""
    minutes = minutes_of(options.time) if options.time else None
    tasks = in_tasks(sorted(costs), options.batch)
    if not tasks:
        return ()
    indices, at_once = choose(options.array, len(tasks))
    of_task = [[costs[name] for name in tasks[index - 1]] for index in indices]
    memory_gb = settings.resources.mem_gb
    cpus = settings.resources.nprocs or 1
    resident = not ask or calls.sums_resident()
    request = request_for(
        [
            (max(cost.memory_gb for cost in each), sum(cost.minutes for cost in each))
            for each in of_task
        ],
        cpus=cpus,
        gpus=int(settings.resources.device == "cuda") if options.gpus is None else options.gpus,
        memory_mb=None if memory_gb is None else job_mb(memory_gb, cpus * resident),
        minutes=minutes,
        resident=resident,
    )
    return (Job(name="array-1", tasks=tasks, indices=indices, request=request, at_once=at_once),)


def _found(site: Site, settings: Settings) -> Site:
    """A site with absolute paths, the program, and what a container sees."""
    container, setup = (
        str(Path(text).expanduser().absolute()) if text and "://" not in text else text
        for text in (site.container, site.setup)
    )
    # not resolved: the link lies in the environment that is meant
    beside = Path(sys.executable).parent / "bids-sr"
    return dataclasses.replace(
        site,
        setup=setup,
        container=container,
        program=str(beside) if not setup and beside.exists() else "bids-sr",
        binds=tuple(map(str, _paths(settings))),
    )


def _paths(settings: Settings) -> list[Path]:
    """Files and directories that options name, besides data, output and work."""
    groups = (values for group, values in dataclasses.asdict(settings).items() if group != "paths")
    paths = [value for values in groups for value in values.values() if isinstance(value, Path)]
    how, calibration = settings.activation, settings.superres.calibration_file
    texts = [
        path
        for path in (Path(how.roi), Path(how.atlas), calibration)
        if path is not None and path.is_absolute()
    ]
    return [*dict.fromkeys([*paths, *texts])]


def _unfit(settings: Settings, site: Site) -> list[str]:
    """Options that do not go with SLURM arrays, or name what is not there."""
    only = {
        "--boilerplate-only": settings.run.boilerplate_only,
        "--reports-only": settings.run.reports_only,
    }
    wrong = [
        f"{flag}: this operation takes only seconds; use this option with bids-sr, without SLURM"
        for flag, asked in only.items()
        if asked
    ]
    if settings.resources.use_plugin is not None:
        wrong.append(
            "--use-plugin: tasks of a job array cannot submit jobs; use this option with bids-sr"
        )
    if settings.run.clean_workdir:
        wrong.append(
            "--clean-workdir: a requeued task would lose its completed steps; specify a new"
            " working directory with -w instead"
        )
    for name, text in (("setup", site.setup), ("container", site.container)):
        if text and "://" not in text and not Path(text).expanduser().exists():
            wrong.append(f"--{name} {text}: the file does not exist; check the path")
    return wrong


def _clashes(arrays: "tuple[Job, ...]", seen: "Overview | None", *, printed: bool) -> list[str]:
    """Participants that already wait or run, and arrays that SLURM cannot hold."""
    names = {name for array in arrays for name in array.task_of}
    wrong = []
    if seen and (
        twice := [
            fate.participant for fate in seen.fates if fate.open and fate.participant in names
        ]
    ):
        some = " ".join(twice[:20]) + (f" and {len(twice) - 20} more" if len(twice) > 20 else "")
        wrong.append(
            f"{some}: jobs for these participants are already pending or running. Wait"
            " until the jobs have finished, or cancel the jobs with `bids-sr-slurm cancel"
            " OUT` first."
        )
    if not printed and arrays:
        largest = calls.largest_index()
        last = max(array.indices[-1] for array in arrays)
        if largest is not None and last > largest:
            batch = -(-len(names) // largest)
            wrong.append(
                f"The job array has {last} tasks, but this cluster allows at most {largest}"
                f" tasks per array. Use --batch {max(2, batch)}."
            )
    return wrong


def _describe(submission: Submission, plan: "Plan") -> None:
    cost = plan.estimate
    for array in submission.arrays:
        request = array.request
        print(
            f"  {len(array.task_of)} participants in {len(array.indices)} tasks; each task"
            f" requests {request.cpus} processors, {request.memory_mb / 1024:.1f} GB of"
            f" memory and {time_text(request.minutes)}"
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
