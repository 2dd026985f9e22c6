"""Processor time of the scheduler itself, nipype's and ours, with a graph of many nodes.

python benchmarks/scheduler.py SCRATCH [--nodes 2700] [--seconds 60]

Nodes sleep for a second each, two at a time; after some time the run is stopped. What is told is
the share of a core that the scheduler's process took while it ran, and how many nodes ended.
"""

import argparse
import multiprocessing as mp
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from _table import keep
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from nipype.pipeline.plugins.base import DistributedPluginBase
from nipype.pipeline.plugins.multiproc import MultiProcPlugin

from bids_sr.execution.multiproc import ResilientMultiProc


class Polling(ResilientMultiProc):
    """Ours, with the loop of nipype: it looks at everything again after every pause."""

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run the graph as nipype does."""
        try:
            DistributedPluginBase.run(self, graph, config, updatehash=updatehash)
        except BaseException:
            self._kill_workers()
            raise

    _send_procs_to_workers = MultiProcPlugin._send_procs_to_workers


def nap(value: float, last: float = 0.0) -> float:
    """Sleep for a second."""
    import time

    time.sleep(1)
    return value + last


def graph(nodes: int, base: Path) -> pe.Workflow:
    """Chains of twenty nodes."""
    workflow = pe.Workflow("wf", base_dir=str(base))
    workflow.config["execution"] = {"poll_sleep_duration": "0.2", "crashdump_dir": str(base)}
    before = None
    for number in range(nodes):
        node = pe.Node(niu.Function(function=nap), name=f"nap{number}", mem_gb=0.1)
        node.inputs.value = float(number)
        workflow.add_nodes([node])
        if number % 20:
            workflow.connect(before, "out", node, "last")
        before = node
    return workflow


def measure(plugin: type[ResilientMultiProc], args: argparse.Namespace, queue: Any) -> None:
    """Share of a core of this process while it schedules, and how many nodes ended."""
    base = args.scratch / plugin.__name__
    shutil.rmtree(base, ignore_errors=True)
    workflow = graph(args.nodes, base)
    ended: list[float] = []

    def count(node: Any, status: str) -> None:
        if status == "end":
            ended.append(time.process_time())
        if len(ended) == 1 and status == "end":
            signal.alarm(args.seconds)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, stop)
    try:
        workflow.run(plugin=plugin(n_procs=2, memory_gb=2.0, status_callback=count))
    except KeyboardInterrupt:
        queue.put(((time.process_time() - ended[0]) / args.seconds, len(ended)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--nodes", type=int, default=2700)
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    rows = []
    for name, plugin in (("nipype's loop", Polling), ("ours", ResilientMultiProc)):
        context = mp.get_context("spawn")
        queue = context.Queue()
        process = context.Process(target=measure, args=(plugin, args, queue))
        process.start()
        share, ended = queue.get()
        process.join()
        rows.append(
            {
                "scheduler": name,
                "nodes": args.nodes,
                "share of a core": round(share, 4),
                "nodes ended": ended,
            }
        )
    ratio = rows[1]["share of a core"] / rows[0]["share of a core"]
    keep(
        "scheduler",
        "What the scheduler itself takes",
        rows,
        remarks=[f"Ours over nipype's: {ratio:.3f}."],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
