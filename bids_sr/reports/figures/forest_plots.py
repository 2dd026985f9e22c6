"""Forest plots: a point with its 95 % interval for every series, panels side by side on one scale.

Points are colored *and* shaped by what a series is, so that neither a gray print nor a color-blind reader loses
anything; the values stand beside them, because a figure that cannot be read off is decoration.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bids_sr.io.array_types import Array
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.reports.figures import style as s
from bids_sr.reports.figures.style import FigureInputError
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.reports.tables.evaluation_rows import Kind

KIND_STYLE: Mapping[Kind, tuple[str, str]] = {
    "baseline": (s.BLUE, "o"),
    "control": (s.PURPLE, "s"),
    "method": (s.RED, "D"),
    "placebo": (s.ORANGE, "v"),
    "measured": (s.INK, "^"),
    "member": (s.GREEN, "P"),
    "run": (s.SOFT, "o"),
}
ROW_INCH = 0.235
LOWEST = -1.5
"""The scale goes no lower: explained variance has no lower end, and one series far worse than none would flatten it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One panel of a forest plot; the `strong` one is to be looked at first.

    Parameters
    ----------
    points : row by label; a label without a row, or without a value, is marked n/a
    lines : vertical lines by what they are called: color, dashes and place
    """

    title: str
    points: Mapping[str, MetricRow]
    lines: Mapping[str, tuple[str, Any, float]] = field(default_factory=dict)
    strong: bool = False


def forest_figure(
    grid: Sequence[Sequence[Panel]],
    labels: Mapping[str, tuple[str, Kind]],
    *,
    row_names: Sequence[str] = (),
    xlabel: str = "",
    hollow: bool = False,
) -> Figure:
    """Points with 95 % intervals: a line each series, panels side by side and in rows.

    Parameters
    ----------
    grid, row_names : rows of panels and their headings; `FigureInputError` is raised without any
    labels : key of the points, in order from above, to the text at the left and what the series is
    hollow : draw points whose interval holds zero hollow
    """
    if not grid or not labels:
        raise FigureInputError("there is no figure of the evaluation to draw")
    body, gap = len(labels) * ROW_INCH, 0.7 if row_names else 0.36
    with s.literal_style():
        fig = s.new_figure(12.0, (body + gap) * len(grid) + 0.75)
        tall = fig.get_figheight()
        left = min(0.33, 0.03 + 0.0062 * max(len(text) for text, _ in labels.values()))
        spaces = {"left": left, "right": 0.985, "bottom": 0.72 / tall, "top": 1 - gap / tall, "wspace": 0.08}
        grid_spec = {**spaces, "hspace": gap / body}
        axes = np.asarray(fig.subplots(len(grid), len(grid[0]), squeeze=False, gridspec_kw=grid_spec))
        for number, (row, panels) in enumerate(zip(axes, grid, strict=True)):
            for column, (ax, panel) in enumerate(zip(row, panels, strict=True)):
                _panel(ax, panel, labels, named=column == 0, hollow=hollow)
                if number == len(grid) - 1:
                    ax.set_xlabel(xlabel, fontsize=8)
            if row_names:
                top = row[0].get_position().y1 + 0.28 / tall
                fig.text(0.012, top, row_names[number], fontsize=10, fontweight="bold", va="bottom")
        _share_limits(axes)
        _legend(fig, [kind for _, kind in labels.values()], [p for row in grid for p in row], hollow=hollow)
    return fig


def _panel(ax: Axes, panel: Panel, labels: Mapping[str, tuple[str, Kind]], *, named: bool, hollow: bool) -> None:
    places = range(len(labels))
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_yticks(list(places), [text for text, _ in labels.values()] if named else [""] * len(labels), fontsize=8.5)
    ax.tick_params(axis="y", length=0, colors=s.INK)
    ax.tick_params(axis="x", labelsize=7.5)
    ax.set_title(panel.title, fontsize=9, loc="left", fontweight="bold" if panel.strong else "normal", pad=4)
    ax.spines["left"].set_visible(False)
    s.light_grid(ax, "x")
    if panel.strong:
        ax.set_facecolor("#f7f9fb")
    ax.axvline(0, color=s.SOFT, lw=0.8)
    for color, dashes, place in panel.lines.values():
        if math.isfinite(place):
            ax.axvline(place, color=color, lw=1.0, ls=dashes, zorder=1)
    for place, (key, (_, kind)) in zip(places, labels.items(), strict=True):
        _point(ax, place, panel.points.get(key), kind, hollow=hollow)


def _point(ax: Axes, place: int, row: MetricRow | None, kind: Kind, *, hollow: bool) -> None:
    color, marker = KIND_STYLE[kind]
    beside: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "fontsize": 7, "va": "center", "ha": "right"}
    if row is None or not math.isfinite(row.value):
        ax.text(0.99, place, "n/a", color=s.SOFT, **beside)
        return
    if math.isfinite(row.lower) and math.isfinite(row.upper):
        ax.plot([row.lower, row.upper], [place, place], color=color, lw=1.5, solid_capstyle="butt", zorder=2)
    face = "white" if hollow and not row.excludes_zero else color
    ax.plot([row.value], [place], marker, color=color, mfc=face, ms=5, mew=1.1, zorder=3)
    ax.text(0.99, place, "◂ " * (row.value < LOWEST) + pick.value_text(row.value), color=s.INK, **beside)


def _share_limits(axes: Array) -> None:
    """One scale for each column that holds zero and ends at `LOWEST`, with room for the values at the right."""
    for column in axes.T:
        ends = [(ax.dataLim.x0, ax.dataLim.x1) for ax in column if np.isfinite([ax.dataLim.x0, ax.dataLim.x1]).all()]
        low, high = min([0.0, *(end[0] for end in ends)]), max([0.0, *(end[1] for end in ends)])
        low = max(low, LOWEST)
        span = (high - low) or 1.0
        for ax in column:
            ax.set_xlim(low - 0.04 * span, high + 0.2 * span)
            ax.xaxis.set_major_locator(MaxNLocator(6))


def _legend(fig: Figure, kinds: Sequence[Kind], panels: Sequence[Panel], *, hollow: bool) -> None:
    handles = []
    for kind in dict.fromkeys(kinds):
        color, marker = KIND_STYLE[kind]
        text = pick.KIND_TEXT[kind]
        handles.append(Line2D([], [], color=color, marker=marker, ls="-", lw=1.5, ms=5, label=text))
    lines = {name: look for panel in panels for name, look in panel.lines.items()}
    handles += [Line2D([], [], color=c, ls=dashes, lw=1.0, label=name) for name, (c, dashes, _) in lines.items()]
    if hollow:
        handles.append(Line2D([], [], color=s.SOFT, marker="o", mfc="white", ls="", ms=5, label="interval holds 0"))
    fig.legend(handles=handles, loc="lower center", ncols=min(len(handles), 6), fontsize=8, columnspacing=1.6)
