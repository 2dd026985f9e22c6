"""Preflight of BOLD runs and of structural scans: one pass over what headers and tables tell."""

from dataclasses import replace
from pathlib import Path

from bids_sr.bids import Findings, Header, Subject, Survey, needs_pair, pretrained_for, survey, survey_structural
from bids_sr.bids.headers import sizes_of
from bids_sr.bids.retrospective_plan import foreseen, tell_retrospective
from bids_sr.config import Settings
from bids_sr.preflight import directories, events
from bids_sr.preflight.design_checks import can_be_split, is_estimable
from bids_sr.preflight.estimates import estimate, estimate_structural
from bids_sr.preflight.method_checks import check_card, check_methods, tell_recipe
from bids_sr.preflight.plan import Estimate, Plan
from bids_sr.preflight.resource_checks import check_memory
from bids_sr.preflight.validator import validate
from bids_sr.series import PAIR_BASELINES


def check(settings: Settings) -> Plan:
    """Plan a call and collect every problem; reads headers, sidecars and tables only and writes nothing.

    Returns
    -------
    plan : with `problems` empty if the work can start; the caller prints them all otherwise and ends with code 2
    """
    if settings.superres.target == "anat":
        return check_structural(settings)
    surveyed, found = survey(settings), Findings()
    directories.check_places(settings, found)
    found.add(surveyed.problems, surveyed.notices)
    tell_recipe(settings.superres, found)
    types = _types_of_runs(surveyed, found)
    contrasts = events.contrasts_of_runs(types, settings.activation.contrasts, found)
    retrospective = settings.evaluation.retrospective is not None
    worked_on = tuple(foreseen(one, settings) if retrospective else one for one in surveyed.subjects)
    for run in (run for subject in worked_on for run in subject.runs if run.bold in types):
        if not events.is_long_enough(run, len(types[run.bold]), settings, found) or not is_estimable(
            run, contrasts.get(run.bold, {}), settings, found
        ):
            del types[run.bold]  # its blocks are not worth the time
    subjects = tuple(one for one in surveyed.subjects if any(run.bold in contrasts for run in one.runs))
    check_methods(settings, worked_on, found)
    series = _series(settings, worked_on, found)
    plan = Plan(subjects=worked_on, series=series, contrasts=contrasts, type_order=surveyed.type_order)
    cost = estimate(plan, settings) if surveyed.subjects else Estimate()
    unsplit: frozenset[Path] = frozenset()
    if retrospective:
        tell_retrospective(subjects, settings, found)
    else:
        runs = [run for subject in subjects for run in subject.runs if run.bold in types]
        unsplit = frozenset(run.bold for run in runs if not can_be_split(run, settings, found))
    with_anat = not surveyed.subjects or any(subject.t1w for subject in surveyed.subjects)
    directories.check_templates(settings, found, with_anat=with_anat)
    if surveyed.subjects:
        directories.check_room(settings, cost, found)
        check_memory(settings, sizes_of(worked_on, settings), settings.resources.mem_gb, found)
    if surveyed.runs and not settings.selection.skip_bids_validation:
        validate(settings.paths.bids_dir.absolute(), sorted({r.entities["subject"] for r in surveyed.runs}), found)
    return replace(
        plan, subjects=subjects, estimate=cost, unsplit=unsplit,
        problems=tuple(found.problems), warnings=tuple(found.notices),
    )  # fmt: skip


def check_structural(settings: Settings) -> Plan:
    """Plan a call and collect every problem; reads headers only and writes nothing.

    Returns
    -------
    plan : of participants with `structural` pairs and no runs
    """
    surveyed, found = survey_structural(settings), Findings()
    directories.check_places(settings, found)
    found.add(surveyed.problems, surveyed.notices)
    for name in settings.superres.learned:
        file = pretrained_for(settings.superres, name)
        for subject in surveyed.subjects:
            header = surveyed.headers.get(subject.structural[0].highres)
            if file is not None and header is not None:
                _check_model(settings, subject, header, file, found)
    subjects = surveyed.subjects
    plan = Plan(subjects=subjects, series=("bspline", *settings.superres.methods))
    cost = estimate_structural(plan, settings)
    if subjects:
        directories.check_templates(settings, found, with_anat=True)
        directories.check_room(settings, cost, found)
        check_memory(settings, sizes_of(subjects, settings), settings.resources.mem_gb, found)
        if not settings.selection.skip_bids_validation:
            validate(settings.paths.bids_dir.absolute(), sorted(subject.label for subject in subjects), found)
    return replace(plan, estimate=cost, problems=tuple(found.problems), warnings=tuple(found.notices))


def _check_model(settings: Settings, subject: Subject, header: Header, file: Path, found: Findings) -> None:
    """Why a model does not serve a participant, from its card and the header of the scan that is the frame."""
    from bids_sr.sr.models.compatibility import describe
    from bids_sr.sr.models.model import ModelError, read_card
    from bids_sr.sr.training.fused import SAME_GRID, joined

    contrasts = [pair.contrast for pair in subject.structural]
    where, superres = f"sub-{subject.label} with --pretrained {file}", settings.superres
    try:
        card = read_card(file)
    except ModelError:
        return  # told by `check_pretrained`
    if (channels := card.channels) != len(contrasts):
        reason = f"the model takes {channels} contrasts ({card.contrast}), there are {joined(contrasts)}"
        fix = "Give a model of these contrasts, or leave the file out of --pretrained to train one."
        found.refuse(where, reason, fix)
    else:
        image = describe(header.affine, joined(contrasts), SAME_GRID, superres.anat_align)
        check_card(file, image, where, found, force=superres.force)


def _types_of_runs(surveyed: Survey, found: Findings) -> dict[Path, tuple[str, ...]]:
    """Trial types of each run whose table is sound, in the order that the data set shares."""
    types = {}
    for run in surveyed.runs:
        names = events.check_events(run, found)
        if names:
            types[run.bold] = events.ordered(names, surveyed.type_order.get(run.entities.get("task", ""), ()))
    return types


def _series(settings: Settings, subjects: tuple[Subject, ...], found: Findings) -> tuple[str, ...]:
    """Series in the order of computation; guided baselines that no run can have are left out, and that is said."""
    runs = [run for subject in subjects for run in subject.runs]
    wanted = settings.superres.series
    guided = [name for name in wanted if name in PAIR_BASELINES and name not in settings.superres.methods]
    if not guided or not runs or needs_pair(settings.superres):  # a pair that is needed is there, or refused
        return ("raw", *wanted)
    without = [run for run in runs if run.pair is None]
    for run in without:
        found.tell(run.bold, f"no T2*-weighted pair, so the baselines {' and '.join(guided)} are left out.")
    if len(without) == len(runs):
        wanted = tuple(name for name in wanted if name not in guided)
    return ("raw", *wanted)
