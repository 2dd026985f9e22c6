"""Run nodes as SLURM jobs, one per node, by nipype's plugins SLURM and SLURMGraph.

The different endings of a job are told apart.

Defects of nipype, as reports would say them: `SLURMPlugin` reads the result file of an earlier run
when a job died without one; a job that was killed raises in the scheduler and takes the run down;
jobs stay in the queue when the run is interrupted; `SLURMGraphPlugin.run` returns with success as
soon as the jobs are submitted.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx
from nipype.pipeline.plugins.slurm import SLURMPlugin
from nipype.pipeline.plugins.slurmgraph import SLURMGraphPlugin

from bids_sr.config.plugin import Plugin
from bids_sr.execution.crash import report_crash
from bids_sr.execution.records import NotesLeft
from bids_sr.execution.slurm_jobs import Jobs, is_small
from bids_sr.execution.usage import Answer
from bids_sr.notices import Notice

if TYPE_CHECKING:
    from networkx import DiGraph
    from nipype.pipeline.engine import Node

_LOGGER = logging.getLogger(__name__)
_FOLDER = "slurm"
"""Directory of the jobs in the work directory."""


class _OnCluster:
    """What both plugins do with the jobs of a graph."""

    _jobs: Jobs

    def __init__(self, *, options: Plugin, **arguments: object) -> None:
        self._options = options
        self.crashes: list[Notice] = []
        super().__init__(plugin_args={"max_jobs": options.max_jobs, **arguments})  # type: ignore[call-arg]

    @contextlib.contextmanager
    def _using(self, graph: "DiGraph[Node]") -> Iterator[None]:
        """Set up folder and queue for the jobs of a graph, ending those left by an earlier run.

        Whatever ends the block, no job outlives it.
        """
        nodes = list(graph.nodes())
        root = Path(nodes[0].base_dir) / _FOLDER
        self._jobs = Jobs(root=root, options=self._options)
        self._jobs.take_over({node.fullname for node in nodes})
        try:
            yield
        except BaseException:
            self._jobs.call_off()
            raise
        finally:
            self._jobs.tidy()

    def _report_crash(self, node: "Node", result: Answer | None = None) -> str:
        return report_crash(node, result, self.crashes).file


class ResilientSLURM(_OnCluster, NotesLeft, SLURMPlugin):
    """SLURM plugin whose driver submits a step once its predecessors are done.

    Small steps run in the driver.
    """

    def run(
        self,
        graph: "DiGraph[Node]",
        config: "Mapping[str, Mapping[str, str]]",
        updatehash: bool = False,
    ) -> None:
        """Run the graph; whatever ends it, no job outlives it.

        `updatehash`: whether to renew the hashes of steps without running them.
        """
        for node in graph.nodes():
            node.run_without_submitting |= self._options.join_small and is_small(node)
        with self._using(graph):
            super().run(graph, config, updatehash=updatehash)

    def _submit_job(self, node: "Node", updatehash: bool = False) -> int:
        return self._jobs.start([node], updatehash=updatehash)

    def _get_result(self, taskid: int) -> Answer | None:
        return self._jobs.ended(taskid)

    def _clear_task(self, taskid: int) -> None:
        self._jobs.forget(taskid)

    def _clean_queue(
        self, jobid: int, graph: "DiGraph[Node]", result: Answer | None = None
    ) -> dict[str, object]:
        """Report a step; where SLURM itself is gone, the first report says it for all."""
        told = super()._clean_queue(jobid, graph, result=result)
        if self._jobs.unreachable is not None:
            raise self._jobs.unreachable
        return told


class ResilientSLURMGraph(_OnCluster, SLURMGraphPlugin):
    """SLURMGraph plugin whose driver stays until all jobs end.

    SLURM orders the jobs, and the driver makes sure that each of them ends.

    A small step runs in the job of the step that needs it, where there is only one.

    `status_callback`: is called with a step and ``start``, ``end`` or ``exception``; None for
    nothing.
    """

    def __init__(
        self,
        *,
        options: Plugin,
        status_callback: "Callable[[Node, str], None] | None" = None,
    ) -> None:
        super().__init__(options=options)
        self._tell = status_callback or (lambda node, status: None)

    def run(
        self,
        graph: "DiGraph[Node]",
        config: "Mapping[str, Mapping[str, str]]",
        updatehash: bool = False,
    ) -> None:
        """Run the graph and wait for it.

        Raises `RuntimeError` when a step failed, after the others have run.

        `updatehash`: whether to renew the hashes of steps without running them.
        """
        self._stop_at_once = str(config["execution"]["stop_on_first_crash"]).lower() == "true"
        with self._using(graph):
            groups = _grouped(graph, _finished(graph), join_small=self._options.join_small)
            failures = self._watch(self._submit(groups, graph, updatehash))
        if failures:
            raise RuntimeError(failures[0])

    def _submit(
        self, groups: "Sequence[Sequence[Node]]", graph: "DiGraph[Node]", updatehash: bool
    ) -> dict[int, list[int]]:
        """Submit every group; returns the numbers of the jobs that each needs."""
        job_of: dict[Node, int] = {}
        left_out: set[Node] = set()
        needs: dict[int, list[int]] = {}
        for group in groups:
            sources = {node for member in group for node in graph.predecessors(member)} - set(
                group
            )
            before = {job_of[node] for node in sources if node in job_of}
            # A job that has ended may be forgotten by SLURM, and a dependency on it would never be
            # met.
            endings = {number: self._jobs.ended(number) for number in before}
            if sources & left_out or any(
                ending and ending["traceback"] for ending in endings.values()
            ):
                left_out.update(group)
                continue
            after = [
                self._jobs[number].slurm_id for number, ending in endings.items() if ending is None
            ]
            number = self._jobs.start(group, updatehash=updatehash, after=after)
            needs[number] = sorted(before)
            job_of.update(dict.fromkeys(group, number))
        return needs

    def _watch(self, needs: Mapping[int, Collection[int]]) -> list[str]:
        """Wait for the end of every job and return the error messages.

        Jobs that need a failed one are ended.
        """
        waiting, failures = set(needs), []
        told: set[int] = set()  # those that have been said to begin
        while waiting:
            for number in sorted(waiting):
                if number not in waiting:
                    continue
                ending = self._jobs.ended(number)
                if number not in told and (ending or self._jobs[number].running):
                    told.add(number)
                    for node in self._jobs[number].nodes:
                        self._tell(node, "start")
                if ending is None:
                    continue
                waiting.discard(number)
                if ending["traceback"]:
                    failures.append("".join(ending["traceback"] or ()))
                    pointless = waiting & _dependents(number, needs)
                    self._jobs.drop(pointless)
                    waiting -= pointless
                self._conclude(number, ending)
            time.sleep(0.2)
        return failures

    def _conclude(self, number: int, ending: Answer) -> None:
        nodes = self._jobs[number].nodes
        for node in nodes:
            if node.fullname == ending.get("failed"):
                self._tell(node, "exception")
                self._report_crash(node, ending)
                if self._stop_at_once:
                    raise RuntimeError("".join(ending["traceback"] or ()))
                break
            self._tell(node, "end")
        self._jobs.forget(number)


def _finished(graph: "DiGraph[Node]") -> "set[Node]":
    """The steps whose results are there and current, as are those of all steps before them."""
    done: set[Node] = set()
    for node in nx.topological_sort(graph):
        if done.issuperset(graph.predecessors(node)) and not (
            node.overwrite or node.interface.always_run
        ):
            try:
                current = all(deepcopy(node).is_cached())  # a copy, as asking fills in the inputs
            except Exception:
                _LOGGER.debug(
                    "cannot tell whether %s is done; it runs", node.fullname, exc_info=True
                )
                current = False
            if current:
                done.add(node)
    return done


def _grouped(
    graph: "DiGraph[Node]", done: "Collection[Node]", *, join_small: bool
) -> "list[list[Node]]":
    """Group the steps that are not `done` into jobs, each group after those that it needs.

    With `join_small` a small step joins the job of those that need it, where that is one job.
    """
    order = [node for node in nx.topological_sort(graph) if node not in done]
    head: dict[Node, Node] = {}
    for node in reversed(order):
        heads = {head[after] for after in graph.successors(node) if after in head}
        joins = join_small and is_small(node) and len(heads) == 1
        head[node] = heads.pop() if joins else node
    groups: dict[Node, list[Node]] = {node: [] for node in order if head[node] is node}
    for node in order:
        groups[head[node]].append(node)
    return list(groups.values())


def _dependents(number: int, needs: Mapping[int, Collection[int]]) -> set[int]:
    """Return the jobs that need a job, directly or indirectly.

    Jobs have larger numbers than those that they need.
    """
    found = {number}
    for other in sorted(needs):
        if found.intersection(needs[other]):
            found.add(other)
    return found - {number}
