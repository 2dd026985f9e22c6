"""Linear models of the runs: trial types, contrasts, seeds and confounds."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.config.seeds import COMPONENTS, choose_seeds
from bids_sr.glm.connectivity_seeds import seed_names
from bids_sr.glm.contrasts import Contrast, Contrasts, order_types
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.inputs import BoldRun, Subject, Survey
from bids_sr.survey.notices import Choice, InputError, attribute, is_problem, judge, note
from bids_sr.survey.preflight import (
    confound_checks,
    estimability,
    events,
    run_contrasts,
    run_model,
    type_labels,
)
from bids_sr.survey.preflight.estimability import TypesOfRun
from bids_sr.survey.preflight.events import EventsTable
from bids_sr.survey.preflight.plan import PlannedTerms
from bids_sr.survey.preflight.stats_model import (
    StatsModel,
    ignored_parts,
    list_named_types,
    read_model,
)


@frozen
class LinearModels:
    """Regressors, contrasts and confounds of the runs, by BOLD file.

    `types` are of the runs with valid events. `contrasts` are contrasts of the trial types, or one
    contrast per seed of a run without events, and `over_runs` the terms of contrasts over runs by
    name. `nuisance` are the selected confounds of all runs; None for the default.
    """

    types: Mapping[Path, TypesOfRun]
    contrasts: Mapping[Path, Contrasts]
    over_runs: Mapping[str, PlannedTerms]
    nuisance: list[str] | None


def choose_models(data_set: Survey, settings: Settings) -> Choice[LinearModels]:
    """Choose the models of the runs, from events tables, options and the BIDS Stats Model."""
    activation = settings.activation
    requests: list[str | tuple[str, Contrast]] = [*activation.contrasts]
    types = _choose_types(data_set, [*requests, *list_named_types(activation.model)], settings)
    model = _choose_stats_model(data_set, types.value, settings)
    labels = type_labels.label_trial_types(types.value, data_set)
    if model.value is not None:
        requests = [*model.value.contrasts, *requests]
    contrasts = run_contrasts.resolve_run_contrasts(types.value, requests, labels)
    seeds = {
        run.bold: {name: {name: 1.0} for name in _list_seeds(subject, settings)}
        for subject in data_set.subjects
        for run in subject.runs
        if run.events is None
    }
    confounds = None if model.value is None else model.value.confounds
    return Choice(
        value=LinearModels(
            types=types.value,
            contrasts={**contrasts.value.by_run, **seeds},
            over_runs=contrasts.value.over_runs,
            nuisance=confound_checks.select_confounds(settings, confounds),
        ),
        notices=(
            *types.notices,
            *unlocated_seeds(data_set, settings),
            *model.notices,
            *confound_checks.unknown_confounds(data_set.runs, settings),
            *contrasts.notices,
        ),
    )


def _choose_types(
    data_set: Survey, requests: Sequence[str | tuple[str, Contrast]], settings: Settings
) -> Choice[dict[Path, TypesOfRun]]:
    """Choose the trial types of each run with a valid events table, by BOLD file.

    Types are in the order shared by the data set. `requests` are requested contrasts.
    """
    runs = {run.bold: run for run in data_set.runs}
    tables = _choose_tables(data_set, runs)
    notices = [*tables.notices]
    modeled = {}
    for bold, table in tables.value.items():
        order = data_set.type_order.get(parse_entities(bold).get("task", ""), ())
        duration = runs[bold].duration if bold in runs else None
        modeled[bold] = order_types(table.list_types(duration), order)
    notices += events.alike_types(modeled)
    types = {}
    for bold, names in modeled.items():
        table = tables.value[bold]
        types[bold] = TypesOfRun.all_described(names, table.path)
        if run := runs.get(bold):
            types[bold] = estimability.assess_types(
                run, names, table.make_events(), requests, settings
            )
            found = judge(estimability.TYPE_RULES, types[bold])
            notices += attribute(found, *run.owner, code="events")
    return Choice(value=types, notices=tuple(notices))


def _choose_tables(
    data_set: Survey, runs: Mapping[Path, BoldRun]
) -> Choice[dict[Path, EventsTable]]:
    """Choose the valid events tables, by BOLD file; tables of unusable runs are judged as well."""
    tables, notices = {}, list[Notice]()
    for name, (bold, path) in data_set.files_by_run.items():
        if path is None:
            continue
        run = runs.get(bold)
        try:
            table = events.read_events_table(path, () if run is None else run.levels)
            found = [*judge(events.TABLE_RULES, table)]
            if run is not None:
                found += judge(events.RUN_RULES, table, bold, run.duration)
            if not any(map(is_problem, found)):
                tables[bold] = table
        except InputError as error:
            found = [*error.problems]
        notices += attribute(found, parse_entities(bold)["subject"], name, code="events")
    return Choice(value=tables, notices=tuple(notices))


def _choose_stats_model(
    data_set: Survey, types: Mapping[Path, TypesOfRun], settings: Settings
) -> Choice[StatsModel | None]:
    """Choose the BIDS Stats Model of the call, if any; it is empty if it cannot be used."""
    path = settings.activation.model
    if path is None:
        return Choice(value=None)
    try:
        model = read_model(
            path,
            types,
            hrf=run_model.hemodynamic_response(settings),
            confound_columns=confound_checks.list_known_columns(data_set.runs, settings),
            levels=tuple(chain.from_iterable(data_set.type_order.values())),
        )
    except InputError as error:
        empty = StatsModel(path=path, contrasts=(), confounds=())
        return Choice(value=empty, notices=error.problems)
    return Choice(value=model, notices=tuple(ignored_parts(model)))


def _list_seeds(subject: Subject, settings: Settings) -> tuple[str, ...]:
    """Return the names of the seeds of the runs without events of a participant."""
    activation = settings.activation
    return seed_names(
        choose_seeds(activation.seeds, with_anat=bool(subject.t1w), atlas=activation.atlas)
    )


def unlocated_seeds(data_set: Survey, settings: Settings) -> Iterator[Notice]:
    """Note participants whose seed regions cannot be located."""
    if settings.activation.seeds == (COMPONENTS,):
        return
    for subject in data_set.subjects:
        if not subject.t1w and any(run.events is None for run in subject.runs):
            text = (
                "no T1w image was found, so the seed regions cannot be located. Seeds are the"
                " leading temporal components of the run instead."
            )
            yield from attribute([note(f"sub-{subject.label}", text)], subject.label)


def judge_models(
    subjects: Sequence[Subject],
    models: LinearModels,
    known: Sequence[Notice],
    settings: Settings,
) -> Iterator[Notice]:
    """Yield notices about the models of the runs.

    `known` are earlier notices; the content of files with a problem is not judged.
    """
    broken = {notice.what for notice in known if is_problem(notice)}
    for subject in subjects:
        for run in (run for run in subject.runs if run.bold in models.contrasts):
            with_anat = bool(subject.t1w)
            found = judge_model(run, models, broken, settings, with_anat=with_anat)
            yield from attribute(found, *run.owner, code="events")


def judge_model(
    run: BoldRun,
    models: LinearModels,
    broken: Collection[str],
    settings: Settings,
    *,
    with_anat: bool,
) -> Iterator[Notice]:
    """Yield notices about the model of a run, up to the first problem.

    `broken` are files with a problem; their content is not judged.
    """
    yield from run_model.band_above_nyquist(run, settings)
    if str(run.imported_confounds) in broken:
        return
    imported, nuisance = confound_checks.read_imported(run), models.nuisance
    yield from confound_checks.missing_confounds(run, imported, nuisance, with_anat=with_anat)
    found = [] if imported is None else [*confound_checks.unusable_confounds(imported, nuisance)]
    types = models.types.get(run.bold)
    if not any(map(is_problem, found)):
        n_regressors = len(models.contrasts[run.bold])
        if types is not None:
            n_columns = run_model.hemodynamic_response(settings).n_columns
            n_regressors = len(types.modeled) * n_columns
        n_regressors += confound_checks.count_confounds(imported, nuisance)
        motion = None if imported is None else imported.table
        found += run_model.too_few_volumes(run, n_regressors, motion, settings)
    yield from found
    if types is None or any(map(is_problem, found)) or str(run.events) in broken:
        return
    contrasts = models.contrasts[run.bold]
    yield from estimability.refuse_inestimable(run, types, contrasts, settings)


def choose_halves(
    runs: Sequence[BoldRun], models: LinearModels, settings: Settings
) -> Choice[frozenset[Path]]:
    """Choose the BOLD files of runs with too few blocks for split halves, which are not split."""
    unsplit, notices = set[Path](), list[Notice]()
    for run in (run for run in runs if run.bold in models.contrasts):
        types = models.types.get(run.bold)
        if types is None or types.events is None:
            n_seeds = len(models.contrasts[run.bold])
            choice = run_model.choose_split_at_rest(run, n_seeds, settings)
        else:
            choice = run_model.choose_split(run, types.events, settings)
        notices += attribute(choice.notices, *run.owner, code="events")
        if not choice.value:
            unsplit.add(run.bold)
    return Choice(value=frozenset(unsplit), notices=tuple(notices))
