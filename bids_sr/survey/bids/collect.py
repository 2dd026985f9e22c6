"""Survey of a data set: participants, their runs with all associated files, and problems.

Associated files of a run are its pair, T1w image, events and metadata.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import mul
from pathlib import Path

from bids_sr.config import Selection, Settings
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import LEAST_SAMPLES, Factor
from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice
from bids_sr.io.region_names import is_file
from bids_sr.survey.bids import (
    bridges,
    dataset_checks,
    filter_file,
    headers,
    label_lists,
    pairs,
    participant_selection,
    run_files,
    slice_axis,
    timing,
)
from bids_sr.survey.bids.acquired_matrix import with_acquired_matrix
from bids_sr.survey.bids.calibration_runs import (
    assign_calibration_runs,
    judge_calibration_option,
    read_possible_runs,
)
from bids_sr.survey.bids.derivative_folders import open_derivatives, refuse_output_as_data
from bids_sr.survey.bids.echoes import judge_echoes, read_echoes, sort_by_echo_time
from bids_sr.survey.bids.entities import (
    file_stem,
    parse_entities,
    parse_label,
    parse_owner,
    stem_of_echoes,
)
from bids_sr.survey.bids.findings import (
    InputError,
    about,
    add_notices,
    add_problem,
    count_problems,
    note,
    refuse_option,
    warn,
)
from bids_sr.survey.bids.fmriprep import (
    RUN_FILE_RULES,
    find_anatomy,
    find_run,
    judge_anatomy,
    judge_surfaces,
    note_missing_run,
)
from bids_sr.survey.bids.ignored_files import note_unusable_patterns
from bids_sr.survey.bids.inputs import (
    DEFAULT_FACTORS,
    BoldRun,
    Subject,
    Survey,
)
from bids_sr.survey.bids.layout import Index, open_index
from bids_sr.survey.bids.method_options import judge_options
from bids_sr.survey.bids.precomputed import PrecomputedAnat
from bids_sr.survey.bids.pretrained_models import factor_without_pair
from bids_sr.survey.bids.reference_runs import find_reference, require_reference_root
from bids_sr.survey.bids.related_runs import infer_calibration_factor, read_run
from bids_sr.survey.bids.retrospective_plan import RETROSPECTIVE_RULES
from bids_sr.survey.bids.run_names import (
    find_unusable_entity,
    judge_names,
    label_invalid_name,
    select_distinct,
)
from bids_sr.survey.bids.similar_names import describe_similar
from bids_sr.survey.bids.task_types import read_task_types
from bids_sr.survey.bids.type_levels import (
    read_type_order,
    read_unshared_levels,
    refuse_unreadable_sidecars,
    warn_of_unreadable_levels,
)
from bids_sr.survey.notices import judge, problem

_MAX_SLAB_EXTENT = 0.6  # thinnest extent of a slab relative to the largest among the images
_MAX_COARSENESS = 1.5  # voxel size, relative to the smallest of the T1w images of the whole head
# labels of T1w images of another contrast, of scouts and without a face
_UNUSUAL = re.compile(r"scout|locali[sz]er|survey|gd|gad|contrast|inv\d|deface", re.IGNORECASE)


def survey(settings: Settings) -> Survey:
    """Survey the data set, and return problems instead of raising them.

    Only headers, tables and sidecars are read.
    """
    with Survey() as result:
        try:
            _fill_survey(settings, result)
        except InputError as error:
            add_notices(error.problems)
    return result


def _fill_survey(settings: Settings, result: Survey) -> None:
    """Fill a survey with the participants, runs and problems of the data set."""
    bids_dir = settings.paths.bids_dir.absolute()
    dataset_checks.check_dataset(bids_dir)
    add_notices(judge_options(settings))
    refuse_output_as_data(bids_dir)
    if settings.evaluation.truth_dir is not None:
        require_reference_root(settings.evaluation.truth_dir)
    try:
        result.sources = open_derivatives(settings.preprocessing.derivatives, bids_dir)
    except InputError as error:
        add_notices(error.problems)
    labels, index = open_dataset(settings)
    for source in result.sources:
        denied = participant_selection.find_denied_folders(source.root, labels)
        add_notices(denied.values())
        labels = [label for label in labels if label not in denied]
    add_notices(judge_calibration_option(settings, labels))
    bolds_by_label = {
        label: _list_valid_bolds(index, label, settings.selection) for label in labels
    }
    subjects = []
    for label, selected_bolds in _select_runs(bolds_by_label, settings.selection).items():
        with about(label):
            add_notices(judge_names(selected_bolds))
            bolds = select_distinct(selected_bolds)
            if not bolds:
                continue
            subject = _survey_participant(
                index, label, bolds, bolds_by_label[label], settings, result
            )
        if subject.runs:
            subjects.append(subject)
    tasks = {parse_entities(bold).get("task", "") for bold, _ in result.files_by_run.values()}
    for task in sorted(tasks):
        result.type_order[task] = read_type_order(index, task)
        add_notices(refuse_unreadable_sidecars(index, task))
    modeled_tasks = {
        parse_entities(bold).get("task", "")
        for bold, table in result.files_by_run.values()
        if table is not None
    }
    result.task_types = read_task_types(
        bids_dir, {task: result.type_order[task] for task in sorted(modeled_tasks)}
    )
    for name, (bold, table) in result.files_by_run.items():
        if table is not None:
            if levels := read_unshared_levels(index, table):
                result.unshared_levels[table] = levels
            with about(parse_entities(bold)["subject"], name):
                add_notices(warn_of_unreadable_levels(index, table))
    result.subjects = tuple(subjects)
    result.sidecars = index.sidecars


def open_dataset(settings: Settings) -> tuple[list[str], Index]:
    """Return the labels of the selected participants, and the index of their files.

    Participants whose folders may not be read are reported and left out. Raises `InputError` if
    the data set cannot be opened.
    """
    bids_dir = settings.paths.bids_dir.absolute()
    selection = settings.selection
    existing_labels = participant_selection.list_participants(bids_dir)
    add_notices(participant_selection.note_labels(bids_dir))
    add_notices(
        participant_selection.refuse_missing_participants(bids_dir, existing_labels, selection)
    )
    labels = participant_selection.select_participants(existing_labels, selection)
    denied = participant_selection.find_denied_folders(bids_dir, labels)
    add_notices(denied.values())
    labels = [label for label in labels if label not in denied]
    filters = filter_file.read_filters(selection.bids_filter_file)
    add_notices(filter_file.warn_of_unused_kinds(selection.bids_filter_file))
    add_notices(note_unusable_patterns(bids_dir))
    # a dry run does not write
    database = None if settings.run.dry_run else selection.bids_database_dir
    return labels, open_index(bids_dir, labels, existing_labels, database, filters)


def _list_valid_bolds(index: Index, label: str, selection: Selection) -> list[Path]:
    """Return the BOLD series of a participant with valid names, and report the selected others.

    Invalid names that are listed in ``.bidsignore`` are not reported.
    """
    valid_paths = []
    for path in index.find("bold", label):
        problems = [*dataset_checks.judge_image_name(path)]
        if not problems:
            valid_paths.append(path)
        elif _is_selected(path, selection) and not index.is_ignored(path):
            with about(label, label_invalid_name(path, stem_of_echoes(path))):
                add_notices(problems)
    for image in index.find_misspelled_images("bold", label):
        if not _is_selected(image.path, selection) or index.is_ignored(image.path):
            continue
        with about(label, label_invalid_name(image.path, image.run)):
            if image.is_copy:
                note(image.path, f"the image is not read because {image.reason}.")
            else:
                add_problem(image.path, image.reason, image.remedy)
    return [
        path for path in valid_paths if not (index.is_ignored(path) and find_unusable_entity(path))
    ]


def _select_runs(
    bolds_by_label: Mapping[str, Sequence[Path]], selection: Selection
) -> dict[str, list[Path]]:
    """Return the selected runs of each participant; a label without any run is a problem."""
    all_bolds = [path for paths in bolds_by_label.values() for path in paths]
    _refuse_missing_labels(all_bolds, selection)
    selected_bolds = {
        label: [path for path in paths if _is_selected(path, selection)]
        for label, paths in bolds_by_label.items()
    }
    _report_participants_without_runs(selected_bolds, selection)
    if bolds_by_label and not any(selected_bolds.values()) and not count_problems():
        reason = "no BOLD runs were found in the dataset"
        fix = "Add BOLD runs (`func/sub-…_task-…_bold.nii.gz`) to the dataset."
        if selection.bids_filter_file is not None:
            reason = "no BOLD runs in the dataset match the filters in --bids-filter-file"
            fix = (
                "Check the filter file, or add BOLD runs (`func/sub-…_task-…_bold.nii.gz`) to the"
                " dataset."
            )
        add_problem("sub-*/func", reason, fix)
    return selected_bolds


def _refuse_missing_labels(all_bolds: Sequence[Path], selection: Selection) -> None:
    """Reject requested sessions, tasks and runs that none of the series has."""
    options = {"session": "--session-label", "task": "--task-id", "run": "--run-id"}
    for entity, labels in _list_requested_labels(selection).items():
        existing_labels = {parse_label(parse_entities(path), entity) for path in all_bolds} - {""}
        for label in labels:
            if label in existing_labels:
                continue
            refuse_option(
                f"{options[entity]} {label}",
                f"no BOLD runs with {entity} {label!r} were found for the selected participants",
                f"Available: {label_lists.list_available(label, sorted(existing_labels))}",
            )


def _is_selected(path: Path, selection: Selection) -> bool:
    """Return whether the labels of a series are selected by session, task and run."""
    entities = parse_entities(path)
    return all(
        not labels or parse_label(entities, entity) in labels
        for entity, labels in _list_requested_labels(selection).items()
    )


def _report_participants_without_runs(
    selected_bolds: Mapping[str, Sequence[Path]], selection: Selection
) -> None:
    """Report participants without any selected run, as a problem if they were requested by name.

    Requested participants are not reported in addition to earlier problems.
    """
    has_problems = count_problems() > 0
    for label in (label for label, paths in selected_bolds.items() if not paths):
        if label in selection.participant_label and not has_problems:
            add_problem(
                f"sub-{label}",
                "no BOLD runs were found for the requested sessions, tasks and runs"
                if any(_list_requested_labels(selection).values())
                else "no BOLD runs were found for this participant",
                "Exclude the participant, or add the missing BOLD run"
                " (`func/sub-…_task-…_bold.nii.gz`) to the dataset.",
            )
        elif not selection.participant_label:
            with about(label):
                note(
                    f"sub-{label}",
                    "none of the requested BOLD runs were found; the participant is skipped.",
                )


def _list_requested_labels(selection: Selection) -> dict[str, tuple[str, ...]]:
    """Return the labels that the options select by entity; empty if all are selected."""
    return {
        "session": selection.session_label,
        "task": selection.task_id,
        "run": tuple(map(str, selection.run_id)),
    }


def _survey_participant(
    index: Index,
    label: str,
    bolds: Sequence[Path],
    all_bolds: Sequence[Path],
    settings: Settings,
    result: Survey,
) -> Subject:
    """Collect the images and runs of a participant, and check them.

    `all_bolds` lists all BOLD series of the participant, `bolds` the selected ones.
    """
    images = _collect_images(index, label, settings, result)
    echo = settings.preprocessing.echo_idx
    combined = run_files.find_combined(bolds)
    if echo is None:
        add_notices(run_files.note_combined(combined))
    bolds = [bold for bold in bolds if bold not in combined]
    roles = assign_calibration_runs(
        bolds,
        read_possible_runs(index, all_bolds, settings),
        partial(_find_factor, images.t2starw_headers, settings),
        settings,
    )
    add_notices(roles.notices)
    calibrations, skipped = roles.value
    remaining_bolds = [bold for bold in bolds if bold not in skipped]
    files_of_runs = []
    for series in run_files.group_by_run(remaining_bolds):
        with about(*parse_owner(series[0])):
            try:
                choice = run_files.choose_files(series, echo)
            except InputError as error:
                add_notices(error.problems)
                continue
            add_notices(choice.notices)
        files_of_runs.append(sort_by_echo_time(index, choice.value))
    runs = []
    for files in files_of_runs:
        calibration = calibrations.get(files[0])
        run = _survey_run(index, label, files, images, calibration, settings, result)
        if run is not None:
            runs.append(run)
    readable_bolds = [files[0] for files in files_of_runs if files[0] in result.headers]
    if readable_bolds and not images.t2starw:
        add_notices(pairs.refuse_without_pair(label, readable_bolds, settings))
    if any(run.precomputed is None or run.precomputed.field is None for run in runs):
        add_notices(dataset_checks.note_field_maps(settings.paths.bids_dir.absolute(), label))
    subject = Subject(
        label=label, t1w=tuple(images.t1w), runs=tuple(runs), precomputed=images.anat
    )
    if settings.evaluation.retrospective is not None:
        add_notices(judge(RETROSPECTIVE_RULES, subject, settings))
    return subject


@frozen
class _AnatomicalImages:
    """Anatomical images of a participant.

    `anat` are derivatives of another program. `t1w` are T1w images in order of preference.
    `t2starw` are magnitude T2*-weighted images of all sessions, and `t2starw_headers` the headers
    of the readable images among them.
    """

    anat: PrecomputedAnat | None
    t1w: list[Path]
    t2starw: list[Path]
    t2starw_headers: list[Header]


def _collect_images(
    index: Index, label: str, settings: Settings, result: Survey
) -> _AnatomicalImages:
    """Collect the anatomical derivatives, T1w and T2*-weighted images of a participant."""
    t1w_images = find_companions(index, "t1w", label)
    anat = None
    try:
        choice = find_anatomy(result.sources, label, t1w_images)
        add_notices(choice.notices)
        anat = choice.value
    except InputError as error:
        add_notices(error.problems)
    if anat is not None:
        add_notices(judge_anatomy(label, anat, settings.preprocessing.templates))
    t1w = _order_t1w(t1w_images if anat is None else [anat.preproc], label, settings)
    if t1w:
        add_notices(judge_surfaces(label, anat, settings.preprocessing.spaces))
    companions = find_companions(index, "t2starw", label)
    add_notices(run_files.note_parts(companions))
    t2starw = run_files.select_magnitudes(companions)
    return _AnatomicalImages(
        anat=anat,
        t1w=t1w,
        t2starw=t2starw,
        t2starw_headers=[
            with_acquired_matrix(header, settings.paths.bids_dir)
            for path in t2starw
            if (header := bridges.read_volume_header(path)) is not None
        ],
    )


def find_companions(index: Index, kind: str, label: str) -> list[Path]:
    """Return the images of a kind that accompany runs, and warn of images with invalid names.

    Runs are processed without an image whose name is not valid.
    """
    valid_paths, problems = [], list[Notice]()
    for path in index.find(kind, label):
        faults = [*dataset_checks.judge_image_name(path)]
        problems += faults
        valid_paths += [] if faults else [path]
    problems += [
        problem(image.path, image.reason, image.remedy)
        for image in index.find_misspelled_images(kind, label)
    ]
    for fault in problems:
        warn(fault.what, f"the image is not used: {fault.why}. {fault.remedy}")
    return valid_paths


def _order_t1w(paths: Sequence[Path], label: str, settings: Settings) -> list[Path]:
    """Return the T1w images of a participant in order of preference, and report if there are none.

    Images of the selected sessions come first, then images of the whole head with small voxels,
    then images whose label does not name another contrast, a scout or defacing. The header of the
    first image is checked.
    """
    add_notices(run_files.note_parts(paths))
    images = run_files.select_magnitudes(paths)
    sessions = settings.selection.session_label
    partial = _select_partial(images) if len(images) > 1 else set()

    def order(path: Path) -> tuple[bool, bool, bool]:
        entities = parse_entities(path)
        is_selected = not sessions or entities.get("session", "") in sessions
        labels = " ".join(entities.get(key, "") for key in ("acquisition", "reconstruction"))
        is_unusual = _UNUSUAL.search(labels) or {"ceagent", "inv"} & entities.keys()
        return not is_selected, path in partial, bool(is_unusual)

    images.sort(key=order)
    if images:
        bridges.read_volume_header(images[0])
    else:
        note(f"sub-{label}", _describe_missing_t1w(label, settings))
    if len(images) > 1:
        note(
            images[0],
            f"{len(images)} T1w images were found; this image is used, by session, coverage, voxel"
            " size, label and name. To use another image, select it as t1w in --bids-filter-file.",
        )
    return images


def _select_partial(images: Sequence[Path]) -> set[Path]:
    """Return the images that cover less of the head or have larger voxels than other images.

    Examples are ``acq-inplane`` and scouts.
    """
    extents, voxels = {}, {}
    for path in images:
        header = headers.find_header(path)
        if header is not None:
            extents[path] = min(map(mul, header.shape, header.zooms))
            voxels[path] = max(header.zooms)
    least_extent = _MAX_SLAB_EXTENT * max(extents.values(), default=0.0)
    whole = {path for path, extent in extents.items() if extent >= least_extent}
    largest_voxel = _MAX_COARSENESS * min(map(voxels.__getitem__, whole), default=0.0)
    return {path for path, size in voxels.items() if path not in whole or size > largest_voxel}


def _describe_missing_t1w(label: str, settings: Settings) -> str:
    """Return a note with the consequences for a participant without a T1w image."""
    folder = settings.paths.bids_dir / f"sub-{label}"
    others = [path.name for name in ("UNIT1", "T2w") for path in folder.rglob(f"*_{name}.nii*")]
    rois = [roi for roi in settings.activation.roi if roi != "brain"]
    has_file = any(map(is_file, rois))
    sentences = [
        "No T1w image matches the filters in --bids-filter-file."
        if settings.selection.bids_filter_file
        else "No T1w image was found."
    ]
    if others:
        sentences.append(f"{others[0]} is not used; only the suffix T1w is.")
    if has_file:
        sentences.append("ROI files can only be used if they are in the space of the BOLD series.")
    sentences += [
        f"The region {roi} cannot be located."
        for roi in rois
        if roi != "auto" and not is_file(roi)
    ]
    if rois:
        otherwise = "Otherwise, the" if has_file else "The"
        sentences.append(f"{otherwise} whole brain is used as the region of interest.")
    sentences.append(
        "Results are not normalized to template space, and the confounds csf, white_matter"
        " and their CompCor components are not computed."
    )
    return " ".join(sentences)


def _find_factor(
    t2starw_headers: Sequence[Header], settings: Settings, run: BoldRun
) -> Factor | None:
    """Return the factor of a run's pair, or else the factor of options and models, or None."""
    pair = None
    with contextlib.suppress(InputError):
        pair = pairs.find_pairs(run.header, t2starw_headers, settings).value.pair
    return factor_without_pair(settings.superres) if pair is None else pair.factor


def _survey_run(
    index: Index,
    label: str,
    files: Sequence[Path],
    images: _AnatomicalImages,
    calibration: BoldRun | None,
    settings: Settings,
    result: Survey,
) -> BoldRun | None:
    """Read a run and check it together with its pair, derivatives and reference.

    `files` are the series of the run, or all of its echoes by ascending echo time. Returns None if
    the run cannot be processed.
    """
    bold = files[0]
    name = stem_of_echoes(bold) if len(files) > 1 else file_stem(bold)
    with about(label, name):
        tables = () if "events" in settings.preprocessing.ignore else map(index.events, files)
        events = next(filter(None, tables), None)
        header, run = _open_run(index, files)
    result.files_by_run[name] = bold, events
    if header is None:
        return None
    pair = holdout = None
    try:
        choice = pairs.choose_pairs(header, images.t2starw_headers, settings)
        add_notices(choice.notices)
        pair, holdout = choice.value
    except InputError as error:
        add_notices(error.problems)
    if run is None:
        return None
    calibration_factor = (
        None if calibration is None else infer_calibration_factor(calibration, run)
    )
    factor = factor_without_pair(settings.superres) or calibration_factor or DEFAULT_FACTORS
    run = replace(
        run,
        events=events,
        events_sidecar={} if events is None else index.read_events_sidecar(events),
        pair=pair,
        holdout=holdout,
        calibration=calibration,
        factor=factor if pair is None else pair.factor,
    )
    with about(label, name):
        if "slicetiming" not in settings.preprocessing.ignore:
            slice_times = timing.choose_slice_times(run.header, run.sidecar, run.tr)
            add_notices(slice_times.notices)
            run = replace(run, slice_timing=slice_times.value)
        derivatives = find_run(result.sources, run, images.anat)
        if derivatives is None:
            add_notices(note_missing_run(result.sources, run))
        else:
            add_notices(judge(RUN_FILE_RULES, derivatives))
            run = replace(run, precomputed=derivatives.select())
        if run.precomputed is None and run.shape[2] < LEAST_SAMPLES:
            count_text = "one slice" if run.shape[2] == 1 else f"{run.shape[2]} slices"
            note(run.bold, f"the run has {count_text}, so head motion is estimated in-plane only.")
        try:
            reference = find_reference(run, settings, with_anat=bool(images.t1w))
        except InputError as error:
            add_notices(error.problems)
            return run
        add_notices(reference.notices)
        return replace(run, truth=reference.value)


def _open_run(index: Index, files: Sequence[Path]) -> tuple[Header | None, BoldRun | None]:
    """Read header, sidecar and echoes of a run, and report problems.

    `files` are the series of the run, or all of its echoes. Returns the header of the first file
    with slices along the third axis, None if unreadable, and the run with its echoes, None if it
    cannot be processed.
    """
    bold = files[0]
    if index.is_ignored(bold):
        note(
            bold,
            "the run is listed in .bidsignore, which concerns the BIDS validator only, so"
            " the run is processed. To exclude it, use --task-id, --run-id or"
            " --bids-filter-file.",
        )
    header, sidecar, run = bridges.read_header(bold), None, None
    try:
        sidecar = index.read_metadata(bold)
        run = read_run(bold, sidecar)
    except InputError as error:
        add_notices(error.problems)
    if not index.has_own_sidecar(bold) and (
        text := describe_similar(bold, "bold", ".json", "bold")
    ):
        warn(bold, f"no sidecar with the name of the series was found. {text}")
    if run is not None:
        add_notices(slice_axis.note_axis_order(run.header))
        add_notices(timing.note_header_time(run.header, run.tr))
    if len(files) > 1:
        try:
            echoes = read_echoes(index, files)
        except InputError as error:
            add_notices(error.problems)
            run = None
        else:
            for echo in echoes:
                bridges.read_header(echo.path)
            add_notices(judge_echoes(echoes))
            times = tuple((echo.path, echo.te_ms) for echo in echoes if echo.te_ms is not None)
            run = replace(run, echoes=times) if run is not None and times else None
    if header is not None:
        header = slice_axis.with_slices_last(header, sidecar or {})
    return header, run
