"""Results of preflight: the plan of a call, problems, excluded runs and cost."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from bids_sr.bids import BoldRun, Subject, entities_of
from bids_sr.bids.entities import stem_of_echoes
from bids_sr.bids.findings import grouped
from bids_sr.bids.precomputed import DerivativeFolder
from bids_sr.config.memory import Sizes
from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import Contrasts
from bids_sr.notices import Notice


@frozen
class StageCost:
    """Cost of a stage over all runs: processor minutes and peak memory (GB)."""

    stage: str
    minutes: float
    memory_gb: float


@frozen
class Estimate:
    """Cost of a call; `cli.progress` adds the time, which is declared by the steps.

    Attributes
    ----------
    minutes : float
        Wall-clock time on idle processors of 2024.
    processors : float
        Average number of busy processors.
    memory_gb : float
        Peak of all processes.
    sizes : Sizes
        Largest images, which determine the memory.
    work_gb, output_gb : float
        Disk space for intermediate files and for results.
    rows : tuple of StageCost
        Cost by stage.
    """

    minutes: float = 0.0
    processors: float = 1.0
    memory_gb: float = 0.0
    sizes: Sizes = field(default_factory=Sizes)
    work_gb: float = 0.0
    output_gb: float = 0.0
    rows: tuple[StageCost, ...] = ()


@frozen
class Plan:
    """Plan of a call.

    Attributes
    ----------
    problems : tuple of Notice
        Reasons why the call cannot start.
    warnings : tuple of Notice
        Warnings and notes about unexpected processing, for the terminal and the report.
    series : tuple of str
        Series that are computed.
    contrasts : mapping
        BOLD file → contrast name → trial type → weight.
    series_by_run : mapping
        BOLD file → series of this run. Runs that are not included have all `series`.
    unsplit : frozenset of Path
        BOLD files of runs with too few blocks for split halves.
    left_out : mapping
        Name of a skipped run → reasons.
    type_order : mapping
        Task → trial types in the order that determines the sign of default contrasts.
    sources : tuple of DerivativeFolder
        Directories of ``--derivatives``.
    nuisance : list of str or None
        Columns of the confounds in the linear models. If None, motion and aCompCor are used.
    """

    subjects: tuple[Subject, ...] = ()
    problems: tuple[Notice, ...] = ()
    warnings: tuple[Notice, ...] = ()
    estimate: Estimate = field(default_factory=Estimate)
    series: tuple[str, ...] = ("raw",)
    contrasts: Mapping[Path, Contrasts] = field(default_factory=dict)
    series_by_run: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)
    unsplit: frozenset[Path] = frozenset()
    left_out: Mapping[str, tuple[Notice, ...]] = field(default_factory=dict)
    type_order: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sources: tuple[DerivativeFolder, ...] = ()
    nuisance: list[str] | None = None

    @property
    def runs(self) -> tuple[BoldRun, ...]:
        """Runs of all participants."""
        return tuple(run for subject in self.subjects for run in subject.runs)

    def series_of(self, run: BoldRun) -> tuple[str, ...]:
        """Return the series of a run."""
        return self.series_by_run.get(run.bold, self.series)


def _stopped_by(problem: Notice, files: Mapping[str, Sequence[Path | None]]) -> Collection[str]:
    """Return the names of the runs that a problem stops; empty if it stops the whole call.

    A problem of a run stops this run (known by the problem's run name if it could not be opened).
    A problem of a participant stops the runs that use the file, or else all runs of the
    participant. All other problems stop the whole call.
    """
    if not problem.subject or problem.code == "option":
        return ()
    series = {name: bold for name, (bold, *_) in files.items() if bold is not None}
    if problem.run:
        names = [
            name for name, bold in series.items() if problem.run in (name, stem_of_echoes(bold))
        ]
        return names or [problem.run]
    subject_runs = [
        name for name, bold in series.items() if entities_of(bold)["subject"] == problem.subject
    ]
    return [name for name in subject_runs if Path(problem.what) in files[name]] or subject_runs


def files_of(run: BoldRun) -> set[Path | None]:
    """Return all files of a run: events, echoes, reference, calibration, pairs and brain mask.

    The set contains None if events or mask are missing.
    """
    pairs = [pair for pair in (run.pair, run.holdout) if pair is not None]
    activations = {} if run.truth is None else run.truth.activations
    mask = None if run.precomputed is None else run.precomputed.mask
    pair_images = (path for pair in pairs for path in pair.images)
    return {run.events, *run.images, *pair_images, *activations.values(), mask}


def exclude(
    problems: Sequence[Notice],
    files: Mapping[str, Sequence[Path | None]],
    subjects: Sequence[Subject],
) -> tuple[tuple[Subject, ...], dict[str, tuple[Notice, ...]], tuple[Notice, ...]]:
    """Exclude the runs that problems stop.

    Parameters
    ----------
    files : mapping
        Name of a run → its BOLD file and further files, for all selected runs.
    subjects : sequence of Subject
        Participants with the runs that are valid so far.

    Returns
    -------
    subjects : tuple of Subject
        Participants with the remaining runs.
    left_out : dict
        Name of a run → problems that stop it, sorted by name.
    problems : tuple of Notice
        Problems that stop the whole call. If no run remains, all problems are returned.
    """
    stopped: dict[str, tuple[Notice, ...]] = {}
    call_problems = []
    for problem in problems:
        run_names = _stopped_by(problem, files)
        if not run_names:
            call_problems.append(problem)
        for name in run_names:
            stopped[name] = (*stopped.get(name, ()), problem)
    remaining = tuple(
        replace(subject, runs=tuple(run for run in subject.runs if run.stem not in stopped))
        for subject in subjects
    )
    remaining = tuple(subject for subject in remaining if subject.runs)
    if call_problems or not remaining:
        return tuple(subjects), {}, tuple(problems)
    return remaining, dict(sorted(stopped.items())), ()


def left_out_text(left_out: Mapping[str, Sequence[Notice]]) -> list[str]:
    """Return the skipped runs with reason and remedy; runs with equal reasons are grouped."""
    by_problem: dict[Notice, list[str]] = {}
    for run, problems in left_out.items():
        for problem in problems:
            by_problem.setdefault(problem.of_all(), []).append(run)
    by_runs: dict[tuple[str, ...], list[Notice]] = {}
    for problem, names in by_problem.items():
        by_runs.setdefault(tuple(names), []).append(problem)
    return [
        f"skipped: {', '.join(runs)}\n  file: {problem.what}\n  why: {problem.why}\n  fix:"
        f" {problem.remedy}"
        for runs, problems in by_runs.items()
        for problem in grouped(problems)
    ]
