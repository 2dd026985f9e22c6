"""Other BOLD series of the same head: found by their entities, read, and compared with a run.

A run is worked on with a measured high-resolution reference, series that other programs made of
it, another run of its task, or a short high-resolution run that calibrates it. `_ASKED` says what
each of them has to share with the run.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from bids_sr.bids import headers as hd
from bids_sr.bids import slice_axis
from bids_sr.bids import timing as bids_timing
from bids_sr.bids.entities import applies_to, entities_of, is_magnitude, same_run, stem_of
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.inheritance import merged, sidecars_on_disk
from bids_sr.bids.inputs import BoldRun
from bids_sr.bids.pairs import MIN_OVERLAP, SIZE_TOLERANCE, overlap, simple_ratio, sizes
from bids_sr.bids.volume_timing import read_spacing
from bids_sr.frozen import frozen
from bids_sr.io.fields_of_view import misfits
from bids_sr.io.grids import mm_text
from bids_sr.io.image_header import Triple
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
        header = slice_axis.like(header, beside.affine)
    else:
        header, said = slice_axis.with_slices_last(header, sidecar)
        if not hd.is_wide(header, findings):
            return None
    value, timing = sidecar.get("RepetitionTime"), sidecar.get("VolumeTiming")
    if timing is not None:
        value = read_spacing(path, timing, header.shape[3], value, findings)
        if value is None:
            return None
    if tr is None:
        tr = bids_timing.repetition_time(header, value, findings)
    elif isinstance(told := sidecar.get("RepetitionTime", header.tr), int | float):
        tr = float(told)
    if tr is None:
        return None
    if said:
        findings.tell(path, said)
    return BoldRun(
        header=header, tr=tr, sidecar=slice_axis.sidecar_in_order(sidecar, header.order)
    )


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
        return bids_timing.slice_times(candidate.header, candidate.sidecar, candidate.tr, findings)
    same = run.slice_timing if candidate.shape[2] == run.shape[2] else None
    if same is None or asked.timing != "own, else of the run":
        return None
    findings.tell(
        candidate.bold,
        "SliceTiming is missing in the sidecar; the slice times of the run are used.",
    )
    return same
