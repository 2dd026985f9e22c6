"""Forest plots: a row for each label, points with intervals, values beside them.

The panels are arranged side by side and in rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bids_sr.figures import canvas as s
from bids_sr.figures.canvas import FigureInputError
from bids_sr.frozen import frozen

Dashes = tuple[float, tuple[float, ...]]
"""Offset, and lengths of line and gap by turns."""
_LOWEST = -1.5
"""The scale goes no lower: explained variance has no lower end, and one series far worse than none
would flatten it.
"""


@frozen
class Point:
    """A value with its interval, its look, and the text at the right of its line.

    `value`: place of the point; NaN is not drawn. `lower`: lower end of the interval; NaN for
    none. `upper`: upper end of the interval; NaN for none. `hollow`: whether it is an outline,
    filled with the color of the paper. `text`: text at the right of its line; empty for none.
    """

    value: float
    color: str
    marker: str
    lower: float = math.nan
    upper: float = math.nan
    hollow: bool = False
    text: str = ""


@frozen
class ForestPanel:
    """One panel; the `strong` one, bold and on a tinted ground, is to be looked at first.

    Points are by label (one without a point that has a value is marked n/a); lines are vertical:
    name to color, dashes and place. What lies within the `margin` counts as equal to 0 and is
    shaded.

    `title`: text above the panel; empty for none.
    """

    title: str
    points: Mapping[str, Sequence[Point]]
    lines: Mapping[str, tuple[str, Dashes, float]] = field(default_factory=dict)
    strong: bool = False
    margin: float = math.nan


def forest_figure(
    grid: Sequence[Sequence[ForestPanel]],
    labels: Mapping[str, str],
    *,
    legend: Mapping[str, Point],
    row_names: Sequence[str] = (),
    xlabel: str = "",
    one_scale: bool = False,
    from_zero: bool = True,
    lowest: float = _LOWEST,
    row_inch: float = 0.19,
) -> Figure:
    """Return points with intervals, a line each label.

    `grid, row_names`: rows of panels and their headings; `FigureInputError` is raised without any.
    `labels`: key of the points, in order from above, to the text at the left.
    """
    if not grid or not labels:
        raise FigureInputError("no values of the evaluation to draw")
    body = len(labels) * row_inch
    gap = 0.6 if row_names else 0.3
    panels = [panel for row in grid for panel in row]
    texts = [
        len(point.text) for panel in panels for each in panel.points.values() for point in each
    ]
    beside = max(texts, default=0)
    with s.style(literal=True):
        fig = s.new_figure(12.0, (body + gap) * len(grid) + 0.72)
        tall = fig.get_figheight()
        left = min(0.33, 0.03 + 0.0062 * max(map(len, labels.values())))
        # values stand between the panels, and at their right
        right = 0.99 - 0.005 * max(beside, 7)
        spaces = {"left": left, "right": right, "bottom": 0.7 / tall, "top": 1 - gap / tall}
        grid_spec = {
            **spaces,
            "wspace": 0.06 * (len(grid[0]) if beside else 2),
            "hspace": gap / body,
        }
        axes = np.asarray(
            fig.subplots(len(grid), len(grid[0]), squeeze=False, gridspec_kw=grid_spec)
        )
        for number, (row, of_row) in enumerate(zip(axes, grid, strict=True)):
            for column, (ax, panel) in enumerate(zip(row, of_row, strict=True)):
                _panel(
                    ax,
                    panel,
                    labels if column == 0 else dict.fromkeys(labels, ""),
                    from_zero,
                    lowest,
                )
            if row_names:
                top = row[0].get_position().y1 + 0.24 / tall
                fig.text(
                    0.012, top, row_names[number], fontsize=9.5, fontweight="bold", va="bottom"
                )
        fig.text((left + right) / 2, 0.36 / tall, xlabel, fontsize=8, ha="center")
        for column in axes.reshape(1, -1) if one_scale else axes.T:
            _share_limits(column, from_zero, lowest)
        _legend(fig, legend, panels)
    return fig


def _panel(
    ax: Axes, panel: ForestPanel, labels: Mapping[str, str], from_zero: bool, lowest: float
) -> None:
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_yticks(range(len(labels)), list(labels.values()), fontsize=8.5)
    ax.tick_params(axis="y", length=0, colors=s.INK)
    ax.tick_params(axis="x", labelsize=7.5)
    ax.set_title(
        panel.title, fontsize=9, loc="left", fontweight="bold" if panel.strong else "normal", pad=4
    )
    ax.spines["left"].set_visible(False)
    s.light_grid(ax, "x")
    if panel.strong:
        ax.set_facecolor(s.WASH)
    if math.isfinite(panel.margin):
        ax.axvspan(-panel.margin, panel.margin, color=s.GRID, alpha=0.6, lw=0)
    if from_zero:
        ax.axvline(0, color=s.SOFT, lw=0.8)
    for color, dashes, place in panel.lines.values():
        if math.isfinite(place):
            ax.axvline(place, color=color, lw=1.0, ls=dashes, zorder=1)
    look: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "fontsize": 7, "va": "center"}
    for height, key in enumerate(labels):
        known = [point for point in panel.points.get(key, ()) if math.isfinite(point.value)]
        for point in known:
            _draw_point(ax, height, point)
            before = "◂ " if point.text and point.value < lowest else ""
            ax.text(1.01, height, before + point.text, color=s.INK, **look)
        if not known:
            ax.text(1.01, height, "n/a", color=s.SOFT, **look)


def _draw_point(ax: Axes, height: int, point: Point) -> None:
    if math.isfinite(point.lower) and math.isfinite(point.upper):
        ends = [point.lower, point.upper]
        ax.plot(ends, [height, height], color=point.color, lw=1.5, solid_capstyle="butt", zorder=2)
    face = s.PAPER if point.hollow else point.color
    ax.plot(
        [point.value], [height], point.marker, color=point.color, mfc=face, ms=5, mew=1.1, zorder=3
    )


def _share_limits(axes: Sequence[Axes], from_zero: bool, lowest: float) -> None:
    """One scale, which holds zero where it is wanted and goes no lower than told."""
    found = np.array([(ax.dataLim.x0, ax.dataLim.x1) for ax in axes])
    ends = [*found[np.isfinite(found).all(axis=1)].ravel(), *([0.0] if from_zero else [])] or [0.0]
    low, high = max(min(ends), lowest), max(ends)
    span = (high - low) or 1.0
    for ax in axes:
        ax.set_xlim(low - 0.04 * span, high + 0.04 * span)
        ax.xaxis.set_major_locator(MaxNLocator(5))


def _legend(fig: Figure, legend: Mapping[str, Point], panels: Sequence[ForestPanel]) -> None:
    """Looks of points, with a line where they have intervals, and of vertical lines."""
    handles = []
    for name, look in legend.items():
        face = s.PAPER if look.hollow else look.color
        line = "-" if math.isfinite(look.lower) else ""
        mark: dict[str, Any] = {"color": look.color, "marker": look.marker, "mfc": face, "ms": 5}
        handles.append(Line2D([], [], ls=line, lw=1.5, label=name, **mark))
    lines = {name: look for panel in panels for name, look in panel.lines.items()}
    handles += [
        Line2D([], [], color=c, ls=dashes, lw=1.0, label=name)
        for name, (c, dashes, _) in lines.items()
    ]
    if handles:
        fig.legend(
            handles=handles,
            loc="lower center",
            ncols=min(len(handles), 6),
            fontsize=8,
            columnspacing=1.6,
        )
