"""Messages on standard output and error, as text or as one JSON object per line."""

import contextlib
import sys
import time
from typing import TextIO

from bids_sr.notices import Level, Notice, as_json

_TIME = "%Y-%m-%dT%H:%M:%S%z"
_as_json = False


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
