"""Forest plots: one line per label, with points, intervals and values.

A figure consists of rows of panels.
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

from bids_sr.io.frozen import frozen
from bids_sr.report.figures import canvas
from bids_sr.report.figures.canvas import FigureInputError

Dashes = tuple[float, tuple[float, ...]]
"""Offset, and alternating lengths of dashes and gaps."""
# Lower limit of the value axis. Explained variance has no lower bound, and a single series with
# very wrong detail would compress the axis.
_LOWEST_VALUE = -1.5


@frozen
class ForestPoint:
    """Value with its interval, appearance, and label.

    `value` is the position; NaN is not drawn. `lower` and `upper` are the ends of the interval;
    NaN if there is no interval. A `hollow` point is an outline filled with the background color.
    `text` is printed at the right end of the line.
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
    """Panel of a forest plot.

    `points` are by label; labels without a finite value are marked n/a. `lines` are color, dashes
    and position of vertical lines by name. A panel is emphasized by a bold title and a tinted
    background. Values within ± the equivalence `margin` are shaded; NaN for no shading.
    """

    title: str
    points: Mapping[str, Sequence[ForestPoint]]
    lines: Mapping[str, tuple[str, Dashes, float]] = field(default_factory=dict)
    is_emphasized: bool = False
    margin: float = math.nan


def forest_figure(
    grid: Sequence[Sequence[ForestPanel]],
    labels: Mapping[str, str],
    *,
    legend: Mapping[str, ForestPoint],
    row_names: Sequence[str] = (),
    xlabel: str = "",
    shares_scale: bool = False,
    includes_zero: bool = True,
    lowest_value: float = _LOWEST_VALUE,
    row_inch: float = 0.19,
) -> Figure:
    """Plot points with intervals, one line per label.

    `grid` are rows of panels, with the headings `row_names` (may be empty). `labels` are the texts
    at the left by key of the points, from top to bottom. `legend` has the appearance of a point by
    name. All panels share one value axis if `shares_scale`; otherwise the panels of a column do.
    `lowest_value` is the lower limit of the value axis. `row_inch` is the height of a line
    (inches).

    Raises `FigureInputError` if `grid` or `labels` are empty.
    """
    if not grid or not labels:
        raise FigureInputError("no values of the evaluation to draw")
    body_inch = len(labels) * row_inch
    gap_inch = 0.6 if row_names else 0.3
    panels = [panel for row in grid for panel in row]
    panel_points = [points for panel in panels for points in panel.points.values()]
    text_width = max((len(point.text) for points in panel_points for point in points), default=0)
    with canvas.style(literal=True):
        fig = canvas.new_figure(12.0, (body_inch + gap_inch) * len(grid) + 0.72)
        figure_inch = fig.get_figheight()
        left_margin = min(0.33, 0.03 + 0.0062 * max(map(len, labels.values())))
        # Values are printed between the panels and at the right edge.
        right_margin = 0.99 - 0.005 * max(text_width, 7)
        grid_spec = {
            "left": left_margin,
            "right": right_margin,
            "bottom": 0.7 / figure_inch,
            "top": 1 - gap_inch / figure_inch,
            "wspace": 0.06 * (len(grid[0]) if text_width else 2),
            "hspace": gap_inch / body_inch,
        }
        axes = np.asarray(
            fig.subplots(len(grid), len(grid[0]), squeeze=False, gridspec_kw=grid_spec)
        )
        for row, (row_axes, row_panels) in enumerate(zip(axes, grid, strict=True)):
            for column, (ax, panel) in enumerate(zip(row_axes, row_panels, strict=True)):
                _draw_panel(
                    ax,
                    panel,
                    dict.fromkeys(labels, "") if column else labels,
                    includes_zero=includes_zero,
                    lowest_value=lowest_value,
                )
            if row_names:
                heading_y = row_axes[0].get_position().y1 + 0.24 / figure_inch
                fig.text(
                    0.012,
                    heading_y,
                    row_names[row],
                    fontsize=9.5,
                    fontweight="bold",
                    va="bottom",
                )
        fig.text(
            (left_margin + right_margin) / 2, 0.36 / figure_inch, xlabel, fontsize=8, ha="center"
        )
        for scale_axes in axes.reshape(1, -1) if shares_scale else axes.T:
            _share_limits(scale_axes, includes_zero=includes_zero, lowest_value=lowest_value)
        _draw_legend(fig, legend, panels)
    return fig


def _draw_panel(
    ax: Axes,
    panel: ForestPanel,
    labels: Mapping[str, str],
    *,
    includes_zero: bool,
    lowest_value: float,
) -> None:
    """Draw a panel with one line per label, and values at the right end of the lines.

    `labels`: text at the left by key of the points. Values below `lowest_value` are marked.
    """
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_yticks(range(len(labels)), list(labels.values()), fontsize=8.5)
    ax.tick_params(axis="y", length=0, colors=canvas.INK)
    ax.tick_params(axis="x", labelsize=7.5)
    ax.set_title(
        panel.title,
        fontsize=9,
        loc="left",
        fontweight="bold" if panel.is_emphasized else "normal",
        pad=4,
    )
    ax.spines["left"].set_visible(False)
    canvas.light_grid(ax, "x")
    if panel.is_emphasized:
        ax.set_facecolor(canvas.WASH)
    if math.isfinite(panel.margin):
        ax.axvspan(-panel.margin, panel.margin, color=canvas.GRID, alpha=0.6, lw=0)
    if includes_zero:
        ax.axvline(0, color=canvas.SOFT, lw=0.8)
    for color, dashes, position in panel.lines.values():
        if math.isfinite(position):
            ax.axvline(position, color=color, lw=1.0, ls=dashes, zorder=1)
    text_options: dict[str, Any] = {
        "transform": ax.get_yaxis_transform(),
        "fontsize": 7,
        "va": "center",
    }
    for line, key in enumerate(labels):
        finite_points = [
            point for point in panel.points.get(key, ()) if math.isfinite(point.value)
        ]
        for point in finite_points:
            _draw_point(ax, line, point)
            prefix = "◂ " if point.text and point.value < lowest_value else ""
            ax.text(1.01, line, prefix + point.text, color=canvas.INK, **text_options)
        if not finite_points:
            ax.text(1.01, line, "n/a", color=canvas.SOFT, **text_options)


def _draw_point(ax: Axes, line: int, point: ForestPoint) -> None:
    """Draw a point with its interval at a line of the panel."""
    if math.isfinite(point.lower) and math.isfinite(point.upper):
        ends = [point.lower, point.upper]
        ax.plot(ends, [line, line], color=point.color, lw=1.5, solid_capstyle="butt", zorder=2)
    face_color = canvas.PAPER if point.hollow else point.color
    ax.plot(
        [point.value],
        [line],
        point.marker,
        color=point.color,
        mfc=face_color,
        ms=5,
        mew=1.1,
        zorder=3,
    )


def _share_limits(axes: Sequence[Axes], *, includes_zero: bool, lowest_value: float) -> None:
    """Give axes one value axis, which includes 0 if requested and ends at `lowest_value`."""
    limits = np.array([(ax.dataLim.x0, ax.dataLim.x1) for ax in axes])
    limit_values = [
        *limits[np.isfinite(limits).all(axis=1)].ravel(),
        *([0.0] if includes_zero else []),
    ] or [0.0]
    lower, upper = max(min(limit_values), lowest_value), max(limit_values)
    span = (upper - lower) or 1.0
    for ax in axes:
        ax.set_xlim(lower - 0.04 * span, upper + 0.04 * span)
        ax.xaxis.set_major_locator(MaxNLocator(5))


def _draw_legend(
    fig: Figure, legend: Mapping[str, ForestPoint], panels: Sequence[ForestPanel]
) -> None:
    """Draw the legend of points, intervals and vertical lines."""
    handles = []
    for name, point in legend.items():
        face_color = canvas.PAPER if point.hollow else point.color
        handles.append(
            Line2D(
                [],
                [],
                ls="-" if math.isfinite(point.lower) else "",
                lw=1.5,
                label=name,
                color=point.color,
                marker=point.marker,
                mfc=face_color,
                ms=5,
            )
        )
    vertical_lines = {name: line for panel in panels for name, line in panel.lines.items()}
    handles += [
        Line2D([], [], color=color, ls=dashes, lw=1.0, label=name)
        for name, (color, dashes, _) in vertical_lines.items()
    ]
    if handles:
        fig.legend(
            handles=handles,
            loc="lower center",
            ncols=min(len(handles), 6),
            fontsize=8,
            columnspacing=1.6,
        )
