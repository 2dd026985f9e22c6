"""Scheduling of local nodes: the scheduler sleeps until a node ends, and the GPU is lent to one node at a time.

Defect of nipype, as a report would say it: `DistributedPluginBase.run` wakes every `poll_sleep_duration` (2 s; short
nodes need the 0.2 s that `execute` sets) and `MultiProcPlugin._send_procs_to_workers` then sums over the matrix of
dependencies and calls `gc.collect()`, whether or not a node has ended. With thousands of nodes an idle scheduler takes
a quarter of a core.
"""

import gc
import threading
from typing import Any

from nipype.pipeline.plugins.multiproc import MultiProcPlugin

_LOOK_AGAIN_S = 1.0  # where nothing was heard for so long; also how late a signal may be noticed
_ON_GPU = ("auto", "cuda")

State = tuple[int, int, int, int]


class PacedMultiProc(MultiProcPlugin):
    """MultiProc that is woken by the end of a step; `has_gpu` in the arguments says that there is a GPU to lend."""

    def __init__(self, plugin_args: dict[str, Any] | None = None) -> None:
        super().__init__(plugin_args=plugin_args)
        self.n_gpu_procs = 1  # whatever there is: torch takes the first that is visible
        self._has_gpu = bool(self.plugin_args.get("has_gpu", False))
        self._news = threading.Event()
        self._settled: State | None = None

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run the graph; the nodes that are there from the start are no garbage, so they are not searched for any."""
        unslept = {**config, "execution": {**config["execution"], "poll_sleep_duration": "0"}}
        gc.collect()
        gc.freeze()
        try:
            super().run(graph, unslept, updatehash=updatehash)
        finally:
            gc.unfreeze()

    def _prerun_check(self, graph: Any) -> None:
        """Mark the nodes that take the GPU; nipype gives a slot of it to one at a time."""
        for node in graph.nodes():
            if hasattr(node.inputs, "use_gpu"):
                node.inputs.use_gpu = self._has_gpu and getattr(node.inputs, "device", "cpu") in _ON_GPU
        super()._prerun_check(graph)

    def _state(self) -> State:
        return int(self.proc_done.sum()), int(self.proc_pending.sum()), len(self.procs), len(self.pending_tasks)

    def _send_procs_to_workers(self, updatehash: bool = False, graph: Any = None) -> None:
        """Submit what can be submitted; where nothing has changed since, wait until a step ends."""
        before = self._state()
        if before == self._settled:
            self._news.wait(_LOOK_AGAIN_S)
            self._news.clear()
            return
        super()._send_procs_to_workers(updatehash=updatehash, graph=graph)
        after = self._state()
        self._settled = after if after == before else None
