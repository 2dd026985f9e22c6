"""Group figures: each participant in each series, and the tested differences."""

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
from bids_sr.group.values import wide
from bids_sr.io.arrays import evenly_spaced
from bids_sr.metrics.number_text import estimate, number
from bids_sr.report.evaluation_rows import series_text
from bids_sr.series import ACQUIRED, BASELINES, CONTROLS, MEASURED, kind_of

_SPREAD = 0.32  # of a box's half width

_EDGE = 0.05  # inches, from the edge of a figure to its labels
_NAMED = 40  # participants; the rows of more have no names
_DRAWN = 400  # participants that have a row
# participants; more are drawn as pixels, as so many paths make a page of many megabytes
_MANY = 100


def _color_of(series: str, methods: Sequence[str]) -> str:
    """One color a kind of series: acquired, baseline, control, method, measured."""
    if series in methods:
        return s.ORANGE
    return {"acquired": s.SOFT, "baseline": s.BLUE, "control": s.SKY, "measured": s.GREEN}.get(
        kind_of(series), s.INK
    )


def shown_series(values: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return participants by series in figure order, without placebos and ensemble members.

    One row a participant, one column a series; NaN where not defined.
    """
    found = wide(values).replace(np.inf, np.nan).dropna(axis=1, how="all")
    order = (*ACQUIRED, *BASELINES, *CONTROLS, *methods, MEASURED)
    return found[[name for name in order if name in found]]


def paired_figure(
    panels: Sequence[tuple[str, pd.DataFrame]], methods: Sequence[str], *, unit: str = ""
) -> Figure:
    """Plot boxes of each series and a line for each participant, one panel for each metric.

    The box spans the quartiles, its line is the median, whiskers reach the farthest value within
    1.5 times the quartiles' distance; every participant is drawn. Panels are a title and the rows
    of one question (in `unit`); raises `FigureInputError` where no panel has a value.

    `panels`: title and rows of each panel, from left to right.
    """
    drawn = [
        (title, table)
        for title, values in panels
        if not (table := shown_series(values, methods)).empty
    ]
    if not drawn:
        raise FigureInputError("no values are available for the figure")
    with s.style():
        fig = s.new_figure(12.0, 3.4)
        axes = fig.subplots(1, len(drawn), squeeze=False, gridspec_kw={"wspace": 0.22})[0]
        for ax, (title, table) in zip(axes, drawn, strict=True):
            _boxes(ax, table, methods)
            ax.set_title(title, loc="left")
            ax.set_ylabel("" if unit in ("", "1") else unit.replace("mm^3", "mm³"))
        fig.subplots_adjust(left=0.06, right=0.995, top=0.91, bottom=0.24)
        _make_room(fig)
    return fig


def _make_room(fig: Figure) -> None:
    """Move the sides of the axes inwards until every label lies in the figure."""
    for _ in range(2):  # narrower axes can have other ticks
        found = fig.get_tightbbox()
        now = fig.subplotpars
        wide, tall = fig.get_size_inches()
        left, right = max(0.0, _EDGE - found.x0) / wide, max(0.0, found.x1 + _EDGE - wide) / wide
        bottom, top = max(0.0, _EDGE - found.y0) / tall, max(0.0, found.y1 + _EDGE - tall) / tall
        fig.subplots_adjust(
            left=now.left + left,
            right=now.right - right,
            bottom=now.bottom + bottom,
            top=now.top - top,
        )


def _boxes(ax: Axes, table: pd.DataFrame, methods: Sequence[str]) -> None:
    names = list(table)
    many = len(table) > _MANY
    lines = table.assign(gap=math.nan).to_numpy()  # one line that is broken between participants
    places = [*range(len(names)), math.nan] * len(table)
    ax.plot(places, lines.ravel(), color=s.GRID, lw=0.7, zorder=1, rasterized=many)
    for x, name in enumerate(names):
        values = table[name].dropna().to_numpy()
        color = _color_of(name, methods)
        line: dict[str, Any] = {"color": color, "lw": 1.2}
        ax.boxplot(
            [values],
            positions=[x],
            widths=2 * _SPREAD,
            showfliers=False,
            boxprops=line,
            whiskerprops=line,
            capprops=line,
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
            rasterized=many,
        )
    ax.set_xticks(
        range(len(names)),
        list(map(series_text, names)),
        rotation=35,
        ha="right",
        rotation_mode="anchor",
    )
    ax.set_xlim(-0.6, len(names) - 0.4)


def primary_figure(row: Any) -> Figure:
    """Plot the primary comparison as a forest plot of participants and the estimate.

    Each participant is a point, with the largest difference at the top.

    At the right stand the difference and the participant's strongest reference; beyond `_NAMED`
    participants the lines have no names, and beyond `_DRAWN` only so many are drawn, evenly from
    the largest difference to the smallest.
    """
    people = sorted(zip(row.differences, row.participants, row.rivals, strict=True), reverse=True)
    named = len(people) <= _NAMED
    people = [people[at] for at in evenly_spaced(len(people), _DRAWN)]
    labels: dict[str, str] = {}
    points: dict[str, list[ForestPoint]] = {}
    for value, who, rival in people:
        text = f"{number(value, '+.3f')} (minus {series_text(rival)})" if named else ""
        color = s.ORANGE if value > 0 else s.SOFT
        labels[who] = who if named else ""
        points[who] = [ForestPoint(value=value, color=color, marker="D", text=text)]
    if row.n > 1:
        low, at, high = row.lower, row.difference, row.upper
        labels[""] = f"all, n = {row.n}"
        points[""] = [
            ForestPoint(
                value=at,
                lower=low,
                upper=high,
                color=s.INK,
                marker="s",
                text=estimate(at, low, high, "+.3f"),
            )
        ]
    return forest_figure(
        [[ForestPanel(title="", points=points)]],
        labels,
        legend={},
        row_inch=0.235 if named else 0.06,
        xlabel=f"◂ reference more accurate  ·  explained variance of {row.series} minus "
        f"the participant's strongest reference  ·  {row.series} more accurate ▸",
    )


def differences_figure(comparisons: Sequence[Any], *, unit: str = "") -> Figure:
    """Plot Hodges-Lehmann differences of one method with intervals.

    They are for one question, with a line for each reference.

    The band is the margin of equivalence. Raises `FigureInputError` where nothing was compared.

    `unit`: unit of the values; ``1`` or empty for pure numbers.
    """
    rows = [row for row in comparisons if row.n]
    colors = {"better": s.GREEN, "worse": s.RED, "same": s.BLUE, "larger": s.INK, "smaller": s.INK}
    points = {
        row.minus: [
            ForestPoint(
                value=row.difference,
                lower=row.lower,
                upper=row.upper,
                marker="o",
                text=row.word,
                color=colors.get(row.word, s.SOFT),
            )
        ]
        for row in rows
    }
    labels = {row.minus: f"− {series_text(row.minus)}" for row in rows}
    margin, series = (rows[0].margin, rows[0].series) if rows else (math.nan, "")
    shown = "" if unit in ("", "1") else f" ({unit.replace('mm^3', 'mm³')})"
    return forest_figure(
        [[ForestPanel(title="", points=points, margin=margin)]],
        labels,
        legend={},
        lowest=-math.inf,
        row_inch=0.27,
        xlabel=f"{series} − reference{shown}",
    )
