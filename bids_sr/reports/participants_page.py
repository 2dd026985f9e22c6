"""``index.html``: all participants of an output with the verdict of each run; the group's page and rating sheets."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from markupsafe import Markup

from bids_sr.reports.assembler import Block, Panel, Section, write_page
from bids_sr.reports.markup import joined, render, table

INDEX, GROUP = "index.html", "group.html"
ALL = {"All participants": INDEX}
VERDICT = "_desc-verdict_metrics.json"
RATING = (
    "Are the finer maps also finer to the eye? Raters who do not know the series compare each B-spline map with the "
    "super-resolved one; their answers are counted against chance. "
)
UNSEEN = "Give raters the sheets alone, without this page and the reports: "
MOST_TRIES = 5


def headline(verdict: Path) -> str:
    """The first sentence of a verdict that was written; "" where the file cannot be read."""
    try:
        return str(json.loads(verdict.read_text(encoding="utf-8")).get("headline", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def participants_with_figures(root: Path) -> list[str]:
    """Labels (without ``sub-``) of those whose report there is or will be, in order."""
    return sorted(path.parent.name.removeprefix("sub-") for path in root.glob("sub-*/figures"))


def neighbors_of(root: Path, label: str, made: Collection[str] = ()) -> dict[str, str]:
    """File names of the reports before and after that of a participant, and of the page of all, by text of the link.

    Only reports that are there count, and those that the same call makes (`made`, labels).
    """
    there = {path.stem.removeprefix("sub-") for path in root.glob("sub-*.html")}
    labels = sorted({label, *there, *made})
    place = labels.index(label)
    texts = [(f"‹ sub-{each}", each) for each in labels[max(place - 1, 0) : place]]
    texts += [(f"sub-{each} ›", each) for each in labels[place + 1 : place + 2]]
    return {**{text: f"sub-{each}.html" for text, each in texts}, **ALL}


def write_index(root: Path) -> Path:
    """Write ``index.html`` from what lies below the output directory `root`, and return its path.

    Runs are found by their verdicts; a participant whose runs have none is named with that. Where another process
    changes the outputs at the same time, the page is written again, so that the last one is of what is there.
    """
    for _ in range(MOST_TRIES):
        found = _reports(root)
        _write(root, found)
        if _reports(root) == found:
            break
    return root / INDEX


def _reports(root: Path) -> list[tuple[str, bool, list[tuple[str, str]]]]:
    """Participants: label, whether there is a report, and name and headline of each run."""
    found = []
    for label in participants_with_figures(root):
        folder = root / f"sub-{label}"
        files = [file for place in ("func", "ses-*/func") for file in sorted(folder.glob(f"{place}/*{VERDICT}"))]
        told = [(file.name.removesuffix(VERDICT).removeprefix(f"sub-{label}_"), headline(file)) for file in files]
        found.append((label, (root / f"sub-{label}.html").is_file(), told))
    return found


def _write(root: Path, found: Sequence[tuple[str, bool, list[tuple[str, str]]]]) -> None:
    rows: list[list[str]] = []
    for label, reported, told in found:
        name = _link(f"sub-{label}.html", f"sub-{label}") if reported else f"sub-{label} (no report)"
        rows += [[name, *each] for each in told or [("–", "No run was evaluated.")]]
    people = [table("Verdict of each run", ["participant", "run", "verdict"], rows, texts={0, 1, 2})]
    if (root / GROUP).is_file():
        people.insert(0, Markup("<p>{}</p>").format(_link(GROUP, "Group: accuracy over participants")))
    sheets = [_link(f"rating/{file.name}", file.stem) for file in sorted(root.glob("rating/sheet-*.html"))]
    how = Markup("Make the sheets: <code>bids-sr rate OUTPUT_DIR</code>.")
    rating = Markup("<p>{}{}</p>").format(RATING, UNSEEN if sheets else how) + render("items", sheets)
    sections = [
        Section(name=name, title=title, blocks=[Block(name=f"{name}-0", panels=[Panel(content=content)])])
        for name, title, content in (
            ("participants", "Participants", joined(people)), ("rating", "Blinded rating", rating),
        )
    ]  # fmt: skip
    write_page(root / INDEX, title="bids-sr: participants", sections=sections)


def _link(place: str, text: str) -> Markup:
    return Markup('<a href="{}">{}</a>').format(place, text)
