"""How every program ends: one exit code, and on standard error what ended it.

======  ====================================================================
code    meaning
======  ====================================================================
0       done
1       something failed; each is named
2       the command line or the data cannot be used; nothing was done
130     interrupted (SIGINT, SIGTERM or SIGHUP)
======  ====================================================================
"""

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from bids_sr.cli.interrupts import INTERRUPTED, interruptible
from bids_sr.config import UsageError
from bids_sr.io.atomic_files import FULL, DiskFullError, full_text

DONE, FAILED, REFUSED = 0, 1, 2


def ended(prog: str, run: Callable[[], int], *, interrupted: str) -> int:
    """Run a program to its end.

    Parameters
    ----------
    prog : str
        Name of the program, as messages have it.
    run : callable
        Does the work and returns an exit code.
    interrupted : str
        What is told after an interruption.

    Returns
    -------
    int
        Exit code, whatever `run` raises.
    """
    try:
        with interruptible():
            return run()
    except UsageError as error:
        complain(f"{prog}: {error}")
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
        if isinstance(error, OSError) and error.errno in FULL:
            place = Path(error.filename) if isinstance(error.filename, str) else Path.cwd()
            text = str(error) if isinstance(error, DiskFullError) else full_text(place)
            complain(f"{prog}: {text}")
            return FAILED
        complain(traceback.format_exc().rstrip())
        complain(
            f"{prog}: an unexpected error, see above; please report it with the settings"
            " (logs/*/settings.toml in the output, or what --verbose prints)"
        )
        return FAILED


def say(text: str) -> None:
    """Print a line with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def complain(text: str) -> None:
    """Print to standard error."""
    # a terminal that was closed; the exit code still says what happened
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
