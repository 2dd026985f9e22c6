"""Page of the group level, of functional runs and of structural scans.

Every page has the result, the participants, the sections of the tables that exist, the methods
text and the call.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from bids_sr.boilerplate import bibliography
from bids_sr.group.output_files import GroupNames
from bids_sr.io.atomic_files import write_text
from bids_sr.io.frozen import frozen
from bids_sr.report.assembler import Section, data_uri, plain_section, write_page
from bids_sr.report.facts import facts_html
from bids_sr.report.figures.canvas import FigureInputError
from bids_sr.report.figures.svg_files import svg_text
from bids_sr.report.index_page import INDEX_LINK
from bids_sr.report.markup import render
from bids_sr.report.methods_text import methods_html

fold = partial(plain_section, folded=True)
"""Section that can be unfolded: anchor, title, markup, and names of missing contents."""


@frozen
class GroupPage:
    """Contents of a page.

    `answer`, its `reasons` (may be empty) and `participants` are markup, `sections` the results
    (omitted if they have neither markup nor the name of missing content),
    `methods` a text with citations, and `about` facts about the call.
    """

    names: GroupNames
    answer: str
    participants: str
    sections: tuple[Section, ...]
    methods: str
    about: Mapping[str, object]
    reasons: str = ""


def write_group_page(folder: Path, page: GroupPage) -> Path:
    """Write a page to a folder atomically and return its path."""
    files = (
        f"{page.names.tables}_metrics.tsv (long table), {page.names.tables}_stats.tsv (all"
        " comparisons)"
    )
    sections = (
        plain_section("overview", "Result", page.answer),
        fold("why", "Why", page.reasons),
        *page.sections,
        fold("participants", "Participants", page.participants),
        fold("methods", "Paper", methods_html(page.methods, bibliography())),
        fold("about", "About", facts_html({**page.about, "All values": files})),
    )
    subjects = ["group"]
    if page.names.kind == "scans":
        subjects.append("structural scans")
    if page.names.session:
        subjects.append(f"session {page.names.session}")
    target = folder / page.names.page
    write_page(
        target,
        title=f"bids-sr: {', '.join(subjects)}",
        sections=[section for section in sections if section.blocks or section.missing],
        neighbors=INDEX_LINK,
        cautions=page.names.kind != "scans",
    )
    return target


@frozen
class GroupFigures:
    """Figures of a page, which are embedded and also written to ``group/figures``.

    `folder` is the folder of the page, and names of figures begin with `start`.
    """

    folder: Path
    start: str

    def embed(
        self, draw: Callable[[], Figure], name: str, caption: str, heading: str = ""
    ) -> Markup:
        """Return a figure with its caption, or a notice if it has no contents."""
        try:
            svg = svg_text(draw())
        except FigureInputError as error:
            return render("note", "missing", f"No figure: {error} ({caption})")
        full_name = f"{self.start}_{name}"
        figure_dir = self.folder / "group" / "figures"
        figure_dir.mkdir(parents=True, exist_ok=True)
        write_text(figure_dir / f"{full_name}.svg", svg)
        return render("figure", data_uri(svg.encode()), heading or caption, caption, full_name)
