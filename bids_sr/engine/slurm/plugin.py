"""Execution of nodes as SLURM jobs by nipype's SLURM plugin, one job per node.

Submission and results are ours because of three defects of nipype's plugin
(`benchmarks/upstream/nipype_slurm.md`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nipype.pipeline.plugins.slurm import SLURMPlugin

from bids_sr.engine.crash import report_crash
from bids_sr.engine.outcomes import NodeOutcome
from bids_sr.engine.records import StepRecordMixin
from bids_sr.engine.slurm.job_options import JobOptions
from bids_sr.engine.slurm.step_jobs import Jobs, is_small
from bids_sr.io.notices import Notice

if TYPE_CHECKING:
    from networkx import DiGraph
    from nipype.pipeline.engine import Node

_FOLDER = "slurm"  # directory of the jobs in the working directory


class ResilientSLURM(StepRecordMixin, SLURMPlugin):
    """SLURM plugin that submits a step when its predecessors are done.

    Small steps run in the process of the plugin.
    """

    _jobs: Jobs

    def __init__(self, *, options: JobOptions, **arguments: object) -> None:
        self._options = options
        self.crashes: list[Notice] = []
        super().__init__(plugin_args={"max_jobs": options.max_jobs, **arguments})

    def run(
        self,
        graph: "DiGraph[Node]",
        config: "Mapping[str, Mapping[str, str]]",
        updatehash: bool = False,
    ) -> None:
        """Run the graph; all jobs end with the run, including jobs of an earlier run.

        If `updatehash` is True, the hashes of steps are updated without running them.
        """
        nodes = list(graph.nodes())
        for node in nodes:
            node.run_without_submitting |= self._options.join_small and is_small(node)
        self._jobs = Jobs(root=Path(nodes[0].base_dir) / _FOLDER, options=self._options)
        self._jobs.cancel_orphans({node.fullname for node in nodes})
        try:
            super().run(graph, config, updatehash=updatehash)
        except BaseException:
            self._jobs.cancel_all()
            raise
        finally:
            self._jobs.tidy()

    def _submit_job(self, node: "Node", updatehash: bool = False) -> int:
        return self._jobs.start(node, updatehash=updatehash)

    def _get_result(self, taskid: int) -> NodeOutcome | None:
        return self._jobs.outcome(taskid)

    def _clear_task(self, taskid: int) -> None:
        self._jobs.forget(taskid)

    def _report_crash(self, node: "Node", result: NodeOutcome | None = None) -> str:
        return report_crash(node, result, self.crashes).file

    def _clean_queue(
        self, jobid: int, graph: "DiGraph[Node]", result: NodeOutcome | None = None
    ) -> dict[str, object]:
        """Report a step; if SLURM is not available, raise an error for all steps."""
        report = super()._clean_queue(jobid, graph, result=result)
        if self._jobs.unreachable is not None:
            raise self._jobs.unreachable
        return report
