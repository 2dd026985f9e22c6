"""Metrics of all participants in one data frame, with the runs of each participant combined.

The unit of the tests is the participant. Runs are combined with fixed effects: weighted by inverse
variance if the values of all runs have an interval, and averaged otherwise.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, TextIO, cast

import numpy as np
import pandas as pd

from bids_sr.boilerplate import data_of
from bids_sr.engine.metric_rows import COLUMNS, MISSING, complete_table, parse_cell
from bids_sr.evaluation.evidence import APPLIED
from bids_sr.group.input_tables import reject_table
from bids_sr.io import metric_flags
from bids_sr.io.arrays import Float
from bids_sr.io.contrast_names import rank_contrast
from bids_sr.io.frozen import frozen
from bids_sr.io.metric_registry import STATISTICS
from bids_sr.sr.method import method_names_without_controls

RUN: Mapping[str, Mapping[str, object]] = data_of("columns.json")["runs"]
COLUMN_TEXT = {**RUN, **COLUMNS}
_LOGGER = logging.getLogger(__name__)
QUESTION = [
    "task",
    "variant",
    "table",
    "statistic",
    "band",
    "reference",
    "region",
    "threshold",
    "contrast",
    "input_fwhm_mm",
    "fwhm_mm",
]
"""Columns that identify a measured quantity, without the series and the participant.

The smoothing before super-resolution (``input_fwhm_mm``) is a text, n/a if it is unknown.
"""
# values that are reported but not compared: a method was not applied, or a flag is raised
_REPORTED_VALUES = {
    APPLIED: 0.0,
    **dict.fromkeys((f"flag_{name}" for name in metric_flags.FLAGS), 1.0),
}
EvidenceContrasts = Mapping[tuple[str, str], Sequence[str]]
"""Contrasts of the runs' evidence by task and variant, `all` first; none for older outputs."""
_ValueKey = tuple[str | float, ...]  # values of `QUESTION`, and the series


@frozen
class JoinedTables:
    """Combined contents of the tables of all participants.

    `values` are compared values with runs combined: columns `QUESTION` and series, and one column
    per participant (NaN: no value; infinite: not defined). `reported` has the columns task, name
    (the run as text), series and statistic: raised flags, and methods that were not applied
    (`APPLIED`), whose values are not compared in these runs. `series` has the columns name and
    series: all series of each run. `methods` are the methods under test, and `contrasts` the
    contrasts of the runs' evidence.
    """

    values: pd.DataFrame
    reported: pd.DataFrame
    series: pd.DataFrame
    statistics: tuple[str, ...]
    methods: tuple[str, ...]
    contrasts: EvidenceContrasts


def rank_question(
    task: str, variant: str, contrast: str, contrasts: EvidenceContrasts
) -> tuple[int, int]:
    """Return the sort key of a contrast of a task: contrasts of the runs' evidence come first."""
    known_contrasts = contrasts.get((task, variant), ())
    if contrast in known_contrasts:
        return 0, known_contrasts.index(contrast)
    return 1, rank_contrast(contrast)


class _LineLabel(NamedTuple):
    """Parsed label of a line: the cells before its value.

    `number` is the number of the key in `_ParsedTables.keys`, None if the value is not compared;
    `reported_value` is None if no value is reported. `evidence_contrast` is the contrast of a
    run's evidence; "" in lines that do not record it.
    """

    series: str
    statistic: str
    number: int | None
    is_quarter: bool
    reported_value: float | None
    evidence_contrast: str


@dataclass(slots=True)
class _ParsedTables:
    """Labels of lines that were already parsed, because most lines differ only in their numbers.

    `labels` are by task, variant and table, and by the text before the value. Keys of values are
    numbered, because looking up a number is faster than looking up a key.
    """

    labels: dict[tuple[str, ...], dict[str, _LineLabel]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    keys: dict[_ValueKey, int] = field(default_factory=dict)

    def all_labels(self) -> list[_LineLabel]:
        """Return the labels of all tables."""
        return [label for labels in self.labels.values() for label in labels.values()]


def join_tables(tables: pd.DataFrame, stream: TextIO) -> JoinedTables:
    """Write all tables as one long table, and combine the compared metrics.

    Each table is read once, and only the tables of one run are in memory at a time. `tables` are
    from `bids_sr.group.input_tables.find_tables`, and `stream` is the file of the long table.
    Raises `UsageError` if a table cannot be joined.
    """
    participants = tables["participant"].unique()
    values: dict[int, Float] = defaultdict(lambda: np.full(len(participants), np.nan))
    parsed = _ParsedTables()
    reported: list[tuple[str, ...]] = []
    run_series: list[tuple[str, str]] = []
    stream.write("\t".join(COLUMN_TEXT) + "\n")
    for index, (_, participant_tables) in enumerate(
        groupby(tables.itertuples(), attrgetter("participant"))
    ):
        run_values: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for name, table_group in groupby(participant_tables, attrgetter("name")):
            run_tables = list(table_group)
            series_names, reported_labels, compared = _read_run(run_tables, stream, parsed)
            run_series += [(name, series) for series in series_names]
            reported += [
                (run_tables[0].task, name, label.series, label.statistic)
                for label in reported_labels
            ]
            for label, value, width in compared:
                run_values[cast(int, label.number)].append((value, width))
        for number, values_and_widths in run_values.items():
            values[number][index] = _combine_runs(values_and_widths)
    labels = parsed.all_labels()
    available_series = {label.series for label in labels}
    methods = [name for name in method_names_without_controls() if name in available_series]
    keys = list(parsed.keys)
    value_columns = pd.DataFrame(
        np.reshape(list(values.values()), (-1, len(participants))), columns=participants
    )
    return JoinedTables(
        values=pd.concat(
            [
                pd.DataFrame([keys[number] for number in values], columns=[*QUESTION, "series"]),
                value_columns,
            ],
            axis=1,
        ),
        reported=pd.DataFrame(reported, columns=["task", "name", "series", "statistic"]),
        series=pd.DataFrame(run_series, columns=["name", "series"]),
        statistics=tuple(sorted({label.statistic for label in labels} & set(STATISTICS))),
        methods=tuple(methods),
        contrasts=_find_evidence_contrasts(parsed),
    )


class _TableLine(NamedTuple):
    """Value of a line, and the width of its interval (NaN if there is no interval)."""

    label: _LineLabel
    value: float
    width: float


def _read_run(
    tables: Sequence[Any], stream: TextIO, parsed: _ParsedTables
) -> tuple[list[str], list[_LineLabel], list[_TableLine]]:
    """Write all tables of a run to the long table.

    Returns the names of all series, the labels of reported values, and the values that are
    compared. Values of series that were not applied are not compared. For the parameters, see
    `_read_table`.
    """
    contents = [_read_table(table, stream, parsed) for table in tables]
    table_lines = [line for _, lines in contents for line in lines]
    series_names = list(dict.fromkeys(name for names, _ in contents for name in names))
    reported = [line.label for line in table_lines if line.value == line.label.reported_value]
    unapplied = {label.series for label in reported if label.statistic == APPLIED}
    at_rest = any(table.at_rest for table in tables)
    compared = [
        line
        for line in table_lines
        if line.label.series not in unapplied
        and line.label.number is not None
        # the paper defines region sizes for pairs of conditions, not for pairs of seeds
        and not (at_rest and line.label.is_quarter)
    ]
    return series_names, reported, compared


def _read_table(
    source: Any, stream: TextIO, parsed: _ParsedTables
) -> tuple[dict[str, None], list[_TableLine]]:
    """Write a table to the long table.

    Returns the names of its series, and the lines whose values are compared or may be reported.
    Effects in the unit of an earlier version are not used, and a warning is logged. `source` is a
    row of `bids_sr.group.input_tables.find_tables`, and `stream` the file of the long table.
    Labels of new lines are added to `parsed`. Raises `UsageError` if the table has unexpected
    columns or a value is not a number.
    """
    try:
        text_of_table = complete_table(source.path.read_text(encoding="utf-8"))
        head, *all_lines = text_of_table.splitlines()
        if head.split("\t") != list(COLUMNS):
            raise ValueError(f"the columns are {head!r}; expected {' '.join(COLUMNS)}")
        contrast_column = list(COLUMNS).index("contrast")
        lines = [
            line
            for line in all_lines
            if not source.unequal or line.split("\t")[contrast_column] not in source.unequal
        ]
        table_question = (source.task, source.variant, source.table)
        run_cells = "\t".join(getattr(source, name) for name in RUN)
        stream.writelines(f"{run_cells}\t{line}\n" for line in lines)
        labels = parsed.labels[table_question]
        series: dict[str, None] = {}
        used_lines = []
        outdated: dict[str, str] = {}
        for line in lines:
            text, value, *interval, _, unit = line.rsplit("\t", 5)
            if text not in labels:
                labels[text] = _parse_label(text, table_question, parsed.keys)
            label = labels[text]
            series[label.series] = None
            if label.number is not None and unit != STATISTICS[label.statistic].unit:
                outdated[label.statistic] = unit
            elif label.number is not None or label.reported_value is not None:
                lower, upper = map(parse_cell, interval)
                used_lines.append(_TableLine(label, value=parse_cell(value), width=upper - lower))
    except ValueError as error:
        raise reject_table(source.path, str(error)) from error
    for name, unit in outdated.items():
        _LOGGER.warning(
            "%s: values of %s are in the unit %s; expected %s. They are not compared. Run the"
            " participant level again",
            source.path,
            name,
            unit,
            STATISTICS[name].unit,
        )
    return series, used_lines


def _parse_label(
    text: str, table_question: tuple[str, ...], keys: dict[_ValueKey, int]
) -> _LineLabel:
    """Parse the cells before the value of a line, and number its key.

    `text` is the text of these cells, and `table_question` is task, variant and table. A new key
    is added to `keys`, the numbers of the keys so far.
    """
    series, minus, name, *levels, fwhm = text.split("\t")
    key: _ValueKey = (*table_question, name, *levels, float(fwhm), series)
    if len(key) <= len(QUESTION):
        raise ValueError(f"at least one line has fewer than {len(COLUMNS)} cells")
    is_compared = minus == MISSING and name in STATISTICS and STATISTICS[name].better is not None
    return _LineLabel(
        series=series,
        statistic=name,
        number=keys.setdefault(key, len(keys)) if is_compared else None,
        is_quarter="quarter" in key,
        reported_value=_REPORTED_VALUES.get(name),
        evidence_contrast=levels[-2] if name == "verdict_margin" else "",
    )


def find_input_smoothing(values: pd.DataFrame, task: str, variant: str = MISSING) -> str:
    """Return the smoothing (mm) before super-resolution of a task, n/a if it is not known."""
    is_task = (values["task"] == task) & (values["variant"] == variant)
    widths = values["input_fwhm_mm"][is_task].unique()
    return str(widths[0]) if len(widths) == 1 else MISSING


def _combine_runs(runs: Sequence[tuple[float, float]]) -> float:
    """Combine the values of runs, each with the width of its interval, with fixed effects.

    The result is infinite if the value is not defined in any run.
    """
    defined = [(value, width) for value, width in runs if not math.isnan(value)]
    if len(defined) < 2:
        return defined[0][0] if defined else math.inf
    has_intervals = all(width > 0 for _, width in defined)
    weights = [1 / width**2 if has_intervals else 1.0 for _, width in defined]
    total = sum(weight * value for weight, (value, _) in zip(weights, defined, strict=True))
    return total / sum(weights)


def _find_evidence_contrasts(parsed: _ParsedTables) -> EvidenceContrasts:
    """Return the contrasts of the runs' evidence by task and variant, `all` first."""
    contrasts: dict[tuple[str, str], dict[str, None]] = {}
    for (task, variant, _), labels in parsed.labels.items():
        for label in labels.values():
            if label.evidence_contrast:
                contrasts.setdefault((task, variant), {})[label.evidence_contrast] = None
    return {key: sorted(names, key=rank_contrast) for key, names in contrasts.items()}


def participants_by_series(values: pd.DataFrame) -> pd.DataFrame:
    """Return the values of one question as a table of participants by series.

    Participants without any value are omitted. Missing values are NaN, undefined values are
    infinite.
    """
    return participant_columns(values).set_axis(list(values["series"])).T.dropna(how="all")


def participant_columns(values: pd.DataFrame) -> pd.DataFrame:
    """Return only the columns of participants from a frame like `JoinedTables.values`.

    Missing values are NaN, undefined values are infinite.
    """
    return values.drop(columns=[*QUESTION, "series"])


def question_rows(values: pd.DataFrame, question: pd.Series) -> pd.DataFrame:
    """Return the rows of a data frame that belong to one question.

    `question` contains the columns `QUESTION`; additional columns are ignored.
    """
    return values[np.logical_and.reduce([values[name] == question[name] for name in QUESTION])]
