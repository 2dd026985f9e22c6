"""Figures of anatomy and registration (contours on slices; reference, before, after), and of fused structural scans."""

from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.reports.figures import style as s
from bids_sr.reports.figures.style import FigureInputError, ShownVolume

Views = Sequence[tuple[int, int]]
"""Pairs of an axis (0 sagittal, 1 coronal, 2 axial) and a number of planes across it."""
MIXED_VIEWS: Views = ((2, 4), (1, 3), (0, 2))
MOSAIC_VIEWS: Views = ((2, 9), (1, 9), (0, 9))
SHORTEST_MM = 15.0
AXIAL_VIEWS: Views = ((2, 10),)


@frozen
class Outline:
    """A line to draw over images of one grid: the isoline at `level` of a mask, a probability or an image."""

    name: str
    data: Array
    color: str
    level: float = 0.5


def _prepared(
    images: Sequence[Array], outlines: Sequence[Outline], affine: Array, mask: Array | None
) -> tuple[list[ShownVolume], list[ShownVolume], ShownVolume]:
    """Bring everything to RAS order and cut it to the head."""
    for other in [*images[1:], *[o.data for o in outlines], *([] if mask is None else [mask])]:
        if other.shape != images[0].shape:
            raise FigureInputError(f"images of shapes {images[0].shape} and {other.shape} are not on one grid")
    around = s.canonical(np.asarray(images[0] != 0 if mask is None else mask > 0), affine)
    box = s.bounding_box(around.data, around.zooms, margin_mm=6.0)
    shown = [s.cropped(s.canonical(image, affine), box) for image in images]
    lines = [s.cropped(s.canonical(np.asarray(o.data, dtype=np.float32), affine), box) for o in outlines]
    return shown, lines, s.cropped(around, box)


def _draw_outlines(ax: Axes, outlines: Sequence[Outline], lines: Sequence[ShownVolume], axis: int, index: int) -> None:
    for outline, line in zip(outlines, lines, strict=True):
        s.show_contour(ax, line, axis, index, outline.color, level=outline.level, shortest=SHORTEST_MM, width=0.6)


def _legend(fig: Figure, outlines: Sequence[Outline], note: str) -> None:
    handles = [Line2D([], [], color=o.color, lw=1.6, label=o.name) for o in outlines]
    if handles:
        fig.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=8, bbox_to_anchor=(0.045, 0.0))
    fig.text(0.995, 0.012, note, ha="right", va="bottom", fontsize=7.5, color=s.INK)


def mosaic_figure(
    image: Array, affine: Array, outlines: Sequence[Outline], *, mask: Array | None, views: Views = MOSAIC_VIEWS
) -> Figure:
    """One image (X, Y, Z) in rows of axial, coronal and sagittal planes, with outlines on its grid.

    `mask` is where planes are chosen and the gray scale is taken (None: where the image is not zero); `views` has
    one row each, an axis and a number of planes.
    """
    (volume,), lines, around = _prepared([image], outlines, affine, mask)
    low, high = s.gray_limits(volume.data, around.data)
    columns = max(n for _, n in views)
    heights = [12.0 / columns * s.height_over_width(None, volume, axis) for axis, _ in views]
    with s.style():
        fig = s.new_figure(12.0, sum(heights) + 0.4)
        tall = fig.get_figheight()
        for row, (axis, n_planes) in enumerate(views):
            bottom = (0.4 + sum(heights[row + 1 :])) / tall
            for column, index in enumerate(s.slice_indices(around.data, axis, n_planes)):
                ax = fig.add_axes((column / columns + 0.001, bottom, 1 / columns - 0.002, (heights[row] - 0.02) / tall))
                ax.set_facecolor("black")
                s.show_plane(ax, volume, axis, index, vmin=low, vmax=high)
                _draw_outlines(ax, outlines, lines, axis, index)
                s.mark_position(ax, volume, axis, index)
                if column == 0:
                    s.mark_sides(ax, axis)
        _legend(fig, outlines, "Left is left")
    return fig


def registration_figure(
    reference: Array,
    before: Array,
    after: Array,
    affine: Array,
    outlines: Sequence[Outline],
    *,
    names: tuple[str, str, str],
    mask: Array | None = None,
    views: Views = MIXED_VIEWS,
) -> Figure:
    """Rows of the reference, the moving image before, and after registration, the reference's outlines on all three.

    In the last row the reference lies below the registered image, which blinks while the pointer is on the figure.

    Parameters
    ----------
    reference, before, after : (X, Y, Z) on one grid, else `FigureInputError` is raised; signal
    outlines : drawn from the reference, so that a contour off the edge means an image off its place
    names : of the three rows
    mask : where planes are chosen and gray scales are taken
    views : axes and numbers of planes, side by side
    """
    shown, lines, around = _prepared([reference, before, after], outlines, affine, mask)
    limits = [s.gray_limits(volume.data, around.data) for volume in shown]
    planes = [(axis, index) for axis, n_planes in views for index in s.slice_indices(around.data, axis, n_planes)]
    # all panels are equally high; a plane's width follows from its proportions
    shares = np.array([1 / s.height_over_width(None, shown[0], axis) for axis, _ in planes])
    widths = 0.97 * shares / shares.sum()
    lefts = 0.03 + np.concatenate([[0.0], np.cumsum(widths)[:-1]])
    height = 12.0 * 0.97 / float(shares.sum())
    with s.style():
        fig = s.new_figure(12.0, 3 * height + 0.4)
        unit = height / fig.get_figheight()
        for row, name in enumerate(names):
            bottom = 0.4 / fig.get_figheight() + (2 - row) * unit
            fig.text(0.015, bottom + unit / 2, name, rotation=90, ha="center", va="center", fontsize=8.5)
            for column, (axis, index) in enumerate(planes):
                ax = fig.add_axes((lefts[column], bottom, widths[column] - 0.002, unit * 0.985))
                ax.set_facecolor("black")
                if row == 2:
                    s.show_plane(ax, shown[0], axis, index, vmin=limits[0][0], vmax=limits[0][1])
                image = s.show_plane(ax, shown[row], axis, index, vmin=limits[row][0], vmax=limits[row][1])
                if row == 2:
                    image.set_gid(f"{s.FLICKER}-{column}")
                _draw_outlines(ax, outlines, lines, axis, index)
                if row == 0:
                    s.mark_position(ax, shown[0], axis, index)
                    s.mark_sides(ax, axis)
        _legend(fig, outlines, "Left is left. Hover to flicker between reference and registered image (lowest row)")
    return fig


def isolines(image: Array, mask: Array | None = None) -> list[Outline]:
    """Outlines of an image that comes without tissue maps: the head's edge and its bright inner structures.

    Levels are 45 % of the median signal, and the 88th percentile, of the lightly smoothed image inside the mask.
    """
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(np.asarray(image, dtype=np.float32), 1.0)
    inside = smooth[np.asarray(mask) > 0] if mask is not None and np.any(mask) else smooth[smooth > smooth.mean()]
    if not inside.size or float(inside.max()) <= float(inside.min()):
        return []
    edge, bright = 0.45 * float(np.median(inside)), float(np.percentile(inside, 88))
    return [
        Outline(name="edge of the reference", data=smooth, color=s.SKY, level=edge),
        Outline(name="bright structures of the reference", data=smooth, color=s.ORANGE, level=bright),
    ]


_WIDTH, _LEFT, _TOP = 12.0, 0.05, 0.3  # inches wide; share for names of rows; inches for names of columns


def _slab(image: Array, affine: Array, index: int) -> tuple[ShownVolume, int]:
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
