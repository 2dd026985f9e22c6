"""What a step takes and warns of, in the process that runs it: threads, memory, warnings."""

import contextlib
import ctypes
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

POOLS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)  # fmt: skip
"""Environment of the libraries that start threads of their own."""


def limit_threads() -> None:
    """One thread for every library in this process and those it starts; call it before the libraries are loaded.

    Steps run side by side instead, and a step that takes more asks for it itself (`hold_threads`).
    """
    os.environ.update(dict.fromkeys(POOLS, "1"))


def hold_threads(count: int) -> None:
    """Set torch, where it is loaded, to the threads of the step that begins; the step before may have had others."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != count:
        torch.set_num_threads(count)


class Answer(TypedDict, total=False):
    """What the process that ran a node says of it."""

    result: object
    traceback: Sequence[str] | None  # lines, where it failed; of the driver itself nipype gives one text
    taskid: int
    peak_gb: float  # most memory that the process held, where it failed
    error: BaseException  # of the process itself


def give_back() -> None:
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
