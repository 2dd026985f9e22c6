"""Figures of super-resolution: the training pair, the training curve, and one slice through all series."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.io.grids import size_text
from bids_sr.reports.figures import style as s
from bids_sr.reports.figures.style import Box, FigureInputError, NamedImage, ShownVolume
from bids_sr.reports.tables.evaluation_rows import series_text
from bids_sr.reports.text.training_text import TrainingRecord

_BESIDE: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "fontsize": 8}
N_PLANES = 9
LEVEL_COLORS = (s.ORANGE, s.GREEN, s.PURPLE, s.SKY, s.RED)


def pair_figure(lowres: NamedImage, highres: NamedImage, mask: Array | None) -> Figure:
    """The pair that the network learns from, in register: low resolution (whose mask chooses the planes) above high."""
    low, high = s.canonical(lowres.data, lowres.affine), s.canonical(highres.data, highres.affine)
    inside = np.ones(lowres.data.shape) if mask is None or not np.any(mask) else mask
    around = s.canonical(np.asarray(inside, dtype=np.float32), lowres.affine)
    indices = s.slice_indices(around.data, 2, N_PLANES)
    box = s.bounding_box(around.data, around.zooms, margin_mm=5.0)
    with s.style():
        height = 11.6 / N_PLANES * s.height_over_width(box, around)
        fig, axes = s.panel_grid(2, N_PLANES, height, left=0.03, right=1.0, space=0.01)
        for row, volume, name in zip(axes, (low, high), (lowres.name, highres.name), strict=True):
            ratio = np.array(volume.data.shape) / np.array(low.data.shape)
            window = [slice(int(b.start * r), int(np.ceil(b.stop * r))) for b, r in zip(box, ratio, strict=True)]
            part = s.cropped(volume, (window[0], window[1], slice(0, volume.data.shape[2])))
            limits = s.gray_limits(volume.data, s.repeated(around, volume).data)
            places = np.array([volume.position(2, k) for k in range(volume.data.shape[2])])
            for ax, index in zip(row, indices, strict=False):
                k = int(np.argmin(np.abs(places - low.position(2, index))))
                s.show_plane(ax, part, 2, k, vmin=limits[0], vmax=limits[1])
                s.mark_position(ax, part, 2, k)
            s.mark_sides(row[0], 2)
            s.name_row(row[0], f"{name}\n{size_text(volume.zooms)}", size=8.0)
    return fig


def training_figure(record: TrainingRecord) -> Figure:
    """Held-out PSNR against training step with the baselines' levels, and the training losses."""
    steps, curves = record.steps, record.curves
    with s.style():
        fig = s.new_figure(12.0, 2.7)
        grid = {"left": 0.065, "right": 0.89, "top": 0.97, "bottom": 0.17, "wspace": 0.62, "width_ratios": [1.2, 1.0]}
        quality, loss = fig.subplots(1, 2, gridspec_kw=grid)
        for (name, values), color in zip(curves.items(), (s.BLUE, s.RED, s.SKY), strict=False):
            known = np.isfinite(values)
            quality.plot(steps[known], values[known], color=color, lw=1.6, marker="o", ms=3, label=name)
        if curves and not any(np.isfinite(values).any() for values in curves.values()):
            quality.text(0.5, 0.5, "no slice was held out", transform=quality.transAxes, ha="center", color=s.SOFT)
        known_levels = {name: level for name, level in record.levels.items() if np.isfinite(level)}
        for (name, level), color in zip(known_levels.items(), LEVEL_COLORS * 2, strict=False):
            quality.axhline(level, color=color, lw=1.1, ls=(0, (5, 3)), label=f"{name} ({level:.2f} dB)")
        if record.chosen_step is not None:
            label = f"stopping point: {record.chosen_step:.0f}"
            quality.axvline(record.chosen_step, color=s.SOFT, lw=0.9, ls=":", label=label)
        quality.set(xlabel="iteration", ylabel="PSNR on held-out slices (dB)")
        quality.set_xlim(0, (float(np.nanmax(steps)) if len(steps) else 1.0) * 1.02)
        for ax in (quality, loss):
            s.light_grid(ax)
        if quality.get_legend_handles_labels()[0]:
            quality.legend(**_BESIDE)
        _draw_losses(loss, steps, record.losses)
    return fig


def _draw_losses(ax: Axes, steps: Array, losses: Mapping[str, Array]) -> None:
    ax.set(xlabel="iteration", ylabel="training loss")
    known = {name: np.isfinite(values) for name, values in losses.items()}
    if not any(each.any() for each in known.values()):
        ax.text(0.5, 0.5, "no loss was logged", transform=ax.transAxes, ha="center", color=s.SOFT)
        return
    colors = (s.INK, s.BLUE, s.RED, s.GREEN, s.PURPLE, s.ORANGE)
    for (name, values), color in zip(losses.items(), colors, strict=False):
        if known[name].any():
            ax.plot(steps[known[name]], values[known[name]], color=color, lw=1.0, label=name)
    if all((values[known[name]] > 0).all() for name, values in losses.items()):
        ax.set_yscale("log")
    ax.legend(**_BESIDE)


def slice_figure(
    series: Sequence[NamedImage],
    roi: Array,
    *,
    mask: Array | None = None,
    reference: str = "bspline",
) -> Figure:
    """One slice of one volume through all series: whole, enlarged, and the difference to the series `reference`.

    Parameters
    ----------
    series : columns from left to right; all on the high-resolution grid, but for those on the acquired grid
    roi : on the high-resolution grid; the plane with most of it is shown, its surroundings are enlarged
    mask : brain on the high-resolution grid, for the gray scale; where it is the region, nothing is outlined

    Raises `FigureInputError` where no series, or none with the name of the reference, lies on the grid of ``roi``.
    """
    view = _slice_view(series, roi, mask, reference)
    whole, close = (11.6 / len(series) * s.height_over_width(box, view.base) for box in (view.window, view.box))
    with s.style():
        fig, axes = s.panel_grid(3, len(series), (whole, close, close), left=0.03, top=0.25, bottom=0.55)
        image = None
        for column, each in zip(axes.T, series, strict=True):
            image = _slice_column(column, each, view) or image
        s.mark_planes(axes[0, :1], view.base, [view.index])
        for row, text in zip(axes, ("signal", "enlarged", f"minus\n{reference}"), strict=True):
            s.name_row(row[0], text, size=8.5)
        if image is not None:
            s.bar_below(fig, image, f"difference to {reference} (signal units)", bottom=0.38, height=0.08)
    return fig


@frozen
class _View:
    """Which plane the slice figure shows, where, and on which scales."""

    base: ShownVolume
    area: ShownVolume
    index: int
    window: Box
    box: Box
    limits: tuple[float, float]
    spread: float
    outlined: bool


def _slice_view(series: Sequence[NamedImage], roi: Array, mask: Array | None, reference: str) -> _View:
    highres = {each.name: each for each in series if each.data.shape == roi.shape}
    if reference not in highres:
        raise FigureInputError(
            f"no series {reference!r} on the grid {roi.shape} among {[each.name for each in series]}"
        )
    affine = next(iter(highres.values())).affine
    base = s.canonical(highres[reference].data, affine)
    area = s.canonical(np.asarray(roi > 0, dtype=np.float32), affine)
    brain = s.canonical(np.asarray(roi > 0 if mask is None else mask > 0), affine)
    index = int(np.argmax(area.data.sum(axis=(0, 1))))
    in_plane = np.zeros(area.data.shape, dtype=bool)
    in_plane[:, :, index] = area.data[:, :, index] > 0
    around = s.bounding_box(in_plane, area.zooms, margin_mm=8.0)
    center = [(side.start + side.stop) / 2 for side in around]
    changes = [np.abs(s.canonical(each.data, affine).data - base.data)[brain.data] for each in highres.values()]
    # a change of the whole gray scale would be shown white in a figure of identical series, hence not below 1 %
    limits = s.gray_limits(base.data, brain.data)
    spread = max([float(np.percentile(c, 99)) for c in changes if c.size] + [0.01 * (limits[1] - limits[0])])
    return _View(
        base=base, area=area, index=index, limits=limits, spread=spread,
        window=s.bounding_box(brain.data, brain.zooms, margin_mm=8.0),
        box=s.limited_box(around, area, (110.0, 80.0), center), outlined=not s.is_brain(area.data, brain.data),
    )  # fmt: skip


def _slice_column(axes: Array, each: NamedImage, view: _View) -> AxesImage | None:
    """Fill one column of the slice figure; returns the difference image where there is one."""
    acquired = s.canonical(each.data, each.affine)
    volume = s.repeated(acquired, view.base)
    gray: s.Look = {"vmin": view.limits[0], "vmax": view.limits[1]}
    s.show_window(axes[0], volume, (view.window, view.index), **gray)
    s.show_window(axes[1], volume, (view.box, view.index), **gray)
    area = view.area if view.outlined else None
    s.show_window_contour(axes[1], area, (view.box, view.index), s.ROI_COLOR, width=0.6)
    s.frame(axes[0], view.box, view.window, view.base.zooms)
    axes[0].set_title(series_text(each.name), fontsize=10, pad=3)
    if acquired.data.shape != view.base.data.shape:
        axes[2].set_axis_off()
        text = f"acquired grid\n{size_text(acquired.zooms)}"
        axes[2].text(0.5, 0.5, text, transform=axes[2].transAxes, ha="center", va="center", fontsize=8, color=s.SOFT)
        return None
    change = ShownVolume(data=volume.data - view.base.data, affine=volume.affine)
    window = (view.box, view.index)
    return s.show_window(axes[2], change, window, cmap="RdBu_r", vmin=-view.spread, vmax=view.spread)
