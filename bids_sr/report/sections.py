"""Layout of a participant's page: sections in order, and the declared place of figures.

Figures are declared by the functions that draw them (`bids_sr.steps.figures`); here are the
sections alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bids_sr.frozen import frozen

ANATOMICAL, PAIR, RUN, SCANS = "T1w", "T2starw", "bold", "metrics"
"""Suffixes of figures: what they are of."""
MODEL = "model"
"""Among the tables of a figure: the cards of the models of a participant or run."""


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
"""Entities that tell runs apart, in the order in which runs are sorted; in names of files, and on
the page.
"""


def run_text(entities: Mapping[str, str]) -> str:
    """A run in words, from its entities.

    >>> run_text({"subject": "01", "task": "tap", "run": "2"})
    'task tap, run 2'

    Words with labels, divided by commas; empty where none tells runs apart.
    """
    known = ((words, entities.get(name)) for name, (_, words) in RUN_ENTITIES.items())
    return ", ".join(f"{words} {label}" for words, label in known if label)


@frozen
class SectionSpec:
    """A section: its anchor and its title.

    `only`: figures (desc), one of which the section needs; other sections without content are then
    left out. Empty: the section needs none.
    """

    name: str
    title: str
    folded: bool = True
    by_run: bool = True
    only: tuple[str, ...] = ()


SECTIONS = (
    SectionSpec(name="participant", title="Map of all runs", folded=False),
    SectionSpec(name="overview", title="Overview", folded=False),
    SectionSpec(
        name="result", title="Result", folded=False, by_run=False, only=("scansoverview",)
    ),
    SectionSpec(
        name="control",
        title="High-resolution scans",
        folded=False,
        by_run=False,
        only=("controlscans",),
    ),
    SectionSpec(
        name="lowres",
        title="Super-resolved scans",
        folded=False,
        by_run=False,
        only=("lowresscans",),
    ),
    SectionSpec(name="maps", title="Maps", folded=False),
    SectionSpec(name="verdict", title="Evidence", folded=False),
    SectionSpec(name="summary", title="Summary", by_run=False),
    SectionSpec(name="anatomical", title="Anatomy", by_run=False),
    SectionSpec(
        name="structural", title="Structural scans", by_run=False, only=("scans", "scancard")
    ),
    SectionSpec(name="registration", title="Registration"),
    SectionSpec(name="motion", title="Head motion"),
    SectionSpec(name="superres-training", title="Training", by_run=False),
    SectionSpec(name="superres", title="Super-resolution"),
    SectionSpec(name="activation", title="Activation"),
    SectionSpec(name="evaluation", title="Accuracy of super-resolved maps"),
    SectionSpec(name="placebos", title="Control analyses"),
    SectionSpec(name="guards", title="Quality checks"),
    SectionSpec(name="methods", title="Methods", by_run=False),
    SectionSpec(name="errors", title="Errors", by_run=False),
    SectionSpec(name="about", title="About", by_run=False),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure (or, with `html`, an HTML fragment) of the page: name, place and text.

    ``{contrast}`` and ``{smoothing}`` are filled in headings and captions.

    Parameters
    ----------
    desc : str
        Name of the figure, and entities of its files; `suffix` says what it is of.
    section : str
        Name of one of `SECTIONS`.
    suffix : str
        Name of the figure, and entities of its files; `suffix` says what it is of.
    html : bool
        Whether it is a fragment of HTML instead of a figure.
    static : bool
        It does not answer to the pointer.
    place : int
        Where it stands in the section; those of one place stand in the order of their modules and
        lines.
    tab : str
        Of a run's figures one tab is shown at a time; what has none belongs to the tab before it,
        and before the first tab it is always shown.
    title : str
        Takes the place of the section's title.
    subtitle, heading : str
        Above it, once for all and above each of several.
    caption : str
        Text below it; empty for none.
    missing : str
        Words for the page where there is none.
    request : str
        Words for it where it is made on request only.
    remark : str
        What follows in parentheses where it is missing: how to get it, or why it may be missing.
    unless : str
        Desc of another of its section that makes up for it where it is missing.
    tables : tuple[str, ...]
        Desc of the tables of metrics that hold all values, which are linked below.
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
    unless: str = ""
    tables: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.section not in (known := [each.name for each in SECTIONS]):
            raise ValueError(
                f"{self.desc}: no section {self.section}; there are {', '.join(known)}"
            )
