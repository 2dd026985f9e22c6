"""Selection of participants, runs and their files from a dataset."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from bids_sr.bids.entities import entities_of, is_magnitude, stem_of_echoes
from bids_sr.bids.findings import Findings, refusal, require
from bids_sr.bids.inheritance import read_object
from bids_sr.bids.layout import KINDS
from bids_sr.config import Selection, nearest_name
from bids_sr.io.atomic_files import read_text

_LISTED = 20  # maximum number of labels in a message
_SAFE = re.compile(r"[0-9A-Za-z.+]+")
_LABEL = re.compile(r"[0-9A-Za-z+]+")
_ENTITY = re.compile(r"[A-Za-z]+-[0-9A-Za-z+]+")
_QUERIES = {
    "*": "ANY",
    "query.any": "ANY",
    "query.none": "NONE",
    "query.optional": "OPTIONAL",
}
"""Value in a filter → member of pybids' ``Query``; null becomes NONE."""
_NOT_READ = ("fmap", "sbref", "roi", "dwi", "asl", "pet")
"""Image types in filter files of other programs that are not used here."""


def check_dataset(bids_dir: Path) -> None:
    """Raise `InputError` unless the directory is the root of a BIDS data set.

    The root contains a dataset description with a name.
    """
    if not bids_dir.is_dir():
        reason = (
            "this path is a file, not a directory"
            if bids_dir.exists()
            else "the dataset directory was not found"
        )
        raise refusal(bids_dir, reason, "Specify the root directory of a BIDS dataset.")
    description = bids_dir / "dataset_description.json"
    require(description)
    if not description.exists():
        raise refusal(
            bids_dir,
            "dataset_description.json is missing, so the directory is not a BIDS dataset",
            "Specify the directory that contains dataset_description.json and the sub-…"
            " directories.",
        )
    if "Name" not in read_object(description):
        raise refusal(
            description,
            ('the required field "Name" is missing'),
            ('Add "Name" and "BIDSVersion" to the file.'),
        )


def some(labels: Sequence[str], limit: int = _LISTED) -> str:
    """List labels for a message, ``none`` if there are none, and only the first of many.

    >>> some(["a", "b"])
    'a, b'
    >>> some("abcd", 2)
    'a, b and 2 more'
    """
    text = ", ".join(labels[:limit]) or "none"
    return text + (f" and {len(labels) - limit} more" if len(labels) > limit else "")


def choice(label: str, existing: Sequence[str]) -> str:
    """Return the available labels as a sentence, with a suggestion if not all are listed.

    `existing` must be sorted.

    >>> choice("3", ["01", "02", "03"])
    '01, 02, 03.'
    """
    if not existing:
        return "none; omit the option."
    hidden = existing[_LISTED:]
    return f"{some(existing, _LISTED)}. {nearest_name(label, hidden)}".strip()


def participants(bids_dir: Path, findings: Findings) -> list[str]:
    """Return the sorted labels of all participants, and report directories with invalid labels.

    Raises
    ------
    InputError
        If there are no participants.
    """
    labels_found = sorted(
        path.name.removeprefix("sub-") for path in bids_dir.glob("sub-*") if path.is_dir()
    )
    existing = [label for label in labels_found if _LABEL.fullmatch(label)]
    if not existing:
        raise refusal(
            bids_dir,
            "no sub-… directories were found",
            "Specify the root directory of a BIDS dataset.",
        )
    for label in sorted(set(labels_found) - set(existing)):
        text = (
            "the directory is skipped because its name is not a valid BIDS label (letters,"
            " digits and +)."
        )
        findings.tell(bids_dir / f"sub-{label}", text)
    by_lowercase: dict[str, list[str]] = {}
    for label in existing:
        by_lowercase.setdefault(label.lower(), []).append(label)
    for labels in (spellings for spellings in by_lowercase.values() if len(spellings) > 1):
        text = (
            f"the labels of the participants {' and '.join(labels)} differ only in case. On"
            " case-insensitive file systems (macOS, Windows), their results overwrite each other."
        )
        findings.tell(bids_dir / f"sub-{labels[0]}", text)
    return existing


def choose(
    bids_dir: Path, existing: Sequence[str], selection: Selection, findings: Findings
) -> list[str]:
    """Return the labels of the selected participants; unavailable labels are reported as problems.

    Without ``--participant-label``, all participants are selected.
    """
    labels, available = selection.participant_label or existing, set(existing)
    for label in labels:
        if label not in available:
            fix = f"Available: {choice(label, existing)}"
            findings.refuse(
                bids_dir / f"sub-{label}",
                f"participant {label!r} was not found in the dataset",
                fix,
            )
    return [label for label in labels if label in available]


def well_named(paths: Sequence[Path], findings: Findings) -> list[Path]:
    """Return the images with valid names and directories, and report all others as problems.

    Labels become part of output names, so they may only contain letters, digits and +.
    """
    valid = []
    for path in paths:
        *entities, _ = path.name.split(".")[0].split("_")
        invalid_part = next((part for part in entities if not _ENTITY.fullmatch(part)), None)
        place = path.parent.parent
        folders = (
            [place.parent.name, place.name] if place.name.startswith("ses-") else [place.name]
        )
        labels = [part for part in entities if part.startswith(("sub-", "ses-"))]
        if invalid_part is not None:
            reason = (
                f"the file name contains {invalid_part!r}, which is not a valid BIDS entity"
                " (letters, a hyphen, then letters and digits)"
            )
            findings.refuse(path, reason, "Rename the file and its sidecars.")
        elif labels != folders:
            reason = (
                f"the file name contains {' '.join(labels) or 'no participant label'}, but the"
                f" directories are named {' '.join(folders)}"
            )
            findings.refuse(path, reason, "Rename the file, or move it to the matching directory.")
        else:
            valid.append(path)
    return valid


def magnitudes(paths: Sequence[Path], findings: Findings) -> list[Path]:
    """Return the magnitude images; phase, real and imaginary parts are dropped with a note."""
    for path in paths:
        if not is_magnitude(path):
            findings.tell(
                path,
                (
                    f"the part-{entities_of(path)['part']} image is ignored because only"
                    " magnitude images are used."
                ),
            )
    return [path for path in paths if is_magnitude(path)]


def bold_runs(
    paths: Sequence[Path], echo: int | None, findings: Findings
) -> list[tuple[Path, ...]]:
    """Return the files of each run: its series, all its echoes, or the selected echo.

    A run with only phase, real or imaginary images is a problem.

    Parameters
    ----------
    paths : sequence of Path
        Series of one or several participants, with all echoes and parts.
    echo : int or None
        Number of the echo to use; None to use all echoes.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    for path in paths:
        key = tuple(
            (entity, label)
            for entity, label in entities_of(path).items()
            if entity not in ("echo", "part")
        )
        groups.setdefault(key, []).append(path)
    runs = []
    for files in groups.values():
        with findings.about(entities_of(files[0])["subject"], stem_of_echoes(files[0])):
            runs.append(_files_of_run(files, echo, findings))
    return [run for run in runs if run]


def _files_of_run(files: Sequence[Path], echo: int | None, findings: Findings) -> tuple[Path, ...]:
    """Return the files of a run in the order of echoes; empty with a problem."""
    if not any(map(is_magnitude, files)):
        reason = "only phase, real or imaginary images were found for this run"
        findings.refuse(files[0], reason, "Add the magnitude image (part-mag).")
        return ()
    usable = sorted(magnitudes(files, findings), key=lambda path: (_echo(path), path.name))
    names, echoes = ", ".join(path.name for path in usable), [_echo(path) for path in usable]
    if echo is not None and echoes == [0]:
        findings.tell(
            files[0], f"--echo-idx {echo} has no effect because the run has a single echo."
        )
    elif echo is not None:
        usable = [path for path in usable if _echo(path) == echo]
        if not usable:
            findings.refuse(
                files[0],
                f"echo {echo} was not found among the files of the run ({names})",
                "Select another echo with --echo-idx.",
            )
            return ()
        echoes = [echo] * len(usable)
    if len(set(echoes)) < len(echoes):
        findings.refuse(
            usable[0],
            f"several files have the same run and echo entities ({names})",
            "Keep only one of these files.",
        )
        return ()
    if len(usable) == 1 and echoes != [0]:
        findings.tell(usable[0], f"only echo {echoes[0]} was found and is used.")
    return tuple(usable)


def _echo(path: Path) -> int:
    """Return the echo number of a series, 0 if it has none."""
    label = entities_of(path).get("echo", "")
    return int(label) if label.isdigit() else 0


def read_filters(path: Path | None, findings: Findings) -> dict[str, dict[str, object]]:
    """Read a filter file in the format of fMRIPrep.

    An example is ``{"bold": {"echo": 2}, "t2starw": {"session": "hires"}}``.

    Returns
    -------
    dict
        Kind of image → pybids query.

    Raises
    ------
    InputError
        If the file is missing, is not valid JSON, contains an unknown kind of image, or contains a
        value that could lead out of the data set.
    """
    if path is None:
        return {}
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise refusal(
            path, f"the BIDS filter file cannot be read ({error.strerror})", "Check the path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise refusal(
            path, f"the BIDS filter file is not valid JSON ({error})", "Correct the file."
        ) from error
    example = 'Use for example {"bold": {"echo": 2}, "t2starw": {"session": "01"}}.'
    if not isinstance(content, dict) or not all(
        isinstance(value, dict) for value in content.values()
    ):
        raise refusal(
            path, "the filter file must be a JSON object with one query per image type", example
        )
    filters: dict[str, dict[str, object]] = {}
    for kind, query in content.items():
        if kind in _NOT_READ:
            findings.warn(
                path,
                (
                    f"the filter for {kind} has no effect because bids-sr does not use these"
                    " images."
                ),
            )
            continue
        if kind not in KINDS:
            fix = f"Valid image types are {', '.join(KINDS)}. {example}"
            raise refusal(path, f"{kind!r} is not an image type used by bids-sr", fix)
        filters[kind] = {entity: _filter_value(path, value) for entity, value in query.items()}
    return filters


def _filter_value(path: Path, value: object) -> object:
    """Return a filter value in the form that pybids expects."""
    if isinstance(value, list):
        return [_filter_value(path, item) for item in value]
    name = "NONE" if value is None else _QUERIES.get(str(value).lower())
    if name:
        from bids.layout import Query

        return Query[name]
    if isinstance(value, str) and (not _SAFE.fullmatch(value) or ".." in value):
        raise refusal(
            path,
            f"{value!r} is not a valid BIDS label",
            "BIDS labels consist of letters and digits; file paths are not allowed.",
        )
    return value


_FIELD_MAPS = {
    "epi": "EPI with opposite phase encoding",
    "phasediff": "phase differences",
    "phase1": "phase images of two echoes",
    "fieldmap": "direct field mapping",
}
"""BIDS suffix of a field map → description."""


def tell_field_maps(bids_dir: Path, label: str, findings: Findings) -> None:
    """Report the field maps of a participant, which are not used.

    Field maps would require sdcflows, which needs FSL or AFNI.
    """
    folders = [
        bids_dir / f"sub-{label}" / "fmap",
        *sorted(bids_dir.glob(f"sub-{label}/ses-*/fmap")),
    ]
    suffixes = {
        path.name.split(".")[0].rpartition("_")[2]
        for folder in folders
        for path in folder.glob("*.nii*")
    }
    kinds = [text for suffix, text in _FIELD_MAPS.items() if suffix in suffixes]
    if kinds:
        text = (
            f"field maps were found ({', '.join(kinds)}), but bids-sr does not correct for"
            " susceptibility distortion. To use a field map, run fMRIPrep first and specify its"
            " output with -d fmriprep=DIR."
        )
        findings.tell(f"sub-{label}/fmap", text)


def first_table(bids_dir: Path, task: str) -> Path | None:
    """Return the first events table of a task in the data set, or None.

    The table does not depend on the selected participants.
    """
    participant_folders = sorted(bids_dir.glob("sub-*"))
    folders = (
        folder
        for participant in participant_folders
        for folder in (participant / "func", *sorted(participant.glob("ses-*/func")))
    )
    tables = (table for folder in folders for table in sorted(folder.glob("*_events.tsv")))
    return next((table for table in tables if entities_of(table).get("task", "") == task), None)
