"""``index.html``: all participants, with the verdict of each run."""

from collections.abc import Collection, Sequence
from pathlib import Path

from markupsafe import Markup

from bids_sr.report.assembler import plain_section, write_page
from bids_sr.report.markup import joined, table
from bids_sr.report.run_notes import noted, rows_of
from bids_sr.report.run_summaries import (
    HEADS,
    MEASURED,
    NOT_EVALUATED,
    NUMBERS,
    READING,
    SHOWN,
    RunSummary,
)

INDEX, GROUP, SCANS_GROUP = "index.html", "group.html", "group_scans.html"
ALL = {"All participants": INDEX}
_MOST_TRIES = 5


def participants_with_figures(root: Path) -> list[str]:
    """Return labels (without ``sub-``) of those whose report there is or will be, in order."""
    return sorted(path.parent.name.removeprefix("sub-") for path in root.glob("sub-*/figures"))


def write_index(root: Path) -> Path:
    """Write ``index.html`` from what lies below the output directory `root`, and return its path.

    Runs are found by their verdicts (see `run_notes`); a participant whose runs have none is named
    with that. Where another process changes the outputs at the same time, the page is written
    again, so that the last one is of what is there.
    """
    before = None
    for _ in range(_MOST_TRIES):
        if (found := _reports(root)) == before:
            break
        _write(root, found)
        before = found
    return root / INDEX


def _reports(root: Path) -> list[tuple[str, bool, list[RunSummary]]]:
    """Participants: label, whether there is a report, and what there is to tell of each run."""
    found = []
    for label in sorted({*participants_with_figures(root), *noted(root)}):
        found.append((label, (root / f"sub-{label}.html").is_file(), rows_of(root, label)))
    return found


def _write(root: Path, summaries: Sequence[tuple[str, bool, list[RunSummary]]]) -> None:
    rows: list[RunSummary] = []
    pages = {path.name for path in root.glob("sub-*_ses-*.html")}
    for label, reported, notices in summaries:
        name = (
            link(f"sub-{label}.html", f"sub-{label}") if reported else f"sub-{label} (no report)"
        )
        rows += [
            {**each, "participant": name, "run": _run_cell(each["run"], label, pages)}
            for each in notices or [{"run": "–", "verdict": NOT_EVALUATED}]
        ]
    kept = [head for head in HEADS if head in SHOWN or any(row.get(head) for row in rows)]
    cells = [[row.get(head) or "–" for head in kept] for row in rows]
    texts = {place for place, head in enumerate(kept) if head not in NUMBERS}
    heads = [(head, HEADS[head]) for head in kept]
    people = [
        table("Runs", heads, cells, names=2, texts=texts),
        *([Markup("<p>{}</p>").format(READING)] if MEASURED in kept else ()),
    ]
    for page, text in (
        (SCANS_GROUP, "Group results: structural scans"),
        (GROUP, "Group results: accuracy"),
    ):
        if (root / page).is_file():
            people.insert(0, Markup("<p>{}</p>").format(link(page, text)))
    sections = [plain_section("participants", "Participants", joined(people))]
    write_page(root / INDEX, title="bids-sr: participants", sections=sections)


def _run_cell(run: str, label: str, pages: Collection[str]) -> str:
    """The run, linked where its session has a page of its own."""
    page = f"sub-{label}_{run.partition('_')[0]}.html"
    return link(page, run) if page in pages else run


def link(place: str, text: str) -> Markup:
    """Return a link to a file, as HTML; `place` is relative to the page."""
    return Markup('<a href="{}">{}</a>').format(place, text)
