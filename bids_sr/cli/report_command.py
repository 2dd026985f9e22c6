"""``bids-sr report OUTPUT_DIR``: rebuild the reports of completed outputs, and open them.

Reports are assembled from existing figures, without data set and working directory.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from bids_sr.cli.console import format_item
from bids_sr.cli.options import Parser
from bids_sr.config import UsageError, readers
from bids_sr.config.section import OptionSection, argument, option
from bids_sr.config.sections.run import sessions_option
from bids_sr.frozen import frozen


@frozen
class _ReportOptions(OptionSection):
    """Options of ``bids-sr report``."""

    output_dir: Path = argument("OUTPUT_DIR", "output directory of bids-sr")
    participant_label: tuple[str, ...] = option(
        (),
        "--participant-label LABEL",
        "labels of the participants whose reports are rebuilt (default: all participants)",
        type=readers.parse_labels,
    )
    aggregate_session_reports: int = sessions_option()
    open: bool = option(False, "--open", "open the reports in a web browser")


def report_parser() -> Parser:
    """Return the parser of ``bids-sr report``."""
    description = (
        "Rebuild the reports of completed outputs and optionally open them in a web browser."
    )
    return Parser("bids-sr report", description, _ReportOptions)


def report_main(argv: Sequence[str]) -> int:
    """Rebuild and list the reports of all or selected participants, and return the exit code 0.

    Raises
    ------
    UsageError
        If the directory does not contain outputs of bids-sr.
    """
    options = report_parser().options(argv, _ReportOptions)
    import webbrowser  # imported here so that --help responds at once

    for page in _make_reports(
        options.output_dir, options.participant_label, options.aggregate_session_reports
    ):
        print(format_item("report", str(page)))
        if options.open and not webbrowser.open(page.as_uri()):
            print(
                format_item("note", f"no web browser could be started; open {page} manually"),
                file=sys.stderr,
            )
    return 0


def _make_reports(output_dir: Path, labels: Sequence[str], sessions: int) -> list[Path]:
    """Write ``sub-XX.html`` for each participant and return the paths of the reports.

    If all participants are selected, an existing group report is included unchanged.

    Raises
    ------
    UsageError
        If a requested participant, or all participants, have no figures.
    """
    from bids_sr.report.index_page import participants_with_figures, write_index
    from bids_sr.report.participants_page import write_participants
    from bids_sr.steps.figures import figure_declarations

    root = output_dir.absolute()
    available = participants_with_figures(root)
    labels_of_call = [label.removeprefix("sub-") for label in labels] or available
    if not available:
        raise UsageError(
            str(output_dir),
            "the directory contains no figures written by bids-sr",
            "specify the output directory of a bids-sr run",
        )
    for label in labels_of_call:
        if label not in available:
            fix = f"choose one of {', '.join(available)}"
            raise UsageError(
                f"sub-{label}", f"{output_dir} contains no figures for this participant", fix
            )
    pages = write_participants(
        root,
        labels_of_call,
        declarations=figure_declarations(),
        log_dir=root / "logs",
        sessions=sessions,
    )
    write_index(root)
    group = root / "group.html"
    return [*pages, *([group] if group.is_file() and not labels else [])]
