"""Table of metrics: one value per row, and columns for all that the value is about."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from bids_sr.boilerplate import data_of
from bids_sr.frozen import frozen
from bids_sr.metrics.registry import statistic

if TYPE_CHECKING:
    import pandas as pd

MISSING = "n/a"
BRAIN, SCAN = "brain", "scan"
"""Regions in which structural scans are compared: the brain mask, and all voxels of the slices."""
COLUMNS: Mapping[str, Mapping[str, object]] = data_of("columns.json")["metrics"]
"""Columns of the tables of metrics, with what the sidecar says of them."""
_NUMBERS = ("fwhm_mm", "value", "lower", "upper")
_DTYPES = {
    name: "Int64" if name == "n" else "float64" if name in _NUMBERS else "str" for name in COLUMNS
}


class VerdictFacts(TypedDict, total=False):
    """A verdict as its JSON has it; empty if the file is missing or damaged.

    `lines`: one per method, with ``text`` and ``status``; `headline` is the same as one text.
    """

    headline: str
    lines: Sequence[Mapping[str, str]]
    status: str
    best: str
    not_applied: Sequence[str]
    motion_text: str
    not_applied_text: str
    sentences: Sequence[Mapping[str, Any]]
    limits: Sequence[str]
    compared: Sequence[Mapping[str, Any]]


@frozen
class MetricRow:
    """One value of a metric, see `COLUMNS`. NaN stands for not defined.

    `value`: value in the unit of the statistic. `minus`: series that was subtracted; n/a for a
    value by itself. `band`: spatial frequencies that entered: ``all``, ``within`` or
    ``beyond``. `reference`: what the series is held against; n/a for nothing. `lower`: lower end
    of the 95 % interval; NaN without one. `upper`: upper end of the 95 % interval; NaN without
    one. `n`: number of units resampled for the interval; None without one.
    """

    series: str
    statistic: str
    value: float
    minus: str = MISSING
    band: str = MISSING
    reference: str = MISSING
    region: str = MISSING
    threshold: str = MISSING
    contrast: str = MISSING
    fwhm_mm: float = 0.0
    lower: float = math.nan
    upper: float = math.nan
    n: int | None = None

    @property
    def unit(self) -> str:
        """Unit of the value; KeyError where the statistic is not registered."""
        return statistic(self.statistic).unit

    @property
    def is_difference(self) -> bool:
        """Whether another series was subtracted."""
        return self.minus != MISSING

    @property
    def has_interval(self) -> bool:
        """Whether both ends of its interval are known."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and it lies on one side of 0."""
        return self.lower > 0 or self.upper < 0

    def cells(self) -> list[str]:
        """The row as it stands in a table."""
        return [self._cell(name) for name in COLUMNS]

    def _cell(self, column: str) -> str:
        value = getattr(self, column)
        if column == "fwhm_mm":
            return f"{value:g}"
        if column in _NUMBERS:
            return cell_number(value)
        return MISSING if value is None else str(value)


def metric_rows(
    series: str,
    values: Mapping[str, float | None],
    *,
    reference: str = MISSING,
    region: str = MISSING,
    threshold: str = MISSING,
    contrast: str = MISSING,
    fwhm_mm: float = 0.0,
    n: int | None = None,
) -> list[MetricRow]:
    """Return rows of several statistics of one series.

    They share one contrast, smoothing and so on. A value of None is not defined.

    `reference`: what the series is held against; n/a for nothing. `n`: number of units of the
    statistics; None for none.
    """
    return [
        MetricRow(
            series=series,
            statistic=name,
            value=math.nan if value is None else value,
            reference=reference,
            region=region,
            threshold=threshold,
            contrast=contrast,
            fwhm_mm=fwhm_mm,
            n=n,
        )
        for name, value in values.items()
    ]


def cell_number(value: float | None) -> str:
    """Return a number for a table: six significant digits, but all digits of a large count.

    n/a if the value is not defined or not finite.

    >>> cell_number(1 / 3), cell_number(1234567.0), cell_number(1234567.5), cell_number(None)
    ('0.333333', '1234567', '1.23457e+06', 'n/a')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    count = 1e6 <= abs(value) < 1e15 and float(value).is_integer()
    return f"{value:.0f}" if count else f"{value:.6g}"


def table_text(rows: Iterable[MetricRow]) -> str:
    """Return rows as TSV text with a header line."""
    return "".join("\t".join(line) + "\n" for line in (COLUMNS, *(row.cells() for row in rows)))


def frame(rows: Iterable[MetricRow]) -> pd.DataFrame:
    """Return rows as a table with all columns; n/a for a missing word, NaN for a number."""
    import pandas as pd

    table = pd.DataFrame(
        [{name: getattr(row, name) for name in COLUMNS} for row in rows], columns=list(COLUMNS)
    )
    return table.astype(_DTYPES)


def read_frame(path: Path) -> pd.DataFrame:
    """Return it as `frame`, from the file of a table; ValueError names one that is none.

    Parameters
    ----------
    path : Path
        Metrics table (.tsv).

    Returns
    -------
    pd.DataFrame
        Columns of `COLUMNS`, typed as numbers or words.

    Raises
    ------
    ValueError
        The file is no metrics table, or a line is cut short.
    """
    import pandas as pd

    numbers = {name: [MISSING] for name in (*_NUMBERS, "n")}
    try:
        table = pd.read_csv(
            path,
            sep="\t",
            quoting=csv.QUOTE_NONE,
            dtype=_DTYPES,
            keep_default_na=False,
            na_values=numbers,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if list(table) != list(COLUMNS):
        raise ValueError(
            f"{path}: the columns are {' '.join(table)!r}; expected {' '.join(COLUMNS)}"
        )
    if table["unit"].isna().any():
        raise ValueError(
            f"{path}: at least one row has fewer than {len(COLUMNS)} columns. The file is "
            "incomplete or was edited."
        )
    return table


def rows_of(table: pd.DataFrame) -> list[MetricRow]:
    """The rows of a table that `frame` or `read_frame` gave.

    Parameters
    ----------
    table : pd.DataFrame
        Metrics table with the columns of `COLUMNS`.

    Returns
    -------
    list[MetricRow]
        One row for each line, in the same order.
    """
    columns = {name: table[name].tolist() for name in COLUMNS if name != "unit"}
    columns["n"] = [
        int(count) if known else None
        for count, known in zip(table["n"], table["n"].notna(), strict=True)
    ]
    return [
        MetricRow(**dict(zip(columns, cells, strict=True)))
        for cells in zip(*columns.values(), strict=True)
    ]


def read_table(path: Path) -> list[MetricRow]:
    """The rows of the file of a table; ValueError as of `read_frame`."""
    return rows_of(read_frame(path))


def columns_json(statistics: Iterable[str]) -> dict[str, dict[str, object]]:
    """Describe the columns in the JSON beside the table.

    Every statistic that occurs has a level.

    `statistics`: names of registered statistics; repeated ones count once.
    """
    levels = {
        name: f"{statistic(name).description} ({statistic(name).unit})"
        for name in sorted(set(statistics))
    }
    told = {name: dict(text) for name, text in COLUMNS.items()}
    told["statistic"]["Levels"] = levels
    return told
