"""Messages on standard output and error."""

import contextlib
import sys
import time
from typing import TextIO


def print_line(text: str) -> None:
    """Print a line with the time of day."""
    show(f"{time.strftime('%H:%M:%S')} {text}")


def print_error(text: str) -> None:
    """Print a text to standard error."""
    # the terminal may be closed; the exit code still reports the result
    with contextlib.suppress(OSError):
        show(text, stream=sys.stderr)


def show(text: str, *, stream: TextIO | None = None) -> None:
    """Print a text at once. `stream` is standard output by default."""
    print(text, file=stream or sys.stdout, flush=True)


def start_log(verbosity: int) -> None:
    """Write the program's log to standard error.

    `verbosity` is 0 for warnings, 1 for information, and 2 for all messages.
    """
    import logging  # delayed, because the import takes as long as parsing a command line

    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")
    )
    logging.basicConfig(handlers=[handler], level=level)
    logging.getLogger("bids_sr").setLevel(level)
