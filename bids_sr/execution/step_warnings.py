"""Warnings of the steps: kept in a file beside the logs of the run, so that each is told once, when the call ends."""

import contextlib
import logging
from pathlib import Path

WARNINGS = "warnings.log"


def keep_warnings(folder: Path, step: str) -> None:
    """Have this process write what bids-sr warns of, with the name of the step, into ``warnings.log`` in a folder.

    Processes and jobs of one run write to the same file, a line at a time; one that cannot be written is done without.
    Nothing goes to the terminal from here on where the logger has no other handler above it, as in `start_worker`.
    """
    forget_warnings()
    handler = _Kept(folder.absolute() / WARNINGS, encoding="utf-8", delay=True)
    handler.setLevel(logging.WARNING)
    handler.step = step
    logging.getLogger("bids_sr").addHandler(handler)


def forget_warnings() -> None:
    """Undo `keep_warnings` in this process."""
    logger = logging.getLogger("bids_sr")
    for handler in [each for each in logger.handlers if isinstance(each, _Kept)]:
        logger.removeHandler(handler)
        handler.close()


def kept_warnings(folder: Path) -> dict[str, list[str]]:
    """What the steps of a run warned of, each once, in the order of being found, with the names of the steps."""
    try:
        lines = (folder / WARNINGS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, list[str]] = {}
    for step, _, text in (line.partition("\t") for line in lines):
        if text and step not in found.setdefault(text, []):
            found[text].append(step)
    return found


class _Kept(logging.FileHandler):
    """A line a warning, whatever it holds."""

    step = ""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.step}\t{' '.join(super().format(record).split())}"

    def handleError(self, record: logging.LogRecord) -> None:
        """A step goes on where its warning cannot be written."""
