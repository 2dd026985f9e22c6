"""Style of all figures: colors, fonts, sheets and color scales."""

from contextlib import AbstractContextManager
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

INK, SOFT, GRID = "#1f2933", "#5b6770", "#d5dade"
"""Colors of text and main lines, of secondary text, and of light lines."""
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#f0e442",
)
"""Palette of Okabe and Ito, which color-blind readers can distinguish."""
ROI_COLOR, FRAME_COLOR = "#00e5ff", YELLOW
"""Colors of the outline of the region of interest (light blue), and of the frame around an
enlarged part (yellow).
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
"""Beginning of the id of artists that blink."""
FAINT, WASH, PAPER = "#eceff1", "#f7f9fb", "#fffffe"
"""Colors of lines behind curves, of the background of emphasized panels, and of paper-colored
areas that hide lines.
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
"""Colors of paper, text and lines, and their counterparts on a dark page; data colors do not
change.
"""


class FigureInputError(ValueError):
    """Error in the arrays of a figure; the message includes their shapes."""


def style(*, literal: bool = False) -> AbstractContextManager[None]:
    """Apply the matplotlib style of the package, both to create *and* to save a figure.

    With `literal`, dollar signs in names are not parsed as formulas.
    """
    return mpl.rc_context({**_STYLE, "text.parse_math": False} if literal else _STYLE)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (size in inches) that can be used in one of several threads."""
    fig = Figure(figsize=(width, height))
    FigureCanvasAgg(fig)
    return fig


def hide_axes(ax: Axes) -> None:
    """Remove ticks and frame of an axes."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def color_bar(
    fig: Figure, image: ScalarMappable, box: tuple[float, float, float, float], label: str
) -> None:
    """Add a narrow color bar at a position in figure coordinates (left, bottom, width, height)."""
    cax = fig.add_axes(box)
    bar = fig.colorbar(image, cax=cax, orientation="horizontal" if box[2] > box[3] else "vertical")
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def write_note(ax: Axes, text: str) -> None:
    """Write why axes have no values in their center."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", color=SOFT)


def light_grid(ax: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Draw faint grid lines behind curves."""
    ax.grid(axis=axis, color=FAINT, lw=0.6)
    ax.set_axisbelow(True)
