"""Page ``index.html``: all participants, with the verdict of each run."""

import re
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from bids_sr.report.assembler import plain_section, write_page
from bids_sr.report.markup import join, table
from bids_sr.report.run_notes import list_noted_labels, read_run_summaries
from bids_sr.report.run_summaries import (
    COLUMN_HEADS,
    NOT_EVALUATED,
    NUMERIC_COLUMNS,
    PERMANENT_COLUMNS,
    RunSummary,
)

INDEX = "index.html"
INDEX_LINK = {"All participants": INDEX}
_GROUP_PAGE = re.compile(r"group(?:_ses-(?P<session>[^_]+))?(?P<scans>_scans)?\.html")
_MAX_TRIES = 5


def write_index(root: Path) -> Path:
    """Write ``index.html`` from the outputs below `root`, and return its path.

    Runs are found by their verdicts (see `run_notes`); participants without verdicts are listed as
    not evaluated. If another process changes the outputs while the page is written, the page is
    written again.
    """
    previous = None
    for _ in range(_MAX_TRIES):
        if (reports := _collect_reports(root)) == previous:
            break
        _write_page(root, reports)
        previous = reports
    return root / INDEX


def _collect_reports(root: Path) -> dict[str, tuple[bool, list[RunSummary]]]:
    """Return whether each participant has a report, and summaries of the runs, sorted by label."""
    return {
        label: ((root / f"sub-{label}.html").is_file(), read_run_summaries(root, label))
        for label in sorted({*participants_with_figures(root), *list_noted_labels(root)})
    }


def participants_with_figures(root: Path) -> list[str]:
    """Return sorted labels (without ``sub-``) of participants that have or will have a report."""
    return sorted(path.parent.name.removeprefix("sub-") for path in root.glob("sub-*/figures"))


def _write_page(root: Path, reports: Mapping[str, tuple[bool, list[RunSummary]]]) -> None:
    """Write the index page with all runs of the participants."""
    rows: list[RunSummary] = []
    pages = {path.name for path in root.glob("sub-*_ses-*.html")}
    for label, (has_report, run_summaries) in reports.items():
        participant_cell = (
            render_link(f"sub-{label}.html", f"sub-{label}")
            if has_report
            else f"sub-{label} (no report)"
        )
        for summary in run_summaries or [{"run": "–", "verdict": NOT_EVALUATED}]:
            run = summary["run"]
            page = f"sub-{label}_{run.partition('_')[0]}.html"  # if the session has its own page
            run_cell = render_link(page, run) if page in pages else run
            rows.append({**summary, "participant": participant_cell, "run": run_cell})
    columns = [
        head
        for head in COLUMN_HEADS
        if head in PERMANENT_COLUMNS or any(row.get(head) for row in rows)
    ]
    cells = [[row.get(head) or "–" for head in columns] for row in rows]
    text_columns = {index for index, head in enumerate(columns) if head not in NUMERIC_COLUMNS}
    heads = [(head, COLUMN_HEADS[head]) for head in columns]
    group_links = []
    for path in sorted(root.glob("group*.html")):
        if match := _GROUP_PAGE.fullmatch(path.name):
            kind = "structural scans" if match["scans"] else "accuracy"
            session = f", session {match['session']}" if match["session"] else ""
            link = render_link(path.name, f"Group results: {kind}{session}")
            group_links.append(Markup("<p>{}</p>").format(link))
    run_table = table("Runs", heads, cells, names=2, texts=text_columns)
    content = join([*group_links, run_table])
    sections = [plain_section("participants", "Participants", content)]
    write_page(root / INDEX, title="bids-sr: participants", sections=sections)


def render_link(url: str, text: str) -> Markup:
    """Return a link to a file, as HTML; `url` is relative to the page."""
    return Markup('<a href="{}">{}</a>').format(url, text)
