"""What a figure function drew, saved as its step saves it and looked up as the page does."""

import json
from pathlib import Path

from checking import listed

from bids_sr.pipeline.artifacts import Derivative
from bids_sr.pipeline.figure import FigureStep
from bids_sr.pipeline.store import derivative_path
from bids_sr.steps.figures import declared


def content_of(drawn: list[Derivative], desc: str, *, html: bool = False):
    """What was drawn under a desc, a figure or HTML; it must be one."""
    (found,) = (
        each.content
        for each in drawn
        if each.entities["desc"] == desc and isinstance(each.content, str) == html
    )
    return found


def noted(path: Path, content: str, figure: str, section: str = "", **note) -> None:
    """Put a figure (or HTML) among those of a participant, with the note that its step leaves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    html = path.suffix == ".html"
    one = next((each for each in declared() if (each.desc, each.html) == (figure, html)), None)
    words = {
        "contrast": note.pop("contrast", "n/a"),
        "smoothing": note.pop("smoothing", "not smoothed"),
    }
    told = {
        "file": path.name,
        "figure": figure,
        "section": one.section if one else section,
        **words,
        "label": "",
        "heading": one.heading.format(**words) if one else "",
        "caption": one.caption.format(**words) if one else "",
        "alt": "",
        **note,
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps(told), encoding="utf-8")


def kept(step: FigureStep, drawn: list[Derivative], folder: Path) -> list[tuple[str, str]]:
    """(section, desc with extension) of what was drawn: each must be named by the store, and
    declared once.
    """
    (port,) = step.outputs.values()
    folder.mkdir(exist_ok=True)
    saved = listed(port.save(drawn, folder / "drawn"))
    paths = [path for path in saved if path.suffix != ".json"]
    assert [path.name for path in saved if path.suffix == ".json"] == [
        f"{path.name}.json" for path in paths
    ]
    found = []
    for path, each in zip(paths, drawn, strict=True):
        content = path.read_text(encoding="utf-8")
        assert len(content) > 20
        if path.suffix == ".svg":
            assert "data:image/png" in content or "<path" in content
        entities = dict(each.entities)
        task = {"task": "tap"} if entities["suffix"] == "bold" else {}
        whole = {
            "subject": "01",
            **task,
            **entities,
            "datatype": "figures",
            "extension": path.suffix,
        }
        assert derivative_path(whole).startswith("sub-01/figures/sub-01_")
        answers = [
            one
            for one in declared()
            if (one.desc, one.html) == (each.sidecar["figure"], path.suffix == ".html")
        ]
        assert len(answers) == 1, entities
        assert answers[0] in step.shown
        assert (answers[0].suffix, answers[0].section) == (
            entities["suffix"],
            each.sidecar["section"],
        )
        assert entities["desc"].startswith(answers[0].desc)
        assert "{" not in f"{each.sidecar['heading']}{each.sidecar['caption']}"
        found.append((answers[0].section, entities["desc"] + path.suffix))
    return found
