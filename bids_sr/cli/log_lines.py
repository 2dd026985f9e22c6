"""The program's own log on standard error, as lines of text or of JSON.

It stands apart, as ``logging`` takes longer to be imported than a command line to be read.
"""

import logging

from bids_sr.cli.exit_codes import TIME
from bids_sr.config import Settings
from bids_sr.notices import Level, Notice, as_json


def start_log(settings: Settings) -> None:
    """Write what the settings ask for to standard error from here on.

    Parameters
    ----------
    settings : Settings
        All settings of the call.
    """
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(settings.run.verbosity, 2)]
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if settings.run.log_format == "json" else plain)
    logging.basicConfig(handlers=[handler], level=level)
    logging.getLogger("bids_sr").setLevel(level)


class _JsonLines(logging.Formatter):
    """Messages of the log as notices."""

    def format(self, record: logging.LogRecord) -> str:
        level: Level = "note" if record.levelno < logging.WARNING else "warning"
        found = Notice(what=record.name, why=super().format(record), level=level, code="log")
        return as_json(found, time=self.formatTime(record, TIME))
