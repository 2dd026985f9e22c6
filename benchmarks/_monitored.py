"""Measure the resources of each step of a run of bids-sr: threads, processor time, peak memory.

python benchmarks/_monitored.py TABLE BIDS_DIR OUTPUT_DIR participant [options of bids-sr]

The program runs in this process; its workers measure themselves before and after each node and add
a row to TABLE.
"""

import contextlib
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from _resources import asked_gb

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

    from bids_sr.engine.outcomes import NodeOutcome

HEADER = (
    "node",
    "kind",
    "seconds",
    "cpu_seconds",
    "peak_gb",
    "grown_gb",
    "shared_gb",
    "left_gb",
    "read_gb",
    "written_gb",
    "declared_gb",
)
"""Columns of the table."""
TABLE = "BIDS_SR_MONITORED"


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """Resources that one step took."""

    seconds: float  # wall clock, and processor time of all its threads and children
    cpu_seconds: float
    # GB, peak resident memory of its process, including memory from before the step
    peak_gb: float
    grown_gb: float  # GB, increase of the peak by the step
    # GB of the increase that other processes share (libraries, pages of the fork server)
    shared_gb: float
    left_gb: float  # GB of private memory of the process after the step
    read_gb: float  # GB requested from files, whether cached or not
    written_gb: float


class Meter:
    """Measures this process from its creation until it is read."""

    def __init__(self) -> None:
        # not permitted everywhere: the peak of the whole process is reported otherwise
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        self._start, self._cpu = time.monotonic(), _cpu_seconds()
        self._read, self._written = asked_gb(os.getpid())
        self._held = _kib("/proc/self/status", "VmRSS:")

    def read(self) -> NodeUsage:
        """Return the resources used since the start."""
        own_kib = sum(
            _kib("/proc/self/smaps_rollup", name) for name in ("Private_Clean:", "Private_Dirty:")
        )
        peak = _kib("/proc/self/status", "VmHWM:")
        read, written = asked_gb(os.getpid())
        return NodeUsage(
            seconds=time.monotonic() - self._start,
            cpu_seconds=_cpu_seconds() - self._cpu,
            peak_gb=peak * 1024e-9,
            grown_gb=max(0.0, peak - self._held) * 1024e-9,
            shared_gb=max(0.0, _kib("/proc/self/status", "VmRSS:") - own_kib) * 1024e-9,
            left_gb=own_kib * 1024e-9,
            read_gb=read - self._read,
            written_gb=written - self._written,
        )


def keep_usage(path: Path, node: "Node", usage: NodeUsage) -> None:
    """Add the row of one step to the table."""
    from bids_sr.engine.outcomes import get_step_function

    values = asdict(usage)
    cells = [
        node.fullname,
        get_step_function(node).rpartition(".")[2],
        *(f"{values[name]:.3f}" for name in HEADER[2:-1]),
    ]
    with path.open("a", encoding="utf-8") as table:
        if not table.tell():
            table.write("\t".join(HEADER) + "\n")
        table.write("\t".join([*cells, f"{node.mem_gb:.3f}"]) + "\n")


def _cpu_seconds() -> float:
    mine, children = os.times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.user + mine.system + children.ru_utime + children.ru_stime


def _kib(path: str, key: str) -> float:
    """Return a value in a file of /proc (KiB); 0 if it cannot be read."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith(key)), 0.0)


def run_node(node: "Node", updatehash: bool, taskid: int) -> "NodeOutcome":
    """Run `bids_sr.engine.multiproc.run_node` of a worker and measure it."""
    from bids_sr.engine import multiproc

    meter = Meter()
    answer = multiproc.run_node(node, updatehash, taskid)
    keep_usage(Path(os.environ[TABLE]), node, meter.read())
    return answer


def monitored(table: Path, arguments: list[str]) -> list[str]:
    """Return the command that runs bids-sr with a table."""
    return [sys.executable, __file__, str(table), *arguments]


def main() -> int:
    """Run bids-sr and return its exit code."""
    from bids_sr.cli.main import main as bids_sr
    from bids_sr.engine import multiproc

    os.environ[TABLE] = str(Path(sys.argv[1]).absolute())
    folder = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [folder, os.environ.get("PYTHONPATH")])
    )
    multiproc.run_node = run_node
    return bids_sr(sys.argv[2:])


if __name__ == "__main__":
    import _monitored  # workers import the functions of this file by its name

    sys.exit(_monitored.main())
