"""``bids-sr-slurm``: one array task a participant on a SLURM cluster, and what became of each.

======  ====================================================================
code    meaning
======  ====================================================================
0       submitted; with ``--wait`` and for ``status``: nothing failed
1       something failed; each is named
2       the command or the data cannot be used, or SLURM refuses: nothing was submitted
130     interrupted; what was submitted goes on
======  ====================================================================
"""

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bids_sr.cli.options import add_group, add_options
from bids_sr.cli.parser import Parser, data_parser, hyphens, settings_of
from bids_sr.cli.slurm.slurm_options import SlurmOptions
from bids_sr.cli.slurm.slurm_prepare import prepare
from bids_sr.config import UsageError
from bids_sr.config.readers import gigabytes, path
from bids_sr.slurm import submissions
from bids_sr.slurm.job_requests import DEFAULT_CPUS, job_mb, minutes_of, time_text
from bids_sr.slurm.job_states import Fate, State, failures, summary, table
from bids_sr.slurm.submission import Submission
from bids_sr.slurm.submissions import cancel, overview, print_scripts, retries

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
_DESCRIPTION = """\
Run bids-sr on a SLURM cluster: one array task a participant and a group job behind them. Takes
the options of bids-sr (--nprocs and --mem hold for each task; its job asks for a ninth more memory
than --mem) and those of the group "SLURM".

Afterwards: bids-sr-slurm status OUT, bids-sr-slurm retry OUT, bids-sr-slurm cancel OUT."""


def build_parser() -> Parser:
    """Return the submission parser (``bids-sr`` and SLURM); absent options leave no value."""
    parser = data_parser("bids-sr-slurm", _DESCRIPTION, "DIR", "OUT")
    add_group(parser.add_argument_group("SLURM"), "slurm", SlurmOptions)
    add_options(parser)
    return parser


def later_parser(command: str) -> Parser:
    """The parser of ``bids-sr-slurm status``, ``retry`` or ``cancel``."""
    about = {
        "status": "what became of each participant",
        "retry": (
            "submit again those that failed: more memory for those that ran out of it, more time"
            " for those that timed out; and a new group job"
        ),
        "cancel": (
            "cancel what waits or runs, the group job included unless participants are named"
        ),
    }
    parser = Parser(
        prog=f"bids-sr-slurm {command}", description=about[command], allow_abbrev=False
    )
    parser.add_argument(
        "output_dir", metavar="OUT", type=path, help="the output directory of the submission"
    )
    if command != "status":
        people = "participants (default: all)"
        parser.add_argument(
            "--participant-label", nargs="+", default=[], metavar="LABEL", help=people
        )
    if command == "retry":
        memory = "memory of the program in each task: 8, 8G; the job asks for a ninth more"
        parser.add_argument("--mem", metavar="SIZE", type=gigabytes, help=memory)
        parser.add_argument("--time", metavar="TIME", help="time limit of each task")
        add_group(parser, "slurm", SlurmOptions, only=("print_only", "wait"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr-slurm`` and return its exit code.

    The arguments are those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[list[str]], int]] = {
        "status": _status,
        "retry": _retry,
        "cancel": _cancel,
    }
    try:
        if arguments and arguments[0] in commands:
            return commands[arguments[0]](arguments[1:])
        return _submit(arguments)
    except UsageError as error:
        print(f"bids-sr-slurm: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("bids-sr-slurm: interrupted; what was submitted goes on", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as stop:  # --help and --version end the parsing this way
        return stop.code if isinstance(stop.code, int) else DONE


def _submit(arguments: list[str]) -> int:
    parser = build_parser()
    given = vars(parser.parse_args(list(hyphens(arguments))))
    own = SlurmOptions(
        **{
            name[len("slurm.") :]: given.pop(name)
            for name in [*given]
            if name.startswith("slurm.")
        }
    )
    if own.cpus is not None:
        given["resources.nprocs"] = own.cpus
    elif "run.config_file" not in given:
        given.setdefault("resources.nprocs", DEFAULT_CPUS)
    settings = settings_of(parser, given).resolved(run_uuid="")
    _say("checking the inputs")
    submission, text, seen = prepare(settings, own)
    after = seen.open_jobs if seen else ()
    if settings.run.dry_run:
        return DONE
    if own.print_only:
        return _print_only(submission, text, after)
    return _send([(submission, text)], after, wait=own.wait)


def _print_only(submission: Submission, text: str, after: Sequence[str]) -> int:
    scripts, lines = print_scripts(submission, text, after=after)
    for script in (*scripts, lines):
        print(f"\n--- {script}\n{script.read_text(encoding='utf-8')}", end="")
    print(f"\nnothing was submitted; this submits it: bash {shlex.quote(str(lines))}")
    return DONE


def _send(made: "list[tuple[Submission, str]]", after: Sequence[str], *, wait: bool) -> int:
    waited_for = list(after)
    for submission, text in made:
        sent = submissions.submit(submission, text, after=waited_for)
        jobs = [
            *(array.job for array in sent.arrays),
            *([sent.group_job] if sent.group_job else []),
        ]
        waited_for += jobs
        _say(f"submitted: {', '.join(jobs)}; scripts, logs and state are in {sent.folder}")
    output_dir = made[0][0].output_dir
    if wait:
        return _show(submissions.wait(output_dir, _say), output_dir)
    print(f"see how it goes: bids-sr-slurm status {shlex.quote(str(output_dir))}")
    return DONE


def _show(found: "Sequence[Fate]", output_dir: Path) -> int:
    """Print the table; the code tells whether anything failed."""
    print(table(found))
    print(summary(found))
    for notice in failures(found, output_dir):
        print(notice)
    return FAILED if any(fate.state is State.FAILED for fate in found) else DONE


def _status(arguments: list[str]) -> int:
    options = later_parser("status").parse_args(arguments)
    output_dir = options.output_dir.expanduser().absolute()
    return _show(overview(output_dir).fates, output_dir)


def _retry(arguments: list[str]) -> int:
    options = later_parser("retry").parse_args(list(hyphens(arguments)))
    seen = overview(options.output_dir.expanduser().absolute())
    made = retries(
        seen,
        _with_prefix(options.participant_label),
        memory_mb=None if options.mem is None else job_mb(options.mem),
        minutes=None if options.time is None else minutes_of(options.time),
    )
    for submission, _ in made:
        for array in submission.arrays:
            gigabytes, time = array.request.memory_mb / 1024, time_text(array.request.minutes)
            print(f"  again: {' '.join(array.task_of)} with {gigabytes:.1f} GB and {time}")
        if submission.group_request:
            print("  again: group")
    if getattr(options, "slurm.print_only"):
        for submission, text in made:
            _print_only(submission, text, seen.open_jobs)
        return DONE
    return _send(made, seen.open_jobs, wait=getattr(options, "slurm.wait"))


def _cancel(arguments: list[str]) -> int:
    options = later_parser("cancel").parse_args(list(hyphens(arguments)))
    names = cancel(
        overview(options.output_dir.expanduser().absolute()),
        _with_prefix(options.participant_label),
    )
    print(f"cancelled: {' '.join(names)}" if names else "nothing is left to cancel")
    return DONE


def _with_prefix(labels: Sequence[str]) -> list[str]:
    return [f"sub-{label.removeprefix('sub-')}" for label in labels]


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
