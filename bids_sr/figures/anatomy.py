"""Figures of anatomical images with outlines, and of registrations before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from bids_sr.figures import canvas as s
from bids_sr.figures import slices
from bids_sr.figures.canvas import FigureInputError
from bids_sr.figures.slices import Outline
from bids_sr.io.volume import Volume

_Views = Sequence[tuple[int, int]]
"""Pairs of an axis (0 sagittal, 1 coronal, 2 axial) and a number of planes across it."""
_MIXED_VIEWS: _Views = ((2, 4), (1, 3), (0, 2))
_MOSAIC_VIEWS: _Views = ((2, 9), (1, 9), (0, 9))
AXIAL_VIEWS: _Views = ((2, 10),)
_SHORTEST_MM, MARGIN_MM = 15.0, 6.0


def _thin(outlines: Sequence[Outline]) -> list[Outline]:
    return [replace(each, width=0.6, shortest_mm=_SHORTEST_MM) for each in outlines]


def _inside(image: Volume, mask: Volume | None) -> Volume:
    return image.like(image.data != 0) if mask is None else mask


def mosaic_figure(
    image: Volume,
    outlines: Sequence[Outline],
    *,
    mask: Volume | None,
    views: _Views = _MOSAIC_VIEWS,
) -> Figure:
    """One image in rows of axial, coronal and sagittal planes, with outlines.

    `mask` is where planes are chosen and the gray scale is taken (None: where the image is not
    zero); `views` has one row each.

    `image`: image in any unit of intensity (3D).
    """
    inside = _inside(image, mask)
    gray = slices.gray(image, inside)
    lines = _thin(outlines)
    rows = [
        slices.row_of("", slices.spread_cuts(inside, MARGIN_MM, view), gray, *lines)
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
    """Plot the reference and the moving image before and after registration in rows.

    The outlines of the reference are on all three.

    In the last row the reference lies below the registered image, which blinks while the pointer
    is on the figure.

    `images`: reference, before, after, by name, on one grid, else `FigureInputError` is raised.
    `outlines`: drawn from the reference, so that a contour off the edge means an image off its
    place.
    """
    if len(shapes := {each.data.shape for each in images.values()}) > 1:
        raise FigureInputError(f"images of shapes {sorted(shapes)} are not on one grid")
    reference, *_ = images.values()
    inside = _inside(reference, mask)
    lines = _thin(outlines)
    layers = [slices.gray(each, inside) for each in images.values()]
    stacks = [[each] for each in layers[:-1]] + [[layers[0], replace(layers[-1], blinks=True)]]
    cuts = slices.spread_cuts(inside, MARGIN_MM, *views)
    rows = [
        slices.row_of(name, cuts, *stack, *lines)
        for name, stack in zip(images, stacks, strict=True)
    ]
    note = (
        "Left is left. Hover to switch between the reference and the registered image (bottom row)"
    )
    return slices.image_figure(rows, outlines=outlines, note=note)


def isolines(image: Volume, mask: Volume | None = None) -> list[Outline]:
    """Return outlines of an image without tissue maps.

    They follow the edge of the head and its bright inner structures.

    Levels are 45 % of the median signal, and the 88th percentile, of the lightly smoothed image
    inside the mask.

    `image`: image in any unit of intensity (3D). `mask`: voxels of the head or brain (3D); None:
    those above the mean.
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
