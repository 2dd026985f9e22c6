"""Other BOLD series of the same head: search by entities, reading, and comparison with a run.

A high-resolution reference has the times, events and field of view of the run, and a short run for
calibration has smaller voxels and an overlapping field of view.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from bids_sr.glm.contrasts import is_missing_type
from bids_sr.io.fields_of_view import TimedGrid, find_grid_problems
from bids_sr.io.grids import BOLDREF, Factor, mm_text
from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice
from bids_sr.io.tables import TABLE_ERRORS, read_rows
from bids_sr.survey.bids import headers, slice_axis, timing
from bids_sr.survey.bids.entities import (
    applies_to,
    file_stem,
    is_magnitude,
    parse_entities,
    same_run,
)
from bids_sr.survey.bids.inheritance import read_metadata
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.pairs import (
    MIN_OVERLAP,
    SIZE_TOLERANCE,
    measure_overlap,
    nearest_simple_ratio,
    voxel_size_text,
)
from bids_sr.survey.notices import Choice, InputError, input_error, note, problem

_TimedEvent = tuple[str, float, float]  # type ("" if missing), onset and duration (s) of an event
SERIES = "func/*_bold.nii*"
_SPACE_FIX = "Specify an image in the space of the run."
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


def read_run(path: Path, sidecar: Mapping[str, object]) -> BoldRun:
    """Read a BOLD series with slices along the third axis; it has no events and slice times yet.

    Raises `InputError` if header, sidecar or repetition time cannot be used.
    """
    header = headers.read_header(path)
    headers.require_series(header)
    header = slice_axis.with_slices_last(header, sidecar)
    headers.require_wide_slices(header)
    tr = timing.require_repetition_time(header, _read_stated_time(header, sidecar))
    return _make_run(header, sidecar, tr)


def read_reference(path: Path, root: Path, run: BoldRun) -> BoldRun:
    """Read the measured reference of a run, with events and with the axis order of the run.

    Header, sidecar and events must agree with the run. An implausible repetition time is not
    refused; that of the run is used if neither sidecar nor header contains a number. `root` is the
    data set of the reference; sidecars are inherited from its root downward. Raises `InputError`
    if the reference cannot be used.
    """
    header = headers.read_header(path)
    if path.samefile(run.bold):
        ground_truth_dir = root / "derivatives" / "ground-truth"
        raise input_error(
            path,
            "the file is identical to the run that is being processed",
            f"Use {ground_truth_dir}."
            if ground_truth_dir.is_dir()
            else "Specify another directory, such as derivatives/ground-truth of a simulated"
            " dataset (see --truth).",
        )
    sidecar = read_metadata(path, root)
    headers.require_series(header)
    _read_stated_time(header, sidecar)
    tr = sidecar.get("RepetitionTime", header.tr)
    reference = _make_run(
        slice_axis.reorder_like(header, run.affine),
        sidecar,
        float(tr) if isinstance(tr, int | float) else run.tr,
    )
    reference = _add_events(reference, run, root)
    mismatches = [
        *(
            problem(path, *reasons)
            for reasons in find_space_problems(reference.header, reference.tr, run)
        ),
        *_find_event_mismatches(reference, run),
    ]
    if mismatches:
        raise InputError(mismatches)
    return reference


def _read_stated_time(header: Header, sidecar: Mapping[str, object]) -> object:
    """Return the repetition time (s) in VolumeTiming or RepetitionTime of a sidecar.

    Raises `InputError` if VolumeTiming is invalid. RepetitionTime may have any type.
    """
    stated_tr, volume_timing = sidecar.get("RepetitionTime"), sidecar.get("VolumeTiming")
    if volume_timing is None:
        return stated_tr
    return timing.require_spacing(header.path, volume_timing, header.shape[3], stated_tr)


def _make_run(header: Header, sidecar: Mapping[str, object], tr: float) -> BoldRun:
    """Return a series with the axes of its header; the sidecar names axes as stored."""
    return BoldRun(
        header=header, tr=tr, sidecar=slice_axis.sidecar_in_order(sidecar, header.order)
    )


def _add_events(reference: BoldRun, run: BoldRun, root: Path) -> BoldRun:
    """Return a reference with the events table next to it, or with the run's table if it applies.

    `root` is the data set of the reference.
    """
    events = reference.bold.with_name(f"{file_stem(reference.bold)}_events.tsv")
    if events.is_file():
        sidecar: Mapping[str, object] = {}
        with suppress(InputError):  # reported with the run
            sidecar = read_metadata(events, root)
        return replace(reference, events=events, events_sidecar=sidecar)
    if run.events and applies_to(run.events, reference.bold):
        return replace(reference, events=run.events, events_sidecar=run.events_sidecar)
    return reference


def find_calibration_mismatch(
    candidate: BoldRun, run: BoldRun, factor: Factor | None, n_steady: int
) -> str:
    """Return the reason why a series cannot calibrate a run, "" if it can.

    Both series have the same axis order. `factor` is the super-resolution factor of the run; None
    if the calibration run determines it. `n_steady` is the number of steady-state volumes of the
    candidate.
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


def find_space_problems(header: Header, tr: float, run: BoldRun) -> list[tuple[str, str]]:
    """Return reasons why an image is not on the high-resolution grid of a run, with remedies.

    The number of volumes and the repetition time (`tr`, in s) are also compared. Image and run
    have the same axis order.
    """
    space = parse_entities(header.path).get("space", "")
    if space not in ("", BOLDREF):
        reason = f"space-{space} in the file name is not the space of the run, space-{BOLDREF}"
        return [(reason, _SPACE_FIX)]
    return find_grid_problems(
        TimedGrid(shape=headers.squeezed_shape(header), affine=header.affine, tr=tr),
        TimedGrid(shape=(*run.shape, run.n_volumes), affine=run.affine, tr=run.tr),
        run.factor,
        run_name=run.bold.name,
    )


def _find_event_mismatches(candidate: BoldRun, run: BoldRun) -> Iterator[Notice]:
    """Yield a problem if a series has other events than the run.

    An unreadable table of the run is reported with the run, and nothing is compared with it.
    """
    if not run.events:
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
        yield problem(candidate.events, reason, fix)
        return
    if candidate.events and not _are_same_events(run_events, candidate_events):
        yield problem(
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
    mismatches = _find_event_mismatches(second, first)
    return bool(first.events) == bool(second.events) and not any(mismatches)


def _are_same_events(first: Sequence[_TimedEvent], second: Sequence[_TimedEvent]) -> bool:
    """Return whether events agree within the rounding of tables (1 ms)."""
    if [name for name, *_ in first] != [name for name, *_ in second]:
        return False
    first_times, second_times = ([times for _, *times in events] for events in (first, second))
    return np.allclose(first_times, second_times, rtol=0, atol=1e-3, equal_nan=True)


def choose_reference_times(reference: BoldRun, run: BoldRun) -> Choice[tuple[float, ...] | None]:
    """Choose the slice times (s) of a reference: its own, or the run's if its sidecar has none.

    The value is None if neither is known, or if the numbers of slices differ.
    """
    if reference.sidecar.get("SliceTiming") is not None:
        return timing.choose_slice_times(reference.header, reference.sidecar, reference.tr)
    if run.slice_timing is None or reference.shape[2] != run.shape[2]:
        return Choice(value=None)
    text = "SliceTiming is missing in the sidecar; the slice times of the run are used."
    return Choice(value=run.slice_timing, notices=(note(reference.bold, text),))
