"""Messages on standard output and error, as text or as one JSON object per line."""

import contextlib
import sys
import time
from typing import TextIO

from bids_sr.notices import Notice, NoticeLevel, as_json

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"
_prints_json = False


def choose_format(name: str) -> None:
    """Choose the format of messages: ``text``, or ``json`` with one notice per line."""
    global _prints_json
    _prints_json = name == "json"


def print_line(text: str) -> None:
    """Print a line with the time of day."""
    show(f"{time.strftime('%H:%M:%S')} {text}", Notice(what=text, level="note", code="progress"))


def print_error(text: str, *notices: Notice) -> None:
    """Print a text to standard error or, as JSON, its notices.

    Without notices, the text becomes a notice.
    """
    # the terminal may be closed; the exit code still reports the result
    with contextlib.suppress(OSError):
        show(text, *(notices or (Notice(what=text),)), stream=sys.stderr)


def show(text: str, *notices: Notice, stream: TextIO | None = None) -> None:
    """Print a text or, as JSON, its notices.

    Without notices, the text becomes a notice. `stream` is standard output by default.
    """
    lines = [text]
    if _prints_json:
        shown_notices = notices or (Notice(what=text, level="note", code="progress"),)
        lines = [as_json(notice, time=time.strftime(_TIME_FORMAT)) for notice in shown_notices]
    print("\n".join(lines), file=stream or sys.stdout, flush=True)


def start_log(verbosity: int) -> None:
    """Write the program's log to standard error in the chosen format.

    `verbosity` is 0 for warnings, 1 for information, and 2 for all messages.
    """
    import logging  # delayed, because the import takes as long as parsing a command line

    class JsonLines(logging.Formatter):
        """Formatter of log messages as notices."""

        def format(self, record: logging.LogRecord) -> str:
            level: NoticeLevel = "note" if record.levelno < logging.WARNING else "warning"
            notice = Notice(what=record.name, why=super().format(record), level=level, code="log")
            return as_json(notice, time=self.formatTime(record, _TIME_FORMAT))

    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    text_formatter = logging.Formatter(
        "%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"
    )
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if _prints_json else text_formatter)
    logging.basicConfig(handlers=[handler], level=level)
    logging.getLogger("bids_sr").setLevel(level)
