"""Events of a run whose first volumes were left out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def moved_events(table: Path, seconds: float) -> str:
    """The text of an events table with every onset moved; other columns, and onsets that are no number, stay.

    Parameters
    ----------
    seconds : added to onsets; negative where volumes at the start were left out
    """
    text = table.read_text(encoding="utf-8-sig")
    if not seconds:
        return text
    header, *lines = [line.split("\t") for line in text.splitlines() if line.strip()]
    column = header.index("onset")
    for cells in lines:
        cells[column] = _moved(cells[column], seconds)
    return "".join("\t".join(cells) + "\n" for cells in (header, *lines))


def _moved(text: str, seconds: float) -> str:
    try:
        value = float(text)
    except ValueError:
        return text
    shown = f"{value + seconds:.6f}".rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def sidecar_of_events(table: Path, types: Sequence[str]) -> dict[str, Any]:
    """What the columns mean, as it stands beside the table; with the order of trial types, so that signs are kept."""
    path = table.with_suffix(".json")
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    described = content.get("trial_type")
    described = dict(described) if isinstance(described, dict) else {"Description": "Kind of trial"}
    if not isinstance(described.get("Levels"), dict) and types:
        described["Levels"] = {name: name for name in types}
    return {**content, "trial_type": described}
