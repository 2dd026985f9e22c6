"""Which short high-resolution run calibrates which other run of the participant, and which runs are left out for that.

A run calibrates another one if its in-plane voxels are smaller by the factor of that run (within 10 %, as with the
T2*-weighted pair), its slices are as thick, the fields of view overlap and it has volumes enough for a variance. Where
neither a pair nor ``--sr-factor`` tells the factor, the calibration does.

A run that calibrates another one is not super-resolved itself, however long it is, as it has been measured at the
resolution that the others are raised to; nor is a short finer run, or one without events, with ``--calibration none``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_sr.bids import headers as hd
from bids_sr.bids.inputs import (
    Calibration,
    Header,
    InputError,
    Notice,
    Pair,
    Problem,
    Seen,
    Triple,
    entities_of,
    stem_of,
)
from bids_sr.bids.layout import Index
from bids_sr.bids.pairs import MIN_OVERLAP, SIZE_TOLERANCE, overlap, same_axes, simple_ratio, sizes
from bids_sr.config import Settings, SuperRes

LEAST_VOLUMES = 8  # in the steady state
SHORT = 40  # volumes; a finer run with fewer is a calibration and nothing else
WORDS = ("auto", "none")
OUT = "leave it out with --calibration none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A series that may calibrate others.

    Attributes
    ----------
    header, tr : of it
    events : table of its own name, or None
    session, acquisition : labels in its name, or None
    """

    header: Header
    tr: float
    events: Path | None
    session: str | None
    acquisition: str | None

    @property
    def path(self) -> Path:
        """Of the series."""
        return self.header.path


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """The calibration of a run, and what is to be said of it; no calibration and no problem means that none fits."""

    calibration: Calibration | None = None
    problems: tuple[Problem, ...] = ()
    notices: tuple[Notice, ...] = ()


def check_named(settings: Settings, labels: Sequence[str]) -> list[Problem]:
    """A file named with ``--calibration`` that is none of the participants chosen, or an option that excludes it."""
    superres, option = settings.superres, f"--calibration {settings.superres.calibration}"
    file = superres.calibration_file
    if superres.calibration in WORDS:
        return []
    if settings.evaluation.retrospective is not None:
        reason = "--retrospective makes its own high-resolution data of each run, and takes no calibration"
        return [Problem(file=option, reason=reason, fix="Leave one of the two options out.")]
    if file is None:
        return []
    if not file.exists():
        return [Problem(file=option, reason="there is no such file", fix="Check the path, or give an acq- label.")]
    owner = entities_of(file).get("subject")
    if owner not in labels:
        whose = f"of sub-{owner}" if owner else "of no participant: its name has no sub- label"
        reason = f"it is {whose}, and the participants worked on are {', '.join(f'sub-{x}' for x in labels)}"
        fix = "Give a run of the same participant; the map of another head is of no use."
        return [Problem(file=option, reason=reason, fix=fix)]
    return []


def known_factor(pair: Pair | None, settings: Settings) -> Triple | None:
    """Factor of a run that is known without a calibration."""
    if pair is not None:
        return pair.factor
    given = settings.superres.factor
    return None if given is None else (given, given, 1.0)


def candidates(index: Index, paths: Sequence[Path]) -> dict[Path, Candidate]:
    """The sound ones of series of one participant, which others may be calibrated by; single echoes of magnitude."""
    found = {}
    for path in paths:
        names = entities_of(path)
        if names.get("part", "mag") == "mag" and "echo" not in names:
            read = _candidate(path, index)
            if isinstance(read, Candidate):  # what is wrong with a run to super-resolve is told where it is read
                found[path] = read
    return found


def _candidate(path: Path, index: Index) -> Candidate | Problem:
    """Read what the header of a series tells, or say why it calibrates nothing."""
    header = hd.read_header(path)
    if isinstance(header, Problem):
        return header
    unsound = hd.check_bold_header(header)
    if unsound:
        return unsound[0]
    try:
        value = index.sidecar(path).get("RepetitionTime", header.tr)
    except InputError as error:
        return error.problems[0]
    tr, wrong, _ = hd.repetition_time(header, value)
    if wrong or tr is None:
        return wrong[0]
    names, events = entities_of(path), index.events(path)
    if events is not None and stem_of(events) != stem_of(path):
        events = None  # by inheritance, that of the longer run of its task
    session, acquisition = names.get("session"), names.get("acquisition")
    return Candidate(header=header, tr=tr, events=events, session=session, acquisition=acquisition)


def is_finer(header: Header, other: Header) -> bool:
    """Whether the voxels of a series are smaller in plane than those of another one, by more than the tolerance."""
    ratio = np.asarray(other.zooms[:2]) / np.asarray(header.zooms[:2])
    return bool(np.all(ratio > 1 + SIZE_TOLERANCE))


def calibrate(
    bold: Header, session: str | None, candidates: Sequence[Candidate], factor: Triple | None, settings: Settings
) -> Chosen:
    """Choose the calibration of one run.

    Parameters
    ----------
    bold : header of the run; session : its session
    candidates : other series of the participant, every session, and the file that was named
    factor : of super-resolution of the run; None where only the calibration can tell it
    settings : `superres.calibration`, `superres.force` and `preprocessing.dummy_scans` count
    """
    superres = settings.superres
    if superres.calibration == "none" or settings.evaluation.retrospective is not None:
        return Chosen()
    those = [c for c in candidates if c.path != bold.path and _is_named(c, superres)]
    if not those:
        return _nowhere(bold, candidates, superres)
    reasons = {c.path: _against(bold, c, factor, settings) for c in those}
    fitting = [c for c in those if not reasons[c.path]]
    if fitting:
        return _best(bold, session, fitting, factor)
    if superres.calibration == "auto":  # what is finer was meant for it; others are just other runs
        unfit = f"it is finer than {bold.path.name} and does not calibrate it"
        finer = [c.path for c in those if is_finer(c.header, bold)]
        return Chosen(notices=tuple(Notice(file=str(path), text=f"{unfit}: {reasons[path]}.") for path in finer))
    return Chosen(problems=tuple(
        Problem(
            file=str(c.path), reason=f"it cannot calibrate {bold.path.name}: {reasons[c.path]}",
            fix=f"Give another run with --calibration, or {OUT}.",
        )
        for c in those
    ))  # fmt: skip


def _is_named(candidate: Candidate, superres: SuperRes) -> bool:
    if superres.calibration_file is not None:
        return candidate.path == superres.calibration_file.absolute()
    return superres.calibration in ("auto", candidate.acquisition)


def _nowhere(bold: Header, candidates: Sequence[Candidate], superres: SuperRes) -> Chosen:
    """A label that no other series of the participant has."""
    if superres.calibration == "auto" or superres.calibration_file is not None:
        return Chosen()
    there = sorted({c.acquisition for c in candidates if c.acquisition and c.path != bold.path})
    reason = f"no other BOLD run of the participant of {bold.path.name} has the label acq-{superres.calibration}"
    fix = f"There are: {', '.join(f'acq-{x}' for x in there) or 'none'}. Or {OUT}."
    return Chosen(problems=(Problem(file=f"--calibration {superres.calibration}", reason=reason, fix=fix),))


def _against(bold: Header, found: Candidate, factor: Triple | None, settings: Settings) -> str:
    """Why a series cannot calibrate a run; "" if it can."""
    header = found.header
    if not same_axes(bold, header):
        return "its axes stand in another order"
    ratio = np.asarray(bold.zooms) / np.asarray(header.zooms)
    told = factor if factor is not None else _told(ratio)
    if told is None or np.any(np.abs(ratio[:2] / np.asarray(told[:2]) - 1) > SIZE_TOLERANCE):
        wanted = "a simple ratio above 1" if told is None else f"the factor {told[0]:g}"
        stand = " and ".join(f"{value:.3g}" for value in ratio[:2])
        voxels = f"its voxels are {sizes(header)}, those of the run {sizes(bold)}"
        return f"{voxels}: they stand as {stand}, not as {wanted}"
    if abs(ratio[2] / told[2] - 1) > SIZE_TOLERANCE:
        return f"its slices are {header.zooms[2]:.3g} mm apart and those of the run {bold.zooms[2]:.3g} mm"
    steady = header.shape[3] - (settings.preprocessing.dummy_scans or 0)
    if steady < LEAST_VOLUMES:
        return f"it has {steady} volumes in the steady state; {LEAST_VOLUMES} are needed for a variance, 20 advised"
    share = overlap(bold, header)
    if share < MIN_OVERLAP:
        return f"its field of view covers {share:.0%} of that of the run: they do not overlap"
    return ""


def _told(ratio: np.ndarray) -> Triple | None:
    """Factor that voxel sizes tell: a simple fraction, or a whole number that comes near; along slices 1."""
    mean = float(ratio[:2].mean())
    near = simple_ratio(mean) or (float(round(mean)) if abs(mean / max(round(mean), 1) - 1) <= SIZE_TOLERANCE else None)
    return None if near is None or near <= 1 else (near, near, 1.0)


def _best(bold: Header, session: str | None, fitting: Sequence[Candidate], factor: Triple | None) -> Chosen:
    """Of several that fit, one of the same session before others, then one without events, then the longest."""
    ranked = sorted(
        fitting, key=lambda c: (c.session != session, c.events is not None, -c.header.shape[3], c.path.name)
    )
    first, notices = ranked[0], []
    if len(ranked) > 1:
        others = ", ".join(c.path.name for c in ranked[1:])
        text = f"it calibrates {bold.path.name}; so could {others} (--calibration LABEL or FILE chooses)."
        notices.append(Notice(file=str(first.path), text=text))
    if first.session != session:
        text = (
            f"it calibrates {bold.path.name} of another session. Measured, a calibration that was not in register was "
            "worse than none: look at its figures in the report."
        )
        notices.append(Notice(file=str(first.path), text=text))
    told = factor or _told(np.asarray(bold.zooms) / np.asarray(first.header.zooms))
    assert told is not None
    calibration = Calibration(
        bold=first.path, events=first.events, session=first.session, factor=told, n_volumes=first.header.shape[3],
        tr=first.tr, zooms=first.header.zooms,
    )  # fmt: skip
    return Chosen(calibration=calibration, notices=tuple(notices))


def left_out(bolds: Sequence[Path], found: dict[Path, Candidate], chosen: dict[Path, Chosen]) -> dict[Path, str]:
    """Runs that are not super-resolved themselves, and why.

    Parameters
    ----------
    bolds : runs chosen
    found : what is known of them
    chosen : calibration of each, as far as their headers can be read
    """
    used: dict[Path, str] = {}
    for bold, choice in chosen.items():
        if choice.calibration is not None and choice.calibration.bold in bolds:
            used.setdefault(choice.calibration.bold, bold.name)
    out = {}
    for path in bolds:
        own = found.get(path)
        coarser = own and any(is_finer(own.header, found[b].header) for b in bolds if b != path and b in found)
        if path in used:
            out[path] = f"it calibrates {used[path]} and is not super-resolved itself"
            if own and own.events is not None and own.header.shape[3] >= SHORT:
                out[path] += " (it would be with --calibration none, or if it were chosen alone)"
        elif own and coarser and (own.events is None or own.header.shape[3] < SHORT):
            why = "has no events" if own.events is None else f"has {own.header.shape[3]} volumes only"
            out[path] = f"it is finer than other runs and {why}: it is left out"
    return out


def of_runs(
    index: Index,
    bolds: Sequence[Path],
    every: Sequence[Path],
    factor: Callable[[Header, str | None], Triple | None],
    settings: Settings,
    seen: Seen,
) -> tuple[dict[Path, Calibration], list[Path]]:
    """Calibration of each run that has one, and the runs that are left when calibrations are taken out.

    Parameters
    ----------
    index : of the data set
    bolds, every : series of one participant that were chosen, and all of them
    factor : of super-resolution by header and session of a run, as far as it is known
    settings : see `calibrate`
    seen : takes what is to be said
    """
    named = settings.superres.calibration_file
    own = named is not None and entities_of(named).get("subject") == entities_of(every[0]).get("subject")
    further = [named.absolute()] if named is not None and own else []
    found = candidates(index, list(dict.fromkeys([*every, *further])))
    chosen = {
        bold: calibrate(one.header, one.session, list(found.values()), factor(one.header, one.session), settings)
        for bold in bolds
        if (one := found.get(bold)) is not None
    }
    out = left_out(bolds, found, chosen)
    for path, why in out.items():
        seen.notices.append(Notice(file=str(path), text=f"{why}."))
    kept = [bold for bold in bolds if bold not in out]
    for choice in (chosen[bold] for bold in kept if bold in chosen):
        seen.problems += choice.problems
        seen.notices += choice.notices
    return {b: c.calibration for b, c in chosen.items() if c.calibration is not None and b in kept}, kept
