"""What a step takes and warns of, in the process that runs it: threads, memory, warnings."""

import contextlib
import ctypes
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from bids_sr import notices
from bids_sr.notices import Notice
from bids_sr.pipeline.graph import whom_of

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

POOLS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""Environment of the libraries that start threads of their own."""
_TRIM_ABOVE, _MAP_FROM = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h


def limit_threads() -> None:
    """Limit every library in this and child processes to one thread.

    Call this before the libraries are loaded.

    Steps run side by side instead, and a step that takes more asks for it itself (`hold_threads`).
    """
    os.environ.update(dict.fromkeys(POOLS, "1"))


def hold_threads(count: int) -> None:
    """Set torch, if loaded, to the number of threads of the current step.

    The step before may have had another number.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != count:
        torch.set_num_threads(count)


class Answer(TypedDict, total=False):
    """What came of a node, or of the nodes of a job, as the process that ran it says."""

    result: object
    # lines, where it failed; of the driver itself nipype gives one text
    traceback: Sequence[str] | None
    failed: str | None  # full name of the node of a job that failed
    taskid: int
    host: str  # where it ran
    peak_gb: float | None  # most memory that the process held, where it failed and it is known
    # where the caller knows why it failed, or the error tells a remedy
    notice: Notice | None
    error: BaseException  # of the process itself


def keep_freed_memory() -> None:
    """Let this process use freed memory of volumes again, until `release_memory`.

    The C library else gives each of them back as it is freed: a fault a page then makes up a fifth
    of the time in which a series is interpolated. Its own rule goes up to the same 32 MiB.
    """
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such call
        library = ctypes.CDLL(None)
        library.mallopt(_TRIM_ABOVE, 64 << 20)
        library.mallopt(_MAP_FROM, 32 << 20)


def release_memory() -> None:
    """Return what is free to the system, and to the GPU: a worker lives as long as the run."""
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def kind_of(node: "Node") -> str:
    """Function that a node runs, with its module; the class of an interface of nipype's own."""
    interface = node.interface
    made_of = getattr(interface, "step", type(interface))
    return f"{made_of.__module__}.{made_of.__qualname__}"


def keep_warnings(folder: Path, node: "Node") -> None:
    """Write the warnings of bids-sr in this process to the record in a folder, as of a step.

    The folder of the step keeps them too, for calls that do not run it again. One that cannot be
    written is done without. Nothing goes to the terminal from here on where the
    logger has no other handler above it, as in `start_worker`.
    """
    _forget_warnings()
    handler = _Kept(logging.WARNING)
    handler.folder, handler.node = folder.absolute(), node
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
        subject, run = whom_of(self.node)
        why = " ".join(self.format(record).split())
        found = Notice(
            what=self.node.fullname,
            why=why,
            level="warning",
            subject=subject,
            run=run,
            code="step",
        )
        for folder in (self.folder, Path(self.node.output_dir())):
            with contextlib.suppress(OSError):
                notices.record(folder, [found])

    def handleError(self, record: logging.LogRecord) -> None:
        """A step goes on where its warning cannot be written."""
