"""The tables of metrics of all participants as one long table, and what of it belongs together.

Runs of one participant are combined first (fixed effects), so that the participant is the unit of every test: by
inverse variance where every run's figure has an interval, else by their plain mean.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bids_sr.metrics import evaluation_metrics, series_metrics

MISSING = series_metrics.MISSING
TABLES = ("image", "activation", "evaluation")
COLUMNS = (
    "participant", "session", "task", "run", "variant", "table", "series", "against", "fwhm_mm", "contrast", "region",
    "measure", "value", "lower", "upper", "unit",
)  # fmt: skip
COLUMN_TEXT: Mapping[str, dict[str, str]] = {
    "participant": {"Description": "Participant, with sub-"},
    "session": {"Description": "Label of the session; n/a where there are none"},
    "task": {"Description": "Label of the task"},
    "run": {"Description": "Number of the run; n/a where there is one"},
    "variant": {"Description": "Other entities in the name of the run (such as dir-AP); variants are not combined"},
    "table": {"Description": "The participant's table that the row comes from: image, activation or evaluation"},
    **{name: dict(evaluation_metrics.COLUMN_TEXT[name]) for name in COLUMNS[6:]},
}
_NAME = re.compile(r"(?P<entities>.+)_desc-(?P<table>[a-z]+)_metrics\.tsv")
_VERSION, _DIGEST = "GeneratedByVersion", "SettingsDigest"
_Z95 = 1.959963984540054


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
"""Question, then series, then participant, to the figure."""


Cells = tuple[str, str, str, str, str, str, str, str, str, str]
"""Series, against, FWHM, contrast, region, measure, value, lower, upper and unit, as they stand in a table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One table of one run.

    Attributes
    ----------
    path : the TSV file
    table : image, activation or evaluation
    participant, session, task, run, variant : of the run, as in the group's table
    version, digest : of the program and of the settings that decided the figures; empty where not recorded
    """

    path: Path
    table: str
    participant: str
    session: str
    task: str
    run: str
    variant: str
    version: str
    digest: str

    @property
    def where(self) -> tuple[str, str, str, str, str]:
        """The run."""
        return self.participant, self.session, self.task, self.run, self.variant

    @property
    def name(self) -> str:
        """The run in words."""
        parts = [self.participant, *(f"{key}-{value}" for key, value in zip(
            ("ses", "task", "run"), (self.session, self.task, self.run), strict=True) if value != MISSING)]  # fmt: skip
        return " ".join([*parts, *([self.variant] if self.variant != MISSING else [])])


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One row of the long table: a figure and where it comes from."""

    source: Source
    series: str
    against: str
    fwhm_mm: float
    contrast: str
    region: str
    measure: str
    value: float
    lower: float
    upper: float
    unit: str

    @property
    def question(self) -> Question:
        """What was measured."""
        at = self.source
        return Question(
            at.task, at.variant, at.table, self.measure, self.against, self.region, self.contrast, self.fwhm_mm
        )

    def text(self) -> tuple[str, ...]:
        """The row as it stands in the table."""
        at = self.source
        value, lower, upper = (_number(each) for each in (self.value, self.lower, self.upper))
        return (
            at.participant, at.session, at.task, at.run, at.variant, at.table, self.series, self.against,
            f"{self.fwhm_mm:g}", self.contrast, self.region, self.measure, value, lower, upper, self.unit,
        )  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else MISSING


def find_sources(output_dir: Path, wanted: Callable[[Source], bool] = lambda _: True) -> list[Source]:
    """All metrics tables of participants below a folder of derivatives, in the order of their names."""
    found = []
    for path in output_dir.glob("sub-*/**/func/*_metrics.tsv"):
        source = _source(path)
        if source is not None and wanted(source):
            found.append(source)
    return sorted(found, key=lambda each: (each.where, TABLES.index(each.table)))


def _source(path: Path) -> Source | None:
    match = _NAME.fullmatch(path.name)
    if match is None or match["table"] not in TABLES:
        return None
    entities = dict(part.split("-", 1) for part in match["entities"].split("_") if "-" in part)
    own = {key: entities.pop(key, MISSING) for key in ("sub", "ses", "task", "run")}
    beside = path.with_suffix(".json")
    facts = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
    return Source(
        path=path,
        table=match["table"],
        participant=f"sub-{own['sub']}",
        session=own["ses"],
        task=own["task"],
        run=own["run"],
        variant="_".join(f"{key}-{value}" for key, value in entities.items()) or MISSING,
        version=str(facts.get(_VERSION, "")),
        digest=str(facts.get(_DIGEST, "")),
    )


def read_cells(source: Source) -> list[Cells]:
    """Rows of one table as text, in the order of the last ten of `COLUMNS`.

    Raises
    ------
    ValueError : the table has other columns than it should, or a line other cells
    """
    columns = evaluation_metrics.COLUMNS if source.table == "evaluation" else series_metrics.COLUMNS
    header, *lines = source.path.read_text(encoding="utf-8").splitlines() or [""]
    if tuple(header.split("\t")) != columns:
        raise ValueError(f"{source.path}: columns {header!r}, expected {' '.join(columns)}")
    rows = [line.split("\t") for line in lines]
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"{source.path}: a line has more or fewer than {len(columns)} cells")
    if source.table == "evaluation":
        return [(*row[:9], row[10]) for row in rows]  # type: ignore[misc]
    missing = MISSING
    return [(row[0], missing, row[1], row[2], missing, row[3], row[4], missing, missing, row[5]) for row in rows]


def figure_of(source: Source, cells: Cells) -> Figure:
    """One row of `read_cells` as a figure; ValueError where a number is none."""
    series, against, fwhm, contrast, region, measure, *numbers, unit = cells
    try:
        value, lower, upper = (math.nan if text == MISSING else float(text) for text in numbers)
        width = float(fwhm)
    except ValueError as error:
        raise ValueError(f"{source.path}: {error}") from error
    return Figure(
        source=source, series=series, against=against, fwhm_mm=width, contrast=contrast, region=region,
        measure=measure, value=value, lower=lower, upper=upper, unit=unit,
    )  # fmt: skip


def read_figures(source: Source) -> list[Figure]:
    """Rows of one table.

    Raises
    ------
    ValueError : the table has other columns than it should, or no numbers where they are due
    """
    return [figure_of(source, cells) for cells in read_cells(source)]


def lines_of(source: Source, rows: Iterable[Cells]) -> Iterable[str]:
    """The rows of one table as lines of the long one."""
    own = "\t".join((*source.where, source.table))
    return (f"{own}\t{chr(9).join(cells)}\n" for cells in rows)


def table_text(figures: Iterable[Figure]) -> str:
    """The long table as TSV text with a header line."""
    return "".join("\t".join(line) + "\n" for line in [COLUMNS, *(each.text() for each in figures)])


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
        lines.append(f"{what}: {_named(rule)} in {len(by_value[rule])} tables, such as {by_value[rule][0].path}")
        for value in others:
            shown = [str(source.path) for source in by_value[value][:6]]
            more = len(by_value[value]) - len(shown)
            lines.append(f"{what}: {_named(value)} in {', '.join(shown)}" + (f" and {more} more" if more else ""))
    return lines


def _named(value: str) -> str:
    return value or "not recorded"


def absent(expected: Iterable[str], sources: Sequence[Source]) -> list[str]:
    """Who and what is missing, in words: participants without any table, and runs that lack a table that others have.

    Parameters
    ----------
    expected : participants that there should be, with ``sub-``
    """
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
    return lines


def combine(figures: Iterable[Figure], compared: Callable[[str], bool]) -> dict[Question, dict[str, dict[str, float]]]:
    """One figure for each participant, series and question; runs of a participant by fixed effects.

    Parameters
    ----------
    compared : whether a measure is of interest
    """
    runs: dict[Question, dict[str, dict[str, list[Figure]]]] = {}
    for each in figures:
        if compared(each.measure):
            series = runs.setdefault(each.question, {}).setdefault(each.series, {})
            series.setdefault(each.source.participant, []).append(each)
    return {
        question: {
            name: {participant: fixed_effect(own) for participant, own in people.items()}
            for name, people in series.items()
        }
        for question, series in runs.items()
    }


def fixed_effect(runs: Sequence[Figure]) -> float:
    """Figures of several runs as one: weighted by inverse variance where all have an interval, else their mean.

    Runs in which the figure is not defined are left out; NaN where it is defined in none.
    """
    known = [each for each in runs if math.isfinite(each.value)]
    if len(known) < 2:
        return known[0].value if known else math.nan
    errors = [(each.upper - each.lower) / (2 * _Z95) for each in known]
    if all(math.isfinite(error) and error > 0 for error in errors):
        weights = [1 / error**2 for error in errors]
    else:
        weights = [1.0] * len(known)
    return sum(w * each.value for w, each in zip(weights, known, strict=True)) / sum(weights)
