"""Results of preflight: the plan of a call, problems, excluded runs and cost."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from bids_sr.bids import BoldRun, Subject, entities_of
from bids_sr.bids.entities import stem_of_echoes
from bids_sr.bids.findings import grouped
from bids_sr.bids.precomputed import Derivatives
from bids_sr.config.memory import Sizes
from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import Contrasts
from bids_sr.notices import Notice


@frozen
class Row:
    """Cost of one stage over all runs: processor minutes and peak memory (GB)."""

    stage: str
    minutes: float
    memory_gb: float


@frozen
class Estimate:
    """Cost of a call; time, on idle processors of 2024, is known with its steps (`cli.progress`).

    `minutes`: wall clock on the processors given, of which `processors` are busy on average.
    `memory_gb`: peak of all processes. `sizes`: of the largest images, which memory follows.
    """

    minutes: float = 0.0
    processors: float = 1.0
    memory_gb: float = 0.0
    sizes: Sizes = field(default_factory=Sizes)
    work_gb: float = 0.0
    output_gb: float = 0.0
    rows: tuple[Row, ...] = ()


@frozen
class Plan:
    """What a call will do.

    `contrasts` are BOLD file → contrast name → trial type → weight; `type_order` is task → trial
    types in the order that decides the sign of default contrasts; `series_by_run` names of a BOLD
    file those of `series` that are made of it, and runs that are not in it have all.

    `problems`: why it cannot start; empty if it can. `warnings`: what is done otherwise than
    expected, for the terminal and the report. `unsplit`: BOLD files of runs with too few blocks
    for split halves. `left_out`: name of a run not worked on → why. `nuisance`: columns of the
    confounds in the linear models; None: motion and aCompCor.
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
    sources: tuple[Derivatives, ...] = ()
    nuisance: list[str] | None = None

    @property
    def runs(self) -> tuple[BoldRun, ...]:
        """Return runs of all participants."""
        return tuple(run for subject in self.subjects for run in subject.runs)

    def series_of(self, run: BoldRun) -> tuple[str, ...]:
        """Return series of one run."""
        return self.series_by_run.get(run.bold, self.series)


def _stopped_by(problem: Notice, files: Mapping[str, Sequence[Path | None]]) -> Collection[str]:
    """Names of the runs that a problem stops; none where it stops the whole call.

    One bad run does not stop the others. A problem of a run stops that run (by the name it has
    where it could not be opened), one of a participant the runs that use the image, else all its
    runs. Everything else stops the whole call.
    """
    if not problem.subject or problem.code == "option":
        return ()
    series = {name: bold for name, (bold, *_) in files.items() if bold is not None}
    if problem.run:
        names = [n for n, bold in series.items() if problem.run in (n, stem_of_echoes(bold))]
        return names or [problem.run]
    own = [n for n, bold in series.items() if entities_of(bold)["subject"] == problem.subject]
    return [name for name in own if Path(problem.what) in files[name]] or own


def files_of(run: BoldRun) -> set[Path | None]:
    """Return a run's files by any name: echoes, reference, calibration, pairs, brain mask.

    Files, with None among them where one is missing.
    """
    pairs = [pair for pair in (run.pair, run.holdout) if pair is not None]
    known = {} if run.truth is None else run.truth.activations
    mask = None if run.precomputed is None else run.precomputed.mask
    of_pairs = (path for pair in pairs for path in pair.images)
    return {run.events, *run.images, *of_pairs, *known.values(), mask}


def exclude(
    problems: Sequence[Notice],
    files: Mapping[str, Sequence[Path | None]],
    subjects: Sequence[Subject],
) -> tuple[tuple[Subject, ...], dict[str, tuple[Notice, ...]], tuple[Notice, ...]]:
    """Exclude the runs that problems stop from all chosen runs.

    The participants hold the runs that are sound so far. Returns participants with what is left;
    name of a run → what stops it, in the order of names; and the problems that stop the whole
    call, or all of them where no run is left.
    """
    stopped: dict[str, tuple[Notice, ...]] = {}
    whole = []
    for problem in problems:
        found = _stopped_by(problem, files)
        if not found:
            whole.append(problem)
        for name in found:
            stopped[name] = (*stopped.get(name, ()), problem)
    left = tuple(
        replace(one, runs=tuple(run for run in one.runs if run.stem not in stopped))
        for one in subjects
    )
    left = tuple(one for one in left if one.runs)
    if whole or not left:
        return tuple(subjects), {}, tuple(problems)
    return left, dict(sorted(stopped.items())), ()


def left_out_text(left_out: Mapping[str, Sequence[Notice]]) -> list[str]:
    """Return a line for each excluded run with reason and fix; shared reasons are given once."""
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
