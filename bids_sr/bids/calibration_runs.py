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

from bids_sr.bids import headers as hd, slice_axis
from bids_sr.bids.entities import file_stem, is_magnitude, parse_entities, stem_of_echoes
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.inputs import BoldRun
from bids_sr.bids.layout import Index
from bids_sr.bids.pairs import SIZE_TOLERANCE
from bids_sr.bids.related_runs import find_mismatches, read_run
from bids_sr.config import Settings
from bids_sr.io.image_header import Triple

_SHORT = 40  # volumes; a high-resolution run with fewer volumes only serves as calibration run
_WORDS = ("auto", "none")
_OUT = "use --calibration none"


def check_named(settings: Settings, labels: Sequence[str], findings: Findings) -> None:
    """Reject ``--calibration`` together with an excluding option, or with an unsuitable file.

    The file must exist and belong to a selected participant.
    """
    superres = settings.superres
    option = f"--calibration {settings.superres.calibration}"
    file = superres.calibration_file
    if superres.calibration in _WORDS:
        return
    if settings.evaluation.retrospective is not None:
        reason = (
            "--retrospective uses each run as its own high-resolution reference, so a"
            " calibration run cannot be used"
        )
        findings.refuse_option(option, reason, "Omit one of the two options.")
    elif settings.preprocessing.input_smoothing:
        reason = (
            "--input-smoothing smooths only the run itself, so the run would no longer match its"
            " unsmoothed calibration run"
        )
        findings.refuse_option(option, reason, "Omit one of the two options.")
    elif file is not None and not file.exists():
        findings.refuse_option(
            option, "file not found", "Check the path, or specify an acq- label."
        )
    elif file is not None and (file_subject := parse_entities(file).get("subject")) not in labels:
        subject_text = (
            f"the file belongs to sub-{file_subject}"
            if file_subject
            else "the file name does not contain a sub- label"
        )
        participants = ", ".join(f"sub-{x}" for x in labels)
        reason = f"{subject_text}, but the selected participants are {participants}"
        findings.refuse_option(
            option,
            reason,
            "Specify a run of the same participant; the prior SD map of another brain cannot be"
            " used.",
        )


def _candidate(path: Path, index: Index) -> BoldRun | None:
    """Return a single-echo magnitude series that may calibrate other runs, or None if unusable."""
    unused = Findings()  # problems of a run are reported when the run itself is surveyed
    is_single_echo = is_magnitude(path) and "echo" not in parse_entities(path)
    header = hd.read_header(path, unused) if is_single_echo else None
    if header is None:
        return None
    try:
        candidate = read_run(path, {"RepetitionTime": header.tr, **index.sidecar(path)}, unused)
    except InputError:
        return None
    # by inheritance, possibly the events of a longer run of the same task
    events = index.events(path)
    has_own_events = events is not None and file_stem(events) == file_stem(path)
    return (
        None
        if candidate is None
        else replace(candidate, events=events if has_own_events else None)
    )


def _acquisition(run: BoldRun) -> str:
    """Return the acquisition label of a run, "" if it has none."""
    return run.entities.get("acquisition", "")


def _is_finer(run: BoldRun, reference: BoldRun) -> bool:
    """Return whether a run has smaller in-plane voxels than another run, beyond the tolerance."""
    ratio = np.asarray(reference.zooms[:2]) / np.asarray(run.zooms[:2])
    return bool(np.all(ratio > 1 + SIZE_TOLERANCE))


def _calibrate(
    run: BoldRun,
    candidates: Sequence[BoldRun],
    factor: Triple | None,
    settings: Settings,
    findings: Findings,
) -> BoldRun | None:
    """Choose the calibration run among all series of the participant and the named file.

    Parameters
    ----------
    factor : Triple or None
        Super-resolution factor of the run. If None, the calibration run determines the factor.

    Returns
    -------
    BoldRun or None
        Calibration run, on the axis order of the run. If None, no series is suitable; `findings`
        then has a problem only if the run was requested by name or label.
    """
    calibration, file = settings.superres.calibration, settings.superres.calibration_file
    unsuited = (
        settings.evaluation.retrospective is not None
        or settings.preprocessing.input_smoothing  # calibration runs are not smoothed
    )
    if calibration == "none" or unsuited:
        return None
    other_runs = [
        replace(other_run, header=slice_axis.like(other_run.header, run.affine))
        for other_run in candidates
        if other_run.bold != run.bold
    ]
    selected = [
        other_run for other_run in other_runs if calibration in ("auto", _acquisition(other_run))
    ]
    if file is not None:
        selected = [other_run for other_run in other_runs if other_run.bold == file.absolute()]
    suitable = []
    dummies = settings.preprocessing.dummy_scans or 0
    reasons: dict[Path, str] = {}
    for candidate in selected:
        mismatches = [
            mismatch
            for _, mismatch, _ in find_mismatches(candidate, run, "calibration", factor, dummies)
        ]
        suitable += [] if mismatches else [candidate]
        # a high-resolution run was probably acquired for calibration; all others are ordinary runs
        if mismatches and (calibration != "auto" or _is_finer(candidate, run)):
            reasons[candidate.bold] = mismatches[0]
    if suitable:
        return _best(run, suitable, findings)
    if not selected and file is None and calibration != "auto":
        labels = sorted({_acquisition(other_run) for other_run in other_runs} - {""})
        reason = (
            f"no other BOLD run of this participant has the label acq-{calibration}, which was"
            f" requested for the calibration of {run.bold.name}"
        )
        fix = (
            f"Available labels: {', '.join(f'acq-{x}' for x in labels) or 'none'}. To proceed"
            " without a calibration run, use --calibration none."
        )
        findings.refuse_option(f"--calibration {calibration}", reason, fix)
    for path, reason in reasons.items():
        if calibration == "auto":
            text = (
                f"this run has smaller voxels than {run.bold.name} but cannot be used as its"
                f" calibration run: {reason}."
            )
            findings.note(path, text)
        else:
            fix = f"Specify another run with --calibration, or {_OUT}."
            findings.add_problem(
                path,
                f"this file cannot be used as calibration run for {run.bold.name}: {reason}",
                fix,
            )
    return None


def _best(run: BoldRun, suitable: Sequence[BoldRun], findings: Findings) -> BoldRun:
    """Choose the best calibration run: same session first, then without events, then longest."""

    def session(run: BoldRun) -> str | None:
        return run.entities.get("session")

    first, *alternatives = sorted(
        suitable,
        key=lambda candidate: (
            session(candidate) != session(run),
            candidate.events is not None,
            -candidate.n_volumes,
            candidate.bold.name,
        ),
    )
    if alternatives:
        names = ", ".join(candidate.bold.name for candidate in alternatives)
        text = (
            f"this file is used as calibration run for {run.bold.name}. Other possible calibration"
            f" runs are {names}; select one with --calibration LABEL or --calibration FILE."
        )
        findings.note(first.bold, text)
    if session(first) != session(run):
        text = (
            f"this file is used as calibration run for {run.bold.name}, although it comes from"
            " another session. In our tests, a misregistered calibration run was worse than no"
            " calibration run, so check the registration in the report."
        )
        findings.note(first.bold, text)
    return first


def _list_skipped_runs(
    bolds: Sequence[Path], runs: Mapping[Path, BoldRun], calibration_runs: Mapping[Path, BoldRun]
) -> dict[Path, str]:
    """Return the runs that are not super-resolved, with the reason for each.

    `calibration_runs` maps each run to its calibration run, if it has one.
    """
    used: dict[Path, str] = {}
    for bold, calibration in calibration_runs.items():
        used.setdefault(calibration.bold, bold.name)
    reasons = {}
    for path, run in ((path, runs[path]) for path in bolds if path in runs):
        if path in used:
            reasons[path] = (
                f"this file is used as calibration run for {used[path]} and is not super-resolved."
            )
            if run.events is not None and run.n_volumes >= _SHORT:
                reasons[path] += (
                    " To super-resolve this run as well, use --calibration none or select only"
                    " this run."
                )
        elif (run.events is None or run.n_volumes < _SHORT) and any(
            _is_finer(run, runs[other_bold])
            for other_bold in bolds
            if other_bold != path and other_bold in runs
        ):
            lack = "no events" if run.events is None else f"only {run.n_volumes} volumes"
            reasons[path] = (
                f"the run is skipped because it has smaller voxels than other runs and {lack}."
            )
    return reasons


def calibrations(
    index: Index,
    bolds: Sequence[Path],
    all_bolds: Sequence[Path],
    factor: Callable[[BoldRun], Triple | None],
    settings: Settings,
    findings: Findings,
) -> tuple[dict[Path, BoldRun], list[Path]]:
    """Return the calibration run of each BOLD run, and the BOLD runs to super-resolve.

    Runs that serve as calibration run are not among the remaining runs.

    Parameters
    ----------
    bolds, all_bolds : sequence of Path
        Selected BOLD series, and all BOLD series, of one participant.
    factor : callable
        Returns the super-resolution factor of a run, or None if it is not known yet.
    """
    calibration_file = settings.superres.calibration_file
    subject = parse_entities(all_bolds[0])["subject"]
    additional_files = (
        [calibration_file]
        if calibration_file and parse_entities(calibration_file).get("subject") == subject
        else []
    )
    files = dict.fromkeys([*all_bolds, *(path.absolute() for path in additional_files)])
    runs = {
        path: candidate for path in files if (candidate := _candidate(path, index)) is not None
    }
    findings_of = {bold: Findings() for bold in bolds if bold in runs}
    calibration_runs = {
        bold: calibration
        for bold, run_findings in findings_of.items()
        if (
            calibration := _calibrate(
                runs[bold], [*runs.values()], factor(runs[bold]), settings, run_findings
            )
        )
    }
    skipped = _list_skipped_runs(bolds, runs, calibration_runs)
    for path, reason in skipped.items():
        findings.note(path, reason)
    remaining = [bold for bold in bolds if bold not in skipped]
    for bold in (bold for bold in remaining if bold in findings_of):
        with findings.about(subject, stem_of_echoes(bold)):
            findings.add_all(findings_of[bold])
    return {
        bold: calibration for bold, calibration in calibration_runs.items() if bold in remaining
    }, remaining
