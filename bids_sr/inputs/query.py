"""Questions to pybids: which files of which participant, session, task and run; and what applies to them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_sr.config import Selection, nearest_name
from bids_sr.inputs.model import InputError, Problem, entities_of

if TYPE_CHECKING:
    from bids.layout import BIDSLayout

IMAGES = [".nii.gz", ".nii"]
FILTER_KEYS = ("bold", "t1w", "t2starw")
_DEFAULT_QUERIES: dict[str, dict[str, Any]] = {
    "bold": {"datatype": "func", "suffix": "bold", "extension": IMAGES},
    "t1w": {"datatype": "anat", "suffix": "T1w", "extension": IMAGES},
    "t2starw": {"datatype": "anat", "suffix": "T2starw", "extension": IMAGES},
}
_SAFE = re.compile(r"[0-9A-Za-z.+]+")
_NOT_READ = "beh|dwi|eeg|ieeg|meg|emg|perf|pet|micr|nirs|motion|mrs|fmap"


def refuse(file: Path | str, reason: str, fix: str) -> InputError:
    """Make the exception for a single problem, to raise."""
    return InputError([Problem(file=str(file), reason=reason, fix=fix)])


def check_dataset(bids_dir: Path) -> None:
    """Raise `InputError` unless the directory is the root of a BIDS data set."""
    if not bids_dir.is_dir():
        raise refuse(bids_dir, "there is no such directory", "Give the root directory of a BIDS data set.")
    description = bids_dir / "dataset_description.json"
    if not description.is_file():
        raise refuse(
            bids_dir,
            "it is no BIDS data set: dataset_description.json is missing",
            "Give the directory that holds dataset_description.json and the sub-… directories.",
        )
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refuse(description, f"it cannot be read as JSON ({error})", "Mend the file.") from error
    if not isinstance(content, dict) or "Name" not in content:
        raise refuse(description, "it names no data set", 'Add "Name" and "BIDSVersion" to it.')


def some(labels: Sequence[str], limit: int = 20) -> str:
    """List labels for a message, the first of them where there are many."""
    shown = ", ".join(labels[:limit]) or "none"
    return shown + (f" and {len(labels) - limit} more" if len(labels) > limit else "")


def participants(bids_dir: Path, selection: Selection) -> tuple[list[str], list[Problem]]:
    """Labels to work on, and a problem for each that is not there."""
    existing = sorted(p.name.removeprefix("sub-") for p in bids_dir.glob("sub-*") if p.is_dir())
    if not existing:
        raise refuse(bids_dir, "it holds no sub-… directory", "Give the root directory of a BIDS data set.")
    missing = [label for label in selection.participant_label if label not in existing]
    problems = [
        Problem(
            file=str(bids_dir / f"sub-{label}"),
            reason=f"there is no participant {label!r} in the data set",
            fix=f"Choose among {some(existing)}. {nearest_name(label, existing)}".strip(),
        )
        for label in missing
    ]
    wanted = selection.participant_label or existing
    return [label for label in wanted if label in existing], problems


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
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise refuse(path, f"the filter file cannot be read ({error.strerror})", "Check the path.") from error
    except ValueError as error:
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


def open_layout(bids_dir: Path, labels: Sequence[str], database_dir: Path | None) -> BIDSLayout:
    """Index what is needed: the chosen participants, anatomical and functional files, no derivatives.

    With a database directory everything is indexed, as the database serves later calls with other participants;
    pybids writes it there when it does not exist yet.
    """
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    ignore: list[Any] = [
        "code", "stimuli", "sourcedata", "models", "derivatives", "phenotype",
        re.compile(r"^/\."), re.compile(rf"^/sub-[0-9A-Za-z+]+(/ses-[0-9A-Za-z+]+)?/({_NOT_READ})(/|$)"),
    ]  # fmt: skip
    if database_dir is None:
        chosen = "|".join(re.escape(label) for label in labels)
        ignore.append(re.compile(rf"^/sub-(?!({chosen})(/|$))"))
    indexer = BIDSLayoutIndexer(validate=False, ignore=ignore, suffix=["bold", "events"])
    try:
        return BIDSLayout(
            str(bids_dir),
            validate=False,
            derivatives=False,
            indexer=indexer,
            database_path=str(database_dir) if database_dir else None,
        )
    except OSError as error:
        raise refuse(
            bids_dir, f"a JSON file in it cannot be read ({error}; {error.__cause__})", "Mend that file."
        ) from error


def find(
    layout: BIDSLayout, kind: str, label: str, filters: Mapping[str, Mapping[str, Any]], **more: Any
) -> list[Path]:
    """Images of a kind of one participant, sorted by name."""
    query = {**_DEFAULT_QUERIES[kind], **more, **filters.get(kind, {}), "subject": label}
    try:
        found = layout.get(return_type="filename", **query)
    except ValueError as error:
        raise refuse(
            f"--bids-filter-file ({kind})",
            f"it holds an entity that the data set does not know ({_short(error)})",
            "Use the long names of pybids: session, acquisition, run, echo, part, reconstruction, direction.",
        ) from error
    return sorted(Path(path) for path in found)


def _short(error: Exception) -> str:
    return str(error).split(". ")[0][:200]


def inherited(image: Path, tables: Iterable[Path]) -> Path | None:
    """Table that applies to an image by the inheritance principle: nearest directory, then most entities in common.

    A table applies when it stands in the directory of the image or above and all its entities are those of the image.
    """
    own = entities_of(image)
    fitting = [
        table
        for table in tables
        if table.parent in image.parents and all(own.get(k) == v for k, v in entities_of(table).items())
    ]
    return max(fitting, key=lambda table: (len(table.parts), len(entities_of(table))), default=None)


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
        with table.open(encoding="utf-8-sig", newline="") as stream:
            return [row.get(name) or "" for row in csv.DictReader(stream, delimiter="\t")]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def metadata(layout: BIDSLayout, path: Path) -> dict[str, Any]:
    """Sidecar of an image after inheritance."""
    found = layout.get_file(str(path))
    return dict(found.get_metadata()) if found is not None else {}
