"""Recording of warnings of bids-sr in the process that runs a step."""

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.engine.nodes import get_owner
from bids_sr.io import notices
from bids_sr.io.notices import Notice

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node


def save_warnings(folder: Path, node: "Node") -> None:
    """Record warnings of bids-sr in this process in a directory, as warnings of a step.

    The directory of the step also contains them, for calls that do not run it again. Warnings that
    cannot be written are ignored. If the logger does not propagate to other handlers, as after
    `start_worker`, warnings are no longer printed.
    """
    _remove_recorders()
    handler = _WarningRecorder(logging.WARNING)
    handler.folder = folder.absolute()
    handler.node = node
    logging.getLogger("bids_sr").addHandler(handler)


def _remove_recorders() -> None:
    """Remove the handlers of `save_warnings` in this process."""
    logger = logging.getLogger("bids_sr")
    for handler in [item for item in logger.handlers if isinstance(item, _WarningRecorder)]:
        logger.removeHandler(handler)
        handler.close()


class _WarningRecorder(logging.Handler):
    """Logging handler that records each warning in one line."""

    folder: Path
    node: "Node"

    def emit(self, record: logging.LogRecord) -> None:
        subject, run = get_owner(self.node)
        message = " ".join(self.format(record).split())
        notice = Notice(
            what=self.node.fullname,
            why=message,
            level="warning",
            subject=subject,
            run=run,
            code="step",
        )
        for folder in (self.folder, Path(self.node.output_dir())):
            with contextlib.suppress(OSError):
                notices.record(folder, [notice])

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore errors, so that a step continues if its warning cannot be written."""
