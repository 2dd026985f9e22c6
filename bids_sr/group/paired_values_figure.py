"""Figure of the values of participants in several series: boxes, and a line per participant."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bids_sr.io.series import get_kind
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.figures import canvas as s
from bids_sr.report.figures.canvas import FigureInputError

_BOX_HALF_WIDTH = 0.32  # relative to the distance between boxes
_MARGIN_INCH = 0.05  # inches, distance between the edge of a figure and its labels
# participants; larger groups are rasterized, because their paths would take many megabytes
_MAX_VECTOR_PARTICIPANTS = 100
# colors by kind of series
_SERIES_COLORS = {
    "acquired": s.SOFT,
    "baseline": s.BLUE,
    "control": s.SKY,
    "method": s.ORANGE,
    "measured": s.GREEN,
}


def plot_paired_values(panels: Sequence[tuple[str, pd.DataFrame]], label: str = "") -> Figure:
    """Plot a box per series and a line per participant, with one panel per metric or contrast.

    Boxes span the quartiles, with a line at the median; whiskers reach the farthest value within
    1.5 times the interquartile range. All participants are drawn. `panels` are titles and values
    (participants by series; NaN if undefined), and `label` is the label of the vertical axis, such
    as the unit. FigureInputError is raised if no panel has a value.
    """
    drawings = [(title, table) for title, table in panels if not table.empty]
    if not drawings:
        raise FigureInputError("no values are available for the figure")
    with s.style():
        fig = s.new_figure(12.0, 3.4)
        axes = fig.subplots(1, len(drawings), squeeze=False, gridspec_kw={"wspace": 0.22})[0]
        for ax, (title, table) in zip(axes, drawings, strict=True):
            _draw_boxes(ax, table)
            ax.set_title(title, loc="left")
            ax.set_ylabel(label)
        fig.subplots_adjust(left=0.06, right=0.995, top=0.91, bottom=0.24)
        _fit_labels(fig)
    return fig


def _draw_boxes(ax: Axes, table: pd.DataFrame) -> None:
    """Draw a box per series and a line per participant; `table` is participants by series."""
    series_names = list(table)
    is_crowded = len(table) > _MAX_VECTOR_PARTICIPANTS
    # one line with a gap after each participant, which is drawn faster than a line per participant
    positions = [*range(len(series_names)), math.nan] * len(table)
    line_values = table.assign(gap=math.nan).to_numpy().ravel()
    ax.plot(positions, line_values, color=s.GRID, lw=0.7, zorder=1, rasterized=is_crowded)
    for x, name in enumerate(series_names):
        values = table[name].dropna().to_numpy()
        color = choose_color(name)
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


def choose_color(series: str) -> str:
    """Return the color for the kind of a series: acquired, baseline, control, method, measured."""
    return _SERIES_COLORS.get(get_kind(series), s.INK)


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
