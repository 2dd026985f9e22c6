"""Group figures of participants' values per series, and of the tested differences."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bids_sr.figures import canvas as s
from bids_sr.figures.canvas import FigureInputError
from bids_sr.figures.forest import ForestPanel, ForestPoint, forest_figure
from bids_sr.group.values import participants_by_series
from bids_sr.io.arrays import evenly_spaced
from bids_sr.metrics.number_text import estimate, number
from bids_sr.report.evaluation_rows import series_text
from bids_sr.series import ACQUIRED, BASELINES, CONTROLS, MEASURED, get_kind

_BOX_HALF_WIDTH = 0.32  # relative to the distance between boxes
_MARGIN_INCH = 0.05  # inches, distance between the edge of a figure and its labels
_MAX_LABELED_ROWS = 40  # participants, largest number whose rows have names
_MAX_ROWS = 400  # participants, largest number of rows
# participants; larger groups are rasterized, because their paths would take many megabytes
_MAX_VECTOR_PARTICIPANTS = 100
_SERIES_COLORS = {
    "acquired": s.SOFT,
    "baseline": s.BLUE,
    "control": s.SKY,
    "measured": s.GREEN,
}
"""Colors by kind of series."""
_DECISION_COLORS = {
    "better": s.GREEN,
    "worse": s.RED,
    "same": s.BLUE,
    "larger": s.INK,
    "smaller": s.INK,
}
"""Colors by decision of a comparison."""


def _choose_color(series: str, methods: Sequence[str]) -> str:
    """Return the color for the kind of series: acquired, baseline, control, method or measured."""
    if series in methods:
        return s.ORANGE
    return _SERIES_COLORS.get(get_kind(series), s.INK)


def select_series(values: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return the columns of values (participants by series) that a figure shows, in order.

    Placebos are omitted. Undefined values are NaN.
    """
    table = participants_by_series(values).replace(np.inf, np.nan).dropna(axis=1, how="all")
    order = (*ACQUIRED, *BASELINES, *CONTROLS, *methods, MEASURED)
    return table[[name for name in order if name in table]]


def plot_paired_values(
    panels: Sequence[tuple[str, pd.DataFrame]], methods: Sequence[str], *, unit: str = ""
) -> Figure:
    """Plot a box per series and a line per participant, with one panel per metric.

    Boxes span the quartiles, with a line at the median; whiskers reach the farthest value within
    1.5 times the interquartile range. All participants are drawn.

    Parameters
    ----------
    panels : Sequence[tuple[str, pd.DataFrame]]
        Title and values of one question (in `unit`) for each panel, from left to right.
    methods : Sequence[str]
        Methods under test.
    unit : str
        Unit of the values; ``1`` or "" for pure numbers.

    Raises
    ------
    FigureInputError
        If no panel has a value.
    """
    drawings = [
        (title, table)
        for title, values in panels
        if not (table := select_series(values, methods)).empty
    ]
    if not drawings:
        raise FigureInputError("no values are available for the figure")
    with s.style():
        fig = s.new_figure(12.0, 3.4)
        axes = fig.subplots(1, len(drawings), squeeze=False, gridspec_kw={"wspace": 0.22})[0]
        for ax, (title, table) in zip(axes, drawings, strict=True):
            _draw_boxes(ax, table, methods)
            ax.set_title(title, loc="left")
            ax.set_ylabel(_format_unit(unit))
        fig.subplots_adjust(left=0.06, right=0.995, top=0.91, bottom=0.24)
        _fit_labels(fig)
    return fig


def _format_unit(unit: str) -> str:
    """Return a unit as a label, "" for pure numbers."""
    return "" if unit in ("", "1") else unit.replace("mm^3", "mm³")


def _fit_labels(fig: Figure) -> None:
    """Shrink the axes until all labels are inside the figure."""
    for _ in range(2):  # narrower axes can have different ticks
        bounds = fig.get_tightbbox()
        margins = fig.subplotpars
        width, height = fig.get_size_inches()
        fig.subplots_adjust(
            left=margins.left + max(0.0, _MARGIN_INCH - bounds.x0) / width,
            right=margins.right - max(0.0, bounds.x1 + _MARGIN_INCH - width) / width,
            bottom=margins.bottom + max(0.0, _MARGIN_INCH - bounds.y0) / height,
            top=margins.top - max(0.0, bounds.y1 + _MARGIN_INCH - height) / height,
        )


def _draw_boxes(ax: Axes, table: pd.DataFrame, methods: Sequence[str]) -> None:
    """Draw a box per series and a line per participant; `table` is participants by series."""
    series_names = list(table)
    is_crowded = len(table) > _MAX_VECTOR_PARTICIPANTS
    # one line with a gap after each participant, which is drawn faster than a line per participant
    positions = [*range(len(series_names)), math.nan] * len(table)
    line_values = table.assign(gap=math.nan).to_numpy().ravel()
    ax.plot(positions, line_values, color=s.GRID, lw=0.7, zorder=1, rasterized=is_crowded)
    for x, name in enumerate(series_names):
        values = table[name].dropna().to_numpy()
        color = _choose_color(name, methods)
        line_style: dict[str, Any] = {"color": color, "lw": 1.2}
        ax.boxplot(
            [values],
            positions=[x],
            widths=2 * _BOX_HALF_WIDTH,
            showfliers=False,
            boxprops=line_style,
            whiskerprops=line_style,
            capprops=line_style,
            medianprops={"color": color, "lw": 2.2},
            zorder=3,
        )
        ax.plot(
            np.full(len(values), x),
            values,
            "o",
            ms=2.6,
            color=color,
            alpha=0.6,
            zorder=2,
            rasterized=is_crowded,
        )
    ax.set_xticks(
        range(len(series_names)),
        list(map(series_text, series_names)),
        rotation=35,
        ha="right",
        rotation_mode="anchor",
    )
    ax.set_xlim(-0.6, len(series_names) - 0.4)


def primary_figure(row: Any) -> Figure:
    """Plot the primary comparison as a forest plot of participants and the group estimate.

    Each participant is a point, with the largest difference at the top, labeled with the
    difference and the participant's strongest reference. Rows have no labels if there are more
    than `_MAX_LABELED_ROWS` participants. At most `_MAX_ROWS` participants are drawn, evenly
    spaced from the largest difference to the smallest.
    """
    ranked_participants = sorted(
        zip(row.differences, row.participants, row.rivals, strict=True), reverse=True
    )
    n_participants = len(ranked_participants)
    has_names = n_participants <= _MAX_LABELED_ROWS
    shown_participants = [
        ranked_participants[index] for index in evenly_spaced(n_participants, _MAX_ROWS)
    ]
    labels: dict[str, str] = {}
    points: dict[str, list[ForestPoint]] = {}
    for value, participant, rival in shown_participants:
        text = f"{number(value, '+.3f')} (minus {series_text(rival)})" if has_names else ""
        color = s.ORANGE if value > 0 else s.SOFT
        labels[participant] = participant if has_names else ""
        points[participant] = [ForestPoint(value=value, color=color, marker="D", text=text)]
    if row.n > 1:
        labels[""] = f"all, n = {row.n}"
        points[""] = [
            ForestPoint(
                value=row.difference,
                lower=row.lower,
                upper=row.upper,
                color=s.INK,
                marker="s",
                text=estimate(row.difference, row.lower, row.upper, "+.3f"),
            )
        ]
    return forest_figure(
        [[ForestPanel(title="", points=points)]],
        labels,
        legend={},
        row_inch=0.235 if has_names else 0.06,
        xlabel=f"◂ reference more accurate  ·  explained variance of {row.series} minus "
        f"the participant's strongest reference  ·  {row.series} more accurate ▸",
    )


def differences_figure(comparisons: Sequence[Any], *, unit: str = "") -> Figure:
    """Plot Hodges-Lehmann differences of one method with intervals, one row per reference.

    All comparisons are on the same question. The band is the equivalence margin.

    Parameters
    ----------
    comparisons : Sequence[Any]
        Rows of `bids_sr.group.comparisons.compare`.
    unit : str
        Unit of the values; ``1`` or "" for pure numbers.

    Raises
    ------
    FigureInputError
        If nothing was compared.
    """
    rows = [row for row in comparisons if row.n]
    points = {
        row.minus: [
            ForestPoint(
                value=row.difference,
                lower=row.lower,
                upper=row.upper,
                marker="o",
                text=row.word,
                color=_DECISION_COLORS.get(row.word, s.SOFT),
            )
        ]
        for row in rows
    }
    labels = {row.minus: f"− {series_text(row.minus)}" for row in rows}
    margin, series = (rows[0].margin, rows[0].series) if rows else (math.nan, "")
    unit_text = f" ({_format_unit(unit)})" if _format_unit(unit) else ""
    return forest_figure(
        [[ForestPanel(title="", points=points, margin=margin)]],
        labels,
        legend={},
        lowest_value=-math.inf,
        row_inch=0.27,
        xlabel=f"{series} − reference{unit_text}",
    )
