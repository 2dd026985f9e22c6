"""Style shared by all figures: colors and mosaics of slices.

Images are shown in *neurological* orientation (left is left) after the affine has been read: arrays are first
brought to the closest RAS order, so that no storage order can turn a figure upside down. Pixels are drawn as
acquired, never smoothed by the viewer, because smoothness is what the figures are there to reveal.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, TypedDict, Unpack

import matplotlib as mpl
import nibabel as nib
import numpy as np
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from skimage.measure import approximate_polygon

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array

Box = tuple[slice, slice, slice]

INK, SOFT, GRID = "#1f2933", "#5b6770", "#d5dade"
# Okabe and Ito's palette: distinct for color-blind readers too
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442",
)  # fmt: skip
ROI_COLOR, FRAME_COLOR = "#00e5ff", YELLOW
"""Of the outline of the region of interest (light blue) and of the frame around what is enlarged (yellow)."""
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK,
    "legend.frameon": False,
    "axes.edgecolor": SOFT, "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.titlesize": 9,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.color": SOFT, "ytick.color": SOFT,
    "figure.facecolor": "none", "axes.facecolor": "none",
    "svg.fonttype": "none", "svg.hashsalt": "bids-sr", "svg.image_inline": True,
}  # fmt: skip
FLICKER = "flicker"
# the letters at the left and right of a plane that is cut across x, y or z
EDGE_LETTERS = (("P", "A"), ("L", "R"), ("L", "R"))
FAINT, WASH, PAPER = "#eceff1", "#f7f9fb", "#fffffe"
"""Of lines behind curves, of panels that are to be looked at first, and of what covers lines as paper would."""
DARK = {
    "#ffffff": "#14181b", INK: "#e4e8eb", SOFT: "#aab4bc", GRID: "#3d464e", FAINT: "#2a3137", WASH: "#1e2429",
    PAPER: "#14181b",
}  # fmt: skip
"""Paper, text and lines of a figure to their colors in a dark page; colors of data stay."""
OBLIQUE_MM = 5.0
"""Where a coordinate changes by more than this over a slice, that of its center is said to be so."""
NEAR_MM = 0.3
"""How far an outline may lie from the exact one: not to be seen, at half of the points."""


class FigureInputError(ValueError):
    """Arrays that cannot be drawn together; the message names the shapes."""


def style(*, literal: bool = False) -> AbstractContextManager[None]:
    """Our matplotlib settings, for making *and* saving a figure; literal: dollar signs in names stay as they are."""
    return mpl.rc_context({**STYLE, "text.parse_math": False} if literal else STYLE)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure (inches) that belongs to no global state, so that several threads may draw."""
    fig = Figure(figsize=(width, height))
    FigureCanvasAgg(fig)
    return fig


@frozen
class NamedImage:
    """A volume or a map of one series, on the grid it has: acquired for ``raw``, high-resolution for the others.

    `significant` is the mask of the FDR region on the same grid. Grids are of one field of view.
    """

    name: str
    data: Array
    affine: Array
    significant: Array | None = None


@frozen
class ShownVolume:
    """A 3D image in closest-RAS order (left to right, posterior to anterior, inferior to superior); voxel → RAS mm."""

    data: Array
    affine: Array

    @property
    def zooms(self) -> Array:
        """Voxel size (mm) along each axis."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))

    def position(self, axis: int, index: int) -> float:
        """World coordinate (mm) along ``axis`` at the middle of a plane."""
        center = (np.array(self.data.shape[:3]) - 1) / 2.0
        center[axis] = index
        return float(self.millimeters(center)[axis])

    def millimeters(self, voxel: Sequence[float] | Array) -> Array:
        """RAS mm (3,) of a voxel's indices (3,)."""
        return np.asarray(self.affine[:3, :3] @ np.asarray(voxel, dtype=float) + self.affine[:3, 3])


def canonical(data: Array, affine: Array) -> ShownVolume:
    """Bring a 3D array (else `FigureInputError`) into the order closest to RAS by flips and swaps, not interpolated."""
    if data.ndim != 3:
        raise FigureInputError(f"a figure needs a 3D image, this one has shape {data.shape}")
    transform = nib.orientations.io_orientation(affine)
    turned = nib.orientations.apply_orientation(np.asarray(data), transform)
    back = nib.orientations.inv_ornt_aff(transform, data.shape)
    return ShownVolume(data=turned, affine=np.asarray(affine, dtype=float) @ back)


def repeated(volume: ShownVolume, target: ShownVolume) -> ShownVolume:
    """An image on another grid of its field of view, for display: a target voxel has the value of that it lies in."""
    if volume.data.shape == target.data.shape:
        return volume
    data = volume.data
    for axis in range(3):
        n, m = volume.data.shape[axis], target.data.shape[axis]
        data = np.take(data, np.minimum(((np.arange(m) + 0.5) * n / m).astype(int), n - 1), axis=axis)
    return ShownVolume(data=data, affine=target.affine)


def plane(volume: ShownVolume, axis: int, index: int) -> Array:
    """The plane across ``axis`` as ``imshow(..., origin='lower')`` wants it: rows go up, columns go right."""
    where: tuple[Any, ...] = (*[slice(None)] * axis, index)
    return volume.data[where].T


def _across(axis: int) -> list[int]:
    return [a for a in range(3) if a != axis]


def extent(volume: ShownVolume, axis: int) -> tuple[float, float, float, float]:
    """Edges of a plane in mm, from zero, so that pixels have their true proportions."""
    size = np.array(volume.data.shape) * volume.zooms
    wide, high = size[_across(axis)]
    return (0.0, float(wide), 0.0, float(high))


def gray_limits(data: Array, mask: Array | None = None) -> tuple[float, float]:
    """Black and white of a gray scale: 0 or the 1st percentile, and 1.15 times the 99th percentile inside the mask."""
    inside = data[np.asarray(mask) > 0] if mask is not None and np.any(mask) else data
    inside = inside[np.isfinite(inside)]
    if not inside.size:
        return (0.0, 1.0)
    low = min(0.0, float(np.percentile(inside, 1)))
    high = 1.15 * float(np.percentile(inside, 99))
    return (low, high if high > low else low + 1.0)


def slice_indices(mask: Array, axis: int, n_slices: int) -> list[int]:
    """Indices of planes spread evenly over a mask (empty: the whole image), its ends left out (the more, the fewer)."""
    filled = np.flatnonzero(np.asarray(mask).any(axis=tuple(_across(axis))))
    first, last = (int(filled[0]), int(filled[-1])) if filled.size else (0, mask.shape[axis] - 1)
    margin = max(0.12, 0.5 / (n_slices + 0.5)) * (last - first)
    return sorted({round(v) for v in np.linspace(first + margin, last - margin, n_slices)})


def planes_apart(strength: Array, n_slices: int, apart: int) -> list[int]:
    """Indices of the strongest planes (of those above 0) at least ``apart`` from each other, ascending."""
    chosen: list[int] = []
    for k in np.argsort(-strength, kind="stable"):
        if strength[k] > 0 and all(abs(int(k) - c) >= apart for c in chosen):
            chosen.append(int(k))
    return sorted(chosen[:n_slices])


def is_brain(region: Array, brain: Array) -> bool:
    """Whether a region is the whole brain, more or less: then there is nothing to outline or to enlarge."""
    return bool(np.count_nonzero(region) >= 0.9 * np.count_nonzero(brain))


def bounding_box(mask: Array, zooms: Array, *, margin_mm: float = 6.0) -> Box:
    """Smallest box around a mask, with a margin, inside the image; the whole image if the mask is empty."""
    if not np.any(mask):
        return (slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2]))
    box = []
    for axis in range(3):
        filled = np.flatnonzero(np.asarray(mask).any(axis=tuple(_across(axis))))
        margin = int(np.ceil(margin_mm / float(zooms[axis])))
        box.append(slice(max(int(filled[0]) - margin, 0), min(int(filled[-1]) + margin + 1, mask.shape[axis])))
    return (box[0], box[1], box[2])


def limited_box(box: Sequence[slice], volume: ShownVolume, size_mm: Sequence[float], center: Sequence[float]) -> Box:
    """A box in-plane no larger than ``size_mm`` (x, y), around ``center`` (voxels), inside ``box``."""
    sides = []
    for axis in (0, 1):
        count = min(box[axis].stop - box[axis].start, max(2, round(size_mm[axis] / float(volume.zooms[axis]))))
        start = int(np.clip(round(center[axis] - count / 2), box[axis].start, box[axis].stop - count))
        sides.append(slice(start, start + count))
    return (sides[0], sides[1], box[2])


def height_over_width(box: Sequence[slice] | None, volume: ShownVolume, axis: int = 2) -> float:
    """Proportion in mm of a plane across ``axis`` of a box; default: of the whole volume."""
    counts = volume.data.shape if box is None else [side.stop - side.start for side in box]
    wide, high = (counts[a] * float(volume.zooms[a]) for a in _across(axis))
    return high / wide


def cropped(volume: ShownVolume, box: Sequence[slice]) -> ShownVolume:
    """The part of a volume inside a box, its affine moved along."""
    start = np.array([b.start for b in box], dtype=float)
    affine = volume.affine.copy()
    affine[:3, 3] = volume.affine[:3, :3] @ start + volume.affine[:3, 3]
    return ShownVolume(data=volume.data[tuple(box)], affine=affine)


def blank(ax: Axes) -> None:
    """Leave only the picture: no ticks, no frame."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


class Look(TypedDict, total=False):
    """How values of an image are shown."""

    cmap: str | Colormap
    vmin: float
    vmax: float
    alpha: float


def show_plane(ax: Axes, volume: ShownVolume, axis: int, index: int, **look: Unpack[Look]) -> AxesImage:
    """Draw one plane with square millimeters, in gray unless `look` says otherwise. Returns the image artist."""
    shown: Look = {"cmap": "gray", **look}
    where = extent(volume, axis)
    image = ax.imshow(plane(volume, axis, index), origin="lower", extent=where, interpolation="none", **shown)
    blank(ax)
    return image


def show_contour(
    ax: Axes, volume: ShownVolume, axis: int, index: int, color: str,
    *, level: float = 0.5, width: float = 0.8, shortest: float = 0.0,
) -> None:  # fmt: skip
    """Outline of a mask or an isoline of an image on a plane; nothing where the plane does not cross the level.

    Lines shorter than ``shortest`` (mm) are left out: specks of a noisy image would make files large and hide the rest.
    """
    values = plane(volume, axis, index).astype(float)
    if not (np.nanmin(values) < level < np.nanmax(values)):
        return
    left, right, bottom, top = extent(volume, axis)
    rows, columns = values.shape
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = bottom + (np.arange(rows) + 0.5) * (top - bottom) / rows
    lines = [approximate_polygon(np.asarray(line), NEAR_MM) for line in contour_generator(x, y, values).lines(level)]
    kept = [line for line in lines if np.linalg.norm(np.diff(line, axis=0), axis=1).sum() >= shortest]
    if kept:  # as one path, which is a third of the size
        drawn = Path.make_compound_path(*map(Path, kept))
        ax.add_artist(PathPatch(drawn, fill=False, edgecolor=color, lw=width, capstyle="round"))


def mark_sides(ax: Axes, axis: int, *, color: str = "white") -> None:
    """Write the letters of left and right (or posterior and anterior) into the picture."""
    look: dict[str, Any] = {"fontsize": 7, "color": color, "va": "center", "fontweight": "bold"}
    for place, letter, side in zip((0.015, 0.985), EDGE_LETTERS[axis], ("left", "right"), strict=True):
        ax.text(place, 0.5, letter, ha=side, transform=ax.transAxes, **look)


def mark_position(ax: Axes, volume: ShownVolume, axis: int, index: int, *, color: str = "white") -> None:
    """Write the world coordinate of the plane's middle into its lower left corner."""
    size = np.array(volume.data.shape[:3]) * (np.arange(3) != axis)
    oblique = float(np.abs(volume.affine[axis, :3]) @ size) > OBLIQUE_MM
    mark_mm(ax, axis, volume.position(axis, index), color=color, note=" (center)" * oblique)


def mark_mm(ax: Axes, axis: int, millimeters: float, *, color: str = "white", note: str = "") -> None:
    """Write a coordinate along an axis, and a note on it, into the lower left corner."""
    text = f"{'xyz'[axis]} = {round(millimeters):+d} mm{note}".replace("-", "−")
    ax.text(0.02, 0.02, text, transform=ax.transAxes, fontsize=6.5, color=color, ha="left", va="bottom")


def frame(ax: Axes, box: Sequence[slice], inside: Sequence[slice], zooms: Array) -> None:
    """Draw the frame of a box on an axial plane that shows the box ``inside``; voxels, voxel sizes (mm)."""
    corner = [(box[a].start - inside[a].start) * zooms[a] for a in (0, 1)]
    wide, high = ((box[a].stop - box[a].start) * zooms[a] for a in (0, 1))
    ax.add_patch(Rectangle((corner[0], corner[1]), wide, high, fill=False, edgecolor=FRAME_COLOR, lw=1.3))


Window = tuple[Sequence[slice], int]
"""Part of an axial plane: a box, of which the third side does not matter, and the plane's index."""


def _flat(window: Window) -> Box:
    (x, y, _), index = window
    return (x, y, slice(index, index + 1))


def show_window(ax: Axes, volume: ShownVolume, window: Window, **look: Unpack[Look]) -> AxesImage:
    """Draw part of an axial plane; see `show_plane`."""
    return show_plane(ax, cropped(volume, _flat(window)), 2, 0, **look)


def show_window_contour(ax: Axes, volume: ShownVolume | None, window: Window, color: str, *, width: float) -> None:
    """Outline of a mask (None: of nothing) on part of an axial plane."""
    if volume is not None:
        show_contour(ax, cropped(volume, _flat(window)), 2, 0, color, width=width)


def panel_grid(
    rows: int, columns: int, heights: float | Sequence[float], *,
    left: float, right: float = 0.999, top: float = 0.0, bottom: float = 0.0, space: float = 0.012,
    widths: Sequence[float] | None = None,
) -> tuple[Figure, Array]:  # fmt: skip
    """A figure, 12 inches wide, of panels that almost touch, and its axes (rows, columns).

    Heights of a row (or of each), and the room at the top and at the bottom, are in inches; left and right are shares
    of the width, ``space`` is a share of a panel; ``widths`` are those of the columns, relative to each other.
    """
    each = [heights] * rows if isinstance(heights, float) else list(heights)
    tall = sum(each) + top + bottom
    fig = new_figure(12.0, tall)
    grid: dict[str, Any] = {"left": left, "right": right, "top": 1 - top / tall, "bottom": bottom / tall,
                            "wspace": space, "hspace": space, "height_ratios": each,
                            "width_ratios": widths}  # fmt: skip
    return fig, np.asarray(fig.subplots(rows, columns, squeeze=False, gridspec_kw=grid))


def mark_planes(axes: Iterable[Axes], volume: ShownVolume, planes: Sequence[int], *, color: str = "white") -> None:
    """Write the position of each axial plane, and left and right into the first."""
    for ax, index in zip(axes, planes, strict=True):
        mark_position(ax, volume, 2, index, color=color)
    mark_sides(next(iter(axes)), 2, color=color)


def name_row(ax: Axes, text: str, *, x: float = 0.014, upright: bool = True, size: float = 9.0) -> None:
    """Write a name at the left of a row of panels; ``x`` is a share of the figure's width."""
    place = ax.get_position()
    look: dict[str, Any] = {"rotation": 90, "ha": "center"} if upright else {"ha": "right", "linespacing": 1.5}
    ax.figure.text(x, (place.y0 + place.y1) / 2, text, va="center", fontsize=size, **look)


def color_bar(fig: Figure, image: AxesImage, box: tuple[float, float, float, float], label: str) -> None:
    """A thin scale in figure coordinates (left, bottom, width, height)."""
    cax = fig.add_axes(box)
    bar = fig.colorbar(image, cax=cax, orientation="horizontal" if box[2] > box[3] else "vertical")
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def units_text(percent: float | None) -> str:
    """Unit of an effect, and how many of it are one percent; `percent` is what one unit is (None: unknown)."""
    return f"signal units; {1 / percent:.3g} = 1 % of the brain's mean signal" if percent else "signal units"


def bar_below(fig: Figure, image: AxesImage | None, label: str, *, bottom: float = 0.4, height: float = 0.09) -> None:
    """A color scale below the middle of the panels (inches); none where no panel was drawn."""
    if image is None:
        return
    tall = fig.get_figheight()
    color_bar(fig, image, (0.36, bottom / tall, 0.28, height / tall), label)


def light_grid(ax: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Faint lines behind curves."""
    ax.grid(axis=axis, color=FAINT, lw=0.6)
    ax.set_axisbelow(True)
