"""Runs that are excluded because of problems."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.io.notices import Notice
from bids_sr.survey.bids.entities import parse_entities, stem_of_echoes
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.notices import group_problems


def list_files(run: BoldRun) -> set[Path | None]:
    """Return all files of a run: events, echoes, reference, calibration, pairs and brain mask.

    The set contains None if events or mask are missing.
    """
    activations = {} if run.truth is None else run.truth.activations
    mask = None if run.precomputed is None else run.precomputed.mask
    pair_images = (
        path for pair in (run.pair, run.holdout) if pair is not None for path in pair.images
    )
    return {run.events, *run.images, *pair_images, *activations.values(), mask}


def exclude(
    problems: Sequence[Notice],
    files: Mapping[str, Sequence[Path | None]],
    subjects: Sequence[Subject],
) -> tuple[tuple[Subject, ...], dict[str, tuple[Notice, ...]], tuple[Notice, ...]]:
    """Exclude the runs that problems stop.

    `files` are the BOLD file and further files by name of the run, for all selected runs.
    `subjects` have the runs that are valid so far.

    Returns the participants with the remaining runs; the problems that stop a run, by name of the
    run, sorted by name; and the problems that stop the whole call. If no run remains, these are
    all problems.
    """
    problems_by_run: dict[str, tuple[Notice, ...]] = {}
    call_problems = []
    for problem in problems:
        run_names = _list_stopped_runs(problem, files)
        if not run_names:
            call_problems.append(problem)
        for name in run_names:
            problems_by_run[name] = (*problems_by_run.get(name, ()), problem)
    remaining_subjects = []
    for subject in subjects:
        runs = tuple(run for run in subject.runs if run.stem not in problems_by_run)
        if runs:
            remaining_subjects.append(replace(subject, runs=runs))
    if call_problems or not remaining_subjects:
        return tuple(subjects), {}, tuple(problems)
    return tuple(remaining_subjects), dict(sorted(problems_by_run.items())), ()


def _list_stopped_runs(
    problem: Notice, files: Mapping[str, Sequence[Path | None]]
) -> Collection[str]:
    """Return the names of the runs that a problem stops; empty if it stops the whole call.

    A problem of a run stops this run (known by the problem's run name if it could not be opened).
    A problem of a participant stops the runs that use the file, or else all runs of the
    participant. All other problems stop the whole call.
    """
    if not problem.subject or problem.code == "option":
        return ()
    series = {name: bold for name, (bold, *_) in files.items() if bold is not None}
    if problem.run:
        return [
            name for name, bold in series.items() if problem.run in (name, stem_of_echoes(bold))
        ] or [problem.run]
    subject_runs = [
        name for name, bold in series.items() if parse_entities(bold)["subject"] == problem.subject
    ]
    return [name for name in subject_runs if Path(problem.what) in files[name]] or subject_runs


def describe_skipped_runs(skipped: Mapping[str, Sequence[Notice]]) -> list[str]:
    """Return the skipped runs with reason and remedy; runs with equal reasons are grouped."""
    runs_by_problem: dict[Notice, list[str]] = {}
    for run, problems in skipped.items():
        for problem in problems:
            runs_by_problem.setdefault(problem.of_all(), []).append(run)
    problems_by_runs: dict[tuple[str, ...], list[Notice]] = {}
    for problem, names in runs_by_problem.items():
        problems_by_runs.setdefault(tuple(names), []).append(problem)
    return [
        f"skipped: {', '.join(names)}\n  file: {problem.what}\n  why: {problem.why}\n  fix:"
        f" {problem.remedy}"
        for names, problems_of_runs in problems_by_runs.items()
        for problem in group_problems(problems_of_runs)
    ]
