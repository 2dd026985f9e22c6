"""Metrics of all participants as one long table, and runs of a participant combined, so that it is the unit of tests.

Runs are combined as fixed effects: by inverse variance where every run's value has an interval, else by their mean.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bids_sr.metrics import long_tables
from bids_sr.metrics.long_tables import EVALUATION, MISSING, SERIES
from bids_sr.stats.evaluation.evidence import APPLIED, stands_for

TABLES = ("image", "activation", "evaluation")
_RUN: Mapping[str, dict[str, str]] = {
    "participant": {"Description": "Participant, with sub-"},
    "session": {"Description": "Label of the session; n/a where there are none"},
    "task": {"Description": "Label of the task"},
    "run": {"Description": "Number of the run; n/a where there is one"},
    "variant": {"Description": "Other entities in the name of the run (such as dir-AP); variants are not combined"},
    "table": {"Description": "The participant's table that the row comes from: image, activation or evaluation"},
}
CELLS = tuple(name for name in EVALUATION if name != "n")
COLUMN_TEXT: Mapping[str, dict[str, str]] = {**_RUN, **{name: dict(EVALUATION[name]) for name in CELLS}}
COLUMNS = tuple(COLUMN_TEXT)
_NAME = re.compile(r"(?P<entities>.+)_desc-(?P<table>[a-z]+)_metrics\.tsv")
_Z95 = 1.959963984540054
_CLAIMS = ("claim_total_", "claim_part_")


class Question(NamedTuple):
    """What was measured, apart from the series and the participant."""

    task: str
    variant: str
    table: str
    measure: str
    against: str
    region: str
    contrast: str
    fwhm_mm: float


Values = Mapping[Question, Mapping[str, Mapping[str, float]]]
"""Question, then series, then participant, to the value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One table of one run."""

    path: Path  # the TSV file
    table: str  # image, activation or evaluation
    # participant, session, task, run, variant: of the run, as in the group's table
    participant: str
    session: str
    task: str
    run: str
    variant: str
    # version, digest: of the program and of the settings that decided the values; empty where not recorded
    version: str
    digest: str
    at_rest: bool = False  # seeds took the place of events

    @property
    def where(self) -> tuple[str, str, str, str, str]:
        """The run."""
        return self.participant, self.session, self.task, self.run, self.variant

    @property
    def name(self) -> str:
        """The run as text."""
        named = {"ses-": self.session, "task-": self.task, "run-": self.run, "": self.variant}
        return " ".join([self.participant, *(key + label for key, label in named.items() if label != MISSING)])


@dataclass(frozen=True, kw_only=True, slots=True)
class RunValue:
    """One value of one run, with its interval."""

    source: Source
    question: Question
    series: str
    value: float
    lower: float
    upper: float


def find_sources(output_dir: Path, wanted: Callable[[Source], bool] = lambda _: True) -> list[Source]:
    """All metrics tables of participants below a folder of derivatives, in the order of their names."""
    found = filter(None, map(_source, output_dir.glob("sub-*/**/func/*_metrics.tsv")))
    return sorted(filter(wanted, found), key=lambda each: (each.where, TABLES.index(each.table)))


def _source(path: Path) -> Source | None:
    match = _NAME.fullmatch(path.name)
    if match is None or match["table"] not in TABLES:
        return None
    entities = dict(part.split("-", 1) for part in match["entities"].split("_") if "-" in part)
    own = {key: entities.pop(key, MISSING) for key in ("sub", "ses", "task", "run")}
    beside = path.with_suffix(".json")
    facts = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
    return Source(
        path=path, table=match["table"], participant=f"sub-{own['sub']}", session=own["ses"], task=own["task"],
        run=own["run"], variant="_".join(f"{key}-{value}" for key, value in entities.items()) or MISSING,
        version=str(facts.get("GeneratedByVersion", "")), digest=str(facts.get("SettingsDigest", "")),
        at_rest=facts.get("MappedBy") == "seeds",
    )  # fmt: skip


def read_cells(source: Source) -> pd.DataFrame:
    """One table as text, with the columns `CELLS`; ValueError where it has other columns than it should."""
    table = long_tables.read_cells(source.path, EVALUATION if source.table == "evaluation" else SERIES)
    return table.reindex(columns=list(CELLS), fill_value=MISSING)


def run_values(source: Source, table: pd.DataFrame) -> list[RunValue]:
    """Rows of `read_cells` as numbers; ValueError where a number is none."""
    found = []
    try:
        for at in table.itertuples(index=False):
            value, lower, upper = map(long_tables.parsed_number, (at.value, at.lower, at.upper))
            place = source.task, source.variant, source.table
            question = Question(*place, at.measure, at.against, at.region, at.contrast, float(at.fwhm_mm))
            found.append(
                RunValue(source=source, question=question, series=at.series, value=value, lower=lower, upper=upper)
            )
    except ValueError as error:
        raise ValueError(f"{source.path}: {error}") from error
    return found


def lines_of(source: Source, table: pd.DataFrame) -> Iterable[str]:
    """The rows of one table as lines of the long one."""
    own = "\t".join((*source.where, source.table))
    return (own + "\t" + "\t".join(cells) + "\n" for cells in table.itertuples(index=False, name=None))


def mixed(sources: Sequence[Source]) -> list[str]:
    """What keeps tables from being joined: other versions or settings, named with their files; empty if nothing.

    The most frequent is taken for the rule and the files that differ from it are listed.
    """
    lines = []
    for what, key in (("version of bids-sr", "version"), ("settings", "digest")):
        by_value: dict[str, list[Source]] = {}
        for source in sources:
            by_value.setdefault(getattr(source, key), []).append(source)
        if len(by_value) < 2:
            continue
        rule, *others = sorted(by_value, key=lambda value: (-len(by_value[value]), value))
        known = rule or "not recorded"
        lines.append(f"{what}: {known} in {len(by_value[rule])} tables, such as {by_value[rule][0].path}")
        for value in others:
            shown = ", ".join(str(source.path) for source in by_value[value][:6])
            more = len(by_value[value]) - 6
            lines.append(f"{what}: {value or 'not recorded'} in {shown}" + (f" and {more} more" if more > 0 else ""))
    return lines


def absent(expected: Iterable[str], sources: Sequence[Source]) -> list[str]:
    """Who and what is missing: participants (``sub-…``) without any table, runs without one that others have."""
    present = {source.participant for source in sources}
    lines = [f"{label}: no table of metrics at all" for label in sorted(set(expected) - present)]
    kinds: dict[str, set[str]] = {}
    runs: dict[tuple[str, ...], list[Source]] = {}
    for source in sources:
        kinds.setdefault(source.task, set()).add(source.table)
        runs.setdefault(source.where, []).append(source)
    for own in runs.values():
        lacking = sorted(kinds[own[0].task] - {source.table for source in own}, key=TABLES.index)
        if lacking:
            lines.append(f"{own[0].name}: no table of {' and of '.join(lacking)} metrics")
    nowhere = [name for name in TABLES[1:] if all(source.table != name for source in sources)]
    lines += [f"no run has a table of {name} metrics" for name in nowhere]
    return lines


def absent_runs(stems: Iterable[str], sources: Sequence[Source]) -> list[str]:
    """Runs of the participants that entered, by the names of their series, of which there is no table."""
    people = {source.participant for source in sources}
    known = {frozenset(_entities_of(source.path.name.partition("_desc-")[0]).items()) for source in sources}
    lines = []
    for stem in stems:
        entities = _entities_of(stem)
        if f"sub-{entities.get('sub')}" in people and frozenset(entities.items()) not in known:
            lines.append(f"{stem}: no table (left out or not run, if it is no calibration or reference)")
    return list(dict.fromkeys(lines))


def _entities_of(stem: str) -> dict[str, str]:
    """Entities of a run, whose echoes and parts are one; numbers without leading zeros."""
    pairs = dict(part.split("-", 1) for part in stem.split("_") if "-" in part)
    kept = {key: label for key, label in pairs.items() if key not in ("echo", "part")}
    return kept | {key: kept[key].lstrip("0") or "0" for key in ("run",) if key in kept}


def without_methods(present: Mapping[str, Iterable[str]], methods: Iterable[str]) -> list[str]:
    """Methods that some runs have and others lack, each with the latter; `present` are the series of each run."""
    runs = {run: set(series) for run, series in present.items()}
    lacking = {method: [run for run, own in runs.items() if method not in own] for method in methods}
    return [f"no {method}: {', '.join(names)}" for method, names in lacking.items() if 0 < len(names) < len(runs)]


def combine(values: Iterable[RunValue], wanted: Callable[[str], bool]) -> dict[Question, dict[str, dict[str, float]]]:
    """One value for each participant, series and question of the wanted metrics; runs by fixed effects."""
    runs: dict[tuple[Question, str, str], list[RunValue]] = defaultdict(list)
    for each in values:
        if wanted(each.question.measure):
            runs[each.question, each.series, each.source.participant].append(each)
    out: dict[Question, dict[str, dict[str, float]]] = {}
    for (question, series, participant), own in runs.items():
        out.setdefault(question, {}).setdefault(series, {})[participant] = fixed_effect(own)
    return out


def fixed_effect(runs: Sequence[RunValue]) -> float:
    """Values of several runs as one: weighted by inverse variance where all have an interval, else their mean.

    Runs in which the value is not defined are left out; NaN where it is defined in none.
    """
    known = [each for each in runs if math.isfinite(each.value)]
    if len(known) < 2:
        return known[0].value if known else math.nan
    errors = [(each.upper - each.lower) / (2 * _Z95) for each in known]
    sure = all(math.isfinite(error) and error > 0 for error in errors)
    weights = [1 / error**2 if sure else 1.0 for error in errors]
    return sum(w * each.value for w, each in zip(weights, known, strict=True)) / sum(weights)


@dataclass(slots=True, kw_only=True)
class Joined:
    """What the tables hold together; `add` takes them in the order of participants, `close` ends it."""

    compared: Callable[[str], bool]  # whether a metric is of interest
    # values, claims: combined values of those metrics, and of the attribution of region size
    values: dict[Question, dict[str, dict[str, float]]] = field(default_factory=dict)
    claims: dict[Question, dict[str, dict[str, float]]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)  # by metric, of all metrics
    series: set[str] = field(default_factory=set)  # all that have values
    flags: list[tuple[str, str, str]] = field(default_factory=list)  # those raised: name of the run, series, metric
    # methods that were not applied in a run, which are not compared there: name of the run, method
    idle: list[tuple[str, str]] = field(default_factory=list)
    present: dict[str, set[str]] = field(default_factory=dict)  # series by the name of the run
    _open: list[RunValue] = field(default_factory=list)
    _participant: str = ""

    def add(self, source: Source, table: pd.DataFrame) -> None:
        """Take one table of `read_cells`; those of one participant come together. ValueError where a number is none."""
        if source.participant != self._participant:
            self.close()
            self._participant = source.participant
        self.units |= dict(zip(table["measure"], table["unit"], strict=True))
        self.series |= set(table["series"])
        self.present.setdefault(source.name, set()).update(table["series"])
        kept = {name for name in table["measure"] if self.compared(name) or name.startswith(_CLAIMS)}
        if source.at_rest:  # two seeds are no two conditions, and the paper's regions are no match
            kept = {name for name in kept if not name.startswith("quarter_")}
        self._open += run_values(source, table[table["measure"].isin(kept)])
        for series, measure, value in zip(table["series"], table["measure"], table["value"], strict=True):
            if measure == APPLIED and value == "0":
                self.idle.append((source.name, series))
            if measure.startswith("flag_") and value == "1":
                self.flags.append((source.name, series, measure))

    def close(self) -> None:
        """Combine the runs of the participant that was added last."""
        idle: dict[str, list[str]] = {}
        for run, method in self.idle:
            idle.setdefault(run, []).append(method)
        kept = [
            each
            for each in self._open
            if not any(stands_for(s, idle.get(each.source.name, ())) for s in (each.series, each.question.against))
        ]
        for target, wanted in ((self.values, self.compared), (self.claims, lambda name: name.startswith(_CLAIMS))):
            for question, series in combine(kept, wanted).items():
                for name, people in series.items():
                    target.setdefault(question, {}).setdefault(name, {}).update(people)
        self._open = []
