"""High-resolution references that cannot be used, and plans without them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.bids import Findings
from bids_sr.notices import Notice
from bids_sr.preflight.plan import Plan


def drop_unfit_references(
    plan: Plan, problems: Sequence[Notice]
) -> tuple[Plan, tuple[Notice, ...]]:
    """Drop automatically found references whose voxels do not match the run.

    Returns
    -------
    plan : Plan
        Plan whose warnings mention the dropped references.
    problems : tuple of Notice
        Problems that do not concern such references.
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
            path = run.truth.series.bold if run.truth and run.truth.series else None
            problem = None
            if path is not None:
                # of this run, or of all runs of the participant
                problem = problem_by_file.get((path, subject.label, run.stem)) or (
                    problem_by_file.get((path, subject.label, ""))
                )
            if path is None or problem is None:
                runs.append(run)
                continue
            dropped.add(problem)
            with findings.about(run.entities["subject"], run.stem):
                findings.note(
                    path,
                    f"this high-resolution reference cannot be used for {run.stem}:"
                    f" {problem.why}. {problem.remedy}",
                )
            runs.append(replace(run, truth=None))
        subjects.append(replace(subject, runs=tuple(runs)))
    if not dropped:
        return plan, tuple(problems)
    used_roots = {
        str(run.truth.root)
        for subject in subjects
        for run in subject.runs
        if run.truth is not None
    }
    notices = [
        notice
        for notice in plan.warnings
        if notice.code != "reference" or notice.what in used_roots
    ]
    plan = replace(plan, subjects=tuple(subjects), warnings=(*notices, *findings.notices))
    return plan, tuple(problem for problem in problems if problem not in dropped)
