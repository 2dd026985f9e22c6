"""Preflight of BOLD runs in one pass over headers and tables."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from bids_sr.config import Settings, machine
from bids_sr.config.seeds import COMPONENTS, choose_seeds
from bids_sr.config.tedana import INSTALL_TEDANA, is_tedana_installed
from bids_sr.glm.connectivity_seeds import seed_names
from bids_sr.glm.contrasts import Contrast, Contrasts, order_types
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice
from bids_sr.io.series import series_names
from bids_sr.survey.bids import (
    BoldRun,
    Findings,
    Subject,
    Survey,
    parse_entities,
    survey,
)
from bids_sr.survey.bids.findings import describe_denied
from bids_sr.survey.bids.method_options import series_of_run
from bids_sr.survey.bids.retrospective_plan import as_downsampled, note_retrospective
from bids_sr.survey.bids.similar_names import describe_similar
from bids_sr.survey.preflight import (
    combined_runs,
    confound_checks,
    directories,
    estimability,
    events,
    regions,
    run_contrasts,
    run_model,
    type_labels,
)
from bids_sr.survey.preflight.compared_series import add_compared_series
from bids_sr.survey.preflight.estimates import check_memory, estimate
from bids_sr.survey.preflight.exclusions import exclude, list_files
from bids_sr.survey.preflight.kspace import refuse_phase, warn_of_header
from bids_sr.survey.preflight.method_checks import (
    check_methods,
    note_missing_features,
    note_recipe,
    note_vgg19,
)
from bids_sr.survey.preflight.output_spaces import check_spaces, check_templates
from bids_sr.survey.preflight.plan import Estimate, Plan, PlannedTerms
from bids_sr.survey.preflight.reference_checks import note_unused_reference
from bids_sr.survey.preflight.separate_calls import warn_of_separate_runs
from bids_sr.survey.preflight.stats_model import list_named_types, read_model
from bids_sr.survey.preflight.validator import validate

MakePlan = Callable[[Settings, Findings], Plan]


def plan_call(settings: Settings, make_plan: MakePlan) -> Plan:
    """Plan a call and collect all problems, reading only headers, sidecars and tables.

    Unless the call is a dry run, a missing template is downloaded to the TemplateFlow directory,
    and the index of the data set is written to ``--bids-database-dir``. Nothing else is written.

    `make_plan` surveys the data set, plans its processing, and adds problems to the findings.
    """
    findings = Findings()
    try:
        return _plan_call(settings, make_plan, findings)
    except PermissionError as error:  # of a file or directory that an option names
        if error.filename is None:
            raise
        findings.add([describe_denied(Path(error.filename))])
        return Plan(problems=tuple(findings.problems))


def _plan_call(settings: Settings, make_plan: MakePlan, findings: Findings) -> Plan:
    """Plan a call, and collect all problems in `findings`."""
    directories.check_directories(settings, findings)
    check_templates(settings, findings)
    paths = settings.paths
    directory_names = {*map(str, (paths.bids_dir, paths.output_dir, paths.work_dir))}
    # reported before the data set is indexed, which takes longer
    if any(
        problem.what in directory_names or problem.what.startswith("--output-spaces")
        for problem in findings.problems
    ):
        return Plan(problems=tuple(findings.problems))
    return make_plan(settings, findings)


def check_runs(settings: Settings, findings: Findings) -> Plan:
    """Plan the processing of BOLD runs, and collect all problems in `findings`."""
    data_set = survey(settings)
    _warn_of_missing_events(data_set, settings, findings)
    findings.add_all(data_set)
    note_recipe(settings.superres, findings)
    note_vgg19(settings.superres, findings)
    note_missing_features(settings, findings)
    _note_excess_processes(settings, findings)
    _check_headers(data_set, findings)
    _check_tedana(data_set.runs, findings)
    if not settings.run.store_series:
        _check_unstored_series(data_set.runs, findings)
    models = _resolve_models(data_set, settings, findings)
    processed_subjects = as_downsampled(data_set.subjects, settings)
    estimable_bolds = _find_estimable_runs(processed_subjects, models, settings, findings)
    with findings.about(code="method"):
        check_methods(settings, processed_subjects, findings)
    check_dataset(settings, data_set, findings)
    with findings.about(code="space"):
        region_masks, atlas_spaces = regions.check_regions(settings, data_set.subjects, findings)
    note_unused_reference(settings, data_set.subjects, findings)
    pauses = {bold: run_types.pauses for bold, run_types in models.types.items()}
    subjects = tuple(
        replace(
            subject,
            runs=tuple(replace(run, pauses=pauses.get(run.bold, ())) for run in subject.runs),
        )
        for subject in data_set.subjects
        if any(run.bold in models.contrasts for run in subject.runs)
    )
    subjects = add_compared_series(subjects, settings, findings)
    skipped: dict[str, tuple[Notice, ...]] = {}
    remaining_findings = findings
    if not settings.run.strict:
        subjects, skipped, problems = exclude(findings.problems, data_set.files_by_run, subjects)
        remaining_findings = Findings(problems=list(problems), notices=findings.notices)
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
    return _complete_plan(plan, estimable_bolds, settings, remaining_findings)


def _warn_of_missing_events(data_set: Survey, settings: Settings, findings: Findings) -> None:
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
            with findings.about(parse_entities(bold)["subject"], name, code="events"):
                findings.warn(bold, " ".join(filter(None, (similar_text, text))))


def is_rest(task: str) -> bool:
    """Return whether a task label denotes rest by one of its words (in camel case).

    A word that only contains "rest" does not count.

    >>> [is_rest(label) for label in ("rest", "restingstate", "preRest", "forest", "restaurant")]
    [True, True, True, False, False]
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", task)
    return any(
        re.fullmatch(r"rest(ing)?(state)?|resteyes(open|closed)?|rs|rsfmri", word.lower())
        for word in words
    )


def _note_excess_processes(settings: Settings, findings: Findings) -> None:
    """Report that ``--nprocs`` exceeds the number of processors, unless steps are cluster jobs."""
    resources, processors = settings.resources, machine.processors()
    if resources.use_plugin is None and (resources.nprocs or 0) > processors:
        findings.note(
            f"--nprocs {resources.nprocs}",
            f"this machine or job has {processors} processors, so more processes increase memory"
            " usage without reducing the processing time.",
        )


def _check_headers(data_set: Survey, findings: Findings) -> None:
    """Check the k-space fields of the sidecars of all runs, calibration runs and references."""
    for run in data_set.runs:
        with findings.about(run.entities["subject"], run.stem):
            for series in run.measured_series:
                refuse_phase(series, findings)
                warn_of_header(series, findings)


def _check_tedana(runs: Sequence[BoldRun], findings: Findings) -> None:
    """Stop the call if echoes are combined but tedana is not installed.

    Only the first multi-echo run is named, and the problem is not attributed to it: otherwise, the
    run would be skipped.
    """
    first_run = next((run for run in runs if run.echoes), None)
    if first_run is not None and not is_tedana_installed():
        findings.add_problem(
            first_run.bold,
            f"the {len(first_run.echoes)} echoes cannot be combined because tedana is not"
            " installed",
            f"{INSTALL_TEDANA}, or select a single echo with --echo-idx N.",
        )


@frozen
class _LinearModels:
    """Regressors, contrasts and confounds of the runs, by BOLD file.

    `types` are of the runs with valid events, and `seeds` are names of the seeds of the runs
    without events. `contrasts` are contrasts of the trial types, and one contrast per seed, and
    `over_runs` the terms of contrasts over runs by name.
    `nuisance` are the selected confounds of all runs; None for the default.
    """

    types: Mapping[Path, estimability.TypesOfRun]
    seeds: Mapping[Path, tuple[str, ...]]
    contrasts: Mapping[Path, Contrasts]
    over_runs: Mapping[str, PlannedTerms]
    nuisance: list[str] | None


def _check_unstored_series(runs: Sequence[BoldRun], findings: Findings) -> None:
    """Refuse to omit the series of runs at rest, and name programs that read series."""
    option = "--set run.store_series=false"
    if any(run.events is None for run in runs):
        findings.refuse_option(
            option,
            "runs at rest are analyzed further with their series",
            "Omit the option, or select task runs with --task-id.",
        )
    else:
        findings.note(
            option, "series, which XCP-D and fitlins read, are neither stored nor exported."
        )


def _resolve_models(data_set: Survey, settings: Settings, findings: Findings) -> _LinearModels:
    """Return the models of the runs, from events tables, options and the BIDS Stats Model."""
    named_types = list_named_types(settings.activation.model)
    requests: list[str | tuple[str, Contrast]] = [*settings.activation.contrasts, *named_types]
    types = _assess_trial_types(data_set, requests, settings, findings)
    seeds = _list_seed_names(data_set, settings, findings)
    levels = tuple(chain.from_iterable(data_set.type_order.values()))
    requested_contrasts, model_confounds = _read_requests(
        types, data_set.runs, levels, settings, findings
    )
    nuisance = confound_checks.select_confounds(data_set.runs, settings, model_confounds, findings)
    tables = {bold: table for bold, table in data_set.files_by_run.values() if table is not None}
    labels = type_labels.label_trial_types(types, tables, data_set, findings)
    contrasts, over_runs = run_contrasts.resolve_run_contrasts(
        types, requested_contrasts, tables, findings, labels
    )
    contrasts |= {bold: {name: {name: 1.0} for name in names} for bold, names in seeds.items()}
    return _LinearModels(
        types=types, seeds=seeds, contrasts=contrasts, over_runs=over_runs, nuisance=nuisance
    )


def _assess_trial_types(
    data_set: Survey,
    requests: Sequence[str | tuple[str, Contrast]],
    settings: Settings,
    findings: Findings,
) -> dict[Path, estimability.TypesOfRun]:
    """Return the trial types of each run with a valid events table, and report invalid events.

    Types are in the order shared by the data set. `requests` are requested contrasts.
    """
    runs = {run.bold: run for run in data_set.runs}
    names_by_run = {}
    for name, (bold, table) in data_set.files_by_run.items():
        if table is None:
            continue
        entities = parse_entities(bold)
        with findings.about(entities["subject"], name, code="events"):
            run = runs.get(bold)
            duration, levels = (None, ()) if run is None else (run.duration, run.levels)
            names = events.check_events(table, bold, duration, findings, levels)
        if names:
            order = data_set.type_order.get(entities.get("task", ""), ())
            names_by_run[bold] = order_types(names, order)
    with findings.about(code="events"):
        events.note_unshared_levels(names_by_run, data_set, findings)
    events.warn_of_alike_types(names_by_run, findings)
    types = {
        bold: estimability.TypesOfRun.all_described(names) for bold, names in names_by_run.items()
    }
    for run in data_set.runs:
        if run.bold in types:
            with findings.about(run.entities["subject"], run.stem, code="events"):
                types[run.bold] = estimability.assess_types(
                    run, names_by_run[run.bold], requests, settings, findings
                )
    return types


def _list_seed_names(
    data_set: Survey, settings: Settings, findings: Findings
) -> dict[Path, tuple[str, ...]]:
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
            with findings.about(subject.label):
                findings.note(f"sub-{subject.label}", text)
    return names_by_run


def _read_requests(
    types: Mapping[Path, estimability.TypesOfRun],
    runs: Sequence[BoldRun],
    levels: Sequence[str],
    settings: Settings,
    findings: Findings,
) -> tuple[Sequence[str | tuple[str, Contrast]], list[str] | None]:
    """Return the contrasts of ``--model`` and ``--contrasts``, and the confounds of the model.

    `types` are the trial types by BOLD file, and `levels` trial types in the order of ``Levels``
    at the root of the data set. If no model was given, confounds are None.
    """
    activation = settings.activation
    if activation.model is None:
        return activation.contrasts, None
    contrasts, confounds = read_model(
        activation.model,
        types,
        findings,
        hrf=run_model.hemodynamic_response(settings),
        confound_columns=confound_checks.list_known_columns(runs, settings),
        levels=levels,
    )
    return (*contrasts, *activation.contrasts), confounds


def _find_estimable_runs(
    subjects: Sequence[Subject], models: _LinearModels, settings: Settings, findings: Findings
) -> set[Path]:
    """Return the BOLD files of the runs whose model can be estimated, and report other runs."""
    estimable_bolds = set[Path]()
    for subject in subjects:
        for run in (run for run in subject.runs if run.bold in models.contrasts):
            with findings.about(subject.label, run.stem, code="events"):
                run_model.note_nyquist(run, settings, findings)
                confound_checks.warn_of_missing(
                    run, models.nuisance, findings, with_anat=bool(subject.t1w)
                )
                if _has_estimable_model(run, models, settings, findings):
                    estimable_bolds.add(run.bold)
    return estimable_bolds


def _has_estimable_model(
    run: BoldRun, models: _LinearModels, settings: Settings, findings: Findings
) -> bool:
    """Return whether a run has usable confounds and enough volumes to estimate all contrasts."""
    if not confound_checks.are_usable(run, models.nuisance, findings):
        return False
    run_types = models.types.get(run.bold) or estimability.TypesOfRun.all_described(())
    n_task_regressors = len(run_types.modeled) * run_model.hemodynamic_response(settings).n_columns
    n_regressors = n_task_regressors + len(models.seeds.get(run.bold, ()))
    n_confounds = confound_checks.count_confounds(run, models.nuisance)
    return run_model.is_long_enough(
        run, n_regressors, settings, findings, n_confounds=n_confounds
    ) and estimability.is_estimable(run, run_types, models.contrasts[run.bold], settings, findings)


def check_dataset(settings: Settings, data_set: Survey, findings: Findings) -> None:
    """Validate the selected files, and check the requested spaces."""
    subjects = data_set.subjects
    labels = {subject.label for subject in subjects if subject.has_scans}
    labels |= {parse_entities(bold)["subject"] for bold, _ in data_set.files_by_run.values()}
    if labels and not settings.selection.skip_bids_validation:
        with findings.about(code="validator"):
            validate(
                settings.paths.bids_dir.absolute(),
                labels,
                data_set.files_by_run,
                data_set.read_files,
                findings,
            )
    without_anat = [
        subject.label for subject in subjects if not (subject.t1w or subject.has_scans)
    ]
    with findings.about(code="space"):
        check_spaces(
            settings,
            findings,
            labels=[subject.label for subject in subjects],
            without_anat=without_anat,
        )


def _complete_plan(
    plan: Plan, estimable_bolds: Collection[Path], settings: Settings, findings: Findings
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
        check_resources(cost, settings, findings)
    if "glm" in settings.activation.kinds:
        methods_series = series_names(settings.superres.method)
        lost: list[str] = []
        for subject in plan.subjects:
            combined_runs.warn_of_left_out(subject.runs, plan_of_series, methods_series, findings)
            lost += combined_runs.warn_of_lost_contrasts(subject.runs, plan_of_series, findings)
            with findings.about(subject.label):
                warn_of_separate_runs(subject.runs, plan.skipped, settings, findings)
        groups = (combined_runs.group_runs(item.runs, plan_of_series) for item in plan.subjects)
        is_only_request = len(plan.over_runs) == len(settings.activation.contrasts)
        if lost and is_only_request and not any(group.over_runs for group in chain(*groups)):
            findings.refuse_option(
                "--contrasts",
                f"no requested contrast is computed for any participant. {lost[0]}",
                "Correct the cause, or add `defaults` to map the runs one by one.",
            )
    unsplit = frozenset[Path]()
    if settings.evaluation.retrospective is not None:
        note_retrospective(plan.subjects, settings, findings)
    else:
        unsplit = _find_unsplit_runs(plan_of_series, estimable_bolds, settings, findings)
    return replace(
        plan_of_series,
        estimate=cost,
        unsplit=unsplit,
        problems=tuple(findings.problems),
        warnings=tuple(findings.notices),
    )


def check_resources(cost: Estimate, settings: Settings, findings: Findings) -> None:
    """Report too little disk space or memory."""
    with findings.about(code="room"):
        directories.check_disk_space(settings, cost, findings)
        check_memory(settings, cost.sizes, settings.resources.mem_gb, findings)


def _find_unsplit_runs(
    plan: Plan, estimable_bolds: Collection[Path], settings: Settings, findings: Findings
) -> frozenset[Path]:
    """Return the BOLD files, including runs of the same task, with too few blocks for halves."""
    unsplit = set[Path]()
    for run in plan.runs:
        if run.bold not in estimable_bolds:
            continue
        n_seeds, other_run = len(plan.contrasts[run.bold]), run.same_task_run
        with findings.about(run.entities["subject"], run.stem, code="events"):
            if not run_model.can_be_split(run, settings, findings, n_seeds=n_seeds):
                unsplit.add(run.bold)
            if (
                other_run is not None
                and other_run.events is not None
                and not run_model.can_be_split(other_run, settings, findings)
            ):
                unsplit.add(other_run.bold)
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
    findings = Findings()
    for subject in subjects:
        list(combined_runs.warn_of_lost_contrasts(subject.runs, reduced, findings))
    new_warnings = (notice for notice in findings.notices if notice not in plan.warnings)
    return replace(reduced, warnings=(*plan.warnings, *new_warnings))
