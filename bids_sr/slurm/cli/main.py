"""``bids-sr-slurm``: one array task per participant on a SLURM cluster, and a group job.

======  ====================================================================
code    meaning
======  ====================================================================
0       submitted, or there is nothing to submit
2       the command or the data are invalid, or SLURM rejects a job
130     interrupted; submitted jobs continue
======  ====================================================================
"""

import dataclasses
import shlex
import sys
from collections.abc import Sequence

from bids_sr.cli.exit_codes import DONE, run_program
from bids_sr.cli.messages import print_line
from bids_sr.cli.options import Parser, make_options, normalize_flags
from bids_sr.cli.parser import build_parser as build_program_parser, parse_settings
from bids_sr.cli.standard_streams import restart_in_utf8
from bids_sr.config import Settings, UsageError
from bids_sr.slurm import commands
from bids_sr.slurm.cli.options import SlurmOptions
from bids_sr.slurm.cli.prepare import prepare
from bids_sr.slurm.job_requests import DEFAULT_CPUS
from bids_sr.slurm.remaining import Remaining
from bids_sr.slurm.scripts import make_sbatch_arguments, write_scripts, write_submit_script
from bids_sr.slurm.submission import GROUP, Site, Submission

_DESCRIPTION = """\
Run bids-sr on a SLURM cluster. A job array processes the participants, one per task by default,
and a group-level job follows. Options of bids-sr follow after --, such as:

  bids-sr-slurm DATA OUT --partition long --time 8:00:00 -- --nprocs 8 --mem 16

--nprocs and --mem apply to each task; the job requests more memory than --mem. The same command
again submits the participants that are neither done nor pending or running. To see and cancel
jobs, use squeue and scancel."""


def build_parser() -> Parser:
    """Return the parser of the options that precede ``--``."""
    parser = Parser("bids-sr-slurm", _DESCRIPTION, SlurmOptions, Site)
    parser.usage = "bids-sr-slurm bids_dir output_dir [options] -- [options of bids-sr]"
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


def _run(arguments: Sequence[str]) -> int:
    """Prepare and submit the jobs, or print their scripts."""
    settings, options, site = _parse(arguments)
    for name, reason in settings.run.without_effect:
        print(f"  note: {name} has no effect: {reason}")
    print_line("Checking the inputs")
    submission, remaining = prepare(settings, options, site)
    if settings.run.dry_run or submission.is_empty:
        return DONE
    if options.print_only:
        _print_scripts(submission, remaining)
    else:
        _submit(submission, remaining)
    return DONE


def _parse(arguments: Sequence[str]) -> tuple[Settings, SlurmOptions, Site]:
    """Return resolved settings, SLURM options and site of a command line."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own_arguments, program_arguments = arguments[:end], arguments[end + 1 :]
    parser = build_parser()
    _check_position(own_arguments, parser)
    options, site = parser.read(
        own_arguments,
        lambda inputs: (make_options(inputs, SlurmOptions), make_options(inputs, Site)),
    )
    paths = [str(options.bids_dir), str(options.output_dir)]
    settings = parse_settings([*paths, "participant", *program_arguments])
    resources = dataclasses.replace(
        settings.resources, nprocs=settings.resources.nprocs or DEFAULT_CPUS
    )
    settings = dataclasses.replace(settings, resources=resources).resolve(run_uuid="")
    return settings, options, site


def _check_position(own_arguments: Sequence[str], parser: Parser) -> None:
    """Raise `UsageError` if an option of ``bids-sr`` is not after ``--``."""
    own_flags = _list_flags(parser)
    program_flags = _list_flags(build_program_parser())
    for token in normalize_flags(own_arguments):
        flag = token.partition("=")[0]
        if flag in program_flags - own_flags:
            raise UsageError(
                flag,
                "this is an option of bids-sr",
                f"write options of bids-sr after --: bids-sr-slurm DATA OUT -- {flag} ...",
            )


def _list_flags(parser: Parser) -> set[str]:
    """Return the flags of all options of a parser."""
    return {flag for action in parser._actions for flag in action.option_strings}


def _print_scripts(submission: Submission, remaining: Remaining) -> None:
    """Write and print the scripts of a submission, with the command that submits them."""
    scripts = write_scripts(submission)
    submit_script = write_submit_script(scripts, remaining.open_numbers)
    for script in (*scripts, submit_script):
        print(f"\n--- {script}\n{script.read_text(encoding='utf-8')}", end="")
    print(
        "\nNo jobs were submitted. To submit the jobs, run: bash"
        f" {shlex.quote(str(submit_script))}"
    )


def _submit(submission: Submission, remaining: Remaining) -> None:
    """Submit the array and the group job, which waits for all jobs of the output.

    If SLURM rejects the group job, the array continues; the same command again submits it.
    """
    dependencies = list(remaining.open_numbers)
    for script in write_scripts(submission):
        is_group = script.stem == GROUP
        arguments = make_sbatch_arguments(script, dependencies if is_group else ())
        dependencies.append(commands.submit(arguments))
        print_line(
            f"Submitted {'group-level job' if is_group else 'job array'} {dependencies[-1]}"
        )
    if submission.group:
        # the new job runs the same group level, after all tasks
        for number in remaining.replaced_groups:
            commands.cancel_pending(number)
    print(f"  Scripts and logs are in {submission.folder}")


if __name__ == "__main__":
    sys.exit(main())
