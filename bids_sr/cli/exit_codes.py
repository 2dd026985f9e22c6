"""How every program ends: one exit code, and on standard error what ended it.

The codes of fMRIPrep and MRIQC, where these have one.

======  ====================================================================
code    meaning
======  ====================================================================
0       done
1       something failed; each is named
2       the command line or the data cannot be used; nothing was done
3       done, but for runs or participants whose data cannot be used
70      an error that the program does not know (EX_SOFTWARE)
130     interrupted (SIGINT, SIGTERM or SIGHUP)
======  ====================================================================

Signals that end a run: the first asks, the second (or a timeout) ends it at once.

SIGINT, SIGTERM (schedulers, containers) and SIGHUP (a terminal that is closed) become
`KeyboardInterrupt`. That may be lost on the way, in a callback of a library or in a long call of
compiled code; so a thread, which the interpreter wakes whatever the main one does, sees to it that
the process is gone before schedulers kill it the hard way.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TextIO

from bids_sr.cli.standard_streams import tolerant_streams
from bids_sr.config import UsageError
from bids_sr.notices import Level, Notice, as_json

INTERRUPTED = 130
_GRACE_S = 8.0
"""How long a run may take to stop by itself; SLURM and containers often give 10 s."""

_AT_ONCE = "stopped immediately, as requested"
_ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP = 0


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Make signals interrupt what runs in the context.

    If a signal came, the process has to end afterwards.

    A signal that was ignored before, as `nohup` has it, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    asked = [each for each in _ASKED if signal.getsignal(each) is not signal.SIG_IGN]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    came: list[int] = []

    def interrupt(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        if len(came) > 1:
            _end_now(_AT_ONCE)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in asked}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading, frozenset(asked)), daemon=True).start()
    try:
        yield
    finally:
        if came:
            # a fork server that is still loading would notice seconds later that nobody needs it
            _end_children()
        signal.set_wakeup_fd(wakeup)
        for each, handler in before.items():
            signal.signal(each, handler)
        os.write(writing, bytes([_STOP]))
        os.close(writing)


def _watch(reading: int, asked: frozenset[signal.Signals]) -> None:
    """Read signal numbers; end the process at the second, or after the grace period."""
    late: threading.Timer | None = None
    with open(reading, "rb", buffering=0) as stream:
        while (number := stream.read(1)) and number[0] != _STOP:
            if number[0] not in asked:
                continue
            if late is not None:
                _end_now(_AT_ONCE)
            late = threading.Timer(
                _GRACE_S,
                _end_now,
                args=(
                    f"did not stop within {_GRACE_S:g} s of the stop request and was terminated",
                ),
            )
            late.daemon = True
            late.start()


def _end_now(why: str) -> None:
    """End this process and its children at once, leaving locks and unfinished steps."""
    _end_children()
    with contextlib.suppress(OSError):
        os.write(2, f"bids-sr: {why}. Rerun the same command to resume.\n".encode())
    os._exit(INTERRUPTED)


def _end_children() -> None:
    """Kill the child processes of this one, except Python's own cleanup process."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if (
                int(fields[1]) == os.getpid()
                and b"resource_tracker" not in entry.with_name("cmdline").read_bytes()
            ):
                os.kill(int(entry.parent.name), signal.SIGKILL)


DONE, FAILED, REFUSED, LEFT_OUT = 0, 1, 2, 3
_TIME = "%Y-%m-%dT%H:%M:%S%z"
_as_json = False


def ended(prog: str, run: Callable[[], int], *, interrupted: str) -> int:
    """Run a program to its end.

    `run`: does the work and returns an exit code. Returns an exit code whatever `run` raises.
    """
    with tolerant_streams():
        return _ended(prog, run, interrupted)


def _ended(prog: str, run: Callable[[], int], interrupted: str) -> int:
    try:
        _check_folder()
        with interruptible():
            return run()
    except UsageError as error:
        complain(f"{prog}: {error}", *error.problems)
        return REFUSED
    except KeyboardInterrupt:
        complain(f"{prog}: interrupted; {interrupted}")
        return INTERRUPTED
    except SystemExit as stop:  # --help and --version end the parsing this way
        return stop.code if isinstance(stop.code, int) else DONE
    except Exception as error:
        import traceback

        from bids_sr.io.atomic_files import FULL, DiskFullError

        if isinstance(error, OSError) and error.errno in FULL:
            place = Path(error.filename) if isinstance(error.filename, str) else Path.cwd()
            full = error if isinstance(error, DiskFullError) else DiskFullError(place)
            complain(f"{prog}: {full.notice}", full.notice)
            return FAILED
        complain(traceback.format_exc().rstrip())
        # programs that have settings
        settings = prog in ("bids-sr", "bids-sr-slurm")
        told = (
            " Include the settings in your report (logs/*/settings.toml in the output directory,"
            " or the output of --verbose)."
        )
        complain(
            f"{prog}: An unexpected error occurred; the traceback is printed above. Please"
            f" report this bug.{told if settings else ''}"
        )
        return os.EX_SOFTWARE


def _check_folder() -> None:
    """Refuse to start in a folder that was removed, in which relative paths lead nowhere."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UsageError(
            "the current working directory does not exist",
            "the directory was removed after the shell had changed to it",
            "change to an existing directory (cd) and rerun the command",
        ) from error


def choose_format(name: str) -> None:
    """Choose how this program prints: ``text``, or ``json`` for a notice a line."""
    global _as_json
    _as_json = name == "json"


def say(text: str) -> None:
    """Print a line with the time of day."""
    show(f"{time.strftime('%H:%M:%S')} {text}", Notice(what=text, level="note", code="progress"))


def complain(text: str, *notices: Notice) -> None:
    """Print to standard error; see `show`.

    `text`: as people read it; it stands for itself where no notice is given.
    """
    # a terminal that was closed; the exit code still says what happened
    with contextlib.suppress(OSError):
        show(text, *(notices or (Notice(what=text),)), stream=sys.stderr)


def show(text: str, *notices: Notice, stream: TextIO | None = None) -> None:
    """Print a text or, as JSON, the notices that it tells.

    `text`: as people read it; it is of its own code where no notice is given. `stream`: standard
    output by default.
    """
    lines = [text]
    if _as_json:
        found = notices or (Notice(what=text, level="note", code="progress"),)
        lines = [as_json(each, time=time.strftime(_TIME)) for each in found]
    print("\n".join(lines), file=stream or sys.stdout, flush=True)


def start_log(verbosity: int) -> None:
    """Write the program's own log to standard error, in the chosen format.

    `verbosity`: 0: warnings; 1: what is done, too; 2: everything.
    """
    import logging  # which takes as long to be imported as a command line to be read

    class JsonLines(logging.Formatter):
        """Messages as notices."""

        def format(self, record: logging.LogRecord) -> str:
            level: Level = "note" if record.levelno < logging.WARNING else "warning"
            found = Notice(what=record.name, why=super().format(record), level=level, code="log")
            return as_json(found, time=self.formatTime(record, _TIME))

    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if _as_json else plain)
    logging.basicConfig(handlers=[handler], level=level)
    logging.getLogger("bids_sr").setLevel(level)
