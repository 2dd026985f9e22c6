"""Other BOLD series of the same head: search by entities, reading, and comparison with a run.

Companions of a run are a high-resolution reference, a series that another program computed from
the run, another run of the same task, and a short high-resolution run for calibration.
`_REQUIREMENTS` lists the properties that each kind shares with the run.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from bids_sr.glm.contrasts import is_missing_type, list_modeled_types
from bids_sr.io.fields_of_view import TimedGrid, find_grid_problems
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import BOLDREF, Factor, highres_size, mm_text, size_text
from bids_sr.io.image_header import Header
from bids_sr.io.tables import TABLE_ERRORS, read_rows
from bids_sr.survey.bids import headers, slice_axis, timing
from bids_sr.survey.bids.entities import (
    applies_to,
    file_stem,
    is_magnitude,
    parse_entities,
    same_run,
)
from bids_sr.survey.bids.findings import Findings, add_problem, is_downloaded, note
from bids_sr.survey.bids.inheritance import read_metadata
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.pairs import (
    MIN_OVERLAP,
    SIZE_TOLERANCE,
    measure_overlap,
    nearest_simple_ratio,
    voxel_size_text,
)

_CompanionKind = Literal["reference", "compared", "another", "calibration"]
_Mismatch = tuple[Path, str, str]  # file, reason and remedy ("" if there is none)
_TimedEvent = tuple[str, float, float]  # type ("" if missing), onset and duration (s) of an event
SERIES = "func/*_bold.nii*"
_SPACE_FIX = (
    f"Specify an image in the space of the run, and add space-{BOLDREF} to its file name unless"
    " the image is on the acquired or high-resolution grid."
)
_MIN_VOLUMES = 8  # steady-state volumes of a calibration run


def find_series_of_run(
    folder: Path, entities: Mapping[str, str], keys: Collection[str], pattern: str = SERIES
) -> list[Path]:
    """Return the magnitude images under a folder that share a run's entities, sorted by path."""
    return [
        path
        for path in sorted(folder.rglob(pattern))
        if same_run(parse_entities(path), entities, keys) and is_magnitude(path)
    ]


def select_in_run_space(paths: Sequence[Path]) -> list[Path]:
    """Return the files that may be in the space of the run according to their names.

    If the names of all files state other spaces, the first file is returned.
    """
    own = [path for path in paths if parse_entities(path).get("space", "") in ("", BOLDREF)]
    return own or [*paths[:1]]


def read_companion(
    kind: _CompanionKind, path: Path, root: Path, run: BoldRun, *, needs_timing: bool = True
) -> BoldRun | None:
    """Read a companion of a run, and compare its header, sidecar and events with the run.

    `kind` is the relation of the series to the run. `root` is the data set of the series; sidecars
    are inherited from its root downward. `needs_timing` states whether to read slice times. The
    companion has the axis order of the run; None with a problem.
    """
    requirement = _REQUIREMENTS[kind]
    if not is_downloaded(path):
        return None
    if path.samefile(run.bold):
        ground_truth_dir = root / "derivatives" / "ground-truth"
        has_ground_truth = kind == "reference" and ground_truth_dir.is_dir()
        add_problem(
            path,
            "the file is identical to the run that is being processed",
            f"Use {ground_truth_dir}." if has_ground_truth else requirement.identity_fix,
        )
        return None
    sidecar = read_metadata(path, root)
    if sidecar is None:
        return None
    companion = read_run(
        path, sidecar, axes_run=run, tr=run.tr if requirement.is_derived else None
    )
    if companion is None:
        return None
    if requirement.events:
        companion = _add_events(companion, run, root)
    mismatches = list(find_mismatches(companion, run, kind, run.factor))
    for mismatch in mismatches:
        add_problem(*mismatch)
    if mismatches:
        return None
    if needs_timing:
        companion = replace(companion, slice_timing=_find_slice_times(companion, run, requirement))
    return companion


def read_run(
    path: Path,
    sidecar: Mapping[str, object],
    *,
    axes_run: BoldRun | None = None,
    tr: float | None = None,
) -> BoldRun | None:
    """Read a BOLD series from its header, or report a problem and return None.

    The series is brought to the axis order of `axes_run`. If it is None, slices become the last
    axis. `tr` is the repetition time (s) to use if neither sidecar nor header contains a number;
    implausible times are then not reported. If None, the repetition time is checked. The run has
    no events and no slice times yet.
    """
    header, reorder_note = headers.read_header(path), ""
    if header is None or not headers.is_bold(header):
        return None
    if axes_run is not None:
        header = slice_axis.reorder_like(header, axes_run.affine)
    else:
        header, reorder_note = slice_axis.with_slices_last(header, sidecar)
        if not headers.is_wide(header):
            return None
    stated_tr, volume_timing = sidecar.get("RepetitionTime"), sidecar.get("VolumeTiming")
    if volume_timing is not None:
        stated_tr = timing.read_spacing(path, volume_timing, header.shape[3], stated_tr)
        if stated_tr is None:
            return None
    if tr is None:
        run_tr = timing.check_repetition_time(header, stated_tr)
    else:
        known_tr = sidecar.get("RepetitionTime", header.tr)
        run_tr = float(known_tr) if isinstance(known_tr, int | float) else tr
    if run_tr is None:
        return None
    if reorder_note:
        note(path, reorder_note)
    return BoldRun(
        header=header, tr=run_tr, sidecar=slice_axis.sidecar_in_order(sidecar, header.order)
    )


def _add_events(companion: BoldRun, run: BoldRun, root: Path) -> BoldRun:
    """Return a companion with the events table next to it, or with the run's table if it applies.

    `root` is the data set of the companion.
    """
    events = companion.bold.with_name(f"{file_stem(companion.bold)}_events.tsv")
    if events.is_file():
        with Findings():  # unreadable sidecars are reported with their run
            sidecar = read_metadata(events, root) or {}
        return replace(companion, events=events, events_sidecar=sidecar)
    if run.events and applies_to(run.events, companion.bold):
        return replace(companion, events=run.events, events_sidecar=run.events_sidecar)
    return companion


def find_mismatches(
    candidate: BoldRun, run: BoldRun, kind: _CompanionKind, factor: Factor | None, dummies: int = 0
) -> Iterator[_Mismatch]:
    """Yield each mismatch of a companion with its run.

    Both series have the same axis order, and `kind` is the relation of the candidate to the run.
    `factor` is the super-resolution factor of the run. None is valid only for a calibration run,
    which then determines the factor. `dummies` are not counted for a calibration run.
    """
    requirement = _REQUIREMENTS[kind]
    if requirement.grid == "factor":
        reason = _find_calibration_mismatch(candidate, run, factor, candidate.n_volumes - dummies)
        if reason:
            yield candidate.bold, reason, ""
    elif requirement.grid == "acquired":
        if candidate.shape != run.shape or not np.allclose(candidate.zooms, run.zooms, rtol=0.01):
            yield candidate.bold, "the image is not on the grid of the run", ""
    else:
        for reason, fix in find_space_problems(
            candidate.header, candidate.tr, run, requires_highres=requirement.grid == "high"
        ):
            yield candidate.bold, reason, fix
    yield from _find_event_mismatches(candidate, run, requirement)


def _find_calibration_mismatch(
    candidate: BoldRun, run: BoldRun, factor: Factor | None, n_steady: int
) -> str:
    """Return the reason why a series cannot calibrate a run, "" if it can.

    `n_steady` is the number of steady-state volumes of the candidate.
    """
    ratios = np.asarray(run.zooms) / np.asarray(candidate.zooms)
    expected_factor = factor or infer_calibration_factor(candidate, run)
    if expected_factor is None or np.any(
        np.abs(ratios[:2] / np.asarray(expected_factor[:2]) - 1) > SIZE_TOLERANCE
    ):
        expectation = (
            "a simple ratio above 1"
            if expected_factor is None
            else f"the factor {expected_factor[0]:g}"
        )
        ratios_text = " and ".join(f"{ratio:.3g}" for ratio in ratios[:2])
        return (
            "the ratio between the voxel sizes of the run"
            f" ({voxel_size_text(run.header)}) and of the calibration run"
            f" ({voxel_size_text(candidate.header)}) is {ratios_text}, but {expectation} is"
            " expected"
        )
    if abs(ratios[2] / expected_factor[2] - 1) > SIZE_TOLERANCE:
        return (
            f"the slice spacing is {mm_text(candidate.zooms[2])} mm, but"
            f" {mm_text(run.zooms[2])} mm in the run to be calibrated"
        )
    if n_steady < _MIN_VOLUMES:
        return (
            f"{n_steady} steady-state volumes were found, but calibration requires at least"
            f" {_MIN_VOLUMES} (20 are recommended)"
        )
    share = measure_overlap(run.header, candidate.header)
    if share < MIN_OVERLAP:
        return (
            f"the field of view covers {share:.0%} of the field of view of the run, but at least"
            f" {MIN_OVERLAP:.0%} is required"
        )
    return ""


def infer_calibration_factor(candidate: BoldRun, run: BoldRun) -> Factor | None:
    """Return the factor implied by the voxel sizes of a calibration run, 1 along slices.

    The in-plane factor is a simple fraction, or a whole number within the tolerance. `candidate`
    is the calibration run with the axis order of the run. The factor is None if there is no simple
    ratio above 1.
    """
    mean_ratio = float(np.mean(np.asarray(run.zooms[:2]) / np.asarray(candidate.zooms[:2])))
    factor = nearest_simple_ratio(mean_ratio)
    if factor is None and abs(mean_ratio / max(round(mean_ratio), 1) - 1) <= SIZE_TOLERANCE:
        factor = float(round(mean_ratio))
    return None if factor is None or factor <= 1 else (factor, factor, 1.0)


def find_space_problems(
    header: Header, tr: float, run: BoldRun, *, requires_highres: bool
) -> Iterator[tuple[str, str]]:
    """Yield reason and remedy of each reason why an image is not in the space of a run.

    The image is in this space if its name states the space of the boldref, or if it has no
    ``space`` and is on the acquired or high-resolution grid. The number of volumes and the
    repetition time (`tr`, in s) are also compared.

    Image and run have the same axis order. With `requires_highres`, only the high-resolution grid
    is accepted.
    """
    space = parse_entities(header.path).get("space", "")
    if space not in ("", BOLDREF):
        reason = f"space-{space} in the file name is not the space of the run, space-{BOLDREF}"
        yield reason, _SPACE_FIX
        return
    shape = headers.squeezed_shape(header)
    problems = find_grid_problems(
        TimedGrid(shape=shape, affine=header.affine, tr=tr),
        TimedGrid(shape=(*run.shape, run.n_volumes), affine=run.affine, tr=run.tr),
        run.factor,
        requires_highres=requires_highres,
        run_name=run.bold.name,
    )
    yield from problems
    highres_shape = tuple(map(highres_size, run.shape, run.factor))
    if not space and not problems and shape[:3] not in (run.shape, highres_shape):
        size, acquired, highres = (
            size_text(sizes, unit="") for sizes in (shape[:3], run.shape, highres_shape)
        )
        reason = (
            "the space of the image is not known: the file name does not contain space-, and the"
            f" matrix size {size} is neither the acquired ({acquired}) nor the high-resolution"
            f" matrix size ({highres}) of {run.bold.name}"
        )
        yield reason, _SPACE_FIX


@frozen
class _Requirement:
    """Properties that a kind of companion shares with its run.

    A companion that `is_derived` is computed from the run, with the same number of volumes at the
    same times. Its `grid` is the "high"-resolution grid of the run, any grid from the acquired to
    the high-resolution grid ("between"), a grid with voxels smaller by the "factor", the same
    slice thickness and an overlapping field of view, or has the "acquired" matrix. `events` are
    "same" if both series have the same events, or "types" if the companion has at least the same
    trial types. `timing` is the source of the slice times for slice timing correction, and
    `identity_fix` the remedy if the file is the run itself.
    """

    is_derived: bool = False
    grid: Literal["high", "between", "factor", "acquired"]
    events: Literal["", "same", "types"] = ""
    timing: Literal["", "own", "own, else of the run"] = ""
    identity_fix: str = ""


_REQUIREMENTS: Mapping[_CompanionKind, _Requirement] = {
    "reference": _Requirement(
        is_derived=True,
        grid="high",
        events="same",
        timing="own, else of the run",
        identity_fix=(
            "Specify another directory, such as derivatives/ground-truth of a simulated dataset"
            " (see --truth)."
        ),
    ),
    "compared": _Requirement(
        is_derived=True,
        grid="between",
        identity_fix="Specify the series that another program computed from this run.",
    ),
    "another": _Requirement(grid="acquired", events="types", timing="own"),
    "calibration": _Requirement(grid="factor"),
}


def _find_event_mismatches(
    candidate: BoldRun, run: BoldRun, requirement: _Requirement
) -> Iterator[_Mismatch]:
    """Yield a mismatch if the events of a companion do not match the run's events.

    An unreadable table of the run is reported with the run, and nothing is compared with it.
    """
    if not requirement.events or not run.events:
        return
    try:
        run_events = _read_events(run.events, run.levels)
    except TABLE_ERRORS:
        return
    try:
        candidate_events = (
            _read_events(candidate.events, candidate.levels) if candidate.events else []
        )
    except TABLE_ERRORS as error:
        assert candidate.events is not None
        reason = f"the file cannot be read as a table ({error})"
        fix = "Save the table as tab-separated UTF-8 text."
        yield candidate.events, reason, fix
        return
    if requirement.events == "types":
        run_types, candidate_types = (
            list_modeled_types((name for name, *_ in events), run.levels)
            for events in (run_events, candidate_events)
        )
        if not {*run_types} <= {*candidate_types}:
            reason = "the events table of this file lacks some trial types of the run"
            yield candidate.bold, reason, ""
    elif candidate.events and not _are_same_events(run_events, candidate_events):
        yield (
            candidate.events,
            f"the {len(candidate_events)} events differ in onset, duration or trial type from"
            f" the {len(run_events)} events in {run.events.name}",
            "Use the reference that belongs to this run. If volumes were removed, shift the"
            " onsets in both events tables.",
        )


def _read_events(table: Path, levels: Collection[str]) -> list[_TimedEvent]:
    """Return the events of a table, sorted by trial type, onset and duration.

    `levels` are the types in ``Levels`` of the table. The errors are `TABLE_ERRORS`.
    """
    return sorted(
        (
            "" if is_missing_type(name := (row.get("trial_type") or "").strip(), levels) else name,
            _parse_time(row.get("onset") or ""),
            _parse_time(row.get("duration") or ""),
        )
        for _, row in read_rows(table)[1]
    )


def _parse_time(text: str) -> float:
    """Return a time in seconds, or infinity (which can be sorted) if the text is not a number."""
    try:
        return float(text)
    except ValueError:
        return np.inf


def have_same_events(first: BoldRun, second: BoldRun) -> bool:
    """Return whether two runs have the same events, or none."""
    mismatches = _find_event_mismatches(second, first, _REQUIREMENTS["reference"])
    return bool(first.events) == bool(second.events) and not any(mismatches)


def _are_same_events(first: Sequence[_TimedEvent], second: Sequence[_TimedEvent]) -> bool:
    """Return whether events agree within the rounding of tables (1 ms)."""
    if [name for name, *_ in first] != [name for name, *_ in second]:
        return False
    first_times, second_times = ([times for _, *times in events] for events in (first, second))
    return np.allclose(first_times, second_times, rtol=0, atol=1e-3, equal_nan=True)


def _find_slice_times(
    candidate: BoldRun, run: BoldRun, requirement: _Requirement
) -> tuple[float, ...] | None:
    """Return the slice times (s) of a companion, or the run's slice times if its sidecar has none.

    Returns None if the kind of companion is not corrected for slice timing, or the numbers of
    slices differ.
    """
    if requirement.timing and candidate.sidecar.get("SliceTiming") is not None:
        return timing.read_slice_times(candidate.header, candidate.sidecar, candidate.tr)
    run_times = run.slice_timing if candidate.shape[2] == run.shape[2] else None
    if run_times is None or requirement.timing != "own, else of the run":
        return None
    note(
        candidate.bold,
        "SliceTiming is missing in the sidecar; the slice times of the run are used.",
    )
    return run_times
