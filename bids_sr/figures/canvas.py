"""Style shared by all figures: colors, fonts, sheets, color scales."""

from contextlib import AbstractContextManager
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

INK, SOFT, GRID = "#1f2933", "#5b6770", "#d5dade"
# Okabe and Ito's palette: distinct for color-blind readers too
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#f0e442",
)
ROI_COLOR, FRAME_COLOR = "#00e5ff", YELLOW
"""Of the outline of the region of interest (light blue) and of the frame around what is enlarged
(yellow).
"""
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "legend.frameon": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "bids-sr",
    "svg.image_inline": True,
}
FLICKER = "flicker"
FAINT, WASH, PAPER = "#eceff1", "#f7f9fb", "#fffffe"
"""Of lines behind curves, of panels that are to be looked at first, and of what covers lines as
paper would.
"""
DARK = {
    "#ffffff": "#14181b",
    INK: "#e4e8eb",
    SOFT: "#aab4bc",
    GRID: "#3d464e",
    FAINT: "#2a3137",
    WASH: "#1e2429",
    PAPER: "#14181b",
}
"""Paper, text and lines of a figure to their colors in a dark page; colors of data stay."""


class FigureInputError(ValueError):
    """Arrays that cannot be drawn together; the message names the shapes."""


def style(*, literal: bool = False) -> AbstractContextManager[None]:
    """Apply our matplotlib settings, for making *and* saving a figure.

    `literal` keeps dollar signs in names as they are.
    """
    return mpl.rc_context({**_STYLE, "text.parse_math": False} if literal else _STYLE)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (inches) without global state, so that several threads may draw."""
    fig = Figure(figsize=(width, height))
    FigureCanvasAgg(fig)
    return fig


def blank(ax: Axes) -> None:
    """Leave only the picture: no ticks, no frame."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def color_bar(
    fig: Figure, image: ScalarMappable, box: tuple[float, float, float, float], label: str
) -> None:
    """A thin scale in figure coordinates (left, bottom, width, height)."""
    cax = fig.add_axes(box)
    bar = fig.colorbar(image, cax=cax, orientation="horizontal" if box[2] > box[3] else "vertical")
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def units_text(percent: float | None) -> str:
    """Return the unit of an effect, and how many of it are one percent.

    `percent` is the percentage of one unit (None: unknown).
    """
    return (
        f"signal units; {1 / percent:.3g} = 1 % of the brain's mean signal"
        if percent
        else "signal units"
    )


def light_grid(ax: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Faint lines behind curves."""
    ax.grid(axis=axis, color=FAINT, lw=0.6)
    ax.set_axisbelow(True)
