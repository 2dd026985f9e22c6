"""Picture of the first screen: one square of one slice in several maps, on one color scale.

Panels are inline SVG with one pixel per voxel of a common grid, so that each map keeps the voxels
of its own grid, without interpolation.
"""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.lib.stride_tricks import sliding_window_view

from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.volume import Volume
from bids_sr.report.figures import slices
from bids_sr.report.markup import render

CAP_PERCENT = 4.0
"""Largest end of the color scale of effects, and largest effect that counts in `choose_square`."""
_SQUARE_MM = 72.0  # mm, side of the square
_OUTER_SHARE = 0.1  # of the slices, at each end
_MARKED_SHARE = 0.25  # of the end of the color scale; smaller values have no cross or minus sign
_N_COLORS = 100  # steps of the color scale, of which a palette has room for 256
_OUTSIDE_GRAY = 0.93


@frozen
class Square:
    """Square of one axial slice of a grid in RAS order: first voxel (x, y), slice, and side."""

    x: int
    y: int
    z: int
    side: int

    def cut(self, image: Array) -> Array:
        """Return the square of an image in RAS order, anterior on top and left on the left."""
        return image[self.x : self.x + self.side, self.y : self.y + self.side, self.z].T[::-1]


@frozen
class PicturePanel:
    """Map in one panel of the picture.

    `title` and `note` are above the panel. `image` is the map and `brain` its mask, both on the
    common grid; voxels outside the brain are gray. `outline` is a region on this grid; None if
    nothing is outlined. `crosses` are marked points (N, 3; RAS mm).
    """

    title: str
    note: str
    image: Volume
    brain: MaskArray
    outline: MaskArray | None = None
    crosses: Float | None = None


class PanelGroup(NamedTuple):
    """Panels below a common title; `note` explains the title and may be empty."""

    title: str
    note: str
    panels: Sequence[PicturePanel]


def choose_square(effect: Volume, active: MaskArray, cap: float = CAP_PERCENT) -> Square:
    """Return the square with most acquired activation.

    `effect` is the acquired effect on the common grid (percent), and `active` its active voxels;
    the whole brain if no voxel is active. Effects above `cap` count as this value, so that a few
    large veins do not decide. The outer slices are not chosen, because parts of them leave the
    field of view. The first of several equal squares is chosen.
    """
    ras_effect = slices.reorient_to_ras(effect)
    ras_active = slices.reorient_to_ras(effect.like(active)).data
    sizes = ras_effect.zooms
    shape = ras_effect.data.shape
    side = min(int(np.ceil(_SQUARE_MM / sizes[0])), *shape[:2])
    capped = np.minimum(np.abs(np.nan_to_num(ras_effect.data)), cap) * ras_active
    n_outer = int(_OUTER_SHARE * shape[2])
    capped[..., :n_outer] = capped[..., shape[2] - n_outer :] = 0
    rows = sliding_window_view(np.square(capped), side, axis=0).sum(-1)
    sums = sliding_window_view(rows, side, axis=1).sum(-1)
    x, y, z = (int(index) for index in np.unravel_index(np.argmax(sums), sums.shape))
    return Square(x=x, y=y, z=z, side=side)


def find_wrong_signs(added: Volume, true: Volume, brain: MaskArray, limit: float) -> Float:
    """Return the centers of voxels whose added detail has the wrong sign, (N, 3; RAS mm).

    `added` and `true` detail and the `brain` are on one grid. `limit` is the end of the color
    scale; added detail below a quarter of it is ignored.
    """
    is_strong = np.abs(added.data) > _MARKED_SHARE * limit
    voxels = np.argwhere(is_strong & (added.data * true.data < 0) & brain)
    return voxels @ added.affine[:3, :3].T + added.affine[:3, 3]


def scale_end(effect: Volume, square: Square, cap: float = CAP_PERCENT) -> float:
    """Return the end of the color scale for an acquired effect in a square, at most `cap`."""
    values = np.abs(square.cut(slices.reorient_to_ras(effect).data))
    strongest = float(np.nanpercentile(values, 98))
    return min(cap, max(float(f"{strongest:.1g}"), 0.1))


def render_picture(
    groups: Sequence[PanelGroup],
    square: Square,
    background: Volume,
    *,
    limit: float,
    unit: str,
    subject: str,
) -> Markup:
    """Render the picture: a slice with the square, the color scale, and groups of panels.

    `background` is an image on the common grid. The color scale ends at ± `limit` in `unit`.
    `subject` names the maps for readers who cannot see them.
    """
    rendered = [
        (
            group.title,
            group.note,
            [_draw_panel(panel, square, limit) for panel in group.panels],
        )
        for group in groups
    ]
    image = slices.reorient_to_ras(background)
    low, high = np.percentile(image.data, [2, 99.5])
    gray = np.clip((image.data[:, :, square.z].T[::-1] - low) / max(high - low, 1e-9), 0, 1)
    return render(
        "picture",
        gray.shape,
        _encode_png(np.repeat(gray[..., None], 3, axis=2)),
        square,
        rendered,
        subject,
        f"{limit:g}",
        unit,
        _encode_png(_color(np.linspace(1, -1, 64)[:, None], 1.0)),
    )


def _draw_panel(
    panel: PicturePanel, square: Square, limit: float
) -> tuple[str, str, str, list[tuple[str, float, str]]]:
    """Return title, note and pixels of a panel, and its lines: path, width and CSS class."""
    image = slices.reorient_to_ras(panel.image)
    brain = square.cut(slices.reorient_to_ras(panel.image.like(panel.brain)).data) > 0
    values = square.cut(image.data)
    rgb = _color(values, limit)
    rgb[~brain] = _OUTSIDE_GRAY
    negative = (values < -_MARKED_SHARE * limit) & brain
    # minus signs, for gray prints
    minus_signs = (f"M{x + 0.25} {y + 0.5}h.5" for y, x in np.argwhere(negative))
    marks = [("".join(minus_signs), 0.14, "minus")]
    if panel.outline is not None:
        region = square.cut(slices.reorient_to_ras(panel.image.like(panel.outline)).data) > 0
        marks.append((_trace_edges(region), 0.16, "mark"))
    if panel.crosses is not None:
        marks.append((_draw_crosses(panel.crosses, image, square), 0.14, "mark"))
    return panel.title, panel.note, _encode_png(rgb), marks


def _trace_edges(region: MaskArray) -> str:
    """Return the path along the borders of the voxels of a region in a square."""
    padded = np.pad(region, 1)
    horizontal = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])
    vertical = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])
    return "".join(
        [*(f"M{x} {y}h1" for y, x in horizontal), *(f"M{x} {y}v1" for y, x in vertical)]
    )


def _draw_crosses(points: Float, image: Volume, square: Square) -> str:
    """Return the path of crosses at points (N, 3; RAS mm) in a square of an image in RAS order."""
    from nibabel.affines import apply_affine

    if not len(points):
        return ""
    x, y, z = (apply_affine(np.linalg.inv(image.affine), points) + 0.5).T
    in_slice = np.floor(z) == square.z
    lefts = x[in_slice] - square.x
    tops = square.side - (y[in_slice] - square.y)
    return "".join(
        f"M{left - 0.25:.2f} {top - 0.25:.2f}l.5 .5m0-.5l-.5 .5"
        for left, top in zip(lefts, tops, strict=True)
        if 0 < left < square.side and 0 < top < square.side
    )


def _color(values: Array, limit: float) -> Array:
    """Return values as colors (..., 3): blue below 0, red above, white at 0."""
    from matplotlib import colormaps

    shares = np.clip(np.nan_to_num(values) / limit / 2 + 0.5, 0, 1)
    colors = colormaps["RdBu_r"](np.round(_N_COLORS * shares) / _N_COLORS)
    return np.asarray(colors)[..., :3]


def _encode_png(rgb: Array) -> str:
    """Return colors (rows, columns, 3; 0 to 1) as the data URI of a PNG."""
    from matplotlib import image

    from bids_sr.report.figures.svg_files import compress_image

    buffer = io.BytesIO()
    image.imsave(buffer, np.ascontiguousarray(rgb, dtype=np.float32), format="png")
    return compress_image(base64.b64encode(buffer.getvalue()).decode("ascii"))
