"""Figures of fused structural scans: the series side by side, and what network and critic looked at."""

from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bids_sr.io.array_types import Array
from bids_sr.reports.figures import style as s
from bids_sr.reports.figures.style import FigureInputError, Volume

_WIDTH, _LEFT, _TOP = 12.0, 0.05, 0.3  # inches wide; share for names of rows; inches for names of columns


def _slab(image: Array, affine: Array, index: int) -> tuple[Volume, int]:
    """One slice (X, Y) of a grid as a volume in RAS order, and the axis across it."""
    step = np.eye(4)
    step[2, 3] = index
    axis = int(nib.orientations.io_orientation(affine)[2, 0])
    return s.canonical(np.asarray(image, dtype=np.float32)[..., None], np.asarray(affine, float) @ step), axis


def _grid(rows: int, columns: int, proportion: float) -> tuple[Figure, list[list[Axes]]]:
    """A figure of panels of one proportion (height over width), with room for names at the left and above."""
    wide = _WIDTH * (1 - _LEFT) / columns
    tall = wide * proportion
    height = rows * tall + _TOP
    fig = s.new_figure(_WIDTH, height)
    width = (1 - _LEFT) / columns
    bottoms = [(height - _TOP - (row + 1) * tall) / height for row in range(rows)]
    return fig, [
        [fig.add_axes((_LEFT + k * width, bottom, 0.995 * width, 0.99 * tall / height)) for k in range(columns)]
        for bottom in bottoms
    ]


def scans_figure(
    series: Mapping[str, Mapping[str, Array]], measured: Mapping[str, Array], mask: Array, affine: Array, index: int
) -> Figure:
    """One slice of each contrast (rows) in each series (columns), the measured scan last, then what is left to it.

    Parameters
    ----------
    series : name to contrast to (X, Y, Z); the last one's difference to the measured scan is drawn
    measured, mask, affine : by contrast, brain, and voxel → RAS mm, all on one grid
    index : slice along the third axis

    Raises `FigureInputError` without a series, or with images on different grids.
    """
    if not series or any(scan.shape != mask.shape for scans in series.values() for scan in scans.values()):
        raise FigureInputError("the series to draw are none, or not on the grid of the brain mask")
    names = [*series, "measured"]
    rows, last = list(measured), list(series)[-1]
    first, axis = _slab(mask[..., index], affine, index)
    with s.style():
        fig, axes = _grid(len(rows), len(names) + 1, s.height_over_width(None, first, axis))
        for panels, contrast in zip(axes, rows, strict=True):
            low, high = s.gray_limits(measured[contrast], mask)
            scans = [*(series[name][contrast] for name in series), measured[contrast]]
            for ax, scan in zip(panels, scans, strict=False):
                s.show_plane(ax, _slab(scan[..., index], affine, index)[0], axis, 0, vmin=low, vmax=high)
            left = series[last][contrast][..., index] - measured[contrast][..., index]
            colors: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -0.25 * high, "vmax": 0.25 * high}
            s.show_plane(panels[-1], _slab(left, affine, index)[0], axis, 0, **colors)
            place: dict[str, Any] = {"transform": panels[0].transAxes, "rotation": 90, "ha": "right", "va": "center"}
            panels[0].text(-0.02, 0.5, contrast, fontsize=9, color=s.INK, **place)
        for ax, name in zip(axes[0], [*names, f"{last} − measured"], strict=True):
            ax.set_title(name, fontsize=9, color=s.INK, pad=3)
        s.mark_sides(axes[0][0], axis)
        s.mark_position(axes[0][0], first, axis, 0)
    return fig


def explanation_figure(
    image: Array, masks: Sequence[Array], maps: Mapping[str, Array], affine: Array, index: int
) -> Figure:
    """Attention masks of the gates, low to high resolution, then maps of the critic, each (X, Y) over one slice.

    Masks go from 0 to 1, maps by title from 0 up, on one scale of their own; `index` is the slice's in the volume.
    Raises `FigureInputError` where there is nothing to show.
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
    low, high = s.gray_limits(image)
    with s.style():
        fig, axes = _grid(-(-len(panels) // columns), columns, s.height_over_width(None, below, axis) + 0.09)
        flat = [ax for row in axes for ax in row]
        for ax, (title, values, most) in zip(flat, panels, strict=False):
            s.show_plane(ax, below, axis, 0, vmin=low, vmax=high)
            shown: dict[str, Any] = {"cmap": "inferno", "alpha": 0.6, "vmin": 0.0, "vmax": most}
            s.show_plane(ax, _slab(values, affine, index)[0], axis, 0, **shown)
            ax.set_title(title, fontsize=8.5, color=s.INK, pad=3)
        for ax in flat[len(panels) :]:
            s.blank(ax)
    return fig
