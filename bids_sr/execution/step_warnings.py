"""Warnings of bids-sr in the process that runs a step, kept in the record of the run."""

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr import notices
from bids_sr.notices import Notice
from bids_sr.pipeline.nodes import owner_of

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node


def keep_warnings(folder: Path, node: "Node") -> None:
    """Write the warnings of bids-sr in this process to the record in a folder, as of a step.

    The folder of the step keeps them too, for calls that do not run it again. One that cannot be
    written is done without. Nothing goes to the terminal from here on where the
    logger has no other handler above it, as in `start_worker`.
    """
    _forget_warnings()
    handler = _Kept(logging.WARNING)
    handler.folder = folder.absolute()
    handler.node = node
    logging.getLogger("bids_sr").addHandler(handler)


def _forget_warnings() -> None:
    """Undo `keep_warnings` in this process."""
    logger = logging.getLogger("bids_sr")
    for handler in [each for each in logger.handlers if isinstance(each, _Kept)]:
        logger.removeHandler(handler)
        handler.close()


class _Kept(logging.Handler):
    """A line a warning, whatever it holds."""

    folder: Path
    node: "Node"

    def emit(self, record: logging.LogRecord) -> None:
        subject, run = owner_of(self.node)
        why = " ".join(self.format(record).split())
        notice = Notice(
            what=self.node.fullname,
            why=why,
            level="warning",
            subject=subject,
            run=run,
            code="step",
        )
        for folder in (self.folder, Path(self.node.output_dir())):
            with contextlib.suppress(OSError):
                notices.record(folder, [notice])

    def handleError(self, record: logging.LogRecord) -> None:
        """A step goes on where its warning cannot be written."""
