"""``bids-sr report OUTPUT_DIR``: rebuild the pages of finished outputs, and open them.

The pages are assembled from the existing figures.

Needs the output directory alone, neither the data set nor the working directory.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from bids_sr.cli.console import item
from bids_sr.cli.options import Parser
from bids_sr.config import UsageError, readers
from bids_sr.config.groups import sessions_option
from bids_sr.config.section import Checked, argument, option
from bids_sr.frozen import frozen


@frozen
class _ReportOptions(Checked):
    """What ``bids-sr report`` is asked for."""

    output_dir: Path = argument("OUTPUT_DIR", "output directory of bids-sr")
    participant_label: tuple[str, ...] = option(
        (), "--participant-label LABEL", "participants (default: all)", type=readers.labels
    )
    aggregate_session_reports: int = sessions_option()
    open: bool = option(False, "--open", "open them in the browser")


def build_parser() -> Parser:
    """The parser."""
    about = "Rebuild the reports of finished outputs, and open them."
    return Parser("bids-sr report", about, _ReportOptions)


def main(argv: Sequence[str]) -> int:
    """Make the pages of every participant, or of those named, name them and return 0.

    Raises `UsageError` where the folder holds no outputs of bids-sr.
    """
    options = build_parser().options(argv, _ReportOptions)
    import webbrowser  # here, so that --help answers at once

    for page in _make_reports(
        options.output_dir, options.participant_label, options.aggregate_session_reports
    ):
        print(item("report", str(page)))
        if options.open and not webbrowser.open(page.as_uri()):
            print(
                item("note", f"no browser could be started; open {page} yourself"), file=sys.stderr
            )
    return 0


def _make_reports(output_dir: Path, labels: Sequence[str], sessions: int) -> list[Path]:
    """Write ``sub-XX.html`` of each participant and list the pages.

    The group's page, where there is one, is listed unchanged.

    Raises `UsageError` where a participant has no figures, or none has.
    """
    from bids_sr.report.participants_page import (
        participants_with_figures,
        write_index,
        write_participants,
    )
    from bids_sr.steps.figures import declared

    root = output_dir.absolute()
    there = participants_with_figures(root)
    wanted = [label.removeprefix("sub-") for label in labels] or there
    if not there:
        raise UsageError(
            str(output_dir), "it holds no figures of bids-sr", "give the output directory of a run"
        )
    for label in wanted:
        if label not in there:
            fix = f"choose among {', '.join(there)}"
            raise UsageError(
                f"sub-{label}", f"{output_dir} has no figures of this participant", fix
            )
    written = write_participants(
        root, wanted, shown=declared(), log_dir=root / "logs", sessions=sessions
    )
    write_index(root)
    group = root / "group.html"
    return [*written, *([group] if group.is_file() and not labels else [])]
