"""High-resolution reference of a run (``--truth``): a measured series or known activation."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from bids_sr.io.grids import highres_size
from bids_sr.io.notices import Notice
from bids_sr.survey.bids import bridges, headers, label_lists, slice_axis
from bids_sr.survey.bids.bridges import read_metadata
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.findings import (
    Findings,
    InputError,
    about,
    add_all,
    add_notices,
    add_problem,
    input_error,
    note,
)
from bids_sr.survey.bids.inputs import BoldRun, HighresReference
from bids_sr.survey.bids.related_runs import (
    SERIES,
    choose_reference_times,
    find_series_of_run,
    find_space_problems,
    read_reference,
    select_in_run_space,
)

_RUN_KEYS = ("subject", "session", "task", "run")
# folders of references in a data set: a measured reference, and the known one of simulated data
_REFERENCE_FOLDERS = ("derivatives/highres-reference", "derivatives/ground-truth")
_FOUND_IN_DATASET = (
    "this high-resolution reference was found in the dataset and is used to measure accuracy. To"
    " ignore it, specify --truth none."
)
# file pattern of maps of known activation
_EFFECT_MAPS = "func/*_res-hr_contrast-*_stat-effect_desc-truth_statmap.nii*"
_PERCENT_UNITS = ("percent", "%")
_NAMING = (
    "A reference is a high-resolution series named sub-…/func/sub-…_task-…_bold.nii.gz, or a set"
    " of effect maps named"
    " sub-…/func/sub-…_task-…_res-hr_contrast-…_stat-effect_desc-truth_statmap.nii.gz"
)


def check_reference_root(root: Path) -> None:
    """Raise `InputError` if the reference directory is missing or has no participants."""
    if not root.is_dir():
        raise input_error(f"--truth {root}", "directory not found", "Check the path.")
    if not any(path.is_dir() for path in root.glob("sub-*")):
        ground_truth_dir = root / "derivatives" / "ground-truth"
        fix = (
            f"Use {ground_truth_dir}."
            if ground_truth_dir.is_dir()
            else f"Specify the directory that contains the sub-… directories. {_NAMING}."
        )
        raise input_error(
            f"--truth {root}", "no sub-… directory was found in the reference directory", fix
        )


def find_reference_in_dataset(
    root: Path,
    run: BoldRun,
    *,
    needs_timing: bool = True,
    seeds: Collection[str] = (),
    strict: bool = False,
) -> HighresReference | None:
    """Find the reference of a run in `_REFERENCE_FOLDERS` of the data set, and report mismatches.

    Notes state why references do not fit. `seeds` are the seeds mapped in
    runs without events; maps of known activation are only used for these seeds. `strict` states
    whether a reference with another in-plane factor is a problem (with ``--sr-factor``) instead of
    a note. The reference is from the first folder with a usable reference.
    """
    for reference_dir in (root / name for name in _REFERENCE_FOLDERS):
        series, maps = _list_reference_files(reference_dir, run)
        if run.events is None:
            maps = [path for path in maps if parse_entities(path)["contrast"] in seeds]
        if not series and not maps:
            continue
        with Findings() as findings:
            reference = find_reference_files(reference_dir, run, needs_timing=needs_timing)
        add_notices(findings.notices)
        if reference is not None:
            note(reference_dir, _FOUND_IN_DATASET, code="reference")
            return reference
        if strict and any(_has_other_factor(path, run) for path in (*series, *maps)):
            factor_text = "×".join(f"{axis_factor:g}" for axis_factor in run.factor)
            add_problem(
                [*series, *maps][0],
                f"--sr-factor is {factor_text}, but this high-resolution reference for {run.stem}"
                " has a different super-resolution factor",
                "Omit --sr-factor, ignore the reference with --truth none, or add"
                " --set superres.force=true to"
                " continue without the reference.",
            )
            continue
        for problem in findings.problems:
            note_unusable_reference(problem, run)
    return None


def note_unusable_reference(problem: Notice, run: BoldRun) -> None:
    """Report why a reference that was found in the data set is not used for a run."""
    note(
        problem.what,
        f"this high-resolution reference cannot be used for {run.stem}: {problem.why}."
        f" {problem.remedy}",
    )


def find_reference_files(
    root: Path, run: BoldRun, *, needs_timing: bool = True
) -> HighresReference | None:
    """Find the reference of a run in a directory, and compare it with the run.

    Returns None with a problem if it is missing or does not fit.
    """
    with Findings() as findings:
        reference = _open_reference(root, run, needs_timing=needs_timing)
    with about(*run.owner):
        add_all(findings)
    return None if findings.problems else reference


def _open_reference(root: Path, run: BoldRun, *, needs_timing: bool) -> HighresReference | None:
    """Return the reference of a run, and report its problems.

    None is returned if the reference is missing or ambiguous.
    """
    folder = root / f"sub-{run.entities['subject']}"
    if not folder.is_dir():
        participants = label_lists.list_some(
            sorted(path.name for path in root.glob("sub-*") if path.is_dir())
        )
        add_problem(
            folder,
            f"no high-resolution reference for {folder.name} was found in {root}",
            "Specify a directory with a reference for this participant, or select participants"
            f" with a reference (--participant-label {participants}).",
        )
        return None
    bolds, maps = _list_reference_files(root, run)
    if not bolds and not maps:
        references = [*folder.rglob(SERIES), *folder.rglob(_EFFECT_MAPS)]
        reference_names = label_lists.list_some(sorted({path.name for path in references}))
        add_problem(
            folder,
            f"no high-resolution reference was found for {run.stem}, only references for other"
            f" runs ({reference_names})",
            f"Specify the reference for this run with --truth. {_NAMING}.",
        )
        return None
    if len(bolds) > 1:
        names = ", ".join(path.name for path in bolds)
        reason = f"several series match the reference of {run.stem}: {names}"
        add_problem(folder, reason, "Keep only one of these series in the directory.")
        return None
    mean_signals: dict[str, float] = {}
    for path in maps:
        _check_map(path, run)
        mean_signal = _read_mean_signal(path, root)
        if mean_signal is not None:
            mean_signals[parse_entities(path)["contrast"]] = mean_signal
    series = None
    if bolds:
        try:
            series = read_reference(bolds[0], root, run)
        except InputError as error:
            add_notices(error.problems)
        else:
            add_notices(headers.note_header(series.header))
            if needs_timing:
                times = choose_reference_times(series, run)
                add_notices(times.notices)
                series = replace(series, slice_timing=times.value)
    activations = {parse_entities(path)["contrast"]: path.absolute() for path in maps}
    return HighresReference(
        root=root, series=series, activations=activations, mean_signals=mean_signals
    )


def _list_reference_files(root: Path, run: BoldRun) -> tuple[list[Path], list[Path]]:
    """Return the series and activation maps of a run in a reference directory."""
    folder = root / f"sub-{run.entities['subject']}"
    series = select_in_run_space(find_series_of_run(folder, run.entities, _RUN_KEYS))
    maps = find_series_of_run(folder, run.entities, _RUN_KEYS, _EFFECT_MAPS)
    return series, maps


def _check_map(path: Path, run: BoldRun) -> None:
    """Report a map that is not a 3D image on the high-resolution grid of a run."""
    header = bridges.read_header(path)
    if header is None:
        return
    if len(headers.squeezed_shape(header)) != 3:
        add_problem(path, "the map is not a 3D image", "Specify one 3D map per condition.")
        return
    header = slice_axis.reorder_like(header, run.affine)
    for reason, fix in find_space_problems(header, run.tr, run):
        add_problem(path, reason, fix)


def _read_mean_signal(path: Path, root: Path) -> float | None:
    """Return the signal that equals 100 % in a map; None if the map is in signal units.

    A map in percent without this signal in its sidecar is reported.
    """
    sidecar = read_metadata(path, root)
    if sidecar is None or sidecar.get("Units") not in _PERCENT_UNITS:
        return None
    mean_signal = sidecar.get("MeanSignal")
    if isinstance(mean_signal, int | float) and mean_signal > 0:
        return float(mean_signal)
    add_problem(
        path,
        "the map is in percent, but its sidecar does not contain the signal that equals 100 %",
        "Add MeanSignal to the sidecar, or specify a map in the signal units of the run.",
    )
    return None


def _has_other_factor(path: Path, run: BoldRun) -> bool:
    """Return whether an image has another in-plane matrix than the run's high-resolution grid."""
    header = headers.find_header(path)
    if header is None or len(header.shape) < 3:
        return False
    shape = slice_axis.reorder_like(header, run.affine).shape
    highres_shape = tuple(map(highres_size, run.shape, run.factor))
    return shape[:2] != highres_shape[:2]
