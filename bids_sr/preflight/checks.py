"""Preflight of BOLD runs and of structural scans: one pass over what headers and tables tell."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.bids import (
    Findings,
    Header,
    Subject,
    Survey,
    entities_of,
    pretrained_for,
    survey,
    survey_structural,
)
from bids_sr.bids.inputs import series_of_run
from bids_sr.bids.pairs import as_downsampled, tell_retrospective
from bids_sr.config import Settings, machine
from bids_sr.config.seed_options import COMPONENTS, seed_names, seeds_of
from bids_sr.glm.contrasts import Contrast
from bids_sr.notices import Notice
from bids_sr.preflight import directories, events
from bids_sr.preflight.compared_series import with_compared
from bids_sr.preflight.estimates import check_memory, estimate
from bids_sr.preflight.kspace import warn_of_header
from bids_sr.preflight.method_checks import check_card, check_methods, tell_recipe
from bids_sr.preflight.output_spaces import check_spaces
from bids_sr.preflight.plan import Estimate, Plan, exclude, files_of
from bids_sr.preflight.validator import validate


def check(settings: Settings) -> Plan:
    """Plan a call and collect every problem; reads headers, sidecars and tables only.

    Nothing is written but a template that is asked for and not here, into TemplateFlow's folder,
    and not by a dry run.
    """
    found = Findings()
    directories.check_places(settings, found)
    places = {str(settings.paths.output_dir), str(settings.paths.work_dir)}
    # said before the data set is indexed
    if any(problem.what in places for problem in found.problems):
        return Plan(problems=tuple(found.problems))
    if settings.superres.target == "anat":
        return _check_structural(settings, found)
    surveyed = survey(settings)
    _warn_of_missing_events(surveyed, settings, found)
    found.add_all(surveyed)
    tell_recipe(settings.superres, found)
    resources, processors = settings.resources, machine.processors()
    if resources.use_plugin is None and (resources.nprocs or 0) > processors:
        text = f"this machine or job has {processors} processors: more take memory and no time."
        found.tell(f"--nprocs {resources.nprocs}", text)
    types = {}  # of each run whose table is sound, in the order that the data set shares
    lengths = {run.bold: run.duration for one in surveyed.subjects for run in one.runs}
    for run in (run for one in surveyed.subjects for run in one.runs):
        with found.about(run.entities["subject"], run.stem):
            for series in filter(None, (run, run.calibration)):
                warn_of_header(series, found)
    for name, (bold, table) in surveyed.chosen.items():
        if table is None:
            continue
        named = entities_of(bold)
        with found.about(named["subject"], name, code="events"):
            names = events.check_events(table, bold, lengths.get(bold), found)
        if names:
            order = surveyed.type_order.get(named.get("task", ""), ())
            types[bold] = events.ordered(names, order)
    seeds = _seeds_of_runs(surveyed, settings, found)
    asked: Sequence[str | tuple[str, Contrast]] = settings.activation.contrasts
    nuisance: list[str] | None = None
    if settings.activation.stats_model is not None:
        from bids_sr.preflight.stats_model import read_model

        of_model, nuisance = read_model(settings.activation.stats_model, types, found)
        asked = (*of_model, *asked)
    contrasts = events.contrasts_of_runs(types, asked, found) | {
        bold: {name: {name: 1.0} for name in names} for bold, names in seeds.items()
    }
    types |= seeds
    for run in (
        run
        for one in as_downsampled(surveyed.subjects, settings)
        for run in one.runs
        if run.bold in types
    ):
        with found.about(run.entities["subject"], run.stem, code="events"):
            if not (
                events.is_long_enough(run, len(types[run.bold]), settings, found)
                and events.is_estimable(run, contrasts.get(run.bold, {}), settings, found)
            ):
                del types[run.bold]  # its blocks are not worth the time
    with found.about(code="method"):
        check_methods(settings, as_downsampled(surveyed.subjects, settings), found)
    _check_beside(settings, surveyed, found)
    subjects = tuple(
        one for one in surveyed.subjects if any(run.bold in contrasts for run in one.runs)
    )
    subjects = with_compared(subjects, settings, found)
    left_out: dict[str, tuple[Notice, ...]] = {}
    if not settings.run.strict:
        subjects, left_out, problems = exclude(found.problems, surveyed.chosen, subjects)
        found = Findings(problems=list(problems), notices=found.notices)
    plan = Plan(
        subjects=subjects,
        contrasts=contrasts,
        type_order=surveyed.type_order,
        left_out=left_out,
        sources=surveyed.sources,
        nuisance=nuisance,
    )
    return _costed(plan, frozenset(types), settings, found)


def _check_beside(settings: Settings, surveyed: Survey, found: Findings) -> None:
    """Check by the validator what was chosen, and spaces and regions that were asked for."""
    subjects = surveyed.subjects
    labels = {one.label for one in subjects if one.structural}
    labels |= {entities_of(bold)["subject"] for bold, _ in surveyed.chosen.values()}
    if labels and not settings.selection.skip_bids_validation:
        with found.about(code="validator"):
            validate(settings.paths.bids_dir.absolute(), labels, surveyed.chosen, found)
    without_anat = [one.label for one in subjects if not (one.t1w or one.structural)]
    with found.about(code="space"):
        check_spaces(
            settings, found, labels=[one.label for one in subjects], without_anat=without_anat
        )
        directories.check_region(settings, found)


def _warn_of_missing_events(surveyed: Survey, settings: Settings, found: Findings) -> None:
    """Warn of task runs without events.

    They would be mapped as resting-state runs without notice; BIDS identifies rest by the label.
    """
    asked = "events" not in settings.preprocessing.ignore
    for name, (bold, table) in surveyed.chosen.items() if asked else ():
        if table is None and "rest" not in entities_of(bold).get("task", "rest").lower():
            text = (
                f"there is no {name}_events.tsv: this run is mapped as rest, by the connectivity"
                " of seeds. For maps of the task add the table and run again; --ignore events"
                " says that this is meant."
            )
            with found.about(entities_of(bold)["subject"], name, code="events"):
                found.warn(bold, text)


def _seeds_of_runs(
    surveyed: Survey, settings: Settings, found: Findings
) -> dict[Path, tuple[str, ...]]:
    """Names of the seeds of each run without events."""
    named, found_in = settings.activation.seeds, {}
    for subject in surveyed.subjects:
        names = seed_names(
            seeds_of(named, with_anat=bool(subject.t1w), atlas=settings.activation.atlas)
        )
        rest = [run for run in subject.runs if run.events is None]
        found_in.update(dict.fromkeys((run.bold for run in rest), names))
        if rest and not subject.t1w and named != (COMPONENTS,):
            text = (
                "without a T1w image the seeds cannot be located; the leading temporal components"
                " are used instead."
            )
            with found.about(subject.label):
                found.tell(f"sub-{subject.label}", text)
    return found_in


def _costed(plan: Plan, sound: frozenset[Path], settings: Settings, found: Findings) -> Plan:
    """Return the plan with series and cost of the remaining runs.

    `sound` are the BOLD files whose tables are valid.
    """
    subjects = as_downsampled(plan.subjects, settings)
    by_run = {
        run.bold: series_of_run(run, settings.superres) for one in subjects for run in one.runs
    }
    made = {name for names in by_run.values() for name in names}
    series = ("raw", *(name for name in settings.superres.series if name in made or not made))
    plan = replace(plan, series=series, series_by_run=by_run)
    cost, unsplit = Estimate(), frozenset[Path]()
    if plan.subjects:
        cost = estimate(replace(plan, subjects=subjects), settings)
        with found.about(code="room"):
            directories.check_room(settings, cost, found)
            check_memory(settings, cost.sizes, settings.resources.mem_gb, found)
    if settings.evaluation.retrospective is not None:
        tell_retrospective(plan.subjects, settings, found)
    else:
        for run in (run for run in plan.runs if run.bold in sound):
            with found.about(run.entities["subject"], run.stem, code="events"):
                if not events.can_be_split(
                    run, settings, found, n_seeds=len(plan.contrasts[run.bold])
                ):
                    unsplit |= {run.bold}
    return replace(
        plan,
        estimate=cost,
        unsplit=unsplit,
        problems=tuple(found.problems),
        warnings=tuple(found.notices),
    )


def without(plan: Plan, problems: Sequence[Notice]) -> Plan:
    """Return the plan without the runs that problems stop.

    The plan itself is returned where problems stop more, or where there are none.
    """
    files = {run.stem: (run.bold, *files_of(run)) for run in plan.runs}
    subjects, left_out, remaining = exclude(problems, files, plan.subjects)
    if remaining or not left_out:
        return plan
    return replace(plan, subjects=subjects, left_out={**plan.left_out, **left_out})


def without_unfit_references(
    plan: Plan, problems: Sequence[Notice]
) -> tuple[Plan, tuple[Notice, ...]]:
    """Drop references found automatically, not named, where their voxels do not fit the run.

    Plan : what was taken is told in its warnings; problems : those that are of no reference.
    """
    unfit = {(Path(problem.what), problem.subject, problem.run): problem for problem in problems}
    found, subjects, taken = Findings(), [], set[Notice]()
    for subject in plan.subjects:
        runs = []
        for run in subject.runs:
            path = run.truth.series.bold if run.truth and run.truth.series else None
            owners = ((subject.label, run.stem), (subject.label, ""))
            why = next(
                (unfit[path, *each] for each in owners if path and (path, *each) in unfit), None
            )
            if path is not None and why is not None:
                taken.add(why)
                with found.about(run.entities["subject"], run.stem):
                    found.tell(
                        path,
                        f"no high-resolution reference of {run.stem}: {why.why}. {why.remedy}",
                    )
                run = replace(run, truth=None)
            runs.append(run)
        subjects.append(replace(subject, runs=tuple(runs)))
    if not taken:
        return plan, tuple(problems)
    used = {str(run.truth.root) for one in subjects for run in one.runs if run.truth is not None}
    known = [
        notice for notice in plan.warnings if notice.code != "reference" or notice.what in used
    ]
    plan = replace(plan, subjects=tuple(subjects), warnings=(*known, *found.notices))
    return plan, tuple(problem for problem in problems if problem not in taken)


def _check_structural(settings: Settings, found: Findings) -> Plan:
    """Plan a call and collect every problem in `found`; reads headers only and writes nothing."""
    surveyed = survey_structural(settings)
    found.add_all(surveyed)
    for name in settings.superres.learned:
        file = pretrained_for(settings.superres, name)
        for subject in surveyed.subjects:
            header = surveyed.headers.get(subject.structural[0].highres)
            if file is not None and header is not None:
                _check_model(settings, subject, header, file, found)
    subjects = surveyed.subjects
    plan = Plan(subjects=subjects, series=("bspline", *settings.superres.chosen))
    cost = estimate(plan, settings)
    if subjects:
        _check_beside(settings, surveyed, found)
        with found.about(code="room"):
            directories.check_room(settings, cost, found)
            check_memory(settings, cost.sizes, settings.resources.mem_gb, found)
    return replace(
        plan, estimate=cost, problems=tuple(found.problems), warnings=tuple(found.notices)
    )


def _check_model(
    settings: Settings, subject: Subject, header: Header, file: Path, found: Findings
) -> None:
    """Return why a model does not serve a participant.

    This is judged from the model card and the header of the scan that is the frame.
    """
    from bids_sr.sr.models.card import ModelError, read_card
    from bids_sr.sr.training.fused import SAME_GRID, joined

    contrasts = [pair.contrast for pair in subject.structural]
    where, superres = f"sub-{subject.label} with --pretrained {file}", settings.superres
    try:
        card = read_card(file)
    except ModelError:
        return  # told by `check_pretrained`
    if (channels := card.channels) != len(contrasts):
        reason = (
            f"the model takes {channels} contrasts ({card.contrast}), there are"
            f" {joined(contrasts)}"
        )
        fix = (
            "Give a model of these contrasts, or leave the file out of --pretrained to train one."
        )
        found.refuse(where, reason, fix)
    else:
        check_card(file, header.affine, joined(contrasts), SAME_GRID, where, found, superres)
