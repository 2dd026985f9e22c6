"""Figures of the tested differences, and the series of a figure of values."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bids_sr.engine.number_text import value_form
from bids_sr.group.values import participants_by_series
from bids_sr.io.series import MEASURED, REFERENCE_NAMES
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.figures import canvas as s
from bids_sr.report.figures.forest import ForestPanel, ForestPoint, forest_figure

# colors by decision of a comparison
_DECISION_COLORS = {
    "better": s.GREEN,
    "worse": s.RED,
    "same": s.BLUE,
    "larger": s.INK,
    "smaller": s.INK,
}


def select_series(values: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return the columns of values (participants by series) that a figure shows, in order.

    Placebos are omitted. Undefined values are NaN.
    """
    table = participants_by_series(values).replace(np.inf, np.nan).dropna(axis=1, how="all")
    order = (*REFERENCE_NAMES, *methods, MEASURED)
    return table[[name for name in order if name in table]]


def differences_figure(comparisons: Sequence[Any], *, unit: str = "") -> Figure:
    """Plot Hodges-Lehmann differences of one method with intervals, one row per reference.

    All comparisons are on the same question. The band is the equivalence margin. `comparisons` are
    rows of `bids_sr.group.comparisons.compare`. `unit` is ``1`` or "" for pure numbers. Raises
    `FigureInputError` if nothing was compared.
    """
    rows = [row for row in comparisons if row.n]
    factor = percent_factor(rows[0].statistic) if rows else 1.0
    points = {
        row.minus: [
            ForestPoint(
                value=factor * row.difference,
                lower=factor * row.lower,
                upper=factor * row.upper,
                marker="o",
                text=row.word,
                color=_DECISION_COLORS.get(row.word, s.SOFT),
            )
        ]
        for row in rows
    }
    labels = {row.minus: f"− {series_text(row.minus)}" for row in rows}
    margin, series = (factor * rows[0].margin, rows[0].series) if rows else (math.nan, "")
    unit_label = "percentage points" if factor > 1 else format_unit(unit)
    unit_text = f" ({unit_label})" if unit_label else ""
    return forest_figure(
        [[ForestPanel(title="", points=points, margin=margin)]],
        labels,
        legend={},
        lowest_value=-math.inf,
        row_inch=0.27,
        xlabel=f"{series} − reference{unit_text}",
    )


def percent_factor(statistic: str) -> float:
    """Return 100 for statistics that readers see in percent, otherwise 1."""
    return 100.0 if value_form(statistic).endswith("%") else 1.0


def format_unit(unit: str) -> str:
    """Return a unit as a label, "" for pure numbers."""
    return "" if unit in ("", "1") else unit.replace("mm^3", "mm³")
