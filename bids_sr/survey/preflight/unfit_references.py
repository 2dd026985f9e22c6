"""High-resolution references that are not used, and plans without them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.bids.reference_runs import describe_unusable
from bids_sr.survey.notices import attribute, note
from bids_sr.survey.preflight.plan import Plan


def note_unused_reference(settings: Settings, subjects: Sequence[Subject]) -> Iterator[Notice]:
    """Report known activation that is not used because no linear model is fitted."""
    if "glm" in settings.activation.kinds:
        return
    truths = [run.truth for subject in subjects for run in subject.runs if run.truth is not None]
    for truth in truths:
        if truth.activations and truth.series is None:
            yield note(
                str(truth.root),
                "known activation can only be compared with maps from the linear model, so"
                " accuracy is not measured. Add these maps with"
                " --set 'activation.kinds=[cc, glm]'.",
                code="reference",
            )


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
    subjects, notes = [], list[Notice]()
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
            notes += attribute([describe_unusable(problem, run)], *run.owner)
        subjects.append(replace(subject, runs=tuple(runs)))
    if not dropped:
        return plan, tuple(problems)
    warnings = (*_select_warnings(plan.warnings, subjects), *notes)
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
