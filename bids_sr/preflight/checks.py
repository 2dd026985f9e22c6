"""The one pass over everything that headers and tables tell, before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bids_sr.bids import Notice, Problem, Subject, Survey, needs_pair, survey
from bids_sr.bids.grid_sizes import sizes_of
from bids_sr.bids.retrospective_plan import foreseen, notices_of
from bids_sr.config import Settings
from bids_sr.preflight import directories, events
from bids_sr.preflight.block_checks import check_blocks
from bids_sr.preflight.design_checks import check_design
from bids_sr.preflight.estimates import estimate
from bids_sr.preflight.method_checks import check_methods, notices_of_recipe
from bids_sr.preflight.plan import Estimate, Plan
from bids_sr.preflight.resource_checks import check_memory
from bids_sr.preflight.structural_plan import check_structural
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
    found = survey(settings)
    problems = [*directories.check_places(settings), *found.problems]
    notices = [*found.notices, *notices_of_recipe(settings.superres)]
    types = _check_tables(found, problems, notices)
    contrasts, wrong, told = events.contrasts_of_runs(types, settings.activation.contrasts)
    problems += wrong
    notices += told
    retrospective = settings.evaluation.retrospective is not None
    worked_on = tuple(foreseen(subject, settings) if retrospective else subject for subject in found.subjects)
    for run in (run for subject in worked_on for run in subject.runs if run.bold in types):
        unsound = events.check_length(run, len(types[run.bold]), settings)
        unsound = unsound or check_design(run, contrasts.get(run.bold, {}), settings)
        problems += unsound
        if unsound:
            del types[run.bold]  # its blocks are not worth the time
    subjects = tuple(subject for subject in found.subjects if any(run.bold in contrasts for run in subject.runs))
    problems += check_methods(settings, worked_on)
    series = _series(settings, worked_on, notices)
    plan = Plan(subjects=worked_on, series=series, contrasts=contrasts, type_order=found.type_order)
    cost = estimate(plan, settings) if found.subjects else Estimate()
    if retrospective:
        notices += notices_of(subjects, settings)
    else:
        plan = replace(plan, unsplit=_unsplit(subjects, types, settings, notices))
    plan = replace(plan, subjects=subjects, estimate=cost)
    with_anat = not found.subjects or any(subject.t1w for subject in found.subjects)
    problems += directories.check_templates(settings, with_anat=with_anat)
    if found.subjects:
        problems += directories.check_room(settings, plan.estimate)
        problems += check_memory(settings, sizes_of(worked_on, settings), settings.resources.mem_gb)
    if found.runs and not settings.selection.skip_bids_validation:
        invalid, told = _validated(settings, found, problems)
        problems += invalid
        notices += told
    return replace(plan, problems=tuple(dict.fromkeys(problems)), warnings=tuple(dict.fromkeys(notices)))


def _check_tables(found: Survey, problems: list[Problem], notices: list[Notice]) -> dict[Path, tuple[str, ...]]:
    """Trial types of each run whose table is sound."""
    types = {}
    for run in found.runs:
        table = events.check_events(run)
        problems += table.problems
        notices += table.notices
        if table.types and not table.problems:
            order = found.type_order.get(run.entities.get("task", ""), ())
            types[run.bold] = events.ordered(table.types, order)
    return types


def _unsplit(
    subjects: tuple[Subject, ...], types: Mapping[Path, tuple[str, ...]], settings: Settings, notices: list[Notice]
) -> frozenset[Path]:
    """Runs whose blocks cannot be split; those with an unsound table are refused anyway."""
    unsplit = set()
    for run in (run for subject in subjects for run in subject.runs if run.bold in types):
        splits, told = check_blocks(run, settings)
        notices += told
        if not splits:
            unsplit.add(run.bold)
    return frozenset(unsplit)


def _series(settings: Settings, subjects: tuple[Subject, ...], notices: list[Notice]) -> tuple[str, ...]:
    """Series in the order of computation; guided baselines that no run can have are left out, and that is said."""
    runs = [run for subject in subjects for run in subject.runs]
    wanted = settings.superres.series
    guided = [name for name in wanted if name in PAIR_BASELINES and name not in settings.superres.methods]
    if not guided or not runs or needs_pair(settings.superres):  # a pair that is needed is there, or refused
        return ("raw", *wanted)
    without = [run for run in runs if run.pair is None]
    for run in without:
        text = f"no T2*-weighted pair, so the baselines {' and '.join(guided)} are left out."
        notices.append(Notice(file=str(run.bold), text=text))
    if len(without) == len(runs):
        wanted = tuple(name for name in wanted if name not in guided)
    return ("raw", *wanted)


def _validated(settings: Settings, found: Survey, problems: list[Problem]) -> tuple[list[Problem], list[Notice]]:
    bids_dir = settings.paths.bids_dir.absolute()
    labels = sorted({run.entities["subject"] for run in found.runs})
    known = {Path(problem.file) for problem in problems}
    return validate(bids_dir, labels, known)
