"""Survey of a data set: participants, their runs with all associated files, and problems.

Associated files of a run are its pair, T1w image, events and metadata.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice
from bids_sr.survey.bids import (
    dataset_checks,
    filter_file,
    headers,
    pairs,
    participant_selection,
    run_files,
    run_selection,
    slice_axis,
    timing,
)
from bids_sr.survey.bids.anatomical_images import AnatomicalImages, choose_images
from bids_sr.survey.bids.calibration_runs import (
    assign_calibration_runs,
    judge_calibration_option,
    read_possible_runs,
)
from bids_sr.survey.bids.derivative_folders import open_derivatives, refuse_output_as_data
from bids_sr.survey.bids.echoes import judge_echoes, read_echoes, sort_by_echo_time
from bids_sr.survey.bids.entities import file_stem, parse_entities, parse_owner, stem_of_echoes
from bids_sr.survey.bids.fmriprep import RUN_FILE_RULES, find_run, note_missing_run
from bids_sr.survey.bids.inputs import DEFAULT_FACTORS, BoldRun, Subject, Survey
from bids_sr.survey.bids.layout import Index, open_index
from bids_sr.survey.bids.method_options import judge_options
from bids_sr.survey.bids.precomputed import DerivativeFolder
from bids_sr.survey.bids.pretrained_models import factor_without_pair
from bids_sr.survey.bids.reference_runs import find_reference, require_reference_root
from bids_sr.survey.bids.related_runs import infer_calibration_factor, read_run
from bids_sr.survey.bids.retrospective_plan import RETROSPECTIVE_RULES
from bids_sr.survey.bids.run_names import judge_names, select_distinct
from bids_sr.survey.bids.similar_names import describe_similar
from bids_sr.survey.bids.task_types import read_task_types
from bids_sr.survey.bids.type_levels import (
    read_type_order,
    refuse_unreadable_sidecars,
    warn_of_unreadable_sidecars,
)
from bids_sr.survey.notices import (
    Choice,
    InputError,
    attempt,
    attribute,
    is_problem,
    judge,
    note,
    warning,
)

_RunFiles = tuple[Path, Path | None]  # BOLD file and events table


@frozen
class DataSet:
    """Index of a data set, and the selected participants whose folders may be read, by label."""

    index: Index
    labels: Sequence[str]


def open_dataset(settings: Settings) -> Choice[DataSet]:
    """Open the index of a data set, with notices on participants and options of selection.

    Raises `InputError` if the data set cannot be opened.
    """
    bids_dir, selection = settings.paths.bids_dir.absolute(), settings.selection
    existing_labels = participant_selection.list_participants(bids_dir)
    labels = participant_selection.select_participants(existing_labels, selection)
    denied = participant_selection.find_denied_folders(bids_dir, labels)
    filters = filter_file.read_filters(selection.bids_filter_file)
    # a dry run does not write
    database = None if settings.run.dry_run else selection.bids_database_dir
    readable_labels = [label for label in labels if label not in denied]
    return Choice(
        value=DataSet(
            index=open_index(bids_dir, readable_labels, existing_labels, database, filters),
            labels=readable_labels,
        ),
        notices=(
            *participant_selection.note_labels(bids_dir),
            *participant_selection.refuse_missing_participants(
                bids_dir, existing_labels, selection
            ),
            *denied.values(),
        ),
    )


def survey(settings: Settings) -> Survey:
    """Survey the data set, and return problems instead of raising them.

    Only headers, tables and sidecars are read.
    """
    bids_dir = settings.paths.bids_dir.absolute()
    sources = open_derivatives(settings.preprocessing.derivatives, bids_dir)
    known = [*judge_options(settings), *sources.notices]
    try:
        dataset_checks.check_dataset(bids_dir)
        refuse_output_as_data(bids_dir)
        if settings.evaluation.truth_dir is not None:
            require_reference_root(settings.evaluation.truth_dir)
        opened = open_dataset(settings)
        known += opened.notices
        return _survey_participants(opened.value, sources.value, known, settings)
    except InputError as error:
        return Survey(notices=(*known, *error.problems))


def _survey_participants(
    data_set: DataSet,
    sources: Sequence[DerivativeFolder],
    known: Sequence[Notice],
    settings: Settings,
) -> Survey:
    """Survey the selected participants; `known` are earlier notices, which are included.

    Raises `InputError` if a filter cannot be applied.
    """
    index, labels, selection = data_set.index, data_set.labels, settings.selection
    notices = [*known]
    for source in sources:
        denied = participant_selection.find_denied_folders(source.root, labels)
        notices += denied.values()
        labels = [label for label in labels if label not in denied]
    notices += judge_calibration_option(settings, labels)
    for label in labels:
        notices += run_selection.judge_bold_names(index, label, selection)
    bolds_by_label = {label: run_selection.list_valid_bolds(index, label) for label in labels}
    all_bolds = [path for paths in bolds_by_label.values() for path in paths]
    notices += run_selection.refuse_missing_labels(all_bolds, selection)
    selected_bolds = {
        label: [path for path in paths if run_selection.is_selected(path, selection)]
        for label, paths in bolds_by_label.items()
    }
    if not any(map(is_problem, notices)):
        notices += run_selection.refuse_missing_runs(selected_bolds, selection)
    if not selection.participant_label:
        notices += run_selection.note_skipped_participants(selected_bolds)
    participants = []
    for label, bolds in selected_bolds.items():
        notices += attribute(judge_names(bolds), label)
        if distinct_bolds := select_distinct(bolds):
            participant = _survey_participant(
                index, label, distinct_bolds, bolds_by_label[label], sources, settings
            )
            notices += attribute(participant.notices, label)
            participants.append(participant)
    files_by_run = {
        name: files
        for participant in participants
        for name, files in participant.files_by_run.items()
    }
    type_order = _read_type_orders(index, files_by_run)
    notices += _judge_levels(index, files_by_run)
    modeled_tasks = sorted({_task_of(bold) for bold, table in files_by_run.values() if table})
    return Survey(
        subjects=tuple(
            participant.subject for participant in participants if participant.subject.runs
        ),
        files_by_run=files_by_run,
        sources=tuple(sources),
        type_order=type_order,
        task_types=read_task_types(
            settings.paths.bids_dir.absolute(), {task: type_order[task] for task in modeled_tasks}
        ),
        sidecars=frozenset(index.sidecars),
        notices=tuple(dict.fromkeys(notices)),
    )


def _read_type_orders(
    index: Index, files_by_run: Mapping[str, _RunFiles]
) -> dict[str, tuple[str, ...]]:
    """Return the order of trial types by task of the runs."""
    tasks = {_task_of(bold) for bold, _ in files_by_run.values()}
    return {task: read_type_order(index, task) for task in sorted(tasks)}


def _judge_levels(index: Index, files_by_run: Mapping[str, _RunFiles]) -> Iterator[Notice]:
    """Yield notices on unreadable sidecars of the events of runs."""
    for task in dict.fromkeys(_task_of(bold) for bold, _ in files_by_run.values()):
        yield from refuse_unreadable_sidecars(index, task)
    for name, (bold, table) in files_by_run.items():
        if table is not None:
            subject = parse_entities(bold)["subject"]
            yield from attribute(warn_of_unreadable_sidecars(index, table), subject, name)


def _task_of(bold: Path) -> str:
    """Return the label of the task of a series, "" if it has none."""
    return parse_entities(bold).get("task", "")


@frozen
class _Participant:
    """Participant with runs, files of all selected runs by name, and notices."""

    subject: Subject
    files_by_run: Mapping[str, _RunFiles]
    notices: tuple[Notice, ...]


def _survey_participant(
    index: Index,
    label: str,
    bolds: Sequence[Path],
    all_bolds: Sequence[Path],
    sources: Sequence[DerivativeFolder],
    settings: Settings,
) -> _Participant:
    """Read the images and runs of a participant, and choose what belongs together.

    `all_bolds` lists all BOLD series of the participant, `bolds` the selected ones.
    """
    echo = settings.preprocessing.echo_idx
    images = choose_images(index, label, sources, settings)
    t2starw_headers = images.value.t2starw_headers
    combined = run_files.find_combined(bolds)
    roles = assign_calibration_runs(
        [bold for bold in bolds if bold not in combined],
        read_possible_runs(index, all_bolds, settings),
        partial(_find_factor, t2starw_headers, settings),
        settings,
    )
    calibrations, skipped = roles.value
    notices = [*images.notices, *roles.notices]
    if echo is None:
        notices += run_files.note_combined(combined)
    files_by_run: dict[str, _RunFiles] = {}
    runs = []
    for series in run_files.group_by_run(
        [bold for bold in bolds if bold not in combined and bold not in skipped]
    ):
        chosen = attempt((), run_files.choose_files, series, echo)
        notices += attribute(chosen.notices, *parse_owner(series[0]))
        if not chosen.value:
            continue
        files = sort_by_echo_time(index, chosen.value)
        name = stem_of_echoes(files[0]) if len(files) > 1 else file_stem(files[0])
        files_by_run[name] = files[0], _find_events(index, files, settings)
        run = attempt(None, _read_run, index, files, settings)
        notices += attribute([*_judge_names_of_run(index, files[0]), *run.notices], label, name)
        if run.value is not None:
            calibration = calibrations.get(files[0])
            related = _add_related(run.value, images.value, calibration, sources, settings)
            notices += related.notices
            runs.append(related.value)
    if runs and not images.value.t2starw:
        notices += pairs.refuse_without_pair(label, [run.bold for run in runs], settings)
    if any(run.precomputed is None or run.precomputed.field is None for run in runs):
        notices += dataset_checks.note_field_maps(settings.paths.bids_dir.absolute(), label)
    subject = Subject(
        label=label, t1w=images.value.t1w, runs=tuple(runs), precomputed=images.value.anat
    )
    if settings.evaluation.retrospective is not None:
        notices += judge(RETROSPECTIVE_RULES, subject, settings)
    return _Participant(subject=subject, files_by_run=files_by_run, notices=tuple(notices))


def _find_factor(
    t2starw_headers: Sequence[Header], settings: Settings, run: BoldRun
) -> Factor | None:
    """Return the factor of a run's pair, or else the factor of options and models, or None."""
    pair = None
    with contextlib.suppress(InputError):
        pair = pairs.find_pairs(run.header, t2starw_headers, settings).value.pair
    return factor_without_pair(settings.superres) if pair is None else pair.factor


def _find_events(index: Index, files: Sequence[Path], settings: Settings) -> Path | None:
    """Return the events table of a run, None at rest or if events are ignored."""
    tables = () if "events" in settings.preprocessing.ignore else map(index.events, files)
    return next(filter(None, tables), None)


def _judge_names_of_run(index: Index, bold: Path) -> Iterator[Notice]:
    """Note that a series is listed in ``.bidsignore``, and warn if a sidecar is misnamed."""
    if index.is_ignored(bold):
        yield note(
            bold,
            "the run is listed in .bidsignore, which concerns the BIDS validator only, so"
            " the run is processed. To exclude it, use --task-id, --run-id or"
            " --bids-filter-file.",
        )
    if not index.has_own_sidecar(bold) and (
        text := describe_similar(bold, "bold", ".json", "bold")
    ):
        yield warning(bold, f"no sidecar with the name of the series was found. {text}")


def _read_run(index: Index, files: Sequence[Path], settings: Settings) -> Choice[BoldRun | None]:
    """Read a run with its events, echoes and slice times, and judge them.

    `files` are the series of the run, or all of its echoes by ascending echo time. Raises
    `InputError` if the run cannot be processed.
    """
    run = read_run(files[0], index.read_metadata(files[0]))
    echoes = read_echoes(index, files) if len(files) > 1 else ()
    events = _find_events(index, files, settings)
    times: Choice[tuple[float, ...] | None] = Choice(value=None)
    if "slicetiming" not in settings.preprocessing.ignore:
        times = timing.choose_slice_times(run.header, run.sidecar, run.tr)
    return Choice(
        value=replace(
            run,
            events=events,
            events_sidecar={} if events is None else index.read_events_sidecar(events),
            echoes=tuple((echo.path, echo.te_ms) for echo in echoes),
            slice_timing=times.value,
        ),
        notices=(
            *headers.note_header(run.header),
            *slice_axis.note_axis_order(run.header),
            *judge_echoes(echoes),
            *times.notices,
        ),
    )


def _add_related(
    run: BoldRun,
    images: AnatomicalImages,
    calibration: BoldRun | None,
    sources: Sequence[DerivativeFolder],
    settings: Settings,
) -> Choice[BoldRun]:
    """Return a run with its pair, calibration run, factor, derivatives and reference.

    Without a pair, the factor is that of options and models, or of the calibration run.
    """
    pair = attempt(pairs.Pairs(), pairs.choose_pairs, run.header, images.t2starw_headers, settings)
    factor = factor_without_pair(settings.superres)
    if pair.value.pair is not None:
        factor = pair.value.pair.factor
    elif factor is None and calibration is not None:
        factor = infer_calibration_factor(calibration, run)
    run = replace(
        run,
        pair=pair.value.pair,
        holdout=pair.value.holdout,
        calibration=calibration,
        factor=factor or DEFAULT_FACTORS,
    )
    notices: list[Notice] = []
    derivatives = find_run(sources, run, images.anat)
    if derivatives is None:
        notices += note_missing_run(sources, run)
    else:
        notices += judge(RUN_FILE_RULES, derivatives)
        run = replace(run, precomputed=derivatives.select())
    reference = attempt(None, find_reference, run, settings, with_anat=bool(images.t1w))
    return Choice(
        value=replace(run, truth=reference.value),
        notices=(
            *pair.notices,
            *attribute([*notices, *reference.notices], *run.owner),
        ),
    )
