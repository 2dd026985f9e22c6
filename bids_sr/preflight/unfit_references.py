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
    unfit = {(Path(problem.what), problem.subject, problem.run): problem for problem in problems}
    findings = Findings()
    subjects = []
    dropped = set[Notice]()
    for subject in plan.subjects:
        runs = []
        for run in subject.runs:
            path = run.truth.series.bold if run.truth and run.truth.series else None
            owners = ((subject.label, run.stem), (subject.label, ""))
            problem = next(
                (unfit[path, *owner] for owner in owners if path and (path, *owner) in unfit), None
            )
            if path is not None and problem is not None:
                dropped.add(problem)
                with findings.about(run.entities["subject"], run.stem):
                    findings.note(
                        path,
                        f"this high-resolution reference cannot be used for {run.stem}:"
                        f" {problem.why}. {problem.remedy}",
                    )
                run = replace(run, truth=None)
            runs.append(run)
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
