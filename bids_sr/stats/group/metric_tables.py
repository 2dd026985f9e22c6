"""Metrics of all participants as one long table, and runs of a participant combined, so that it is the unit of tests.

Runs are combined as fixed effects: by inverse variance where every run's value has an interval, else by their mean.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TextIO

from bids_sr.frozen import frozen
from bids_sr.metrics import long_tables
from bids_sr.metrics.measure_names import MISSING, against_of, better, measure_of, parts_of
from bids_sr.sr.method import offered_methods
from bids_sr.stats.evaluation.compared_verdict import COMPARED
from bids_sr.stats.evaluation.evidence import APPLIED, stands_for
from bids_sr.stats.group.people_values import People, PeopleValues

TABLES = ("image", "activation", "evaluation")
_RUN: Mapping[str, dict[str, str]] = {
    "participant": {"Description": "Participant, with sub-"},
    "session": {"Description": "Label of the session; n/a where there are none"},
    "task": {"Description": "Label of the task"},
    "run": {"Description": "Number of the run; n/a where there is one"},
    "variant": {"Description": "Other entities in the name of the run (such as dir-AP); variants are not combined"},
    "table": {"Description": "The participant's table that the row comes from: image, activation or evaluation"},
}
CELLS = ("series", "against", "fwhm_mm", "contrast", "region", "measure", "value", "lower", "upper", "unit")
_OLD = {  # TEMPORARY, as the group still works by names of metrics
    "measure": {"Description": "What was measured"},
    "against": {
        "Description": "What it is held against: measured (high-resolution BOLD of the same run), truth (known "
        "activation), self (the other half of the same series), otherRun (another acquired run of the task), or the "
        "series that was subtracted in a difference; n/a where there is nothing of the kind"
    },
}
COLUMN_TEXT: Mapping[str, Mapping[str, object]] = {
    **_RUN,
    **{name: _OLD.get(name) or long_tables.COLUMNS[name] for name in CELLS},
}
COLUMNS = tuple(COLUMN_TEXT)
_Z95 = 1.959963984540054
_COMPARED = ("series", "measure", "against", "region", "contrast", "fwhm_mm", "value", "lower", "upper")


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
Cells = dict[str, list[str]]
"""A table as text, by the columns `CELLS`."""
Bounded = tuple[float, float, float]
"""A value of a run with the ends of its interval; NaN where there are none."""


@frozen
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


class TableError(ValueError):
    """A participant's table that cannot be joined: it has other columns than it should, or a number that is none."""


def entities_of(stem: str) -> dict[str, str]:
    """Entities of a file by their short names, from the part of its name that holds them."""
    return dict(part.split("-", 1) for part in stem.split("_") if "-" in part)


def find_sources(output_dir: Path, wanted: Callable[[Mapping[str, str]], bool] = lambda _: True) -> list[Source]:
    """All metrics tables of participants below a folder of derivatives, in the order of their names.

    Parameters
    ----------
    wanted : told the entities of a run (short names), whether it takes part
    """
    found = []
    for path in output_dir.glob("sub-*/**/func/*_metrics.tsv"):
        stem, _, table = path.name.removesuffix("_metrics.tsv").rpartition("_desc-")
        if table in TABLES and wanted(entities := entities_of(stem)):
            found.append(_source(path, table, entities))
    return sorted(found, key=lambda each: (each.where, TABLES.index(each.table)))


def _source(path: Path, table: str, entities: Mapping[str, str]) -> Source:
    own = {key: entities.get(key, MISSING) for key in ("sub", "ses", "task", "run")}
    beside = path.with_suffix(".json")
    facts = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
    return Source(
        path=path, table=table, participant=f"sub-{own['sub']}", session=own["ses"], task=own["task"], run=own["run"],
        variant="_".join(f"{key}-{value}" for key, value in entities.items() if key not in own) or MISSING,
        version=str(facts.get("GeneratedByVersion", "")), digest=str(facts.get("SettingsDigest", "")),
        at_rest=facts.get("MappedBy") == "seeds",
    )  # fmt: skip


def read_cells(source: Source) -> Cells:
    """One table as text; TableError where it has other columns than it should."""
    try:
        table = long_tables.read_cells(source.path)
    except ValueError as error:
        raise TableError(str(error)) from error
    told = [table[name] for name in ("minus", "statistic", "band", "reference", "threshold")]
    table["measure"] = [measure_of(*each) for each in zip(*told, strict=True)]
    told = [table[name] for name in ("minus", "statistic", "reference")]
    table["against"] = [against_of(*each) for each in zip(*told, strict=True)]
    return {name: table[name] for name in CELLS}


def lines_of(source: Source, table: Cells) -> Iterable[str]:
    """The rows of one table as lines of the long one."""
    own = "\t".join((*source.where, source.table)) + "\t"
    return (own + "\t".join(cells) + "\n" for cells in zip(*table.values(), strict=True))


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


def absent(expected: Iterable[str], sources: Sequence[Source]) -> list[tuple[str, str]]:
    """Who and what is missing: participants (``sub-…``) without any table, runs without one that others have.

    Each as what logs call whom it is about (nobody: empty), and in words.
    """
    present = {source.participant for source in sources}
    lines = [(label, f"{label}: no table of metrics at all") for label in sorted(set(expected) - present)]
    kinds: dict[str, set[str]] = {}
    runs: dict[tuple[str, ...], list[Source]] = {}
    for source in sources:
        kinds.setdefault(source.task, set()).add(source.table)
        runs.setdefault(source.where, []).append(source)
    for own in runs.values():
        lacking = sorted(kinds[own[0].task] - {source.table for source in own}, key=TABLES.index)
        if lacking:
            lines.append((own[0].participant, f"{own[0].name}: no table of {' and of '.join(lacking)} metrics"))
    nowhere = [name for name in TABLES[1:] if all(source.table != name for source in sources)]
    return [*lines, *(("", f"no run has a table of {name} metrics") for name in nowhere)]


def absent_runs(stems: Iterable[str], sources: Sequence[Source]) -> list[tuple[str, str]]:
    """Runs of the participants that entered, by the names of their series, of which there is no table.

    As `absent` tells them.
    """
    people = {source.participant for source in sources}
    known = {frozenset(_run_of(source.path.name.partition("_desc-")[0]).items()) for source in sources}
    why = "no table (left out or not run, if it is no calibration or reference)"
    lines = []
    for stem in dict.fromkeys(stems):
        entities = _run_of(stem)
        if f"sub-{entities.get('sub')}" in people and frozenset(entities.items()) not in known:
            lines.append((stem, f"{stem}: {why}"))
    return lines


def _run_of(stem: str) -> dict[str, str]:
    """Entities of a run, whose echoes and parts are one; numbers without leading zeros."""
    kept = {key: label for key, label in entities_of(stem).items() if key not in ("echo", "part")}
    return kept | {key: kept[key].lstrip("0") or "0" for key in ("run",) if key in kept}


def runs_of_tasks(sources: Iterable[Source]) -> dict[str, dict[str, int]]:
    """Participants of each task, with the number of their runs."""
    runs: dict[str, dict[str, set[str]]] = {}
    for each in sources:
        runs.setdefault(each.task, {}).setdefault(each.participant, set()).add(each.name)
    return {task: {name: len(own) for name, own in sorted(people.items())} for task, people in sorted(runs.items())}


def without_methods(present: Mapping[str, Iterable[str]], methods: Iterable[str]) -> list[str]:
    """Methods that some runs have and others lack, each with the latter; `present` are the series of each run."""
    runs = {run: set(series) for run, series in present.items()}
    lacking = {method: [run for run, own in runs.items() if method not in own] for method in methods}
    return [f"no {method}: {', '.join(names)}" for method, names in lacking.items() if 0 < len(names) < len(runs)]


def fixed_effect(runs: Sequence[Bounded]) -> float:
    """Values of several runs as one: weighted by inverse variance where all have an interval, else their mean.

    Runs in which the value is not defined are left out; NaN where it is defined in none.
    """
    if len(runs) == 1:
        return runs[0][0] if math.isfinite(runs[0][0]) else math.nan
    known = [each for each in runs if math.isfinite(each[0])]
    if len(known) < 2:
        return known[0][0] if known else math.nan
    errors = [(upper - lower) / (2 * _Z95) for _, lower, upper in known]
    sure = all(math.isfinite(error) and error > 0 for error in errors)
    weights = [1 / error**2 if sure else 1.0 for error in errors]
    return sum(w * value for w, (value, _, _) in zip(weights, known, strict=True)) / sum(weights)


@frozen
class Joined:
    """What the tables of all participants hold together."""

    # combined values of the metrics that are compared
    values: dict[Question, dict[str, PeopleValues]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)  # by metric, of all metrics
    flags: list[tuple[str, str, str]] = field(default_factory=list)  # those raised: name of the run, series, metric
    # methods that were not applied in a run, which are not compared there: name of the run, method
    idle: list[tuple[str, str]] = field(default_factory=list)
    present: dict[str, set[str]] = field(default_factory=dict)  # series by the name of the run
    compared: set[str] = field(default_factory=set)  # series of other programs

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods under test that any run has, then series of other programs."""
        own = tuple(name for name in offered_methods() if any(name in own for own in self.present.values()))
        return (*own, *sorted(self.compared))


def join_tables(sources: Iterable[Source], stream: TextIO) -> Joined:
    """Write all tables as a long one, and combine what is compared; one participant's tables are in memory at a time.

    Parameters
    ----------
    sources : in the order of `find_sources`; TableError where one cannot be joined
    """
    found, people = Joined(), People()
    stream.write("\t".join(COLUMNS) + "\n")
    for participant, own in groupby(sources, key=lambda source: source.participant):
        number = people.number(participant)
        tables = [(source, read_cells(source)) for source in own]
        idle: list[tuple[str, str]] = []
        for source, table in tables:
            stream.writelines(lines_of(source, table))
            found.units.update(zip(table["measure"], table["unit"], strict=True))
            found.present.setdefault(source.name, set()).update(table["series"])
            flags = {measure for measure in set(table["measure"]) if parts_of(measure).family == "flag"}
            for series, measure, value in zip(table["series"], table["measure"], table["value"], strict=True):
                if measure == COMPARED:
                    found.compared.add(series)
                if measure == APPLIED and value == "0":
                    idle.append((source.name, series))
                if value == "1" and measure in flags:
                    found.flags.append((source.name, series, measure))
        found.idle.extend(idle)
        for (question, series), runs in _of_participant(tables, idle).items():
            by_series = found.values.setdefault(question, {})
            if series not in by_series:
                by_series[series] = PeopleValues(people)
            by_series[series].add(number, fixed_effect(runs))
    return found


def _of_participant(
    tables: Iterable[tuple[Source, Cells]], idle: Sequence[tuple[str, str]]
) -> dict[tuple[Question, str], list[Bounded]]:
    """Values of a participant by question and series, one a run; without methods where they were not applied."""
    found: dict[tuple[Question, str], list[Bounded]] = defaultdict(list)
    for source, table in tables:
        kept = {name for name in set(table["measure"]) if better(name) is not None}
        if source.at_rest:  # two seeds are no two conditions, and the paper's regions are no match
            kept = {name for name in kept if not name.startswith("quarter_")}
        without = [method for run, method in idle if run == source.name]
        names = {*table["series"], *table["against"]}
        left_out = {name for name in names if stands_for(name, without)} if without else set()
        columns = (table[name] for name in _COMPARED)
        place = source.task, source.variant, source.table
        try:
            for series, measure, against, region, contrast, fwhm_mm, *cells in zip(*columns, strict=True):
                if measure in kept and series not in left_out and against not in left_out:
                    question = Question(*place, measure, against, region, contrast, float(fwhm_mm))
                    value, lower, upper = map(long_tables.parsed_number, cells)
                    found[question, series].append((value, lower, upper))
        except ValueError as error:
            raise TableError(f"{source.path}: {error}") from error
    return found
