"""Figures of super-resolved images and a high-resolution reference.

They show a slice, an enlarged region and the differences of each method (attention-unet, figure 7;
gan-cpce-circle, figures 4 and 5), and the joint histogram of two images.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from scipy.ndimage import find_objects, uniform_filter

from bids_sr.evaluation.voxel_correlation import correlate_voxels
from bids_sr.io.arrays import Array, MaskArray, Real
from bids_sr.io.volume import Volume
from bids_sr.report.figures import canvas
from bids_sr.report.figures.slices import reorient_to_ras

_PANEL_INCH = 2.1  # inches, width and height of a panel
_LABEL_INCH = 0.45  # inches, width of a row label of one line with its margins
_RIGHT_INCH = 0.15  # inches, space for gaps between columns and at the right
_FOOTER_INCH = 0.55  # inches, height of title and color scale below the panels
_HEADER_INCH = 0.35  # inches, space for column titles and gaps between rows
_AXIS_CHARACTERS = 45  # characters of an axis label, which fit beside a joint histogram
_LABEL_CHARACTERS = 28  # characters in a line of a row label, which fit beside a panel
_LABEL_LINE_INCH = 0.11  # inches, height of a line of a row label
_REGION_FRACTION = 1 / 3  # fraction of the mask width, side of the enlarged region
_PERCENTILE = 99.5  # percentile of absolute differences, end of their color scale
_COLUMNS = ("slice", "enlarged", "input − target", "output − target", "output − input")


def comparison_figure(
    title: str,
    affine: Array,
    reference: Real,
    interpolated_image: Real,
    mask: MaskArray,
    methods: Mapping[str, Real],
) -> Figure:
    """Draw slice, enlarged region and three differences, one row per method.

    All images share one gray scale and all differences share one color scale, in the unit of the
    reference. The enlarged region is the square with the largest variance of the reference.

    The reference (X, Y, Z) is the target, which has a row as well. `interpolated_image`, the
    input, is the low-resolution image interpolated linearly to the grid of the reference. `affine`
    maps voxels of all images to RAS mm, and `title` is a heading, such as the name of the
    reference. The slice with the most voxels of the brain `mask` (X, Y, Z) is drawn. `methods` are
    super-resolved images, the outputs, by name. Left is left.
    """
    brain = _reorient(mask.astype(np.float32), affine) > 0.5
    z = middle_slice(brain)
    target, source = (
        _reorient(image, affine)[..., z] for image in (reference, interpolated_image)
    )
    outputs = {name: _reorient(image, affine)[..., z] for name, image in methods.items()}
    corner, side = busiest_region(target, brain[..., z])
    black, white = (float(value) for value in np.percentile(target[brain[..., z]], [1, 99.5]))
    signal_scale = {
        "cmap": "gray",
        "vmin": min(black, float(np.percentile(target, 1))),
        "vmax": white,
    }
    all_differences = np.abs([source - target, *(image - target for image in outputs.values())])
    largest = float(np.percentile(all_differences[:, brain[..., z]], _PERCENTILE)) or 1.0
    difference_scale = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
    images = {"target (reference)": target, **outputs}
    labels = [wrap_name(name, _LABEL_CHARACTERS) for name in images]
    left_inch = _LABEL_INCH + _LABEL_LINE_INCH * max(label.count("\n") for label in labels)
    width_inch = _PANEL_INCH * len(_COLUMNS) + _RIGHT_INCH + left_inch
    height_inch = _PANEL_INCH * len(images) + (_FOOTER_INCH + _HEADER_INCH)
    with canvas.style(literal=True):
        fig = canvas.new_figure(width_inch, height_inch)
        fig.set_label(f"{title}: slices, enlarged regions and differences")
        axes = fig.subplots(len(images), len(_COLUMNS), squeeze=False)
        fig.subplots_adjust(
            left=left_inch / width_inch,
            right=0.995,
            bottom=_FOOTER_INCH / height_inch,
            top=1 - 0.035,
            wspace=0.04,
        )
        for row, (label, image) in enumerate(zip(labels, images.values(), strict=True)):
            enlarged = image[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
            differences = [source - target, image - target, image - source] if row else []
            panels = [
                *((pixels, signal_scale) for pixels in (image, enlarged)),
                *((pixels, difference_scale) for pixels in differences),
            ]
            # The row of the target has no differences, so the next row has all titles.
            last_image = _draw_panels(axes[row], panels, _COLUMNS if row < 2 else ())
            axes[row, 0].set_ylabel(label, fontsize=7)
            frame_corner = (corner[0] - 0.5, corner[1] - 0.5)
            axes[row, 0].add_patch(
                Rectangle(frame_corner, side, side, fill=False, ec=canvas.FRAME_COLOR, lw=1)
            )
        if outputs:
            scale_box = (0.55, 0.42 / height_inch, 0.3, 0.08 / height_inch)
            canvas.color_bar(fig, last_image, scale_box, "difference (unit of the reference)")
        fig.text(left_inch / width_inch, 0.2 / height_inch, f"{title}, slice {z}", fontsize=8)
    return fig


def _reorient(image: Real, affine: Array) -> Array:
    """Return an image in the closest RAS orientation."""
    return np.asarray(reorient_to_ras(Volume(np.asarray(image, np.float32), affine)).data)


def middle_slice(mask: MaskArray) -> int:
    """Return the index of the slice (third axis) with the most voxels of the mask."""
    return int(np.argmax(mask.sum(axis=(0, 1))))


def busiest_region(image: Array, mask: MaskArray) -> tuple[tuple[int, int], int]:
    """Return corner and side (pixels) of the square with the largest variance in a slice.

    The square is chosen only from the reference, so that no method is preferred, and is inside the
    bounding box of the mask. `image` is a slice of the reference (X, Y), and `mask` the brain (X,
    Y), which is not empty.
    """
    box = find_objects(mask.astype(int))[0]
    side = max(2, round(_REGION_FRACTION * min(part.stop - part.start for part in box)))
    filled_image = np.where(mask, image, image[mask].mean()).astype(np.float64)
    mean = uniform_filter(filled_image, side, origin=0)
    variance = uniform_filter(filled_image**2, side) - mean**2
    half_side = side // 2
    candidates = np.full(image.shape, -np.inf)
    inner_region = tuple(
        slice(part.start + half_side, max(part.stop - side, part.start) + half_side + 1)
        for part in box
    )
    candidates[inner_region] = variance[inner_region]
    x, y = np.unravel_index(int(np.argmax(candidates)), image.shape)
    corner_x, corner_y = (
        min(max(int(position) - half_side, 0), size - side)
        for position, size in zip((x, y), image.shape, strict=True)
    )
    return (corner_x, corner_y), side


def wrap_name(name: str, width: int) -> str:
    """Break a name into lines of at most `width` characters, behind separators if possible.

    >>> wrap_name("srgan (sub-01_acq-highres.safetensors)", 20)
    'srgan (sub-01_acq-\\nhighres.safetensors)'
    """
    pieces = re.findall(rf"[^ _,/-]{{1,{width}}}[ _,/-]?|[ _,/-]", name)
    lines = [""]
    for piece in pieces:
        if len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _draw_panels(
    axes: Sequence[Axes], panels: Sequence[tuple[Array, Mapping[str, Any]]], titles: Sequence[str]
) -> AxesImage:
    """Draw the panels of a row, and return the last image.

    There is at least one panel; axes without a panel are hidden. `titles` of the columns are empty
    if the row has no titles.
    """
    for ax in axes:
        canvas.hide_axes(ax)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    for column, (ax, (pixels, scale)) in enumerate(zip(axes, panels, strict=False)):
        image = ax.imshow(pixels.T, origin="lower", interpolation="nearest", **scale)
        if titles:
            ax.set_title(titles[column], fontsize=8)
    return image


def correlation_histogram(names: tuple[str, str], first: Real, second: Real) -> Figure:
    """Draw the joint histogram of two images, with the regression line if none is constant.

    `names` are labels of the axes; `first` and `second` are values of the voxels (n,).
    """
    with canvas.style(literal=True):
        fig = canvas.new_figure(4.2, 3.8)
        fig.set_label(f"{names[1]} against {names[0]}")
        ax = fig.add_axes((0.17, 0.14, 0.78, 0.76))
        ax.hexbin(first, second, gridsize=60, bins="log", cmap="viridis", mincnt=1)
        ax.set_xlabel(names[0][-_AXIS_CHARACTERS:], fontsize=8)
        ax.set_ylabel(names[1][-_AXIS_CHARACTERS:], fontsize=8)
        with suppress(ValueError):  # a constant image has no correlation
            fit = correlate_voxels(first, second, np.ones(first.shape, bool))
            ends = np.array([float(first.min()), float(first.max())])
            ax.plot(ends, fit.slope * ends + fit.intercept, color=canvas.RED, lw=1.2)
            ax.set_title(f"r = {fit.r:.3f}, {fit.voxels} voxels", fontsize=9)
    return fig
