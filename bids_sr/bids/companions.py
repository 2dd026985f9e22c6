"""Other BOLD series of the same head: found by their entities, read, and held against a run.

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
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.inputs import BoldRun, applies_to, entities_of, is_magnitude, same_run, stem_of
from bids_sr.bids.layout import merged, sidecars_on_disk
from bids_sr.bids.pairs import MIN_OVERLAP, SIZE_TOLERANCE, overlap, simple_ratio, sizes
from bids_sr.frozen import frozen
from bids_sr.io.grids import misfits, mm_text
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
    timing: Literal["", "own", "or that of the run"] = ""  # slice times that are corrected
    instead: str = ""  # of the run itself


_ASKED: Mapping[_Kind, _Asked] = {
    "reference": _Asked(
        of_run=True,
        grid="high",
        events="same",
        timing="or that of the run",
        instead=(
            "Give another directory, such as derivatives/ground-truth of simulated data (see"
            " --truth)."
        ),
    ),
    "compared": _Asked(
        of_run=True, grid="between", instead="Give the series that another program made of it."
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
    found: Findings,
    *,
    beside: BoldRun | None = None,
    tr: float | None = None,
) -> BoldRun | None:
    """Read a BOLD series from its header, or report a problem and return None.

    `beside`: run whose axis order it takes; by default, slices come last. Run without events and
    slice times; None where it cannot be read.
    """
    header, said = hd.read_header(path, found), ""
    if header is None or not hd.is_bold(header, found):
        return None
    if beside is not None:
        header = hd.like(header, beside.affine)
    else:
        header, said = hd.with_slices_last(header, sidecar)
        if not hd.is_wide(header, found):
            return None
    if tr is None:
        tr = hd.repetition_time(header, sidecar.get("RepetitionTime"), found)
    elif isinstance(told := sidecar.get("RepetitionTime", header.tr), int | float):
        tr = float(told)
    if tr is None:
        return None
    if said:
        found.tell(path, said)
    return BoldRun(header=header, tr=tr, sidecar=hd.sidecar_in_order(sidecar, header.order))


def companion(
    kind: _Kind, path: Path, root: Path, run: BoldRun, found: Findings, *, timed: bool = True
) -> BoldRun | None:
    """Return a series that fits its run as far as header, sidecar and events tell, or None.

    `kind`: what it is to the run: ``reference``, ``compared``, ``another`` or ``calibration``.
    Series with its axes as those of the run; None with a problem.
    """
    asked, before = _ASKED[kind], len(found.problems)
    if not found.fetched(path):
        return None
    if path.samefile(run.bold):
        inner = root / "derivatives" / "ground-truth"
        there = kind == "reference" and inner.is_dir()
        found.refuse(path, "it is the run itself", f"Give {inner}." if there else asked.instead)
        return None
    try:
        sidecar = merged(sidecars_on_disk(path, root))
    except InputError as error:
        found.add(error.problems)
        return None
    one = read_run(path, sidecar, found, beside=run, tr=run.tr if asked.of_run else None)
    if one is None:
        return None
    if asked.events:
        events = path.with_name(f"{stem_of(path)}_events.tsv")
        inherited = run.events if run.events and applies_to(run.events, path) else None
        one = replace(one, events=events.absolute() if events.is_file() else inherited)
    for file, reason, fix in unfit(one, run, kind, run.factor):
        found.refuse(file, reason, fix)
    if len(found.problems) > before:
        return None
    return replace(one, slice_timing=_timing(one, run, asked, found) if timed else None)


def unfit(
    one: BoldRun, run: BoldRun, kind: _Kind, factor: Triple | None, dummies: int = 0
) -> Iterator[tuple[Path, str, str]]:
    """Yield file, reason and fix for each mismatch of a companion with its run.

    `one, run`: with their axes in one order. `kind`: what it is to the run: ``reference``,
    ``compared``, ``another`` or ``calibration``.
    """
    asked = _ASKED[kind]
    if asked.grid == "factor":
        reason = _why_no_calibration(one, run, factor, one.n_volumes - dummies)
        yield from [(one.bold, reason, "")] * bool(reason)
    elif asked.grid == "acquired":
        if one.shape != run.shape or not np.allclose(one.zooms, run.zooms, rtol=0.01):
            yield one.bold, "its grid is not that of the run", ""
    else:
        assert factor is not None
        own, finest = (*run.shape, run.n_volumes), asked.grid == "high"
        for reason, fix in misfits(
            one.header.shape,
            one.affine,
            one.tr,
            own,
            run.affine,
            run.tr,
            factor,
            finest=finest,
            name=run.bold.name,
        ):
            yield one.bold, reason, fix
    yield from _unfit_events(one, run, asked)


def _unfit_events(one: BoldRun, run: BoldRun, asked: _Asked) -> Iterator[tuple[Path, str, str]]:
    """What its events do not share with those of the run."""
    if not asked.events or (asked.events == "same" and (run.events is None or one.events is None)):
        return
    own, other = ([] if table is None else _rows(table) for table in (run.events, one.events))
    if asked.events == "types" and not {kind for kind, *_ in own} <= {kind for kind, *_ in other}:
        yield one.bold, "it lacks trial types of the run", ""
    elif asked.events == "same" and not _alike(own, other) and run.events and one.events:
        reason = (
            f"its {len(other)} events are not the {len(own)} of {run.events.name} in onset,"
            " duration and trial type"
        )
        fix = (
            "Give the reference of this run; if volumes were removed, shift the onsets in both"
            " tables."
        )
        yield one.events, reason, fix


_Event = tuple[str, float, float]  # trial type, onset and duration (s)


def _alike(own: Sequence[_Event], other: Sequence[_Event]) -> bool:
    """Whether events agree within the rounding of tables."""
    if [kind for kind, *_ in own] != [kind for kind, *_ in other]:
        return False
    a, b = ([times for _, *times in events] for events in (own, other))
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


def _why_no_calibration(one: BoldRun, run: BoldRun, factor: Triple | None, n_steady: int) -> str:
    """Why a series cannot calibrate a run; "" if it can."""
    ratio = np.asarray(run.zooms) / np.asarray(one.zooms)
    told = factor or ratio_of(one, run)
    if told is None or np.any(np.abs(ratio[:2] / np.asarray(told[:2]) - 1) > SIZE_TOLERANCE):
        wanted = "a simple ratio above 1" if told is None else f"the factor {told[0]:g}"
        stand = " and ".join(f"{value:.3g}" for value in ratio[:2])
        voxels = f"its voxels are {sizes(one.header)}, those of the run {sizes(run.header)}"
        return f"{voxels}: the ratio is {stand}, not {wanted}"
    if abs(ratio[2] / told[2] - 1) > SIZE_TOLERANCE:
        apart = [mm_text(each.zooms[2]) for each in (one, run)]
        return f"its slices are {apart[0]} mm apart and those of the run {apart[1]} mm"
    if n_steady < _LEAST_VOLUMES:
        needed = f"{_LEAST_VOLUMES} are needed, 20 are recommended"
        return f"it has {n_steady} steady-state volumes; {needed}"
    share = overlap(run.header, one.header)
    if share < MIN_OVERLAP:
        return f"its field of view covers {share:.0%} of that of the run: they do not overlap"
    return ""


def ratio_of(one: BoldRun, run: BoldRun) -> Triple | None:
    """Return the factor that the voxel sizes of a calibration imply (along slices 1), or None.

    In plane it is a simple fraction, or a whole number within the tolerance.

    `one`: calibration with its axes in the order of the run. Factor along each axis; None without
    a simple ratio above 1.
    """
    mean = float(np.mean(np.asarray(run.zooms[:2]) / np.asarray(one.zooms[:2])))
    near = simple_ratio(mean) or (
        float(round(mean)) if abs(mean / max(round(mean), 1) - 1) <= SIZE_TOLERANCE else None
    )
    return None if near is None or near <= 1 else (near, near, 1.0)


def _timing(
    one: BoldRun, run: BoldRun, asked: _Asked, found: Findings
) -> tuple[float, ...] | None:
    """Slice times of a companion; those of the run where its own sidecar is silent."""
    if asked.timing and one.sidecar.get("SliceTiming") is not None:
        return hd.slice_times(one.header, one.sidecar, one.tr, found)
    same = run.slice_timing if one.shape[2] == run.shape[2] else None
    if same is None or asked.timing != "or that of the run":
        return None
    found.tell(one.bold, "it has no SliceTiming; that of the run is used.")
    return same
