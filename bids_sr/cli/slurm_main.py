"""``bids-sr-slurm``: one array task a participant on a SLURM cluster, and what became of each.

======  ====================================================================
code    meaning
======  ====================================================================
0       submitted; with ``--wait`` and for ``status``: nothing failed
1       something failed; each is named
2       the command or the data cannot be used, or SLURM refuses: nothing was submitted
130     interrupted; submitted jobs continue
======  ====================================================================

Options of ``bids-sr-slurm`` beside those of ``bids-sr``.

What ``bids-sr-slurm`` checks before it submits, and the submission that comes of it.
"""

import dataclasses
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.cli.console import table_text
from bids_sr.cli.exit_codes import DONE, FAILED, ended, say
from bids_sr.cli.parser import Given, Parser, add_settings, made_of, settings_of
from bids_sr.cli.text_encoding import restart_in_utf8
from bids_sr.config import Settings, UsageError, section
from bids_sr.config.machine import Plugin
from bids_sr.config.section import Checked, argument, option
from bids_sr.frozen import frozen
from bids_sr.slurm import job_states, submissions
from bids_sr.slurm.job_states import Fate, State, failures, summary, table
from bids_sr.slurm.submission import (
    DEFAULT_CPUS,
    Job,
    Site,
    Submission,
    choose,
    group_job,
    group_request,
    in_tasks,
    job_mb,
    minutes_of,
    new_id,
    request_for,
    time_text,
)
from bids_sr.slurm.submissions import Overview, cancel, overview, print_scripts, retries

if TYPE_CHECKING:
    from bids_sr.preflight import Estimate, Plan


@frozen
class _Sent(Checked):
    """How jobs are submitted, for the first time or again."""

    print_only: bool = option(
        False, "--print-only", "write and print the job scripts without submitting them"
    )
    wait: bool = option(
        False,
        "--wait",
        "wait until all jobs have ended; the exit code is 0 if all jobs succeeded, otherwise 1",
    )


@frozen
class LaterOptions(_Sent):
    """Whose jobs are asked for, cancelled or submitted again, and what they then ask for."""

    output_dir: Path = argument("OUT", "output directory of the submission")
    participant_label: tuple[str, ...] = option(
        (),
        "--participant-label LABEL",
        "labels of the participants (default: all participants)",
        type=section.labels,
    )
    mem: float | None = option(
        None,
        "--mem SIZE",
        "memory available to bids-sr in each task, such as 8 or 8G; the job requests more"
        " memory than this",
        type=section.gigabytes,
    )
    time: str = option("", "--time TIME", "time limit of each task")


@frozen
class SlurmOptions(_Sent):
    """What is submitted, and what its jobs ask for; where they run is a `Site`."""

    array: str = option(
        "",
        "--array SPEC",
        "indices of the tasks to submit, starting at 1, and maximum number of simultaneous"
        " tasks after %%: 1-10, 3,5, 1-20:2%%4, %%4 (default: all tasks)",
    )
    batch: int = option(
        1,
        "--batch N",
        "number of participants per task, which are processed one after the other",
        least=1,
    )
    time: str = option(
        "",
        "--time TIME",
        "time limit of each task: minutes, H:MM:SS or D-HH (default: estimated from the"
        " dataset and the settings)",
    )
    cpus: int | None = option(
        None, "--cpus N", "number of processors per task, as --nprocs (default: 4)", least=1
    )
    gpus: int | None = option(
        None,
        "--gpus N",
        "number of GPUs per task (default: 1 with --device cuda, otherwise 0)",
        least=0,
    )
    no_group: bool = option(False, "--no-group", "do not submit a job for the group level")


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
    problems += submissions.check_words(site, paths)
    arrays: tuple[Job, ...] = ()
    try:
        arrays = _arrays(_costs(plan, settings_there), settings, options, ask=not problems)
    except UsageError as error:
        problems.append(str(error))
    submissions.require(problems)
    printed = bool(options.print_only or settings.run.dry_run)
    seen = (
        None
        if printed and not shutil.which("squeue")
        else submissions.open_now(settings.paths.output_dir)
    )
    submissions.require(_clashes(arrays, seen, printed=printed))
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
    from bids_sr.cli.progress import expected

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
    resident = not ask or job_states.sums_resident()
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
        largest = job_states.largest_index()
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


_DESCRIPTION = """\
Run bids-sr on a SLURM cluster. A job array processes the participants, one per task by default,
and a group-level job follows. The options of bids-sr can be combined with the options in the group
"SLURM". --nprocs and --mem apply to each task; the job requests more memory than --mem.

To manage submitted jobs, use bids-sr-slurm status OUT, bids-sr-slurm retry OUT and
bids-sr-slurm cancel OUT."""
_AGAIN = {"mem", "time", "print_only", "wait"}


_LATER = {
    "status": ("show the state of each participant's job", {"participant_label", *_AGAIN}),
    "retry": (
        "resubmit the jobs of failed participants and a new group-level job; the memory"
        " request is increased if a job ran out of memory, and the time limit if a job timed"
        " out",
        set(),
    ),
    "cancel": (
        "cancel pending and running jobs, including the group-level job unless participants"
        " are specified",
        _AGAIN,
    ),
}
"""Of each later command what it does, and which options it does not take."""


def build_parser() -> Parser:
    """Return the submission parser (``bids-sr`` and SLURM); absent options leave no value."""
    parser = Parser("bids-sr-slurm", _DESCRIPTION)
    for kind in (SlurmOptions, Site):
        parser.add_fields(kind, title="SLURM")
    add_settings(parser, without={"analysis_level"})
    return parser


def later_parser(command: str) -> Parser:
    """The parser of ``bids-sr-slurm status``, ``retry`` or ``cancel``."""
    about, without = _LATER[command]
    parser = Parser(f"bids-sr-slurm {command}", f"{about[0].upper()}{about[1:]}.")
    parser.add_fields(LaterOptions, without=without)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr-slurm`` and return its exit code.

    The arguments are those of the process by default.

    `argv`: arguments of the command line; None takes those of the process.
    """
    if argv is None:
        restart_in_utf8()
    arguments = list(sys.argv[1:] if argv is None else argv)
    interrupted = "jobs that were already submitted continue"
    return ended("bids-sr-slurm", lambda: _run(arguments), interrupted=interrupted)


def _run(arguments: list[str]) -> int:
    command = arguments[0] if arguments else ""
    if command not in _LATER:
        return _submit(arguments)
    options = later_parser(command).options(arguments[1:], LaterOptions)
    output_dir = options.output_dir.expanduser().absolute()
    people = [f"sub-{label.removeprefix('sub-')}" for label in options.participant_label]
    minutes = minutes_of(options.time) if options.time else None
    seen = overview(output_dir)
    if command == "status":
        return _show(seen.fates, output_dir)
    if command == "retry":
        return _retry(seen, people, options, minutes)
    names = cancel(seen, people)
    print(
        f"Cancelled jobs: {' '.join(names)}"
        if names
        else "There are no pending or running jobs to cancel."
    )
    return DONE


def _options_of(inputs: Given) -> tuple[Settings, SlurmOptions, Site]:
    options = made_of(inputs, SlurmOptions)
    settings = {
        group: values for group, values in inputs.items() if group not in ("slurmoptions", "site")
    }
    resources = settings.get("resources", {})
    if options.cpus is not None:
        settings["resources"] = {**resources, "nprocs": options.cpus}
    elif "config_file" not in inputs.get("run", {}):
        file = resources.get("use_plugin")
        cpus = Plugin.from_file(Path(str(file)).expanduser()).n_procs if file else None
        settings["resources"] = {"nprocs": cpus or DEFAULT_CPUS, **resources}
    return settings_of(settings).resolved(run_uuid=""), options, made_of(inputs, Site)


def _submit(arguments: list[str]) -> int:
    settings, options, site = build_parser().read(arguments, _options_of)
    for name, why in settings.run.without_effect:
        print(f"  note: {name} has no effect: {why}")
    say("Checking the inputs")
    submission, text, seen = prepare(settings, options, site)
    after = seen.open_jobs if seen else ()
    if settings.run.dry_run:
        return DONE
    if options.print_only:
        return _print_only(submission, text, after)
    return _send([(submission, text)], after, wait=options.wait)


def _print_only(submission: Submission, text: str, after: Sequence[str]) -> int:
    scripts, lines = print_scripts(submission, text, after=after)
    for script in (*scripts, lines):
        print(f"\n--- {script}\n{script.read_text(encoding='utf-8')}", end="")
    print(f"\nNo jobs were submitted. To submit the jobs, run: bash {shlex.quote(str(lines))}")
    return DONE


def _send(made: "list[tuple[Submission, str]]", after: Sequence[str], *, wait: bool) -> int:
    waited_for = list(after)
    for submission, text in made:
        sent = submissions.submit(submission, text, after=waited_for)
        jobs = [job.number for job in sent.jobs]
        waited_for += jobs
        say(
            f"Submitted jobs: {', '.join(jobs)}. Scripts, logs and job states are stored in"
            f" {sent.folder}"
        )
    output_dir = made[0][0].output_dir
    if wait:
        return _show(submissions.wait(output_dir, say), output_dir)
    print(f"To check the job states, run: bids-sr-slurm status {shlex.quote(str(output_dir))}")
    return DONE


def _show(fates: "Sequence[Fate]", output_dir: Path) -> int:
    """Print the table; the code tells whether anything failed."""
    print(table_text(table(fates)))
    print(summary(fates))
    for notice in failures(fates, output_dir):
        print(notice)
    return FAILED if any(fate.state is State.FAILED for fate in fates) else DONE


def _retry(
    seen: Overview, people: Sequence[str], options: LaterOptions, minutes: int | None
) -> int:
    made = retries(
        seen,
        people,
        mem=options.mem,
        minutes=minutes,
    )
    for submission, _ in made:
        for array in submission.arrays:
            gigabytes = array.request.memory_mb / 1024
            time = time_text(array.request.minutes)
            print(
                f"  Resubmitting {' '.join(array.task_of)} with {gigabytes:.1f} GB of memory"
                f" and a time limit of {time}"
            )
        if submission.group:
            print("  Resubmitting the group-level job")
    if options.print_only:
        for submission, text in made:
            _print_only(submission, text, seen.open_jobs)
        return DONE
    return _send(made, seen.open_jobs, wait=options.wait)


if __name__ == "__main__":
    sys.exit(main())
