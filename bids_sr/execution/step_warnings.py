"""Warnings of the steps: kept in a file beside the logs of the run, so that each is told once, when all is done."""

import contextlib
import logging
from pathlib import Path

WARNINGS = "warnings.log"


def keep_warnings(folder: Path) -> None:
    """Have this process write what bids-sr warns of into ``warnings.log`` in a folder, and no longer to the terminal.

    Processes and jobs of one run write to the same file, a line at a time; one that cannot be written is done without.
    """
    logger, file = logging.getLogger("bids_sr"), folder.absolute() / WARNINGS
    for handler in [each for each in logger.handlers if isinstance(each, _Kept)]:
        if Path(handler.baseFilename) == file:
            return
        logger.removeHandler(handler)
        handler.close()
    handler = _Kept(file, encoding="utf-8", delay=True)
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)


def kept_warnings(folder: Path) -> list[str]:
    """What the steps of a run warned of, each once, in the order of being found."""
    try:
        lines = (folder / WARNINGS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return list(dict.fromkeys(filter(None, lines)))


class _Kept(logging.FileHandler):
    """A line a warning, whatever it holds."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(super().format(record).split())

    def handleError(self, record: logging.LogRecord) -> None:
        """A step goes on where its warning cannot be written."""
