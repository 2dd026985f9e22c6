"""Preflight of BOLD runs in one pass over headers and tables: read, judge, plan."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain, filterfalse
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.io.notices import Notice
from bids_sr.io.series import series_names
from bids_sr.survey.bids.collect import survey
from bids_sr.survey.bids.content import describe_denied
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.inputs import BoldRun, Subject, Survey
from bids_sr.survey.bids.method_options import series_of_run
from bids_sr.survey.bids.retrospective_plan import as_downsampled, note_retrospective
from bids_sr.survey.notices import (
    Choice,
    attempt,
    attribute,
    is_problem,
    judge,
    option_problem,
)
from bids_sr.survey.preflight import (
    combined_runs,
    directories,
    option_checks,
    regions,
    run_set_checks,
    sidecar_checks,
)
from bids_sr.survey.preflight.estimates import estimate, too_little_memory
from bids_sr.survey.preflight.exclusions import exclude, list_files
from bids_sr.survey.preflight.linear_models import (
    LinearModels,
    choose_halves,
    choose_models,
    judge_models,
)
from bids_sr.survey.preflight.method_checks import judge_methods
from bids_sr.survey.preflight.output_spaces import judge_spaces, judge_templates
from bids_sr.survey.preflight.plan import Estimate, Plan
from bids_sr.survey.preflight.separate_calls import (
    find_earlier_runs,
    list_run_options,
    separate_runs,
)
from bids_sr.survey.preflight.unfit_references import note_unused_reference
from bids_sr.survey.preflight.validator import validate

MakePlan = Callable[[Settings, Sequence[Notice]], Plan]
_PLACE_RULES = (directories.judge_directories, judge_templates)
"""Rules on the directories and spaces of a call, after whose problems no data are read."""


def plan_call(settings: Settings, make_plan: MakePlan) -> Plan:
    """Plan a call and collect all problems, reading only headers, sidecars and tables.

    Unless the call is a dry run, a missing template is downloaded to the TemplateFlow directory,
    and the index of the data set is written to ``--bids-database-dir``. Nothing else is written.

    `make_plan` surveys the data set and plans its processing, given the notices about the options.
    """
    notices: list[Notice] = []
    try:
        notices += judge(_PLACE_RULES, settings)
        # reported before the data set is indexed, which takes longer
        if not any(map(is_problem, notices)):
            notices += judge(option_checks.OPTION_RULES, settings)
            return make_plan(settings, notices)
    except PermissionError as error:  # of a file or directory that an option names
        if error.filename is None:
            raise
        notices.append(describe_denied(Path(error.filename)))
    return Plan(problems=tuple(filter(is_problem, notices)))


def check_runs(settings: Settings, found: Sequence[Notice] = ()) -> Plan:
    """Plan the processing of BOLD runs; the plan has all problems.

    `found` are notices about the options.
    """
    data_set = survey(settings)
    region_choice = _read_regions(data_set, settings)
    model_choice = choose_models(data_set, settings)
    models, (region_masks, atlas_spaces) = model_choice.value, region_choice.value
    # messages have this order
    notices = [
        *found,
        *run_set_checks.missing_events(data_set, settings),
        *data_set.notices,
        *judge(option_checks.RUN_OPTION_RULES, settings),
        *_judge_series(data_set.runs),
        *judge(run_set_checks.RUN_SET_RULES, data_set.runs, settings),
        *model_choice.notices,
    ]
    subjects = as_downsampled(data_set.subjects, settings)
    model_notices = [*judge_models(subjects, models, notices, settings)]
    notices += model_notices
    notices += attribute(judge_methods(settings, subjects), code="method")
    notices += judge_data_set(settings, data_set, notices)
    notices += region_choice.notices
    notices += note_unused_reference(settings, data_set.subjects)
    planned = _select_planned(data_set, models)
    skipped: dict[str, tuple[Notice, ...]] = {}
    problems = tuple(dict.fromkeys(filter(is_problem, notices)))
    if not settings.run.strict:
        planned, skipped, problems = exclude(problems, data_set.files_by_run, planned)
    plan = Plan(
        subjects=planned,
        skipped=skipped,
        problems=problems,
        warnings=tuple(filterfalse(is_problem, notices)),
        contrasts=models.contrasts,
        over_runs=models.over_runs,
        type_order={**data_set.type_order, **data_set.task_types},
        sources=data_set.sources,
        nuisance=models.nuisance,
        region_masks=region_masks,
        atlas_spaces=atlas_spaces,
        combines_all_runs=settings.activation.combine_all_runs,
    )
    unfit = {
        (notice.subject, notice.run)
        for notice in (*model_choice.notices, *model_notices)
        if is_problem(notice)
    }
    return _complete_plan(plan, models, unfit, settings)


def _read_regions(data_set: Survey, settings: Settings) -> Choice[regions.Regions]:
    """Read the regions of interest and the atlas; there are none if they cannot be used."""
    none = regions.Regions({}, {})
    choice = attempt(none, regions.read_regions, settings, data_set.subjects)
    return replace(choice, notices=tuple(attribute(choice.notices, code="space")))


def _judge_series(runs: Sequence[BoldRun]) -> Iterator[Notice]:
    """Yield notices about the sidecars of runs, calibration runs and references."""
    for run in runs:
        for series in run.measured_series:
            yield from attribute(judge(sidecar_checks.SIDECAR_RULES, series), *run.owner)


def _select_planned(data_set: Survey, models: LinearModels) -> tuple[Subject, ...]:
    """Return the participants with contrasts; the runs have the trial types taken for rest."""
    pauses = {bold: types.pauses for bold, types in models.types.items()}
    return tuple(
        replace(
            subject,
            runs=tuple(replace(run, pauses=pauses.get(run.bold, ())) for run in subject.runs),
        )
        for subject in data_set.subjects
        if any(run.bold in models.contrasts for run in subject.runs)
    )


def judge_data_set(settings: Settings, data_set: Survey, known: Sequence[Notice]) -> list[Notice]:
    """Return notices about the validity of the selected files, and about the requested spaces.

    `known` are earlier notices, whose files are not named again.
    """
    notices: list[Notice] = []
    subjects = data_set.subjects
    labels = {subject.label for subject in subjects if subject.has_scans}
    labels |= {parse_entities(bold)["subject"] for bold, _ in data_set.files_by_run.values()}
    if labels and not settings.selection.skip_bids_validation:
        bids_dir = settings.paths.bids_dir.absolute()
        errors = validate(bids_dir, labels, data_set.files_by_run, data_set.read_files, known)
        notices += attribute(errors, code="validator")
    without_anat = [
        subject.label for subject in subjects if not (subject.t1w or subject.has_scans)
    ]
    all_labels = [subject.label for subject in subjects]
    spaces = judge_spaces(settings, labels=all_labels, without_anat=without_anat)
    notices += attribute(spaces, code="space")
    return notices


def _complete_plan(
    plan: Plan,
    models: LinearModels,
    unfit: Collection[tuple[str, str]],
    settings: Settings,
) -> Plan:
    """Return the plan with series, cost and further notices of the remaining runs.

    `unfit` are participant and name of the runs whose model cannot be fitted.
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
    plan = replace(plan, series=series, series_by_run=series_by_run)
    notices: list[Notice] = []
    if plan.subjects:
        plan = replace(plan, estimate=estimate(replace(plan, subjects=subjects), settings))
        notices += judge_resources(plan.estimate, settings)
    notices += judge_combination(plan, settings)
    if settings.evaluation.retrospective is not None:
        notices += note_retrospective(plan.subjects, settings)
    else:
        fit_runs = [run for run in plan.runs if run.owner not in unfit]
        unsplit = choose_halves(fit_runs, models, settings)
        plan = replace(plan, unsplit=unsplit.value)
        notices += unsplit.notices
    return replace(
        plan,
        problems=tuple(dict.fromkeys((*plan.problems, *filter(is_problem, notices)))),
        warnings=tuple(dict.fromkeys((*plan.warnings, *filterfalse(is_problem, notices)))),
    )


def judge_resources(cost: Estimate, settings: Settings) -> Iterator[Notice]:
    """Reject too little disk space or memory."""
    found = [
        *directories.judge_disk_space(settings, cost),
        *too_little_memory(settings, cost.sizes, settings.resources.mem_gb),
    ]
    yield from attribute(found, code="room")


def judge_combination(plan: Plan, settings: Settings) -> Iterator[Notice]:
    """Warn of runs and contrasts without a map of all runs; refuse contrasts that nobody has."""
    if "glm" not in settings.activation.kinds:
        if plan.over_runs:
            yield option_problem(
                "--contrasts",
                "contrasts over runs are computed from the linear model only",
                "Add it with --set 'activation.kinds=[cc, glm]'.",
            )
        return
    methods_series = series_names(settings.superres.method)
    lost: list[Notice] = []
    options = list_run_options(settings.selection)
    for subject in plan.subjects:
        yield from combined_runs.runs_left_out(subject.runs, plan, methods_series)
        lost += combined_runs.lost_contrasts(subject.runs, plan)
        if options:
            earlier = find_earlier_runs(subject.label, settings.paths)
            separate = separate_runs(subject.runs, plan.skipped, earlier, options)
            yield from attribute(separate, subject.label)
    yield from lost
    groups = (combined_runs.group_runs(subject.runs, plan) for subject in plan.subjects)
    is_only_request = len(plan.over_runs) == len(settings.activation.contrasts)
    if lost and is_only_request and not any(group.over_runs for group in chain(*groups)):
        yield option_problem(
            "--contrasts",
            f"no requested contrast is computed for any participant. {lost[0].why}",
            "Correct the cause, or add `defaults` to map the runs one by one.",
        )


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
