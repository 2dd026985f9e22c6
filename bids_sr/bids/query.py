"""Selection of data: root, participants, filters, well-formed names and one file per run."""

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

_LISTED = 20  # labels in a message
_SAFE = re.compile(r"[0-9A-Za-z.+]+")
_LABEL = re.compile(r"[0-9A-Za-z+]+")
_ENTITY = re.compile(r"[A-Za-z]+-[0-9A-Za-z+]+")
_QUERIES = {
    "*": "ANY",
    "query.any": "ANY",
    "query.none": "NONE",
    "query.optional": "OPTIONAL",
}
"""Values of filters to what they ask of pybids; null asks for NONE."""
_NOT_READ = ("fmap", "sbref", "roi", "dwi", "asl", "pet")
"""Kinds of image that filter files of other programs name, too."""


def check_dataset(bids_dir: Path) -> None:
    """Raise `InputError` unless the directory is the root of a BIDS data set.

    It is a directory with a description that has a name.
    """
    if not bids_dir.is_dir():
        what = (
            "this path is a file, not a directory"
            if bids_dir.exists()
            else "the dataset directory was not found"
        )
        raise refusal(bids_dir, what, "Specify the root directory of a BIDS dataset.")
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
    """List labels for a message, the first of them where there are many.

    >>> some(["a", "b"])
    'a, b'
    >>> some("abcd", 2)
    'a, b and 2 more'

    Labels joined by commas; ``none`` without any.
    """
    shown = ", ".join(labels[:limit]) or "none"
    return shown + (f" and {len(labels) - limit} more" if len(labels) > limit else "")


def choice(label: str, existing: Sequence[str]) -> str:
    """The labels that there are, as a sentence; with the nearest one where not all are shown.

    >>> choice("3", ["01", "02", "03"])
    '01, 02, 03.'

    `existing`: labels to choose among, sorted.
    """
    if not existing:
        return "none; omit the option."
    hidden = existing[_LISTED:]
    return f"{some(existing, _LISTED)}. {nearest_name(label, hidden)}".strip()


def participants(bids_dir: Path, findings: Findings) -> list[str]:
    """Return sorted labels of all participants, and report folders with invalid labels.

    `InputError`: there is none.
    """
    named = sorted(p.name.removeprefix("sub-") for p in bids_dir.glob("sub-*") if p.is_dir())
    existing = [label for label in named if _LABEL.fullmatch(label)]
    if not existing:
        raise refusal(
            bids_dir,
            "no sub-… directories were found",
            "Specify the root directory of a BIDS dataset.",
        )
    for label in sorted(set(named) - set(existing)):
        text = (
            "the directory is skipped because its name is not a valid BIDS label (letters,"
            " digits and +)."
        )
        findings.tell(bids_dir / f"sub-{label}", text)
    alike: dict[str, list[str]] = {}
    for label in existing:
        alike.setdefault(label.lower(), []).append(label)
    for labels in (each for each in alike.values() if len(each) > 1):
        text = (
            f"the labels of the participants {' and '.join(labels)} differ only in case. On"
            " case-insensitive file systems (macOS, Windows), their results overwrite each other."
        )
        findings.tell(bids_dir / f"sub-{labels[0]}", text)
    return existing


def choose(
    bids_dir: Path, existing: Sequence[str], selection: Selection, findings: Findings
) -> list[str]:
    """Return labels to work on, and a problem for each that was asked for and is not there.

    `selection`: settings of what to work on; without participants all are chosen. `UsageError`: it
    cannot be read, or names tasks that are not there.
    """
    labels, there = selection.participant_label or existing, set(existing)
    for label in labels:
        if label not in there:
            fix = f"Available: {choice(label, existing)}"
            findings.refuse(
                bids_dir / f"sub-{label}",
                f"participant {label!r} was not found in the dataset",
                fix,
            )
    return [label for label in labels if label in there]


def well_named(paths: Sequence[Path], findings: Findings) -> list[Path]:
    """Return well-named images below ``sub-…[/ses-…]/anat`` or ``func``; report the others.

    Labels end up in the names of results, so nothing but letters, digits and + may be in them.
    """
    sound = []
    for path in paths:
        *entities, _ = path.name.split(".")[0].split("_")
        odd = next((part for part in entities if not _ENTITY.fullmatch(part)), None)
        place = path.parent.parent
        folders = (
            [place.parent.name, place.name] if place.name.startswith("ses-") else [place.name]
        )
        labels = [part for part in entities if part.startswith(("sub-", "ses-"))]
        if odd is not None:
            reason = (
                f"the file name contains {odd!r}, which is not a valid BIDS entity (letters, a"
                " hyphen, then letters and digits)"
            )
            findings.refuse(path, reason, "Rename the file and its sidecars.")
        elif labels != folders:
            reason = (
                f"the file name contains {' '.join(labels) or 'no participant label'}, but the"
                f" directories are named {' '.join(folders)}"
            )
            findings.refuse(path, reason, "Rename the file, or move it to the matching directory.")
        else:
            sound.append(path)
    return sound


def magnitudes(paths: Sequence[Path], findings: Findings) -> list[Path]:
    """Return images of magnitude; phase, real and imaginary parts are left out, which is told."""
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
    """Return the files of each run: its magnitude, its echoes, or the chosen echo.

    A run with a phase image alone is refused.

    `paths`: series of one participant or several, all echoes and parts. `echo`: number of the echo
    to use; None for all of them.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    for path in paths:
        key = tuple((k, v) for k, v in entities_of(path).items() if k not in ("echo", "part"))
        groups.setdefault(key, []).append(path)
    runs = []
    for files in groups.values():
        with findings.about(entities_of(files[0])["subject"], stem_of_echoes(files[0])):
            runs.append(_files_of_run(files, echo, findings))
    return [run for run in runs if run]


def _files_of_run(files: Sequence[Path], echo: int | None, findings: Findings) -> tuple[Path, ...]:
    """The files of a run that are used, in the order of echoes; none with a problem."""
    if not any(map(is_magnitude, files)):
        reason = "only phase, real or imaginary images were found for this run"
        findings.refuse(files[0], reason, "Add the magnitude image (part-mag).")
        return ()
    usable = sorted(magnitudes(files, findings), key=lambda path: (_echo(path), path.name))
    names, echoes = ", ".join(p.name for p in usable), [_echo(path) for path in usable]
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
    """Number of the echo of a series; 0 without one."""
    label = entities_of(path).get("echo", "")
    return int(label) if label.isdigit() else 0


def read_filters(path: Path | None, findings: Findings) -> dict[str, dict[str, object]]:
    """Read a filter file in fMRIPrep's format.

    An example is ``{"bold": {"echo": 2}, "t2starw": {"session": "hires"}}``.

    `InputError`: the file is missing or no JSON, names another kind of image, or a value could
    leave the data set. Returns queries of pybids by kind of image, null as ``Query.NONE``.
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
"""Suffix in a folder ``fmap`` to what it is."""


def tell_field_maps(bids_dir: Path, label: str, findings: Findings) -> None:
    """Report the field maps of a participant, which are not used here.

    Using them by sdcflows needs FSL or AFNI.
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
    """First events table of a task in the data set, by name, whichever participants are chosen."""
    participants = sorted(bids_dir.glob("sub-*"))
    folders = (
        folder
        for one in participants
        for folder in (one / "func", *sorted(one.glob("ses-*/func")))
    )
    tables = (table for folder in folders for table in sorted(folder.glob("*_events.tsv")))
    return next((table for table in tables if entities_of(table).get("task", "") == task), None)
