"""Selection of data: root, participants, filters, well-formed names and one file per run."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from bids_sr.bids.findings import Findings, refusal, require
from bids_sr.bids.inputs import entities_of, is_magnitude, stem_of_echoes
from bids_sr.bids.layout import KINDS, read_object
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
            "it is a file, not a directory" if bids_dir.exists() else "there is no such directory"
        )
        raise refusal(bids_dir, what, "Give the root directory of a BIDS data set.")
    description = bids_dir / "dataset_description.json"
    require(description)
    if not description.exists():
        raise refusal(
            bids_dir,
            "it is not a BIDS data set: dataset_description.json is missing",
            "Give the directory that holds dataset_description.json and the sub-… directories.",
        )
    if "Name" not in read_object(description):
        raise refusal(description, 'it has no "Name"', 'Add "Name" and "BIDSVersion" to it.')


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
        return "none: leave the option out."
    hidden = existing[_LISTED:]
    return f"{some(existing, _LISTED)}. {nearest_name(label, hidden)}".strip()


def participants(bids_dir: Path, found: Findings) -> list[str]:
    """Return sorted labels of all participants, and report folders with invalid labels.

    `InputError`: there is none.
    """
    named = sorted(p.name.removeprefix("sub-") for p in bids_dir.glob("sub-*") if p.is_dir())
    existing = [label for label in named if _LABEL.fullmatch(label)]
    if not existing:
        raise refusal(
            bids_dir, "it holds no sub-… directory", "Give the root directory of a BIDS data set."
        )
    for label in sorted(set(named) - set(existing)):
        text = "its name is not a BIDS label (letters, digits and +), so it is left out."
        found.tell(bids_dir / f"sub-{label}", text)
    alike: dict[str, list[str]] = {}
    for label in existing:
        alike.setdefault(label.lower(), []).append(label)
    for labels in (each for each in alike.values() if len(each) > 1):
        text = (
            f"participants {' and '.join(labels)} differ only in upper and lower case: on file"
            " systems that do not "
        )
        found.tell(
            bids_dir / f"sub-{labels[0]}",
            text + "distinguish them (macOS, Windows), their results overwrite each other.",
        )
    return existing


def choose(
    bids_dir: Path, existing: Sequence[str], selection: Selection, found: Findings
) -> list[str]:
    """Return labels to work on, and a problem for each that was asked for and is not there.

    `selection`: settings of what to work on; without participants all are chosen. `UsageError`: it
    cannot be read, or names tasks that are not there.
    """
    wanted, there = selection.participant_label or existing, set(existing)
    for label in wanted:
        if label not in there:
            fix = f"Choose among {choice(label, existing)}"
            found.refuse(
                bids_dir / f"sub-{label}",
                f"there is no participant {label!r} in the data set",
                fix,
            )
    return [label for label in wanted if label in there]


def well_named(paths: Sequence[Path], found: Findings) -> list[Path]:
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
        own = [part for part in entities if part.startswith(("sub-", "ses-"))]
        if odd is not None:
            reason = (
                f"its name contains {odd!r}, which is not a BIDS entity: letters, a dash, then"
                " letters and digits"
            )
            found.refuse(path, reason, "Rename the file, and its sidecars.")
        elif own != folders:
            reason = (
                f"its file name has {' '.join(own) or 'no participant'}, its folders have"
                f" {' '.join(folders)}"
            )
            found.refuse(path, reason, "Rename the file, or move it to where it belongs.")
        else:
            sound.append(path)
    return sound


def magnitudes(paths: Sequence[Path], found: Findings) -> list[Path]:
    """Return images of magnitude; phase, real and imaginary parts are left out, which is told."""
    for path in paths:
        if not is_magnitude(path):
            found.tell(path, f"it is part-{entities_of(path)['part']}; only magnitudes are used.")
    return [path for path in paths if is_magnitude(path)]


def bold_runs(paths: Sequence[Path], echo: int | None, found: Findings) -> list[tuple[Path, ...]]:
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
        with found.about(entities_of(files[0])["subject"], stem_of_echoes(files[0])):
            runs.append(_files_of_run(files, echo, found))
    return [run for run in runs if run]


def _files_of_run(files: Sequence[Path], echo: int | None, found: Findings) -> tuple[Path, ...]:
    """The files of a run that are used, in the order of echoes; none with a problem."""
    if not any(map(is_magnitude, files)):
        reason = "only phase, real or imaginary parts of this run are there"
        found.refuse(files[0], reason, "Add the magnitude (part-mag).")
        return ()
    usable = sorted(magnitudes(files, found), key=lambda path: (_echo(path), path.name))
    names, echoes = ", ".join(p.name for p in usable), [_echo(path) for path in usable]
    if echo is not None and echoes == [0]:
        found.tell(files[0], f"--echo-idx {echo} has no effect: the run has one echo.")
    elif echo is not None:
        usable = [path for path in usable if _echo(path) == echo]
        if not usable:
            found.refuse(
                files[0], f"it has no echo {echo} ({names})", "Choose another one with --echo-idx."
            )
            return ()
        echoes = [echo] * len(usable)
    if len(set(echoes)) < len(echoes):
        found.refuse(usable[0], f"several files belong to one run ({names})", "Keep one of them.")
        return ()
    if len(usable) == 1 and echoes != [0]:
        found.tell(usable[0], f"echo {echoes[0]} alone is used.")
    return tuple(usable)


def _echo(path: Path) -> int:
    """Number of the echo of a series; 0 without one."""
    label = entities_of(path).get("echo", "")
    return int(label) if label.isdigit() else 0


def read_filters(path: Path | None, found: Findings) -> dict[str, dict[str, object]]:
    """Read a filter file in fMRIPrep's format.

    An example is ``{"bold": {"echo": 2}, "t2starw": {"session": "hires"}}``.

    `InputError`: the file is missing or no JSON, names another kind of image, or a value could
    leave the data set. Queries of pybids by kind of image, null as ``Query.NONE``; empty for none.
    """
    if path is None:
        return {}
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise refusal(
            path, f"the filter file cannot be read ({error.strerror})", "Check the path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise refusal(
            path, f"the filter file is not valid JSON ({error})", "Correct the file."
        ) from error
    example = 'Write for example {"bold": {"echo": 2}, "t2starw": {"session": "01"}}.'
    if not isinstance(content, dict) or not all(
        isinstance(value, dict) for value in content.values()
    ):
        raise refusal(path, "the filter file must hold one query per kind of image", example)
    filters: dict[str, dict[str, object]] = {}
    for kind, query in content.items():
        if kind in _NOT_READ:
            found.warn(path, f"its filter of {kind} has no effect: such images are not used.")
            continue
        if kind not in KINDS:
            fix = f"The kinds are {', '.join(KINDS)}. {example}"
            raise refusal(path, f"{kind!r} is not a kind of image that bids-sr reads", fix)
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
            f"{value!r} is not a BIDS label",
            "Labels consist of letters and digits; paths are not accepted.",
        )
    return value


_FIELD_MAPS = {
    "epi": "EPI of opposite phase encoding",
    "phasediff": "phase differences",
    "phase1": "phases of two echoes",
    "fieldmap": "a field map in units of its own",
}
"""Suffix in a folder ``fmap`` to what it is."""


def tell_field_maps(bids_dir: Path, label: str, found: Findings) -> None:
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
            f"field maps ({', '.join(kinds)}) are not used: susceptibility distortion is not"
            " corrected here. fMRIPrep corrects it; with -d fmriprep=DIR its field map is used."
        )
        found.tell(f"sub-{label}/fmap", text)


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
