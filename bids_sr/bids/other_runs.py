"""Calibration of BOLD runs by short high-resolution runs of the same participant.

Calibration runs are not super-resolved themselves.

A run calibrates another one if its in-plane voxels are smaller by the factor of that run (within
10 %, as with the T2*-weighted pair), its slices are as thick, the fields of view overlap and it
has volumes enough for a variance. Where neither a pair nor ``--sr-factor`` tells the factor, the
calibration does.

A run that calibrates another one is not super-resolved itself, however long it is, as it has been
measured at the resolution of the super-resolved others; nor is a short finer run, or one without
events, with ``--calibration none``.

High-resolution reference of a run (``--truth``), found by its labels.

It is the measured series of the run, or its known activation.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bids_sr.bids import companions
from bids_sr.bids import headers as hd
from bids_sr.bids.companions import SERIES, companion, read_run, series_named, unfit
from bids_sr.bids.findings import Findings, InputError, refusal
from bids_sr.bids.inputs import BoldRun, Truth, entities_of, is_magnitude, stem_of, stem_of_echoes
from bids_sr.bids.layout import Index
from bids_sr.bids.pairs import SIZE_TOLERANCE
from bids_sr.config import Settings
from bids_sr.io.grids import Triple, misfits

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
        replace(one, header=hd.like(one.header, run.affine))
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


_KEYS = ("subject", "session", "task", "run")
_PLACES = ("derivatives/highres-reference", "derivatives/ground-truth")
"""Where a data set keeps a reference of its own: as measured, and as known of simulated data."""
_USED = (
    "this high-resolution reference was found in the dataset and is used to measure accuracy. To"
    " ignore it, specify --truth none."
)
_MAPS = "func/*_res-hr_contrast-*_stat-effect_desc-truth_statmap.nii*"
"""Known activation."""
_FORMS = (
    "A reference is a high-resolution series named sub-…/func/sub-…_task-…_bold.nii.gz, or a set"
    " of effect maps named"
    " sub-…/func/sub-…_task-…_res-hr_contrast-…_stat-effect_desc-truth_statmap.nii.gz"
)


def check_root(root: Path) -> None:
    """Raise `InputError` if the directory of the truth is missing or holds no participant."""
    if not root.is_dir():
        raise refusal(f"--truth {root}", "directory not found", "Check the path.")
    if not any(path.is_dir() for path in root.glob("sub-*")):
        inner = root / "derivatives" / "ground-truth"
        fix = (
            f"Use {inner}."
            if inner.is_dir()
            else f"Specify the directory that contains the sub-… directories. {_FORMS}."
        )
        raise refusal(
            f"--truth {root}", "no sub-… directory was found in the reference directory", fix
        )


def find_truth(
    root: Path, run: BoldRun, findings: Findings, *, timed: bool = True
) -> Truth | None:
    """Find the truth of one run and hold it against the run.

    Reference of the run; None where something speaks against it.
    """
    misfits = Findings()
    truth = _checked(root, run, misfits, timed=timed)
    with findings.about(run.entities["subject"], run.stem):
        findings.add_all(misfits)
    return None if misfits.problems else truth


def _checked(root: Path, run: BoldRun, findings: Findings, *, timed: bool) -> Truth | None:
    label = run.entities["subject"]
    folder = root / f"sub-{label}"
    if not folder.is_dir():
        there = companions.some(sorted(path.name for path in root.glob("sub-*") if path.is_dir()))
        fix = (
            "Specify a directory with a reference for this participant, or select participants"
            f" with a reference (--participant-label {there})."
        )
        findings.refuse(
            folder, f"no high-resolution reference for sub-{label} was found in {root}", fix
        )
        return None
    bolds, maps = _files(root, run)
    if not bolds and not maps:
        others = companions.some(
            sorted({path.name for pattern in (SERIES, _MAPS) for path in folder.rglob(pattern)})
        )
        reason = (
            f"no high-resolution reference was found for {run.stem}, only references for other"
            f" runs ({others})"
        )
        findings.refuse(
            folder, reason, f"Specify the reference for this run with --truth. {_FORMS}."
        )
        return None
    if len(bolds) > 1:
        names = ", ".join(path.name for path in bolds)
        reason = f"several series match the reference of {run.stem}: {names}"
        findings.refuse(folder, reason, "Keep only one of these series in the directory.")
        return None
    for path in maps:
        header = hd.read_header(path, findings)
        if header is not None and len(hd.squeeze_3d(header)) != 3:
            findings.refuse(path, "the map is not a 3D image", "Specify one 3D map per condition.")
        elif header is not None:
            header = hd.like(header, run.affine)
            own_shape = (*run.shape, run.n_volumes)
            for reason, fix in misfits(
                header.shape[:3],
                header.affine,
                run.tr,
                own_shape,
                run.affine,
                run.tr,
                run.factor,
                finest=True,
                name=run.bold.name,
            ):
                findings.refuse(path, reason, fix)
    series = companion("reference", bolds[0], root, run, findings, timed=timed) if bolds else None
    activations = {entities_of(path)["contrast"]: path.absolute() for path in maps}
    return Truth(root=root, series=series, activations=activations)


def truth_in_dataset(
    root: Path,
    run: BoldRun,
    findings: Findings,
    *,
    timed: bool = True,
    seeds: Collection[str] = (),
    strict: bool = False,
) -> Truth | None:
    """Find the reference of a run in the data set itself (`_PLACES`), or report a misfit.

    `findings`: takes notes on references that do not fit. `seeds`: names of what is mapped in a
    run without events; known activation of anything else says nothing of it. `strict`: whether to
    refuse a reference of another factor in plane, as --sr-factor would leave it out. Returns the
    reference from the first place that has a sound one, or None.
    """
    for place in (root / name for name in _PLACES):
        series, maps = _files(place, run)
        if run.events is None:
            maps = [path for path in maps if entities_of(path)["contrast"] in seeds]
        if not series and not maps:
            continue
        misfits = Findings()
        truth = find_truth(place, run, misfits, timed=timed)
        findings.add(misfits.notices)
        if truth is not None:
            findings.tell(place, _USED, code="reference")
            return truth
        if strict and any(_of_other_factor(path, run) for path in (*series, *maps)):
            by = "×".join(f"{number:g}" for number in run.factor)
            reason = (
                f"--sr-factor is {by}, but this high-resolution reference for {run.stem} has a"
                " different super-resolution factor"
            )
            fix = (
                "Omit --sr-factor, ignore the reference with --truth none, or add --force to"
                " continue without the reference."
            )
            findings.refuse([*series, *maps][0], reason, fix)
            continue
        for problem in misfits.problems:
            findings.tell(
                problem.what,
                f"this high-resolution reference cannot be used for {run.stem}: {problem.why}."
                f" {problem.remedy}",
            )
    return None


def _of_other_factor(path: Path, run: BoldRun) -> bool:
    """Return whether an image has another matrix in plane than the run's high-resolution grid."""
    header = hd.read_header(path, Findings())
    if header is None or len(header.shape) < 3:
        return False
    shape = hd.like(header, run.affine).shape
    wanted = np.floor(np.multiply(run.shape, run.factor) + 0.5)
    return any(shape[axis] != wanted[axis] for axis in (0, 1))


def _files(root: Path, run: BoldRun) -> tuple[list[Path], list[Path]]:
    """Series and maps of activation of a run in a folder of references."""
    folder = root / f"sub-{run.entities['subject']}"
    named = run.entities
    return series_named(folder, named, _KEYS), series_named(folder, named, _KEYS, _MAPS)
