"""Other BOLD series of the same head: found by their entities, read, and held against a run.

A run is worked on with a measured high-resolution reference, series that other programs made of
it, another run of its task, or a short high-resolution run that calibrates it. `_ASKED` says what
each of them has to share with the run.

Selection of data: root, participants, filters, well-formed names and one file per run.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from bids_sr.bids import headers as hd
from bids_sr.bids.findings import Findings, InputError, refusal, require
from bids_sr.bids.inputs import (
    BoldRun,
    applies_to,
    entities_of,
    is_magnitude,
    same_run,
    stem_of,
    stem_of_echoes,
)
from bids_sr.bids.layout import KINDS, merged, read_object, sidecars_on_disk
from bids_sr.bids.pairs import MIN_OVERLAP, SIZE_TOLERANCE, overlap, simple_ratio, sizes
from bids_sr.bids.volume_timing import read_spacing
from bids_sr.config import Selection, nearest_name
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import read_text
from bids_sr.io.grids import Triple, misfits, mm_text
from bids_sr.io.tables import column

_Kind = Literal["reference", "compared", "another", "calibration"]
SERIES = "func/*_bold.nii*"
_LEAST_VOLUMES = 8  # of a calibration, in the steady state


@frozen
class _Asked:
    """What a companion of a kind has to share with its run."""

    of_run: bool = False  # it was made of the run: as many volumes, at the same times
    # high resolution of the run, anything from the acquired grid to it, voxels smaller by the
    # factor with slices as thick in an overlapping field of view, or the acquired matrix
    grid: Literal["high", "between", "factor", "acquired"]
    # whole events (if both have some), or trial types alone
    events: Literal["", "same", "types"] = ""
    timing: Literal["", "own", "own, else of the run"] = ""  # slice times that are corrected
    instead: str = ""  # of the run itself


_ASKED: Mapping[_Kind, _Asked] = {
    "reference": _Asked(
        of_run=True,
        grid="high",
        events="same",
        timing="own, else of the run",
        instead=(
            "Specify another directory, such as derivatives/ground-truth of a simulated dataset"
            " (see --truth)."
        ),
    ),
    "compared": _Asked(
        of_run=True,
        grid="between",
        instead="Specify the series that another program computed from this run.",
    ),
    "another": _Asked(grid="acquired", events="types", timing="own"),
    "calibration": _Asked(grid="factor"),
}


def series_named(
    folder: Path, entities: Mapping[str, str], keys: Collection[str], pattern: str = SERIES
) -> list[Path]:
    """Return the magnitude images under a folder that share a run's entities.

    Paths in alphabetical order; empty where there is none.
    """
    found = sorted(folder.rglob(pattern))
    return [p for p in found if same_run(entities_of(p), entities, keys) and is_magnitude(p)]


def read_run(
    path: Path,
    sidecar: Mapping[str, object],
    findings: Findings,
    *,
    beside: BoldRun | None = None,
    tr: float | None = None,
) -> BoldRun | None:
    """Read a BOLD series from its header, or report a problem and return None.

    `beside`: run whose axis order it takes; by default, slices come last. Returns a run without
    events and slice times, or None.
    """
    header, said = hd.read_header(path, findings), ""
    if header is None or not hd.is_bold(header, findings):
        return None
    if beside is not None:
        header = hd.like(header, beside.affine)
    else:
        header, said = hd.with_slices_last(header, sidecar)
        if not hd.is_wide(header, findings):
            return None
    value, timing = sidecar.get("RepetitionTime"), sidecar.get("VolumeTiming")
    if timing is not None:
        value = read_spacing(path, timing, header.shape[3], value, findings)
        if value is None:
            return None
    if tr is None:
        tr = hd.repetition_time(header, value, findings)
    elif isinstance(told := sidecar.get("RepetitionTime", header.tr), int | float):
        tr = float(told)
    if tr is None:
        return None
    if said:
        findings.tell(path, said)
    return BoldRun(header=header, tr=tr, sidecar=hd.sidecar_in_order(sidecar, header.order))


def companion(
    kind: _Kind, path: Path, root: Path, run: BoldRun, findings: Findings, *, timed: bool = True
) -> BoldRun | None:
    """Return a series that fits its run as far as header, sidecar and events tell, or None.

    `kind`: what it is to the run: ``reference``, ``compared``, ``another`` or ``calibration``.
    Returns the series with its axes as those of the run; None with a problem.
    """
    asked, before = _ASKED[kind], len(findings.problems)
    if not findings.fetched(path):
        return None
    if path.samefile(run.bold):
        inner = root / "derivatives" / "ground-truth"
        there = kind == "reference" and inner.is_dir()
        findings.refuse(
            path,
            "the file is identical to the run that is being processed",
            f"Use {inner}." if there else asked.instead,
        )
        return None
    try:
        sidecar = merged(sidecars_on_disk(path, root))
    except InputError as error:
        findings.add(error.problems)
        return None
    companion_run = read_run(
        path, sidecar, findings, beside=run, tr=run.tr if asked.of_run else None
    )
    if companion_run is None:
        return None
    if asked.events:
        events = path.with_name(f"{stem_of(path)}_events.tsv")
        inherited = run.events if run.events and applies_to(run.events, path) else None
        companion_run = replace(
            companion_run, events=events.absolute() if events.is_file() else inherited
        )
    for file, reason, fix in unfit(companion_run, run, kind, run.factor):
        findings.refuse(file, reason, fix)
    if len(findings.problems) > before:
        return None
    return replace(
        companion_run, slice_timing=_timing(companion_run, run, asked, findings) if timed else None
    )


def unfit(
    candidate: BoldRun, run: BoldRun, kind: _Kind, factor: Triple | None, dummies: int = 0
) -> Iterator[tuple[Path, str, str]]:
    """Yield file, reason and fix for each mismatch of a companion with its run.

    `candidate, run`: with their axes in one order. `kind`: what it is to the run: ``reference``,
    ``compared``, ``another`` or ``calibration``. `factor`: of super-resolution of the run; None
    where only a calibration can tell it.
    """
    asked = _ASKED[kind]
    if asked.grid == "factor":
        reason = _why_no_calibration(candidate, run, factor, candidate.n_volumes - dummies)
        yield from [(candidate.bold, reason, "")] * bool(reason)
    elif asked.grid == "acquired":
        if candidate.shape != run.shape or not np.allclose(candidate.zooms, run.zooms, rtol=0.01):
            yield candidate.bold, "the image is not on the grid of the run", ""
    else:
        assert factor is not None
        own_shape, finest = (*run.shape, run.n_volumes), asked.grid == "high"
        for reason, fix in misfits(
            candidate.header.shape,
            candidate.affine,
            candidate.tr,
            own_shape,
            run.affine,
            run.tr,
            factor,
            finest=finest,
            name=run.bold.name,
        ):
            yield candidate.bold, reason, fix
    yield from _unfit_events(candidate, run, asked)


def _unfit_events(
    candidate: BoldRun, run: BoldRun, asked: _Asked
) -> Iterator[tuple[Path, str, str]]:
    """What its events do not share with those of the run."""
    if not asked.events or (
        asked.events == "same" and (run.events is None or candidate.events is None)
    ):
        return
    own, other = (
        [] if table is None else _rows(table) for table in (run.events, candidate.events)
    )
    if asked.events == "types" and not {kind for kind, *_ in own} <= {kind for kind, *_ in other}:
        yield candidate.bold, "the events table of this file lacks some trial types of the run", ""
    elif asked.events == "same" and not _alike(own, other) and run.events and candidate.events:
        reason = (
            f"the {len(other)} events differ in onset, duration or trial type from the {len(own)}"
            f" events in {run.events.name}"
        )
        fix = (
            "Use the reference that belongs to this run. If volumes were removed, shift the"
            " onsets in both events tables."
        )
        yield candidate.events, reason, fix


_Event = tuple[str, float, float]  # trial type, onset and duration (s)


def _alike(own_events: Sequence[_Event], other: Sequence[_Event]) -> bool:
    """Whether events agree within the rounding of tables."""
    if [kind for kind, *_ in own_events] != [kind for kind, *_ in other]:
        return False
    a, b = ([times for _, *times in events] for events in (own_events, other))
    return np.allclose(a, b, rtol=0, atol=1e-3, equal_nan=True)


def _rows(table: Path) -> list[_Event]:
    columns = [column(table, name) for name in ("trial_type", "onset", "duration")]
    return sorted((kind, _time(a), _time(b)) for kind, a, b in zip(*columns, strict=True))


def _time(text: str) -> float:
    """Seconds; infinity, which has a place in the order, where it is no number."""
    try:
        return float(text)
    except ValueError:
        return np.inf


def _why_no_calibration(
    candidate: BoldRun, run: BoldRun, factor: Triple | None, n_steady: int
) -> str:
    """Why a series cannot calibrate a run; "" if it can."""
    ratio = np.asarray(run.zooms) / np.asarray(candidate.zooms)
    told = factor or ratio_of(candidate, run)
    if told is None or np.any(np.abs(ratio[:2] / np.asarray(told[:2]) - 1) > SIZE_TOLERANCE):
        wanted = "a simple ratio above 1" if told is None else f"the factor {told[0]:g}"
        stand = " and ".join(f"{value:.3g}" for value in ratio[:2])
        return (
            f"the ratio between the voxel sizes of the run ({sizes(run.header)}) and of the"
            f" calibration run ({sizes(candidate.header)}) is {stand}, but {wanted} is expected"
        )
    if abs(ratio[2] / told[2] - 1) > SIZE_TOLERANCE:
        apart = [mm_text(each.zooms[2]) for each in (candidate, run)]
        return f"the slice spacing is {apart[0]} mm, but {apart[1]} mm in the run to be calibrated"
    if n_steady < _LEAST_VOLUMES:
        return (
            f"{n_steady} steady-state volumes were found, but calibration requires at least"
            f" {_LEAST_VOLUMES} (20 are recommended)"
        )
    share = overlap(run.header, candidate.header)
    if share < MIN_OVERLAP:
        return (
            f"the field of view covers {share:.0%} of the field of view of the run, but at least"
            f" {MIN_OVERLAP:.0%} is required"
        )
    return ""


def ratio_of(candidate: BoldRun, run: BoldRun) -> Triple | None:
    """Return the factor that the voxel sizes of a calibration imply (along slices 1), or None.

    In plane it is a simple fraction, or a whole number within the tolerance.

    `candidate`: calibration with its axes in the order of the run. Returns None without a simple
    ratio above 1.
    """
    mean = float(np.mean(np.asarray(run.zooms[:2]) / np.asarray(candidate.zooms[:2])))
    near = simple_ratio(mean) or (
        float(round(mean)) if abs(mean / max(round(mean), 1) - 1) <= SIZE_TOLERANCE else None
    )
    return None if near is None or near <= 1 else (near, near, 1.0)


def _timing(
    candidate: BoldRun, run: BoldRun, asked: _Asked, findings: Findings
) -> tuple[float, ...] | None:
    """Slice times of a companion; those of the run where its own sidecar is silent."""
    if asked.timing and candidate.sidecar.get("SliceTiming") is not None:
        return hd.slice_times(candidate.header, candidate.sidecar, candidate.tr, findings)
    same = run.slice_timing if candidate.shape[2] == run.shape[2] else None
    if same is None or asked.timing != "own, else of the run":
        return None
    findings.tell(
        candidate.bold,
        "SliceTiming is missing in the sidecar; the slice times of the run are used.",
    )
    return same


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
