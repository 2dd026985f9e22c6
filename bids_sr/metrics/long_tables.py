"""Long tables of metrics, one value a row: their columns, how they are written and read, and their JSON sidecars."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_sr.frozen import frozen
from bids_sr.metrics.measure_names import MeasureParts, parts_of
from bids_sr.metrics.registry import metric

if TYPE_CHECKING:
    pass

MISSING = "n/a"
_FWHM = {"Description": "Full width at half maximum of the Gaussian smoothing before statistics", "Units": "mm"}
_CONTRAST = {"Description": "The contrast, or two joined by + where the figure compares two"}
_MEASURE = {"Description": "What was measured"}
_UNIT = {"Description": "Unit of the value; 1 for pure numbers, signal for the unit of the BOLD series"}
SERIES: Mapping[str, Mapping[str, str]] = {
    "series": {
        "Description": "The series the figure is about: raw is the acquired grid, rawSpline the raw maps brought to "
        "the high-resolution grid by a cubic spline, the others are baselines and methods"
    },
    "fwhm_mm": _FWHM,
    "contrast": _CONTRAST,
    "measure": _MEASURE,
    "value": {"Description": "The figure, in the unit of its row; n/a where it is not defined (an empty region)"},
    "unit": _UNIT,
}
"""Columns of the tables of image quality and of activation, with what the sidecar says of them."""
EVALUATION: Mapping[str, Mapping[str, str]] = {
    "series": {
        "Description": "The series the figure is about: a baseline, a method, a control (bsplineSmooth, bsplinePca), a "
        "placebo (such as sblMirror), measured (the truth itself) or run (no single series)"
    },
    "against": {
        "Description": "What it is held against: measured (high-resolution BOLD of the same run), truth (known "
        "activation), self (the other half of the same series), otherRun (another acquired run of the task), or the "
        "series that was subtracted in a difference "
        "(gain_truth_*: to the measured series where there is one, else to known activation); "
        "n/a where there is nothing of the kind"
    },
    "fwhm_mm": _FWHM,
    "contrast": _CONTRAST,
    "region": {
        "Description": "Voxels that entered: brain, roi, or activeNN (measured |t| of at least NN/10 in the half of "
        "the blocks that is not the target, 4 mm FWHM), or of the whole run for its maps; active: where known "
        "activation is at least a quarter of its maximum"
    },
    "measure": _MEASURE,
    "value": {"Description": "The figure, in the unit of its row; n/a where it is not defined"},
    "lower": {"Description": "Lower end of its 95 % interval (resampled blocks or volumes); n/a without"},
    "upper": {"Description": "Upper end of its 95 % interval"},
    "n": {"Description": "Units resampled for the interval: blocks, slices, stretches of volumes; n/a without"},
    "unit": _UNIT,
}
"""Columns of the table of the evaluation."""
STRUCTURAL = ("contrast", "series", "measure", "value", "unit", "reference")
"""Columns of the table of structural scans, whose intensities are scaled to [0, 1]: their signal is a pure number."""


@frozen
class MetricRow:
    """One value of a metric; a table shows those of its columns, see `EVALUATION`. NaN stands for not defined."""

    series: str
    measure: str
    value: float
    against: str = MISSING
    fwhm_mm: float = 0.0
    contrast: str = MISSING
    region: str = MISSING
    lower: float = math.nan
    upper: float = math.nan
    n: int | None = None
    reference: str = MISSING

    @property
    def unit(self) -> str:
        """Unit of the value; UndeclaredMetric where the metric is not registered."""
        return metric(self.measure).unit

    @property
    def parts(self) -> MeasureParts:
        """What the name of the metric tells."""
        return parts_of(self.measure)

    @property
    def has_interval(self) -> bool:
        """Whether both ends of its interval are known."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and it lies on one side of 0."""
        return self.lower > 0 or self.upper < 0

    def cells(self, columns: Iterable[str]) -> list[str]:
        """The row as it stands in a table of these columns."""
        return [self._cell(name) for name in columns]

    def _cell(self, column: str) -> str:
        value = getattr(self, column)
        if column == "fwhm_mm":
            return f"{value:g}"
        if column in ("value", "lower", "upper"):
            return number_text(value)
        return MISSING if value is None else str(value)


def metric_rows(
    series: str, values: Mapping[str, float | None], *, fwhm_mm: float = 0.0, contrast: str = MISSING,
    region: str = MISSING, n: int | None = None, reference: str = MISSING,
) -> list[MetricRow]:  # fmt: skip
    """Rows of several metrics of one series, at one contrast, smoothing …; None is not defined."""
    return [
        MetricRow(
            series=series,
            measure=name,
            value=math.nan if value is None else value,
            fwhm_mm=fwhm_mm,
            contrast=contrast,
            region=region,
            n=n,
            reference=reference,
        )
        for name, value in values.items()
    ]


def number_text(value: float | None) -> str:
    """Six significant digits; n/a for what is not defined or not finite."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.6g}"


def parsed_number(text: str) -> float:
    """Inverse of `number_text`: NaN for n/a."""
    return math.nan if text == MISSING else float(text)


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("value", "lower", "upper"), parsed_number),
    "fwhm_mm": float,
    "n": lambda text: None if text == MISSING else int(text),
}


def tsv_text(columns: Iterable[str], lines: Iterable[Sequence[str]]) -> str:
    """Cells as TSV text with a header line."""
    return "".join("\t".join(line) + "\n" for line in (tuple(columns), *lines))


def table_text(rows: Iterable[MetricRow], columns: Iterable[str] = EVALUATION) -> str:
    """Rows as TSV text with a header line; columns are `SERIES`, `EVALUATION` or `STRUCTURAL`."""
    columns = tuple(columns)
    lines = [row.cells(columns) for row in rows]
    if columns == STRUCTURAL:
        unit = columns.index("unit")
        for line in lines:
            line[unit] = "1" if line[unit] == "signal" else line[unit]
    return tsv_text(columns, lines)


def read_cells(path: Path, columns: Iterable[str]) -> dict[str, list[str]]:
    """A table as text, by column; ValueError names a file of other columns, or with another number of cells."""
    wanted = list(columns)
    head, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if head.split("\t") != wanted:
        raise ValueError(f"{path}: columns {' '.join(head.split())!r}, expected {' '.join(wanted)}")
    rows = [line.split("\t") for line in lines]
    if any(len(row) != len(wanted) for row in rows):
        raise ValueError(f"{path}: a line has more or fewer than {len(wanted)} cells")
    return {name: list(cells) for name, cells in zip(wanted, zip(*rows, strict=True), strict=True)} if rows else {
        name: [] for name in wanted
    }  # fmt: skip


def read_table(path: Path, columns: Iterable[str] = EVALUATION) -> list[MetricRow]:
    """Rows of a table that `table_text` made; ValueError as of `read_cells`, or where a number is none."""
    table = read_cells(path, columns)
    table.pop("unit", None)
    try:
        parsed = {name: [_PARSERS.get(name, str)(cell) for cell in cells] for name, cells in table.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return [MetricRow(**dict(zip(parsed, cells, strict=True))) for cells in zip(*parsed.values(), strict=True)]


def parse_row(cells: Mapping[str, str]) -> MetricRow:
    """A row from its cells by column; the unit belongs to the metric."""
    return MetricRow(**{name: _PARSERS.get(name, str)(cell) for name, cell in cells.items() if name != "unit"})


def columns_json(columns: Mapping[str, Mapping[str, str]], measures: Iterable[str]) -> dict[str, dict[str, object]]:
    """What the columns mean, with a level for every metric that occurs; the JSON beside the table."""
    out: dict[str, dict[str, object]] = {name: dict(text) for name, text in columns.items()}
    found = [metric(name) for name in sorted(set(measures))]
    out["measure"]["Levels"] = {each.name: f"{each.description} ({each.unit})" for each in found}
    return out
