"""Sections of a participant's page in order, and the declaration of figures in them.

Each figure is declared next to the function that draws it (`bids_sr.report.figure_steps`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

ANATOMICAL, PAIR, RUN, SCANS = "T1w", "T2starw", "bold", "metrics"
"""Suffixes of figures, by kind of input."""
MODEL = "model"
"""Value of `FigureSpec.tables` for the model cards of a participant or run."""


RUN_ENTITIES: Mapping[str, tuple[str, str]] = {
    "session": ("ses", "session"),
    "task": ("task", "task"),
    "acquisition": ("acq", "acquisition"),
    "ceagent": ("ce", "contrast agent"),
    "reconstruction": ("rec", "reconstruction"),
    "direction": ("dir", "phase encoding"),
    "run": ("run", "run"),
    "echo": ("echo", "echo"),
    "chunk": ("chunk", "chunk"),
}
"""Entities that distinguish runs, in sorting order: key in file names, and words on the page."""


def run_text(entities: Mapping[str, str]) -> str:
    """Return the entities of a run in words, separated by commas.

    >>> run_text({"subject": "01", "task": "tap", "run": "2"})
    'task tap, run 2'
    """
    pairs = ((words, entities.get(name)) for name, (_, words) in RUN_ENTITIES.items())
    return ", ".join(f"{words} {label}" for words, label in pairs if label)


@dataclass(frozen=True, slots=True)
class SectionSpec:
    """Section of the page.

    `name` is the anchor. A folded section is closed at first, and `by_run` groups figures by run.
    `fold` is the title of the closed fold that contains the section; "" if it is not contained in
    another fold. The section requires at least one of the figures (desc) in `only`. If one of
    them exists, other sections without content are omitted. Empty if no figure is required.
    """

    name: str
    title: str
    folded: bool = True
    by_run: bool = True
    only: tuple[str, ...] = ()
    fold: str = ""


SECTIONS = (
    SectionSpec("participant", "All runs", folded=False),
    SectionSpec("overview", "Result", folded=False),
    SectionSpec("result", "Result", folded=False, by_run=False, only=("scansoverview",)),
    SectionSpec(
        "control",
        "High-resolution scans",
        folded=False,
        by_run=False,
        only=("controlscans",),
    ),
    SectionSpec(
        "lowres",
        "Super-resolved scans",
        folded=False,
        by_run=False,
        only=("lowresscans",),
    ),
    SectionSpec("why", "Why"),
    SectionSpec("regions", "Regions"),
    SectionSpec("maps", "Maps"),
    SectionSpec("verdict", "Explained detail", fold="Evidence"),
    SectionSpec("evaluation", "Accuracy of super-resolved maps", fold="Evidence"),
    SectionSpec("activation", "Activation", fold="Evidence"),
    SectionSpec("checks", "Summary of the checks", fold="Checks"),
    SectionSpec("guards", "Quality checks", fold="Checks"),
    SectionSpec("registration", "Registration", fold="Checks"),
    SectionSpec("motion", "Head motion", fold="Checks"),
    SectionSpec("anatomical", "Anatomy", by_run=False, fold="Checks"),
    SectionSpec(
        "structural",
        "Structural scans",
        by_run=False,
        only=("scans", "scancard"),
        fold="Checks",
    ),
    SectionSpec("superres-training", "Training", by_run=False, fold="Checks"),
    SectionSpec("superres", "Super-resolution", fold="Checks"),
    SectionSpec("results", "Results", by_run=False, fold="Paper"),
    SectionSpec("methods", "Methods", by_run=False, fold="Paper"),
    SectionSpec("summary", "Notes", by_run=False, fold="About"),
    SectionSpec("errors", "Errors", by_run=False, fold="About"),
    SectionSpec("about", "Version and settings", by_run=False, fold="About"),
)
"""Sections in the order of the page; sections of one fold follow each other."""


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """Declaration of a figure (or, with `html`, an HTML fragment) of the page.

    ``{contrast}`` and ``{smoothing}`` are filled in headings and captions.

    Parameters
    ----------
    desc : str
        Label in the file names of the figure.
    section : str
        Name of a section in `SECTIONS`.
    suffix : str
        Suffix in the file names of the figure, which corresponds to the kind of input.
    html : bool
        Whether the file is an HTML fragment.
    static : bool
        Whether the figure does not respond to the pointer.
    place : int
        Position in the section; declarations with equal positions are in the order of their
        modules and lines.
    tab : str
        Tab of the run; only one tab is visible at a time. A figure without a tab belongs to the
        preceding tab, and is always visible before the first tab.
    title : str
        Replacement of the section title.
    subtitle, heading : str
        Text above all panels, and above each panel.
    caption : str
        Text below the figure; "" if it has no caption.
    missing : str
        Name of the item if it is missing.
    request : str
        Name of the item if it is missing and only produced on request.
    remark : str
        Text in parentheses after a missing item: how to obtain it, or a reason for its absence.
    unless : tuple[str, ...]
        Desc of figures in the same section, each of which replaces it.
    tables : tuple[str, ...]
        Desc of the metrics tables with all values, which are linked below.
    """

    desc: str
    section: str
    suffix: str = RUN
    html: bool = False
    static: bool = True
    place: int = 0
    tab: str = ""
    title: str = ""
    subtitle: str = ""
    heading: str = ""
    caption: str = ""
    missing: str = ""
    request: str = ""
    remark: str = ""
    unless: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.section not in (section_names := [section.name for section in SECTIONS]):
            raise ValueError(
                f"{self.desc}: no section {self.section}; there are {', '.join(section_names)}"
            )


HtmlSpec = partial(FigureSpec, html=True)
"""Declaration of an HTML fragment; see `FigureSpec`."""
