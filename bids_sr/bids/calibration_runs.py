"""Calibration of BOLD runs by short high-resolution runs of the same participant.

A run calibrates another one if its in-plane voxels are smaller by the factor of that run (within
10 %, as with the T2*-weighted pair), its slices are as thick, the fields of view overlap and it
has volumes enough for a variance. Where neither a pair nor ``--sr-factor`` tells the factor, the
calibration does.

A run that calibrates another one is not super-resolved itself, however long it is, as it has been
measured at the resolution of the super-resolved others; nor is a short finer run, or one without
events, with ``--calibration none``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bids_sr.bids import headers as hd
from bids_sr.bids import slice_axis
from bids_sr.bids.companions import read_run, unfit
from bids_sr.bids.entities import entities_of, is_magnitude, stem_of, stem_of_echoes
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.inputs import BoldRun
from bids_sr.bids.layout import Index
from bids_sr.bids.pairs import SIZE_TOLERANCE
from bids_sr.config import Settings
from bids_sr.io.image_header import Triple

_SHORT = 40  # volumes; a finer run with fewer is a calibration and nothing else
_WORDS = ("auto", "none")
_OUT = "use --calibration none"


def check_named(settings: Settings, labels: Sequence[str], findings: Findings) -> None:
    """Refuse a ``--calibration`` file of no chosen participant, or with an excluding option."""
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
    elif file is not None and (owner := entities_of(file).get("subject")) not in labels:
        whose = (
            f"the file belongs to sub-{owner}"
            if owner
            else "the file name does not contain a sub- label"
        )
        reason = (
            f"{whose}, but the selected participants are {', '.join(f'sub-{x}' for x in labels)}"
        )
        findings.refuse_option(
            option,
            reason,
            "Specify a run of the same participant; the prior SD map of another brain cannot be"
            " used.",
        )


def _candidate(path: Path, index: Index) -> BoldRun | None:
    """Return a single-echo magnitude series that may calibrate others, or None if unsound."""
    unused = Findings()  # what is wrong with a run is told where it is read for itself
    alone = is_magnitude(path) and "echo" not in entities_of(path)
    header = hd.read_header(path, unused) if alone else None
    if header is None:
        return None
    try:
        candidate = read_run(path, {"RepetitionTime": header.tr, **index.sidecar(path)}, unused)
    except InputError:
        return None
    events = index.events(path)  # by inheritance, that of the longer run of its task
    own = events is not None and stem_of(events) == stem_of(path)
    return None if candidate is None else replace(candidate, events=events if own else None)


def _acquisition(run: BoldRun) -> str:
    return run.entities.get("acquisition", "")


def _is_finer(run: BoldRun, other: BoldRun) -> bool:
    """Return whether a series has smaller in-plane voxels than another, beyond the tolerance."""
    ratio = np.asarray(other.zooms[:2]) / np.asarray(run.zooms[:2])
    return bool(np.all(ratio > 1 + SIZE_TOLERANCE))


def _calibrate(
    run: BoldRun,
    candidates: Sequence[BoldRun],
    factor: Triple | None,
    settings: Settings,
    findings: Findings,
) -> BoldRun | None:
    """Choose a run's calibration among the series of all sessions and the named file.

    None without a problem means that none fits. A `factor` of None is told by the calibration.
    """
    calibration, file = settings.superres.calibration, settings.superres.calibration_file
    unsuited = (
        settings.evaluation.retrospective is not None
        or settings.preprocessing.input_smoothing  # a calibration is not smoothed
    )
    if calibration == "none" or unsuited:
        return None
    others = [
        replace(one, header=slice_axis.like(one.header, run.affine))
        for one in candidates
        if one.bold != run.bold
    ]
    those = [one for one in others if calibration in ("auto", _acquisition(one))]
    if file is not None:
        those = [one for one in others if one.bold == file.absolute()]
    fitting = []
    dummies = settings.preprocessing.dummy_scans or 0
    reasons: dict[Path, str] = {}
    for candidate in those:
        against = [why for _, why, _ in unfit(candidate, run, "calibration", factor, dummies)]
        fitting += [] if against else [candidate]
        # what is finer was meant for it; others are just other runs
        if against and (calibration != "auto" or _is_finer(candidate, run)):
            reasons[candidate.bold] = against[0]
    if fitting:
        return _best(run, fitting, findings)
    if not those and file is None and calibration != "auto":
        there = sorted({_acquisition(one) for one in others} - {""})
        reason = (
            f"no other BOLD run of this participant has the label acq-{calibration}, which was"
            f" requested for the calibration of {run.bold.name}"
        )
        fix = (
            f"Available labels: {', '.join(f'acq-{x}' for x in there) or 'none'}. To proceed"
            " without a calibration run, use --calibration none."
        )
        findings.refuse_option(f"--calibration {calibration}", reason, fix)
    for path, reason in reasons.items():
        if calibration == "auto":
            text = (
                f"this run has smaller voxels than {run.bold.name} but cannot be used as its"
                f" calibration run: {reason}."
            )
            findings.tell(path, text)
        else:
            fix = f"Specify another run with --calibration, or {_OUT}."
            findings.refuse(
                path,
                f"this file cannot be used as calibration run for {run.bold.name}: {reason}",
                fix,
            )
    return None


def _best(run: BoldRun, fitting: Sequence[BoldRun], findings: Findings) -> BoldRun:
    """Choose the best calibration: same session first, then without events, then the longest."""

    def session(run: BoldRun) -> str | None:
        return run.entities.get("session")

    first, *rest = sorted(
        fitting,
        key=lambda one: (
            session(one) != session(run),
            one.events is not None,
            -one.n_volumes,
            one.bold.name,
        ),
    )
    if rest:
        others = ", ".join(one.bold.name for one in rest)
        text = (
            f"this file is used as calibration run for {run.bold.name}. Other possible"
            f" calibration runs are {others}; select one with --calibration LABEL or"
            " --calibration FILE."
        )
        findings.tell(first.bold, text)
    if session(first) != session(run):
        text = (
            f"this file is used as calibration run for {run.bold.name}, although it comes from"
            " another session. In our tests, a misregistered calibration run was worse than no"
            " calibration run, so check the registration in the report."
        )
        findings.tell(first.bold, text)
    return first


def _left_out(
    bolds: Sequence[Path], read: Mapping[Path, BoldRun], chosen: Mapping[Path, BoldRun]
) -> dict[Path, str]:
    """Return the runs that are not super-resolved themselves, and why.

    `chosen` is the calibration of each run that has one.
    """
    used: dict[Path, str] = {}
    for bold, calibration in chosen.items():
        used.setdefault(calibration.bold, bold.name)
    out = {}
    for path, findings in ((path, read[path]) for path in bolds if path in read):
        if path in used:
            out[path] = (
                f"this file is used as calibration run for {used[path]} and is not super-resolved."
            )
            if findings.events is not None and findings.n_volumes >= _SHORT:
                out[path] += (
                    " To super-resolve this run as well, use --calibration none or select only"
                    " this run."
                )
        elif (findings.events is None or findings.n_volumes < _SHORT) and any(
            _is_finer(findings, read[other]) for other in bolds if other != path and other in read
        ):
            why = "no events" if findings.events is None else f"only {findings.n_volumes} volumes"
            out[path] = (
                f"the run is skipped because it has smaller voxels than other runs and {why}."
            )
    return out


def calibrations(
    index: Index,
    bolds: Sequence[Path],
    every: Sequence[Path],
    factor: Callable[[BoldRun], Triple | None],
    settings: Settings,
    seen: Findings,
) -> tuple[dict[Path, BoldRun], list[Path]]:
    """Return the calibration of each run that has one, and the runs left to super-resolve.

    The runs that serve as calibrations are taken out. `bolds, every`: series of one participant
    that were chosen, and all of them. `factor`: of super-resolution of a run, as far as known.
    """
    named = settings.superres.calibration_file
    subject = entities_of(every[0])["subject"]
    further = [named] if named and entities_of(named).get("subject") == subject else []
    files = dict.fromkeys([*every, *(path.absolute() for path in further)])
    read = {path: one for path in files if (one := _candidate(path, index)) is not None}
    findings_of = {bold: Findings() for bold in bolds if bold in read}
    chosen = {
        bold: one
        for bold, own in findings_of.items()
        if (one := _calibrate(read[bold], [*read.values()], factor(read[bold]), settings, own))
    }
    out = _left_out(bolds, read, chosen)
    for path, why in out.items():
        seen.tell(path, why)
    kept = [bold for bold in bolds if bold not in out]
    for bold in (bold for bold in kept if bold in findings_of):
        with seen.about(subject, stem_of_echoes(bold)):
            seen.add_all(findings_of[bold])
    return {bold: one for bold, one in chosen.items() if bold in kept}, kept
