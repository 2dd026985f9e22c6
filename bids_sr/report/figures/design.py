"""Figure of a run's design: events, responses, design matrix and contrasts."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bids_sr.engine.number_text import number
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import Design
from bids_sr.report.figures import canvas

# onset and duration (s) of each event by condition; empty for seeds
_Intervals = Mapping[str, Sequence[tuple[float, float]]]
# label of a group of columns of the design, by the beginning of the column name
_COLUMN_GROUPS = {
    "trans_": "head motion",
    "rot_": "head motion",
    "a_comp_cor": "aCompCor",
    "drift": "drift",
    "constant": "drift",
}
_MIN_COLUMNS = 4  # columns; labels of smaller groups are slanted, because they are not wide enough
_ROW_HEIGHT_INCH, _MIN_HEIGHT_INCH = 0.27, 1.9  # inches: height of a row, least height of a panel


def design_figure(
    design: Design, blocks: _Intervals, contrasts: Contrasts, *, with_matrix: bool = True
) -> Figure:
    """Plot events and responses, design matrix and contrast weights of a run.

    Rows of the design matrix are volumes, from top to bottom; every column is divided by its
    largest absolute value.

    `blocks` are onset and duration (s) of each event by condition; empty at rest. `contrasts` are
    weights by contrast and condition.
    """
    body_inch = max(
        _MIN_HEIGHT_INCH, _ROW_HEIGHT_INCH * max(len(design.conditions), len(contrasts))
    )
    with canvas.style(literal=True):
        fig = canvas.new_figure(12.0, body_inch + 1.3)
        figure_inch = fig.get_figheight()
        right_margin_inch = 0.2 + 0.085 * max(map(len, contrasts), default=0)
        margins = {
            "left": 0.09,
            "right": 1 - right_margin_inch / 12.0,
            "top": 1 - 0.8 / figure_inch,
            "bottom": 0.5 / figure_inch,
            "wspace": 0.14,
        }
        widths = [1.4, 0.9, 0.2 + 0.07 * len(design.conditions)]
        if not with_matrix:
            widths.pop(1)
        axes = fig.subplots(1, len(widths), gridspec_kw={**margins, "width_ratios": widths})
        _draw_events(axes[0], design, blocks)
        if with_matrix:
            _draw_matrix(axes[1], design)
        _draw_contrasts(axes[-1], design, contrasts)
    return fig


def _draw_events(ax: Axes, design: Design, blocks: _Intervals) -> None:
    """Draw one row per condition: events as bars, with the column of the design matrix above."""
    n_volumes = len(design.matrix)
    times_s = (design.n_dummy + np.arange(n_volumes) + 0.5) * design.tr
    for row, name in enumerate(design.conditions):
        spans = [
            (onset, max(duration, 0.2 * design.tr)) for onset, duration in blocks.get(name, ())
        ]
        ax.broken_barh(spans, (row + 0.36, -0.72), facecolor=canvas.SKY, alpha=0.55, lw=0)
        response = design.matrix[:, row] / max(float(np.abs(design.matrix[:, row]).max()), 1e-12)
        ax.plot(times_s, row + 0.36 - 0.72 * response, color=canvas.INK, lw=1.0)
    ax.set_yticks(range(len(design.conditions)), design.conditions, fontsize=8.5)
    ax.set_ylim(len(design.conditions) - 0.4, -0.6)
    ax.set_xlim(0, (design.n_dummy + n_volumes) * design.tr)
    ax.tick_params(axis="y", length=0, colors=canvas.INK)
    ax.tick_params(axis="x", labelsize=7.5)
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    ax.set_xlabel("time (s)", fontsize=8)
    title = "events (blue) and predicted response" if blocks else "time series of the seeds"
    ax.set_title(title, fontsize=9, loc="left", pad=6)


def _draw_matrix(ax: Axes, design: Design) -> None:
    """Draw the design matrix as an image, with labels of groups of columns above."""
    scale = np.maximum(np.abs(design.matrix).max(axis=0), 1e-12)
    extent = (0, design.matrix.shape[1], design.n_dummy + len(design.matrix), design.n_dummy)
    ax.imshow(
        design.matrix / scale,
        extent=extent,
        cmap="gray",
        vmin=-1,
        vmax=1,
        aspect="auto",
        interpolation="none",
    )
    start = 0
    for name, columns in groupby(design.columns, key=lambda column: _column_group(column, design)):
        stop = start + len(list(columns))
        ax.plot(
            [start + 0.15, stop - 0.15],
            [1.02, 1.02],
            transform=ax.get_xaxis_transform(),
            color=canvas.SOFT,
            lw=1.2,
            clip_on=False,
        )
        is_narrow = stop - start < _MIN_COLUMNS
        ax.text(
            (start + stop) / 2,
            1.04,
            name,
            transform=ax.get_xaxis_transform(),
            fontsize=8,
            rotation=30 if is_narrow else 0,
            ha="left" if is_narrow else "center",
            va="bottom",
        )
        start = stop
    ax.set_xticks([])
    ax.tick_params(labelsize=7.5)
    ax.set_ylabel("volume", fontsize=8)
    ax.set_xlabel(
        f"design matrix: {len(design.columns)} columns, {design.dof} degrees of freedom left",
        fontsize=8,
    )


def _column_group(column: str, design: Design) -> str:
    """Return the label of the group of a column; the column's name if it has no group."""
    if column in design.conditions:
        return "conditions"
    if column in design.derivatives:
        return "derivatives"
    return next(
        (kind for start, kind in _COLUMN_GROUPS.items() if column.startswith(start)), column
    )


def _draw_contrasts(ax: Axes, design: Design, contrasts: Contrasts) -> None:
    """Draw the contrast weights, one row per contrast and one column per condition.

    Weights are numbers in colored cells; cells are empty if the weight is 0.
    """
    weights = np.array(
        [
            [condition_weights.get(name, 0.0) for name in design.conditions]
            for condition_weights in contrasts.values()
        ]
    )
    ax.imshow(weights, cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto", interpolation="none")
    for row, column in np.argwhere(weights):
        ax.text(
            column,
            row,
            number(weights[row, column], ".2g"),
            ha="center",
            va="center",
            fontsize=7,
            color="black",
        )
    ax.set_yticks(range(len(contrasts)), list(contrasts), fontsize=8)
    ax.yaxis.tick_right()
    ax.set_xticks(
        range(len(design.conditions)), design.conditions, fontsize=8, rotation=35, ha="left"
    )
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_xlabel("contrast weights", fontsize=8)
