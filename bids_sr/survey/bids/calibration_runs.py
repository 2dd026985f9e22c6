"""Calibration of BOLD runs by short high-resolution runs of the same participant.

A calibration run has smaller in-plane voxels than the run, by the super-resolution factor (within
10 %, as for the T2*-weighted pair), the same slice thickness, an overlapping field of view, and
enough volumes to estimate a variance. If neither a pair nor ``--sr-factor`` determines the factor,
the calibration run does.

A run that calibrates another run is not super-resolved itself, whatever its length, because it was
acquired at the target resolution. High-resolution runs that are short or lack events are skipped
even if they do not calibrate a run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bids_sr.config import Settings, SuperRes
from bids_sr.io.grids import Factor
from bids_sr.survey.bids import headers, slice_axis
from bids_sr.survey.bids.entities import file_stem, is_magnitude, parse_entities, parse_owner
from bids_sr.survey.bids.findings import InputError, about, add_problem, note, refuse_option
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.layout import Index
from bids_sr.survey.bids.pairs import SIZE_TOLERANCE
from bids_sr.survey.bids.related_runs import find_calibration_mismatch, read_run

_SHORT_VOLUMES = 40  # a high-resolution run with fewer volumes only serves as calibration run


def check_calibration_option(settings: Settings, labels: Sequence[str]) -> None:
    """Reject ``--calibration`` together with an excluding option, or with an unsuitable file.

    The file must exist and belong to one of the selected participants (`labels`).
    """
    calibration, file = settings.superres.calibration, settings.superres.calibration_file
    if calibration in ("auto", "none"):
        return
    option = f"--calibration {calibration}"
    if exclusion := _explain_exclusion(settings):
        refuse_option(option, exclusion, "Omit one of the two options.")
    elif file is not None and not file.exists():
        refuse_option(option, "file not found", "Check the path, or specify an acq- label.")
    elif file is not None and (file_label := parse_entities(file).get("subject")) not in labels:
        label_text = (
            f"the file belongs to sub-{file_label}"
            if file_label
            else "the file name does not contain a sub- label"
        )
        participants = ", ".join(f"sub-{label}" for label in labels)
        refuse_option(
            option,
            f"{label_text}, but the selected participants are {participants}",
            "Specify a run of the same participant; the prior SD map of another brain cannot be"
            " used.",
        )


def assign_calibration_runs(
    index: Index,
    bolds: Sequence[Path],
    all_bolds: Sequence[Path],
    find_factor: Callable[[BoldRun], Factor | None],
    settings: Settings,
) -> tuple[dict[Path, BoldRun], list[Path]]:
    """Return the calibration run of each BOLD run, and the BOLD runs to super-resolve.

    `bolds` are the selected BOLD series and `all_bolds` all BOLD series of one participant.
    `find_factor` returns the super-resolution factor of a run, or None if it is not known yet.
    """
    superres, file = settings.superres, settings.superres.calibration_file
    subject = parse_entities(all_bolds[0])["subject"]
    paths = [*all_bolds]
    if file is not None and parse_entities(file).get("subject") == subject:
        paths.append(file.absolute())
    runs = {
        path: run
        for path in dict.fromkeys(paths)
        if (run := _read_series(path, index)) is not None
    }
    selected_runs = [runs[bold] for bold in bolds if bold in runs]
    can_calibrate = superres.calibration != "none" and not _explain_exclusion(settings)
    dummies = settings.preprocessing.dummy_scans or 0
    calibration_runs: dict[Path, BoldRun] = {}
    skipped = set[Path]()
    # A calibration run has smaller voxels than its run. In descending order of voxel volume, it is
    # known whether a run calibrates another run before its own calibration run is chosen.
    for run in sorted(selected_runs, key=lambda run: -float(np.prod(run.zooms))):
        reason = _explain_skipping(run, selected_runs, calibration_runs)
        if reason:
            skipped.add(run.bold)
            note(run.bold, reason)
        elif can_calibrate:
            other_runs = [other for path, other in runs.items() if path != run.bold]
            with about(*parse_owner(run.bold)):
                calibration_run = _choose_calibration_run(
                    run, other_runs, find_factor(run), superres, dummies
                )
            if calibration_run is not None:
                calibration_runs[run.bold] = calibration_run
    return calibration_runs, [bold for bold in bolds if bold not in skipped]


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
    """Return a single-echo magnitude series that may calibrate other runs, or None if unusable."""
    if not is_magnitude(path) or "echo" in parse_entities(path):
        return None
    try:  # problems of a run are reported when the run itself is surveyed
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


def _choose_calibration_run(
    run: BoldRun,
    other_runs: Sequence[BoldRun],
    factor: Factor | None,
    superres: SuperRes,
    dummies: int,
) -> BoldRun | None:
    """Choose the calibration run among the other series of the participant and the named file.

    The calibration run has the axis order of the run. None is returned if no series is suitable,
    with a problem if a file or label was requested. If `factor`, the super-resolution factor of
    the run, is None, the calibration run determines the factor.
    """
    candidates = [
        replace(other_run, header=slice_axis.reorder_like(other_run.header, run.affine))
        for other_run in other_runs
        if _is_selected(other_run, superres)
    ]
    was_requested = superres.calibration != "auto"
    if not candidates and was_requested and superres.calibration_file is None:
        _refuse_unknown_label(run, other_runs, superres)
    mismatches = [
        find_calibration_mismatch(candidate, run, factor, candidate.n_volumes - dummies)
        for candidate in candidates
    ]
    judged = list(zip(candidates, mismatches, strict=True))
    if suitable_runs := [candidate for candidate, mismatch in judged if not mismatch]:
        return _choose_best(run, suitable_runs)
    for candidate, mismatch in judged:
        _report_mismatch(run, candidate, mismatch, was_requested=was_requested)
    return None


def _refuse_unknown_label(run: BoldRun, other_runs: Sequence[BoldRun], superres: SuperRes) -> None:
    """Refuse a label of the calibration run that no other run of the participant has."""
    labels = {other_run.entities.get("acquisition", "") for other_run in other_runs}
    available = ", ".join(f"acq-{name}" for name in sorted(labels - {""}))
    refuse_option(
        f"--calibration {superres.calibration}",
        f"no other BOLD run of this participant has the label acq-{superres.calibration},"
        f" which was requested for the calibration of {run.bold.name}",
        f"Available labels: {available or 'none'}. To proceed without a calibration run, use"
        " --calibration none.",
    )


def _report_mismatch(
    run: BoldRun, candidate: BoldRun, mismatch: str, *, was_requested: bool
) -> None:
    """Report why a series is not the calibration run of a run, which is a problem if requested."""
    if was_requested:
        add_problem(
            candidate.bold,
            f"this file cannot be used as calibration run for {run.bold.name}: {mismatch}",
            "Specify another run with --calibration, or use --calibration none.",
        )
    elif _is_finer(candidate, run):
        # a high-resolution run was probably acquired for calibration; others are ordinary runs
        note(
            candidate.bold,
            f"this run has smaller voxels than {run.bold.name} but cannot be used as its"
            f" calibration run: {mismatch}.",
        )


def _is_selected(candidate: BoldRun, superres: SuperRes) -> bool:
    """Return whether ``--calibration`` names a run by file or label, or admits all runs."""
    file = superres.calibration_file
    if file is not None:
        return candidate.bold == file.absolute()
    return superres.calibration in ("auto", candidate.entities.get("acquisition"))


def _choose_best(run: BoldRun, suitable_runs: Sequence[BoldRun]) -> BoldRun:
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
    if alternatives:
        names = ", ".join(candidate.bold.name for candidate in alternatives)
        note(
            best.bold,
            f"this file is used as calibration run for {run.bold.name}. Other possible calibration"
            f" runs are {names}; select one with --calibration LABEL or --calibration FILE.",
        )
    if best.entities.get("session") != session:
        note(
            best.bold,
            f"this file is used as calibration run for {run.bold.name}, although it comes from"
            " another session. In our tests, a misregistered calibration run was worse than no"
            " calibration run, so check the registration in the report.",
        )
    return best


def _is_finer(run: BoldRun, reference: BoldRun) -> bool:
    """Return whether a run has smaller in-plane voxels than another run, beyond the tolerance."""
    ratio = np.asarray(reference.zooms[:2]) / np.asarray(run.zooms[:2])
    return bool(np.all(ratio > 1 + SIZE_TOLERANCE))
