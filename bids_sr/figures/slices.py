"""Figures of images: rows of panels, each a part of a plane of some images above one another.

Images are shown in *neurological* orientation (left is left) after the affine has been read:
arrays are brought to the closest RAS order by flips and swaps. Pixels are drawn as acquired, never
smoothed by the viewer, because smoothness is what the figures are there to reveal.

All images of a figure cover one field of view, each on its own grid. Places are in mm along the
axes of the field of view in RAS order, from its lower corner, so that they hold for all grids,
oblique ones too.
"""

from collections.abc import Mapping, Sequence
from textwrap import fill
from types import MappingProxyType
from typing import Any

import nibabel as nib
import numpy as np
from contourpy import contour_generator
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from bids_sr.figures import canvas as s
from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.metrics.number_text import number

WIDTH, _TALLEST = 12.0, 2.0
"""Of a figure, and of a panel unless the figure says otherwise (inches)."""
_GAP, _HEAD = 0.02, 0.24  # inches: between panels, and for their titles
_NAME = 11  # characters in a line of the name of a row
# at the left and right of a plane across x, y or z
_EDGE_LETTERS = (("P", "A"), ("L", "R"), ("L", "R"))
_OBLIQUE_MM = 5.0
"""Where a coordinate changes by more than this over a slice, that of its center is said to be so.
"""
# how far an outline may lie from the exact one: not to be seen, at half of the points
_NEAR_MM = 0.3


@frozen
class Layer:
    """An image as pixels on a scale from `low` to `high`; NaN is not drawn.

    One that `blinks` does so while the pointer, or the focus of the keyboard, is on the figure.
    """

    image: Volume
    low: float
    high: float
    colors: str | Colormap = "gray"
    alpha: float = 1.0
    blinks: bool = False


@frozen
class Outline:
    """Outline at `level` of an image or mask, without pieces below `shortest_mm`.

    The image may be a probability.

    Specks of a noisy image would make files large and hide the rest. `name` is for the legend;
    empty for none.
    """

    image: Volume
    color: str
    name: str = ""
    level: float = 0.5
    width: float = 0.7
    shortest_mm: float = 0.0


@frozen
class Cut:
    """Part of the plane across an axis at `at` (mm) that lies within a box.

    `axis`: axis across the plane: 0 sagittal, 1 coronal, 2 axial. `at`: place along that axis from
    the lower edge (mm, RAS order). `box`: lowest and highest corner of what is shown (2, 3; mm,
    RAS order).
    """

    axis: int
    at: float
    box: Array

    @property
    def sides(self) -> Array:
        """Left, right, and bottom, top (2, 2; mm)."""
        return self.box[:, _across(self.axis)].T


@frozen
class Panel:
    """Layers drawn on top of one another in a cut.

    Without any of them, only the title and centered text are drawn.

    `shown`: images and outlines in the order drawn; empty for words alone. `title`: text above the
    panel; empty for none. `framed`: corners of a box that another panel enlarges (2, 3; mm); None
    for none. `place`: position of the plane in words; None takes its coordinate.
    """

    cut: Cut
    shown: Sequence[Layer | Outline]
    title: str = ""
    words: str = ""
    framed: Array | None = None
    place: str | None = None


Row = tuple[str, Sequence[Panel]]
"""What stands at the left of a row of panels, and the panels, which are equally high."""


def canonical(image: Volume) -> Volume:
    """Reorder an image to be closest to RAS; raise `FigureInputError` where it is not 3D."""
    if image.data.ndim != 3:
        raise s.FigureInputError(
            f"a figure needs a 3D image, this one has shape {image.data.shape}"
        )
    transform = nib.orientations.io_orientation(image.affine)
    back = nib.orientations.inv_ornt_aff(transform, image.data.shape)
    turned = nib.orientations.apply_orientation(np.asarray(image.data), transform)
    return Volume(turned, np.asarray(image.affine, dtype=float) @ back)


def field_of_view(image: Volume) -> Array:
    """Lowest and highest corner (2, 3; mm) of all of an image.

    Zeros, and the lengths along right, anterior and superior (mm).
    """
    turned = canonical(image)
    return np.array([np.zeros(3), turned.data.shape * turned.zooms])


def repeated(image: Volume, target: Volume) -> Array:
    """Resample values in RAS order to another grid of the field of view.

    Each voxel takes the value of the one it lies in.
    """
    data, shape = canonical(image).data, canonical(target).data.shape
    for axis in range(3):
        n = data.shape[axis]
        m = shape[axis]
        if n != m:
            data = np.take(
                data, np.minimum(((np.arange(m) + 0.5) * n / m).astype(int), n - 1), axis=axis
            )
    return data


def gray(image: Volume, mask: Volume | None = None) -> Layer:
    """Return an image in gray.

    Black is 0 or the 1st percentile, white is 1.15 times the 99th inside the mask.

    `image`: image in any unit of intensity (3D). `mask`: voxels that set the scale (3D); None or
    empty takes all.
    """
    low, high = gray_limits(image, mask)
    return Layer(image=image, low=low, high=high)


def gray_limits(image: Volume, mask: Volume | None = None) -> tuple[float, float]:
    """Black and white of a gray scale; the mask may be on another grid of the field of view.

    `image`: image in any unit of intensity (3D). `mask`: voxels that set the scale (3D); None or
    empty takes all.
    """
    inside = image.data.ravel()
    if mask is not None and np.any(mask.data):
        same = mask.data.shape == image.data.shape
        inside = (
            image.data[mask.data > 0] if same else canonical(image).data[repeated(mask, image) > 0]
        )
    inside = inside[np.isfinite(inside)]
    if not inside.size:
        return 0.0, 1.0
    first, last = np.percentile(inside, [1, 99])
    low = min(0.0, float(first))
    high = 1.15 * float(last)
    return low, high if high > low else low + 1.0


def is_brain(region: Array, brain: Array) -> bool:
    """Return whether a region is roughly the whole brain, with nothing to outline or enlarge.

    `region`: voxels of the region (boolean, any shape). `brain`: voxels of the brain (boolean, any
    shape).
    """
    return bool(np.count_nonzero(region) >= 0.9 * np.count_nonzero(brain))


def box_of(mask: Volume, margin_mm: float) -> Array:
    """Return the corners (2, 3; mm) of a mask with a margin.

    They are inside the field of view, and are those of all of it where the mask is empty.

    Lowest and highest corner (2, 3; mm, RAS order).
    """
    whole = field_of_view(mask)
    turned = canonical(mask)
    filled = np.argwhere(turned.data > 0)
    if not len(filled):
        return whole
    found = np.array([filled.min(axis=0), filled.max(axis=0) + 1]) * turned.zooms
    return np.clip(found + np.array([[-margin_mm], [margin_mm]]), *whole)


def part_of(box: Array, center: Array, size_mm: tuple[float, float]) -> Array:
    """A box no larger in x and y than a size around a point (mm), inside another.

    `box`: lowest and highest corner that hold the result (2, 3; mm). `center`: point in the middle
    (3,; mm); near an edge the result is moved inward. Lowest and highest corner (2, 3; mm),
    unchanged along z.
    """
    part = box.copy()
    size = np.minimum(size_mm, np.ptp(box, axis=0)[:2])
    part[0, :2] = np.clip(center[:2] - size / 2, box[0, :2], box[1, :2] - size)
    part[1, :2] = part[0, :2] + size
    return part


def _spread_planes(mask: Volume, count: int, axis: int = 2) -> list[float]:
    """Return places (mm) of planes spread over a mask, its ends excluded.

    The fewer the planes, the more of the ends is excluded; where the mask is empty, they are
    spread over all of it.

    `axis`: axis across the planes: 0 sagittal, 1 coronal, 2 axial. Places ascend from the lower
    edge (mm, RAS order).
    """
    turned = canonical(mask)
    filled = np.flatnonzero(turned.data.any(axis=tuple(_across(axis))))
    first, last = (filled[0], filled[-1]) if filled.size else (0, turned.data.shape[axis] - 1)
    margin = max(0.12, 0.5 / (count + 0.5)) * (last - first)
    planes = {round(each) for each in np.linspace(first + margin, last - margin, count)}
    return [(k + 0.5) * float(turned.zooms[axis]) for k in sorted(planes)]


def strongest_planes(strength: Array, count: int, apart: int) -> list[int]:
    """Return ascending indices of the strongest planes (above 0) at least `apart` apart."""
    chosen: list[int] = []
    for k in np.argsort(-strength, kind="stable"):
        if strength[k] > 0 and all(abs(int(k) - other) >= apart for other in chosen):
            chosen.append(int(k))
    return sorted(chosen[:count])


def cuts(places: Sequence[float], box: Array, axis: int = 2) -> list[Cut]:
    """Return planes across an axis, each within a box.

    `places`: places of the planes from the lower edge (mm, RAS order). `box`: lowest and highest
    corner of what is shown (2, 3; mm). `axis`: axis across the planes: 0 sagittal, 1 coronal, 2
    axial.
    """
    return [Cut(axis=axis, at=at, box=box) for at in places]


def spread_cuts(mask: Volume, margin_mm: float, *views: tuple[int, int]) -> list[Cut]:
    """Return planes of some views (axis, number of planes) that are spread over a mask, cut to it.

    `*views`: axis in RAS order and number of planes of each view.
    """
    box = box_of(mask, margin_mm)
    return [
        cut for axis, count in views for cut in cuts(_spread_planes(mask, count, axis), box, axis)
    ]


def row_of(name: str, cuts: Sequence[Cut], *shown: Layer | Outline) -> Row:
    """The same images in several cuts.

    `name`: text at the left; empty for none. `cuts`: parts of planes from left to right.
    """
    return name, [Panel(cut=cut, shown=shown) for cut in cuts]


def image_figure(
    rows: Sequence[Row],
    *,
    scale: Layer | None = None,
    label: str = "",
    outlines: Sequence[Outline] = (),
    fills: Mapping[str, str] = MappingProxyType({}),
    note: str = "",
    tallest: float = _TALLEST,
    ground: str = "black",
) -> Figure:
    """Plot rows of panels.

    Those of a row share a scale of length, and rows of equal cuts are aligned in columns.

    Position and sides are written where a panel shows another plane than those at its left and
    above.

    `scale, label`: whose scale of colors stands below, and what it is of. `outlines, note`: which
    are named below, and what else is said there. `tallest`: height of a panel (inches) that none
    exceeds where there are few. `fills`: colors of areas by the name that the legend gives them.
    """
    names = ["\n".join(fill(line, _NAME) for line in name.split("\n")) for name, _ in rows]
    panels = [row for _, row in rows]
    left = 0.02 + max(0.13 * bool(name) + 0.07 * max(map(len, name.split("\n"))) for name in names)
    columns = max(map(len, panels))
    # a row of fewer panels is not enlarged for it
    shares = [
        np.mean([np.divide(*np.ptp(each.cut.sides, axis=1)) for each in row]) for row in panels
    ]
    heights = (WIDTH - left - _GAP * columns) / (columns * np.array(shares))
    heights *= min(1.0, tallest / heights.max())  # alike for all rows, which keeps columns
    heads = [_HEAD * any(panel.title for panel in row) for row in panels]
    below = 0.62 if scale else 0.36 if outlines or fills or note else 0.02
    tall = below + sum(heights) + sum(heads) + _GAP * len(rows)
    with s.style(literal=True):
        fig = s.new_figure(WIDTH, tall)
        ax = fig.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, tall), autoscale_on=False)
        ax.set_axis_off()
        top = tall
        for number, (row, height, head) in enumerate(zip(panels, heights, heads, strict=True)):
            top -= height + head + _GAP
            ax.text(
                left - 0.09,
                top + height / 2,
                names[number],
                ha="right",
                va="center",
                fontsize=9,
                linespacing=1.4,
            )
            x, before = left, None
            above = panels[number - 1] if number else ()
            for column, panel in enumerate(row):
                drawing = _Drawing(ax, panel.cut, x, top, height)
                drawing.draw(panel, ground)
                over = above[column].cut if column < len(above) else None
                drawing.mark(
                    panel,
                    [cut for cut in (before, over) if cut],
                    s.INK if ground != "black" else "white",
                )
                before, x = panel.cut, x + drawing.width + _GAP
        if scale:
            colors = ScalarMappable(Normalize(scale.low, scale.high), scale.colors)
            s.color_bar(fig, colors, (0.36, 0.4 / tall, 0.28, 0.09 / tall), label)
        if outlines or fills:
            handles: list[Artist] = [
                Line2D([], [], color=each.color, lw=1.6, label=each.name) for each in outlines
            ]
            handles += [Rectangle((0, 0), 1, 1, color=fills[name], label=name) for name in fills]
            fig.legend(
                handles=handles,
                loc="lower left",
                ncols=len(handles),
                fontsize=8,
                bbox_to_anchor=(0.045, 0.0),
            )
        fig.text(0.995, 0.12 / tall, note, ha="right", va="bottom", fontsize=7.5, color=s.INK)
    return fig


class _Drawing:
    """A panel on the sheet: its lower left corner (inches) and its scale.

    The scale converts mm of the field of view to inches.
    """

    def __init__(self, ax: Axes, cut: Cut, x: float, y: float, height: float) -> None:
        self.ax, self.cut, self.x, self.y, self.height = ax, cut, x, y, height
        (self._left, self._right), (self._bottom, top) = cut.sides
        self._inches = height / (top - self._bottom)
        self.width = float(self._inches * (self._right - self._left))

    def draw(self, panel: Panel, ground: str) -> None:
        """Ground, images, outlines and frame; title and words."""
        center = self.x + self.width / 2
        self.ax.text(center, self.y + self.height + 0.05, panel.title, ha="center", fontsize=9.5)
        if not panel.shown:
            look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "color": s.SOFT}
            self.ax.text(center, self.y + self.height / 2, panel.words, **look)
            return
        sheet = Rectangle(
            (self.x, self.y), self.width, self.height, facecolor=ground, lw=0, zorder=-1
        )
        self.ax.add_artist(sheet)
        for image in panel.shown:
            values, (left, right, bottom, top) = cut_out(image.image, self.cut)
            x, y = self._on_sheet(np.array([left, right]), np.array([bottom, top]))
            if isinstance(image, Layer):
                drawn = self.ax.imshow(
                    values,
                    origin="lower",
                    extent=(*x, *y),
                    interpolation="none",
                    aspect="auto",
                    cmap=image.colors,
                    vmin=image.low,
                    vmax=image.high,
                    alpha=image.alpha,
                )
                drawn.set_clip_path(sheet)
                if image.blinks:
                    drawn.set_gid(f"{s.FLICKER}-{len(self.ax.images)}")
            else:
                self._outline(values, x, y, image, sheet)
        if panel.framed is not None:
            (left, right), (bottom, top) = panel.framed[:, _across(self.cut.axis)].T
            (x0, x1), (y0, y1) = self._on_sheet(np.array([left, right]), np.array([bottom, top]))
            self.ax.add_patch(
                Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=s.FRAME_COLOR, lw=1.3)
            )

    def _on_sheet(self, x: Array, y: Array) -> tuple[Array, Array]:
        return self.x + (x - self._left) * self._inches, self.y + (y - self._bottom) * self._inches

    def _outline(self, values: Array, x: Array, y: Array, line: Outline, sheet: Rectangle) -> None:
        """One path for all pieces, which is a third of the size of several."""
        values = values.astype(float)
        if not values.size or not np.nanmin(values) < line.level < np.nanmax(values):
            return
        rows, columns = values.shape
        across = x[0] + (np.arange(columns) + 0.5) * (x[1] - x[0]) / columns
        up = y[0] + (np.arange(rows) + 0.5) * (y[1] - y[0]) / rows
        near, shortest = _NEAR_MM * self._inches, line.shortest_mm * self._inches
        found = contour_generator(across, up, values).lines(line.level)
        lines = [simplified(np.asarray(line), near) for line in found]
        kept = [
            each
            for each in lines
            if np.linalg.norm(np.diff(each, axis=0), axis=1).sum() >= shortest
        ]
        if kept:
            path = Path.make_compound_path(*map(Path, kept))
            drawn = PathPatch(
                path, fill=False, edgecolor=line.color, lw=line.width, capstyle="round"
            )
            self.ax.add_artist(drawn)
            drawn.set_clip_path(sheet)

    def mark(self, panel: Panel, beside: Sequence[Cut], color: str) -> None:
        """Write position and sides where no adjacent cut has the same plane or axis."""
        axis, at = self.cut.axis, self.cut.at
        if not panel.shown:
            return
        if all(each.axis != axis for each in beside):
            look: dict[str, Any] = {
                "fontsize": 7,
                "color": color,
                "va": "center",
                "fontweight": "bold",
            }
            for share, letter, side in zip(
                (0.015, 0.985), _EDGE_LETTERS[axis], ("left", "right"), strict=True
            ):
                self.ax.text(
                    self.x + share * self.width, self.y + self.height / 2, letter, ha=side, **look
                )
        if all((each.axis, each.at) != (axis, at) for each in beside):
            text = (
                _place_of(panel.shown[0].image, self.cut) if panel.place is None else panel.place
            )
            self.ax.text(
                self.x + 0.03,
                self.y + 0.03,
                text,
                fontsize=6.5,
                color=color,
                ha="left",
                va="bottom",
            )


def simplified(chain: Array, tolerance: float) -> Array:
    """Return the corners of a chain of points (N, 2) that stay within a distance of all points."""
    from bids_sr.figures.line_loops import mark_corners

    chain = np.ascontiguousarray(chain, np.float64)
    kept = np.zeros(len(chain), bool)
    mark_corners(chain, tolerance, kept)
    return chain[kept]


def _place_of(image: Volume, cut: Cut) -> str:
    """Coordinate (RAS mm) of the middle of a plane in words."""
    turned = canonical(image)
    shape = np.array(turned.data.shape)
    middle = (shape - 1) / 2.0
    middle[cut.axis] = _index(turned, cut)
    oblique = (
        np.abs(turned.affine[cut.axis, :3]) @ (shape * (np.arange(3) != cut.axis)) > _OBLIQUE_MM
    )
    return coordinate(
        cut.axis, float(turned.affine[cut.axis] @ [*middle, 1])
    ) + " (center)" * bool(oblique)


def coordinate(axis: int, millimeters: float) -> str:
    """A coordinate (RAS mm) along an axis in words."""
    return f"{'xyz'[axis]} = {number(millimeters, '+.0f')} mm"


def _across(axis: int) -> list[int]:
    return [each for each in range(3) if each != axis]


def _index(turned: Volume, cut: Cut) -> int:
    return int(np.clip(cut.at // turned.zooms[cut.axis], 0, turned.data.shape[cut.axis] - 1))


def cut_out(image: Volume, cut: Cut) -> tuple[Array, tuple[float, ...]]:
    """Return the values of the voxels in a cut, rows upward, and their edges.

    The edges are (left, right, bottom, top; mm).
    """
    turned = canonical(image)
    where: list[Any] = [_index(turned, cut)] * 3
    edges: list[float] = []
    for axis in _across(cut.axis):
        zoom = float(turned.zooms[axis])
        n = turned.data.shape[axis]
        low, high = cut.box[:, axis] / zoom
        start = max(int(np.floor(low + 1e-3)), 0)
        stop = min(int(np.ceil(high - 1e-3)), n)
        where[axis] = slice(start, stop)
        edges += [start * zoom, stop * zoom]
    return turned.data[tuple(where)].T, tuple(edges)
