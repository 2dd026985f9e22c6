"""Metrics of all participants in one data frame, with the runs of each participant combined.

The unit of the tests is the participant. Runs are combined with fixed effects: weighted by inverse
variance if the values of all runs have an interval, and averaged otherwise.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_sr.boilerplate import data_of
from bids_sr.compared_series import COMPARED
from bids_sr.evaluation.evidence import APPLIED, derives_from
from bids_sr.frozen import frozen
from bids_sr.io.arrays import Float
from bids_sr.metrics import flags
from bids_sr.metrics.registry import STATISTICS
from bids_sr.metrics.rows import COLUMNS, MISSING
from bids_sr.sr.method import method_names_without_controls

RUN: Mapping[str, Mapping[str, object]] = data_of("columns.json")["runs"]
COLUMN_TEXT = {**RUN, **COLUMNS}
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
    "fwhm_mm",
]
"""Columns that identify a measured quantity, without the series and the participant."""
_REPORTED = {APPLIED: 0.0, **dict.fromkeys((f"flag_{name}" for name in flags.FLAGS), 1.0)}
"""Values that are reported but not compared: a method was not applied, or a flag is raised."""
_ValueKey = tuple[str | float, ...]  # values of `QUESTION`, and the series
_TableLine = tuple[str, str, _ValueKey | None]  # series, statistic, and key if it is compared


class TableError(ValueError):
    """Error in a participant's table that cannot be joined.

    The table has unexpected columns, or a value is not a number.
    """


@frozen
class JoinedTables:
    """Combined contents of the tables of all participants.

    Attributes
    ----------
    values : pd.DataFrame
        Compared values with runs combined: columns `QUESTION` and series, and one column per
        participant (NaN: no value; infinite: not defined).
    reported : pd.DataFrame
        Columns task, name (the run as text), series and statistic: raised flags, and methods that
        were not applied (`APPLIED`), whose values are not compared in these runs.
    series : pd.DataFrame
        Columns name (the run as text) and series: all series of each run.
    statistics : tuple[str, ...]
        Names of the statistics.
    methods : tuple[str, ...]
        Methods under test, followed by the series of other programs.
    """

    values: pd.DataFrame
    reported: pd.DataFrame
    series: pd.DataFrame
    statistics: tuple[str, ...]
    methods: tuple[str, ...]


def join_tables(tables: pd.DataFrame, stream: TextIO) -> JoinedTables:
    """Write all tables as one long table, and combine the compared metrics.

    Each table is read once, and only the tables of one run are in memory at a time.

    Parameters
    ----------
    tables : pd.DataFrame
        Tables from `bids_sr.group.input_tables.find_tables`.
    stream : TextIO
        File for the long table.

    Raises
    ------
    TableError
        If a table cannot be joined.
    """
    participants = tables["participant"].unique()
    values: dict[_ValueKey, Float] = defaultdict(lambda: np.full(len(participants), np.nan))
    # Most lines of different tables differ only in their numbers. The text before the numbers is
    # therefore parsed once and then looked up.
    parsed: dict[tuple[str, ...], dict[str, _TableLine]] = defaultdict(dict)
    notices, run_series = [], []
    stream.write("\t".join(COLUMN_TEXT) + "\n")
    for index, (_, participant_tables) in enumerate(
        groupby(tables.itertuples(), attrgetter("participant"))
    ):
        by_key: dict[_ValueKey, list[tuple[float, float]]] = defaultdict(list)
        for name, run_tables in groupby(participant_tables, attrgetter("name")):
            sources = list(run_tables)
            rows = [row for source in sources for row in _rows(source, stream, parsed)]
            series = list(dict.fromkeys(line[0] for line, _, _ in rows))
            run_series += [(name, series_name) for series_name in series]
            raised = [line for line, value, _ in rows if value == _REPORTED.get(line[1])]
            notices += [(sources[0].task, name, *line[:2]) for line in raised]
            unapplied = [line[0] for line in raised if line[1] == APPLIED]
            skipped = {
                series_name for series_name in series if derives_from(series_name, unapplied)
            }
            # The paper defines region sizes for pairs of conditions, not for pairs of seeds.
            at_rest = any(source.at_rest for source in sources)
            for (row_series, _, key), value, width in rows:
                if key and row_series not in skipped and not (at_rest and "quarter" in key):
                    by_key[key].append((value, width))
        for key, run_values in by_key.items():
            values[key][index] = _combine_runs(run_values)
    lines = [line for table_lines in parsed.values() for line in table_lines.values()]
    methods = [
        name for name in method_names_without_controls() if name in {line[0] for line in lines}
    ]
    return JoinedTables(
        values=pd.concat(
            [
                pd.DataFrame(list(values), columns=[*QUESTION, "series"]),
                pd.DataFrame(
                    np.reshape(list(values.values()), (-1, len(participants))),
                    columns=participants,
                ),
            ],
            axis=1,
        ),
        reported=pd.DataFrame(notices, columns=["task", "name", "series", "statistic"]),
        series=pd.DataFrame(run_series, columns=["name", "series"]),
        statistics=tuple(sorted({line[1] for line in lines} & set(STATISTICS))),
        methods=(*methods, *sorted({line[0] for line in lines if line[1] == COMPARED})),
    )


def _rows(
    source: Any, stream: TextIO, parsed: dict[tuple[str, ...], dict[str, _TableLine]]
) -> Iterator[tuple[_TableLine, float, float]]:
    """Write a table, and yield the key, the value and the width of the interval of each line.

    Raises
    ------
    TableError
        If the table has unexpected columns or a value is not a number.
    """
    try:
        head, *lines = source.path.read_text(encoding="utf-8").splitlines()
        if head.split("\t") != list(COLUMNS):
            raise ValueError(f"the columns are {head!r}; expected {' '.join(COLUMNS)}")
        if source.unequal:
            contrast = list(COLUMNS).index("contrast")
            lines = [line for line in lines if line.split("\t")[contrast] not in source.unequal]
        question = (source.task, source.variant, source.table)
        run = "\t".join(getattr(source, name) for name in RUN)
        stream.writelines(f"{run}\t{line}\n" for line in lines)
        table_lines = parsed[question]
        for line in lines:
            label, value, *ends, _, _ = line.rsplit("\t", 5)
            if label not in table_lines:
                table_lines[label] = _line(label, question)
            lower, upper = map(_number, ends)
            yield table_lines[label], _number(value), upper - lower
    except ValueError as error:
        raise TableError(f"{source.path}: {error}") from error


def _line(label: str, question: tuple[str, ...]) -> _TableLine:
    """Parse the cells before the value of a line; `question` is task, variant and table."""
    series, minus, name, *levels, fwhm = label.split("\t")
    key: _ValueKey = (*question, name, *levels, float(fwhm), series)
    if len(key) <= len(QUESTION):
        raise ValueError(f"at least one line has fewer than {len(COLUMNS)} cells")
    is_compared = minus == MISSING and name in STATISTICS and STATISTICS[name].better is not None
    return series, name, key if is_compared else None


def _number(cell: str) -> float:
    return math.nan if cell == MISSING else float(cell)


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


def participant_columns(values: pd.DataFrame) -> pd.DataFrame:
    """Return only the columns of participants from a frame like `JoinedTables.values`.

    Missing values are NaN, undefined values are infinite.
    """
    return values.drop(columns=[*QUESTION, "series"])


def participants_by_series(values: pd.DataFrame) -> pd.DataFrame:
    """Return the values of one question as a table of participants by series.

    Participants without any value are omitted. Missing values are NaN, undefined values are
    infinite.
    """
    return participant_columns(values).set_axis(list(values["series"])).T.dropna(how="all")


def question_rows(values: pd.DataFrame, question: pd.Series) -> pd.DataFrame:
    """Return the rows of a data frame that belong to one question.

    `question` contains the columns `QUESTION`; additional columns are ignored.
    """
    return values[np.logical_and.reduce([values[name] == question[name] for name in QUESTION])]


def quartiles(values: npt.ArrayLike) -> tuple[float, float, float]:
    """Return first quartile, median and third quartile of the finite values, NaN without any."""
    v = np.asarray(values, dtype=np.float64)
    v = v[np.isfinite(v)]
    if not len(v):
        return math.nan, math.nan, math.nan
    first, median, third = np.quantile(v, [0.25, 0.5, 0.75]).tolist()
    return first, median, third
