"""The figures of all participants as what is compared, gathered table by table: the tables themselves are not kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bids_sr.stats.evaluation.not_applied import APPLIED, stands_for
from bids_sr.stats.group.metric_tables import Cells, Figure, Question, Source, combine, figure_of

_CLAIMS = ("claim_total_", "claim_part_")


@dataclass(slots=True, kw_only=True)
class Joined:
    """What the tables hold together; `add` takes them in the order of participants, `close` ends it.

    Attributes
    ----------
    compared : whether a measure is of interest
    values, claims : combined figures of those measures, and of the parts of the claim
    units : by measure, of all measures
    series : all that have figures
    flags : those raised: name of the run, series, measure
    idle : methods that were not applied in a run, which are not compared there: name of the run, method
    """

    compared: Callable[[str], bool]
    values: dict[Question, dict[str, dict[str, float]]] = field(default_factory=dict)
    claims: dict[Question, dict[str, dict[str, float]]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    series: set[str] = field(default_factory=set)
    flags: list[tuple[str, str, str]] = field(default_factory=list)
    idle: list[tuple[str, str]] = field(default_factory=list)
    _open: list[Figure] = field(default_factory=list)
    _participant: str = ""
    _wanted: dict[str, bool] = field(default_factory=dict)

    def add(self, source: Source, rows: Sequence[Cells]) -> None:
        """Take one table; those of one participant come together. ValueError where a number is none."""
        if source.participant != self._participant:
            self.close()
            self._participant = source.participant
        for cells in rows:
            name = cells[5]
            if name not in self._wanted:
                self._wanted[name] = self.compared(name) or name.startswith(_CLAIMS)
                self.units[name] = cells[9]
            if self._wanted[name]:
                self._open.append(figure_of(source, cells))
            if name == APPLIED and cells[6] == "0":
                self.idle.append((source.name, cells[0]))
            if name.startswith("flag_") and cells[6] == "1":
                self.flags.append((source.name, cells[0], name))
            self.series.add(cells[0])

    def close(self) -> None:
        """Combine the runs of the participant that was added last."""
        idle: dict[str, list[str]] = {}
        for run, method in self.idle:
            idle.setdefault(run, []).append(method)
        self._open = [each for each in self._open if not _idle(each, idle)] if idle else self._open
        for target, wanted in ((self.values, self.compared), (self.claims, lambda name: name.startswith(_CLAIMS))):
            for question, series in combine(self._open, wanted).items():
                for name, people in series.items():
                    target.setdefault(question, {}).setdefault(name, {}).update(people)
        self._open = []


def _idle(each: Figure, idle: dict[str, list[str]]) -> bool:
    """Whether a figure is of, or against, a method that was not applied in its run."""
    methods = idle.get(each.source.name)
    return methods is not None and any(stands_for(name, methods) for name in (each.series, each.against))
