"""Figures of a participant, each with a note on its content.

Steps write each figure and its note (JSON) to ``sub-*/figures``. The report is assembled from
these files, without the working directory.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from pathlib import Path

from bids_sr.io.frozen import frozen


@frozen
class StoredFigure:
    """Figure of a participant, with the note from the step that drew it.

    `figure` is the name of its declaration. `contrast` and `smoothing` are in words; n/a if the
    figure covers all of them. `label` is the method, if each method has a figure; otherwise "".
    `heading` is the text above and `caption` the text below the figure. If `alt` is "", the
    heading is the alternative text.
    """

    path: Path
    figure: str
    section: str
    entities: Mapping[str, str]
    contrast: str
    smoothing: str
    label: str
    heading: str
    caption: str
    alt: str

    @property
    def html(self) -> bool:
        """Whether the figure is an HTML fragment."""
        return self.path.suffix == ".html"


_NOTE_FIELDS = tuple(
    figure_field.name for figure_field in fields(StoredFigure) if figure_field.name != "path"
)


def read_figures(root: Path, label: str) -> list[StoredFigure]:
    """Return a participant's figures, sorted by contrast, figure and smoothing.

    `root` is the derivatives folder. Files that are empty or have no note are skipped.
    """
    figures = []
    for note in sorted((root / f"sub-{label}" / "figures").glob("*.json")):
        path = note.with_suffix("")
        if path.is_file() and path.stat().st_size:
            facts = json.loads(note.read_text(encoding="utf-8"))
            figures.append(StoredFigure(path=path, **{name: facts[name] for name in _NOTE_FIELDS}))
    return sorted(figures, key=attrgetter("contrast", "figure", "smoothing", "label"))
