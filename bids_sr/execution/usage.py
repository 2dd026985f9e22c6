"""What a step takes and warns of, in the process that runs it: threads, processor time, peak memory, warnings."""

import contextlib
import ctypes
import logging
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from bids_sr.frozen import frozen

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

POOLS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)  # fmt: skip
"""Environment of the libraries that start threads of their own."""
HEADER = ("node", "kind", "seconds", "cpu_seconds", "peak_gb", "grown_gb", "shared_gb", "left_gb", "declared_gb")
"""Columns of the table that ``--resource-monitor`` leaves in the logs."""


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


@frozen
class NodeUsage:
    """What one step took."""

    seconds: float  # wall clock, and processor time of all its threads and children
    cpu_seconds: float
    peak_gb: float  # most memory that its process held (resident, GB), with what it held before
    grown_gb: float  # by how much the step raised that
    shared_gb: float  # of that, what other processes share (libraries, pages of the fork server)
    left_gb: float  # what the process holds of its own when the step is done


class Answer(TypedDict, total=False):
    """What the process that ran a node says of it."""

    result: object
    traceback: Sequence[str] | None  # lines, where it failed; of the driver itself nipype gives one text
    taskid: int
    peak_gb: float  # most memory that the process held, where it failed
    usage: NodeUsage
    error: BaseException  # of the process itself


class Meter:
    """Measures this process from when it is made until it is read."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):  # not everywhere allowed: the peak is then that of the process
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        self._start, self._cpu = time.monotonic(), _cpu_seconds()
        self._held = _kib("/proc/self/status", "VmRSS:")

    def read(self) -> NodeUsage:
        """What was taken since."""
        own = sum(_kib("/proc/self/smaps_rollup", name) for name in ("Private_Clean:", "Private_Dirty:"))
        peak = _kib("/proc/self/status", "VmHWM:")
        return NodeUsage(
            seconds=time.monotonic() - self._start,
            cpu_seconds=_cpu_seconds() - self._cpu,
            peak_gb=peak * 1024e-9,
            grown_gb=max(0.0, peak - self._held) * 1024e-9,
            shared_gb=max(0.0, _kib("/proc/self/status", "VmRSS:") - own) * 1024e-9,
            left_gb=own * 1024e-9,
        )


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


def keep_usage(path: Path | None, node: "Node", usage: NodeUsage | None) -> None:
    """Add the row of one step to the table, where one is kept; a full disk must not keep its result from being seen."""
    if path is None or usage is None:
        return
    values = asdict(usage)
    cells = [node.fullname, kind_of(node).rpartition(".")[2], *(f"{values[name]:.3f}" for name in HEADER[2:-1])]
    with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as table:
        if not table.tell():
            table.write("\t".join(HEADER) + "\n")
        table.write("\t".join([*cells, f"{node.mem_gb:.3f}"]) + "\n")


def _cpu_seconds() -> float:
    mine, children = os.times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.user + mine.system + children.ru_utime + children.ru_stime


def _kib(path: str, key: str) -> float:
    """A value in a file of /proc (KiB); 0 where it cannot be read."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith(key)), 0.0)


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
