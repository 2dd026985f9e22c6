"""Calibration of BOLD runs by short high-resolution runs of the same participant.

Calibration runs are not super-resolved themselves.

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
from bids_sr.bids.companions import read_run, unfit
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.inputs import BoldRun, entities_of, is_magnitude, stem_of, stem_of_echoes
from bids_sr.bids.layout import Index
from bids_sr.bids.pairs import SIZE_TOLERANCE
from bids_sr.config import Settings
from bids_sr.io.image_header import Triple

_SHORT = 40  # volumes; a finer run with fewer is a calibration and nothing else
_WORDS = ("auto", "none")
_OUT = "leave it out with --calibration none"


def check_named(settings: Settings, labels: Sequence[str], found: Findings) -> None:
    """Refuse a ``--calibration`` file of no chosen participant, or with an excluding option."""
    superres, option = settings.superres, f"--calibration {settings.superres.calibration}"
    file = superres.calibration_file
    if superres.calibration in _WORDS:
        return
    if settings.evaluation.retrospective is not None:
        reason = (
            "--retrospective makes its own high-resolution data of each run, and takes no"
            " calibration"
        )
        found.refuse_option(option, reason, "Leave one of the two options out.")
    elif file is not None and not file.exists():
        found.refuse_option(
            option, "there is no such file", "Check the path, or give an acq- label."
        )
    elif file is not None and (owner := entities_of(file).get("subject")) not in labels:
        whose = f"of sub-{owner}" if owner else "of no participant: its name has no sub- label"
        reason = (
            f"it is {whose}, and the participants worked on are"
            f" {', '.join(f'sub-{x}' for x in labels)}"
        )
        found.refuse_option(
            option,
            reason,
            "Give a run of the same participant; a variance map of another brain cannot be used.",
        )


def _candidate(path: Path, index: Index) -> BoldRun | None:
    """Return a single-echo magnitude series that may calibrate others, or None if unsound."""
    unused = Findings()  # what is wrong with a run is told where it is read for itself
    alone = is_magnitude(path) and "echo" not in entities_of(path)
    header = hd.read_header(path, unused) if alone else None
    if header is None:
        return None
    try:
        one = read_run(path, {"RepetitionTime": header.tr, **index.sidecar(path)}, unused)
    except InputError:
        return None
    events = index.events(path)  # by inheritance, that of the longer run of its task
    own = events is not None and stem_of(events) == stem_of(path)
    return None if one is None else replace(one, events=events if own else None)


def _acquisition(one: BoldRun) -> str:
    return one.entities.get("acquisition", "")


def _is_finer(one: BoldRun, other: BoldRun) -> bool:
    """Return whether a series has smaller in-plane voxels than another, beyond the tolerance."""
    ratio = np.asarray(other.zooms[:2]) / np.asarray(one.zooms[:2])
    return bool(np.all(ratio > 1 + SIZE_TOLERANCE))


def _calibrate(
    run: BoldRun,
    candidates: Sequence[BoldRun],
    factor: Triple | None,
    settings: Settings,
    found: Findings,
) -> BoldRun | None:
    """Choose a run's calibration among the series of all sessions and the named file.

    None without a problem means that none fits.
    """
    wanted, file = settings.superres.calibration, settings.superres.calibration_file
    if wanted == "none" or settings.evaluation.retrospective is not None:
        return None
    others = [
        replace(one, header=hd.like(one.header, run.affine))
        for one in candidates
        if one.bold != run.bold
    ]
    those = [one for one in others if wanted in ("auto", _acquisition(one))]
    if file is not None:
        those = [one for one in others if one.bold == file.absolute()]
    fitting, dummies = [], settings.preprocessing.dummy_scans or 0
    reasons: dict[Path, str] = {}
    for one in those:
        against = [why for _, why, _ in unfit(one, run, "calibration", factor, dummies)]
        fitting += [] if against else [one]
        # what is finer was meant for it; others are just other runs
        if against and (wanted != "auto" or _is_finer(one, run)):
            reasons[one.bold] = against[0]
    if fitting:
        return _best(run, fitting, found)
    if not those and file is None and wanted != "auto":
        there = sorted({_acquisition(one) for one in others} - {""})
        reason = (
            f"no other BOLD run of the participant of {run.bold.name} has the label acq-{wanted}"
        )
        fix = f"There are: {', '.join(f'acq-{x}' for x in there) or 'none'}. Or {_OUT}."
        found.refuse_option(f"--calibration {wanted}", reason, fix)
    for path, reason in reasons.items():
        if wanted == "auto":
            text = f"it is finer than {run.bold.name} and does not calibrate it: {reason}."
            found.tell(path, text)
        else:
            fix = f"Give another run with --calibration, or {_OUT}."
            found.refuse(path, f"it cannot calibrate {run.bold.name}: {reason}", fix)
    return None


def _best(run: BoldRun, fitting: Sequence[BoldRun], found: Findings) -> BoldRun:
    """Choose the best calibration: same session first, then without events, then the longest."""

    def session(one: BoldRun) -> str | None:
        return one.entities.get("session")

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
            f"it calibrates {run.bold.name}; so could {others} (--calibration LABEL or FILE"
            " chooses)."
        )
        found.tell(first.bold, text)
    if session(first) != session(run):
        text = (
            f"it calibrates {run.bold.name} of another session. In our tests a misregistered"
            " calibration was worse than none: check its registration in the report."
        )
        found.tell(first.bold, text)
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
    for path, own in ((path, read[path]) for path in bolds if path in read):
        if path in used:
            out[path] = f"it calibrates {used[path]} and is not super-resolved itself"
            if own.events is not None and own.n_volumes >= _SHORT:
                out[path] += " (it would be with --calibration none, or if it were chosen alone)"
        elif (own.events is None or own.n_volumes < _SHORT) and any(
            _is_finer(own, read[other]) for other in bolds if other != path and other in read
        ):
            why = "has no events" if own.events is None else f"has {own.n_volumes} volumes only"
            out[path] = f"it is finer than other runs and {why}: it is left out"
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

    The runs that serve as calibrations are taken out.
    """
    named = settings.superres.calibration_file
    subject = entities_of(every[0])["subject"]
    further = [named] if named and entities_of(named).get("subject") == subject else []
    files = dict.fromkeys([*every, *(path.absolute() for path in further)])
    read = {path: one for path in files if (one := _candidate(path, index)) is not None}
    told = {bold: Findings() for bold in bolds if bold in read}
    chosen = {
        bold: one
        for bold, own in told.items()
        if (one := _calibrate(read[bold], [*read.values()], factor(read[bold]), settings, own))
    }
    out = _left_out(bolds, read, chosen)
    for path, why in out.items():
        seen.tell(path, f"{why}.")
    kept = [bold for bold in bolds if bold not in out]
    for bold in (bold for bold in kept if bold in told):
        with seen.about(subject, stem_of_echoes(bold)):
            seen.add_all(told[bold])
    return {bold: one for bold, one in chosen.items() if bold in kept}, kept
