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

import os
from collections.abc import Callable
from pathlib import Path

from bids_sr.cli.interrupts import INTERRUPTED, interruptible
from bids_sr.cli.messages import complain
from bids_sr.cli.standard_streams import tolerant_streams
from bids_sr.config import UsageError

DONE, FAILED, REFUSED, LEFT_OUT = 0, 1, 2, 3


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
