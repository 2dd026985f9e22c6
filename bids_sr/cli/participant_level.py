"""Participant level: from a plan without problems to derivatives and reports."""

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.cli.console import format_item
from bids_sr.cli.heartbeat import report_running
from bids_sr.cli.messages import print_line, show
from bids_sr.cli.progress import Progress
from bids_sr.cli.stages import estimate_with_time, make_time_function
from bids_sr.config import Settings, machine
from bids_sr.config.plugin import Plugin
from bids_sr.config.settings import analysis_digest
from bids_sr.engine.memory import SHARED_GB, WORKER_GB, for_steps_gb, step_gb, workers_that_fit
from bids_sr.engine.step import Stage
from bids_sr.engine.step_memory import find_largest_gb
from bids_sr.io.atomic_files import read_json, write_text
from bids_sr.io.earlier_files import EARLIER, move_earlier_files
from bids_sr.io.notices import Notice, record
from bids_sr.io.region_names import find_atlas
from bids_sr.survey.preflight.pace import measure_slowdown
from bids_sr.survey.preflight.plan_text import cost_text
from bids_sr.version import __version__

if TYPE_CHECKING:
    from bids_sr.engine.execute import RunOutcome
    from bids_sr.engine.graph import Graph
    from bids_sr.engine.nodes import Node
    from bids_sr.engine.records import FinishedSteps
    from bids_sr.survey.preflight.plan import Plan

_MAX_NAMES = 5  # number of files of earlier calls that are named


def run_participants(settings: Settings, plan: "Plan") -> "RunOutcome":
    """Run the graph of a plan without problems, and write citations and reports."""
    from bids_sr.engine.usage import limit_threads

    limit_threads()
    from bids_sr.engine.execute import RunOutcome
    from bids_sr.engine.records import FinishedSteps
    from bids_sr.report.call_description import find_package_versions
    from bids_sr.report.methods_text import write_citations
    from bids_sr.report.run_notes import record_run
    from bids_sr.structural.kept_split import keep_split
    from bids_sr.workflows.participant import make_graph

    output_dir, run = settings.paths.output_dir, settings.run
    log_dir, digest = settings.log_dir, analysis_digest(settings)
    labels = [subject.label for subject in plan.subjects]
    with report_running("Building the workflow"):
        graph = make_graph(settings, plan, __version__, find_package_versions())
        finished_steps = FinishedSteps(graph, settings.paths.work_dir or Path())
        if not run.boilerplate_only:
            _describe_exported_series(settings, plan)
        _describe_results(settings, plan)
        keep_split(settings, plan.split_subjects)
    if run.boilerplate_only:
        write_citations(
            graph.methods_text(finished_steps.finished_folder()),
            output_dir,
            log_dir,
            html=not run.md_only_boilerplate,
        )
        return RunOutcome(reports=(output_dir / "CITATION.md",))
    if run.clean_workdir and settings.paths.work_dir is not None:
        # folders of other participants are kept, because other calls may use them
        for scope in graph.scope.inner:
            if scope.participant in labels:
                folder = settings.paths.work_dir / graph.scope.name / scope.name
                shutil.rmtree(folder, ignore_errors=True)
    if settings.paths.version_file is not None:
        write_text(settings.paths.version_file, __version__)
    outcome = _run_remaining(graph, finished_steps, settings, plan)
    has_changed = record_run(log_dir, labels, settings=digest)
    print_line("Writing the reports")
    with report_running("Writing the reports"):
        reports = _write_reports(settings, labels, digest, has_changed=has_changed)
    # written again, because runs may only contain zero-filled series
    _describe_results(settings, plan)
    _describe_exported_series(settings, plan)
    return dataclasses.replace(outcome, reports=reports)


def _describe_results(settings: Settings, plan: "Plan") -> None:
    """Write the description of the results, and of the atlas if outputs refer to it."""
    from bids_sr.io.dataset_description import write_atlas, write_dataset
    from bids_sr.workflows.participant import stores_atlas

    write_dataset(
        settings.paths.output_dir,
        bids_dir=settings.paths.bids_dir,
        version=__version__,
        links=_list_source_links(plan),
    )
    if stores_atlas(settings, plan):
        atlas = find_atlas(settings.activation.atlas)
        write_atlas(settings.paths.output_dir, atlas.name, atlas.description)


def _describe_exported_series(settings: Settings, plan: "Plan") -> None:
    """Write the descriptions of the data sets with one series."""
    from bids_sr.io.dataset_description import write_series_dataset
    from bids_sr.workflows.participant import list_primary_series

    for series in list_primary_series(settings, plan, __version__):
        write_series_dataset(
            settings.paths.output_dir,
            series,
            bids_dir=settings.paths.bids_dir,
            version=__version__,
            links=_list_source_links(plan),
        )


def _list_source_links(plan: "Plan") -> dict[str, Path]:
    """Return the derivatives that a plan uses, by their name in URIs."""
    return {source.name: source.root for source in plan.sources}


def _run_remaining(
    graph: "Graph",
    finished_steps: "FinishedSteps",
    settings: Settings,
    plan: "Plan",
) -> "RunOutcome":
    """Run the remaining steps, and write records, figures and methods text."""
    from bids_sr.engine.execute import RunOutcome
    from bids_sr.report.methods_text import write_citations
    from bids_sr.report.participants_page import mark_unfinished
    from bids_sr.report.results_paragraph import results_markdown

    output_dir, log_dir = settings.paths.output_dir, settings.log_dir
    outcome, labels = RunOutcome(), [subject.label for subject in plan.subjects]
    if remaining := finished_steps.unfinished_steps():
        mark_unfinished(output_dir, labels)
        finished_steps.write_requests(remaining)
        if reused := [node for node in graph.settings if node not in remaining]:
            reused_stages = {node.step.stage for node in reused}
            stages = [stage for stage in Stage if stage in reused_stages]
            text = f"{len(reused)} of {len(graph.settings)} steps of earlier calls"
            show(format_item("reused", f"{text}: {'; '.join(stages)}"))
        with _lock_shared_steps(settings, plan, remaining):
            outcome = _execute_steps(graph, finished_steps, settings, plan, remaining)
        if not (outcome.crashes or outcome.missing):
            finished_steps.write_requests()
    else:
        print_line("All steps were already completed; nothing needs to be recomputed")
    finished_steps.repeat_warnings(log_dir)
    # not earlier, because a stopped call has not applied these methods
    write_citations(
        graph.methods_text(finished_steps.finished_folder())
        + _describe_unapplied(settings, plan)
        + results_markdown(output_dir),
        output_dir,
        log_dir,
        html=not settings.run.md_only_boilerplate,
    )
    if not (outcome.crashes or outcome.missing):
        record(log_dir, _move_earlier_files(settings, finished_steps.list_stored_files()))
    return outcome


def _lock_shared_steps(
    settings: Settings, plan: "Plan", remaining: "Collection[Node]"
) -> contextlib.AbstractContextManager[None]:
    """Lock the training participants that were not selected, if they or a training must run."""
    from bids_sr.config.lock import output_lock

    labels = {subject.label for subject in plan.subjects}
    if all(node.scope.participant in labels for node in remaining):
        return contextlib.nullcontext()
    others = [member.label for member in plan.training_subjects if member.label not in labels]
    paths, run_uuid = settings.paths, f"{settings.run.run_uuid}-training"
    return output_lock(paths.output_dir, paths.work_dir, participants=others, run_uuid=run_uuid)


def _execute_steps(
    graph: "Graph",
    finished_steps: "FinishedSteps",
    settings: Settings,
    plan: "Plan",
    remaining: "Collection[Node]",
) -> "RunOutcome":
    """Run the remaining steps of a graph, with the first page; the result has no reports."""
    from bids_sr.engine.execute import configure_nipype, execute
    from bids_sr.engine.nipype_workflow import make_workflow

    run, resources = settings.run, settings.resources
    configure_nipype(
        stop_on_first_crash=run.stop_on_first_crash,
        verbose=run.verbose > 0,
    )
    cost = estimate_with_time(plan, settings, remaining)
    show(format_item("estimate", cost_text(dataclasses.replace(plan, estimate=cost), settings)))
    with report_running("Preparing the steps"):
        workflow = make_workflow(
            graph,
            base_dir=settings.paths.work_dir or Path(),
            need_gb=lambda memory_need: step_gb(memory_need, cost.sizes),
            seconds=make_time_function(plan, settings, cost.sizes),
        )
    n_workers, steps_gb = _size_worker_pool(settings, find_largest_gb(cost.sizes))
    progress = Progress(
        workflow._create_flat_graph(),
        print_line,
        write_page=partial(_write_first_page, settings, finished_steps),
        processors=n_workers,
        slower=measure_slowdown(),
        stream=sys.stdout,
    )
    plugin = Plugin.from_file(resources.use_plugin) if resources.use_plugin else Plugin()
    with contextlib.closing(progress):
        outcome = execute(
            workflow,
            nprocs=n_workers,
            mem_gb=steps_gb,
            crash_dir=settings.log_dir,
            progress=progress,
            jobs=plugin if plugin.is_cluster else None,
            has_gpu=resources.device != "cpu"
            and bool(settings.superres.learned)
            and machine.has_gpu(),
        )
    return dataclasses.replace(outcome, reported_runs=frozenset(progress.reported_runs))


def _write_first_page(settings: Settings, finished_steps: "FinishedSteps", label: str) -> None:
    """Write the page of a participant with the first verdict, while the rest is computed."""
    from bids_sr.report.participants_page import write_first_page
    from bids_sr.workflows.figure_declarations import figure_declarations

    write_first_page(
        settings.paths.output_dir,
        label,
        declarations=figure_declarations(),
        log_dir=settings.log_dir,
        stored_files=finished_steps.list_stored_files(finished_steps.finished_steps()),
        command=" ".join(sys.argv),
        sessions=settings.run.aggregate_session_reports,
    )


def _size_worker_pool(settings: Settings, largest_step_gb: float) -> tuple[int, float]:
    """Choose the number of workers that fit into the memory, and print a line if it is reduced.

    `largest_step_gb` is the memory of the largest step. Returns the number, and the memory that
    remains for the steps of the workers (GB).
    """
    resources = settings.resources
    processes, memory_gb = resources.nprocs or 1, resources.mem_gb or machine.memory_gb()
    # available resources without the program and waiting workers
    worker_gb = WORKER_GB
    if resources.mem_gb is None and machine.sums_resident():
        worker_gb += SHARED_GB
    n_workers = max(
        workers_that_fit(memory_gb, processes, largest_step_gb, worker_gb),
        resources.omp_nthreads or 1,
    )
    if n_workers < processes and resources.use_plugin is None:
        print_line(
            f"Only {n_workers} of {processes} processors can be used with {memory_gb:.1f} GB of"
            " memory"
        )
    return n_workers, for_steps_gb(memory_gb, n_workers, worker_gb)


def _describe_unapplied(settings: Settings, plan: "Plan") -> str:
    """Return methods text on runs that a method was not applied to; "" if there are none."""
    from bids_sr.report.stored_verdicts import VERDICT_SUFFIX

    runs_by_method: dict[str, list[str]] = {}
    for run in plan.runs:
        folder = settings.paths.output_dir / f"sub-{run.entities['subject']}"
        for path in folder.rglob(f"{run.stem}{VERDICT_SUFFIX}"):
            for method in read_json(path).get("not_applied", ()):
                runs_by_method.setdefault(method, []).append(run.stem)
    return "".join(
        f"\n{method} was not applied to {', '.join(runs)}, which were zero filled instead.\n"
        for method, runs in runs_by_method.items()
    )


def _move_earlier_files(settings: Settings, stored_files: set[Path]) -> list[Notice]:
    """Move outdated files of earlier calls for these runs, and return a notice per run."""
    from bids_sr.survey.bids.label_lists import list_some

    output_dir, selection = settings.paths.output_dir, settings.selection
    is_partial = selection.session_label or selection.run_id or selection.bids_filter_file
    names_by_run = move_earlier_files(output_dir, stored_files, with_all_runs=not is_partial)
    return [
        Notice(
            what=str(output_dir),
            why="files from a previous bids-sr command with other settings were moved to"
            f" {EARLIER}: {list_some(names, _MAX_NAMES)}. Delete these files if they are no longer"
            " needed.",
            level="warning",
            subject=run.removeprefix("sub-").partition("_")[0],
            run=run,
            code="step",
        )
        for run, names in names_by_run.items()
    ]


def _write_reports(
    settings: Settings, labels: Sequence[str], digest: str, *, has_changed: bool
) -> tuple[Path, ...]:
    """Write the reports of participants, and the index page if necessary; return the reports.

    `digest` is of the settings. `has_changed` is whether the notes on the runs have changed.
    """
    from bids_sr.report.index_page import INDEX, write_index
    from bids_sr.report.participants_page import write_participants
    from bids_sr.report.run_notes import is_last_call
    from bids_sr.workflows.figure_declarations import figure_declarations

    output_dir = settings.paths.output_dir
    reports = write_participants(
        output_dir,
        labels,
        declarations=figure_declarations(),
        log_dir=settings.log_dir,
        command=" ".join(sys.argv),
        sessions=settings.run.aggregate_session_reports,
    )
    needs_index = has_changed or not (output_dir / INDEX).exists()
    if needs_index and is_last_call(output_dir, settings.paths.bids_dir, digest):
        write_index(output_dir)
    return reports
