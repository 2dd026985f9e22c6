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
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from bids_sr.cli.interrupts import INTERRUPTED, interruptible
from bids_sr.config import UsageError
from bids_sr.notices import Level, Notice, as_json

DONE, FAILED, REFUSED, LEFT_OUT = 0, 1, 2, 3
_TIME = "%Y-%m-%dT%H:%M:%S%z"
_as_json = False


def ended(prog: str, run: Callable[[], int], *, interrupted: str) -> int:
    """Run a program to its end.

    `run`: does the work and returns an exit code. Exit code, whatever `run` raises.
    """
    try:
        with interruptible():
            return run()
    except UsageError as error:
        complain(f"{prog}: {error}", *error.problems)
        return REFUSED
    except BrokenPipeError:  # `bids-sr … | head` has read enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what is still buffered is for nobody
        return DONE
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
        told = " with the settings (logs/*/settings.toml in the output, or what --verbose prints)"
        complain(
            f"{prog}: an unexpected error, see above; please report it{told if settings else ''}"
        )
        return os.EX_SOFTWARE


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
