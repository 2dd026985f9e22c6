"""Figures of anatomical images with outlines, and of images before and after registration."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from bids_sr.figures import canvas as s, slices
from bids_sr.figures.canvas import FigureInputError
from bids_sr.figures.slices import Outline
from bids_sr.io.volume import Volume

_Views = Sequence[tuple[int, int]]
"""Pairs of an axis (0 sagittal, 1 coronal, 2 axial) and a number of planes along this axis."""
_MIXED_VIEWS: _Views = ((2, 4), (1, 3), (0, 2))
_MOSAIC_VIEWS: _Views = ((2, 9), (1, 9), (0, 9))
AXIAL_VIEWS: _Views = ((2, 10),)
_SHORTEST_MM, MARGIN_MM = 15.0, 6.0


def _thin_outlines(outlines: Sequence[Outline]) -> list[Outline]:
    return [replace(outline, width=0.6, shortest_mm=_SHORTEST_MM) for outline in outlines]


def _mask_or_nonzero(image: Volume, mask: Volume | None) -> Volume:
    return image.like(image.data != 0) if mask is None else mask


def mosaic_figure(
    image: Volume,
    outlines: Sequence[Outline],
    *,
    mask: Volume | None,
    views: _Views = _MOSAIC_VIEWS,
) -> Figure:
    """Plot planes of one image in three orientations, with outlines.

    Parameters
    ----------
    image : Volume
        Image in any unit of intensity (3D).
    outlines : Sequence[Outline]
        Outlines drawn on every plane.
    mask : Volume | None
        Voxels that determine the range of planes and the gray scale; None for voxels that are not
        0.
    views : Sequence[tuple[int, int]]
        Axis and number of planes of each row.
    """
    inside = _mask_or_nonzero(image, mask)
    gray = slices.gray(image, inside)
    lines = _thin_outlines(outlines)
    rows = [
        slices.make_row("", slices.spread_cuts(inside, MARGIN_MM, view), gray, *lines)
        for view in views
    ]
    return slices.image_figure(rows, outlines=outlines, note="Left is left")


def registration_figure(
    images: Mapping[str, Volume],
    outlines: Sequence[Outline],
    *,
    mask: Volume | None = None,
    views: _Views = _MIXED_VIEWS,
) -> Figure:
    """Plot rows with the reference, and with the moving image before and after registration.

    Outlines of the reference are drawn on all rows. The last row contains the reference and the
    registered image, which blinks while the pointer is on the figure.

    Parameters
    ----------
    images : Mapping[str, Volume]
        Reference, moving image, and registered image by name, on one grid.
    outlines : Sequence[Outline]
        Outlines of the reference; a contour that does not follow an edge indicates
        misregistration.
    mask : Volume | None
        Voxels that determine the range of planes and the gray scale; None for voxels that are not
        0.
    views : Sequence[tuple[int, int]]
        Axis and number of planes of each group of columns.

    Raises
    ------
    FigureInputError
        If the images have different shapes.
    """
    if len(shapes := {image.data.shape for image in images.values()}) > 1:
        raise FigureInputError(f"images of shapes {sorted(shapes)} are not on one grid")
    reference, *_ = images.values()
    inside = _mask_or_nonzero(reference, mask)
    lines = _thin_outlines(outlines)
    layers = [slices.gray(image, inside) for image in images.values()]
    stacks = [[image] for image in layers[:-1]] + [[layers[0], replace(layers[-1], blinks=True)]]
    cuts = slices.spread_cuts(inside, MARGIN_MM, *views)
    rows = [
        slices.make_row(name, cuts, *stack, *lines)
        for name, stack in zip(images, stacks, strict=True)
    ]
    note = (
        "Left is left. Hover to switch between the reference and the registered image (bottom row)"
    )
    return slices.image_figure(rows, outlines=outlines, note=note)


def isolines(image: Volume, mask: Volume | None = None) -> list[Outline]:
    """Return two outlines of an image: the edge of the head, and bright inner structures.

    They serve as contours if there are no tissue maps. The levels are 45 % of the median and the
    88th percentile of the lightly smoothed image inside the mask.

    Parameters
    ----------
    image : Volume
        Image in any unit of intensity (3D).
    mask : Volume | None
        Voxels of the head or brain; None or empty for voxels above the mean.
    """
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(np.asarray(image.data, dtype=np.float32), 1.0)
    has_mask = mask is not None and np.any(mask.data)
    inside = smooth[mask.data > 0] if mask and has_mask else smooth[smooth > smooth.mean()]
    if not inside.size or float(inside.max()) <= float(inside.min()):
        return []
    levels = {
        "edge of the reference": (s.SKY, 0.45 * float(np.median(inside))),
        "bright structures of the reference": (s.ORANGE, float(np.percentile(inside, 88))),
    }
    return [
        Outline(name=name, image=image.like(smooth), color=color, level=level)
        for name, (color, level) in levels.items()
    ]
