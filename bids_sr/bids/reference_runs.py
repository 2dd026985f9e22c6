"""High-resolution reference of a run (``--truth``): a measured series or known activation."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from bids_sr.bids import headers as hd, label_lists, slice_axis
from bids_sr.bids.entities import parse_entities
from bids_sr.bids.findings import Findings, input_error
from bids_sr.bids.inputs import BoldRun, HighresReference
from bids_sr.bids.related_runs import SERIES, companion, series_named
from bids_sr.io.fields_of_view import find_grid_problems

_KEYS = ("subject", "session", "task", "run")
_PLACES = ("derivatives/highres-reference", "derivatives/ground-truth")
"""Folders of references in a data set: a measured reference, and the known one of simulated data.
"""
_USED = (
    "this high-resolution reference was found in the dataset and is used to measure accuracy. To"
    " ignore it, specify --truth none."
)
_MAPS = "func/*_res-hr_contrast-*_stat-effect_desc-truth_statmap.nii*"
"""File pattern of maps of known activation."""
_FORMS = (
    "A reference is a high-resolution series named sub-…/func/sub-…_task-…_bold.nii.gz, or a set"
    " of effect maps named"
    " sub-…/func/sub-…_task-…_res-hr_contrast-…_stat-effect_desc-truth_statmap.nii.gz"
)


def check_root(root: Path) -> None:
    """Raise `InputError` if the reference directory is missing or has no participants."""
    if not root.is_dir():
        raise input_error(f"--truth {root}", "directory not found", "Check the path.")
    if not any(path.is_dir() for path in root.glob("sub-*")):
        inner = root / "derivatives" / "ground-truth"
        fix = (
            f"Use {inner}."
            if inner.is_dir()
            else f"Specify the directory that contains the sub-… directories. {_FORMS}."
        )
        raise input_error(
            f"--truth {root}", "no sub-… directory was found in the reference directory", fix
        )


def find_reference_files(
    root: Path, run: BoldRun, findings: Findings, *, needs_timing: bool = True
) -> HighresReference | None:
    """Find the reference of a run in a directory, and compare it with the run.

    Returns None with a problem if it is missing or does not fit.
    """
    misfits = Findings()
    truth = _check_reference(root, run, misfits, needs_timing=needs_timing)
    with findings.about(run.entities["subject"], run.stem):
        findings.add_all(misfits)
    return None if misfits.problems else truth


def _check_reference(
    root: Path, run: BoldRun, findings: Findings, *, needs_timing: bool
) -> HighresReference | None:
    """Return the reference of a run, and add its problems to `findings`.

    None is returned if the reference is missing or ambiguous.
    """
    label = run.entities["subject"]
    folder = root / f"sub-{label}"
    if not folder.is_dir():
        participants = label_lists.list_some(
            sorted(path.name for path in root.glob("sub-*") if path.is_dir())
        )
        fix = (
            "Specify a directory with a reference for this participant, or select participants"
            f" with a reference (--participant-label {participants})."
        )
        findings.add_problem(
            folder, f"no high-resolution reference for sub-{label} was found in {root}", fix
        )
        return None
    bolds, maps = _files(root, run)
    if not bolds and not maps:
        names_found = label_lists.list_some(
            sorted({path.name for pattern in (SERIES, _MAPS) for path in folder.rglob(pattern)})
        )
        reason = (
            f"no high-resolution reference was found for {run.stem}, only references for other"
            f" runs ({names_found})"
        )
        findings.add_problem(
            folder, reason, f"Specify the reference for this run with --truth. {_FORMS}."
        )
        return None
    if len(bolds) > 1:
        names = ", ".join(path.name for path in bolds)
        reason = f"several series match the reference of {run.stem}: {names}"
        findings.add_problem(folder, reason, "Keep only one of these series in the directory.")
        return None
    for path in maps:
        header = hd.read_header(path, findings)
        if header is not None and len(hd.squeeze_3d(header)) != 3:
            findings.add_problem(
                path, "the map is not a 3D image", "Specify one 3D map per condition."
            )
        elif header is not None:
            header = slice_axis.like(header, run.affine)
            run_shape = (*run.shape, run.n_volumes)
            for reason, fix in find_grid_problems(
                header.shape[:3],
                header.affine,
                run.tr,
                run_shape,
                run.affine,
                run.tr,
                run.factor,
                requires_highres=True,
                run_name=run.bold.name,
            ):
                findings.add_problem(path, reason, fix)
    series = (
        companion("reference", bolds[0], root, run, findings, needs_timing=needs_timing)
        if bolds
        else None
    )
    activations = {parse_entities(path)["contrast"]: path.absolute() for path in maps}
    return HighresReference(root=root, series=series, activations=activations)


def reference_in_dataset(
    root: Path,
    run: BoldRun,
    findings: Findings,
    *,
    needs_timing: bool = True,
    seeds: Collection[str] = (),
    strict: bool = False,
) -> HighresReference | None:
    """Find the reference of a run in the data set itself (`_PLACES`), and report mismatches.

    Parameters
    ----------
    findings : Findings
        Collects notes about references that do not fit.
    seeds : collection of str
        Names of the seeds mapped in runs without events; maps of known activation are only used
        for these seeds.
    strict : bool
        Whether a reference with another in-plane factor is a problem (with ``--sr-factor``)
        instead of a note.

    Returns
    -------
    HighresReference or None
        Reference from the first folder with a usable reference.
    """
    for reference_path in (root / name for name in _PLACES):
        series, maps = _files(reference_path, run)
        if run.events is None:
            maps = [path for path in maps if parse_entities(path)["contrast"] in seeds]
        if not series and not maps:
            continue
        misfits = Findings()
        truth = find_reference_files(reference_path, run, misfits, needs_timing=needs_timing)
        findings.add(misfits.notices)
        if truth is not None:
            findings.note(reference_path, _USED, code="reference")
            return truth
        if strict and any(_has_other_factor(path, run) for path in (*series, *maps)):
            factor_label = "×".join(f"{number:g}" for number in run.factor)
            reason = (
                f"--sr-factor is {factor_label}, but this high-resolution reference for {run.stem}"
                " has a different super-resolution factor"
            )
            fix = (
                "Omit --sr-factor, ignore the reference with --truth none, or add --force to"
                " continue without the reference."
            )
            findings.add_problem([*series, *maps][0], reason, fix)
            continue
        for problem in misfits.problems:
            findings.note(
                problem.what,
                f"this high-resolution reference cannot be used for {run.stem}: {problem.why}."
                f" {problem.remedy}",
            )
    return None


def _has_other_factor(path: Path, run: BoldRun) -> bool:
    """Return whether an image has another in-plane matrix than the run's high-resolution grid."""
    header = hd.read_header(path, Findings())
    if header is None or len(header.shape) < 3:
        return False
    shape = slice_axis.like(header, run.affine).shape
    expected = np.floor(np.multiply(run.shape, run.factor) + 0.5)
    return any(shape[axis] != expected[axis] for axis in (0, 1))


def _files(root: Path, run: BoldRun) -> tuple[list[Path], list[Path]]:
    """Return the series and activation maps of a run in a reference directory."""
    folder = root / f"sub-{run.entities['subject']}"
    entities = run.entities
    return series_named(folder, entities, _KEYS), series_named(folder, entities, _KEYS, _MAPS)
