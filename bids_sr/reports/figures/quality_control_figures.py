"""Figures of the guards: loss of acquired data volume by volume, where an ensemble disagrees, unrepeated detail."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bids_sr.reports.figures.forest_plots import literal
from bids_sr.reports.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SOFT,
    Array,
    FigureInputError,
    bounding_box,
    canonical,
    color_bar,
    cropped,
    gray_limits,
    height_over_width,
    mark_position,
    mark_sides,
    new_figure,
    show_plane,
    slice_indices,
)
from bids_sr.reports.tables.evaluation_rows import kind_of

BEST_PERCENT = 1.0
"""Loss of acquired data (percent) below which a method keeps what was measured."""
OVERLAYS: Mapping[str, Mapping[str, Any]] = {
    "sd": {"label": "standard deviation of the effect between members (signal units)"},
    "unrepeated": {
        "label": "share that is fine detail which does not repeat; shown above .25", "colors": "inferno", "limit": 1.0,
        "threshold": 0.25,
    },
}  # fmt: skip
"""How each map of the guards is shown, by its statistic."""
FLOOR_PERCENT = 0.01
"""Losses below this are drawn here: an exact zero has no place on a logarithmic scale."""
_METHOD, _OTHER = (RED, INK, ORANGE, PURPLE), (BLUE, SKY, GREEN, SOFT)


def consistency_figure(curves: Mapping[str, Array]) -> Figure:
    """What each volume of each series loses of the acquired data, on a logarithmic scale.

    Parameters
    ----------
    curves : (T,) |B(SR) − LR| / |LR| as a fraction by series; NaN where it was not measured

    Raises
    ------
    FigureInputError
        if nothing was measured
    """
    known = {name: 100 * np.asarray(c, dtype=float) for name, c in curves.items() if np.isfinite(c).any()}
    if not known:
        raise FigureInputError("consistency with the acquired data was measured nowhere")
    with literal():
        fig = new_figure(12.0, 3.2)
        ax = fig.add_axes((0.06, 0.15, 0.775, 0.81))
        counts = [0, 0]
        for name, values in known.items():
            own = kind_of(name) == "method"
            color = (_METHOD if own else _OTHER)[counts[own] % 4]
            counts[own] += 1
            dashes: Any = "-" if own else (0, (4, 1.5))
            floor = np.maximum(values, FLOOR_PERCENT)
            label = f"{name} ({np.nanmedian(values):.2g} %)"
            ax.plot(np.arange(len(values)), floor, color=color, ls=dashes, lw=1.3, label=label)
        ax.set_ylim(FLOOR_PERCENT * 0.8, None)
        ax.axhline(BEST_PERCENT, color=SOFT, lw=0.9, ls=":")
        ax.set_yscale("log")
        ax.set(xlabel="volume", ylabel="loss of acquired data (%)")
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.set_xlim(0, max(len(values) for values in known.values()) - 1 or 1)
        ax.grid(color="#eceff1", lw=0.6)
        ax.set_axisbelow(True)
        ax.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), fontsize=8, title="median", title_fontsize=8)
    return fig


def overlay_figure(
    maps: Mapping[str, Array],
    affine: Array,
    background: Array,
    mask: Array,
    *,
    label: str,
    limit: float | None = None,
    threshold: float = 0.0,
    colors: str = "viridis",
    n_slices: int = 4,
) -> Figure:
    """Maps of something that is never negative over an image, a row each, on one scale.

    Parameters
    ----------
    maps : (X, Y, Z) by name of the row
    affine : voxel → RAS mm, of all arrays
    background : (X, Y, Z) image below
    mask : (X, Y, Z) brain
    label : of the color scale
    limit : upper end of the scale; default: 99th percentile in the brain over all maps
    threshold : values at or below are not drawn
    colors : colormap
    n_slices : planes, spread over the brain

    Raises
    ------
    FigureInputError
        if there is no map
    """
    if not maps:
        raise FigureInputError(f"there is no map of {label}")
    brain = canonical(np.asarray(mask > 0), affine)
    ground = canonical(np.asarray(background, dtype=np.float32), affine)
    gray = gray_limits(ground.data, brain.data)
    planes = slice_indices(brain.data, 2, n_slices)
    box = bounding_box(brain.data, brain.zooms, margin_mm=3.0)
    inside = mask > 0
    top = [
        float(np.nanpercentile(m[inside], 99)) for m in maps.values() if inside.any() and np.isfinite(m[inside]).any()
    ]
    high = limit or max([value for value in top if value > 0], default=1.0)
    left = 0.03
    with literal():
        fig = new_figure(12.0, 11.6 / len(planes) * height_over_width(box, brain) * len(maps) + 0.6)
        tall = fig.get_figheight()
        grid = {"left": left, "right": 0.999, "top": 0.999, "bottom": 0.58 / tall, "wspace": 0.012, "hspace": 0.012}
        axes = np.asarray(fig.subplots(len(maps), len(planes), squeeze=False, gridspec_kw=grid))
        image: Any = None
        for row, (name, data) in zip(axes, maps.items(), strict=True):
            over = np.where(inside & (np.nan_to_num(data) > threshold), data, np.nan).astype(np.float32)
            shown = canonical(over, affine)
            for ax, k in zip(row, planes, strict=True):
                flat = (box[0], box[1], slice(k, k + 1))
                show_plane(ax, cropped(ground, flat), 2, 0, vmin=gray[0], vmax=gray[1])
                image = show_plane(ax, cropped(shown, flat), 2, 0, cmap=colors, vmin=0, vmax=high, alpha=0.9)
            place = row[0].get_position()
            fig.text(0.014, (place.y0 + place.y1) / 2, name, rotation=90, ha="center", va="center", fontsize=9)
        for ax, k in zip(axes[0], planes, strict=True):
            mark_position(ax, brain, 2, k)
        mark_sides(axes[0, 0], 2)
        color_bar(fig, image, (0.36, 0.4 / tall, 0.28, 0.09 / tall), label)
    return fig


def calibration_figure(tables: Mapping[str, Sequence[tuple[float, float]]], *, unit: str = "signal units") -> Figure:
    """True error against the ensemble's own uncertainty, by tenths of the latter; on the diagonal it is calibrated.

    Parameters
    ----------
    tables : rows (standard deviation, true error), both root mean squares of a tenth of the voxels, by series

    Raises
    ------
    FigureInputError
        if there is no row
    """
    known = {name: np.array(rows, dtype=float) for name, rows in tables.items() if len(rows)}
    if not known:
        raise FigureInputError("there is no calibration to draw")
    with literal():
        fig = new_figure(6.4, 4.2)
        ax = fig.add_axes((0.11, 0.13, 0.86, 0.84))
        high = max(float(np.nanmax(rows)) for rows in known.values())
        ax.plot([0, high], [0, high], color=SOFT, lw=0.9, ls=(0, (4, 2)), label="calibrated")
        for (name, rows), color, marker in zip(known.items(), _METHOD * 2, "Do^sDo^s", strict=False):
            ax.plot(rows[:, 0], rows[:, 1], color=color, marker=marker, ms=4.5, lw=1.3, label=name)
        ax.set(xlabel=f"disagreement of the members ({unit})", ylabel=f"true error of their mean ({unit})")
        ax.set_xlim(0, 1.03 * high)
        ax.set_ylim(0, 1.03 * high)
        ax.grid(color="#eceff1", lw=0.6)
        ax.set_axisbelow(True)
        ax.legend(fontsize=8)
    return fig


def variance_figure(
    weight: Array, affine: Array, mask: Array, background: Array | None = None, *, n_slices: int = 4
) -> Figure:
    """Where a run fluctuates on the high-resolution grid, below the anatomy.

    Parameters
    ----------
    weight : (X, Y, Z) standard deviation of the fluctuations, signal units
    affine : voxel → RAS mm
    mask : (X, Y, Z) brain
    background : (X, Y, Z) image of the anatomy
    n_slices : planes

    Raises
    ------
    FigureInputError
        if the map is not 3D
    """
    if weight.ndim != 3:
        raise FigureInputError(f"the variance map has shape {weight.shape}, expected (X, Y, Z)")
    brain = canonical(np.asarray(mask > 0), affine)
    below = background if background is not None else np.zeros(mask.shape, dtype=np.float32)
    ground = canonical(np.asarray(below, dtype=np.float32), affine)
    gray = gray_limits(ground.data, brain.data)
    shown = canonical(np.where(mask > 0, weight, np.nan).astype(np.float32), affine)
    inside = weight[mask > 0]
    limit = max(float(np.percentile(inside, 99)) if inside.size else 0.0, 1e-6)
    planes = slice_indices(brain.data, 2, n_slices)
    box = bounding_box(brain.data, brain.zooms, margin_mm=2.0)
    with literal():
        fig = new_figure(12.0, 11.9 / len(planes) * height_over_width(box, brain) * 2 + 0.62)
        tall = fig.get_figheight()
        grid = {"left": 0.004, "right": 0.996, "top": 0.999, "bottom": 0.6 / tall, "wspace": 0.01, "hspace": 0.01}
        axes = np.asarray(fig.subplots(2, len(planes), squeeze=False, gridspec_kw=grid))
        image: Any = None
        for column, k in zip(axes.T, planes, strict=True):
            flat = (box[0], box[1], slice(k, k + 1))
            show_plane(column[0], cropped(ground, flat), 2, 0, vmin=gray[0], vmax=gray[1])
            column[1].set_facecolor("black")
            image = show_plane(column[1], cropped(shown, flat), 2, 0, cmap="inferno", vmin=0.0, vmax=limit)
            mark_position(column[0], brain, 2, k)
        mark_sides(axes[0, 0], 2)
        color_bar(
            fig, image, (0.36, 0.4 / tall, 0.28, 0.09 / tall), "standard deviation of the fluctuations (signal units)"
        )  # fmt: skip
    return fig
