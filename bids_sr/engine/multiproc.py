"""Nodes in local worker processes (nipype's MultiProc), with recovery from killed workers.

nipype's plugin waits for ever if a worker was killed, and uses processor time while it waits
(`benchmarks/upstream/nipype_killed_worker.md` and `nipype_idle_scheduler.md`).

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
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_connections
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nipype.pipeline.plugins.multiproc import MultiProcPlugin
from scipy.sparse import lil_matrix

from bids_sr.engine.crash import report_crash
from bids_sr.engine.fork_server import start_fork_server
from bids_sr.engine.nodes import get_owner
from bids_sr.engine.outcomes import NodeOutcome, make_killed_notice
from bids_sr.engine.records import StepRecordMixin, record_files
from bids_sr.engine.step import Stage
from bids_sr.engine.step_warnings import save_warnings
from bids_sr.engine.store import store
from bids_sr.engine.usage import release_memory, retain_freed_memory, set_torch_threads
from bids_sr.io.atomic_files import DiskFullError
from bids_sr.io.notices import Notice

if TYPE_CHECKING:
    from networkx import DiGraph
    from nipype.pipeline.engine import Node

_LOGGER = logging.getLogger(__name__)
# s, time for a killed worker to end, which can be long if the kernel blocks it in file access
_KILL_TIMEOUT_S = 60.0
_MAX_SLEEP_S = 1.0  # s, longest time without a check; also the largest delay of a signal
# relative to the longest path of the participant; estimated durations err by more
_LONGEST_PATH_SHARE = 0.98


class _DependencyMatrix(lil_matrix):
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


class ResilientMultiProc(StepRecordMixin, MultiProcPlugin):
    """MultiProc plugin with workers from a fork server, which recovers from killed workers.

    Workers are not forked from this process, because a child of a process that has used torch
    hangs in its first convolution.

    `n_procs` processors and `memory_gb` GB of memory are for all simultaneous nodes together.
    `has_gpu` states whether steps may use a GPU. `arguments` are further arguments of nipype's
    plugin.
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
        self._has_outcome = threading.Event()
        self._idle_state: tuple[int, ...] | None = None
        self.pool.shutdown(wait=False)  # pool of nipype, which has not started a worker yet
        self.pool = self._make_pool(self.processors)
        self._node_by_task: dict[int, tuple[Node, bool]] = {}
        self._pool_by_task: dict[int, ProcessPoolExecutor] = {}
        self._retried_tasks: set[int] = set()
        self._retry_pools: dict[int, ProcessPoolExecutor] = {}
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
            for pool in (self.pool, *self._retry_pools.values()):
                kill_pool(pool)
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
        verdicts = _list_awaited(graph, self.procs)
        ranks = _rank_by_verdict(graph, self.procs, verdicts)
        longest_seconds = _measure_longest_paths(graph, self.procs, set(verdicts))
        participant_order: dict[str, int] = {}
        longest_of_participant: dict[str, float] = {}
        for node in self.procs:
            participant = get_owner(node)[0]
            participant_order.setdefault(participant, len(participant_order))
            longest_of_participant[participant] = max(
                longest_of_participant.get(participant, 0.0), longest_seconds[node]
            )
        self._priorities = []
        for node in self.procs:
            participant = get_owner(node)[0]
            least_seconds = _LONGEST_PATH_SHARE * longest_of_participant[participant]
            # a single worker does not end earlier if it begins with the longest path
            is_on_longest = self.processors > 1 and 0 < longest_seconds[node] >= least_seconds
            first_keys = participant_order[participant], not is_on_longest
            self._priorities.append((*first_keys, *ranks[node]))

    @property
    def depidx(self) -> _DependencyMatrix | None:
        """Dependencies between steps, which nipype sets and changes."""
        return self._dependencies

    @depidx.setter
    def depidx(self, matrix: lil_matrix | None) -> None:
        self._dependencies = None if matrix is None else _DependencyMatrix(matrix)

    def _sort_jobs(self, jobids: Sequence[int], **_scheduler: object) -> list[int]:
        # Steps that run in this process run first, because the steps that they make ready may
        # precede the other steps: the comparison before a verdict precedes a training.
        scheduler_jobs = [job for job in jobids if self.procs[job].run_without_submitting]
        return sorted(scheduler_jobs or jobids, key=lambda job: self._priorities[job])

    def _send_procs_to_workers(
        self, updatehash: bool = False, graph: "DiGraph[Node]" = None
    ) -> None:
        """Submit ready tasks, or wait until a step ends if nothing has changed since."""
        previous = self._get_state()
        if previous == self._idle_state:
            self._has_outcome.wait(_MAX_SLEEP_S)
            self._has_outcome.clear()
            return
        super()._send_procs_to_workers(updatehash=updatehash, graph=graph)
        current = self._get_state()
        self._idle_state = current if current == previous else None

    def _get_state(self) -> tuple[int, ...]:
        """Return the numbers of finished, pending and all nodes, and of submitted tasks."""
        return (
            int(self.proc_done.sum()),
            int(self.proc_pending.sum()),
            len(self.procs),
            len(self.pending_tasks),
        )

    def _submit_job(self, node: "Node", updatehash: bool = False) -> int:
        self._taskid += 1
        self._node_by_task[self._taskid] = (node, updatehash)
        try:
            self._submit_to(self.pool, self._taskid)
        # the pool is broken or breaks now, which closes its queue
        except (BrokenProcessPool, OSError):
            self.pool = self._make_pool(self.processors)
            self._submit_to(self.pool, self._taskid)
        return self._taskid

    def _get_result(self, taskid: int) -> NodeOutcome | None:
        """Return the outcome of a task, None while it runs.

        A task whose worker was killed is submitted again once, to a separate pool.
        """
        result = self._taskresult.get(taskid)
        is_broken = (
            isinstance(result.get("error"), BrokenProcessPool)
            if result
            else self._was_submitted_to_broken_pool(taskid)
        )
        if not is_broken:
            return result
        node, _ = self._node_by_task[taskid]
        if taskid not in self._retried_tasks:
            _LOGGER.warning(
                "%s: the process of this step was killed. The step is run again.",
                node.fullname,
            )
            self._retry_task(taskid)
            return None
        notice = make_killed_notice("the process of this step was killed twice")
        return {
            "result": None,
            "traceback": [f"{node.fullname}: {notice.why}."],
            "taskid": taskid,
            "notice": notice,
        }

    def _was_submitted_to_broken_pool(self, taskid: int) -> bool:
        """Return whether the pool broke while the task was submitted.

        In this case the failure of the task may never be reported.
        """
        return (
            bool(getattr(self._pool_by_task[taskid], "_broken", False))
            and not self._task_obj[taskid].done()
        )

    def _retry_task(self, taskid: int) -> None:
        """Submit a task whose worker was killed again, to a separate pool."""
        self._retried_tasks.add(taskid)
        self._taskresult.pop(taskid, None)
        # a worker that was starting would run the same step at the same time
        kill_pool(self._pool_by_task[taskid], wait=True)
        pool = self._retry_pools[taskid] = self._make_pool(1)
        self._submit_to(pool, taskid)

    def _make_pool(self, workers: int) -> ProcessPoolExecutor:
        """Return a pool with workers from the fork server; workers start when they are needed."""
        return ProcessPoolExecutor(
            max_workers=workers,
            initializer=start_worker,
            initargs=(self._cwd, logging.getLogger("nipype.workflow").getEffectiveLevel()),
            mp_context=mp.get_context(self.plugin_args.get("mp_context")),
        )

    def _submit_to(self, pool: ProcessPoolExecutor, taskid: int) -> None:
        """Submit a task to a pool, and store its outcome when it ends."""
        node, updatehash = self._node_by_task[taskid]
        future = pool.submit(run_node, node, updatehash, taskid)
        self._pool_by_task[taskid], self._task_obj[taskid] = pool, future
        future.add_done_callback(lambda completed: self._store_outcome(taskid, completed))

    def _store_outcome(self, taskid: int, future: Future[NodeOutcome]) -> None:
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
        self._has_outcome.set()

    def _clear_task(self, taskid: int) -> None:
        del self._task_obj[taskid]
        self._node_by_task.pop(taskid, None)
        self._pool_by_task.pop(taskid, None)
        self._taskresult.pop(taskid, None)
        pool = self._retry_pools.pop(taskid, None)
        if pool is not None:
            pool.shutdown(wait=False)

    def _report_crash(self, node: "Node", result: NodeOutcome | None = None) -> str:
        """Write our crash file and return its path, because the logs may be on a full disk."""
        notice = report_crash(node, result, self.crashes)
        if notice.code == "full":  # further steps would also fail on a full disk
            raise DiskFullError(Path(node.output_dir()), 0)
        return notice.file

    def _postrun_check(self) -> None:
        for pool in self._retry_pools.values():
            pool.shutdown()
        super()._postrun_check()


def kill_pool(pool: Executor, *, wait: bool = False) -> None:
    """Kill all workers of a pool, and optionally wait until they have ended.

    Workers that were starting when the pool broke are included.
    """
    workers = list((getattr(pool, "_processes", None) or {}).values())
    for worker in workers:
        if worker.is_alive():
            worker.kill()
    if wait:
        for worker in workers:
            worker.join(_KILL_TIMEOUT_S)
    pool.shutdown(wait=False, cancel_futures=True)


def _list_awaited(graph: "DiGraph[Node]", nodes: Sequence["Node"]) -> list["Node"]:
    """Return the steps that users wait for in order: verdicts, each followed by awaited files.

    The first verdict of a run, which depends on fewer steps, precedes its last verdict. The files
    follow the first verdict of their run. `nodes` are in topological order.
    """
    from networkx import ancestors

    by_run: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        if getattr(node.interface, "step", store).awaited:
            by_run.setdefault(get_owner(node), []).append(node)
    positions: dict[Node, tuple[int, int, int]] = {}
    for run_number, verdicts in enumerate(by_run.values()):
        verdicts.sort(key=lambda node: len(ancestors(graph, node)))
        positions |= {node: (number, run_number, 0) for number, node in enumerate(verdicts)}
    run_numbers = {owner: number for number, owner in enumerate(by_run)}
    for node in nodes:
        if getattr(node.inputs, "awaited", False):
            positions[node] = 0, run_numbers.get(get_owner(node), 0), 1
    return sorted(positions, key=positions.__getitem__)


def _rank_by_verdict(
    graph: "DiGraph[Node]", nodes: Sequence["Node"], verdicts: Sequence["Node"]
) -> dict["Node", tuple[int, bool, float]]:
    """Return sort keys of nodes: first following verdict, is terminal, and remaining path.

    Verdicts are numbered from 0 in the order of `verdicts`; nodes without a following verdict have
    the number of verdicts. Terminal nodes are figure or storing steps that only such steps follow.
    The last part is the negative duration (s) of the longest path from the node, including the
    node; the path of a node before a verdict ends at the verdict. `nodes` are in topological
    order.
    """
    verdict_numbers = {verdict: number for number, verdict in enumerate(verdicts)}
    ranks: dict[Node, tuple[int, bool, float]] = {}
    for node in reversed(nodes):
        following = [ranks[successor] for successor in graph.successors(node)]
        number = verdict_numbers.get(node, len(verdicts))
        first_verdict = min([number, *(verdict for verdict, _, _ in following)])
        step = getattr(node.interface, "step", store)
        is_terminal = step.stage in (Stage.STORAGE, Stage.FIGURES) and all(
            is_follower_terminal for _, is_follower_terminal, _ in following
        )
        paths = [
            path
            for verdict, _, path in following
            if first_verdict == len(verdicts) or verdict < len(verdicts)
        ]
        ranks[node] = first_verdict, is_terminal, min(paths, default=0.0) - _get_seconds(node)
    return ranks


def _measure_longest_paths(
    graph: "DiGraph[Node]", nodes: Sequence["Node"], ends: Collection["Node"]
) -> dict["Node", float]:
    """Return the duration (s) of the longest path through each node to one of `ends`.

    It is 0 for nodes that no end follows. `nodes` are in topological order.
    """
    seconds_before: dict[Node, float] = {}
    for node in nodes:
        seconds_before[node] = max(
            (
                seconds_before[predecessor] + _get_seconds(predecessor)
                for predecessor in graph.predecessors(node)
            ),
            default=0.0,
        )
    longest_to_end: dict[Node, float | None] = {}
    for node in reversed(nodes):
        paths = [longest_to_end[successor] for successor in graph.successors(node)]
        paths_to_end = [path for path in paths if path is not None]
        if node in ends:
            paths_to_end.append(0.0)
        longest_to_end[node] = _get_seconds(node) + max(paths_to_end) if paths_to_end else None
    return {
        node: 0.0 if path is None else seconds_before[node] + path
        for node, path in longest_to_end.items()
    }


def _get_seconds(node: "Node") -> float:
    """Return the expected duration of a node (s), 0 if unknown."""
    return float(getattr(node, "seconds", 0.0))


def start_worker(cwd: str, level: int) -> None:
    """Initialize a worker with the directory of the run and the log level of its parent."""
    # a collection would write to all memory shared with the fork server and copy it: 0.1 GB per
    # worker
    gc.freeze()
    retain_freed_memory()
    os.chdir(cwd)
    os.environ["NIPYPE_NO_ET"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the scheduler ends its workers itself
    _set_end_with_parent()
    # warnings of steps are recorded and reported at the end
    logging.getLogger("bids_sr").propagate = False
    # these loggers were set up by importing this module
    for name in ("nipype.workflow", "nipype.utils", "nipype.interface"):
        logging.getLogger(name).setLevel(level)


def _set_end_with_parent() -> None:
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
    if wait_for_connections([pipe], timeout=0):  # the scheduler ended before the signal was set up
        os._exit(1)


def run_node(node: "Node", updatehash: bool, taskid: int) -> NodeOutcome:
    """Run a node in a worker and return any error as text.

    Errors are returned even if the node has no result file.

    If `updatehash`, the hash of the step is updated without running it. `taskid` is the number of
    the task. Returns the result of the step, or the lines of its error and its peak memory (GB).
    """
    outcome: NodeOutcome = {"result": None, "traceback": None, "taskid": taskid}
    set_torch_threads(node.n_procs)
    if crash_dir := ((node.config or {}).get("execution") or {}).get("crashdump_dir"):
        save_warnings(Path(crash_dir), node)
    try:
        outcome["result"] = node.run(updatehash=updatehash)
        record_files(Path(node.output_dir()))
    except BaseException as error:
        outcome["notice"] = getattr(error, "notice", None)
        outcome["traceback"] = traceback.format_exception(*sys.exc_info())
        outcome["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-9
    release_memory()
    return outcome
