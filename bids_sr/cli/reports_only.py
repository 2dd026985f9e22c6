"""``--reports-only``: the reports of completed outputs, without data set and working directory."""

from collections.abc import Sequence
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.survey.notices import InputError, input_error, judge, problem


def list_rebuilt_reports(settings: Settings) -> list[str]:
    """Return the labels of the participants whose reports are rebuilt, all or as selected.

    Raises `InputError` for outputs of other programs or versions, and for participants without
    figures.
    """
    from bids_sr.report.index_page import participants_with_figures
    from bids_sr.survey.preflight.directories import judge_output_mount, judge_owner
    from bids_sr.survey.preflight.output_links import judge_links

    output_dir, requested = settings.paths.output_dir, settings.selection.participant_label
    problems = [*judge_output_mount(output_dir)]
    if not problems:
        problems += judge((judge_owner,), settings)
        problems += judge_links(settings, labels=requested or None)
        available = participants_with_figures(output_dir)
    if problems:
        raise InputError(problems)
    if not available:
        raise input_error(
            output_dir,
            "--reports-only rebuilds the reports from the figures of an earlier run, but the"
            " output directory does not contain any figures",
            "Specify the output directory of an earlier run, or omit --reports-only.",
        )
    problems = [
        problem(
            f"sub-{label}",
            f"{output_dir} contains no figures of this participant",
            f"Choose from {', '.join(available)}.",
        )
        for label in requested
        if label not in available
    ]
    if problems:
        raise InputError(problems)
    return list(requested) or available


def rebuild_reports(settings: Settings, labels: Sequence[str]) -> tuple[Path, ...]:
    """Write the reports of participants and the index page, and return the reports.

    Raises `UsageError` if a run is working on one of the participants.
    """
    from bids_sr.config.lock import output_lock
    from bids_sr.report.index_page import write_index
    from bids_sr.report.participants_page import write_participants
    from bids_sr.workflows.figure_declarations import figure_declarations

    output_dir = settings.paths.output_dir
    with output_lock(output_dir, None, participants=labels, run_uuid=settings.run.run_uuid):
        reports = write_participants(
            output_dir,
            labels,
            declarations=figure_declarations(),
            log_dir=output_dir / "logs",
            sessions=settings.run.aggregate_session_reports,
        )
        write_index(output_dir)
    return reports
