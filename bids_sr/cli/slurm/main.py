"""``bids-sr-slurm DATA OUT [options] -- [options of bids-sr]``: participants as tasks of an array.

The same command again submits the participants that are not done.

======  ====================================================================
code    meaning
======  ====================================================================
0       submitted, or all participants are done
2       the command or the data are invalid, or SLURM rejects the jobs
130     interrupted; submitted jobs continue
======  ====================================================================
"""

import dataclasses
import math
import shlex
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.cli.config_text import make_config_lines
from bids_sr.cli.exit_codes import DONE, run_program
from bids_sr.cli.messages import print_line
from bids_sr.cli.options import Parser, normalize_flags
from bids_sr.cli.parser import build_parser as build_program_parser, parse_settings
from bids_sr.config import Settings, readers
from bids_sr.config.section import OptionSection, argument, option
from bids_sr.engine.memory import BASE_GB
from bids_sr.engine.slurm import commands, scripts
from bids_sr.engine.slurm.job_requests import (
    DEFAULT_CPUS,
    Request,
    compute_job_mb,
    format_time,
    make_group_request,
    make_request,
    parse_minutes,
)
from bids_sr.engine.slurm.sbatch_variables import (
    find_ignored_variables,
    find_inherited_variables,
)
from bids_sr.engine.slurm.submission import (
    GROUP,
    Site,
    Submission,
    divide_into_tasks,
    make_id,
    read_done,
)
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import UsageError
from bids_sr.io.word_lists import format_count
from bids_sr.sr.device import Device

if TYPE_CHECKING:
    from bids_sr.engine.nodes import Node
    from bids_sr.survey.preflight.plan import Estimate, Plan

_DESCRIPTION = """\
Run bids-sr on a SLURM cluster. A job array processes the participants, one per task by default,
and a group-level job follows. After the jobs have ended, the same command submits the participants
that are not done. --nprocs and --mem of bids-sr apply to each task; the job requests more memory
than --mem."""
_EPILOG = (
    "Options of bids-sr follow after --, for example: bids-sr-slurm DATA OUT -- --sr-method sbl"
)
_NO_LIMIT_GB = 1e6


@frozen
class SlurmOptions(OptionSection):
    """Data, output, and options of the tasks; `SiteOptions` has the options of the site."""

    bids_dir: Path = argument("bids_dir", "root directory of the BIDS dataset")
    output_dir: Path = argument("output_dir", "output directory for the derivatives")
    time: str = option(
        "",
        "--time TIME",
        "time limit of each task: minutes, H:MM:SS or D-HH (default: estimated). Required for"
        " training on a GPU without --max-train-minutes",
    )
    gpus: int | None = option(
        None,
        "--gpus N",
        "number of GPUs per task (default: 1 with resources.device=cuda, otherwise 0)",
        least=0,
    )
    batch: int = option(
        1,
        "--batch N",
        "number of participants per task, processed one after the other",
        least=1,
    )
    at_once: int = option(
        0, "--at-once N", "maximum number of simultaneous tasks (default: no limit)", least=0
    )
    no_group: bool = option(False, "--no-group", "do not submit a job for the group level")
    print_only: bool = option(
        False, "--print-only", "write and print the job scripts without submitting them"
    )


@frozen
class SiteOptions(OptionSection, Site):
    """Options of the site."""

    partition: str = option(
        "", "--partition NAME", "SLURM partition (default: as set by the cluster)"
    )
    account: str = option("", "--account NAME", "SLURM account (default: as set by the cluster)")
    qos: str = option(
        "", "--qos NAME", "SLURM quality of service (default: as set by the cluster)"
    )
    container: str = option(
        "",
        "--container IMAGE",
        "Apptainer or Singularity image to use instead of the installed program",
    )
    setup: str = option(
        "",
        "--setup FILE",
        "file with shell commands for the start of each job, such as module load. Afterwards,"
        " bids-sr must be on the PATH",
        type=readers.check_path,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr-slurm`` and return its exit code."""
    interrupted = "jobs that were already submitted continue"
    return run_program("bids-sr-slurm", _run, argv, interrupted=interrupted)


def _run(arguments: Sequence[str]) -> int:
    """Submit what is not done, or print the scripts."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    program_options = arguments[split + 1 :]
    parser = build_parser()
    _check_position(arguments[:split], parser)
    options, site = parser.options(arguments[:split])
    folders = [str(options.bids_dir), str(options.output_dir)]
    settings = parse_settings([*folders, "participant", *program_options])
    if settings.resources.nprocs is None:
        settings = settings.with_values(resources={"nprocs": DEFAULT_CPUS})
    settings = settings.resolve(run_uuid="")
    for line in make_config_lines(settings):
        print(line)
    from bids_sr.structural.kept_split import keep_split

    print_line("Checking the inputs")
    plan = _check(settings, site)
    is_printed = options.print_only or settings.run.dry_run
    largest_index = None if options.print_only else _find_largest_index(is_required=not is_printed)
    submission = _make_submission(plan, settings, options, site, largest_index)
    if not submission.tasks and submission.group_request is None:
        return DONE
    _print_variables(site)
    if settings.run.dry_run:
        return DONE
    # The data set has been validated here. Tasks would validate all participants again, which is
    # only necessary if runs were skipped, so that the tasks skip them as well.
    skips_validation = settings.selection.skip_bids_validation or not plan.skipped
    selection = {"skip_bids_validation": skips_validation}
    settings_toml = settings.with_values(selection=selection).to_toml()
    if options.print_only:
        return _print_scripts(submission, settings_toml)
    keep_split(settings, plan.split_subjects)
    numbers = scripts.submit(submission, settings_toml)
    print_line(f"Submitted: {', '.join(numbers)}. Scripts and logs: {submission.folder}")
    print(f"Queue: squeue --name={submission.job_name}; accounting: sacct --jobs={numbers[0]}")
    return DONE


def build_parser() -> Parser:
    """Return the parser of the options before ``--``."""
    parser = Parser("bids-sr-slurm", _DESCRIPTION, SlurmOptions, SiteOptions)
    parser.usage = "bids-sr-slurm bids_dir output_dir [options] -- [options of bids-sr]"
    parser.epilog = _EPILOG
    return parser


def _check_position(own_arguments: Sequence[str], parser: Parser) -> None:
    """Raise `UsageError` if an option of ``bids-sr`` is not after ``--``."""
    program_flags = _list_flags(build_program_parser()) - _list_flags(parser)
    for token in normalize_flags(own_arguments):
        flag = token.partition("=")[0]
        if flag in program_flags:
            fix = f"write options of bids-sr after --: bids-sr-slurm DATA OUT -- {flag} ..."
            raise UsageError(flag, "this is an option of bids-sr", fix)


def _list_flags(parser: Parser) -> set[str]:
    """Return the flags of all options of a parser."""
    return {flag for action in parser._actions for flag in action.option_strings}


def _check(settings: Settings, site: Site) -> "Plan":
    """Return the plan of all participants; raise `UsageError` with all problems.

    SLURM is not queried.
    """
    from bids_sr.survey.preflight.exclusions import describe_skipped_runs
    from bids_sr.survey.preflight.plan_text import notes
    from bids_sr.workflows.call_checks import check

    limited = settings
    if settings.resources.mem_gb is None:  # the memory of the submitting machine is not relevant
        limited = settings.with_values(resources={"mem_gb": _NO_LIMIT_GB})
    plan = check(limited)
    problems = [str(problem) for problem in plan.problems]
    problems += _find_option_problems(settings, site)
    paths = [settings.paths.bids_dir, settings.paths.output_dir, *settings.list_paths()]
    paths += _list_site_files(site).values()
    problems += scripts.find_invalid_names(site, paths)
    if problems:
        count = format_count(len(problems), "problem")
        raise UsageError("\n".join([f"{count} found; no jobs were submitted.", *problems]))
    for notice in notes(plan, settings):
        print(f"  {notice.level}: {notice}")
    for text in describe_skipped_runs(plan.skipped):
        print(text)
    return plan


def _find_option_problems(settings: Settings, site: Site) -> list[str]:
    """Return problems with options that cannot be used with job arrays, and with missing files."""
    brief = "this operation takes only seconds; use this option with bids-sr, without SLURM"
    problems = {
        f"--boilerplate-only: {brief}": settings.run.boilerplate_only,
        f"--reports-only: {brief}": settings.run.reports_only,
        "--use-plugin: tasks of a job array cannot submit jobs; use this option with bids-sr": (
            settings.resources.use_plugin is not None
        ),
        "run.clean_workdir: a requeued task would lose its completed steps; specify a new working"
        " directory with -w instead": settings.run.clean_workdir,
    }
    problems |= {
        f"--{name} {getattr(site, name)}: the file does not exist; check the path": (
            not path.exists()
        )
        for name, path in _list_site_files(site).items()
    }
    return [text for text, is_problem in problems.items() if is_problem]


def _list_site_files(site: Site) -> dict[str, Path]:
    """Return the files in options of the site, by name; a container may also be an address."""
    options = {"setup": site.setup, "container": site.container}
    return {
        name: Path(text).expanduser()
        for name, text in options.items()
        if text and "://" not in text
    }


def _find_largest_index(*, is_required: bool) -> int | None:
    """Return the largest task number of the cluster; None if it is unknown.

    Without `is_required`, nothing is submitted: a computer without SLURM has no limit, and a note
    is printed if SLURM does not answer.
    """
    if not is_required and shutil.which("scontrol") is None:
        return None
    try:
        return commands.read_largest_index()
    except commands.SlurmError as error:
        if is_required:
            raise
        print(
            f"  note: SLURM did not answer ({error.notice.what}: {error.notice.why}). The limit"
            " of the cluster is unknown."
        )
        return None


def _make_submission(
    plan: "Plan",
    settings: Settings,
    options: SlurmOptions,
    site: Site,
    largest_index: int | None,
) -> Submission:
    """Return the submission of all participants that are not done.

    The group job is omitted if the output has a single participant. `largest_index` is the largest
    task number; None if it is unknown. Raises `UsageError` if the array has more tasks.
    """
    from bids_sr.cli.stages import list_remaining_steps

    subjects = {f"sub-{subject.label}": subject for subject in plan.subjects}
    done = read_done(settings.paths.output_dir) & set(subjects)
    labels = [label for label in subjects if label not in done]
    tasks_of_one = {}
    for label in labels:
        plan_of_one = dataclasses.replace(plan, subjects=(subjects[label],))
        steps = list_remaining_steps(plan_of_one, settings)
        tasks_of_one[label] = _Task(plan=plan_of_one, steps=steps)
    # the first task that needs shared networks without finished training trains them for all
    training_labels = [label for label in labels if tasks_of_one[label].trains_shared][:1]
    array_labels = [label for label in labels if label not in training_labels]
    labels = training_labels + array_labels
    training_tasks = [tasks_of_one[label] for label in training_labels]
    array_tasks = [tasks_of_one[label].without_shared() for label in array_labels]
    training_request = _make_request(settings, options, training_tasks)
    request = _make_request(settings, options, array_tasks)
    tasks = (
        *divide_into_tasks(training_labels, 1),
        *divide_into_tasks(array_labels, options.batch),
    )
    with_group = not options.no_group and len(subjects) > 1
    group_request = make_group_request(len(subjects)) if with_group else None
    requests = {
        "the first task trains the networks that the others use, and": training_request,
        "each task": request,
    }
    _print_counts(labels, done, requests, len(tasks), group_request)
    if largest_index is not None and len(tasks) > largest_index:
        raise UsageError(
            f"the job array has {len(tasks)} tasks",
            f"this cluster allows at most {largest_index} tasks per array",
            f"use --batch {max(2, math.ceil(len(labels) / largest_index))}",
        )
    files = {name: str(path.absolute()) for name, path in _list_site_files(site).items()}
    # symbolic links are not resolved, because a link determines the environment
    program = Path(sys.executable).parent / "bids-sr"
    return Submission(
        id=make_id(),
        bids_dir=settings.paths.bids_dir,
        output_dir=settings.paths.output_dir,
        work_dir=settings.paths.work_dir or Path("work").absolute(),
        tasks=tasks,
        request=request,
        training_request=training_request,
        group_request=group_request,
        site=dataclasses.replace(site, **files),
        program=str(program) if not site.setup and program.exists() else "bids-sr",
        binds=tuple(settings.list_paths()),
        database_dir=settings.selection.bids_database_dir,
        at_once=options.at_once,
    )


@frozen
class _Task:
    """Remaining steps of one participant, whose label is the only one of the plan.

    Networks in the working directory are finished.
    """

    plan: "Plan"
    steps: "Sequence[Node]"

    @property
    def label(self) -> str:
        """Label of the participant."""
        return self.plan.subjects[0].label

    @property
    def trains_shared(self) -> bool:
        """Whether the task trains networks that other participants share."""
        from bids_sr.cli.stages import trains_network

        return any(
            trains_network(node) and node.scope.participant != self.label for node in self.steps
        )

    def without_shared(self) -> "_Task":
        """Return the task after another task has trained the shared networks."""
        if not self.trains_shared:
            return self
        steps = [node for node in self.steps if node.scope.participant == self.label]
        return dataclasses.replace(self, steps=steps)

    def estimate(self, settings: Settings) -> "Estimate":
        """Return the cost of the task, whose memory includes a training only if it trains."""
        from bids_sr.cli.stages import estimate_with_time

        cost = estimate_with_time(self.plan, settings, self.steps)
        if not self.plan.training_subjects or self.trains_shared:
            return cost
        memory_gb = BASE_GB + max(row.memory_gb for row in cost.rows)
        return dataclasses.replace(cost, memory_gb=memory_gb)


def _make_request(
    settings: Settings, options: SlurmOptions, members: Sequence[_Task]
) -> Request | None:
    """Return the request of all tasks, estimated from the most demanding one.

    `members` are the tasks of one participant each; the request is None if there are none. A tip
    on faster training is printed. Raises `UsageError` if the time is unknown and was not
    specified.
    """
    from bids_sr.survey.preflight.plan_text import describe_saved_time

    if not members:
        return None
    n_gpus = int(settings.resources.device == "cuda") if options.gpus is None else options.gpus
    if settings.resources.device == "auto":
        device: Device = "cuda" if n_gpus else "cpu"
        settings = settings.with_values(resources={"device": device})
    estimates = {member.label: member.estimate(settings) for member in members}
    costs = [
        (
            max(estimates[label].memory_gb for label in task),
            sum(estimates[label].minutes for label in task),
        )
        for task in divide_into_tasks(list(estimates), options.batch)
    ]
    if not options.time and any(math.isinf(minutes) for _, minutes in costs):
        raise UsageError(
            "--time",
            "the time for training on a GPU was not measured and cannot be estimated",
            "specify --time TIME for each task, or limit the training with -- --max-train-minutes"
            " MIN (benchmarks/gpu.py measures trainings)",
        )
    longest = max(estimates.values(), key=lambda estimate: estimate.saved_minutes)
    if tip := describe_saved_time(longest, settings):
        print(f"  tip: {tip}")
    memory_gb, cpus = settings.resources.mem_gb, settings.resources.nprocs or 1
    counts_resident = commands.counts_shared_memory()
    n_sharing = cpus if counts_resident else 0
    return make_request(
        costs,
        cpus=cpus,
        gpus=n_gpus,
        memory_mb=None if memory_gb is None else compute_job_mb(memory_gb, n_sharing),
        minutes=parse_minutes(options.time) if options.time else None,
        resident=counts_resident,
    )


def _print_counts(
    labels: Sequence[str],
    done: Collection[str],
    requests: Mapping[str, Request | None],
    n_tasks: int,
    group_request: Request | None,
) -> None:
    """Print what is done, and what is submitted with which resources."""
    if done:
        print(
            f"  done: {format_count(len(done), 'participant')}, whatever the settings were. To"
            " repeat them, delete their files in logs/slurm/done of the output directory."
        )
    if labels:
        print(f"  to submit: {len(labels)} participants in {n_tasks} tasks")
    for tasks, request in requests.items():
        if request is not None:
            print(
                f"  {tasks} requests {request.cpus} processors,"
                f" {request.memory_mb / 1024:.1f} GB of memory and {format_time(request.minutes)}"
                + (f" and {request.gpus} GPUs" if request.gpus else "")
            )
    if group_request is not None:
        print("  A group-level job follows.")
        return
    print("  No group-level job is submitted.")
    if not labels:
        print_line("All participants are done")


def _print_variables(site: Site) -> None:
    """Print which variables of ``sbatch`` the jobs inherit, and which they do not."""
    options = site.sbatch_options
    if inherited_variables := find_inherited_variables(options):
        items = (f"{name}={value}" for name, value in inherited_variables.items())
        print(f"  environment variables used: {', '.join(items)}")
    if ignored_names := find_ignored_variables(options):
        print(f"  environment variables ignored: {', '.join(ignored_names)}")


def _print_scripts(submission: Submission, settings_toml: str) -> int:
    """Write and print the scripts, and the commands that submit them.

    Variables that the jobs do not inherit are removed in these commands as well.
    """
    lines = []
    ignored_names = find_ignored_variables(submission.site.sbatch_options)
    unset = [word for name in ignored_names for word in ("-u", name)]
    sbatch = shlex.join([*(["env", *unset] if unset else []), "sbatch"])
    jobs: list[str] = []
    for name, script in scripts.write_scripts(submission, settings_toml).items():
        print(f"\n--- {script}\n{script.read_text(encoding='utf-8')}", end="")
        options = shlex.join(scripts.make_sbatch_arguments(submission, name))
        dependency = scripts.make_dependency(name, jobs)
        command = " ".join([sbatch, *dependency, options])
        lines.append(command if name == GROUP else f"{name}=$({command})")
        jobs.append(f"${name}")
    print("\nNo jobs were submitted. To submit them, run:", *lines, sep="\n")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
