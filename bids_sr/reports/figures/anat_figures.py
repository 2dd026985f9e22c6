"""Figures of anatomy and of registration: contours on slices, and rows of reference, before and after."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bids_sr.io.array_types import Array
from bids_sr.reports.figures import style as s
from bids_sr.reports.figures.style import FigureInputError, Volume

Views = Sequence[tuple[int, int]]
"""Pairs of an axis (0 sagittal, 1 coronal, 2 axial) and a number of planes across it."""
MIXED_VIEWS: Views = ((2, 4), (1, 1), (0, 1))
SHORTEST_MM = 15.0
AXIAL_VIEWS: Views = ((2, 6),)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """A line to draw over images of one grid: the isoline at `level` of a mask, a probability or an image."""

    name: str
    data: Array
    color: str
    level: float = 0.5


def _prepared(
    images: Sequence[Array], outlines: Sequence[Outline], affine: Array, mask: Array | None
) -> tuple[list[Volume], list[Volume], Volume]:
    """Bring everything to RAS order and cut it to the head."""
    for other in [*images[1:], *[o.data for o in outlines], *([] if mask is None else [mask])]:
        if other.shape != images[0].shape:
            raise FigureInputError(f"images of shapes {images[0].shape} and {other.shape} are not on one grid")
    around = s.canonical(np.asarray(images[0] != 0 if mask is None else mask > 0), affine)
    box = s.bounding_box(around.data, around.zooms, margin_mm=12.0)
    shown = [s.cropped(s.canonical(image, affine), box) for image in images]
    lines = [s.cropped(s.canonical(np.asarray(o.data, dtype=np.float32), affine), box) for o in outlines]
    return shown, lines, s.cropped(around, box)


def _draw_outlines(ax: Axes, outlines: Sequence[Outline], lines: Sequence[Volume], axis: int, index: int) -> None:
    for outline, line in zip(outlines, lines, strict=True):
        s.show_contour(ax, line, axis, index, outline.color, level=outline.level, shortest=SHORTEST_MM)


def _legend(fig: Figure, outlines: Sequence[Outline], note: str) -> None:
    handles = [Line2D([], [], color=o.color, lw=1.6, label=o.name) for o in outlines]
    if handles:
        fig.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=8, bbox_to_anchor=(0.045, 0.0))
    fig.text(0.995, 0.012, note, ha="right", va="bottom", fontsize=7.5, color=s.INK)


def mosaic_figure(
    image: Array,
    affine: Array,
    outlines: Sequence[Outline],
    *,
    mask: Array | None = None,
    views: Views = ((2, 7), (1, 7), (0, 7)),
) -> Figure:
    """One image (X, Y, Z) in rows of axial, coronal and sagittal planes, with outlines on its grid.

    `mask` is where planes are chosen and the gray scale is taken (default: where the image is not zero); `views` has
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
        _legend(fig, outlines, "Neurological orientation: left is left")
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
        _legend(fig, outlines, "Left is left. Point at the figure: reference and registered image take turns below")
    return fig


def isolines(image: Array, mask: Array | None = None, *, color: str = "#e69f00") -> list[Outline]:
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
        Outline(name="edge of the reference", data=smooth, color="#56b4e9", level=edge),
        Outline(name="bright structures of the reference", data=smooth, color=color, level=bright),
    ]
