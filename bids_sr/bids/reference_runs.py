"""High-resolution reference of a run (``--truth``): a measured series or known activation."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from bids_sr.bids import headers as hd
from bids_sr.bids import query, slice_axis
from bids_sr.bids.companions import SERIES, companion, series_named
from bids_sr.bids.entities import entities_of
from bids_sr.bids.findings import Findings, refusal
from bids_sr.bids.inputs import BoldRun, Truth
from bids_sr.io.fields_of_view import misfits

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
        there = query.some(sorted(path.name for path in root.glob("sub-*") if path.is_dir()))
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
        others = query.some(
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
            header = slice_axis.like(header, run.affine)
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
    shape = slice_axis.like(header, run.affine).shape
    wanted = np.floor(np.multiply(run.shape, run.factor) + 0.5)
    return any(shape[axis] != wanted[axis] for axis in (0, 1))


def _files(root: Path, run: BoldRun) -> tuple[list[Path], list[Path]]:
    """Series and maps of activation of a run in a folder of references."""
    folder = root / f"sub-{run.entities['subject']}"
    named = run.entities
    return series_named(folder, named, _KEYS), series_named(folder, named, _KEYS, _MAPS)
