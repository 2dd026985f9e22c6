"""Metrics of all participants as one data frame, with the runs of each participant combined.

The participant is thus the unit of the tests.

Runs are combined as fixed effects: by inverse variance where every run's value has an interval,
else by their mean.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, TextIO

import numpy as np
import pandas as pd

from bids_sr.boilerplate import data_of
from bids_sr.evaluation.compared_verdict import COMPARED
from bids_sr.evaluation.evidence import APPLIED, derives_from
from bids_sr.frozen import frozen
from bids_sr.io.arrays import Float
from bids_sr.metrics import flags
from bids_sr.metrics.registry import STATISTICS
from bids_sr.metrics.rows import COLUMNS, MISSING
from bids_sr.sr.method import offered_methods

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
"""What was measured, apart from the series and the participant."""
_TOLD = {APPLIED: 0.0, **dict.fromkeys((f"flag_{name}" for name in flags.FLAGS), 1.0)}
"""Values of what is told and not compared: a method not applied, a flag that is raised."""
_ValueKey = tuple[str | float, ...]  # of `QUESTION` and the series
_TableLine = tuple[str, str, _ValueKey | None]  # series, statistic; the key of what is compared


class TableError(ValueError):
    """A participant's table that cannot be joined.

    It has other columns than it should, or a value that is not a number.
    """


@frozen
class Joined:
    """What the tables of all participants hold together.

    `values`: what is compared, runs combined: columns `QUESTION` and series, then one for each
    participant (NaN: no value; infinite: not defined). `told`: columns task, name (the run as
    text), series, statistic: flags that are raised, and methods that were not applied (`APPLIED`),
    which are not compared there. `methods`: those under test, then series of other programs.
    """

    values: pd.DataFrame
    told: pd.DataFrame
    series: pd.DataFrame
    statistics: tuple[str, ...]
    methods: tuple[str, ...]


def join_tables(tables: pd.DataFrame, stream: TextIO) -> Joined:
    """Write all tables as one long table, and combine the compared metrics.

    Each table is read once, and only those of one run are in memory at a time.

    `tables`: as `bids_sr.group.input_tables.find_tables` gives them. `TableError`: A table cannot
    be joined.
    """
    people = tables["participant"].unique()
    values: dict[_ValueKey, Float] = defaultdict(lambda: np.full(len(people), np.nan))
    # tables differ in little but their numbers, so that what each line is about is parsed once
    known: dict[tuple[str, ...], dict[str, _TableLine]] = defaultdict(dict)
    notices, there = [], []
    stream.write("\t".join(COLUMN_TEXT) + "\n")
    for who, (_, rows_of) in enumerate(groupby(tables.itertuples(), attrgetter("participant"))):
        by_key: dict[_ValueKey, list[tuple[float, float]]] = defaultdict(list)
        for name, of_run in groupby(rows_of, attrgetter("name")):
            sources = list(of_run)
            rows = [row for each in sources for row in _rows(each, stream, known)]
            series = list(dict.fromkeys(line[0] for line, _, _ in rows))
            there += [(name, each) for each in series]
            raised = [line for line, value, _ in rows if value == _TOLD.get(line[1])]
            notices += [(sources[0].task, name, *line[:2]) for line in raised]
            idle = [line[0] for line in raised if line[1] == APPLIED]
            left_out = {each for each in series if derives_from(each, idle)}
            # two seeds are no two conditions, and the paper's regions are no match
            at_rest = any(each.at_rest for each in sources)
            for (whose, _, key), value, width in rows:
                if key and whose not in left_out and not (at_rest and "quarter" in key):
                    by_key[key].append((value, width))
        for key, of_runs in by_key.items():
            values[key][who] = _combined(of_runs)
    lines = [line for own in known.values() for line in own.values()]
    methods = [name for name in offered_methods() if name in {line[0] for line in lines}]
    return Joined(
        values=pd.concat(
            [
                pd.DataFrame(list(values), columns=[*QUESTION, "series"]),
                pd.DataFrame(np.reshape(list(values.values()), (-1, len(people))), columns=people),
            ],
            axis=1,
        ),
        told=pd.DataFrame(notices, columns=["task", "name", "series", "statistic"]),
        series=pd.DataFrame(there, columns=["name", "series"]),
        statistics=tuple(sorted({line[1] for line in lines} & set(STATISTICS))),
        methods=(*methods, *sorted({line[0] for line in lines if line[1] == COMPARED})),
    )


def _rows(
    source: Any, stream: TextIO, known: dict[tuple[str, ...], dict[str, _TableLine]]
) -> Iterator[tuple[_TableLine, float, float]]:
    """Write a table, and return of each line what it is about, the value and its interval's width.

    Raise TableError where it has other columns.
    """
    try:
        head, *lines = source.path.read_text(encoding="utf-8").splitlines()
        if head.split("\t") != list(COLUMNS):
            raise ValueError(f"the columns are {head!r}; expected {' '.join(COLUMNS)}")
        if source.unequal:
            contrast = list(COLUMNS).index("contrast")
            lines = [line for line in lines if line.split("\t")[contrast] not in source.unequal]
        place = (source.task, source.variant, source.table)
        run = "\t".join(getattr(source, name) for name in RUN)
        stream.writelines(f"{run}\t{line}\n" for line in lines)
        of_table = known[place]
        for line in lines:
            about, value, *ends, _, _ = line.rsplit("\t", 5)
            if about not in of_table:
                of_table[about] = _line(about, place)
            lower, upper = map(_number, ends)
            yield of_table[about], _number(value), upper - lower
    except ValueError as error:
        raise TableError(f"{source.path}: {error}") from error


def _line(about: str, place: tuple[str, ...]) -> _TableLine:
    """Take apart what a line says before its value; `place` is task, variant and table."""
    series, minus, name, *others, fwhm = about.split("\t")
    key: _ValueKey = (*place, name, *others, float(fwhm), series)
    if len(key) <= len(QUESTION):
        raise ValueError(f"at least one line has fewer than {len(COLUMNS)} cells")
    tested = minus == MISSING and name in STATISTICS and STATISTICS[name].better is not None
    return series, name, key if tested else None


def _number(cell: str) -> float:
    return math.nan if cell == MISSING else float(cell)


def _combined(runs: Sequence[tuple[float, float]]) -> float:
    """Combine the values of runs, each with the width of its interval, as fixed effects.

    It is infinite where the value is defined in no run.
    """
    known = [(value, width) for value, width in runs if not math.isnan(value)]
    if len(known) < 2:
        return known[0][0] if known else math.inf
    sure = all(width > 0 for _, width in known)
    weights = [1 / width**2 if sure else 1.0 for _, width in known]
    total = sum(weight * value for weight, (value, _) in zip(weights, known, strict=True))
    return total / sum(weights)


def of_people(values: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of a frame as `Joined.values`: a column for each participant.

    The same rows; NaN where there is no value, infinite where it is not defined.
    """
    return values.drop(columns=[*QUESTION, "series"])


def wide(values: pd.DataFrame) -> pd.DataFrame:
    """Return the values of one question, participants by series, for those who have any.

    Table with a row for each participant and a column for each series; NaN where there is no
    value, infinite where it is not defined.
    """
    return of_people(values).set_axis(list(values["series"])).T.dropna(how="all")


def of_question(values: pd.DataFrame, question: pd.Series) -> pd.DataFrame:
    """The rows of a frame that are about one question.

    `question`: cells of the columns `QUESTION`, maybe among others.
    """
    return values[np.logical_and.reduce([values[name] == question[name] for name in QUESTION])]
