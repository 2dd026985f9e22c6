"""``bids-sr-slurm``: one array task per participant on a SLURM cluster, and the state of the jobs.

======  ====================================================================
code    meaning
======  ====================================================================
0       submitted; with ``--wait`` and for ``status``: no failures
1       a job failed; failures are listed
2       the command or the data are invalid, or SLURM rejects the jobs
130     interrupted; submitted jobs continue
======  ====================================================================
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bids_sr.cli.console import table_text
from bids_sr.cli.exit_codes import DONE, FAILED, run_program
from bids_sr.cli.messages import print_line
from bids_sr.cli.options import ParsedOptions, Parser, make_options
from bids_sr.cli.parser import add_settings, make_settings
from bids_sr.cli.standard_streams import restart_in_utf8
from bids_sr.cli.vgg19_weights import install_requested_weights
from bids_sr.config import Settings
from bids_sr.config.plugin import Plugin
from bids_sr.config.presets import preset_names
from bids_sr.io.json_values import as_texts
from bids_sr.slurm import manage
from bids_sr.slurm.cli.options import CommandOptions, SlurmOptions
from bids_sr.slurm.cli.prepare import prepare
from bids_sr.slurm.job_requests import DEFAULT_CPUS, format_time, parse_minutes
from bids_sr.slurm.job_states import (
    JobStatus,
    State,
    format_summary,
    format_table,
    make_failure_notices,
)
from bids_sr.slurm.manage import Overview, cancel, make_retries, print_scripts, read_overview
from bids_sr.slurm.submission import Site, Submission

_DESCRIPTION = """\
Run bids-sr on a SLURM cluster. A job array processes the participants, one per task by default,
and a group-level job follows. The options of bids-sr can be combined with the options in the group
"SLURM". --nprocs and --mem apply to each task; the job requests more memory than --mem.

To manage submitted jobs, use bids-sr-slurm status OUT, bids-sr-slurm retry OUT and
bids-sr-slurm cancel OUT."""
_SUBMISSION_OPTIONS = {"mem", "time", "print_only", "wait"}


_COMMANDS = {
    "status": (
        "show the state of each participant's job",
        {"participant_label", *_SUBMISSION_OPTIONS},
    ),
    "retry": (
        "resubmit the jobs of failed participants and a new group-level job; the memory"
        " request is increased if a job ran out of memory, and the time limit if a job timed"
        " out",
        set(),
    ),
    "cancel": (
        "cancel pending and running jobs, including the group-level job unless participants"
        " are specified",
        _SUBMISSION_OPTIONS,
    ),
}
"""Command → description, and options that it does not accept."""


def build_parser() -> Parser:
    """Return the submission parser (``bids-sr`` and SLURM); missing options have no value."""
    parser = Parser("bids-sr-slurm", _DESCRIPTION)
    for kind in (SlurmOptions, Site):
        parser.add_fields(kind, title="SLURM")
    add_settings(parser, excluded_fields={"analysis_level"})
    return parser


def build_command_parser(command: str) -> Parser:
    """Return the parser of ``bids-sr-slurm status``, ``retry`` or ``cancel``."""
    description, excluded_fields = _COMMANDS[command]
    parser = Parser(f"bids-sr-slurm {command}", f"{description[0].upper()}{description[1:]}.")
    parser.add_fields(CommandOptions, excluded_fields=excluded_fields)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr-slurm`` and return its exit code.

    `argv` contains the command-line arguments; None means the arguments of the process.
    """
    if argv is None:
        restart_in_utf8()
    arguments = list(sys.argv[1:] if argv is None else argv)
    interrupted = "jobs that were already submitted continue"
    return run_program("bids-sr-slurm", lambda: _run(arguments), interrupted=interrupted)


def _run(arguments: list[str]) -> int:
    """Run a command, and return the exit code."""
    command = arguments[0] if arguments else ""
    if command not in _COMMANDS:
        return _submit(arguments)
    options = build_command_parser(command).options(arguments[1:], CommandOptions)
    output_dir = options.output_dir.expanduser().absolute()
    participants = [f"sub-{label.removeprefix('sub-')}" for label in options.participant_label]
    minutes = parse_minutes(options.time) if options.time else None
    state = read_overview(output_dir)
    if command == "status":
        return _print_states(state.statuses, output_dir)
    if command == "retry":
        return _retry(state, participants, options, minutes)
    names = cancel(state, participants)
    print(
        f"Cancelled jobs: {' '.join(names)}"
        if names
        else "There are no pending or running jobs to cancel."
    )
    return DONE


def _parse_options(inputs: ParsedOptions) -> tuple[Settings, SlurmOptions, Site]:
    """Return settings, SLURM options and site of a command line."""
    options = make_options(inputs, SlurmOptions)
    settings = {
        group: values for group, values in inputs.items() if group not in ("slurmoptions", "site")
    }
    resources = settings.get("resources", {})
    if options.cpus is not None:
        settings["resources"] = {**resources, "nprocs": options.cpus}
    elif set(as_texts(inputs.get("run", {}).get("config_file"))) <= {*preset_names()}:
        file = resources.get("use_plugin")
        cpus = Plugin.from_file(Path(str(file)).expanduser()).n_procs if file else None
        settings["resources"] = {"nprocs": cpus or DEFAULT_CPUS, **resources}
    # nodes may have no network, so that weights are installed before the submission
    requested = install_requested_weights(make_settings(settings))
    return requested.resolve(run_uuid=""), options, make_options(inputs, Site)


def _submit(arguments: list[str]) -> int:
    """Prepare and submit the jobs, or print their scripts."""
    settings, options, site = build_parser().read(arguments, _parse_options)
    for name, reason in settings.run.without_effect:
        print(f"  note: {name} has no effect: {reason}")
    print_line("Checking the inputs")
    submission, settings_toml, state = prepare(settings, options, site)
    dependencies = state.open_jobs if state else ()
    if settings.run.dry_run:
        return DONE
    if options.print_only:
        return _print_only(submission, settings_toml, dependencies)
    return _submit_all([(submission, settings_toml)], dependencies, wait=options.wait)


def _print_only(submission: Submission, settings_toml: str, dependencies: Sequence[str]) -> int:
    """Write and print the scripts of a submission, with the command that submits them."""
    job_scripts, submit_script = print_scripts(submission, settings_toml, open_jobs=dependencies)
    for script in (*job_scripts, submit_script):
        print(f"\n--- {script}\n{script.read_text(encoding='utf-8')}", end="")
    print(
        "\nNo jobs were submitted. To submit the jobs, run: bash"
        f" {shlex.quote(str(submit_script))}"
    )
    return DONE


def _submit_all(
    submissions: "list[tuple[Submission, str]]", job_dependencies: Sequence[str], *, wait: bool
) -> int:
    """Submit jobs one after the other, and wait for them if requested.

    `submissions`: submissions with their settings. `job_dependencies`: numbers of further jobs
    that must end before a group job.
    """
    dependencies = list(job_dependencies)
    for submission, settings_toml in submissions:
        submitted = manage.submit(submission, settings_toml, open_jobs=dependencies)
        jobs = [job.number for job in submitted.jobs]
        dependencies += jobs
        print_line(
            f"Submitted jobs: {', '.join(jobs)}. Scripts, logs and job states are stored in"
            f" {submitted.folder}"
        )
    output_dir = submissions[0][0].output_dir
    if wait:
        return _print_states(manage.wait(output_dir, print_line), output_dir)
    print(f"To check the job states, run: bids-sr-slurm status {shlex.quote(str(output_dir))}")
    return DONE


def _print_states(statuses: "Sequence[JobStatus]", output_dir: Path) -> int:
    """Print the table of job states; return 1 if a job failed, otherwise 0."""
    print(table_text(format_table(statuses)))
    print(format_summary(statuses))
    for notice in make_failure_notices(statuses, output_dir):
        print(notice)
    return FAILED if any(status.state is State.FAILED for status in statuses) else DONE


def _retry(
    state: Overview, participants: Sequence[str], options: CommandOptions, minutes: int | None
) -> int:
    """Resubmit failed participants, or print the scripts."""
    submissions = make_retries(
        state,
        participants,
        mem=options.mem,
        minutes=minutes,
    )
    for submission, _ in submissions:
        for array in submission.arrays:
            memory_gb = array.request.memory_mb / 1024
            time_limit = format_time(array.request.minutes)
            print(
                f"  Resubmitting {' '.join(array.task_of)} with {memory_gb:.1f} GB of memory"
                f" and a time limit of {time_limit}"
            )
        if submission.group:
            print("  Resubmitting the group-level job")
    if options.print_only:
        for submission, settings_toml in submissions:
            _print_only(submission, settings_toml, state.open_jobs)
        return DONE
    return _submit_all(submissions, state.open_jobs, wait=options.wait)


if __name__ == "__main__":
    sys.exit(main())
