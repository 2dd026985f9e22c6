"""High-resolution references that cannot be used, and plans without them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.io.notices import Notice
from bids_sr.survey.bids import BoldRun, Findings, Subject
from bids_sr.survey.preflight.plan import Plan


def drop_unfit_references(
    plan: Plan, problems: Sequence[Notice]
) -> tuple[Plan, tuple[Notice, ...]]:
    """Drop automatically found references whose voxels do not match the run.

    The warnings of the returned plan mention the dropped references. The returned problems do not
    concern such references.
    """
    problem_by_file = {
        (Path(problem.what), problem.subject, problem.run): problem for problem in problems
    }
    findings = Findings()
    subjects = []
    dropped = set[Notice]()
    for subject in plan.subjects:
        runs = []
        for run in subject.runs:
            problem = _find_reference_problem(run, subject.label, problem_by_file)
            if problem is None:
                runs.append(run)
                continue
            dropped.add(problem)
            runs.append(replace(run, truth=None))
            with findings.about(run.entities["subject"], run.stem):
                findings.note(
                    problem.what,
                    f"this high-resolution reference cannot be used for {run.stem}:"
                    f" {problem.why}. {problem.remedy}",
                )
        subjects.append(replace(subject, runs=tuple(runs)))
    if not dropped:
        return plan, tuple(problems)
    warnings = (*_select_warnings(plan.warnings, subjects), *findings.notices)
    remaining_problems = tuple(problem for problem in problems if problem not in dropped)
    return replace(plan, subjects=tuple(subjects), warnings=warnings), remaining_problems


def _find_reference_problem(
    run: BoldRun, label: str, problem_by_file: Mapping[tuple[Path, str, str], Notice]
) -> Notice | None:
    """Return the problem of a run's measured reference, or None if it has none.

    `problem_by_file` maps file, participant and run, "" for all runs of the participant.
    """
    if run.truth is None or run.truth.series is None:
        return None
    path = run.truth.series.bold
    return problem_by_file.get((path, label, run.stem)) or problem_by_file.get((path, label, ""))


def _select_warnings(warnings: Sequence[Notice], subjects: Sequence[Subject]) -> list[Notice]:
    """Return the warnings without notices of reference directories that no run uses."""
    used_roots = {
        str(run.truth.root)
        for subject in subjects
        for run in subject.runs
        if run.truth is not None
    }
    return [
        notice for notice in warnings if notice.code != "reference" or notice.what in used_roots
    ]
