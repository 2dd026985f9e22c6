"""Page ``index.html``: all participants, with the verdict of each run."""

from collections.abc import Collection, Sequence
from pathlib import Path

from markupsafe import Markup

from bids_sr.report.assembler import plain_section, write_page
from bids_sr.report.markup import join, table
from bids_sr.report.run_notes import list_noted_labels, read_run_summaries
from bids_sr.report.run_summaries import (
    ACCURACY_COLUMN,
    COLUMN_HEADS,
    NOT_EVALUATED,
    NUMERIC_COLUMNS,
    PERMANENT_COLUMNS,
    TABLE_NOTE,
    RunSummary,
)

INDEX, GROUP, SCANS_GROUP = "index.html", "group.html", "group_scans.html"
INDEX_LINK = {"All participants": INDEX}
_MAX_TRIES = 5


def participants_with_figures(root: Path) -> list[str]:
    """Return sorted labels (without ``sub-``) of participants that have or will have a report."""
    return sorted(path.parent.name.removeprefix("sub-") for path in root.glob("sub-*/figures"))


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


def _collect_reports(root: Path) -> list[tuple[str, bool, list[RunSummary]]]:
    """Return the participants: label, whether a report exists, and the summaries of their runs."""
    reports = []
    for label in sorted({*participants_with_figures(root), *list_noted_labels(root)}):
        reports.append(
            (label, (root / f"sub-{label}.html").is_file(), read_run_summaries(root, label))
        )
    return reports


def _write_page(root: Path, reports: Sequence[tuple[str, bool, list[RunSummary]]]) -> None:
    """Write the index page from the result of `_collect_reports`."""
    rows: list[RunSummary] = []
    pages = {path.name for path in root.glob("sub-*_ses-*.html")}
    for label, has_report, run_summaries in reports:
        name = (
            render_link(f"sub-{label}.html", f"sub-{label}")
            if has_report
            else f"sub-{label} (no report)"
        )
        rows += [
            {**summary, "participant": name, "run": _run_cell(summary["run"], label, pages)}
            for summary in run_summaries or [{"run": "–", "verdict": NOT_EVALUATED}]
        ]
    columns = [
        head
        for head in COLUMN_HEADS
        if head in PERMANENT_COLUMNS or any(row.get(head) for row in rows)
    ]
    cells = [[row.get(head) or "–" for head in columns] for row in rows]
    text_columns = {index for index, head in enumerate(columns) if head not in NUMERIC_COLUMNS}
    heads = [(head, COLUMN_HEADS[head]) for head in columns]
    page_sections = [
        table("Runs", heads, cells, names=2, texts=text_columns),
        *([Markup("<p>{}</p>").format(TABLE_NOTE)] if ACCURACY_COLUMN in columns else ()),
    ]
    for page, text in (
        (SCANS_GROUP, "Group results: structural scans"),
        (GROUP, "Group results: accuracy"),
    ):
        if (root / page).is_file():
            page_sections.insert(0, Markup("<p>{}</p>").format(render_link(page, text)))
    sections = [plain_section("participants", "Participants", join(page_sections))]
    write_page(root / INDEX, title="bids-sr: participants", sections=sections)


def _run_cell(run: str, label: str, pages: Collection[str]) -> str:
    """Return the run, with a link if its session has a separate page."""
    page = f"sub-{label}_{run.partition('_')[0]}.html"
    return render_link(page, run) if page in pages else run


def render_link(url: str, text: str) -> Markup:
    """Return a link to a file, as HTML; `url` is relative to the page."""
    return Markup('<a href="{}">{}</a>').format(url, text)
