"""``index.html``: all participants of an output with the verdict of each run; the group's page and rating sheets."""

import json
from pathlib import Path

from markupsafe import Markup

from bids_sr.reports.assembler import Block, Panel, Section, write_page
from bids_sr.reports.markup import joined, render, table

INDEX, GROUP = "index.html", "group.html"
ALL = {"All participants": INDEX}
VERDICT = "_desc-verdict_metrics.json"
RATING = (
    "Are the finer maps also finer to the eye? Raters who do not know the series compare each B-spline map with the "
    "super-resolved one; their answers are counted against chance. Make the sheets before anybody has seen a report: "
)


def headline(verdict: Path) -> str:
    """The first sentence of a verdict that was written; "" where the file cannot be read."""
    try:
        return str(json.loads(verdict.read_text(encoding="utf-8")).get("headline", ""))
    except (OSError, ValueError):
        return ""


def participants_with_figures(root: Path) -> list[str]:
    """Labels (without ``sub-``) of those whose report there is or will be, in order."""
    return sorted(path.parent.name.removeprefix("sub-") for path in root.glob("sub-*/figures"))


def neighbors_of(root: Path, label: str) -> dict[str, str]:
    """File names of the reports before and after that of a participant, and of the page of all, by text of the link."""
    labels = participants_with_figures(root)
    place = labels.index(label) if label in labels else None
    before = [] if place is None else labels[max(place - 1, 0) : place]
    after = [] if place is None else labels[place + 1 : place + 2]
    found = {f"‹ sub-{each}": f"sub-{each}.html" for each in before} | {
        f"sub-{each} ›": f"sub-{each}.html" for each in after
    }
    return {**found, **ALL}


def write_index(root: Path) -> Path:
    """Write ``index.html`` from what lies below the output directory `root`, and return its path.

    Runs are found by their verdicts; a participant whose runs have none is named with that.
    """
    rows: list[list[str]] = []
    for label in participants_with_figures(root):
        page = root / f"sub-{label}.html"
        name = _link(page.name, f"sub-{label}") if page.is_file() else f"sub-{label} (no report)"
        verdicts = sorted((root / f"sub-{label}").rglob(f"*{VERDICT}"))
        told = [[file.name.removesuffix(VERDICT).removeprefix(f"sub-{label}_"), headline(file)] for file in verdicts]
        rows += [[name, *each] for each in told or [["–", "No run was evaluated."]]]
    sheets = [_link(f"rating/{file.name}", file.stem) for file in sorted(root.glob("rating/sheet-*.html"))]
    people = [table("Verdict of each run", ["participant", "run", "verdict"], rows, texts={0, 1, 2})]
    if (root / GROUP).is_file():
        people.insert(0, Markup("<p>{}</p>").format(_link(GROUP, "Group: accuracy over participants")))
    rating = Markup("<p>{}<code>bids-sr rate OUTPUT_DIR</code>.</p>").format(RATING)
    parts = (
        ("participants", "Participants", joined(people)),
        ("rating", "Blinded rating", joined([rating, render("items", sheets) if sheets else ""])),
    )
    sections = [
        Section(name=name, title=title, blocks=[Block(name=f"{name}-0", panels=[Panel(content=content)])])
        for name, title, content in parts
    ]
    write_page(root / INDEX, title="bids-sr: participants", sections=sections)
    return root / INDEX


def _link(place: str, text: str) -> Markup:
    return Markup('<a href="{}">{}</a>').format(place, text)
