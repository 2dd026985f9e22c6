"""Preflight of BOLD runs in one pass over headers and tables."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.config.seeds import COMPONENTS, choose_seeds
from bids_sr.config.tedana import INSTALL_TEDANA, is_tedana_installed
from bids_sr.glm.connectivity_seeds import seed_names
from bids_sr.glm.contrasts import Contrast, Contrasts, order_types
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice
from bids_sr.io.series import series_names
from bids_sr.survey.bids.collect import survey
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.findings import (
    Findings,
    InputError,
    about,
    add_all,
    add_notices,
    add_problem,
    current_findings,
    describe_denied,
    note,
    refuse_option,
    warn,
)
from bids_sr.survey.bids.inputs import BoldRun, Subject, Survey
from bids_sr.survey.bids.method_options import series_of_run
from bids_sr.survey.bids.retrospective_plan import as_downsampled, note_retrospective
from bids_sr.survey.bids.similar_names import describe_similar
from bids_sr.survey.notices import attribute, is_problem, judge
from bids_sr.survey.preflight import (
    combined_runs,
    confound_checks,
    directories,
    estimability,
    events,
    option_checks,
    regions,
    run_contrasts,
    run_model,
    sidecar_checks,
    type_labels,
)
from bids_sr.survey.preflight.estimability import TypesOfRun
from bids_sr.survey.preflight.estimates import estimate, too_little_memory
from bids_sr.survey.preflight.exclusions import exclude, list_files
from bids_sr.survey.preflight.method_checks import check_methods
from bids_sr.survey.preflight.output_spaces import check_spaces, check_templates
from bids_sr.survey.preflight.plan import Estimate, Plan, PlannedTerms
from bids_sr.survey.preflight.separate_calls import separate_runs
from bids_sr.survey.preflight.stats_model import (
    StatsModel,
    ignored_parts,
    list_named_types,
    read_model,
)
from bids_sr.survey.preflight.unfit_references import note_unused_reference
from bids_sr.survey.preflight.validator import validate

MakePlan = Callable[[Settings], Plan]
_PLACE_CHECKS = (directories.check_directories, check_templates)
"""Checks of the directories and spaces of a call, after whose problems no data are read."""


def plan_call(settings: Settings, make_plan: MakePlan) -> Plan:
    """Plan a call and collect all problems, reading only headers, sidecars and tables.

    Unless the call is a dry run, a missing template is downloaded to the TemplateFlow directory,
    and the index of the data set is written to ``--bids-database-dir``. Nothing else is written.

    `make_plan` surveys the data set, plans its processing, and reports problems.
    """
    with Findings() as findings:
        try:
            for check in _PLACE_CHECKS:
                check(settings)
            # reported before the data set is indexed, which takes longer
            if not findings.problems:
                for check in option_checks.CHECKS:
                    check(settings)
                return make_plan(settings)
        except PermissionError as error:  # of a file or directory that an option names
            if error.filename is None:
                raise
            add_notices([describe_denied(Path(error.filename))])
    return Plan(problems=tuple(findings.problems))


def check_runs(settings: Settings) -> Plan:
    """Plan the processing of BOLD runs, and report all problems."""
    data_set = survey(settings)
    _warn_of_missing_events(data_set, settings)
    add_all(data_set)
    for check in option_checks.RUN_CHECKS:
        check(settings)
    for run in data_set.runs:
        with about(*run.owner):
            for series in run.measured_series:
                for check_series in sidecar_checks.CHECKS:
                    check_series(series)
    for check_set in _RUN_SET_CHECKS:
        check_set(data_set.runs, settings)
    models = _resolve_models(data_set, settings)
    processed_subjects = as_downsampled(data_set.subjects, settings)
    estimable_bolds = _find_estimable_runs(processed_subjects, models, settings)
    check_methods(settings, processed_subjects)
    check_dataset(settings, data_set)
    region_masks, atlas_spaces = regions.check_regions(settings, data_set.subjects)
    note_unused_reference(settings, data_set.subjects)
    pauses = {bold: run_types.pauses for bold, run_types in models.types.items()}
    subjects = tuple(
        replace(
            subject,
            runs=tuple(replace(run, pauses=pauses.get(run.bold, ())) for run in subject.runs),
        )
        for subject in data_set.subjects
        if any(run.bold in models.contrasts for run in subject.runs)
    )
    skipped: dict[str, tuple[Notice, ...]] = {}
    problems: Sequence[Notice] = current_findings().problems
    if not settings.run.strict:
        subjects, skipped, problems = exclude(problems, data_set.files_by_run, subjects)
    plan = Plan(
        subjects=subjects,
        contrasts=models.contrasts,
        over_runs=models.over_runs,
        type_order={**data_set.type_order, **data_set.task_types},
        skipped=skipped,
        sources=data_set.sources,
        nuisance=models.nuisance,
        region_masks=region_masks,
        atlas_spaces=atlas_spaces,
        combines_all_runs=settings.activation.combine_all_runs,
    )
    with Findings(problems=[*problems], notices=current_findings().notices):
        return _complete_plan(plan, models.types, estimable_bolds, settings)


def _warn_of_missing_events(data_set: Survey, settings: Settings) -> None:
    """Warn of task runs without events, which are mapped as resting-state runs.

    BIDS identifies resting-state runs by the task label.
    """
    if "events" in settings.preprocessing.ignore:
        return
    for name, (bold, table) in data_set.files_by_run.items():
        if table is not None:
            continue
        similar_text = describe_similar(bold, "events", ".tsv", "event")
        if similar_text or not is_rest(parse_entities(bold).get("task", "rest")):
            text = (
                f"{name}_events.tsv was not found, so the run is analyzed as resting state"
                " (seed-based connectivity). To map task activation, add the events table and"
                " run the program again. If the run is a resting-state run, use --ignore events."
            )
            with about(parse_entities(bold)["subject"], name, code="events"):
                warn(bold, " ".join(filter(None, (similar_text, text))))


def is_rest(task: str) -> bool:
    """Return whether a task label denotes rest by one of its words (in camel case).

    A word that only contains "rest" does not count.

    >>> [is_rest(label) for label in ("rest", "restingstate", "preRest", "forest", "restaurant")]
    [True, True, True, False, False]
    """
    return any(
        re.fullmatch(r"rest(ing)?(state)?|resteyes(open|closed)?|rs|rsfmri", word.lower())
        for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", task)
    )


def _check_tedana(runs: Sequence[BoldRun], _settings: Settings) -> None:
    """Stop the call if echoes are combined but tedana is not installed.

    Only the first multi-echo run is named, and the problem is not attributed to it: otherwise, the
    run would be skipped.
    """
    first_run = next((run for run in runs if run.echoes), None)
    if first_run is not None and not is_tedana_installed():
        add_problem(
            first_run.bold,
            f"the {len(first_run.echoes)} echoes cannot be combined because tedana is not"
            " installed",
            f"{INSTALL_TEDANA}, or select a single echo with --echo-idx N.",
        )


def _check_unstored_series(runs: Sequence[BoldRun], settings: Settings) -> None:
    """Refuse to omit the series of runs at rest, and name programs that read series."""
    option = "--set run.store_series=false"
    if settings.run.store_series:
        return
    if any(run.events is None for run in runs):
        refuse_option(
            option,
            "runs at rest are analyzed further with their series",
            "Omit the option, or select task runs with --task-id.",
        )
    else:
        note(option, "series, which XCP-D and fitlins read, are neither stored nor exported.")


_RUN_SET_CHECKS = (_check_tedana, _check_unstored_series)
"""Checks of all runs together, from their headers and sidecars."""


@frozen
class _LinearModels:
    """Regressors, contrasts and confounds of the runs, by BOLD file.

    `types` are of the runs with valid events. `contrasts` are contrasts of the trial types, or one
    contrast per seed of a run without events, and `over_runs` the terms of contrasts over runs by
    name. `nuisance` are the selected confounds of all runs; None for the default.
    """

    types: Mapping[Path, TypesOfRun]
    contrasts: Mapping[Path, Contrasts]
    over_runs: Mapping[str, PlannedTerms]
    nuisance: list[str] | None


def _resolve_models(data_set: Survey, settings: Settings) -> _LinearModels:
    """Return the models of the runs, from events tables, options and the BIDS Stats Model."""
    named_types = list_named_types(settings.activation.model)
    requests: list[str | tuple[str, Contrast]] = [*settings.activation.contrasts, *named_types]
    types = _assess_trial_types(data_set, requests, settings)
    seeds = _list_seed_names(data_set, settings)
    model: StatsModel | None = None
    if settings.activation.model is not None:
        try:
            model = read_model(
                settings.activation.model,
                types,
                hrf=run_model.hemodynamic_response(settings),
                confound_columns=confound_checks.list_known_columns(data_set.runs, settings),
                levels=tuple(chain.from_iterable(data_set.type_order.values())),
            )
            add_notices(ignored_parts(model))
        except InputError as error:
            add_notices(error.problems)
            model = StatsModel(path=settings.activation.model, contrasts=(), confounds=())
    add_notices(confound_checks.unknown_confounds(data_set.runs, settings))
    labels = type_labels.label_trial_types(types, data_set)
    add_notices(type_labels.changed_labels(types, labels))
    requested: list[str | tuple[str, Contrast]] = [*settings.activation.contrasts]
    if model is not None:
        requested = [*model.contrasts, *requested]
    choice = run_contrasts.resolve_run_contrasts(types, requested, labels)
    add_notices(choice.notices)
    contrasts = dict(choice.value.by_run)
    contrasts |= {bold: {name: {name: 1.0} for name in names} for bold, names in seeds.items()}
    return _LinearModels(
        types=types,
        contrasts=contrasts,
        over_runs=choice.value.over_runs,
        nuisance=confound_checks.select_confounds(
            settings, None if model is None else model.confounds
        ),
    )


def _assess_trial_types(
    data_set: Survey, requests: Sequence[str | tuple[str, Contrast]], settings: Settings
) -> dict[Path, TypesOfRun]:
    """Return the trial types of each run with a valid events table, and report invalid events.

    Types are in the order shared by the data set. `requests` are requested contrasts.
    """
    runs = {run.bold: run for run in data_set.runs}
    tables = {}
    for name, (bold, path) in data_set.files_by_run.items():
        if path is None:
            continue
        run = runs.get(bold)
        try:
            table = events.read_events_table(path, () if run is None else run.levels)
            notices = [*judge(events.TABLE_RULES, table)]
            if run is not None:
                notices += judge(events.RUN_RULES, table, bold, run.duration)
        except InputError as error:
            notices = [*error.problems]
        subject = parse_entities(bold)["subject"]
        add_notices(attribute(notices, subject, name, code="events"))
        if not any(map(is_problem, notices)):
            tables[bold] = table
    modeled = {}
    for bold, table in tables.items():
        order = data_set.type_order.get(parse_entities(bold).get("task", ""), ())
        run = runs.get(bold)
        duration = None if run is None else run.duration
        modeled[bold] = order_types(table.list_types(duration), order)
    add_notices(events.unshared_levels(modeled, data_set))
    add_notices(events.alike_types(modeled))
    types = {}
    for bold, names in modeled.items():
        table, run = tables[bold], runs.get(bold)
        if run is None:
            types[bold] = TypesOfRun.all_described(names, table.path)
            continue
        types[bold] = estimability.assess_types(
            run, names, table.make_events(), requests, settings
        )
        faults = judge(estimability.TYPE_RULES, run, types[bold], settings)
        add_notices(attribute(faults, *run.owner, code="events"))
    return types


def _list_seed_names(data_set: Survey, settings: Settings) -> dict[Path, tuple[str, ...]]:
    """Return the names of the seeds of each run without events."""
    seeds = settings.activation.seeds
    names_by_run: dict[Path, tuple[str, ...]] = {}
    for subject in data_set.subjects:
        names = seed_names(
            choose_seeds(seeds, with_anat=bool(subject.t1w), atlas=settings.activation.atlas)
        )
        resting_bolds = [run.bold for run in subject.runs if run.events is None]
        names_by_run |= dict.fromkeys(resting_bolds, names)
        if resting_bolds and not subject.t1w and seeds != (COMPONENTS,):
            text = (
                "no T1w image was found, so the seed regions cannot be located. Seeds are the"
                " leading temporal components of the run instead."
            )
            with about(subject.label):
                note(f"sub-{subject.label}", text)
    return names_by_run


def _find_estimable_runs(
    subjects: Sequence[Subject], models: _LinearModels, settings: Settings
) -> set[Path]:
    """Return the BOLD files of the runs whose model can be estimated, and report other runs."""
    broken = {problem.what for problem in current_findings().problems}
    estimable_bolds = set[Path]()
    for subject in subjects:
        for run in (run for run in subject.runs if run.bold in models.contrasts):
            notices = [*_judge_model(run, models, bool(subject.t1w), broken, settings)]
            add_notices(attribute(notices, *run.owner, code="events"))
            if not any(map(is_problem, notices)):
                estimable_bolds.add(run.bold)
    return estimable_bolds


def _judge_model(
    run: BoldRun,
    models: _LinearModels,
    with_anat: bool,
    broken: Collection[str],
    settings: Settings,
) -> Iterator[Notice]:
    """Yield notices about the model of a run, up to the first problem.

    `broken` are files with a problem; their content is not judged.
    """
    yield from run_model.band_above_nyquist(run, settings)
    if str(run.imported_confounds) in broken:
        return
    yield from confound_checks.missing_confounds(run, models.nuisance, with_anat=with_anat)
    contrasts, types = models.contrasts[run.bold], models.types.get(run.bold)
    for fault in confound_checks.unusable_confounds(run, models.nuisance):
        yield fault
        if is_problem(fault):
            return
    n_regressors = len(contrasts)
    if types is not None:
        n_columns = run_model.hemodynamic_response(settings).n_columns
        n_regressors = len(types.modeled) * n_columns
    n_regressors += confound_checks.count_confounds(run, models.nuisance)
    faults = [*run_model.too_few_volumes(run, n_regressors, settings)]
    yield from faults
    if types is not None and not faults and str(run.events) not in broken:
        yield from estimability.inestimable_contrasts(run, types, contrasts, settings)


def check_dataset(settings: Settings, data_set: Survey) -> None:
    """Validate the selected files, and check the requested spaces."""
    subjects = data_set.subjects
    labels = {subject.label for subject in subjects if subject.has_scans}
    labels |= {parse_entities(bold)["subject"] for bold, _ in data_set.files_by_run.values()}
    if labels and not settings.selection.skip_bids_validation:
        bids_dir = settings.paths.bids_dir.absolute()
        validate(bids_dir, labels, data_set.files_by_run, data_set.read_files)
    without_anat = [
        subject.label for subject in subjects if not (subject.t1w or subject.has_scans)
    ]
    check_spaces(
        settings, labels=[subject.label for subject in subjects], without_anat=without_anat
    )


def _complete_plan(
    plan: Plan,
    types: Mapping[Path, TypesOfRun],
    estimable_bolds: Collection[Path],
    settings: Settings,
) -> Plan:
    """Return the plan with series, cost, problems and notices of the remaining runs.

    `estimable_bolds` are the BOLD files of runs whose model can be estimated.
    """
    subjects = as_downsampled(plan.subjects, settings)
    series_by_run = {
        run.bold: series_of_run(run, settings.superres)
        for subject in subjects
        for run in subject.runs
    }
    computed = {name for names in series_by_run.values() for name in names}
    series = (
        "acquired",
        *(name for name in settings.superres.series if name in computed or not computed),
    )
    plan_of_series = replace(plan, series=series, series_by_run=series_by_run)
    cost = Estimate()
    if plan.subjects:
        cost = estimate(replace(plan_of_series, subjects=subjects), settings)
        check_resources(cost, settings)
    if "glm" in settings.activation.kinds:
        methods_series = series_names(settings.superres.method)
        lost: list[Notice] = []
        for subject in plan.subjects:
            add_notices(combined_runs.runs_left_out(subject.runs, plan_of_series, methods_series))
            lost += combined_runs.lost_contrasts(subject.runs, plan_of_series)
            notices = separate_runs(subject.runs, plan.skipped, settings)
            add_notices(attribute(notices, subject.label))
        add_notices(lost)
        groups = (combined_runs.group_runs(item.runs, plan_of_series) for item in plan.subjects)
        is_only_request = len(plan.over_runs) == len(settings.activation.contrasts)
        if lost and is_only_request and not any(group.over_runs for group in chain(*groups)):
            refuse_option(
                "--contrasts",
                f"no requested contrast is computed for any participant. {lost[0].why}",
                "Correct the cause, or add `defaults` to map the runs one by one.",
            )
    elif plan.over_runs:
        refuse_option(
            "--contrasts",
            "contrasts over runs are computed from the linear model only",
            "Add it with --set 'activation.kinds=[cc, glm]'.",
        )
    unsplit = frozenset[Path]()
    if settings.evaluation.retrospective is not None:
        note_retrospective(plan.subjects, settings)
    else:
        unsplit = _find_unsplit_runs(plan_of_series, types, estimable_bolds, settings)
    return replace(
        plan_of_series,
        estimate=cost,
        unsplit=unsplit,
        problems=tuple(current_findings().problems),
        warnings=tuple(current_findings().notices),
    )


@about(code="room")
def check_resources(cost: Estimate, settings: Settings) -> None:
    """Report too little disk space or memory."""
    directories.check_disk_space(settings, cost)
    add_notices(too_little_memory(settings, cost.sizes, settings.resources.mem_gb))


def _find_unsplit_runs(
    plan: Plan,
    types: Mapping[Path, TypesOfRun],
    estimable_bolds: Collection[Path],
    settings: Settings,
) -> frozenset[Path]:
    """Return the BOLD files, including runs of the same task, with too few blocks for halves."""
    unsplit = set[Path]()
    for run in plan.runs:
        if run.bold not in estimable_bolds:
            continue
        run_types = types.get(run.bold)
        if run_types is None or run_types.events is None:
            n_seeds = len(plan.contrasts[run.bold])
            choice = run_model.choose_split_at_rest(run, n_seeds, settings)
        else:
            choice = run_model.choose_split(run, run_types.events, settings)
        add_notices(attribute(choice.notices, *run.owner, code="events"))
        if not choice.value:
            unsplit.add(run.bold)
    return frozenset(unsplit)


def exclude_runs(plan: Plan, problems: Sequence[Notice]) -> Plan:
    """Return the plan without the runs that problems affect.

    The plan is returned unchanged if a problem affects the whole call, or if there are no
    problems.
    """
    files = {run.stem: (run.bold, *list_files(run)) for run in plan.runs}
    subjects, skipped, remaining = exclude(problems, files, plan.subjects)
    if remaining or not skipped:
        return plan
    reduced = replace(plan, subjects=subjects, skipped={**plan.skipped, **skipped})
    lost = chain.from_iterable(
        combined_runs.lost_contrasts(subject.runs, reduced) for subject in subjects
    )
    return replace(reduced, warnings=tuple(dict.fromkeys((*plan.warnings, *lost))))
