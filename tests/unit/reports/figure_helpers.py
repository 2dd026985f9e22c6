"""What a figure function drew, saved as its step saves it and looked up as the page does."""

from pathlib import Path

from bids_sr.pipeline.artifacts import Derivative
from bids_sr.pipeline.figure import FigureStep
from bids_sr.pipeline.store import derivative_path
from bids_sr.steps.figures import declared


def content_of(drawn: list[Derivative], desc: str, *, html: bool = False):
    """What was drawn under a desc, a figure or HTML; it must be one."""
    (found,) = (
        each.content for each in drawn if each.entities["desc"] == desc and isinstance(each.content, str) == html
    )
    return found


def kept(step: FigureStep, drawn: list[Derivative], folder: Path) -> list[tuple[str, str]]:
    """(section, desc with extension) of what was drawn: each must be named by the store, and declared once."""
    (port,) = step.outputs.values()
    folder.mkdir(exist_ok=True)
    paths = [Path(path) for path in port.save(drawn, folder / "drawn")]
    found = []
    for path, each in zip(paths, drawn, strict=True):
        content = path.read_text(encoding="utf-8")
        assert len(content) > 20
        if path.suffix == ".svg":
            assert "data:image/png" in content or "<path" in content
        entities = dict(each.entities)
        task = {"task": "tap"} if entities["suffix"] == "bold" else {}
        whole = {"subject": "01", **task, **entities, "datatype": "figures", "extension": path.suffix}
        assert derivative_path(whole).startswith("sub-01/figures/sub-01_")
        answers = [
            one for one in declared()
            if one.extension == path.suffix and one.suffix == entities["suffix"] and one.is_of(entities["desc"])
        ]  # fmt: skip
        assert len(answers) == 1, entities
        assert answers[0] in step.shown
        found.append((answers[0].section, entities["desc"] + path.suffix))
    return found
