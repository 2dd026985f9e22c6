"""Preflight of BOLD runs and of structural scans: one pass over headers and tables."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bids_sr.bids import (
    Findings,
    Header,
    Subject,
    Survey,
    entities_of,
    input_of_models,
    pretrained_for,
    survey,
    survey_structural,
)
from bids_sr.bids.method_options import series_of_run
from bids_sr.bids.retrospective_plan import as_downsampled, tell_retrospective
from bids_sr.config import Settings, machine
from bids_sr.config.seeds import COMPONENTS, seed_names, seeds_of
from bids_sr.glm.contrasts import Contrast
from bids_sr.notices import Notice
from bids_sr.preflight import confound_checks, directories, events, regions, run_model
from bids_sr.preflight.combined_runs import warn_of_left_out
from bids_sr.preflight.compared_series import with_compared
from bids_sr.preflight.estimates import check_memory, estimate
from bids_sr.preflight.kspace import refuse_phase, warn_of_header
from bids_sr.preflight.method_checks import (
    check_card,
    check_methods,
    tell_missing_features,
    tell_recipe,
    tell_vgg19,
)
from bids_sr.preflight.output_spaces import check_spaces
from bids_sr.preflight.overlap_checks import check_overlap
from bids_sr.preflight.plan import Estimate, Plan, exclude, files_of
from bids_sr.preflight.reference_checks import tell_unused_reference
from bids_sr.preflight.structural_checks import (
    check_lesion_references,
    check_lesion_template,
    check_tools,
)
from bids_sr.preflight.validator import validate
from bids_sr.series import series_names


def check(settings: Settings) -> Plan:
    """Plan a call and collect every problem; reads headers, sidecars and tables only.

    Nothing is written but a template that is asked for and not here, into TemplateFlow's folder,
    and not by a dry run.
    """
    findings = Findings()
    directories.check_places(settings, findings)
    places = {str(settings.paths.output_dir), str(settings.paths.work_dir)}
    # said before the data set is indexed
    if any(problem.what in places for problem in findings.problems):
        return Plan(problems=tuple(findings.problems))
    if settings.superres.target == "anat":
        return _check_structural(settings, findings)
    surveyed = survey(settings)
    _warn_of_missing_events(surveyed, settings, findings)
    findings.add_all(surveyed)
    tell_recipe(settings.superres, findings)
    tell_vgg19(settings.superres, findings)
    tell_missing_features(settings.superres, findings)
    resources, processors = settings.resources, machine.processors()
    if resources.use_plugin is None and (resources.nprocs or 0) > processors:
        text = (
            f"this machine or job has {processors} processors, so more processes increase memory"
            " usage without reducing the processing time."
        )
        findings.tell(f"--nprocs {resources.nprocs}", text)
    types = {}  # of each run whose table is sound, in the order that the data set shares
    lengths = {run.bold: run.duration for one in surveyed.subjects for run in one.runs}
    for run in (run for one in surveyed.subjects for run in one.runs):
        with findings.about(run.entities["subject"], run.stem):
            for series in filter(None, (run, run.calibration)):
                refuse_phase(series, findings)
                warn_of_header(series, findings)
    for name, (bold, table) in surveyed.chosen.items():
        if table is None:
            continue
        named = entities_of(bold)
        with findings.about(named["subject"], name, code="events"):
            names = events.check_events(table, bold, lengths.get(bold), findings)
        if names:
            order = surveyed.type_order.get(named.get("task", ""), ())
            types[bold] = events.ordered(names, order)
    events.warn_of_alike_types(types, findings)
    seeds = _seeds_of_runs(surveyed, settings, findings)
    asked: Sequence[str | tuple[str, Contrast]] = settings.activation.contrasts
    of_model_confounds: list[str] | None = None
    if settings.activation.stats_model is not None:
        from bids_sr.preflight.stats_model import read_model

        of_model, of_model_confounds = read_model(settings.activation.stats_model, types, findings)
        asked = (*of_model, *asked)
    nuisance = confound_checks.chosen_confounds(settings, of_model_confounds, findings)
    of_events = run_model.contrasts_of_runs(types, asked, findings)
    check_overlap(settings, of_events, findings)
    contrasts = of_events | {
        bold: {name: {name: 1.0} for name in names} for bold, names in seeds.items()
    }
    types |= seeds
    for run in (
        run
        for one in as_downsampled(surveyed.subjects, settings)
        for run in one.runs
        if run.bold in types
    ):
        with findings.about(run.entities["subject"], run.stem, code="events"):
            run_model.tell_nyquist(run, settings, findings)
            if not (
                confound_checks.are_usable(run, nuisance, findings)
                and run_model.is_long_enough(
                    run,
                    len(types[run.bold]),
                    settings,
                    findings,
                    n_confounds=confound_checks.count_confounds(run, nuisance),
                )
                and run_model.is_estimable(run, contrasts.get(run.bold, {}), settings, findings)
            ):
                del types[run.bold]  # its blocks are not worth the time
    with findings.about(code="method"):
        check_methods(settings, as_downsampled(surveyed.subjects, settings), findings)
    _check_beside(settings, surveyed, findings)
    tell_unused_reference(settings, surveyed.subjects, findings)
    subjects = tuple(
        one for one in surveyed.subjects if any(run.bold in contrasts for run in one.runs)
    )
    subjects = with_compared(subjects, settings, findings)
    left_out: dict[str, tuple[Notice, ...]] = {}
    if not settings.run.strict:
        subjects, left_out, problems = exclude(findings.problems, surveyed.chosen, subjects)
        findings = Findings(problems=list(problems), notices=findings.notices)
    plan = Plan(
        subjects=subjects,
        contrasts=contrasts,
        type_order=surveyed.type_order,
        left_out=left_out,
        sources=surveyed.sources,
        nuisance=nuisance,
    )
    return _costed(plan, frozenset(types), settings, findings)


def _check_beside(settings: Settings, surveyed: Survey, findings: Findings) -> None:
    """Check by the validator what was chosen, and spaces and regions that were asked for."""
    subjects = surveyed.subjects
    labels = {one.label for one in subjects if one.has_scans}
    labels |= {entities_of(bold)["subject"] for bold, _ in surveyed.chosen.values()}
    if labels and not settings.selection.skip_bids_validation:
        with findings.about(code="validator"):
            validate(settings.paths.bids_dir.absolute(), labels, surveyed.chosen, findings)
    without_anat = [one.label for one in subjects if not (one.t1w or one.has_scans)]
    with findings.about(code="space"):
        check_spaces(
            settings, findings, labels=[one.label for one in subjects], without_anat=without_anat
        )
        regions.check_region(settings, findings)


def is_rest(task: str) -> bool:
    """Return whether a task label says rest: a word of it, in camel case, and not a part of one.

    Examples
    --------
    >>> [is_rest(label) for label in ("rest", "restingstate", "preRest", "forest", "restaurant")]
    [True, True, True, False, False]
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", task)
    return any(
        re.fullmatch(r"rest(ing)?(state)?|resteyes(open|closed)?|rs|rsfmri", word.lower())
        for word in words
    )


def _warn_of_missing_events(surveyed: Survey, settings: Settings, findings: Findings) -> None:
    """Warn of task runs without events.

    They would be mapped as resting-state runs without notice; BIDS identifies rest by the label.
    """
    asked = "events" not in settings.preprocessing.ignore
    for name, (bold, table) in surveyed.chosen.items() if asked else ():
        if table is None and not is_rest(entities_of(bold).get("task", "rest")):
            text = (
                f"{name}_events.tsv was not found, so the run is analyzed as resting state"
                " (seed-based connectivity). To map task activation, add the events table and"
                " run the program again. If the run is a resting-state run, use --ignore events."
            )
            with findings.about(entities_of(bold)["subject"], name, code="events"):
                findings.warn(bold, text)


def _seeds_of_runs(
    surveyed: Survey, settings: Settings, findings: Findings
) -> dict[Path, tuple[str, ...]]:
    """Names of the seeds of each run without events."""
    named = settings.activation.seeds
    found_in = {}
    for subject in surveyed.subjects:
        names = seed_names(
            seeds_of(named, with_anat=bool(subject.t1w), atlas=settings.activation.atlas)
        )
        rest = [run for run in subject.runs if run.events is None]
        found_in.update(dict.fromkeys((run.bold for run in rest), names))
        if rest and not subject.t1w and named != (COMPONENTS,):
            text = (
                "no T1w image was found, so the seed regions cannot be located. Seeds are the"
                " leading temporal components of the run instead."
            )
            with findings.about(subject.label):
                findings.tell(f"sub-{subject.label}", text)
    return found_in


def _costed(plan: Plan, sound: frozenset[Path], settings: Settings, findings: Findings) -> Plan:
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
    cost = Estimate()
    unsplit = frozenset[Path]()
    if plan.subjects:
        cost = estimate(replace(plan, subjects=subjects), settings)
        with findings.about(code="room"):
            directories.check_room(settings, cost, findings)
            check_memory(settings, cost.sizes, settings.resources.mem_gb, findings)
    if "glm" in settings.activation.kinds:
        for subject in plan.subjects:
            warn_of_left_out(subject.runs, plan, series_names(settings.superres.methods), findings)
    if settings.evaluation.retrospective is not None:
        tell_retrospective(plan.subjects, settings, findings)
    else:
        for run in (run for run in plan.runs if run.bold in sound):
            with findings.about(run.entities["subject"], run.stem, code="events"):
                if not run_model.can_be_split(
                    run, settings, findings, n_seeds=len(plan.contrasts[run.bold])
                ):
                    unsplit |= {run.bold}
                other = run.another
                if (
                    other is not None
                    and other.events is not None
                    and not run_model.can_be_split(other, settings, findings)
                ):
                    unsplit |= {other.bold}
    return replace(
        plan,
        estimate=cost,
        unsplit=unsplit,
        problems=tuple(findings.problems),
        warnings=tuple(findings.notices),
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

    Returns the plan, whose warnings tell what was taken, and problems that are of no reference.
    """
    unfit = {(Path(problem.what), problem.subject, problem.run): problem for problem in problems}
    findings = Findings()
    subjects = []
    seen = set[Notice]()
    for subject in plan.subjects:
        runs = []
        for run in subject.runs:
            path = run.truth.series.bold if run.truth and run.truth.series else None
            owners = ((subject.label, run.stem), (subject.label, ""))
            why = next(
                (unfit[path, *each] for each in owners if path and (path, *each) in unfit), None
            )
            if path is not None and why is not None:
                seen.add(why)
                with findings.about(run.entities["subject"], run.stem):
                    findings.tell(
                        path,
                        f"this high-resolution reference cannot be used for {run.stem}:"
                        f" {why.why}. {why.remedy}",
                    )
                run = replace(run, truth=None)
            runs.append(run)
        subjects.append(replace(subject, runs=tuple(runs)))
    if not seen:
        return plan, tuple(problems)
    used = {str(run.truth.root) for one in subjects for run in one.runs if run.truth is not None}
    known = [
        notice for notice in plan.warnings if notice.code != "reference" or notice.what in used
    ]
    plan = replace(plan, subjects=tuple(subjects), warnings=(*known, *findings.notices))
    return plan, tuple(problem for problem in problems if problem not in seen)


def _check_structural(settings: Settings, findings: Findings) -> Plan:
    """Plan a call and collect all problems in `findings`; reads headers only, writes nothing."""
    surveyed = survey_structural(settings)
    findings.add_all(surveyed)
    tell_missing_features(settings.superres, findings)
    for name in settings.superres.learned:
        file = pretrained_for(settings.superres, name)
        for subject in surveyed.subjects:
            if file is not None and subject.lowres:
                _check_model_of_lowres(settings, subject, file, findings)
            if not subject.structural:
                continue
            header = surveyed.headers.get(subject.structural[0].highres)
            if file is not None and header is not None:
                _check_model(settings, subject, header, file, findings)
    subjects = surveyed.subjects
    check_tools(settings, findings)
    check_lesion_template(settings, subjects, findings)
    check_lesion_references(settings, subjects, findings)
    plan = Plan(subjects=subjects, series=("bspline", *settings.superres.chosen))
    cost = estimate(plan, settings)
    if subjects:
        _check_beside(settings, surveyed, findings)
        with findings.about(code="room"):
            directories.check_room(settings, cost, findings)
            check_memory(settings, cost.sizes, settings.resources.mem_gb, findings)
    return replace(
        plan, estimate=cost, problems=tuple(findings.problems), warnings=tuple(findings.notices)
    )


def _check_model(
    settings: Settings, subject: Subject, header: Header, file: Path, findings: Findings
) -> None:
    """Return why a model does not serve a participant.

    This is judged from the model card and the header of the scan that is the frame.
    """
    from bids_sr.sr.models.card import ModelError, read_card
    from bids_sr.sr.training.fused import SAME_GRID, joined

    contrasts = [pair.contrast for pair in subject.structural]
    where = f"sub-{subject.label} with --pretrained {file}"
    superres = settings.superres
    try:
        card = read_card(file)
    except ModelError:
        return  # told by `check_pretrained`
    if (channels := card.channels) != len(contrasts):
        reason = (
            f"the number of contrasts required by the model is {channels} ({card.contrast}), but"
            f" the participant has {joined(contrasts)}"
        )
        fix = (
            "Use a model that was trained on these contrasts, or omit --pretrained to train a"
            " new model."
        )
        findings.refuse(where, reason, fix)
    else:
        check_card(file, header.affine, joined(contrasts), SAME_GRID, where, findings, superres)


def _check_model_of_lowres(
    settings: Settings, subject: Subject, file: Path, findings: Findings
) -> None:
    """Refuse a model that does not serve the grid of low-resolution scans.

    The grid and the contrasts are those of the first model, so only alignment, intensities and
    further models can differ.
    """
    from bids_sr.sr.training.fused import SAME_GRID, joined

    given = input_of_models(settings.superres)
    assert given is not None, "low-resolution scans can only be processed with pretrained models"
    x, y, z = given.mm
    across = ("R-L", "P-A", "I-S").index(given.orientation)
    axes = [axis for axis in range(3) if axis != across] + [across]
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, axes] * (x, y, z)
    where = f"sub-{subject.label} with --pretrained {file}"
    contrasts = joined(given.contrasts)
    check_card(file, affine, contrasts, SAME_GRID, where, findings, settings.superres)
