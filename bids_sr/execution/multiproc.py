"""Nodes in local worker processes (nipype's MultiProc), with recovery from killed workers.

Defects of nipype, as they would be reported:

- When a worker of `MultiProcPlugin` is killed (out of memory), its `ProcessPoolExecutor` is broken
  and every pending future raises `BrokenProcessPool`. `_async_callback` raises it within a done
  callback, where it is only logged. No task is marked as done, and `run` polls forever. When the
  scheduler is killed, its workers continue to run.
- `DistributedPluginBase.run` wakes every `poll_sleep_duration` (2 s; short nodes need the 0.2 s
  that `execute` sets). `MultiProcPlugin._send_procs_to_workers` then sums over the matrix of
  dependencies and calls `gc.collect()`, whether or not a node has ended. With thousands of nodes,
  an idle scheduler uses a quarter of a core.

Here a task whose worker was killed is run again in a separate pool, so that the other tasks of the
broken pool can finish. If it is killed again, the node is reported as crashed with a remedy, and
the other nodes continue. The scheduler sleeps until a node ends.
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

from bids_sr.execution.crash import report_crash
from bids_sr.execution.fork_server import start_fork_server
from bids_sr.execution.outcomes import NodeOutcome
from bids_sr.execution.records import StepRecordMixin, record_files
from bids_sr.execution.step_warnings import save_warnings
from bids_sr.execution.usage import hold_threads, release_memory, retain_freed_memory
from bids_sr.io.atomic_files import DiskFullError
from bids_sr.notices import Notice
from bids_sr.pipeline.figure import FigureStep
from bids_sr.pipeline.nodes import get_owner
from bids_sr.pipeline.store import store

if TYPE_CHECKING:
    from networkx import DiGraph
    from nipype.pipeline.engine import Node

_LOGGER = logging.getLogger(__name__)
# s, time for a killed worker to end, which can be long if the kernel blocks it in file access
_WAIT_S = 60.0
_LOOK_AGAIN_S = 1.0  # s, longest time without a check; also the largest delay of a signal
# relative to the longest path of the participant; estimated durations err by more
_ON_LONGEST = 0.98


def start_worker(cwd: str, level: int) -> None:
    """Initialize a worker with the directory of the run and the log level of its parent."""
    # a collection would write to all memory shared with the fork server and copy it: 0.1 GB per
    # worker
    gc.freeze()
    retain_freed_memory()
    os.chdir(cwd)
    os.environ["NIPYPE_NO_ET"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the scheduler ends its workers itself
    _end_with_parent()
    # warnings of steps are recorded and reported at the end
    logging.getLogger("bids_sr").propagate = False
    # these loggers were set up by importing this module
    for name in ("nipype.workflow", "nipype.utils", "nipype.interface"):
        logging.getLogger(name).setLevel(level)


def _end_with_parent() -> None:
    """Make the kernel end this worker when its scheduler ends, even if the scheduler is killed.

    A surviving worker would write to directories that the next run uses. The kernel sends a signal
    when the other end of the pipe to the scheduler closes, so no Python thread has to detect it.
    """
    parent = mp.parent_process()
    if parent is None:  # job of a cluster, which ends by itself
        return
    pipe = parent.sentinel
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if ready([pipe], timeout=0):  # the scheduler ended before the signal was set up
        os._exit(1)


def run_node(node: "Node", updatehash: bool, taskid: int) -> NodeOutcome:
    """Run a node in a worker and return any error as text.

    Errors are returned even if the node has no result file.

    Parameters
    ----------
    node : Node
        Node to run.
    updatehash : bool
        Whether to update the hash of the step without running it.
    taskid : int
        Number of the task.

    Returns
    -------
    NodeOutcome
        Result of the step, or the lines of its error and its peak memory (GB).
    """
    answer: NodeOutcome = {"result": None, "traceback": None, "taskid": taskid}
    hold_threads(node.n_procs)
    if crash_dir := ((node.config or {}).get("execution") or {}).get("crashdump_dir"):
        save_warnings(Path(crash_dir), node)
    try:
        answer["result"] = node.run(updatehash=updatehash)
        record_files(Path(node.output_dir()))
    except BaseException as error:
        answer["notice"] = getattr(error, "notice", None)
        answer["traceback"] = traceback.format_exception(*sys.exc_info())
        answer["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-9
    release_memory()
    return answer


def _kill_pool(pool: ProcessPoolExecutor, *, wait: bool = False) -> None:
    """Kill all workers of a pool, and optionally wait until they have ended.

    Workers that were starting when the pool broke are included.
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
    """Dependencies between steps, with cached sums.

    Nipype computes the sums over all steps several times whenever the scheduler wakes up.
    """

    _sums: np.matrix | None = None

    def sum(self, axis: int | None = None, dtype: object = None, out: object = None) -> object:
        """Return sums as scipy does; sums over the first axis (1, steps) are cached."""
        if axis != 0 or dtype is not None or out is not None:
            return super().sum(axis, dtype, out)
        if self._sums is None:
            self._sums = super().sum(0)
        return self._sums

    def getrowview(self, i: int) -> lil_matrix:
        """Return a row, which the caller may change, and clear the cached sums."""
        self._sums = None
        return super().getrowview(i)

    def __setitem__(self, key: object, value: object) -> None:
        """Change dependencies and clear the cached sums."""
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
    seconds_before: dict[Node, float] = {}
    for node in nodes:
        seconds_before[node] = max(
            (
                seconds_before[predecessor] + _seconds(predecessor)
                for predecessor in graph.predecessors(node)
            ),
            default=0.0,
        )
    onward: dict[Node, float | None] = {}
    for node in reversed(nodes):
        paths = [onward[successor] for successor in graph.successors(node)]
        to_end = [path for path in paths if path is not None] + [0.0] * (node in ends)
        onward[node] = _seconds(node) + max(to_end) if to_end else None
    return {
        node: 0.0 if path is None else seconds_before[node] + path for node, path in onward.items()
    }


class ResilientMultiProc(StepRecordMixin, MultiProcPlugin):
    """MultiProc plugin with workers from a fork server, which recovers from killed workers.

    Workers are not forked from this process, because a child of a process that has used torch
    hangs in its first convolution.

    Parameters
    ----------
    n_procs : int
        Number of processors.
    memory_gb : float
        Memory for all simultaneous nodes together (GB).
    has_gpu : bool, optional
        Whether steps may use a GPU.
    **arguments : object
        Further arguments of nipype's plugin.
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
        plugin_arguments = {
            "mp_context": "forkserver",
            "n_procs": n_procs,
            "memory_gb": memory_gb,
            **arguments,
        }
        super().__init__(plugin_args=plugin_arguments)
        # one slot for any number of GPUs, because torch uses the first visible GPU
        self.n_gpu_procs = 1
        self._has_gpu = has_gpu
        self._news = threading.Event()
        self._settled: tuple[int, ...] | None = None
        self.pool.shutdown(wait=False)  # pool of nipype, which has not started a worker yet
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
        """Run the graph; all workers end with the run, whatever its outcome.

        If `updatehash` is True, the hashes of steps are updated without running them.
        """
        config_without_sleep = {
            **config,
            "execution": {**config["execution"], "poll_sleep_duration": "0"},
        }
        gc.collect()
        # nodes that exist from the start are not garbage, so collections skip them
        gc.freeze()
        try:
            super().run(graph, config_without_sleep, updatehash=updatehash)
        except BaseException:
            for pool in (self.pool, *self._own_pools.values()):
                _kill_pool(pool)
            raise
        finally:
            gc.unfreeze()

    def _prerun_check(self, graph: "DiGraph[Node]") -> None:
        """Mark the nodes that use the GPU; nipype runs one of them at a time."""
        for node in graph.nodes():
            if hasattr(node.inputs, "use_gpu"):
                node.inputs.use_gpu = self._has_gpu and getattr(node.inputs, "device", "cpu") in (
                    "auto",
                    "cuda",
                )
        super()._prerun_check(graph)

    def _generate_dependency_list(self, graph: "DiGraph[Node]") -> None:
        """Order the steps by participant, then by the verdict that depends on them.

        Steps on a participant's longest path to a verdict come first, so that a long training
        occupies one worker while the others work on the first verdict. A single worker does not
        prefer them. Steps before the first verdict are followed by steps before the next verdict,
        then by other results, and finally by figures and files. Within these groups, the step with
        the longest remaining path comes first. The path of a step before a verdict ends at the
        verdict.
        """
        super()._generate_dependency_list(graph)
        participant_order: dict[str, int] = {}
        remaining: dict[Node, float] = {}
        is_terminal: dict[Node, bool] = {}  # only figures and files follow
        steps = {node: getattr(node.interface, "step", store) for node in self.procs}
        verdicts = [node for node in self.procs if steps[node].awaited]
        number = {node: position for position, node in enumerate(verdicts)}
        first_verdict: dict[Node, int] = {}  # number of the first verdict that depends on the step
        no_verdict = len(verdicts)
        for node in self.procs:
            participant_order.setdefault(get_owner(node)[0], len(participant_order))
        for node in reversed(self.procs):
            successors = list(graph.successors(node))
            first_verdict[node] = min(
                [
                    number.get(node, no_verdict),
                    *(first_verdict[successor] for successor in successors),
                ]
            )
            later = [
                remaining[successor]
                for successor in successors
                if first_verdict[node] == no_verdict or first_verdict[successor] < no_verdict
            ]
            remaining[node] = _seconds(node) + max(later, default=0.0)
            step = steps[node]
            is_terminal[node] = (step is store or isinstance(step, FigureStep)) and all(
                is_terminal[successor] for successor in successors
            )
        longest_seconds = _longest_through(graph, self.procs, set(verdicts))
        longest: dict[str, float] = {}
        for node in self.procs:
            participant = get_owner(node)[0]
            longest[participant] = max(longest.get(participant, 0.0), longest_seconds[node])
        self._turns = []
        for node in self.procs:
            participant = get_owner(node)[0]
            # a single worker does not end earlier if it begins with the longest path
            on_longest = (
                self.processors > 1
                and 0 < longest_seconds[node] >= _ON_LONGEST * longest[participant]
            )
            self._turns.append(
                (
                    participant_order[participant],
                    not on_longest,
                    first_verdict[node],
                    is_terminal[node],
                    -remaining[node],
                )
            )

    @property
    def depidx(self) -> _Dependencies | None:
        """Dependencies between steps, which nipype sets and changes."""
        return self._dependencies

    @depidx.setter
    def depidx(self, matrix: lil_matrix | None) -> None:
        self._dependencies = None if matrix is None else _Dependencies(matrix)

    def _sort_jobs(self, jobids: Sequence[int], scheduler: str = "tsort") -> list[int]:
        # Steps that run in this process run first, because the steps that they make ready may
        # precede the other steps: the comparison before a verdict precedes a training.
        light = [job for job in jobids if self.procs[job].run_without_submitting]
        return sorted(light or jobids, key=lambda job: self._turns[job])

    def _send_procs_to_workers(
        self, updatehash: bool = False, graph: "DiGraph[Node]" = None
    ) -> None:
        """Submit ready tasks, or wait until a step ends if nothing has changed since."""
        previous = self._state()
        if previous == self._settled:
            self._news.wait(_LOOK_AGAIN_S)
            self._news.clear()
            return
        super()._send_procs_to_workers(updatehash=updatehash, graph=graph)
        current = self._state()
        self._settled = current if current == previous else None

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
        # the pool is broken or breaks now, which closes its queue
        except (BrokenProcessPool, OSError):
            self.pool = self._new_pool(self.processors)
            self._submit_to(self.pool, self._taskid)
        return self._taskid

    def _submit_to(self, pool: ProcessPoolExecutor, taskid: int) -> None:
        node, updatehash = self._nodes[taskid]
        future = pool.submit(run_node, node, updatehash, taskid)
        self._pool_of[taskid], self._task_obj[taskid] = pool, future
        future.add_done_callback(lambda completed: self._collect(taskid, completed))

    def _collect(self, taskid: int, future: Future[NodeOutcome]) -> None:
        """Store the outcome of a task.

        This runs in a thread of the pool, so it only stores the outcome.
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

    def _get_result(self, taskid: int) -> NodeOutcome | None:
        result = self._taskresult.get(taskid)
        broken = (
            isinstance(result.get("error"), BrokenProcessPool)
            if result
            else self._was_submitted_to_broken_pool(taskid)
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
            # a worker that was starting would run the same step at the same time
            _kill_pool(self._pool_of[taskid], wait=True)
            pool = self._own_pools[taskid] = self._new_pool(1)
            self._submit_to(pool, taskid)
            return None
        message = (
            f"{node.fullname}: the process of this step was killed twice, most likely because of"
            f" insufficient memory (memory declared by the step: {node.mem_gb:.2f} GB)."
        )
        return {
            "result": None,
            "traceback": [message],
            "taskid": taskid,
            "notice": Notice(what="", why=message, code="killed"),
        }

    def _was_submitted_to_broken_pool(self, taskid: int) -> bool:
        """Return whether the pool broke while the task was submitted.

        In this case the failure of the task may never be reported.
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

    def _report_crash(self, node: "Node", result: NodeOutcome | None = None) -> str:
        """Write our crash file and return its path, because the logs may be on a full disk."""
        notice = report_crash(node, result, self.crashes)
        if notice.code == "full":  # further steps would also fail on a full disk
            raise DiskFullError(Path(node.output_dir()), 0)
        return notice.file

    def _postrun_check(self) -> None:
        for pool in self._own_pools.values():
            pool.shutdown()
        super()._postrun_check()
