"""Check and look up drawn figures, and write figure files for report tests."""

import json
from pathlib import Path

from checking import listed

from bids_sr.engine.artifacts import Derivative
from bids_sr.engine.store import derivative_path
from bids_sr.report.figure_step import FigureStep
from bids_sr.workflows.figure_declarations import figure_declarations


def content_of(drawings: list[Derivative], desc: str, *, html: bool = False):
    """Return the only figure (or HTML) drawn with a desc."""
    (content,) = (
        figure.content
        for figure in drawings
        if figure.entities["desc"] == desc and isinstance(figure.content, str) == html
    )
    return content


def noted(path: Path, content: str, figure: str, section: str = "", **note) -> None:
    """Write a figure or HTML, with its sidecar, to a participant's folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    html = path.suffix == ".html"
    declaration = next(
        (shown for shown in figure_declarations() if (shown.desc, shown.html) == (figure, html)),
        None,
    )
    words = {
        "contrast": note.pop("contrast", "n/a"),
        "smoothing": note.pop("smoothing", "not smoothed"),
    }
    sidecar = {
        "figure": figure,
        "section": declaration.section if declaration else section,
        **words,
        "label": "",
        "heading": declaration.heading.format(**words) if declaration else "",
        "caption": declaration.caption.format(**words) if declaration else "",
        "alt": "",
        **note,
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps(sidecar), encoding="utf-8")


def kept(step: FigureStep, drawings: list[Derivative], folder: Path) -> list[tuple[str, str]]:
    """Save the figures and return their (section, desc with extension).

    Assert that the store can name every figure and that each is declared exactly once.
    """
    (port,) = step.outputs.values()
    folder.mkdir(exist_ok=True)
    saved_paths = listed(port.save(drawings, folder / "drawn"))
    paths = [path for path in saved_paths if path.suffix != ".json"]
    assert [path.name for path in saved_paths if path.suffix == ".json"] == [
        f"{path.name}.json" for path in paths
    ]
    saved_figures = []
    for path, figure in zip(paths, drawings, strict=True):
        content = path.read_text(encoding="utf-8")
        assert len(content) > 20
        if path.suffix == ".svg":
            assert "data:image/png" in content or "<path" in content
        entities = dict(figure.entities)
        task = {"task": "tap"} if entities["suffix"] == "bold" else {}
        file_entities = {
            "subject": "01",
            **task,
            **entities,
            "datatype": "figures",
            "extension": path.suffix,
        }
        assert derivative_path(file_entities).startswith("sub-01/figures/sub-01_")
        declarations = [
            declaration
            for declaration in figure_declarations()
            if (declaration.desc, declaration.html)
            == (figure.sidecar["figure"], path.suffix == ".html")
        ]
        assert len(declarations) == 1, entities
        assert declarations[0] in step.declarations
        assert (declarations[0].suffix, declarations[0].section) == (
            entities["suffix"],
            figure.sidecar["section"],
        )
        assert entities["desc"].startswith(declarations[0].desc)
        assert "{" not in f"{figure.sidecar['heading']}{figure.sidecar['caption']}"
        saved_figures.append((declarations[0].section, entities["desc"] + path.suffix))
    return saved_figures
