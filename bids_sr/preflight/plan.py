"""What preflight hands on: the plan of a call, with everything that speaks against it and what it will cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bids_sr.bids import BoldRun, Notice, Problem, Subject


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Cost of one stage of all runs together: minutes of wall clock, peak memory and disk (GB)."""

    stage: str
    minutes: float
    memory_gb: float
    disk_gb: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Cost of a call.

    Attributes
    ----------
    minutes : wall clock on the processors given
    memory_gb : peak of all processes
    work_gb, output_gb : disk in the working and in the output directory
    rows : by stage
    """

    minutes: float = 0.0
    memory_gb: float = 0.0
    work_gb: float = 0.0
    output_gb: float = 0.0
    rows: tuple[Row, ...] = ()

    @property
    def disk_gb(self) -> float:
        """Disk in both directories."""
        return self.work_gb + self.output_gb


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a call will do.

    Attributes
    ----------
    subjects : participants with the runs that are sound
    problems : why it cannot start; empty if it can
    warnings : what is done otherwise than expected, for the terminal and the report
    series : names of all series in the order of computation, ``raw`` first
    contrasts : BOLD file → contrast name → trial type → weight
    series_by_run : BOLD file → those of `series` that are made of it; runs that are not in it have all
    unsplit : BOLD files of the runs that have too few blocks for split halves
    left_out : file name of a run that is not worked on → why
    type_order : task → trial types in the order that decides the sign of default contrasts
    """

    subjects: tuple[Subject, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Notice, ...] = ()
    estimate: Estimate = field(default_factory=Estimate)
    series: tuple[str, ...] = ("raw",)
    contrasts: Mapping[Path, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    series_by_run: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)
    unsplit: frozenset[Path] = frozenset()
    left_out: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    type_order: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def series_of(self, run: BoldRun) -> tuple[str, ...]:
        """Series of one run."""
        return self.series_by_run.get(run.bold, self.series)
