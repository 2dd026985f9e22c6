"""``bids-sr``: read the command line, check everything, run, check what came out, and end with one code.

======  ====================================================================
code    meaning
======  ====================================================================
0       done
1       a step crashed or an expected output is missing; each is named
2       the command line or the data set cannot be used; nothing was written
130     interrupted (also by SIGTERM); the same command goes on from there
======  ====================================================================
"""

import contextlib
import logging
import os
import signal
import sys
import textwrap
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from bids_sr import __version__
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings, UsageError

if TYPE_CHECKING:
    from bids_sr.inputs import Problem
    from bids_sr.preflight import Plan
    from bids_sr.workflows.execute import RunOutcome

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr`` with these arguments (those of the process by default) and return its exit code."""
    try:
        with sigterm_interrupts():
            return _run(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        _complain(f"bids-sr: {error}")
        return REFUSED
    except KeyboardInterrupt:
        _complain("bids-sr: interrupted; the same command goes on from here")
        return INTERRUPTED
    except SystemExit as stop:  # --help and --version end the parsing this way
        return stop.code if isinstance(stop.code, int) else DONE
    except Exception:
        _complain(traceback.format_exc().rstrip())
        _complain("bids-sr: an unexpected error, see above; please report it with the settings printed at the start")
        return FAILED


def _run(argv: Sequence[str]) -> int:
    identifier = f"{time.strftime('%Y%m%d-%H%M%S')}_{uuid.uuid4()}"
    settings = parse_settings(argv).resolved(run_uuid=identifier)
    _set_up_logging(settings.run.verbosity)
    _announce(settings)
    plan = _check(settings)
    if settings.run.dry_run:
        return _show_plan(plan, settings)
    if not (settings.run.boilerplate_only or settings.run.reports_only):
        _check_data(plan)
    _write_settings(settings)
    return _conclude(_work(settings, plan))


def _announce(settings: Settings) -> None:
    _stage(f"bids-sr {__version__}, run {settings.run.run_uuid}")
    for line in settings.summary():
        print(textwrap.fill(line, 118, initial_indent="  ", subsequent_indent=" " * 16, break_on_hyphens=False))


def _check(settings: Settings) -> "Plan":
    """Check what headers and tables tell; refuse with every problem at once."""
    _stage("checking the inputs")
    from bids_sr import preflight

    plan = preflight.check(settings)
    _refuse(plan.problems)
    if not settings.run.dry_run:  # the plan that a dry run shows has them too
        for warning in plan.warnings:
            print(f"  note: {warning}")
    return plan


def _check_data(plan: "Plan") -> None:
    """Check the images themselves: the last thing before anything is written."""
    _stage("checking the data")
    from bids_sr import preflight

    _refuse(preflight.check_data(plan))


def _refuse(problems: "Sequence[Problem]") -> None:
    from bids_sr.preflight import format_problems

    if problems:
        raise UsageError(format_problems(problems))


def _show_plan(plan: "Plan", settings: Settings) -> int:
    _stage("plan (dry run: nothing is written)")
    from bids_sr.preflight import dry_run_text

    print(dry_run_text(plan, settings))
    return DONE


def _write_settings(settings: Settings) -> Path:
    """Write the settings to the logs of this run, whole or not at all."""
    target = settings.paths.output_dir / "logs" / settings.run.run_uuid / "settings.toml"
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".partial")
    beside.write_text(settings.to_toml(), encoding="utf-8")
    os.replace(beside, target)
    return target


def _work(settings: Settings, plan: "Plan") -> "RunOutcome":
    _stage("running")
    from bids_sr.cli.participant import run_participants

    return run_participants(settings, plan, _stage)


def _conclude(outcome: "RunOutcome") -> int:
    """Name what crashed, what is missing and where the reports are."""
    for report in outcome.reports:
        _stage(f"report: {report}")
    for crash in outcome.crash_files:
        _complain(f"crashed: {crash}")
    for missing in outcome.missing:
        _complain(f"missing: {missing}")
    if outcome.crash_files or outcome.missing:
        _complain("bids-sr: not everything was done; the same command tries again what is missing")
        return FAILED
    _stage("done")
    return DONE


def _set_up_logging(verbosity: int) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S", level=level)
    logging.getLogger("bids_sr").setLevel(level)


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Treat SIGTERM, which schedulers and containers send, as an interruption while the context lasts."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stage(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
