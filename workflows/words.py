"""Small pieces of text: names of nodes, words for the report, the methods text of a graph."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niworkflows.engine.workflows import LiterateWorkflow


def methods_text(workflow: LiterateWorkflow) -> str:
    """The methods text of a graph, each sentence or paragraph once however many runs there are."""
    seen: dict[str, None] = {}
    for paragraph in re.split(r"\n\s*\n|(?<=[.])\n", workflow.visit_desc()):
        text = " ".join(paragraph.split())
        if text:
            seen.setdefault(text)
    return "\n\n".join(seen) + "\n"


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
    if pair.lowres is None:
        return f"{pair.highres.name}; its low-resolution member is its own k-space-truncated copy"
    return f"{pair.highres.name} and {pair.lowres.name}"


def taken_over(found: Any, files: Mapping[str, Path]) -> dict[str, Any]:
    """Which files of another program are used; `found` knows its origin, None is no other program."""
    if found is None:
        return {}
    return {f"Taken over from {found.origin.words}": [path.name for path in files.values()]}


def text_of(path: Path | None) -> str | None:
    """A path as text, None as it is."""
    return None if path is None else str(path)
