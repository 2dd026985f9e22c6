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
from collections.abc import Sequence
from pathlib import Path

from bids_sr.cli.console import table_text
from bids_sr.cli.exit_codes import DONE, FAILED, ended, say
from bids_sr.cli.parser import Given, Parser, add_settings, made_of, settings_of
from bids_sr.cli.slurm.slurm_options import LaterOptions, SlurmOptions
from bids_sr.cli.slurm.slurm_prepare import prepare
from bids_sr.config import Settings
from bids_sr.config.machine import Plugin
from bids_sr.slurm import submissions
from bids_sr.slurm.job_requests import DEFAULT_CPUS, minutes_of, time_text
from bids_sr.slurm.job_states import Fate, State, failures, summary, table
from bids_sr.slurm.submission import Site, Submission
from bids_sr.slurm.submissions import Overview, cancel, overview, print_scripts, retries

_DESCRIPTION = """\
Run bids-sr on a SLURM cluster: one array task a participant and a group job behind them. Takes
the options of bids-sr (--nprocs and --mem hold for each task; its job asks for more memory than
--mem) and those of the group "SLURM".

Afterwards: bids-sr-slurm status OUT, bids-sr-slurm retry OUT, bids-sr-slurm cancel OUT."""
_AGAIN = {"mem", "time", "print_only", "wait"}


_LATER = {
    "status": ("what became of each participant", {"participant_label", *_AGAIN}),
    "retry": (
        "submit again those that failed: more memory for those that ran out of it, more time for"
        " those that timed out; and a new group job",
        set(),
    ),
    "cancel": (
        "cancel what waits or runs, the group job included unless participants are named",
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
    parser = Parser(f"bids-sr-slurm {command}", about)
    parser.add_fields(LaterOptions, without=without)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr-slurm`` and return its exit code.

    The arguments are those of the process by default.

    `argv`: arguments of the command line; None takes those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    interrupted = "what was submitted goes on"
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
    print(f"cancelled: {' '.join(names)}" if names else "nothing is left to cancel")
    return DONE


def _options_of(given: Given) -> tuple[Settings, SlurmOptions, Site]:
    own = made_of(given, SlurmOptions)
    settings = {
        group: values for group, values in given.items() if group not in ("slurmoptions", "site")
    }
    resources = settings.get("resources", {})
    if own.cpus is not None:
        settings["resources"] = {**resources, "nprocs": own.cpus}
    elif "config_file" not in given.get("run", {}):
        file = resources.get("use_plugin")
        cpus = Plugin.from_file(Path(str(file)).expanduser()).n_procs if file else None
        settings["resources"] = {"nprocs": cpus or DEFAULT_CPUS, **resources}
    return settings_of(settings).resolved(run_uuid=""), own, made_of(given, Site)


def _submit(arguments: list[str]) -> int:
    settings, own, site = build_parser().read(arguments, _options_of)
    for name, why in settings.run.without_effect:
        print(f"  note: {name} has no effect: {why}")
    say("checking the inputs")
    submission, text, seen = prepare(settings, own, site)
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
        jobs = [job.number for job in sent.jobs]
        waited_for += jobs
        say(f"submitted: {', '.join(jobs)}; scripts, logs and state are in {sent.folder}")
    output_dir = made[0][0].output_dir
    if wait:
        return _show(submissions.wait(output_dir, say), output_dir)
    print(f"see how it goes: bids-sr-slurm status {shlex.quote(str(output_dir))}")
    return DONE


def _show(found: "Sequence[Fate]", output_dir: Path) -> int:
    """Print the table; the code tells whether anything failed."""
    print(table_text(table(found)))
    print(summary(found))
    for notice in failures(found, output_dir):
        print(notice)
    return FAILED if any(fate.state is State.FAILED for fate in found) else DONE


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
            gigabytes, time = array.request.memory_mb / 1024, time_text(array.request.minutes)
            print(f"  again: {' '.join(array.task_of)} with {gigabytes:.1f} GB and {time}")
        if submission.group:
            print("  again: group")
    if options.print_only:
        for submission, text in made:
            _print_only(submission, text, seen.open_jobs)
        return DONE
    return _send(made, seen.open_jobs, wait=options.wait)


if __name__ == "__main__":
    sys.exit(main())
