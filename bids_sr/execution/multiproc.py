"""Nodes in local worker processes (nipype's MultiProc), also where the kernel kills a worker.

Defects of nipype, as reports would say them:

- When a worker of `MultiProcPlugin` is killed (out of memory), its `ProcessPoolExecutor` is broken
  and every pending future raises `BrokenProcessPool`; `_async_callback` raises it within a done
  callback, where it is only logged, no task is ever marked as done, and `run` polls for ever. When
  the scheduler is killed, its workers live on.
- `DistributedPluginBase.run` wakes every `poll_sleep_duration` (2 s; short nodes need the 0.2 s
  that `execute` sets) and `MultiProcPlugin._send_procs_to_workers` then sums over the matrix of
  dependencies and calls `gc.collect()`, whether or not a node has ended. With thousands of nodes
  an idle scheduler takes a quarter of a core.

Here a task whose worker died is tried once more in a pool of its own, so that the others that
shared the broken pool finish; if it dies again, the node is reported as crashed, with the remedy,
and the rest of the graph goes on. The scheduler sleeps until a node ends.
"""

import fcntl
import gc
import logging
import multiprocessing as mp
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as ready
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nipype.pipeline.plugins.multiproc import MultiProcPlugin
from scipy.sparse import lil_matrix

from bids_sr.execution.answers import Answer
from bids_sr.execution.crash import report_crash
from bids_sr.execution.fork_server import start_fork_server
from bids_sr.execution.records import NotesLeft, note_left
from bids_sr.execution.step_warnings import keep_warnings
from bids_sr.execution.usage import hold_threads, keep_freed_memory, release_memory
from bids_sr.io.atomic_files import DiskFullError
from bids_sr.notices import Notice
from bids_sr.pipeline.figure import FigureStep
from bids_sr.pipeline.nodes import owner_of
from bids_sr.pipeline.store import store

if TYPE_CHECKING:
    from networkx import DiGraph
    from nipype.pipeline.engine import Node

_LOGGER = logging.getLogger(__name__)
# for a killed worker to be gone; one that the kernel holds in a file system can take long
_WAIT_S = 60.0
_LOOK_AGAIN_S = 1.0  # where nothing was heard for so long; also how late a signal may be noticed
# relative to the longest path of the participant; estimated durations err by more
_ON_LONGEST = 0.98


def start_worker(cwd: str, level: int) -> None:
    """Begin a worker: in the directory of the run, as silent as the process that asked for it."""
    # a collection would write to all that came from the fork server, and so copy it: 0.1 GB a
    # worker
    gc.freeze()
    keep_freed_memory()
    os.chdir(cwd)
    os.environ["NIPYPE_NO_ET"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the scheduler ends its workers itself
    _end_with_parent()
    # what the steps warn of is kept, and told at the end
    logging.getLogger("bids_sr").propagate = False
    # importing this module has set them up
    for name in ("nipype.workflow", "nipype.utils", "nipype.interface"):
        logging.getLogger(name).setLevel(level)


def _end_with_parent() -> None:
    """Have the kernel end this worker when its scheduler is gone, also where that was killed.

    A worker that outlived it would write to directories that the next run uses. The kernel signals
    when the other end of the pipe to the scheduler closes, so that no thread of Python has to be
    free to notice it.
    """
    parent = mp.parent_process()
    if parent is None:  # a job of a cluster, which ends by itself
        return
    pipe = parent.sentinel
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if ready([pipe], timeout=0):  # it was gone before this was set up
        os._exit(1)


def run_node(node: "Node", updatehash: bool, taskid: int) -> Answer:
    """Run one node in a worker and return any error as text.

    This holds also where the node left no result to load.

    `updatehash`: whether to renew the hash of a step without running it. Returns the result of the
    step, or the lines of its error and its peak memory (GB).
    """
    answer: Answer = {"result": None, "traceback": None, "taskid": taskid}
    hold_threads(node.n_procs)
    if place := ((node.config or {}).get("execution") or {}).get("crashdump_dir"):
        keep_warnings(Path(place), node)
    try:
        answer["result"] = node.run(updatehash=updatehash)
        note_left(Path(node.output_dir()))
    except BaseException as error:
        answer["notice"] = getattr(error, "notice", None)
        answer["traceback"] = traceback.format_exception(*sys.exc_info())
        answer["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-9
    release_memory()
    return answer


def _kill_pool(pool: ProcessPoolExecutor, *, wait: bool = False) -> None:
    """Terminate every worker of a pool; `wait` until they are gone.

    This includes workers that were being started when the pool broke.
    """
    workers = list((getattr(pool, "_processes", None) or {}).values())
    for worker in workers:
        if worker.is_alive() and worker.pid:
            os.kill(worker.pid, signal.SIGKILL)
    if wait:
        for worker in workers:
            worker.join(_WAIT_S)
    pool.shutdown(wait=False, cancel_futures=True)


class _Dependencies(lil_matrix):
    """Dependencies between steps, with sums that are computed again only after a change.

    Nipype computes the sums over all steps several times whenever the scheduler wakes up.
    """

    _sums: np.matrix | None = None

    def sum(self, axis: int | None = None, dtype: object = None, out: object = None) -> object:
        """See scipy; sums over the first axis are kept, (1, steps)."""
        if axis != 0 or dtype is not None or out is not None:
            return super().sum(axis, dtype, out)
        if self._sums is None:
            self._sums = super().sum(0)
        return self._sums

    def getrowview(self, i: int) -> lil_matrix:
        """Return a row, which the caller may change; the sums are then computed again."""
        self._sums = None
        return super().getrowview(i)

    def __setitem__(self, key: object, value: object) -> None:
        """Change dependencies."""
        self._sums = None
        super().__setitem__(key, value)


def _seconds(node: "Node") -> float:
    """Return the expected duration of a node (s), 0 if unknown."""
    return float(getattr(node, "seconds", 0.0))


def _longest_through(
    graph: "DiGraph[Node]", nodes: Sequence["Node"], ends: Collection["Node"]
) -> dict["Node", float]:
    """Return the duration (s) of the longest path through each node to one of `ends`.

    It is 0 for nodes that no end follows. `nodes` are in topological order.
    """
    before: dict[Node, float] = {}
    for node in nodes:
        before[node] = max(
            (before[other] + _seconds(other) for other in graph.predecessors(node)), default=0.0
        )
    onward: dict[Node, float | None] = {}
    for node in reversed(nodes):
        paths = [onward[successor] for successor in graph.successors(node)]
        to_end = [path for path in paths if path is not None] + [0.0] * (node in ends)
        onward[node] = _seconds(node) + max(to_end) if to_end else None
    return {node: 0.0 if path is None else before[node] + path for node, path in onward.items()}


class ResilientMultiProc(NotesLeft, MultiProcPlugin):
    """MultiProc with workers from a fork server, which recovers when one of them is killed.

    Fork servers rather than forks: a forked child of a process that has used torch hangs in its
    first convolution.

    `**arguments`: further ones of nipype's plugin.
    """

    pool: ProcessPoolExecutor

    def __init__(
        self,
        *,
        n_procs: int,
        memory_gb: float,
        has_gpu: bool = False,
        **arguments: object,
    ) -> None:
        start_fork_server()
        known = {
            "mp_context": "forkserver",
            "n_procs": n_procs,
            "memory_gb": memory_gb,
            **arguments,
        }
        super().__init__(plugin_args=known)
        self.n_gpu_procs = 1  # whatever there is: torch takes the first that is visible
        self._has_gpu = has_gpu
        self._news = threading.Event()
        self._settled: tuple[int, ...] | None = None
        self.pool.shutdown(wait=False)  # that of nipype, which has started no worker yet
        self.pool = self._new_pool(self.processors)
        self._nodes: dict[int, tuple[Node, bool]] = {}
        self._pool_of: dict[int, ProcessPoolExecutor] = {}
        self._second_try: set[int] = set()
        self._own_pools: dict[int, ProcessPoolExecutor] = {}
        self.crashes: list[Notice] = []

    def run(
        self,
        graph: "DiGraph[Node]",
        config: "Mapping[str, Mapping[str, str]]",
        updatehash: bool = False,
    ) -> None:
        """Run the graph; whatever ends it, no worker outlives it.

        `updatehash`: whether to renew the hashes of steps without running them.
        """
        unslept = {**config, "execution": {**config["execution"], "poll_sleep_duration": "0"}}
        gc.collect()
        # the nodes that are there from the start are no garbage, so they are not searched for any
        gc.freeze()
        try:
            super().run(graph, unslept, updatehash=updatehash)
        except BaseException:
            for pool in (self.pool, *self._own_pools.values()):
                _kill_pool(pool)
            raise
        finally:
            gc.unfreeze()

    def _prerun_check(self, graph: "DiGraph[Node]") -> None:
        """Mark the nodes that take the GPU; nipype gives a slot of it to one at a time."""
        for node in graph.nodes():
            if hasattr(node.inputs, "use_gpu"):
                node.inputs.use_gpu = self._has_gpu and getattr(node.inputs, "device", "cpu") in (
                    "auto",
                    "cuda",
                )
        super()._prerun_check(graph)

    def _generate_dependency_list(self, graph: "DiGraph[Node]") -> None:
        """Order the steps: one participant before the next, and what a verdict waits for first.

        Steps on a participant's longest path to a verdict come first, so that a long training
        occupies one worker while the others work on the first verdict. Steps before the first
        verdict precede those before the next verdict; then come other results, then figures and
        files. Among these, the step with the longest path ahead comes first; before a verdict,
        that path ends at the verdict.
        """
        super()._generate_dependency_list(graph)
        turn: dict[str, int] = {}
        ahead: dict[Node, float] = {}  # s, longest path to the verdict, or to the end
        waits: dict[Node, bool] = {}  # only figures and files follow
        steps = {node: getattr(node.interface, "step", store) for node in self.procs}
        verdicts = [node for node in self.procs if steps[node].awaited]
        number = {node: at for at, node in enumerate(verdicts)}
        first: dict[Node, int] = {}  # number of the first verdict that follows
        none = len(verdicts)
        for node in self.procs:
            turn.setdefault(owner_of(node)[0], len(turn))
        for node in reversed(self.procs):
            following = list(graph.successors(node))
            first[node] = min(
                [number.get(node, none), *(first[successor] for successor in following)]
            )
            beyond = [
                ahead[successor]
                for successor in following
                if first[node] == none or first[successor] < none
            ]
            ahead[node] = _seconds(node) + max(beyond, default=0.0)
            step = steps[node]
            waits[node] = (step is store or isinstance(step, FigureStep)) and all(
                waits[successor] for successor in following
            )
        through = _longest_through(graph, self.procs, set(verdicts))
        longest: dict[str, float] = {}
        for node in self.procs:
            owner = owner_of(node)[0]
            longest[owner] = max(longest.get(owner, 0.0), through[node])
        self._turns = []
        for node in self.procs:
            owner = owner_of(node)[0]
            on_longest = 0 < through[node] >= _ON_LONGEST * longest[owner]
            self._turns.append(
                (turn[owner], not on_longest, first[node], waits[node], -ahead[node])
            )

    @property
    def depidx(self) -> _Dependencies | None:
        """Which step waits for which; nipype sets and changes it."""
        return self._dependencies

    @depidx.setter
    def depidx(self, matrix: lil_matrix | None) -> None:
        self._dependencies = None if matrix is None else _Dependencies(matrix)

    def _sort_jobs(self, jobids: Sequence[int], scheduler: str = "tsort") -> list[int]:
        return sorted(jobids, key=lambda job: self._turns[job])

    def _send_procs_to_workers(
        self, updatehash: bool = False, graph: "DiGraph[Node]" = None
    ) -> None:
        """Submit the tasks that are ready.

        Where nothing has changed since the last call, wait until a step ends.
        """
        before = self._state()
        if before == self._settled:
            self._news.wait(_LOOK_AGAIN_S)
            self._news.clear()
            return
        super()._send_procs_to_workers(updatehash=updatehash, graph=graph)
        after = self._state()
        self._settled = after if after == before else None

    def _state(self) -> tuple[int, ...]:
        return (
            int(self.proc_done.sum()),
            int(self.proc_pending.sum()),
            len(self.procs),
            len(self.pending_tasks),
        )

    def _new_pool(self, workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=workers,
            initializer=start_worker,
            initargs=(self._cwd, logging.getLogger("nipype.workflow").getEffectiveLevel()),
            mp_context=mp.get_context(self.plugin_args.get("mp_context")),
        )

    def _submit_job(self, node: "Node", updatehash: bool = False) -> int:
        self._taskid += 1
        self._nodes[self._taskid] = (node, updatehash)
        try:
            self._submit_to(self.pool, self._taskid)
        # it broke before, or just now: then its queue is closed
        except (BrokenProcessPool, OSError):
            self.pool = self._new_pool(self.processors)
            self._submit_to(self.pool, self._taskid)
        return self._taskid

    def _submit_to(self, pool: ProcessPoolExecutor, taskid: int) -> None:
        node, updatehash = self._nodes[taskid]
        future = pool.submit(run_node, node, updatehash, taskid)
        self._pool_of[taskid], self._task_obj[taskid] = pool, future
        future.add_done_callback(lambda done: self._collect(taskid, done))

    def _collect(self, taskid: int, future: Future[Answer]) -> None:
        """Take the result of a task.

        This runs in a thread of the pool, so it only notes what happened.
        """
        if future.cancelled() or future is not self._task_obj.get(taskid):
            return
        error = future.exception()
        if error is None:
            self._taskresult[taskid] = future.result()
        else:
            self._taskresult[taskid] = {
                "result": None,
                "traceback": [str(error)],
                "taskid": taskid,
                "error": error,
            }
        self._news.set()

    def _get_result(self, taskid: int) -> Answer | None:
        result = self._taskresult.get(taskid)
        broken = (
            isinstance(result.get("error"), BrokenProcessPool)
            if result
            else self._forgotten(taskid)
        )
        if not broken:
            return result
        node = self._nodes[taskid][0]
        if taskid not in self._second_try:
            _LOGGER.warning(
                (
                    "%s: the process of this step was killed. The step is run again while no"
                    " other steps are running."
                ),
                node.fullname,
            )
            self._second_try.add(taskid)
            self._taskresult.pop(taskid, None)
            # one that was just starting would do the same step beside us
            _kill_pool(self._pool_of[taskid], wait=True)
            pool = self._own_pools[taskid] = self._new_pool(1)
            self._submit_to(pool, taskid)
            return None
        died = (
            f"{node.fullname}: the process of this step was killed twice, most likely because of"
            f" insufficient memory (memory declared by the step: {node.mem_gb:.2f} GB)."
        )
        return {
            "result": None,
            "traceback": [died],
            "taskid": taskid,
            "notice": Notice(what="", why=died, code="killed"),
        }

    def _forgotten(self, taskid: int) -> bool:
        """Return whether the pool broke while the task was submitted.

        In that case the failure of the task may never be reported.
        """
        return (
            bool(getattr(self._pool_of[taskid], "_broken", False))
            and not self._task_obj[taskid].done()
        )

    def _clear_task(self, taskid: int) -> None:
        del self._task_obj[taskid]
        self._nodes.pop(taskid, None)
        self._pool_of.pop(taskid, None)
        self._taskresult.pop(taskid, None)
        pool = self._own_pools.pop(taskid, None)
        if pool is not None:
            pool.shutdown(wait=False)

    def _report_crash(self, node: "Node", result: Answer | None = None) -> str:
        """Write our own crash file, and remember where it is: the logs may be on a full disk."""
        found = report_crash(node, result, self.crashes)
        if found.code == "full":  # nothing that could still be started would end well
            raise DiskFullError(Path(node.output_dir()), 0)
        return found.file

    def _postrun_check(self) -> None:
        for pool in self._own_pools.values():
            pool.shutdown()
        super()._postrun_check()
