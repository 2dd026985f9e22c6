"""Calibration of BOLD runs by short high-resolution runs of the same participant.

A calibration run has smaller in-plane voxels than the run, by the super-resolution factor (within
10 %, as for the T2*-weighted pair), the same slice thickness, an overlapping field of view, and
enough volumes to estimate a variance. If neither a pair nor ``--sr-factor`` determines the factor,
the calibration run does.

A calibration run is not super-resolved itself, whatever its length, because it was acquired at the
target resolution. With ``--calibration none``, high-resolution runs that are short or lack events
are also skipped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bids_sr.bids import headers, slice_axis
from bids_sr.bids.entities import file_stem, is_magnitude, parse_entities, stem_of_echoes
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.inputs import BoldRun
from bids_sr.bids.layout import Index
from bids_sr.bids.pairs import SIZE_TOLERANCE
from bids_sr.bids.related_runs import find_mismatches, read_run
from bids_sr.config import Settings
from bids_sr.io.image_header import Triple

_SHORT_VOLUMES = 40  # a high-resolution run with fewer volumes only serves as calibration run
_KEYWORDS = ("auto", "none")


def check_calibration_option(
    settings: Settings, labels: Sequence[str], findings: Findings
) -> None:
    """Reject ``--calibration`` together with an excluding option, or with an unsuitable file.

    The file must exist and belong to one of the selected participants (`labels`).
    """
    superres = settings.superres
    if superres.calibration in _KEYWORDS:
        return
    option, file = f"--calibration {superres.calibration}", superres.calibration_file
    if settings.evaluation.retrospective is not None:
        reason = (
            "--retrospective uses each run as its own high-resolution reference, so a"
            " calibration run cannot be used"
        )
        findings.refuse_option(option, reason, "Omit one of the two options.")
    elif settings.preprocessing.input_smoothing:
        reason = (
            "preprocessing.input_smoothing smooths only the run itself, so the run would no"
            " longer match its unsmoothed calibration run"
        )
        findings.refuse_option(option, reason, "Omit one of the two options.")
    elif file is not None and not file.exists():
        findings.refuse_option(
            option, "file not found", "Check the path, or specify an acq- label."
        )
    elif file is not None and (file_label := parse_entities(file).get("subject")) not in labels:
        label_text = (
            f"the file belongs to sub-{file_label}"
            if file_label
            else "the file name does not contain a sub- label"
        )
        participants = ", ".join(f"sub-{label}" for label in labels)
        reason = f"{label_text}, but the selected participants are {participants}"
        findings.refuse_option(
            option,
            reason,
            "Specify a run of the same participant; the prior SD map of another brain cannot be"
            " used.",
        )


def assign_calibration_runs(
    index: Index,
    bolds: Sequence[Path],
    all_bolds: Sequence[Path],
    factor: Callable[[BoldRun], Triple | None],
    settings: Settings,
    findings: Findings,
) -> tuple[dict[Path, BoldRun], list[Path]]:
    """Return the calibration run of each BOLD run, and the BOLD runs to super-resolve.

    Runs that serve as calibration run are not among the remaining runs. `bolds` are the selected
    BOLD series and `all_bolds` all BOLD series of one participant. `factor` returns the
    super-resolution factor of a run, or None if it is not known yet.
    """
    file = settings.superres.calibration_file
    subject = parse_entities(all_bolds[0])["subject"]
    paths = [*all_bolds]
    if file is not None and parse_entities(file).get("subject") == subject:
        paths.append(file.absolute())
    if len(paths) == 1 and settings.superres.calibration in _KEYWORDS:
        return {}, [*bolds]  # there is no other series
    runs = {
        path: candidate
        for path in dict.fromkeys(paths)
        if (candidate := _read_candidate(path, index)) is not None
    }
    calibration_runs: dict[Path, BoldRun] = {}
    findings_by_bold: dict[Path, Findings] = {}
    for bold in (bold for bold in bolds if bold in runs):
        findings_by_bold[bold] = Findings()
        calibration = _choose_calibration_run(
            runs[bold], [*runs.values()], factor(runs[bold]), settings, findings_by_bold[bold]
        )
        if calibration is not None:
            calibration_runs[bold] = calibration
    skipped = _list_skipped_runs(bolds, runs, calibration_runs)
    for path, reason in skipped.items():
        findings.note(path, reason)
    remaining_bolds = [bold for bold in bolds if bold not in skipped]
    for bold in (bold for bold in remaining_bolds if bold in findings_by_bold):
        with findings.about(subject, stem_of_echoes(bold)):
            findings.add_all(findings_by_bold[bold])
    remaining_calibration_runs = {
        bold: calibration_runs[bold] for bold in calibration_runs if bold in remaining_bolds
    }
    return remaining_calibration_runs, remaining_bolds


def _read_candidate(path: Path, index: Index) -> BoldRun | None:
    """Return a single-echo magnitude series that may calibrate other runs, or None if unusable."""
    if not is_magnitude(path) or "echo" in parse_entities(path):
        return None
    ignored = Findings()  # problems of a run are reported when the run itself is surveyed
    header = headers.read_header(path, ignored)
    if header is None:
        return None
    try:
        candidate = read_run(path, {"RepetitionTime": header.tr, **index.sidecar(path)}, ignored)
    except InputError:
        return None
    if candidate is None:
        return None
    # by inheritance, possibly the events of a longer run of the same task
    events = index.events(path)
    has_own_events = events is not None and file_stem(events) == file_stem(path)
    return replace(candidate, events=events if has_own_events else None)


def _choose_calibration_run(
    run: BoldRun,
    candidates: Sequence[BoldRun],
    factor: Triple | None,
    settings: Settings,
    findings: Findings,
) -> BoldRun | None:
    """Choose the calibration run among all series of the participant and the named file.

    If `factor`, the super-resolution factor of the run, is None, the calibration run determines
    the factor. The calibration run has the axis order of the run. If it is None, no series is
    suitable; `findings` then has a problem only if the run was requested by name or label.
    """
    calibration = settings.superres.calibration
    if (
        calibration == "none"
        or settings.evaluation.retrospective is not None
        or settings.preprocessing.input_smoothing  # calibration runs are not smoothed
    ):
        return None
    other_runs = [
        replace(other_run, header=slice_axis.reorder_like(other_run.header, run.affine))
        for other_run in candidates
        if other_run.bold != run.bold
    ]
    selected_runs = [other_run for other_run in other_runs if _is_selected(other_run, settings)]
    if not selected_runs and calibration != "auto" and settings.superres.calibration_file is None:
        _refuse_missing_label(run, other_runs, calibration, findings)
    suitable_runs = []
    mismatches: dict[Path, str] = {}
    dummies = settings.preprocessing.dummy_scans or 0
    for candidate in selected_runs:
        reasons = [
            mismatch.reason
            for mismatch in find_mismatches(candidate, run, "calibration", factor, dummies)
        ]
        if not reasons:
            suitable_runs.append(candidate)
        # a high-resolution run was probably acquired for calibration; all others are ordinary runs
        elif calibration != "auto" or _is_finer(candidate, run):
            mismatches[candidate.bold] = reasons[0]
    if suitable_runs:
        return _choose_best(run, suitable_runs, findings)
    _report_mismatches(run, mismatches, findings, was_requested=calibration != "auto")
    return None


def _is_selected(candidate: BoldRun, settings: Settings) -> bool:
    """Return whether ``--calibration`` names a run by file or label, or admits all runs."""
    file = settings.superres.calibration_file
    if file is not None:
        return candidate.bold == file.absolute()
    return settings.superres.calibration in ("auto", _get_acquisition_label(candidate))


def _refuse_missing_label(
    run: BoldRun, other_runs: Sequence[BoldRun], label: str, findings: Findings
) -> None:
    """Report that no other run of the participant has the label of ``--calibration``."""
    labels = sorted({_get_acquisition_label(other_run) for other_run in other_runs} - {""})
    reason = (
        f"no other BOLD run of this participant has the label acq-{label}, which was"
        f" requested for the calibration of {run.bold.name}"
    )
    fix = (
        f"Available labels: {', '.join(f'acq-{name}' for name in labels) or 'none'}. To proceed"
        " without a calibration run, use --calibration none."
    )
    findings.refuse_option(f"--calibration {label}", reason, fix)


def _get_acquisition_label(run: BoldRun) -> str:
    """Return the acquisition label of a run, "" if it has none."""
    return run.entities.get("acquisition", "")


def _choose_best(run: BoldRun, suitable_runs: Sequence[BoldRun], findings: Findings) -> BoldRun:
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
        text = (
            f"this file is used as calibration run for {run.bold.name}. Other possible calibration"
            f" runs are {names}; select one with --calibration LABEL or --calibration FILE."
        )
        findings.note(best.bold, text)
    if best.entities.get("session") != session:
        text = (
            f"this file is used as calibration run for {run.bold.name}, although it comes from"
            " another session. In our tests, a misregistered calibration run was worse than no"
            " calibration run, so check the registration in the report."
        )
        findings.note(best.bold, text)
    return best


def _report_mismatches(
    run: BoldRun, mismatches: Mapping[Path, str], findings: Findings, *, was_requested: bool
) -> None:
    """Report why BOLD series cannot calibrate a run, as a problem if a series was requested."""
    for path, reason in mismatches.items():
        if was_requested:
            findings.add_problem(
                path,
                f"this file cannot be used as calibration run for {run.bold.name}: {reason}",
                "Specify another run with --calibration, or use --calibration none.",
            )
        else:
            text = (
                f"this run has smaller voxels than {run.bold.name} but cannot be used as its"
                f" calibration run: {reason}."
            )
            findings.note(path, text)


def _list_skipped_runs(
    bolds: Sequence[Path], runs: Mapping[Path, BoldRun], calibration_runs: Mapping[Path, BoldRun]
) -> dict[Path, str]:
    """Return the runs that are not super-resolved, with the reason for each.

    `calibration_runs` maps each run to its calibration run, if it has one.
    """
    calibrated_names: dict[Path, str] = {}  # first run that each calibration run calibrates
    for bold, calibration in calibration_runs.items():
        calibrated_names.setdefault(calibration.bold, bold.name)
    reasons = {}
    for bold in (bold for bold in bolds if bold in runs):
        run = runs[bold]
        is_short, has_events = run.n_volumes < _SHORT_VOLUMES, run.events is not None
        if bold in calibrated_names:
            reasons[bold] = (
                f"this file is used as calibration run for {calibrated_names[bold]} and is not"
                " super-resolved."
            )
            if has_events and not is_short:
                reasons[bold] += (
                    " To super-resolve this run as well, use --calibration none or select only"
                    " this run."
                )
        elif (is_short or not has_events) and any(
            _is_finer(run, runs[other_bold])
            for other_bold in bolds
            if other_bold != bold and other_bold in runs
        ):
            lack = f"only {run.n_volumes} volumes" if has_events else "no events"
            reasons[bold] = (
                f"the run is skipped because it has smaller voxels than other runs and {lack}."
            )
    return reasons


def _is_finer(run: BoldRun, reference: BoldRun) -> bool:
    """Return whether a run has smaller in-plane voxels than another run, beyond the tolerance."""
    ratio = np.asarray(reference.zooms[:2]) / np.asarray(run.zooms[:2])
    return bool(np.all(ratio > 1 + SIZE_TOLERANCE))
