"""The participant level: from a plan without problems to derivatives and a report for every participant."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_sr import __version__
from bids_sr.config import Settings

if TYPE_CHECKING:
    from niworkflows.engine.workflows import LiterateWorkflow

    from bids_sr.preflight import Plan
    from bids_sr.workflows.execute import RunOutcome

STAGES = {
    "anat_wf": "anatomy: bias field, brain mask, template, atlas",
    "pair": "T2* pair: register",
    "train": "training on the T2* pair",
    "motion_wf": "head motion and slice timing",
    "registration": "registration of the run",
    "series": "super-resolution and baselines",
    "maps": "activation maps",
    "comparison": "comparison of the series",
    "figures": "figures",
}


class StageLines:
    """Say once for each participant or run when a stage begins; called by the scheduler for every node."""

    def __init__(self, say: Any) -> None:
        self._say = say
        self._told: set[tuple[str, str]] = set()

    def __call__(self, node: Any, status: str) -> None:
        """Take note that `node` starts, ended or failed."""
        if status == "exception":
            self._say(f"failed: {node.fullname}")
        if status != "start":
            return
        parts = node.fullname.split(".")
        stage = next((key for part in parts[2:] for key in STAGES if part.startswith(key)), None)
        if stage is None:
            return
        where = parts[1].removesuffix("_wf").replace("_", "-", 1)
        if len(parts) > 3 and parts[2].startswith("sub_"):
            where = parts[2].removesuffix("_wf")
        if (where, stage) not in self._told:
            self._told.add((where, stage))
            self._say(f"{where}: {STAGES[stage]}")


def run_participants(settings: Settings, plan: "Plan", say: Any) -> "RunOutcome":
    """Build the graph, run it, and write citations and reports; `say` prints one line.

    Parameters
    ----------
    settings : resolved settings
    plan : from preflight, without problems
    say : called with one line of text for each stage
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # what a node may take beyond one thread it asks for itself
    from bids_sr.workflows.execute import RunOutcome, configure_nipype, execute

    log_dir = settings.paths.output_dir / "logs" / settings.run.run_uuid
    configure_nipype(
        crash_dir=log_dir,
        stop_on_first_crash=settings.run.stop_on_first_crash,
        resource_monitor=settings.run.resource_monitor,
        verbose=settings.run.verbosity > 0,
    )
    outcome = RunOutcome()
    if not settings.run.reports_only:
        workflow = _prepare(settings, plan, log_dir)
        if settings.run.boilerplate_only:
            return outcome
        outcome = execute(
            workflow,
            nprocs=settings.resources.nprocs or 1,
            mem_gb=settings.resources.mem_gb or _free_gigabytes(),
            crash_dir=log_dir,
            progress=StageLines(say),
        )
    say("reports")
    shown = _logs_of_outputs(log_dir) if settings.run.reports_only else log_dir
    reports = tuple(_report(settings, subject.label, shown) for subject in plan.subjects)
    return RunOutcome(crash_files=outcome.crash_files, missing=outcome.missing, reports=reports)


def _prepare(settings: Settings, plan: "Plan", log_dir: Path) -> "LiterateWorkflow":
    """Build the graph and write what describes the output as a whole."""
    from bids_sr.interfaces.dataset import write_dataset
    from bids_sr.reports.methods_text import write_citations
    from bids_sr.workflows.base import init_bids_sr_wf, methods_text

    workflow = init_bids_sr_wf(
        settings=settings,
        subjects=plan.subjects,
        contrasts=plan.contrasts,
        series_of=plan.series_of,
        notices=[str(notice) for notice in plan.warnings],
        version=__version__,
    )
    output_dir = settings.paths.output_dir
    write_dataset(output_dir, bids_dir=settings.paths.bids_dir, version=__version__)
    text = methods_text(workflow)
    for folder in (log_dir, output_dir):
        write_citations(text, folder)
    if settings.run.write_graph:
        workflow.write_graph(
            dotfilename=str(log_dir / "graph.dot"), graph2use="colored", format="svg", simple_form=True
        )
    return workflow


def _logs_of_outputs(log_dir: Path) -> Path:
    """Logs of the last run that made anything: its settings and crash files are those of the outputs."""
    made = sorted(path.parent for path in log_dir.parent.glob("*/CITATION.md"))
    return made[-1] if made else log_dir


def _report(settings: Settings, label: str, log_dir: Path) -> Path:
    from bids_sr.reports.subject import build_report

    return build_report(
        settings.paths.output_dir,
        label,
        run_uuid=log_dir.name,
        log_dir=log_dir,
        command=" ".join(sys.argv),
    )


def _free_gigabytes() -> float:
    """Memory that is available now (GB); what the scheduler may hand out where the user sets no limit."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / 1e9 * 0.9
    return 4.0
