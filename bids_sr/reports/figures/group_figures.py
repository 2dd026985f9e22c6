"""Figures of the group: every participant in every series, and the differences that the tests are about."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bids_sr.reports.figures import style as s
from bids_sr.reports.figures.style import FigureInputError
from bids_sr.reports.tables.evaluation_rows import series_text
from bids_sr.series import ACQUIRED, BASELINES, CONTROLS, MEASURED, kind_of
from bids_sr.stats.group.group_values import wide

_SPREAD = 0.32  # of a box's half width

_EDGE = 0.05  # inches, from the edge of a figure to its labels
_NAMED = 40  # participants; the rows of more have no names
_MANY = 100  # participants; more are drawn as pixels, as so many paths make a page of many megabytes


def _color_of(series: str, methods: Sequence[str]) -> str:
    """One color a kind of series: acquired, baseline, control, method, measured."""
    if series in methods:
        return s.ORANGE
    return {"acquired": s.SOFT, "baseline": s.BLUE, "control": s.SKY, "measured": s.GREEN}.get(kind_of(series), s.INK)


def shown_series(values: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Participants by series, in the order of a figure; placebos and ensemble members have no place in it."""
    there = set(values["series"][values["value"].notna()])
    order = (*ACQUIRED, *BASELINES, *CONTROLS, *methods, MEASURED)
    return wide(values)[[name for name in order if name in there]]


def paired_figure(panels: Sequence[tuple[str, pd.DataFrame]], methods: Sequence[str], *, unit: str = "") -> Figure:
    """Boxes of each series, and a line for each participant through all of them; a panel each metric.

    The box spans the quartiles, its line is the median, whiskers reach the farthest value within 1.5 times the
    quartiles' distance; every participant is drawn. Panels are a title and the rows of one question (in `unit`);
    raises `FigureInputError` where no panel has a value.
    """
    drawn = [(title, table) for title, values in panels if not (table := shown_series(values, methods)).empty]
    if not drawn:
        raise FigureInputError("there is no figure to draw")
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
        found, now = fig.get_tightbbox(), fig.subplotpars
        wide, tall = fig.get_size_inches()
        left, right = max(0.0, _EDGE - found.x0) / wide, max(0.0, found.x1 + _EDGE - wide) / wide
        bottom, top = max(0.0, _EDGE - found.y0) / tall, max(0.0, found.y1 + _EDGE - tall) / tall
        fig.subplots_adjust(
            left=now.left + left, right=now.right - right, bottom=now.bottom + bottom, top=now.top - top
        )


def _boxes(ax: Axes, table: pd.DataFrame, methods: Sequence[str]) -> None:
    names, many = list(table), len(table) > _MANY
    lines = table.assign(gap=math.nan).to_numpy()  # one line that is broken between participants
    places = [*range(len(names)), math.nan] * len(table)
    ax.plot(places, lines.ravel(), color=s.GRID, lw=0.7, zorder=1, rasterized=many)
    for x, name in enumerate(names):
        values = table[name].dropna().to_numpy()
        color = _color_of(name, methods)
        line: dict[str, Any] = {"color": color, "lw": 1.2}
        ax.boxplot(
            [values], positions=[x], widths=2 * _SPREAD, showfliers=False, boxprops=line, whiskerprops=line,
            capprops=line, medianprops={"color": color, "lw": 2.2}, zorder=3,
        )  # fmt: skip
        ax.plot(np.full(len(values), x), values, "o", ms=2.6, color=color, alpha=0.6, zorder=2, rasterized=many)
    ax.set_xticks(range(len(names)), list(map(series_text, names)), rotation=35, ha="right", rotation_mode="anchor")
    ax.set_xlim(-0.6, len(names) - 0.4)


def primary_figure(row: Any) -> Figure:
    """Forest plot of the primary comparison: a point each participant, largest difference above, and the estimate.

    At the right stand the difference and the participant's strongest reference; beyond `_NAMED` participants the rows
    have no names.
    """
    people = sorted(zip(row.differences, row.participants, row.rivals, strict=True), reverse=True)
    named = len(people) <= _NAMED
    with s.style():
        fig = s.new_figure(12.0, 1.25 + (0.235 if named else 0.06) * (len(people) + (1.5 if named else 6)))
        ax = fig.subplots()
        ax.axvline(0, color=s.SOFT, lw=0.8)
        beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8.5}
        for y, (value, _, rival) in enumerate(people):
            ax.plot([value], [y], "D", ms=5 if named else 2.5, color=s.ORANGE if value > 0 else s.SOFT)
            if named:
                ax.annotate(f"{value:+.3f} (minus {series_text(rival)})".replace("-", "−", 1), (1.008, y), **beside)
        last = len(people) + (0.5 if named else 4)
        low, at, high = row.lower, row.difference, row.upper
        if row.n > 1:
            ax.fill([low, at, high, at], [last, last - 0.3, last, last + 0.3], color=s.INK, lw=1)
            ax.plot([low, high], [last, last], color=s.INK, lw=1.6)
            ends = f"{at:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−")
            ax.annotate(ends, (1.008, last), weight="bold", **beside)
        places: dict[float, str] = {y: who for y, (_, who, _) in enumerate(people)} if named else {}
        places |= {last: f"all, n = {row.n}"} if row.n > 1 else {}
        ax.set_yticks(list(places), list(places.values()))
        ax.set_ylim(last + 0.8, -0.8)
        ax.set_xlabel(f"explained variance: {row.series} minus the participant's strongest reference")
        fig.text(0.13, 0.99, "◂ reference more accurate", color=s.SOFT, va="top", fontsize=8.5)
        fig.text(0.8, 0.99, f"{row.series} more accurate ▸", color=s.SOFT, va="top", ha="right", fontsize=8.5)
        tall = fig.get_figheight()
        fig.subplots_adjust(left=0.13, right=0.8, top=1 - 0.27 / tall, bottom=0.55 / tall)
        _make_room(fig)
    return fig


def differences_figure(comparisons: Sequence[Any], *, unit: str = "") -> Figure:
    """Hodges-Lehmann differences of one method and question with their intervals, a row each reference.

    The band is the margin of equivalence. Raises `FigureInputError` where nothing was compared.
    """
    rows = [row for row in comparisons if row.n]
    if not rows:
        raise FigureInputError("there is no difference to draw")
    colors = {"better": s.GREEN, "worse": s.RED, "same": s.BLUE, "larger": s.INK, "smaller": s.INK}
    with s.style():
        fig = s.new_figure(12.0, 0.9 + 0.27 * len(rows))
        ax = fig.subplots()
        margin = rows[0].margin
        if math.isfinite(margin):
            ax.axvspan(-margin, margin, color=s.GRID, alpha=0.6, lw=0)
        ax.axvline(0, color=s.SOFT, lw=0.8)
        for y, row in enumerate(rows):
            color = colors.get(row.word, s.SOFT)
            ax.plot([row.lower, row.upper], [y, y], color=color, lw=1.6)
            ax.plot([row.difference], [y], "o", ms=5, color=color)
            ax.annotate(row.word, (1.005, y), xycoords=("axes fraction", "data"), va="center", color=color)
        ax.set_yticks(range(len(rows)), [f"− {series_text(row.minus)}" for row in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        shown = "" if unit in ("", "1") else f" ({unit.replace('mm^3', 'mm³')})"
        ax.set_xlabel(f"{rows[0].series} − reference{shown}")
        fig.subplots_adjust(left=0.13, right=0.9, top=0.98, bottom=0.55 / fig.get_figheight())
        _make_room(fig)
    return fig
