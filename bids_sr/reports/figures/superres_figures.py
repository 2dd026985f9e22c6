"""Figures of super-resolution: the training pair, the training curve, and one slice through all series."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bids_sr.reports.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SOFT,
    YELLOW,
    Array,
    Box,
    FigureInputError,
    Volume,
    bounding_box,
    canonical,
    color_bar,
    cropped,
    gray_limits,
    height_over_width,
    limited_box,
    mark_position,
    mark_sides,
    new_figure,
    repeated,
    show_contour,
    show_plane,
    slice_indices,
    style,
)

LEVEL_COLORS = (ORANGE, GREEN, PURPLE, SKY, RED)
ZOOM_COLOR = YELLOW


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesVolume:
    """One volume of one series, for the slice figure.

    Parameters
    ----------
    name : what the column is called
    data : (X, Y, Z), signal
    affine : voxel → RAS mm; series may lie on different grids of one field of view
    """

    name: str
    data: Array
    affine: Array


def pair_figure(lowres: SeriesVolume, highres: SeriesVolume, mask: Array | None = None, *, n_slices: int = 4) -> Figure:
    """The pair that the network learns from: low resolution above high resolution, one gray scale each.

    Parameters
    ----------
    lowres, highres : as used for training (in register)
    mask : (X, Y, Z) on the low-resolution grid; chooses the planes
    """
    low, high = canonical(lowres.data, lowres.affine), canonical(highres.data, highres.affine)
    inside = np.ones(lowres.data.shape) if mask is None or not np.any(mask) else mask
    around = canonical(np.asarray(inside, dtype=np.float32), lowres.affine)
    indices = slice_indices(around.data, 2, n_slices)
    box = bounding_box(around.data, around.zooms, margin_mm=10.0)
    with style():
        fig = new_figure(12.0, 2 * 11.6 / n_slices * height_over_width(box, around))
        grid = {"left": 0.03, "right": 1, "top": 1, "bottom": 0, "wspace": 0.01, "hspace": 0.01}
        axes = np.asarray(fig.subplots(2, n_slices, squeeze=False, gridspec_kw=grid))
        for row, (volume, name) in enumerate(((low, lowres.name), (high, highres.name))):
            ratio = np.array(volume.data.shape) / np.array(low.data.shape)
            window = [slice(int(b.start * r), int(np.ceil(b.stop * r))) for b, r in zip(box, ratio, strict=True)]
            part = cropped(volume, (window[0], window[1], slice(0, volume.data.shape[2])))
            limits = gray_limits(volume.data, repeated(around, volume).data)
            for column, index in enumerate(indices):
                k = index if row == 0 else _nearest_plane(volume, 2, low.position(2, index))
                show_plane(axes[row, column], part, 2, k, vmin=limits[0], vmax=limits[1])
                mark_position(axes[row, column], part, 2, k)
            mark_sides(axes[row, 0], 2)
            center = axes[row, 0].get_position().y0 + axes[row, 0].get_position().height / 2
            fig.text(0.014, center, f"{name}, {voxel_text(volume)}", rotation=90, ha="center", va="center", fontsize=9)
    return fig


def voxel_text(volume: Volume) -> str:
    """Voxel size as text, such as ``3 × 3 × 3.3 mm``."""
    return " × ".join(f"{zoom:.3g}" for zoom in volume.zooms) + " mm"


def _nearest_plane(volume: Volume, axis: int, position: float) -> int:
    """Index of the plane whose middle lies closest to a world coordinate (mm)."""
    places = [volume.position(axis, k) for k in range(volume.data.shape[axis])]
    return int(np.argmin(np.abs(np.array(places) - position)))


def training_figure(
    steps: Array,
    curves: Mapping[str, Array],
    levels: Mapping[str, float],
    losses: Mapping[str, Array],
    *,
    chosen_step: float | None = None,
) -> Figure:
    """Held-out PSNR against training step with the baselines' levels, and the training losses.

    Parameters
    ----------
    steps : (N,) step of each logged row
    curves : held-out PSNR (dB) by name, (N,) each; NaN where a row has none
    levels : PSNR (dB) of plain interpolations on the same held-out slices, by name
    losses : training losses by name, (N,) each; NaN where a row has none
    chosen_step : step of the weights that were kept
    """
    with style():
        fig = new_figure(12.0, 4.2)
        grid = {"left": 0.065, "right": 0.985, "top": 0.97, "bottom": 0.12, "wspace": 0.2, "width_ratios": [1.45, 1.0]}
        quality, loss = fig.subplots(1, 2, gridspec_kw=grid)
        for (name, values), color in zip(curves.items(), (BLUE, RED, SKY), strict=False):
            known = np.isfinite(values)
            quality.plot(steps[known], values[known], color=color, lw=1.6, marker="o", ms=3, label=name)
        if curves and not any(np.isfinite(values).any() for values in curves.values()):
            quality.text(0.5, 0.5, "no slice was held out", transform=quality.transAxes, ha="center", color=SOFT)
        end = float(np.nanmax(steps)) if len(steps) else 1.0
        known_levels = {name: level for name, level in levels.items() if np.isfinite(level)}
        for (name, level), color in zip(known_levels.items(), LEVEL_COLORS * 2, strict=False):
            quality.axhline(level, color=color, lw=1.1, ls=(0, (5, 3)), label=f"{name} ({level:.2f} dB)")
        if chosen_step is not None:
            quality.axvline(chosen_step, color=SOFT, lw=0.9, ls=":", label=f"stopping point: {chosen_step:.0f}")
        quality.set(xlabel="iteration", ylabel="PSNR on held-out slices (dB)")
        quality.set_xlim(0, end * 1.02)
        for ax in (quality, loss):
            ax.grid(color="#eceff1", lw=0.6)
            ax.set_axisbelow(True)
        handles, _ = quality.get_legend_handles_labels()
        if handles:
            quality.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.9, edgecolor="white")
        _draw_losses(loss, steps, losses)
    return fig


def _draw_losses(ax: Axes, steps: Array, losses: Mapping[str, Array]) -> None:
    drawn = False
    for (name, values), color in zip(losses.items(), (INK, BLUE, RED, GREEN, PURPLE, ORANGE), strict=False):
        known = np.isfinite(values)
        if known.any():
            ax.plot(steps[known], values[known], color=color, lw=1.0, label=name)
            drawn = True
    ax.set(xlabel="iteration", ylabel="training loss")
    if not drawn:
        ax.text(0.5, 0.5, "no loss was logged", transform=ax.transAxes, ha="center", color=SOFT)
        return
    positive = all(np.nanmin(v[np.isfinite(v)]) > 0 for v in losses.values() if np.isfinite(v).any())
    if positive:
        ax.set_yscale("log")
    ax.legend(loc="upper right", fontsize=8)


def slice_figure(
    series: Sequence[SeriesVolume],
    roi: Array,
    *,
    mask: Array | None = None,
    reference: str = "bspline",
    roi_name: str = "region of interest",
) -> Figure:
    """One slice of one volume through all series: whole, zoomed, and the difference to one of them.

    Parameters
    ----------
    series : columns from left to right; all on the high-resolution grid, but for those on the acquired grid
    roi : (X, Y, Z) on the high-resolution grid; the plane with most of it is shown, its surroundings are the zoom
    mask : brain on the high-resolution grid, for the gray scale
    reference : the series from which the others are subtracted
    roi_name : what the zoomed area is called

    Raises
    ------
    FigureInputError
        if no series, or none with the name of the reference, lies on the grid of ``roi``
    """
    view = _slice_view(series, roi, mask, reference)
    columns = len(series)
    whole, close = (11.6 / columns * height_over_width(box, view.base) for box in (view.window, view.box))
    with style():
        fig = new_figure(12.0, whole + 2 * close + 0.8)
        tall = fig.get_figheight()
        grid = {"left": 0.03, "right": 0.999, "top": 1 - 0.25 / tall, "bottom": 0.55 / tall, "wspace": 0.012,
                "hspace": 0.012, "height_ratios": [whole, close, close]}  # fmt: skip
        axes = np.asarray(fig.subplots(3, columns, squeeze=False, gridspec_kw=grid))
        image = None
        for column, each in zip(axes.T, series, strict=True):
            image = _slice_column(column, each, view) or image
        mark_position(axes[0, 0], view.base, 2, view.index)
        mark_sides(axes[0, 0], 2)
        for row, text in zip(axes, ("signal", roi_name.replace("of ", "of\n"), f"minus\n{reference}"), strict=True):
            place = row[0].get_position()
            fig.text(0.014, (place.y0 + place.y1) / 2, text, rotation=90, ha="center", va="center", fontsize=8.5)
        if image is not None:
            label = f"difference to {reference} (signal units)"
            color_bar(fig, image, (0.36, 0.38 / tall, 0.28, 0.08 / tall), label)
    return fig


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """Which plane the slice figure shows, where, and on which scales."""

    base: Volume
    area: Volume
    index: int
    window: Box
    box: Box
    limits: tuple[float, float]
    spread: float


def _slice_view(series: Sequence[SeriesVolume], roi: Array, mask: Array | None, reference: str) -> _View:
    fine = [each for each in series if each.data.shape == roi.shape]
    if reference not in [each.name for each in fine]:
        raise FigureInputError(f"no series {reference!r} on the grid {roi.shape} among {[s.name for s in series]}")
    affine = fine[0].affine
    base = canonical(next(each.data for each in fine if each.name == reference), affine)
    area = canonical(np.asarray(roi > 0, dtype=np.float32), affine)
    brain = canonical(np.asarray(roi > 0 if mask is None else mask > 0), affine)
    index = int(np.argmax(area.data.sum(axis=(0, 1))))
    in_plane = np.zeros(area.data.shape, dtype=bool)
    in_plane[:, :, index] = area.data[:, :, index] > 0
    around = bounding_box(in_plane, area.zooms, margin_mm=8.0)
    center = [(side.start + side.stop) / 2 for side in around]
    changes = [np.abs(canonical(each.data, affine).data - base.data)[brain.data] for each in fine]
    # a change of the whole gray scale would be shown white in a figure of identical series, hence not below 1 %
    limits = gray_limits(base.data, brain.data)
    spread = max([float(np.percentile(c, 99)) for c in changes if c.size] + [0.01 * (limits[1] - limits[0])])
    return _View(
        base=base, area=area, index=index, limits=limits, spread=spread,
        window=bounding_box(brain.data, brain.zooms, margin_mm=8.0),
        box=limited_box(around, area, (110.0, 80.0), center),
    )  # fmt: skip


def _slice_column(axes: Array, each: SeriesVolume, view: _View) -> Any:
    """Fill one column of the slice figure; returns the difference image where there is one."""
    acquired = canonical(each.data, each.affine)
    volume = repeated(acquired, view.base)
    plane = slice(view.index, view.index + 1)
    window, box = (*view.window[:2], plane), (*view.box[:2], plane)
    gray = {"vmin": view.limits[0], "vmax": view.limits[1]}
    show_plane(axes[0], cropped(volume, window), 2, 0, **gray)
    show_plane(axes[1], cropped(volume, box), 2, 0, **gray)
    show_contour(axes[1], cropped(view.area, box), 2, 0, SKY, width=0.6)
    zooms = view.base.zooms
    corner = [(box[a].start - window[a].start) * zooms[a] for a in (0, 1)]
    wide, high = ((box[a].stop - box[a].start) * zooms[a] for a in (0, 1))
    axes[0].add_patch(Rectangle((corner[0], corner[1]), wide, high, fill=False, edgecolor=ZOOM_COLOR, lw=0.8))
    axes[0].set_title(each.name, fontsize=10, pad=3)
    if acquired.data.shape != view.base.data.shape:
        axes[2].set_axis_off()
        text = f"acquired grid\n{voxel_text(acquired)}"
        axes[2].text(0.5, 0.5, text, transform=axes[2].transAxes, ha="center", va="center", fontsize=8, color=SOFT)
        return None
    change = cropped(Volume(data=volume.data - view.base.data, affine=volume.affine), box)
    return show_plane(axes[2], change, 2, 0, cmap="RdBu_r", vmin=-view.spread, vmax=view.spread)
