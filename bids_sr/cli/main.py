"""``bids-sr``: command line, checks, processing, verification of outputs, and exit code.

======  ====================================================================
code    meaning
======  ====================================================================
0       done; skipped runs are listed
1       a step crashed, an output is missing, or a disk is full; failures are listed
2       the command line or the data set is invalid, or another run is using it, or a run
        would be skipped with ``--strict``; no participant was processed and no group
        results were written
70      unexpected error; its traceback is printed
130     interrupted (SIGINT, SIGTERM or SIGHUP); the same command resumes the run
======  ====================================================================
"""

import dataclasses
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bids_sr.cli.config_text import make_config_lines
from bids_sr.cli.console import (
    format_item,
    format_notice,
    make_end_lines,
    make_start_lines,
    make_warning_lines,
)
from bids_sr.cli.exit_codes import DONE, FAILED, run_program
from bids_sr.cli.garbage_collection import collect_rarely
from bids_sr.cli.heartbeat import report_running
from bids_sr.cli.messages import print_error, print_line, show, start_log
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.io.notices import CODES, Notice, UsageError, record
from bids_sr.io.word_lists import format_count
from bids_sr.version import __version__

if TYPE_CHECKING:
    from bids_sr.engine.execute import RunOutcome
    from bids_sr.survey.preflight.plan import Plan


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bids-sr`` and return its exit code."""
    return run_program("bids-sr", _run, argv, interrupted="rerun the same command to resume")


def _run(argv: Sequence[str]) -> int:
    """Read the settings and run the requested analysis level."""
    settings = parse_settings(argv)
    import uuid  # delayed, as further imports, so that --help responds at once

    identifier = f"{time.strftime('%Y%m%d-%H%M%S')}_{uuid.uuid4()}"
    settings = settings.resolve(run_uuid=identifier)
    start_log(settings.run.verbose)
    print_line(f"bids-sr {__version__}, {settings.selection.analysis_level} level")
    _show_lines(make_config_lines(settings))
    for line in settings.summary() if settings.run.verbose else ():
        show(
            textwrap.fill(
                line, 118, initial_indent="  ", subsequent_indent=" " * 16, break_on_hyphens=False
            )
        )
    if settings.selection.analysis_level == "group":
        return _run_group_level(settings)
    if settings.run.reports_only:
        return _rebuild_reports(settings)
    return _run_participant_level(settings)


@collect_rarely()
def _run_group_level(settings: Settings) -> int:
    """Run the group level, which reads outputs of the participant level but no raw images."""
    _show_lines(
        (
            format_item("dataset", str(settings.paths.bids_dir)),
            format_item("output", str(settings.paths.output_dir)),
        )
    )
    print_line("Checking the metrics tables of the participants")
    from bids_sr.cli.group_level import find_group_inputs
    from bids_sr.config.lock import output_lock
    from bids_sr.group.output_files import describe_replaced
    from bids_sr.io.dataset_description import write_bidsignore
    from bids_sr.survey.bids.content import refuse_denied

    with refuse_denied(), report_running("Checking the metrics tables of the participants"):
        inputs = find_group_inputs(settings)
    if line := describe_replaced(settings.paths.output_dir, inputs.names, inputs.participants):
        print_line(line)
    if settings.run.dry_run:
        print_line("Plan (dry run: no files are written)")
        show(inputs.plan_text())
        return DONE
    paths, run_uuid = settings.paths, settings.run.run_uuid
    with output_lock(paths.output_dir, paths.work_dir, participants=None, run_uuid=run_uuid):
        _write_settings(settings)
        absence_notices = (
            Notice(what="group level", why=sentence, level="warning", code="left-out")
            for sentence in inputs.absent
        )
        record(settings.log_dir, absence_notices)
        write_bidsignore(paths.output_dir)
        with report_running("Group-level analysis"):
            outcome = inputs.run(settings, print_line)
    return _report_outcome(outcome, settings)


def _rebuild_reports(settings: Settings) -> int:
    """Write the reports again from stored figures, without the data set."""
    from bids_sr.cli.reports_only import list_rebuilt_reports, rebuild_reports
    from bids_sr.survey.bids.content import refuse_denied

    with refuse_denied():
        labels = list_rebuilt_reports(settings)
    if settings.run.dry_run:
        print_line("Plan (dry run: no files are written)")
        show("\n".join(f"report of sub-{label}" for label in labels))
        return DONE
    with report_running("Writing the reports"):
        reports = rebuild_reports(settings, labels)
    _show_lines(format_item("report", str(path)) for path in reports)
    print_line("Finished")
    return DONE


def _run_participant_level(settings: Settings) -> int:
    """Run the participant level."""
    plan = _check_plan(settings)
    from bids_sr.config.lock import output_lock
    from bids_sr.io.atomic_files import remove_leftovers

    if settings.run.dry_run:
        _show_dry_run(plan, settings)
        return DONE
    paths, run_uuid = settings.paths, settings.run.run_uuid
    labels = [subject.label for subject in plan.subjects]
    computes = not settings.run.boilerplate_only
    if computes:
        _start_workers_early(settings)
    with output_lock(paths.output_dir, paths.work_dir, participants=labels, run_uuid=run_uuid):
        # partially written files of killed calls in all data sets of the output
        for folder in paths.list_participant_roots():
            for label in labels:
                remove_leftovers(folder / f"sub-{label}")
        if computes:
            plan = _skip_damaged_runs(plan, settings)
        _write_settings(settings)
        if settings.evaluation.retrospective is not None:
            settings, plan = _downsample_dataset(settings, plan)
        skipped = [
            dataclasses.replace(problem, run=run, code="left-out")
            for run, problems in plan.skipped.items()
            for problem in problems
        ]
        record(settings.log_dir, (*skipped, *plan.warnings))
        from bids_sr.cli.participant_level import run_participants

        try:
            outcome = run_participants(settings, plan)
        # resuming the run repeats neither these steps nor their warnings
        except BaseException:
            _show_lines(make_warning_lines(settings.log_dir))
            raise
    return _report_outcome(outcome, settings, plan)


@collect_rarely()
def _show_dry_run(plan: "Plan", settings: Settings) -> None:
    """Show the plan of a dry run."""
    from bids_sr.cli.stages import estimate_with_time
    from bids_sr.survey.preflight.plan_text import dry_run_text

    plan = dataclasses.replace(plan, estimate=estimate_with_time(plan, settings))
    print_line(
        "Plan (dry run: no files are written; voxel values will be checked when processing starts)"
    )
    show(dry_run_text(plan, settings))


def _start_workers_early(settings: Settings) -> None:
    """Start the fork server of a first call, so that it loads while the voxels are read."""
    work_dir = settings.paths.work_dir
    is_first_call = work_dir is not None and not work_dir.exists()
    if not is_first_call or settings.resources.use_plugin is not None:
        return
    from bids_sr.engine.fork_server import start_fork_server

    start_fork_server()


def _skip_damaged_runs(plan: "Plan", settings: Settings) -> "Plan":
    """Read all voxels, and skip runs with damaged images.

    The whole call is rejected if no run remains, or with ``--strict``. A reference found
    in the data set that does not match its run is reported and not used.
    """
    from bids_sr.survey.preflight.checks import exclude_runs
    from bids_sr.survey.preflight.unfit_references import drop_unfit_references
    from bids_sr.survey.preflight.voxel_checks import check_data

    printed_warnings = set(plan.warnings)
    with report_running("Reading all images"):
        notices = check_data(
            plan,
            forced=settings.superres.force,
            search_outliers="outliers" not in settings.preprocessing.ignore,
        )
    problems = tuple(notice for notice in notices if notice.level == "error")
    plan = dataclasses.replace(plan, warnings=(*plan.warnings, *notices[len(problems) :]))
    if settings.evaluation.truth_dir is None:
        plan, problems = drop_unfit_references(plan, problems)
    remaining = plan if settings.run.strict else exclude_runs(plan, problems)
    _show_lines(
        format_notice(notice) for notice in remaining.warnings if notice not in printed_warnings
    )
    _raise_problems(problems if remaining is plan else ())
    if remaining is not plan:
        _print_skipped(
            {run: reasons for run, reasons in remaining.skipped.items() if run not in plan.skipped}
        )
    return remaining


def _write_settings(settings: Settings) -> None:
    """Write the settings to the log directory."""
    from bids_sr.io.atomic_files import write_text

    write_text(settings.log_dir / "settings.toml", settings.to_toml())


def _downsample_dataset(settings: Settings, plan: "Plan") -> tuple[Settings, "Plan"]:
    """Create and check the data set of ``--retrospective``; return its settings and plan."""
    print_line("Downsampling the data; the original series will be the high-resolution reference")
    from bids_sr.survey.bids.retrospective_plan import note_retrospective
    from bids_sr.survey.retrospective.preparation import prepare

    with report_running("Downsampling the data"):
        derived_settings = prepare(settings, plan.subjects, plan.type_order, print_line)
    derived_plan = _check_plan(derived_settings)
    notices = note_retrospective(plan.subjects, settings)
    skipped_runs = {**plan.skipped, **derived_plan.skipped}
    return derived_settings, dataclasses.replace(
        derived_plan, skipped=skipped_runs, warnings=(*notices, *derived_plan.warnings)
    )


@collect_rarely()
def _check_plan(settings: Settings) -> "Plan":
    """Return the plan from headers and tables; raise `UsageError` with all problems."""
    from bids_sr.survey.preflight.estimates import check_machine
    from bids_sr.workflows.call_checks import check

    with report_running("Checking the dataset"):
        plan = check(settings)
    _raise_problems((*plan.problems, *check_machine(plan, settings)))
    if not settings.run.dry_run:  # otherwise included in the plan that a dry run shows
        _show_lines(make_start_lines(plan, settings))
        _print_skipped(plan.skipped)
    return plan


def _raise_problems(problems: "Sequence[Notice]") -> None:
    """Raise `UsageError` if there are problems."""
    from bids_sr.survey.preflight.plan_text import format_problems

    if problems:
        rejection = UsageError(format_problems(problems))
        rejection.problems = tuple(problems)
        raise rejection


def _print_skipped(skipped_runs: "Mapping[str, Sequence[Notice]]") -> None:
    """Print the skipped runs, with reason and remedy."""
    from bids_sr.survey.preflight.exclusions import describe_skipped_runs

    if skipped_runs:
        print_error("\n".join(describe_skipped_runs(skipped_runs)))


def _report_outcome(outcome: "RunOutcome", settings: Settings, plan: "Plan | None" = None) -> int:
    """Print outputs, verdicts, crashes and missing files, and return the exit code."""
    is_text_only = settings.run.boilerplate_only
    pages = (
        format_item("methods" if is_text_only else "report", str(path)) for path in outcome.reports
    )
    _show_lines(pages if plan is None or is_text_only else make_end_lines(plan, settings, outcome))
    # further crashes are consequences
    if full_disk := next(
        (crash_notice for crash_notice in outcome.crashes if crash_notice.code == "full"), None
    ):
        need_text = (
            ""
            if plan is None
            else (
                f"\nIn total, about {plan.estimate.output_gb:.1f} GB are required for the"
                f" outputs and {plan.estimate.work_gb:.1f} GB for the working directory."
            )
        )
        print_error(f"bids-sr: {CODES['full'][0]}: {full_disk}{need_text}")
        return FAILED
    for crash in outcome.crashes:
        print_error(f"{CODES[crash.code][0]}: {crash}")
    for missing in outcome.missing:
        print_error(f"missing: {missing}")
    if outcome.crashes or outcome.missing:
        print_error(
            "bids-sr: Some steps failed. Rerun the same command to retry the failed steps."
        )
        return FAILED
    if plan is not None and plan.skipped:
        from bids_sr.survey.preflight.exclusions import describe_skipped_runs

        _show_lines(describe_skipped_runs(plan.skipped))
        print_line(f"Finished. Skipped for the reasons above: {_count_skipped(plan)}")
        return DONE
    print_line("Finished")
    return DONE


def _show_lines(lines: "Iterable[str]") -> None:
    """Print the items of a list as soon as each is known."""
    for line in lines:
        show(line)


def _count_skipped(plan: "Plan") -> str:
    """Return the number of skipped runs, and the participants that have no other runs."""
    processed_labels = {subject.label for subject in plan.subjects}
    labels = {problem.subject for problems in plan.skipped.values() for problem in problems}
    names = [f"sub-{label}" for label in sorted(labels - processed_labels)]
    all_text = f", including all runs of {', '.join(names)}" if names else ""
    return f"{format_count(len(plan.skipped), 'run')}{all_text}"
