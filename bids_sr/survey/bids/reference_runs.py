"""High-resolution reference of a run (``--truth``): a measured series or known activation."""

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.config.seeds import choose_seeds
from bids_sr.glm.connectivity_seeds import seed_names
from bids_sr.io.grids import highres_size
from bids_sr.io.notices import Notice
from bids_sr.survey.bids import headers, label_lists, slice_axis
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.inheritance import read_metadata
from bids_sr.survey.bids.inputs import BoldRun, HighresReference
from bids_sr.survey.bids.related_runs import (
    SERIES,
    choose_reference_times,
    find_series_of_run,
    find_space_problems,
    read_reference,
    select_in_run_space,
)
from bids_sr.survey.notices import (
    Choice,
    InputError,
    attribute,
    input_error,
    is_problem,
    judge,
    note,
    problem,
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


def require_reference_root(root: Path) -> None:
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


def find_reference(
    run: BoldRun, settings: Settings, *, with_anat: bool
) -> Choice[HighresReference | None]:
    """Find the high-resolution reference of a run: from ``--truth``, or else in the data set.

    `with_anat` states whether the participant has a T1w image. Raises `InputError` if the
    reference of ``--truth`` is missing or does not fit.
    """
    evaluation, activation = settings.evaluation, settings.activation
    needs_timing = "slicetiming" not in settings.preprocessing.ignore
    if evaluation.truth_dir is not None:
        return read_reference_files(evaluation.truth_dir, run, needs_timing=needs_timing)
    if evaluation.truth == "none" or evaluation.retrospective is not None:
        return Choice(value=None)
    seeds = choose_seeds(activation.seeds, with_anat=with_anat, atlas=activation.atlas)
    return _find_in_dataset(
        settings.paths.bids_dir.absolute(),
        run,
        needs_timing=needs_timing,
        seeds=seed_names(seeds),
        strict=bool(settings.superres.factor) and not settings.superres.force,
    )


def _find_in_dataset(
    root: Path, run: BoldRun, *, needs_timing: bool, seeds: Collection[str], strict: bool
) -> Choice[HighresReference | None]:
    """Find the reference of a run in `_REFERENCE_FOLDERS` of the data set; notes state mismatches.

    `seeds` are the seeds mapped in runs without events; maps of known activation are only used for
    these seeds. `strict` states whether a reference with another in-plane factor is a problem
    (with ``--sr-factor``) instead of a note. The reference is from the first folder with a usable
    reference.
    """
    notices: list[Notice] = []
    for reference_dir in (root / name for name in _REFERENCE_FOLDERS):
        series, maps = _list_reference_files(reference_dir, run)
        if run.events is None:
            maps = [path for path in maps if parse_entities(path)["contrast"] in seeds]
        if not series and not maps:
            continue
        try:
            reference = read_reference_files(reference_dir, run, needs_timing=needs_timing)
        except InputError as error:
            if strict and any(_has_other_factor(path, run) for path in (*series, *maps)):
                factor_text = "×".join(f"{axis_factor:g}" for axis_factor in run.factor)
                text = (
                    f"--sr-factor is {factor_text}, but this high-resolution reference for"
                    f" {run.stem} has a different super-resolution factor"
                )
                fix = (
                    "Omit --sr-factor, ignore the reference with --truth none, or add"
                    " --set superres.force=true to continue without the reference."
                )
                notices.append(problem([*series, *maps][0], text, fix))
            else:
                notices += (describe_unusable(fault, run) for fault in error.problems)
        else:
            found = note(reference_dir, _FOUND_IN_DATASET, code="reference")
            return Choice(value=reference.value, notices=(*notices, *reference.notices, found))
    return Choice(value=None, notices=tuple(notices))


def describe_unusable(fault: Notice, run: BoldRun) -> Notice:
    """Return why a reference that was found in the data set is not used for a run."""
    return note(
        fault.what,
        f"this high-resolution reference cannot be used for {run.stem}: {fault.why}."
        f" {fault.remedy}",
    )


def read_reference_files(
    root: Path, run: BoldRun, *, needs_timing: bool
) -> Choice[HighresReference | None]:
    """Read the reference of a run in a directory, with its notes.

    `needs_timing` states whether slice times are required. Raises `InputError` if the reference is
    missing, ambiguous, or does not fit.
    """
    path, maps = _find_files(root, run)
    notices = [notice for image in maps for notice in judge(_MAP_RULES, image, root, run)]
    series = None
    if path is not None:
        try:
            series = read_reference(path, root, run)
        except InputError as error:
            notices += error.problems
        else:
            notices += headers.note_header(series.header)
            if needs_timing:
                times = choose_reference_times(series, run)
                notices += times.notices
                series = replace(series, slice_timing=times.value)
    notices = [*attribute(notices, *run.owner)]
    if problems := list(filter(is_problem, notices)):
        raise InputError(problems)
    contrasts = {parse_entities(image)["contrast"]: image.absolute() for image in maps}
    signals = {name: _read_mean_signal(image, root) for name, image in contrasts.items()}
    reference = HighresReference(
        root=root,
        series=series,
        activations=contrasts,
        mean_signals={name: signal for name, signal in signals.items() if signal is not None},
    )
    return Choice(value=reference, notices=tuple(notices))


def _find_files(root: Path, run: BoldRun) -> tuple[Path | None, list[Path]]:
    """Return the series, if any, and the activation maps of a run in a reference directory.

    Raises `InputError` if there are none, or several series.
    """
    folder = root / f"sub-{run.entities['subject']}"
    if not folder.is_dir():
        participants = label_lists.list_some(
            sorted(path.name for path in root.glob("sub-*") if path.is_dir())
        )
        raise input_error(
            folder,
            f"no high-resolution reference for {folder.name} was found in {root}",
            "Specify a directory with a reference for this participant, or select participants"
            f" with a reference (--participant-label {participants}).",
        )
    series, maps = _list_reference_files(root, run)
    if not series and not maps:
        references = [*folder.rglob(SERIES), *folder.rglob(_EFFECT_MAPS)]
        reference_names = label_lists.list_some(sorted({path.name for path in references}))
        raise input_error(
            folder,
            f"no high-resolution reference was found for {run.stem}, only references for other"
            f" runs ({reference_names})",
            f"Specify the reference for this run with --truth. {_NAMING}.",
        )
    if len(series) > 1:
        names = ", ".join(path.name for path in series)
        reason = f"several series match the reference of {run.stem}: {names}"
        raise input_error(folder, reason, "Keep only one of these series in the directory.")
    return next(iter(series), None), maps


def _list_reference_files(root: Path, run: BoldRun) -> tuple[list[Path], list[Path]]:
    """Return the series and activation maps of a run in a reference directory."""
    folder = root / f"sub-{run.entities['subject']}"
    series = select_in_run_space(find_series_of_run(folder, run.entities, _RUN_KEYS))
    maps = find_series_of_run(folder, run.entities, _RUN_KEYS, _EFFECT_MAPS)
    return series, maps


def _judge_grid(path: Path, _root: Path, run: BoldRun) -> Iterator[Notice]:
    """Reject a map that is not a 3D image on the high-resolution grid of a run."""
    header = headers.read_header(path)
    yield from headers.note_header(header)
    if len(headers.squeezed_shape(header)) != 3:
        yield problem(path, "the map is not a 3D image", "Specify one 3D map per condition.")
        return
    header = slice_axis.reorder_like(header, run.affine)
    for reason, fix in find_space_problems(header, run.tr, run):
        yield problem(path, reason, fix)


def _require_mean_signal(path: Path, root: Path, _run: BoldRun) -> Iterator[Notice]:
    """Reject a map in percent whose sidecar does not contain the signal that equals 100 %."""
    if read_metadata(path, root).get("Units") in _PERCENT_UNITS and not _read_mean_signal(
        path, root
    ):
        yield problem(
            path,
            "the map is in percent, but its sidecar does not contain the signal that equals 100 %",
            "Add MeanSignal to the sidecar, or specify a map in the signal units of the run.",
        )


_MAP_RULES = (_judge_grid, _require_mean_signal)


def _read_mean_signal(path: Path, root: Path) -> float | None:
    """Return the signal that equals 100 % in a map; None if unknown or in signal units."""
    sidecar = read_metadata(path, root)
    signal = sidecar.get("MeanSignal")
    if sidecar.get("Units") not in _PERCENT_UNITS or not isinstance(signal, int | float):
        return None
    return float(signal) if 0 < signal < math.inf else None


def _has_other_factor(path: Path, run: BoldRun) -> bool:
    """Return whether an image has another in-plane matrix than the run's high-resolution grid."""
    header = headers.find_header(path)
    if header is None or len(header.shape) < 3:
        return False
    shape = slice_axis.reorder_like(header, run.affine).shape
    highres_shape = tuple(map(highres_size, run.shape, run.factor))
    return shape[:2] != highres_shape[:2]
