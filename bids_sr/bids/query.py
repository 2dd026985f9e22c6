"""What is asked of the data set before it is indexed: its root, participants, filters and first tables."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bids_sr.bids.inputs import Notice, Problem, entities_of
from bids_sr.bids.layout import read_object, refuse
from bids_sr.config import Selection, nearest_name
from bids_sr.config.reading import read_text

FILTER_KEYS = ("bold", "t1w", "t2starw", "t2w", "flair")
_SAFE = re.compile(r"[0-9A-Za-z.+]+")
_LABEL = re.compile(r"[0-9A-Za-z+]+")
_ENTITY = re.compile(r"[A-Za-z]+-[0-9A-Za-z+]+")


def check_dataset(bids_dir: Path) -> None:
    """Raise `InputError` unless the directory is the root of a BIDS data set."""
    if not bids_dir.is_dir():
        raise refuse(bids_dir, "there is no such directory", "Give the root directory of a BIDS data set.")
    description = bids_dir / "dataset_description.json"
    if not description.exists():
        raise refuse(
            bids_dir,
            "it is no BIDS data set: dataset_description.json is missing",
            "Give the directory that holds dataset_description.json and the sub-… directories.",
        )
    if "Name" not in read_object(description):
        raise refuse(description, "it names no data set", 'Add "Name" and "BIDSVersion" to it.')


def some(labels: Sequence[str], limit: int = 20) -> str:
    """List labels for a message, the first of them where there are many."""
    shown = ", ".join(labels[:limit]) or "none"
    return shown + (f" and {len(labels) - limit} more" if len(labels) > limit else "")


def participants(bids_dir: Path) -> tuple[list[str], list[Notice]]:
    """Labels of all participants of a data set, sorted; folders whose names are no labels are told.

    Raises
    ------
    InputError : there is none
    """
    named = sorted(p.name.removeprefix("sub-") for p in bids_dir.glob("sub-*") if p.is_dir())
    existing = [label for label in named if _LABEL.fullmatch(label)]
    if not existing:
        raise refuse(bids_dir, "it holds no sub-… directory", "Give the root directory of a BIDS data set.")
    odd = [label for label in named if label not in existing]
    text = "its name is no label of BIDS (letters and digits), so it is left out."
    return existing, [Notice(file=str(bids_dir / f"sub-{label}"), text=text) for label in odd]


def odd_name(path: Path) -> Problem | None:
    """What is wrong with the name of an image below its ``sub-…[/ses-…]/anat`` or ``func``, from which others are made.

    Labels end up in the names of results, so nothing but letters and digits may be in them.
    """
    *entities, _ = path.name.split(".")[0].split("_")
    odd = next((part for part in entities if not _ENTITY.fullmatch(part)), None)
    if odd is not None:
        reason = f"its name holds {odd!r}, which is no entity of BIDS: letters, a dash, then letters and digits"
        return Problem(file=str(path), reason=reason, fix="Rename the file, and those that belong to it.")
    place = path.parent.parent
    folders = [place.parent.name, place.name] if place.name.startswith("ses-") else [place.name]
    own = [part for part in entities if part.startswith(("sub-", "ses-"))]
    if own != folders:
        reason = f"its name says {' '.join(own) or 'no participant'} and its folders {' '.join(folders)}"
        return Problem(file=str(path), reason=reason, fix="Rename the file, or move it to where it belongs.")
    return None


def odd_names(paths: Sequence[Path]) -> dict[Path, Problem]:
    """The images of which something is wrong with the name."""
    return {path: problem for path in paths if (problem := odd_name(path)) is not None}


def choose(bids_dir: Path, existing: Sequence[str], selection: Selection) -> tuple[list[str], list[Problem]]:
    """Labels to work on, and a problem for each that was asked for and is not there."""
    wanted, there = selection.participant_label or existing, set(existing)
    problems = [
        Problem(
            file=str(bids_dir / f"sub-{label}"),
            reason=f"there is no participant {label!r} in the data set",
            fix=f"Choose among {some(existing)}. {nearest_name(label, existing)}".strip(),
        )
        for label in wanted
        if label not in there
    ]
    return [label for label in wanted if label in there], problems


def read_filters(path: Path | None) -> dict[str, dict[str, Any]]:
    """Read a filter file as fMRIPrep takes it: ``{"bold": {"echo": 2}, "t2starw": {"session": "hires"}}``.

    Raises
    ------
    InputError
        the file is missing or no JSON, names another kind of image, or a value could leave the data set
    """
    if path is None:
        return {}
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise refuse(path, f"the filter file cannot be read ({error.strerror})", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise refuse(path, f"the filter file is no JSON ({error})", "Mend the file.") from error
    example = 'Write for example {"bold": {"echo": 2}, "t2starw": {"session": "01"}}.'
    if not isinstance(content, dict) or not all(isinstance(value, dict) for value in content.values()):
        raise refuse(path, "the filter file holds something else than queries by kind of image", example)
    filters: dict[str, dict[str, Any]] = {}
    for kind, query in content.items():
        if kind not in FILTER_KEYS:
            raise refuse(
                path, f"{kind!r} is no kind of image read here", f"The kinds are {', '.join(FILTER_KEYS)}. {example}"
            )
        filters[kind] = {entity: _filter_value(path, value) for entity, value in query.items()}
    return filters


def _filter_value(path: Path, value: object) -> Any:
    if isinstance(value, list):
        return [_filter_value(path, item) for item in value]
    if value is None or (isinstance(value, str) and value.lower() in ("query.none", "query.any", "query.optional")):
        from bids.layout import Query

        return Query.NONE if value is None else Query[str(value).split(".")[1].upper()]
    if isinstance(value, str) and (not _SAFE.fullmatch(value) or ".." in value):
        raise refuse(path, f"{value!r} is no label of BIDS", "Labels have letters and digits; paths are not taken.")
    return value


def first_table(bids_dir: Path, task: str) -> Path | None:
    """First events table of a task in the data set, by name, whichever participants are chosen."""
    for participant in sorted(bids_dir.glob("sub-*")):
        for folder in (participant / "func", *sorted(participant.glob("ses-*/func"))):
            for table in sorted(folder.glob("*_events.tsv")):
                if entities_of(table).get("task", "") == task:
                    return table
    return None


def column(table: Path, name: str) -> list[str]:
    """Values of a column as text; empty where the table has none or cannot be read (preflight says so elsewhere)."""
    try:
        stream = io.StringIO(read_text(table, encoding="utf-8-sig"), newline="")
        return [row.get(name) or "" for row in csv.DictReader(stream, delimiter="\t")]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
