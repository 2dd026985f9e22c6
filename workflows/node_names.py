"""Names of nodes, facts for the report, and the methods text of a graph."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.pipeline.step import enumerated as enumerated
from bids_sr.workflows.plans import CalibrationPlan
from bids_sr.workflows.wiring import Part


def methods_text(workflow: LiterateWorkflow) -> str:
    """The methods text of a graph: parts in the order of the processing, each text once however many runs there are.

    A text that ends with a line feed ends a paragraph, and so does a part.
    """
    parts: dict[Part, dict[str, None]] = {part: {} for part in Part}
    for part, text in texts_of(workflow, Part.OPENING):
        parts[part].setdefault(text)
    found = "\n".join("".join(texts) + "\n" for texts in parts.values())
    paragraphs = (" ".join(lines.split()) for lines in found.split("\n"))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def texts_of(workflow: LiterateWorkflow, part: Part) -> Iterator[tuple[Part, str]]:
    """Texts of a workflow and of those in it, as they were built, each with its part; `part` is that around it."""
    part = part if getattr(workflow, "part", None) is None else workflow.part
    if workflow.__desc__:
        yield part, workflow.__desc__
    for node in workflow._graph.nodes():
        if isinstance(node, LiterateWorkflow):
            yield from texts_of(node, part)


def identifier(text: str) -> str:
    """A name that nipype takes for a node."""
    return re.sub(r"\W", "_", text)


def concerns(notice: str, label: str) -> bool:
    """Whether a notice is about this participant or about all."""
    named = re.findall(r"sub-([0-9A-Za-z]+)", notice)
    return not named or label in named


def pair_words(pair: Any) -> str:
    """Which images a run is super-resolved with; None is no pair."""
    if pair is None:
        return "none: only interpolations and methods that need no pair"
    lowres = "its own k-space-truncated copy" if pair.lowres is None else pair.lowres.name
    described = description_of(pair.highres)
    return f"{pair.highres.name} and {lowres}" + (f" ({described})" if described else "")


def description_of(image: Path) -> str:
    """What the sidecar beside an image says of it (`Description`); "" where it says nothing."""
    sidecar = image.with_name(image.name.partition(".")[0] + ".json")
    try:
        return str(json.loads(sidecar.read_text(encoding="utf-8")).get("Description", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def taken_over(found: Any, files: Mapping[str, Path]) -> dict[str, Any]:
    """Which files of another program are used; `found` knows its origin, None is no other program."""
    if found is None:
        return {}
    return {f"Taken over from {found.origin.text}": [path.name for path in files.values()]}


def calibration_words(found: Any) -> str:
    """Which short run at the high resolution a run is calibrated with; None is none."""
    return "none" if found is None else f"{found.bold.name}, {found.n_volumes} volumes"


def calibration_plan(found: Any, root: Path, n_dummy: int | None) -> CalibrationPlan | None:
    """The calibration as plain values; `root` is the data set, `n_dummy` what was asked for."""
    if found is None:
        return None
    path = found.bold
    source = f"bids:raw:{path.relative_to(root).as_posix()}" if root in path.parents else str(path)
    events = "" if found.events is None else str(found.events)
    return CalibrationPlan(
        bold_file=str(path), events_file=events, tr=found.tr, n_dummy=n_dummy, source=source,
        axis_order=found.axis_order,
    )  # fmt: skip


def text_of(path: Path | None) -> str | None:
    """A path as text, None as it is."""
    return None if path is None else str(path)
