"""Calibration of BOLD runs by short high-resolution runs of the same participant.

A calibration run has smaller in-plane voxels than the run, by the super-resolution factor (within
10 %, as for the T2*-weighted pair), the same slice thickness, an overlapping field of view, and
enough volumes to estimate a variance. If neither a pair nor ``--sr-factor`` determines the factor,
the calibration run does.

A run that calibrates another run is not super-resolved itself, whatever its length, because it was
acquired at the target resolution. High-resolution runs that are short or lack events are skipped
even if they do not calibrate a run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bids_sr.config import Settings, SuperRes
from bids_sr.io.grids import Factor
from bids_sr.io.notices import Notice
from bids_sr.survey.bids import headers, slice_axis
from bids_sr.survey.bids.entities import file_stem, is_magnitude, parse_entities
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.layout import Index
from bids_sr.survey.bids.pairs import SIZE_TOLERANCE
from bids_sr.survey.bids.related_runs import find_calibration_mismatch, read_run
from bids_sr.survey.notices import (
    Choice,
    InputError,
    attempt,
    attribute,
    note,
    option_problem,
    problem,
)

_SHORT_VOLUMES = 40  # a high-resolution run with fewer volumes only serves as calibration run


def judge_calibration_option(settings: Settings, labels: Sequence[str]) -> Iterator[Notice]:
    """Reject ``--calibration`` together with an excluding option, or with an unsuitable file.

    The file must exist and belong to one of the selected participants (`labels`).
    """
    calibration, file = settings.superres.calibration, settings.superres.calibration_file
    if calibration in ("auto", "none"):
        return
    option = f"--calibration {calibration}"
    if exclusion := _explain_exclusion(settings):
        yield option_problem(option, exclusion, "Omit one of the two options.")
    elif file is not None and not file.exists():
        yield option_problem(option, "file not found", "Check the path, or specify an acq- label.")
    elif file is not None and (file_label := parse_entities(file).get("subject")) not in labels:
        label_text = (
            f"the file belongs to sub-{file_label}"
            if file_label
            else "the file name does not contain a sub- label"
        )
        participants = ", ".join(f"sub-{label}" for label in labels)
        yield option_problem(
            option,
            f"{label_text}, but the selected participants are {participants}",
            "Specify a run of the same participant; the prior SD map of another brain cannot be"
            " used.",
        )


class Roles(NamedTuple):
    """Calibration run by the path of the run that it calibrates, and runs that are skipped."""

    calibrations: Mapping[Path, BoldRun]
    skipped: frozenset[Path]


def read_possible_runs(
    index: Index, all_bolds: Sequence[Path], settings: Settings
) -> tuple[BoldRun, ...]:
    """Return the readable single-echo magnitude series of a participant, and the named file.

    They may calibrate other runs. `all_bolds` are all BOLD series of the participant.
    """
    file, paths = settings.superres.calibration_file, [*all_bolds]
    subject = parse_entities(all_bolds[0])["subject"]
    if file is not None and parse_entities(file).get("subject") == subject:
        paths.append(file.absolute())
    series = (
        _read_series(path, index)
        for path in dict.fromkeys(paths)
        if is_magnitude(path) and "echo" not in parse_entities(path)
    )
    return tuple(run for run in series if run is not None)


def assign_calibration_runs(
    bolds: Sequence[Path],
    possible_runs: Sequence[BoldRun],
    find_factor: Callable[[BoldRun], Factor | None],
    settings: Settings,
) -> Choice[Roles]:
    """Choose the calibration run of each BOLD run, and the runs that are not super-resolved.

    `bolds` are the selected BOLD series and `possible_runs` the possible calibration runs of one
    participant. `find_factor` returns the super-resolution factor of a run, or None if it is not
    known yet. Runs whose requested calibration run is unsuitable have no calibration run.
    """
    selected_runs = [run for run in possible_runs if run.bold in bolds]
    can_calibrate = settings.superres.calibration != "none" and not _explain_exclusion(settings)
    calibrations: dict[Path, BoldRun] = {}
    skipped = set[Path]()
    notices: list[Notice] = []
    # A calibration run has smaller voxels than its run. In descending order of voxel volume, it is
    # known whether a run calibrates another run before its own calibration run is chosen.
    for run in sorted(selected_runs, key=lambda run: -float(np.prod(run.zooms))):
        if reason := _explain_skipping(run, selected_runs, calibrations):
            skipped.add(run.bold)
            notices.append(note(run.bold, reason))
        elif can_calibrate:
            others = [other for other in possible_runs if other is not run]
            choice = attempt(None, choose_calibration, run, others, find_factor(run), settings)
            notices += attribute(choice.notices, *run.owner)
            if choice.value is not None:
                calibrations[run.bold] = choice.value
    return Choice(value=Roles(calibrations, frozenset(skipped)), notices=tuple(notices))


def _explain_exclusion(settings: Settings) -> str:
    """Return why an option excludes calibration runs, "" if no option does."""
    if settings.evaluation.retrospective is not None:
        return (
            "--retrospective uses each run as its own high-resolution reference, so a"
            " calibration run cannot be used"
        )
    if settings.preprocessing.input_smoothing:
        return (
            "preprocessing.input_smoothing smooths only the run itself, so the run would no"
            " longer match its unsmoothed calibration run"
        )
    return ""


def _read_series(path: Path, index: Index) -> BoldRun | None:
    """Return a series with its own events, or None if it is unusable.

    Problems of a run are reported when the run itself is surveyed.
    """
    try:
        header, sidecar = headers.read_header(path), index.read_metadata(path)
        run = read_run(path, {"RepetitionTime": header.tr, **sidecar})
    except InputError:
        return None
    # by inheritance, possibly the events of a longer run of the same task
    events = index.events(path)
    if events is None or file_stem(events) != file_stem(path):
        return run
    return replace(run, events=events, events_sidecar=index.read_events_sidecar(events))


def _explain_skipping(
    run: BoldRun, selected_runs: Sequence[BoldRun], calibration_runs: Mapping[Path, BoldRun]
) -> str:
    """Return why a run is not super-resolved, "" if it is.

    `calibration_runs` are by the path of the run that they calibrate.
    """
    is_short, has_events = run.n_volumes < _SHORT_VOLUMES, run.events is not None
    for bold, calibration_run in calibration_runs.items():
        if calibration_run.bold == run.bold:
            reason = (
                f"this file is used as calibration run for {bold.name} and is not super-resolved."
            )
            advice = (
                " To super-resolve this run as well, use --calibration none or select only this"
                " run."
            )
            return reason if is_short or not has_events else reason + advice
    if (is_short or not has_events) and any(_is_finer(run, other) for other in selected_runs):
        lack = f"only {run.n_volumes} volumes" if has_events else "no events"
        return f"the run is skipped because it has smaller voxels than other runs and {lack}."
    return ""


def choose_calibration(
    run: BoldRun, others: Sequence[BoldRun], factor: Factor | None, settings: Settings
) -> Choice[BoldRun | None]:
    """Choose the calibration run of a run, in its axis order, or none if no series is suitable.

    `others` are other series of the participant and the named file. If `factor`, the
    super-resolution factor of the run, is None, the calibration run determines the factor. Raises
    `InputError` if a file or label was requested that is not suitable.
    """
    superres, dummies = settings.superres, settings.preprocessing.dummy_scans or 0
    candidates = [
        replace(other, header=slice_axis.reorder_like(other.header, run.affine))
        for other in others
        if _is_selected(other, superres)
    ]
    was_requested = superres.calibration != "auto"
    if not candidates and was_requested and superres.calibration_file is None:
        raise InputError([_describe_unknown_label(run, others, superres)])
    mismatches = [
        find_calibration_mismatch(candidate, run, factor, candidate.n_volumes - dummies)
        for candidate in candidates
    ]
    judged = list(zip(candidates, mismatches, strict=True))
    if suitable_runs := [candidate for candidate, mismatch in judged if not mismatch]:
        return _choose_best(run, suitable_runs)
    if was_requested and judged:
        raise InputError(
            [
                problem(
                    candidate.bold,
                    f"this file cannot be used as calibration run for {run.bold.name}: {mismatch}",
                    "Specify another run with --calibration, or use --calibration none.",
                )
                for candidate, mismatch in judged
            ]
        )
    notes = (
        note(
            candidate.bold,
            f"this run has smaller voxels than {run.bold.name} but cannot be used as its"
            f" calibration run: {mismatch}.",
        )
        for candidate, mismatch in judged
        # a high-resolution run was probably acquired for calibration; others are ordinary runs
        if _is_finer(candidate, run)
    )
    return Choice(value=None, notices=tuple(notes))


def _describe_unknown_label(run: BoldRun, others: Sequence[BoldRun], superres: SuperRes) -> Notice:
    """Return the problem of a label that no other run of the participant has."""
    labels = {other.entities.get("acquisition", "") for other in others}
    available = ", ".join(f"acq-{name}" for name in sorted(labels - {""}))
    return option_problem(
        f"--calibration {superres.calibration}",
        f"no other BOLD run of this participant has the label acq-{superres.calibration},"
        f" which was requested for the calibration of {run.bold.name}",
        f"Available labels: {available or 'none'}. To proceed without a calibration run, use"
        " --calibration none.",
    )


def _is_selected(candidate: BoldRun, superres: SuperRes) -> bool:
    """Return whether ``--calibration`` names a run by file or label, or admits all runs."""
    file = superres.calibration_file
    if file is not None:
        return candidate.bold == file.absolute()
    return superres.calibration in ("auto", candidate.entities.get("acquisition"))


def _choose_best(run: BoldRun, suitable_runs: Sequence[BoldRun]) -> Choice[BoldRun | None]:
    """Choose the best calibration run: same session first, then without events, then longest."""
    session = run.entities.get("session")

    def order(candidate: BoldRun) -> tuple[bool, bool, int, str]:
        return (
            candidate.entities.get("session") != session,
            candidate.events is not None,
            -candidate.n_volumes,
            candidate.bold.name,
        )

    best, *alternatives = sorted(suitable_runs, key=order)
    start = f"this file is used as calibration run for {run.bold.name}"
    notices = []
    if alternatives:
        names = ", ".join(candidate.bold.name for candidate in alternatives)
        text = (
            f"{start}. Other possible calibration runs are {names}; select one with --calibration"
            " LABEL or --calibration FILE."
        )
        notices.append(note(best.bold, text))
    if best.entities.get("session") != session:
        text = (
            f"{start}, although it comes from another session. In our tests, a misregistered"
            " calibration run was worse than no calibration run, so check the registration in the"
            " report."
        )
        notices.append(note(best.bold, text))
    return Choice(value=best, notices=tuple(notices))


def _is_finer(run: BoldRun, reference: BoldRun) -> bool:
    """Return whether a run has smaller in-plane voxels than another run, beyond the tolerance."""
    ratio = np.asarray(reference.zooms[:2]) / np.asarray(run.zooms[:2])
    return bool(np.all(ratio > 1 + SIZE_TOLERANCE))
