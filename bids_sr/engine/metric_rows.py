"""Table of metrics with one value per row, and columns that describe the value."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from bids_sr.boilerplate import data_of
from bids_sr.io.frozen import frozen
from bids_sr.io.metric_registry import statistic

if TYPE_CHECKING:
    import pandas as pd

MISSING = "n/a"
BRAIN, SCAN = "brain", "scan"
"""Regions of structural scans that are compared: the brain mask, and all voxels of the slices."""
COLUMNS: Mapping[str, Mapping[str, object]] = data_of("columns.json")["metrics"]
"""Columns of the metrics tables with their descriptions in the sidecar."""
_INPUT_SMOOTHING = "input_fwhm_mm"
_EARLIER_COLUMNS = [name for name in COLUMNS if name != _INPUT_SMOOTHING]  # of earlier versions
_NUMBER_COLUMNS = (_INPUT_SMOOTHING, "fwhm_mm", "value", "lower", "upper")
_DTYPES = {
    name: "Int64" if name == "n" else "float64" if name in _NUMBER_COLUMNS else "str"
    for name in COLUMNS
}


class VerdictFacts(TypedDict, total=False):
    """Verdict as stored in its JSON file; empty if the file is missing or damaged.

    `warnings` precede the `headline`. `shown` is the contrast of the headline; "" if no detail may
    be interpreted. `reduced`, `acquired` and `final` are voxel sizes in words, of the test and of
    the run before and after super-resolution. `reference` is the high-resolution reference in
    words; "" if there is none. `baseline` is the strongest baseline in active voxels. `changes`
    are results of contrasts over runs. In the verdict of all runs, `runs` are the starts of the
    file names of the runs that it replaces.
    """

    headline: str
    status: str
    best: str
    not_applied: Sequence[str]
    warnings: Sequence[str]
    shown: str
    reduced: str
    acquired: str
    final: str
    reference: str
    baseline: Mapping[str, Any]
    sentences: Sequence[Mapping[str, Any]]
    limits: Sequence[str]
    contrasts: Sequence[Mapping[str, Any]]
    changes: Sequence[Mapping[str, Any]]
    runs: Sequence[str]


@frozen
class MetricRow:
    """Value of a metric with its description, see `COLUMNS`; NaN if the value is not defined.

    `value` is in the unit of the registered statistic. `minus` is the series that was subtracted,
    and `band` are the spatial frequencies ``all`` or ``beyond``. `region` are the voxels that were
    included, or the condition of a number of blocks, and `threshold` defines the region of the
    statistic. `contrast` may be two compared contrasts joined by +. These texts and `reference`
    are n/a if not applicable. `input_fwhm_mm` is the Gaussian smoothing (FWHM) of the series
    before super-resolution (NaN if unknown), and `fwhm_mm` the smoothing before statistics.
    `lower` and `upper` are the ends of the 95 % interval (NaN if there is no interval), and `n` is
    the number of units resampled for the interval (None if there is no interval).
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
    input_fwhm_mm: float = math.nan
    fwhm_mm: float = 0.0
    lower: float = math.nan
    upper: float = math.nan
    n: int | None = None

    @property
    def unit(self) -> str:
        """Unit of the value; KeyError if the statistic is not registered."""
        return statistic(self.statistic).unit

    @property
    def is_difference(self) -> bool:
        """Whether another series was subtracted."""
        return self.minus != MISSING

    @property
    def has_interval(self) -> bool:
        """Whether both ends of the interval are finite."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval is entirely above or below 0."""
        return self.lower > 0 or self.upper < 0

    def cells(self) -> list[str]:
        """Return the cells of the row in a table."""
        return [self._cell(name) for name in COLUMNS]

    def _cell(self, column: str) -> str:
        """Return the text of a column."""
        value = getattr(self, column)
        if column == "fwhm_mm":
            return f"{value:g}"
        if column in _NUMBER_COLUMNS:
            return cell_number(value)
        return MISSING if value is None else str(value)


def cell_number(value: float | None) -> str:
    """Format a number for a table with six significant digits, or all digits of a large integer.

    The text is n/a if the value is not defined or not finite.

    >>> cell_number(1 / 3), cell_number(1234567.0), cell_number(1234567.5), cell_number(None)
    ('0.333333', '1234567', '1.23457e+06', 'n/a')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    is_large_integer = 1e6 <= abs(value) < 1e15 and float(value).is_integer()
    return f"{value:.0f}" if is_large_integer else f"{value:.6g}"


def parse_cell(cell: str | float) -> float:
    """Return the number in a cell of a table, NaN for n/a; raise `ValueError` for other text."""
    return math.nan if cell == MISSING else float(cell)


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
    """Return rows of several statistics of one series with the same description.

    A value is None if the statistic is not defined. Texts are n/a if not applicable. `fwhm_mm` is
    the smoothing (FWHM) before the comparison, and `n` the number of units of the statistics; None
    if not applicable.
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


def with_input_smoothing(rows: Iterable[MetricRow], input_fwhm_mm: float) -> list[MetricRow]:
    """Return the rows of a run whose series was smoothed before super-resolution (FWHM, mm)."""
    return [replace(row, input_fwhm_mm=input_fwhm_mm) for row in rows]


def table_text(rows: Iterable[MetricRow]) -> str:
    """Return rows as TSV text with a header line."""
    lines_of_cells = [list(COLUMNS), *(row.cells() for row in rows)]
    return "".join("\t".join(cells) + "\n" for cells in lines_of_cells)


def frame(rows: Iterable[MetricRow]) -> pd.DataFrame:
    """Return rows as a data frame with all columns; missing words are n/a, missing numbers NaN."""
    import pandas as pd

    table = pd.DataFrame(
        [{name: getattr(row, name) for name in COLUMNS} for row in rows], columns=list(COLUMNS)
    )
    return table.astype(_DTYPES)


def read_table(path: Path) -> list[MetricRow]:
    """Read the rows of a metrics table; see `read_frame` for errors."""
    return rows_of(read_frame(path))


def rows_of(table: pd.DataFrame) -> list[MetricRow]:
    """Convert a data frame from `frame` or `read_frame` to rows.

    Parameters
    ----------
    table : pd.DataFrame
        Metrics table with the columns of `COLUMNS`.

    Returns
    -------
    list[MetricRow]
        One row per line, in the same order.
    """
    columns = {name: table[name].tolist() for name in COLUMNS if name != "unit"}
    columns["n"] = [
        int(count) if is_defined else None
        for count, is_defined in zip(table["n"], table["n"].notna(), strict=True)
    ]
    return [
        MetricRow(**dict(zip(columns, cells, strict=True)))
        for cells in zip(*columns.values(), strict=True)
    ]


def read_frame(path: Path) -> pd.DataFrame:
    """Read a metrics table as a data frame with the types of `frame`.

    Parameters
    ----------
    path : Path
        Metrics table (.tsv).

    Returns
    -------
    pd.DataFrame
        Columns of `COLUMNS`, as numbers or words.

    Raises
    ------
    ValueError
        The file is not a metrics table, or a line is truncated.
    """
    import pandas as pd

    missing_values = {name: [MISSING] for name in (*_NUMBER_COLUMNS, "n")}
    try:
        table = pd.read_csv(
            io.StringIO(complete_table(path.read_text(encoding="utf-8"))),
            sep="\t",
            quoting=csv.QUOTE_NONE,
            dtype=_DTYPES,
            keep_default_na=False,
            na_values=missing_values,
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


def complete_table(text: str) -> str:
    """Return the text of a table with all columns; other tables are returned unchanged.

    Tables of earlier versions lack the smoothing before super-resolution, which is then n/a.
    """
    head, *lines = text.split("\n")
    if head.split("\t") != _EARLIER_COLUMNS:
        return text
    position = list(COLUMNS).index(_INPUT_SMOOTHING)
    rows = [line.split("\t") for line in lines]
    for cells in rows:
        if len(cells) > 1:
            cells.insert(position, MISSING)
    return "\n".join(["\t".join(COLUMNS), *map("\t".join, rows)])


def columns_json(statistics: Iterable[str]) -> dict[str, dict[str, object]]:
    """Return the sidecar of a metrics table: its columns, and a level for each statistic in it."""
    levels = {
        name: f"{statistic(name).description} ({statistic(name).unit})"
        for name in sorted(set(statistics))
    }
    columns = {name: dict(text) for name, text in COLUMNS.items()}
    columns["statistic"]["Levels"] = levels
    return columns
