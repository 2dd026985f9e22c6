"""Metrics of all participants as one data frame, with the runs of each participant combined.

The participant is thus the unit of the tests.

Runs are combined as fixed effects: by inverse variance where every run's value has an interval,
else by their mean.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from bids_sr.frozen import frozen
from bids_sr.metrics import flags
from bids_sr.metrics.long_tables import COLUMNS, MISSING, read_frame
from bids_sr.metrics.registry import STATISTICS
from bids_sr.sr.method import offered_methods
from bids_sr.stats.evaluation.compared_verdict import COMPARED
from bids_sr.stats.evaluation.evidence import APPLIED, derives_from

TABLES = ("image", "activation", "evaluation")
RUN: Mapping[str, dict[str, str]] = {
    "participant": {"Description": "Participant, with sub-"},
    "session": {"Description": "Label of the session; n/a where there are none"},
    "task": {"Description": "Label of the task"},
    "run": {"Description": "Number of the run; n/a where there is one"},
    "variant": {
        "Description": (
            "Other entities in the name of the run (such as dir-AP); variants are not combined"
        )
    },
    "table": {
        "Description": (
            "The participant's table that the row comes from: image, activation or evaluation"
        )
    },
}
COLUMN_TEXT: Mapping[str, Mapping[str, object]] = {**RUN, **COLUMNS}
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
_FLAGS = tuple(f"flag_{name}" for name in flags.FLAGS)
_Z95 = 1.959963984540054


class TableError(ValueError):
    """A participant's table that cannot be joined.

    It has other columns than it should, or a value that is not a number.
    """


@frozen
class Joined:
    """What the tables of all participants hold together.

    Parameters
    ----------
    values : pd.DataFrame
        Columns `QUESTION`, series, participant and value (NaN: not defined): what is compared,
        runs combined.
    told : pd.DataFrame
        Columns task, name (the run as text), series, statistic: flags that are raised, and methods
        that were not applied (`APPLIED`), which are not compared there.
    series : pd.DataFrame
        Columns name and series: those of each run.
    statistics : tuple[str, ...]
        Of all rows, as far as they are registered.
    methods : tuple[str, ...]
        Under test, then series of other programs.
    """

    values: pd.DataFrame
    told: pd.DataFrame
    series: pd.DataFrame
    statistics: tuple[str, ...]
    methods: tuple[str, ...]


def join_tables(tables: pd.DataFrame, stream: TextIO) -> Joined:
    """Write all tables as one long table, and combine the compared metrics.

    Only one participant's tables are in memory at a time.

    Parameters
    ----------
    tables : pandas.DataFrame
        As `bids_sr.group.group_inputs.find_tables` gives them.
    stream : file object
        Where the long table is written.

    Returns
    -------
    Joined
        The values of all participants.

    Raises
    ------
    TableError
        A table cannot be joined.
    """
    people, told, there = [], [], []
    statistics, compared = set(), set()
    directions = {name: each.better for name, each in STATISTICS.items()}
    columns = [*QUESTION, "series", "participant"]
    stream.write("\t".join(COLUMN_TEXT) + "\n")
    for _, of_participant in tables.groupby("participant", sort=False):
        rows = []
        for name, own in of_participant.groupby("name", sort=False):
            run = pd.concat(
                [_read(source, stream) for _, source in own.iterrows()], ignore_index=True
            ).assign(name=name)
            unapplied = (run["statistic"] == APPLIED) & (run["value"] == 0)
            raised = run["statistic"].isin(_FLAGS) & (run["value"] == 1)
            told.append(run.loc[unapplied | raised, ["task", "name", "series", "statistic"]])
            there.append(pd.DataFrame({"name": name, "series": run["series"].unique()}))
            statistics |= set(run["statistic"])
            compared |= set(run["series"][run["statistic"] == COMPARED])
            idle = run["series"][unapplied].tolist()
            left_out = [each for each in run["series"].unique() if derives_from(each, idle)]
            wanted = (
                run["statistic"].map(directions).notna()
                & (run["minus"] == MISSING)
                & ~run["series"].isin(left_out)
            )
            # two seeds are no two conditions, and the paper's regions are no match
            if own["at_rest"].any():
                wanted &= run["threshold"] != "quarter"
            rows.append(run.loc[wanted, [*columns, "value", "lower", "upper"]])
        values = _combined(pd.concat(rows, ignore_index=True))
        people.append(values.astype(dict.fromkeys(set(columns) - {"fwhm_mm"}, "category")))
    series = pd.concat(there, ignore_index=True)
    methods = [name for name in offered_methods() if name in set(series["series"])]
    return Joined(
        values=_stacked(people),
        told=pd.concat(told, ignore_index=True),
        series=series,
        statistics=tuple(sorted(statistics & set(STATISTICS))),
        methods=(*methods, *sorted(compared)),
    )


def _read(source: pd.Series, stream: TextIO) -> pd.DataFrame:
    """Read one table, write it as well, and return it with the columns of its run.

    Raise TableError where it has other columns.
    """
    path: Path = source["path"]
    try:
        table = read_frame(path)
    except ValueError as error:
        raise TableError(f"{path}: {error}") from error
    own = {name: source[name] for name in RUN}
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    stream.writelines("\t".join((*own.values(), line)) + "\n" for line in lines)
    return table.assign(**own)


def _stacked(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Frames of equal columns below each other, text as categories."""
    return pd.DataFrame(
        {
            name: (
                np.concatenate([part[name] for part in parts])
                if name in ("fwhm_mm", "value")
                else union_categoricals([part[name] for part in parts])
            )
            for name in parts[0]
        }
    )


def _combined(rows: pd.DataFrame) -> pd.DataFrame:
    """Combine runs as fixed effects: one value per question, series and participant.

    It is NaN where the value is defined in no run.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns `QUESTION`, series, participant, value, lower and upper; a row each run.

    Returns
    -------
    pandas.DataFrame
        The same without the ends of intervals, in the order of the rows.
    """
    keys = [*QUESTION, "series", "participant"]
    # one number for all keys, as a group by so many columns takes memory of many times the rows
    merged = np.zeros(len(rows), dtype=np.int64)
    for name in keys:
        codes, levels = pd.factorize(rows[name])
        merged = merged * len(levels) + codes
    _, first, number = np.unique(merged, return_index=True, return_inverse=True)
    known = rows["value"].notna().to_numpy()
    error = ((rows["upper"] - rows["lower"]) / (2 * _Z95)).to_numpy()
    unsure = np.bincount(number, known & ~(error > 0)) > 0
    alone = np.bincount(number, known) < 2
    weight = (
        np.where((unsure | alone)[number], 1.0, 1 / np.where(error > 0, error, 1.0) ** 2) * known
    )
    sums = np.bincount(number, weight * rows["value"].fillna(0.0))
    with np.errstate(invalid="ignore"):
        value = sums / np.bincount(number, weight)
    order = np.argsort(first)
    return rows.iloc[first[order]][keys].assign(value=value[order]).reset_index(drop=True)


def wide(values: pd.DataFrame) -> pd.DataFrame:
    """Return the values of one question, participants by series; NaN where there is none.

    Participants are sorted; series are in the order of the rows.

    Parameters
    ----------
    values : pd.DataFrame
        Values of one question, one series and participant a row.

    Returns
    -------
    pd.DataFrame
        Table with a row for each participant and a column for each series.
    """
    at, people = pd.factorize(values["participant"], sort=True)
    of, series = pd.factorize(values["series"])
    table = np.full((len(people), len(series)), np.nan)
    table[at, of] = values["value"]
    return pd.DataFrame(table, index=list(people), columns=list(series))


def of_question(values: pd.DataFrame, question: pd.Series) -> pd.DataFrame:
    """The rows of a frame that are about one question.

    Parameters
    ----------
    values : pd.DataFrame
        Values of all questions, one series and participant a row.
    question : pd.Series
        Cells of the columns `QUESTION`, maybe among others.

    Returns
    -------
    pd.DataFrame
        Rows in the same order, with all columns.
    """
    return values[np.logical_and.reduce([values[name] == question[name] for name in QUESTION])]
