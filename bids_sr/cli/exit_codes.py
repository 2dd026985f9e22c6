"""End of all programs: an exit code, and on standard error the reason.

Exit codes of fMRIPrep and MRIQC are used if they exist.

======  ====================================================================
code    meaning
======  ====================================================================
0       done; skipped runs are listed
1       a step or an output failed; failures are listed
2       the command line or the data are invalid; nothing was processed
70      unexpected error (EX_SOFTWARE)
130     interrupted (SIGINT, SIGTERM or SIGHUP)
======  ====================================================================
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bids_sr.cli.interrupts import INTERRUPTED, interruptible
from bids_sr.cli.messages import print_error
from bids_sr.cli.standard_streams import restart_in_utf8, tolerant_streams
from bids_sr.engine.usage import clear_processor_binding
from bids_sr.io.notices import UsageError

DONE, FAILED, REFUSED = 0, 1, 2
_PROGRAMS_WITH_SETTINGS = ("bids-sr", "bids-sr-slurm")  # programs that write settings.toml


def run_program(
    prog: str,
    work: Callable[[Sequence[str]], int],
    argv: Sequence[str] | None = None,
    *,
    interrupted: str,
) -> int:
    """Run a program, and return an exit code whatever it raises.

    `work` does the work with the arguments, imports libraries only then, and returns an exit code.
    `argv` are arguments instead of those of this process. `interrupted` is the message after an
    interruption.
    """
    if argv is None:
        restart_in_utf8()
        argv = sys.argv[1:]
    clear_processor_binding()
    # for child processes as well; the environment may name the backend of a notebook or desktop
    os.environ["MPLBACKEND"] = "agg"
    with tolerant_streams():
        return _get_exit_code(prog, lambda: work(argv), interrupted)


def _get_exit_code(prog: str, work: Callable[[], int], interrupted: str) -> int:
    """Run a program with prepared standard streams, print its errors and return an exit code."""
    try:
        _check_folder()
        with interruptible():
            return work()
    except UsageError as error:
        print_error(f"{prog}: {error}")
        return REFUSED
    except KeyboardInterrupt:
        print_error(f"{prog}: interrupted; {interrupted}")
        return INTERRUPTED
    except SystemExit as stop:  # --help and --version exit in this way
        return stop.code if isinstance(stop.code, int) else DONE
    except Exception as error:
        import traceback

        from bids_sr.io.atomic_files import DISK_FULL_ERRNOS, DiskFullError

        if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
            full_path = Path(error.filename) if isinstance(error.filename, str) else Path.cwd()
            full = error if isinstance(error, DiskFullError) else DiskFullError(full_path)
            print_error(f"{prog}: {full.notice}")
            return FAILED
        print_error(traceback.format_exc().rstrip())
        settings_hint = ""
        if prog in _PROGRAMS_WITH_SETTINGS:
            settings_hint = (
                " Include the settings in your report (settings.toml below logs in the output"
                " directory, or the output of --verbose)."
            )
        print_error(
            f"{prog}: An unexpected error occurred; the traceback is printed above. Please report"
            f" this bug.{settings_hint}"
        )
        return os.EX_SOFTWARE


def _check_folder() -> None:
    """Raise `UsageError` if the current directory was removed (relative paths are invalid)."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UsageError(
            "the current working directory does not exist",
            "the directory was removed after the shell had changed to it",
            "change to an existing directory (cd) and rerun the command",
        ) from error
