"""Figures of quality control: uncertainty, beyond Nyquist, variance."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bids_sr.io.array_types import Array
from bids_sr.reports.figures import style as s
from bids_sr.reports.figures.style import FigureInputError, ShownVolume
from bids_sr.reports.tables import evaluation_rows as pick

N_PLANES = 9
PART_MM = (110.0, 80.0)


def _ground(
    image: Array | None, mask: Array, affine: Array, n_slices: int, margin_mm: float
) -> tuple[ShownVolume, s.Look, ShownVolume, list[int], s.Box]:
    """Image below the overlays (black where there is none), its gray scale, brain, planes and box, in RAS order."""
    brain = s.canonical(np.asarray(mask > 0), affine)
    below = s.canonical(np.zeros(mask.shape, np.float32) if image is None else np.asarray(image, np.float32), affine)
    low, high = s.gray_limits(below.data, brain.data)
    box = s.bounding_box(brain.data, brain.zooms, margin_mm=margin_mm)
    planes = s.slice_indices(brain.data, 2, n_slices)
    return below, {"vmin": low, "vmax": high}, brain, planes, box


def overlay_figure(maps: Mapping[str, Array], affine: Array, background: Array, mask: Array, *, label: str) -> Figure:
    """Maps (X, Y, Z) of something that is never negative over an image, a row each, on one scale.

    The color scale ends at the 99th percentile in the brain over all maps. `FigureInputError` without a map.
    """
    if not maps:
        raise FigureInputError(f"there is no map of {label}")
    inside = mask > 0
    ground, gray, brain, planes, box = _ground(background, mask, affine, N_PLANES, 3.0)
    tops = (float(np.nanpercentile(m[inside], 99)) for m in maps.values() if np.isfinite(m[inside]).any())
    top = max([value for value in tops if value > 0], default=1.0)
    look: s.Look = {"cmap": "viridis", "alpha": 0.9, "vmin": 0, "vmax": top}
    with s.style(literal=True):
        height = 11.6 / N_PLANES * s.height_over_width(box, brain)
        right = 0.03 + 0.969 * len(planes) / N_PLANES
        fig, axes = s.panel_grid(len(maps), len(planes), height, left=0.03, right=right, bottom=0.6)
        image: Any = None
        for row, (name, data) in zip(axes, maps.items(), strict=True):
            over = np.where(inside & (np.nan_to_num(data) > 0), data, np.nan).astype(np.float32)
            shown = s.canonical(over, affine)
            for ax, k in zip(row, planes, strict=True):
                s.show_window(ax, ground, (box, k), **gray)
                image = s.show_window(ax, shown, (box, k), **look)
            s.name_row(row[0], name)
        s.mark_planes(axes[0], brain, planes)
        s.bar_below(fig, image, label)
    return fig


def variance_figure(
    weight: Array,
    affine: Array,
    mask: Array,
    background: Array | None = None,
    *,
    n_slices: int = N_PLANES,
    source: str = "the acquired series",
) -> Figure:
    """Standard deviation of fluctuations (X, Y, Z; else `FigureInputError`) in signal units, below the anatomy."""
    if weight.ndim != 3:
        raise FigureInputError(f"the variance map has shape {weight.shape}, expected (X, Y, Z)")
    ground, gray, brain, planes, box = _ground(background, mask, affine, n_slices, 2.0)
    shown = s.canonical(np.where(mask > 0, weight, np.nan).astype(np.float32), affine)
    inside = weight[mask > 0]
    limit = max(float(np.percentile(inside, 99)) if inside.size else 0.0, 1e-6)
    with s.style(literal=True):
        height = 11.9 / len(planes) * s.height_over_width(box, brain)
        fig, axes = s.panel_grid(2, len(planes), height, left=0.004, right=0.996, bottom=0.62, space=0.01)
        image: Any = None
        for (above, below), k in zip(axes.T, planes, strict=True):
            s.show_window(above, ground, (box, k), **gray)
            below.set_facecolor("black")
            image = s.show_window(below, shown, (box, k), cmap="inferno", vmin=0.0, vmax=limit)
        s.mark_planes(axes[0], brain, planes)
        s.bar_below(fig, image, f"standard deviation of the fluctuations (signal units), estimated from {source}")
    return fig


def _saturation(values: Array) -> float:
    """End of a color scale that one percent of the values exceeds."""
    known = np.abs(values[np.isfinite(values)])
    return max(float(np.percentile(known, 99)) if known.size else 0.0, 1e-12)


def _center(weights: Array) -> tuple[float, float]:
    """Middle of a plane (voxels), by weight."""
    return tuple(np.average(np.arange(n), weights=weights.sum(1 - k) + 1e-12) for k, n in enumerate(weights.shape))


def beyond_figure(
    maps: Mapping[str, Array], affine: Array, mask: Array, *, scores: Mapping[str, float], score: str,
    percent: float | None = None,
) -> Figure:  # fmt: skip
    """Effects (X, Y, Z; signal units) that only the highest band holds, series by series on one color scale.

    The last map chooses two planes, at least two apart, and a part of each: where it is strongest. `scores` are written
    beside a series' name, as values of `score`; one unit is so many `percent` of the brain's mean signal. Raises
    `FigureInputError` without a map.
    """
    if not maps:
        raise FigureInputError("there is no map beyond the acquired Nyquist limit")
    brain = s.canonical(np.asarray(mask > 0, dtype=np.float32), affine)
    shown = {name: s.canonical(np.where(mask > 0, data, np.nan), affine) for name, data in maps.items()}
    energy = np.square(np.nan_to_num(shown[list(shown)[-1]].data)) * (brain.data > 0)
    power = energy.sum(axis=(0, 1))
    planes = s.planes_apart(power, 2, 2) if power.any() else s.slice_indices(brain.data, 2, 2)
    whole = s.bounding_box(brain.data, brain.zooms, margin_mm=3.0)
    windows = [(s.limited_box(whole, brain, PART_MM, _center(energy[:, :, k])), k) for k in planes]
    # of the last alone: a series gone wild would make the others pale
    limit = max(_saturation(shown[list(shown)[-1]].data[box[0], box[1], k]) for box, k in windows)
    with s.style(literal=True):
        height = 11.75 / len(shown) * s.height_over_width(windows[0][0], brain)
        fig, axes = s.panel_grid(len(planes), len(shown), height, left=0.012, top=0.32, bottom=0.59)
        image: Any = None
        for column, (name, volume) in zip(axes.T, shown.items(), strict=True):
            for ax, window in zip(column, windows, strict=True):
                ax.set_facecolor(s.GRID)
                image = s.show_window(ax, volume, window, cmap="RdBu_r", vmin=-limit, vmax=limit)
            value = scores.get(name, math.nan)
            told = f" ({pick.value_text(value)})" if math.isfinite(value) else ""
            column[0].set_title(pick.series_text(name) + told, fontsize=9, pad=3)
        s.mark_planes(axes[:, 0], brain, planes, color=s.INK)
        told = f"; in brackets: {score}" if any(math.isfinite(scores.get(name, math.nan)) for name in shown) else ""
        label = f"effect beyond the Nyquist limit ({s.units_text(percent)}){told}"
        s.bar_below(fig, image, label, bottom=0.36)
    return fig
