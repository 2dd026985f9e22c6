"""Figures of image slices: rows of panels, each with images and outlines in a part of a plane.

Images are shown in *neurological* orientation (left is left) according to their affine: arrays are
reordered to the closest RAS orientation by flips and axis swaps. Pixels are never interpolated,
because the figures are used to judge smoothness.

All images of a figure cover the same field of view, each on its own grid. Positions are in mm
along the axes of the field of view in RAS order, relative to its lower corner. They are therefore
valid for all grids, including oblique grids.

In `plot_epi` of nilearn, which resamples oblique slices, 40 % of the pixels have a value of the
image, instead of all here; the mosaic of nireports places overlays by voxel index, and its page
loads three files from other hosts.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
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

from bids_sr.engine.number_text import number
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.volume import Volume
from bids_sr.report.figures import canvas

WIDTH_INCH = 12.0
"""inches, width of a figure"""
_TALLEST_INCH = 2.0  # inches, default limit for the height of a panel
_GAP_INCH = 0.02  # inches, gap between panels
_TITLE_INCH = 0.24  # inches, height of panel titles
_LABEL_CHARACTERS = 11  # characters per line in the label of a row
_CHARACTER_INCH = 0.07  # inches, width of a character in the label of a row
_POSITION_CHARACTER_INCH = 0.055  # inches, width of a character in the label of a position
_LABEL_MARGIN_INCH = 0.13  # inches, space at the left and right of a label
_LABEL_GAP_INCH = 0.09  # inches, gap between a label and its panels
_EDGE_INCH = 0.02  # inches, empty space at the left edge, and below panels without a footer
_LEGEND_INCH = 0.36  # inches, height of a footer with a legend or a note
_SCALE_INCH = 0.62  # inches, height of a footer with a color scale
_SCALE_LEFT, _SCALE_WIDTH = 0.36, 0.28  # fractions of the width of a figure
_SCALE_BOTTOM_INCH, _SCALE_HEIGHT_INCH = 0.4, 0.09  # inches, position and height of the scale
# labels at the left and right edge of a plane perpendicular to x, y or z
_EDGE_LETTERS = (("P", "A"), ("L", "R"), ("L", "R"))
# mm; if the coordinate varies by more than this over a slice, it is labeled as the coordinate of
# the center
_OBLIQUE_MM = 5.0
# mm, tolerance of simplified outlines: an invisible change that saves half of the points
_OUTLINE_TOLERANCE_MM = 0.3


@frozen
class Layer:
    """Image drawn as pixels, with a color scale from `low` to `high`; NaN is transparent.

    A layer with `blinks` blinks while the pointer or the keyboard focus is on the figure.
    """

    image: Volume
    low: float
    high: float
    colors: str | Colormap = "gray"
    alpha: float = 1.0
    blinks: bool = False


@frozen
class Outline:
    """Contour of an image, mask or probability map at `level`.

    Pieces shorter than `shortest_mm` are omitted, because specks of noisy images make files large
    and clutter the figure. `name` is the label in the legend and may be "".
    """

    image: Volume
    color: str
    name: str = ""
    level: float = 0.5
    width: float = 0.7
    shortest_mm: float = 0.0


@frozen
class Cut:
    """Part of a plane inside a box.

    `axis` is perpendicular to the plane: 0 sagittal, 1 coronal, 2 axial. `position_mm` is the
    position of the plane along this axis (from the lower edge, RAS order). `box` has the lowest
    and highest corner of the part (2, 3; mm, RAS order).
    """

    axis: int
    position_mm: float
    box: Array

    @property
    def sides(self) -> Array:
        """Left and right edge, bottom and top edge (2, 2; mm)."""
        return self.box[:, _in_plane_axes(self.axis)].T


@frozen
class Panel:
    """Layers in a cut, drawn on top of each other.

    `layers` are the images and outlines in drawing order; if it is empty, only `title` and the
    centered `text` are drawn. `enlarged_box` has the corners of a box that another panel
    enlarges (2, 3; mm). `position_label` is printed at the lower left instead of the coordinate of
    the plane, unless it is None.
    """

    cut: Cut
    layers: Sequence[Layer | Outline]
    title: str = ""
    text: str = ""
    enlarged_box: Array | None = None
    position_label: str | None = None


PanelRow = tuple[str, Sequence[Panel]]
"""Label at the left of a row of panels, and the panels, which have equal heights."""


def spread_cuts(mask: Volume, margin_mm: float, *views: tuple[int, int]) -> list[Cut]:
    """Return planes of several views that are spread over a mask, cropped to the mask.

    Each of `views` is an axis in RAS order and a number of planes.
    """
    box = bounding_box_mm(mask, margin_mm)
    return [
        cut
        for axis, count in views
        for cut in make_cuts(_spread_planes(mask, count, axis), box, axis)
    ]


def bounding_box_mm(mask: Volume, margin_mm: float) -> Array:
    """Return the corners (2, 3; mm, RAS order) of a mask's bounding box with a margin.

    The box is limited to the field of view; it is the complete field of view if the mask is empty.
    """
    full_box = field_of_view(mask)
    ras_mask = reorient_to_ras(mask)
    mask_voxels = np.argwhere(ras_mask.data > 0)
    if not len(mask_voxels):
        return full_box
    corners = np.array([mask_voxels.min(axis=0), mask_voxels.max(axis=0) + 1]) * ras_mask.zooms
    return np.clip(corners + np.array([[-margin_mm], [margin_mm]]), *full_box)


def field_of_view(image: Volume) -> Array:
    """Return the lowest and highest corner (2, 3; mm) of an image's field of view.

    The lowest corner is 0; the highest corner has the lengths along right, anterior and superior.
    """
    ras_image = reorient_to_ras(image)
    return np.array([np.zeros(3), ras_image.data.shape * ras_image.zooms])


def make_cuts(positions: Sequence[float], box: Array, axis: int = 2) -> list[Cut]:
    """Return a cut of a box for each of several planes perpendicular to an axis.

    `positions` of the planes are in mm from the lower edge, in RAS order. `box` is the lowest and
    highest corner of the parts (2, 3; mm). `axis` is 0 for sagittal, 1 for coronal, 2 for axial
    planes.
    """
    return [Cut(axis=axis, position_mm=position, box=box) for position in positions]


def _spread_planes(mask: Volume, count: int, axis: int) -> list[float]:
    """Return positions (mm) of planes that are spread over a mask, in ascending order.

    The ends of the mask are avoided, by a larger margin if there are fewer planes. If the mask is
    empty, planes are spread over the field of view. `axis` is perpendicular to the planes: 0
    sagittal, 1 coronal, 2 axial.
    """
    ras_mask = reorient_to_ras(mask)
    filled_planes = np.flatnonzero(ras_mask.data.any(axis=tuple(_in_plane_axes(axis))))
    first, last = (
        (filled_planes[0], filled_planes[-1])
        if filled_planes.size
        else (0, ras_mask.data.shape[axis] - 1)
    )
    margin = max(0.12, 0.5 / (count + 0.5)) * (last - first)
    planes = {round(position) for position in np.linspace(first + margin, last - margin, count)}
    return [(plane + 0.5) * float(ras_mask.zooms[axis]) for plane in sorted(planes)]


def make_gray_layer(image: Volume, mask: Volume | None = None) -> Layer:
    """Return a gray layer of an image; see `gray_limits` for its scale."""
    low, high = gray_limits(image, mask)
    return Layer(image=image, low=low, high=high)


def gray_limits(image: Volume, mask: Volume | None = None) -> tuple[float, float]:
    """Return the values drawn in black and white.

    Black is 0 or the 1st percentile, whichever is lower; white is 1.15 times the 99th percentile.
    `mask` are the voxels that determine the percentiles, on any grid of the field of view. All
    voxels are used if it is None or empty.
    """
    values = image.data.ravel()
    if mask is not None and np.any(mask.data):
        values = reorient_to_ras(image).data[resample_nearest(mask, image) > 0]
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    percentile_1, percentile_99 = np.percentile(values, [1, 99])
    black = min(0.0, float(percentile_1))
    white = 1.15 * float(percentile_99)
    return black, white if white > black else black + 1.0


def resample_nearest(image: Volume, target: Volume) -> Array:
    """Resample values in RAS order to another grid of the same field of view.

    Nearest-neighbor interpolation is used.
    """
    data = reorient_to_ras(image).data
    target_shape = reorient_to_ras(target).data.shape
    for axis, target_size in enumerate(target_shape):
        size = data.shape[axis]
        if size != target_size:
            nearest = ((np.arange(target_size) + 0.5) * size / target_size).astype(int)
            data = np.take(data, np.minimum(nearest, size - 1), axis=axis)
    return data


def image_figure(
    rows: Sequence[PanelRow],
    *,
    scale: Layer | None = None,
    label: str = "",
    outlines: Sequence[Outline] = (),
    fills: Mapping[str, str] = MappingProxyType({}),
    note: str = "",
    tallest_inch: float = _TALLEST_INCH,
    background: str = "black",
) -> Figure:
    """Plot rows of panels.

    Panels of a row share a scale of length, and rows with equal cuts are aligned in columns.
    Position and sides are labeled if the plane differs from adjacent panels at the left and above.

    `scale` is the layer whose color scale, with `label`, is drawn below the panels; None if no
    color scale is drawn. `outlines` and `fills` (colors of areas by name) are in the legend, and
    `note` is a text below the panels. `tallest_inch` is the largest height of a panel (inches),
    for figures with few panels. `background` is the color of panels.
    """
    row_labels = [
        "\n".join(fill(line, _LABEL_CHARACTERS) for line in row_label.split("\n"))
        for row_label, _ in rows
    ]
    panel_rows = [panels for _, panels in rows]
    label_inches = [
        _LABEL_MARGIN_INCH + _CHARACTER_INCH * max(map(len, row_label.split("\n")))
        for row_label in row_labels
        if row_label
    ]
    left_inch = _EDGE_INCH + max(label_inches, default=0.0)
    heights = _fit_heights(panel_rows, left_inch, tallest_inch)
    title_heights = [
        _TITLE_INCH if any(panel.title for panel in panels) else 0.0 for panels in panel_rows
    ]
    if scale:
        footer_height = _SCALE_INCH
    else:
        footer_height = _LEGEND_INCH if outlines or fills or note else _EDGE_INCH
    figure_height = footer_height + sum(heights) + sum(title_heights) + _GAP_INCH * len(rows)
    with canvas.style(literal=True):
        fig = canvas.new_figure(WIDTH_INCH, figure_height)
        ax = fig.add_axes(
            (0, 0, 1, 1), xlim=(0, WIDTH_INCH), ylim=(0, figure_height), autoscale_on=False
        )
        ax.set_axis_off()
        row_bottom = figure_height
        upper_panels: Sequence[Panel] = ()
        for row_label, panels, height, title_height in zip(
            row_labels, panel_rows, heights, title_heights, strict=True
        ):
            row_bottom -= height + title_height + _GAP_INCH
            ax.text(
                left_inch - _LABEL_GAP_INCH,
                row_bottom + height / 2,
                row_label,
                ha="right",
                va="center",
                fontsize=9,
                linespacing=1.4,
            )
            _draw_row(ax, panels, upper_panels, (left_inch, row_bottom), height, background)
            upper_panels = panels
        if scale:
            _draw_scale(fig, scale, label)
        if outlines or fills:
            _draw_legend(fig, outlines, fills)
        fig.text(
            0.995,
            0.12 / figure_height,
            note,
            ha="right",
            va="bottom",
            fontsize=7.5,
            color=canvas.INK,
        )
    return fig


def _fit_heights(
    panel_rows: Sequence[Sequence[Panel]], left_inch: float, tallest_inch: float
) -> Array:
    """Return the height of each row (inches), so that all panels fit into the width of a figure.

    Rows with fewer panels are not enlarged, and a common factor keeps columns aligned.
    """
    n_columns = max(map(len, panel_rows))
    aspect_ratios = [
        np.mean([np.divide(*np.ptp(panel.cut.sides, axis=1)) for panel in panels])
        for panels in panel_rows
    ]
    heights = (WIDTH_INCH - left_inch - _GAP_INCH * n_columns) / (
        n_columns * np.array(aspect_ratios)
    )
    heights *= min(1.0, tallest_inch / heights.max())
    return heights


def _draw_row(
    ax: Axes,
    panels: Sequence[Panel],
    upper_panels: Sequence[Panel],
    corner: tuple[float, float],
    height: float,
    background: str,
) -> None:
    """Draw panels from left to right.

    `ax` covers the figure, in inches. `upper_panels` are in the row above; empty for the first
    row. `corner` is the lower left corner of the row, and `height` the height of the panels
    (inches).
    """
    text_color = canvas.INK if background != "black" else "white"
    x, y = corner
    left_cut = None
    for column, panel in enumerate(panels):
        drawing = _Drawing(ax, panel.cut, x, y, height)
        drawing.draw(panel, background)
        upper_cut = upper_panels[column].cut if column < len(upper_panels) else None
        drawing.mark(panel, [cut for cut in (left_cut, upper_cut) if cut], text_color)
        left_cut, x = panel.cut, x + drawing.width + _GAP_INCH


class _Drawing:
    """Panel at a position on the sheet: lower left corner (inches) and inches per mm."""

    def __init__(self, ax: Axes, cut: Cut, x: float, y: float, height: float) -> None:
        self.ax, self.cut, self.x, self.y, self.height = ax, cut, x, y, height
        (self._left, self._right), (self._bottom, top) = cut.sides
        self._inches = height / (top - self._bottom)
        self.width = float(self._inches * (self._right - self._left))

    def draw(self, panel: Panel, background: str) -> None:
        """Draw background, images, outlines and frame, or title and text only."""
        center = self.x + self.width / 2
        if panel.title:
            top = self.y + self.height + 0.05
            self.ax.text(center, top, panel.title, ha="center", fontsize=9.5)
        if not panel.layers:
            self.ax.text(
                center,
                self.y + self.height / 2,
                panel.text,
                ha="center",
                va="center",
                fontsize=8,
                color=canvas.SOFT,
            )
            return
        sheet = Rectangle(
            (self.x, self.y), self.width, self.height, facecolor=background, lw=0, zorder=-1
        )
        self.ax.add_artist(sheet)
        for layer in panel.layers:
            values, (left, right, bottom, top) = cut_out(layer.image, self.cut)
            x, y = self._convert_to_sheet(np.array([left, right]), np.array([bottom, top]))
            if isinstance(layer, Layer):
                self._draw_pixels(values, x, y, layer, sheet)
            else:
                self._draw_outline(values, x, y, layer, sheet)
        if panel.enlarged_box is not None:
            self._draw_frame(panel.enlarged_box)

    def _draw_pixels(
        self, values: Array, x: Array, y: Array, layer: Layer, sheet: Rectangle
    ) -> None:
        """Draw the values of a layer between two edges along x and along y (inches)."""
        pixels = self.ax.imshow(
            values,
            origin="lower",
            extent=(*x, *y),
            interpolation="none",
            aspect="auto",
            cmap=layer.colors,
            vmin=layer.low,
            vmax=layer.high,
            alpha=layer.alpha,
        )
        pixels.set_clip_path(sheet)
        if layer.blinks:
            pixels.set_gid(f"{canvas.FLICKER}-{len(self.ax.images)}")

    def _draw_outline(
        self, values: Array, x: Array, y: Array, outline: Outline, sheet: Rectangle
    ) -> None:
        """Draw an outline as one path, which is a third of the size of separate paths.

        `x` and `y` are the edges of the values (inches).
        """
        values = values.astype(float)
        if not values.size or not np.nanmin(values) < outline.level < np.nanmax(values):
            return
        rows, columns = values.shape
        x_centers = x[0] + (np.arange(columns) + 0.5) * (x[1] - x[0]) / columns
        y_centers = y[0] + (np.arange(rows) + 0.5) * (y[1] - y[0]) / rows
        tolerance = _OUTLINE_TOLERANCE_MM * self._inches
        shortest = outline.shortest_mm * self._inches
        contours = contour_generator(x_centers, y_centers, values).lines(outline.level)
        simplified_contours = [
            simplify_line(np.asarray(contour), tolerance) for contour in contours
        ]
        long_contours = [
            contour
            for contour in simplified_contours
            if np.linalg.norm(np.diff(contour, axis=0), axis=1).sum() >= shortest
        ]
        if long_contours:
            path = Path.make_compound_path(*map(Path, long_contours))
            patch = PathPatch(
                path, fill=False, edgecolor=outline.color, lw=outline.width, capstyle="round"
            )
            self.ax.add_artist(patch)
            patch.set_clip_path(sheet)

    def _draw_frame(self, box: Array) -> None:
        """Draw a frame around the part of the plane inside a box (2, 3; mm)."""
        x_mm, y_mm = box[:, _in_plane_axes(self.cut.axis)].T
        (left, right), (bottom, top) = self._convert_to_sheet(x_mm, y_mm)
        frame = Rectangle(
            (left, bottom),
            right - left,
            top - bottom,
            fill=False,
            edgecolor=canvas.FRAME_COLOR,
            lw=1.3,
        )
        self.ax.add_patch(frame)

    def _convert_to_sheet(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Convert positions in the plane (mm) to positions on the sheet (inches)."""
        return self.x + (x - self._left) * self._inches, self.y + (y - self._bottom) * self._inches

    def mark(self, panel: Panel, adjacent: Sequence[Cut], color: str) -> None:
        """Label position and sides unless an adjacent cut has the same plane or axis."""
        axis, position = self.cut.axis, self.cut.position_mm
        if not panel.layers:
            return
        if all(cut.axis != axis for cut in adjacent):
            for fraction, letter, side in zip(
                (0.015, 0.985), _EDGE_LETTERS[axis], ("left", "right"), strict=True
            ):
                self.ax.text(
                    self.x + fraction * self.width,
                    self.y + self.height / 2,
                    letter,
                    ha=side,
                    va="center",
                    fontsize=7,
                    fontweight="bold",
                    color=color,
                )
        if all((cut.axis, cut.position_mm) != (axis, position) for cut in adjacent):
            text = (
                _position_label(panel.layers[0].image, self.cut)
                if panel.position_label is None
                else panel.position_label
            )
            if _POSITION_CHARACTER_INCH * len(text) > self.width:
                text = text.replace(" (", "\n(")
            self.ax.text(
                self.x + 0.03,
                self.y + 0.03,
                text,
                fontsize=6.5,
                color=color,
                ha="left",
                va="bottom",
            )


def cut_out(image: Volume, cut: Cut) -> tuple[Array, tuple[float, ...]]:
    """Return the voxel values in a cut, with rows from bottom to top, and its edges.

    The edges are (left, right, bottom, top; mm) and coincide with edges of voxels.
    """
    ras_image = reorient_to_ras(image)
    index: list[Any] = [_plane_index(ras_image, cut)] * 3
    edges: list[float] = []
    for axis in _in_plane_axes(cut.axis):
        zoom = float(ras_image.zooms[axis])
        size = ras_image.data.shape[axis]
        lower, upper = cut.box[:, axis] / zoom
        start = max(int(np.floor(lower + 1e-3)), 0)
        stop = min(int(np.ceil(upper - 1e-3)), size)
        index[axis] = slice(start, stop)
        edges += [start * zoom, stop * zoom]
    return ras_image.data[tuple(index)].T, tuple(edges)


def _in_plane_axes(axis: int) -> list[int]:
    """Return the axes of the plane perpendicular to an axis."""
    return [dimension for dimension in range(3) if dimension != axis]


def simplify_line(line: Array, tolerance: float) -> Array:
    """Return points of a line (N, 2) that approximate all points within a tolerance."""
    from bids_sr.report.figures.line_loops import mark_corners

    line = np.ascontiguousarray(line, np.float64)
    is_corner = np.zeros(len(line), bool)
    mark_corners(line, tolerance, is_corner)
    return line[is_corner]


def _position_label(image: Volume, cut: Cut) -> str:
    """Return the label of a plane's position: the coordinate of its center (RAS mm)."""
    ras_image = reorient_to_ras(image)
    shape = np.array(ras_image.data.shape)
    center = (shape - 1) / 2.0
    center[cut.axis] = _plane_index(ras_image, cut)
    in_plane_shape = np.where(np.arange(3) != cut.axis, shape, 0)
    is_oblique = np.abs(ras_image.affine[cut.axis, :3]) @ in_plane_shape > _OBLIQUE_MM
    label = coordinate_text(cut.axis, float(ras_image.affine[cut.axis] @ [*center, 1]))
    return f"{label} (center)" if is_oblique else label


def reorient_to_ras(image: Volume) -> Volume:
    """Return an image in the closest RAS orientation; raise `FigureInputError` if it is not 3D."""
    if image.data.ndim != 3:
        raise canvas.FigureInputError(
            f"a figure needs a 3D image, this one has shape {image.data.shape}"
        )
    affine = np.asarray(image.affine, dtype=float)
    transform = _orientation(affine.tobytes())
    to_original = nib.orientations.inv_ornt_aff(transform, image.data.shape)
    ras_data = nib.orientations.apply_orientation(np.asarray(image.data), transform)
    return Volume(ras_data, affine @ to_original)


@lru_cache(maxsize=64)  # The panels of a figure show parts of few images.
def _orientation(affine: bytes) -> Array:
    """Return the orientation of an affine's axes, as nibabel, from its values in memory."""
    return np.asarray(nib.orientations.io_orientation(np.frombuffer(affine).reshape(4, 4)))


def _plane_index(ras_image: Volume, cut: Cut) -> int:
    """Return the number of the image's plane at a cut."""
    return int(
        np.clip(
            cut.position_mm // ras_image.zooms[cut.axis], 0, ras_image.data.shape[cut.axis] - 1
        )
    )


def coordinate_text(axis: int, millimeters: float) -> str:
    """Return a coordinate (RAS mm) along an axis as text."""
    return f"{'xyz'[axis]} = {number(millimeters, '+.0f')} mm"


def _draw_scale(fig: Figure, layer: Layer, label: str) -> None:
    """Draw the color scale of a layer below the panels."""
    figure_height = fig.get_figheight()
    box = (
        _SCALE_LEFT,
        _SCALE_BOTTOM_INCH / figure_height,
        _SCALE_WIDTH,
        _SCALE_HEIGHT_INCH / figure_height,
    )
    colors = ScalarMappable(Normalize(layer.low, layer.high), layer.colors)
    canvas.color_bar(fig, colors, box, label)


def _draw_legend(fig: Figure, outlines: Sequence[Outline], fills: Mapping[str, str]) -> None:
    """Draw the legend of outlines and areas at the lower left."""
    handles: list[Artist] = [
        Line2D([], [], color=outline.color, lw=1.6, label=outline.name) for outline in outlines
    ]
    handles += [Rectangle((0, 0), 1, 1, color=fills[name], label=name) for name in fills]
    fig.legend(
        handles=handles,
        loc="lower left",
        ncols=len(handles),
        fontsize=8,
        bbox_to_anchor=(0.045, 0.0),
    )


def replace_nan(values: Array) -> Array:
    """Return values with finite numbers instead of NaN and infinity, as `numpy.nan_to_num`.

    Finite values, which are the rule, are returned without a copy.
    """
    return values if np.isfinite(values).all() else np.nan_to_num(values)


def covers_brain(region: Array, brain: Array) -> bool:
    """Return True if a region covers at least 90 % as many voxels as the brain.

    Such a region is neither outlined nor enlarged. Both arguments are boolean arrays of any shape.
    """
    return bool(np.count_nonzero(region) >= 0.9 * np.count_nonzero(brain))


def crop_box(box: Array, center: Array, size_mm: tuple[float, float], axis: int = 2) -> Array:
    """Return a part of a box around a point, limited in a plane perpendicular to an axis.

    A box is its lowest and highest corner (2, 3; mm). The part has at most `size_mm` along the
    two axes of the plane, is shifted inward at the edges of the box, and has all of the box along
    `axis`. `center` (3,) is in mm.
    """
    in_plane = _in_plane_axes(axis)
    low, high = box[:, in_plane]
    size = np.minimum(size_mm, high - low)
    start = np.clip(center[in_plane] - size / 2, low, high - size)
    cropped_box = box.copy()
    cropped_box[:, in_plane] = start, start + size
    return cropped_box


def choose_planes(strength: Array, count: int, min_distance: int) -> list[int]:
    """Return ascending indices of the planes with highest positive strength.

    Any two planes are at least `min_distance` planes apart.
    """
    planes: list[int] = []
    for plane in np.argsort(-strength, kind="stable"):
        if strength[plane] > 0 and all(
            abs(int(plane) - other_plane) >= min_distance for other_plane in planes
        ):
            planes.append(int(plane))
    return sorted(planes[:count])


def make_row(name: str, cuts: Sequence[Cut], *layers: Layer | Outline) -> PanelRow:
    """Return a row with the same images in several cuts.

    `name` is the label at the left, which may be "". The cuts are from left to right, and the
    layers in drawing order.
    """
    return name, [Panel(cut=cut, layers=layers) for cut in cuts]
