"""Figures of fused structural scans: the series side by side, and what network and critic looked at."""

from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bids_sr.reports.figures.style import (
    INK,
    Array,
    FigureInputError,
    Volume,
    blank,
    canonical,
    gray_limits,
    mark_position,
    mark_sides,
    new_figure,
    show_plane,
    style,
)

_WIDTH, _LEFT, _TOP = 12.0, 0.05, 0.3  # inches wide; share for names of rows; inches for names of columns


def _slab(image: Array, affine: Array, index: int) -> tuple[Volume, int]:
    """One slice (X, Y) of a grid as a volume in RAS order, and the axis across it."""
    step = np.eye(4)
    step[2, 3] = index
    axis = int(nib.orientations.io_orientation(affine)[2, 0])
    return canonical(np.asarray(image, dtype=np.float32)[..., None], np.asarray(affine, float) @ step), axis


def _grid(rows: int, columns: int, proportion: float) -> tuple[Figure, list[list[Axes]]]:
    """A figure of panels of one proportion (height over width), with room for names at the left and above."""
    wide = _WIDTH * (1 - _LEFT) / columns
    tall = wide * proportion
    height = rows * tall + _TOP
    fig = new_figure(_WIDTH, height)
    axes = []
    for row in range(rows):
        bottom = (height - _TOP - (row + 1) * tall) / height
        axes.append([
            fig.add_axes((_LEFT + column * (1 - _LEFT) / columns, bottom, 0.995 * (1 - _LEFT) / columns,
                          0.99 * tall / height))
            for column in range(columns)
        ])  # fmt: skip
    return fig, axes


def _proportion(volume: Volume, axis: int) -> float:
    wide, high = (a for a in range(3) if a != axis)
    size = np.array(volume.data.shape) * volume.zooms
    return float(size[high] / size[wide])


def scans_figure(
    series: Mapping[str, Mapping[str, Array]], measured: Mapping[str, Array], mask: Array, affine: Array, index: int
) -> Figure:
    """One slice of each contrast (rows) in each series (columns), the measured scan last, then what is left to it.

    Parameters
    ----------
    series : name to contrast to (X, Y, Z); the last one's difference to the measured scan is drawn
    measured : by contrast, same grid
    mask, affine : brain, and voxel → RAS mm
    index : slice along the third axis

    Raises
    ------
    FigureInputError : no series, or images on different grids
    """
    if not series or any(scan.shape != mask.shape for scans in series.values() for scan in scans.values()):
        raise FigureInputError("the series to draw are none, or not on the grid of the brain mask")
    names = [*series, "measured"]
    rows, last = list(measured), list(series)[-1]
    first, axis = _slab(mask[..., index], affine, index)
    with style():
        fig, axes = _grid(len(rows), len(names) + 1, _proportion(first, axis))
        for panels, contrast in zip(axes, rows, strict=True):
            low, high = gray_limits(measured[contrast], mask)
            scans = [*(series[name][contrast] for name in series), measured[contrast]]
            for ax, name, scan in zip(panels, names, scans, strict=False):
                volume, _ = _slab(scan[..., index], affine, index)
                show_plane(ax, volume, axis, 0, vmin=low, vmax=high)
                _named(ax, name, contrast, first_row=contrast == rows[0], first_column=ax is panels[0])
            left = series[last][contrast][..., index] - measured[contrast][..., index]
            volume, _ = _slab(left, affine, index)
            show_plane(panels[-1], volume, axis, 0, cmap="RdBu_r", vmin=-0.25 * high, vmax=0.25 * high)
            _named(panels[-1], f"{last} − measured", contrast, first_row=contrast == rows[0], first_column=False)
        mark_sides(axes[0][0], axis)
        mark_position(axes[0][0], first, axis, 0)
    return fig


def _named(ax: Axes, column: str, row: str, *, first_row: bool, first_column: bool) -> None:
    if first_row:
        ax.set_title(column, fontsize=9, color=INK, pad=3)
    if first_column:
        ax.text(-0.02, 0.5, row, transform=ax.transAxes, rotation=90, ha="right", va="center", fontsize=9, color=INK)


def explanation_figure(
    image: Array, masks: Sequence[Array], maps: Mapping[str, Array], affine: Array, index: int
) -> Figure:
    """Attention masks of the gates, coarse to fine, then maps of the critic, each over one slice.

    Parameters
    ----------
    image : (X, Y) slice that lies below
    masks : (X, Y) each, 0 to 1
    maps : title to (X, Y), from 0 up, on one scale of their own
    affine, index : of the volume, and which of its slices this is

    Raises
    ------
    FigureInputError : there is nothing to show
    """
    panels: list[tuple[str, Array, float]] = [
        (f"attention, gate {number} of {len(masks)}", mask, 1.0) for number, mask in enumerate(masks, 1)
    ]
    top = max((float(each.max()) for each in maps.values()), default=0.0) or 1.0
    panels += [(title, each, top) for title, each in maps.items()]
    if not panels:
        raise FigureInputError("neither attention masks nor maps of a critic to show")
    columns = min(len(panels), 4)
    below, axis = _slab(image, affine, index)
    low, high = gray_limits(image)
    with style():
        fig, axes = _grid(-(-len(panels) // columns), columns, _proportion(below, axis) + 0.09)
        flat = [ax for row in axes for ax in row]
        for ax, (title, values, most) in zip(flat, panels, strict=False):
            show_plane(ax, below, axis, 0, vmin=low, vmax=high)
            volume, _ = _slab(values, affine, index)
            shown: dict[str, Any] = {"cmap": "inferno", "alpha": 0.6, "vmin": 0.0, "vmax": most}
            show_plane(ax, volume, axis, 0, **shown)
            ax.set_title(title, fontsize=8.5, color=INK, pad=3)
        for ax in flat[len(panels) :]:
            blank(ax)
    return fig
