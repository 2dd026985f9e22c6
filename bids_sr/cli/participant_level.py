"""The participant level: from a plan without problems to derivatives and a report for every participant."""

import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_sr.cli.console import warning_lines
from bids_sr.cli.heartbeat import still
from bids_sr.cli.progress import Progress
from bids_sr.config import Settings, machine
from bids_sr.config.memory_model import for_steps_gb, largest_gb, workers_that_fit
from bids_sr.config.needs_of_classes import needs
from bids_sr.config.plugin import Plugin
from bids_sr.io.atomic_files import write_whole
from bids_sr.preflight.pace import pace_now
from bids_sr.version import __version__

if TYPE_CHECKING:
    from niworkflows.engine.workflows import LiterateWorkflow

    from bids_sr.execution.execute import RunOutcome
    from bids_sr.preflight import Plan


def run_participants(settings: Settings, plan: "Plan", say: Any) -> "RunOutcome":
    """Build the graph of a plan without problems, run it, and write citations and reports; `say` prints one line."""
    from bids_sr.execution.usage import limit_threads

    limit_threads()
    from bids_sr.execution.execute import RunOutcome, configure_nipype, execute

    log_dir = settings.paths.output_dir / "logs" / settings.run.run_uuid
    verbose, at_first = settings.run.verbosity > 0, settings.run.stop_on_first_crash
    configure_nipype(crash_dir=log_dir, stop_on_first_crash=at_first, verbose=verbose)
    outcome = RunOutcome()
    if not settings.run.reports_only:
        with still(say, "building the graph of steps"):
            workflow = _prepare(settings, plan, log_dir)
        if settings.run.boilerplate_only:
            return outcome
        share = _share(settings, plan, say)
        progress = Progress(nodes_that_run(workflow), plan, say, slower=pace_now(plan.estimate.processors).slower)
        try:
            with contextlib.closing(progress):
                usage = log_dir / "resources.tsv" if settings.run.resource_monitor else None
                plugin = Plugin.from_toml(file) if (file := settings.resources.use_plugin) else Plugin()
                outcome = execute(
                    workflow, **share, crash_dir=log_dir, progress=progress, usage_file=usage, plugin=plugin
                )
        except BaseException:  # the call that resumes does not repeat the steps, nor what they warned of
            for line in warning_lines(log_dir):
                print(line, flush=True)
            raise
    say("reports")
    labels = [subject.label for subject in plan.subjects]
    if not settings.run.reports_only:
        for label in labels:
            write_whole(_last_run(log_dir.parent, label), f"{log_dir.name}\n")
    from bids_sr.reports.participants_page import build_report, write_index
    from bids_sr.steps.figures import declared

    logs = {label: logs_of_outputs(log_dir.parent, label, default=log_dir) for label in labels}
    command = " ".join(sys.argv)
    out = settings.paths.output_dir
    with still(say, "reports"):
        reports = tuple(
            build_report(out, label, shown=declared(), run_uuid=own.name, log_dir=own, command=command, beside=labels)
            for label, own in logs.items()
        )
        if "SLURM_ARRAY_TASK_ID" not in os.environ:  # of thousands of tasks each would read the outputs of all
            write_index(out)
    return dataclasses.replace(outcome, reports=reports)


def nodes_that_run(workflow: Any) -> list[str]:
    """Full names of the nodes that the scheduler will start: nipype takes those out that only hand on fields."""
    from nipype.interfaces.utility import IdentityInterface

    names = workflow.list_node_names()
    run = (name for name in names if not isinstance(workflow.get_node(name).interface, IdentityInterface))
    return [f"{workflow.name}.{name}" for name in run]


def _share(settings: Settings, plan: "Plan", say: Any) -> dict[str, Any]:
    """Processors and memory of the steps: what is given, less what the program and waiting workers hold."""
    from bids_sr.bids.headers import sizes_of

    resources = settings.resources
    wanted, given = resources.nprocs or 1, resources.mem_gb or machine.memory_gb()
    sizes = sizes_of(plan.subjects, settings)
    fit = workers_that_fit(given, wanted, largest_gb(needs(sizes), sizes))
    workers = max(1, fit, resources.omp_nthreads or 1)
    if workers < wanted and resources.use_plugin is None:
        say(f"{given:.1f} GB of memory let {workers} of {wanted} processors be used")
    gpu = resources.device != "cpu" and bool(settings.superres.learned) and machine.has_gpu()
    return {"nprocs": workers, "mem_gb": for_steps_gb(given, workers), "has_gpu": gpu}


def _prepare(settings: Settings, plan: "Plan", log_dir: Path) -> "LiterateWorkflow":
    """Build the graph and write what describes the output as a whole."""
    from bids_sr.bids import Findings
    from bids_sr.bids.precomputed import open_derivatives
    from bids_sr.interfaces.dataset_description import write_dataset
    from bids_sr.reports.text.methods_text import write_citations
    from bids_sr.workflows.base import init_bids_sr_wf, methods_text

    workflow = init_bids_sr_wf(
        settings=settings, subjects=plan.subjects, contrasts=plan.contrasts, series_of=plan.series_of,
        unsplit=plan.unsplit, notices=[str(notice) for notice in plan.warnings], version=__version__,
    )  # fmt: skip
    output_dir = settings.paths.output_dir
    bids_dir, given = settings.paths.bids_dir, settings.preprocessing.derivatives
    links = {each.name: each.root for each in open_derivatives(given, bids_dir, Findings())}
    write_dataset(output_dir, bids_dir=bids_dir, version=__version__, links=links)
    text = methods_text(workflow)
    for folder in (log_dir, output_dir):
        write_citations(text, folder)
    if settings.run.write_graph:
        dot = str(log_dir / "graph.dot")
        workflow.write_graph(dotfilename=dot, graph2use="colored", format="svg", simple_form=True)
    return workflow


def _last_run(logs: Path, label: str) -> Path:
    """Names the last run that made anything of a participant; names of logs follow a clock that may be set."""
    return logs / "latest" / f"sub-{label}.txt"


def logs_of_outputs(logs: Path, label: str, *, default: Path) -> Path:
    """Logs of the run that made the outputs of a participant: its settings and crash files are theirs.

    Parameters
    ----------
    logs : ``logs`` of the output directory
    default : returned where no run has left anything in it
    """
    noted = _last_run(logs, label)
    if noted.is_file() and (named := logs / noted.read_text(encoding="utf-8").strip()).is_dir():
        return named
    made = sorted(path.parent for path in logs.glob("*/CITATION.md"))  # of an earlier version
    return made[-1] if made else default
