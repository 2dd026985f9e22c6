"""Nodes as SLURM jobs, one job a node, by nipype's two plugins (SLURM and SLURMGraph) with their endings told apart.

Defects of nipype, as reports would say them: `SLURMPlugin` reads the result file of an earlier run when a job died
without one; a job that was killed raises in the scheduler and takes the run down; jobs stay in the queue when the run
is interrupted; `SLURMGraphPlugin.run` returns with success as soon as the jobs are submitted.
"""

import contextlib
import logging
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import networkx as nx
from nipype.pipeline.plugins.slurm import SLURMPlugin
from nipype.pipeline.plugins.slurmgraph import SLURMGraphPlugin

from bids_sr.execution.crash import write_crash
from bids_sr.execution.job_scripts import ClusterOptions, is_small
from bids_sr.execution.records import NotesLeft
from bids_sr.execution.slurm_jobs import Ending, Jobs
from bids_sr.execution.usage import NodeUsage, keep_usage

LOGGER = logging.getLogger(__name__)
FOLDER = "slurm"
"""Directory of the jobs in the work directory."""


def jobs_of(graph: Any, options: ClusterOptions, usage_file: Path | None) -> Jobs:
    """Folder and queue for the jobs of a graph, after those that an earlier run has left are ended."""
    nodes = list(graph.nodes())
    jobs = Jobs(root=Path(nodes[0].base_dir) / FOLDER, options=options, measured=usage_file is not None)
    jobs.take_over({node.fullname for node in nodes})
    return jobs


def keep_measures(nodes: Sequence[Any], ending: Ending, usage_file: Path | None) -> None:
    """Add what the steps of a job took to the table, where one is wanted."""
    for node, usage in zip(nodes, ending.usage, strict=False):
        if usage_file is not None and usage is not None:
            with contextlib.suppress(OSError):  # a full disk must not keep the result from being seen
                keep_usage(usage_file, node, NodeUsage(**usage))


def tell(node: Any, ending: Ending, written: list[Path]) -> Path:
    """Write the crash file of a step, and add it to those that were written."""
    folder = Path(node.config["execution"]["crashdump_dir"])
    path = write_crash(
        node, ending.traceback, crash_dir=folder, host=ending.host, peak_gb=ending.peak_gb, remedy=ending.remedy
    )
    LOGGER.error("%s failed: see %s", node.fullname, path)
    written.append(path)
    return path


class ResilientSLURM(NotesLeft, SLURMPlugin):
    """SLURM with a driver that submits a step when those before it are done; small steps run in the driver.

    Parameters
    ----------
    plugin_args : ``options`` (`ClusterOptions`), ``usage_file`` (path or None), ``status_callback``
    """

    _jobs: Jobs

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        self._options: ClusterOptions = plugin_args["options"]
        self._usage_file: Path | None = plugin_args.get("usage_file")
        super().__init__(plugin_args={**plugin_args, "max_jobs": self._options.max_jobs})
        self._submitted: dict[int, Any] = {}
        self.crash_files: list[Path] = []

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run the graph; whatever ends it, no job outlives it."""
        for node in graph.nodes():
            node.run_without_submitting |= self._options.join_small and is_small(node)
        self._jobs = jobs_of(graph, self._options, self._usage_file)
        try:
            super().run(graph, config, updatehash=updatehash)
        except BaseException:
            self._jobs.call_off()
            raise
        finally:
            self._jobs.tidy()

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        number = self._jobs.start([node], updatehash=updatehash)
        self._submitted[number] = node
        return number

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        ending = self._jobs.ended(taskid)
        if ending is None:
            return None
        keep_measures([self._submitted[taskid]], ending, self._usage_file)
        return {"traceback": list(ending.traceback) or None, "ending": ending}

    def _clear_task(self, taskid: int) -> None:
        self._submitted.pop(taskid)
        self._jobs.forget(taskid)

    def _clean_queue(self, jobid: int, graph: Any, result: dict[str, Any] | None = None) -> dict[str, Any]:
        """Report a step; where SLURM itself is gone, the first report says it for all."""
        told = super()._clean_queue(jobid, graph, result=result)
        if self._jobs.unreachable is not None:
            raise self._jobs.unreachable
        return told

    def _report_crash(self, node: Any, result: dict[str, Any] | None = None) -> str:
        if result is not None and "ending" in result:
            ending = result["ending"]
        else:  # what failed in the driver itself
            told = result["traceback"] if result else traceback.format_exception(*sys.exc_info())
            ending = Ending(failed=node.fullname, traceback=(told,) if isinstance(told, str) else tuple(told))
        return str(tell(node, ending, self.crash_files))


class ResilientSLURMGraph(SLURMGraphPlugin):
    """SLURMGraph whose driver stays until all is done: SLURM orders the jobs, the driver sees to it that each ends.

    A small step runs in the job of the step that needs it, where there is only one.

    Parameters
    ----------
    plugin_args : see `ResilientSLURM`
    """

    _jobs: Jobs

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        self._options: ClusterOptions = plugin_args["options"]
        self._usage_file: Path | None = plugin_args.get("usage_file")
        super().__init__(plugin_args={key: plugin_args[key] for key in plugin_args if key != "status_callback"})
        self.crash_files: list[Path] = []
        self._tell: Callable[[Any, str], None] = plugin_args.get("status_callback") or (lambda node, status: None)

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run the graph and wait for it.

        Raises
        ------
        RuntimeError
            when a step failed; the others have run as far as they could
        """
        self._jobs = jobs_of(graph, self._options, self._usage_file)
        self._stop_at_once = str(config["execution"]["stop_on_first_crash"]).lower() == "true"
        groups = grouped(graph, finished(graph), join_small=self._options.join_small)
        try:
            failures = self._watch(self._submit(groups, graph, updatehash))
        except BaseException:
            self._jobs.call_off()
            raise
        finally:
            self._jobs.tidy()
        if failures:
            raise RuntimeError(failures[0])

    def _submit(self, groups: Sequence[Sequence[Any]], graph: Any, updatehash: bool) -> dict[int, list[int]]:
        """Submit every group; returns the numbers of the jobs that each needs."""
        job_of: dict[Any, int] = {}
        left_out: set[Any] = set()
        needs: dict[int, list[int]] = {}
        for group in groups:
            sources = {node for member in group for node in graph.predecessors(member)} - set(group)
            before = {job_of[node] for node in sources if node in job_of}
            # A job that has ended may be forgotten by SLURM, and a dependency on it would never be met.
            endings = {number: self._jobs.ended(number) for number in before}
            if sources & left_out or any(ending and ending.traceback for ending in endings.values()):
                left_out.update(group)
                continue
            after = [self._jobs.slurm_id(number) for number, ending in endings.items() if ending is None]
            number = self._jobs.start(group, updatehash=updatehash, after=after)
            needs[number] = sorted(before)
            job_of.update(dict.fromkeys(group, number))
        return needs

    def _watch(self, needs: Mapping[int, Collection[int]]) -> list[str]:
        """Wait for the end of every job; those that need a failed one are ended. Returns what was said of failures."""
        waiting, failures = set(needs), []
        told: set[int] = set()  # those that have been said to begin
        while waiting:
            for number in sorted(waiting):
                if number not in waiting:
                    continue
                ending = self._jobs.ended(number)
                if number not in told and (ending or self._jobs.running(number)):
                    told.add(number)
                    for node in self._jobs.nodes(number):
                        self._tell(node, "start")
                if ending is None:
                    continue
                waiting.discard(number)
                if ending.traceback:
                    failures.append("".join(ending.traceback))
                    pointless = waiting & dependents(number, needs)
                    self._jobs.drop(pointless)
                    waiting -= pointless
                self._conclude(number, ending)
            time.sleep(0.2)
        return failures

    def _conclude(self, number: int, ending: Ending) -> None:
        nodes = self._jobs.nodes(number)
        keep_measures(nodes, ending, self._usage_file)
        for node in nodes:
            if node.fullname == ending.failed:
                self._tell(node, "exception")
                tell(node, ending, self.crash_files)
                if self._stop_at_once:
                    raise RuntimeError("".join(ending.traceback))
                break
            self._tell(node, "end")
        self._jobs.forget(number)


def finished(graph: Any) -> set[Any]:
    """The steps whose results are there and current, as are those of all steps before them."""
    done: set[Any] = set()
    for node in nx.topological_sort(graph):
        if done.issuperset(graph.predecessors(node)) and not (node.overwrite or node.interface.always_run):
            try:
                current = all(deepcopy(node).is_cached())  # a copy, as asking fills in the inputs
            except Exception:
                LOGGER.debug("cannot tell whether %s is done; it runs", node.fullname, exc_info=True)
                current = False
            if current:
                done.add(node)
    return done


def grouped(graph: Any, done: Collection[Any], *, join_small: bool) -> list[list[Any]]:
    """The steps that are to run, as groups that share a job, so that no group comes before one that it needs.

    Parameters
    ----------
    done : steps that need not run
    join_small : whether a small step joins the job of those that need it, where that is one job
    """
    order = [node for node in nx.topological_sort(graph) if node not in done]
    head: dict[Any, Any] = {}
    for node in reversed(order):
        heads = {head[after] for after in graph.successors(node) if after in head}
        joins = join_small and is_small(node) and len(heads) == 1
        head[node] = heads.pop() if joins else node
    groups: dict[Any, list[Any]] = {node: [] for node in order if head[node] is node}
    for node in order:
        groups[head[node]].append(node)
    return list(groups.values())


def dependents(number: int, needs: Mapping[int, Collection[int]]) -> set[int]:
    """Jobs that need a job, directly or through others; jobs have larger numbers than those that they need."""
    found = {number}
    for other in sorted(needs):
        if found.intersection(needs[other]):
            found.add(other)
    return found - {number}
