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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bids_sr.bids import headers as hd
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.image_header import Header, Triple
from bids_sr.bids.inputs import Companion, Pair, entities_of, is_magnitude, stem_of, stem_of_echoes
from bids_sr.bids.layout import Index
from bids_sr.bids.pairs import MIN_OVERLAP, SIZE_TOLERANCE, overlap, simple_ratio, sizes
from bids_sr.config import Settings
from bids_sr.io.grids import mm_text

_LEAST_VOLUMES = 8  # in the steady state
_SHORT = 40  # volumes; a finer run with fewer is a calibration and nothing else
_WORDS = ("auto", "none")
OUT = "leave it out with --calibration none"
_KnownFactor = Callable[[Header, str | None], Triple | None]


@dataclass(slots=True)
class _Chosen(Findings):
    """Calibration of a run with notices; no calibration and no problem means none fits."""

    calibration: Companion | None = None


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


def known_factor(pair: Pair | None, settings: Settings) -> Triple | None:
    """Factor of a run that is known without a calibration."""
    if pair is not None:
        return pair.factor
    named = settings.superres.factor
    return None if named is None else (named, named, 1.0)


def _candidate(path: Path, index: Index) -> Companion | None:
    """Return a single-echo magnitude series that may calibrate others, or None if unsound."""
    unused = Findings()  # what is wrong with a run is told where it is read for itself
    alone = is_magnitude(path) and "echo" not in entities_of(path)
    header = hd.read_header(path, unused) if alone else None
    if header is None or not hd.is_bold(header, unused):
        return None
    try:
        sidecar = index.sidecar(path)
        header, _ = hd.with_slices_last(header, sidecar)
        tr = hd.repetition_time(header, sidecar.get("RepetitionTime", header.tr), unused)
    except InputError:
        return None
    if tr is None:
        return None
    events = index.events(path)
    if events is not None and stem_of(events) != stem_of(path):
        events = None  # by inheritance, that of the longer run of its task
    return Companion(header=header, tr=tr, sidecar=sidecar, events=events)


def _acquisition(one: Companion) -> str:
    return entities_of(one.bold).get("acquisition", "")


def _is_finer(header: Header, other: Header) -> bool:
    """Return whether a series has smaller in-plane voxels than another, beyond the tolerance."""
    ratio = np.asarray(other.zooms[:2]) / np.asarray(header.zooms[:2])
    return bool(np.all(ratio > 1 + SIZE_TOLERANCE))


def _calibrate(
    bold: Header,
    session: str | None,
    candidates: Sequence[Companion],
    factor: Triple | None,
    settings: Settings,
) -> _Chosen:
    """Choose a run's calibration among the series of all sessions and the named file.

    `factor` is that of super-resolution of the run; None where only the calibration can tell it.
    """
    superres, chosen = settings.superres, _Chosen()
    if superres.calibration == "none" or settings.evaluation.retrospective is not None:
        return chosen
    others = [
        replace(c, header=hd.like(c.header, bold.affine))
        for c in candidates
        if c.bold != bold.path
    ]
    file = superres.calibration_file
    those = [c for c in others if superres.calibration in ("auto", _acquisition(c))]
    if file is not None:
        those = [c for c in others if c.bold == file.absolute()]
    reasons = {c.bold: _against(bold, c, factor, settings) for c in those}
    fitting = [c for c in those if not reasons[c.bold]]
    if fitting:
        _take_best(bold, session, fitting, factor, chosen)
    # what is finer was meant for it; others are just other runs
    elif superres.calibration == "auto":
        for path in (c.bold for c in those if _is_finer(c.header, bold)):
            chosen.tell(
                path,
                f"it is finer than {bold.path.name} and does not calibrate it: {reasons[path]}.",
            )
    elif not those and file is None:
        there = sorted({_acquisition(c) for c in others} - {""})
        reason = (
            f"no other BOLD run of the participant of {bold.path.name} has the label"
            f" acq-{superres.calibration}"
        )
        fix = f"There are: {', '.join(f'acq-{x}' for x in there) or 'none'}. Or {OUT}."
        chosen.refuse_option(f"--calibration {superres.calibration}", reason, fix)
    for path, reason in reasons.items():
        if not fitting and superres.calibration != "auto":
            fix = f"Give another run with --calibration, or {OUT}."
            chosen.refuse(path, f"it cannot calibrate {bold.path.name}: {reason}", fix)
    return chosen


def _against(bold: Header, found: Companion, factor: Triple | None, settings: Settings) -> str:
    """Why a series cannot calibrate a run; "" if it can."""
    header = found.header
    ratio = np.asarray(bold.zooms) / np.asarray(header.zooms)
    told = factor if factor is not None else _told(ratio)
    if told is None or np.any(np.abs(ratio[:2] / np.asarray(told[:2]) - 1) > SIZE_TOLERANCE):
        wanted = "a simple ratio above 1" if told is None else f"the factor {told[0]:g}"
        stand = " and ".join(f"{value:.3g}" for value in ratio[:2])
        voxels = f"its voxels are {sizes(header)}, those of the run {sizes(bold)}"
        return f"{voxels}: the ratio is {stand}, not {wanted}"
    if abs(ratio[2] / told[2] - 1) > SIZE_TOLERANCE:
        apart = [mm_text(each.zooms[2]) for each in (header, bold)]
        return f"its slices are {apart[0]} mm apart and those of the run {apart[1]} mm"
    steady = header.shape[3] - (settings.preprocessing.dummy_scans or 0)
    if steady < _LEAST_VOLUMES:
        return (
            f"it has {steady} steady-state volumes; {_LEAST_VOLUMES} are needed, 20 are"
            " recommended"
        )
    share = overlap(bold, header)
    if share < MIN_OVERLAP:
        return f"its field of view covers {share:.0%} of that of the run: they do not overlap"
    return ""


def _told(ratio: np.ndarray) -> Triple | None:
    """Return the factor that the voxel sizes imply (along slices 1), or None.

    In plane it is a simple fraction, or a whole number within the tolerance.
    """
    mean = float(ratio[:2].mean())
    near = simple_ratio(mean) or (
        float(round(mean)) if abs(mean / max(round(mean), 1) - 1) <= SIZE_TOLERANCE else None
    )
    return None if near is None or near <= 1 else (near, near, 1.0)


def _take_best(
    bold: Header,
    session: str | None,
    fitting: Sequence[Companion],
    factor: Triple | None,
    chosen: _Chosen,
) -> None:
    """Choose the best calibration: same session first, then without events, then the longest."""
    ranks = {
        c.bold: (c.session != session, c.events is not None, -c.header.shape[3], c.bold.name)
        for c in fitting
    }
    first, *rest = sorted(fitting, key=lambda candidate: ranks[candidate.bold])
    if rest:
        others = ", ".join(c.bold.name for c in rest)
        text = (
            f"it calibrates {bold.path.name}; so could {others} (--calibration LABEL or FILE"
            " chooses)."
        )
        chosen.tell(first.bold, text)
    if first.session != session:
        text = (
            f"it calibrates {bold.path.name} of another session. In our tests a misregistered"
            " calibration was worse than none: check its registration in the report."
        )
        chosen.tell(first.bold, text)
    told = factor or _told(np.asarray(bold.zooms) / np.asarray(first.header.zooms))
    assert told is not None
    chosen.calibration = replace(first, factor=told)


def left_out(
    bolds: Sequence[Path], found: dict[Path, Companion], chosen: dict[Path, _Chosen]
) -> dict[Path, str]:
    """Return the runs that are not super-resolved themselves, and why.

    `chosen` is the calibration of each run that can be read.
    """
    used: dict[Path, str] = {}
    for bold, choice in chosen.items():
        if choice.calibration is not None and choice.calibration.bold in bolds:
            used.setdefault(choice.calibration.bold, bold.name)
    out = {}
    for path in bolds:
        own = found.get(path)
        coarser_run = own and any(
            _is_finer(own.header, found[b].header) for b in bolds if b != path and b in found
        )
        if path in used:
            out[path] = f"it calibrates {used[path]} and is not super-resolved itself"
            if own and own.events is not None and own.header.shape[3] >= _SHORT:
                out[path] += " (it would be with --calibration none, or if it were chosen alone)"
        elif own and coarser_run and (own.events is None or own.header.shape[3] < _SHORT):
            why = (
                "has no events"
                if own.events is None
                else f"has {own.header.shape[3]} volumes only"
            )
            out[path] = f"it is finer than other runs and {why}: it is left out"
    return out


def of_runs(
    index: Index,
    bolds: Sequence[Path],
    every: Sequence[Path],
    factor: _KnownFactor,
    settings: Settings,
    seen: Findings,
) -> tuple[dict[Path, Companion], list[Path]]:
    """Return the calibration of each run that has one, and the runs left to super-resolve.

    The runs that serve as calibrations are taken out.

    Parameters
    ----------
    index : of the data set
    bolds, every : series of one participant that were chosen, and all of them
    factor : of super-resolution by header and session of a run, as far as it is known
    settings : see `_calibrate`
    seen : takes what is to be said
    """
    named = settings.superres.calibration_file
    own = named is not None and entities_of(named).get("subject") == entities_of(every[0]).get(
        "subject"
    )
    further = [named.absolute()] if named is not None and own else []
    read = {path: _candidate(path, index) for path in dict.fromkeys([*every, *further])}
    found = {path: candidate for path, candidate in read.items() if candidate is not None}
    chosen = {
        bold: _calibrate(
            one.header,
            one.session,
            list(found.values()),
            factor(one.header, one.session),
            settings,
        )
        for bold in bolds
        if (one := found.get(bold)) is not None
    }
    out = left_out(bolds, found, chosen)
    for path, why in out.items():
        seen.tell(path, f"{why}.")
    kept = [bold for bold in bolds if bold not in out]
    for bold, choice in ((bold, chosen[bold]) for bold in kept if bold in chosen):
        with seen.about(entities_of(bold)["subject"], stem_of_echoes(bold)):
            seen.add_all(choice)
    return {
        b: c.calibration for b, c in chosen.items() if c.calibration is not None and b in kept
    }, kept
