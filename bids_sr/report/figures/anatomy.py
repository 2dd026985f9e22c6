"""Figures of anatomical images with outlines, and of images before and after registration."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from bids_sr.io.volume import Volume
from bids_sr.report.figures import canvas, slices
from bids_sr.report.figures.canvas import FigureInputError
from bids_sr.report.figures.slices import Outline

# pairs of an axis (0 sagittal, 1 coronal, 2 axial) and a number of planes along this axis
_Views = Sequence[tuple[int, int]]
_MIXED_VIEWS: _Views = ((2, 4), (1, 3), (0, 2))
_MOSAIC_VIEWS: _Views = ((2, 9), (1, 9), (0, 9))
AXIAL_VIEWS: _Views = ((2, 10),)
_SHORTEST_OUTLINE_MM, MARGIN_MM = 15.0, 6.0


def mosaic_figure(
    image: Volume,
    outlines: Sequence[Outline],
    *,
    mask: Volume | None,
    views: _Views = _MOSAIC_VIEWS,
) -> Figure:
    """Plot planes of one image in three orientations, with outlines.

    The outlines are drawn on every plane. `mask` are the voxels that determine the range of planes
    and the gray scale; None for voxels that are not 0. `views` are axis and number of planes of
    each row.
    """
    region = _mask_or_nonzero(image, mask)
    gray_layer = slices.make_gray_layer(image, region)
    thin_outlines = _thin_outlines(outlines)
    rows = [
        slices.make_row(
            "", slices.spread_cuts(region, MARGIN_MM, view), gray_layer, *thin_outlines
        )
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

    `images` are the reference, the moving image, and the registered image by name, on one grid;
    different shapes raise `FigureInputError`. A contour of the reference that does not follow an
    edge indicates misregistration. `mask` are the voxels that determine the range of planes and
    the gray scale; None for voxels that are not 0. `views` are axis and number of planes of each
    group of columns.
    """
    if len(shapes := {image.data.shape for image in images.values()}) > 1:
        raise FigureInputError(f"images of shapes {sorted(shapes)} are not on one grid")
    reference, *_ = images.values()
    region = _mask_or_nonzero(reference, mask)
    thin_outlines = _thin_outlines(outlines)
    layers = [slices.make_gray_layer(image, region) for image in images.values()]
    layer_stacks = [[image] for image in layers[:-1]] + [
        [layers[0], replace(layers[-1], blinks=True)]
    ]
    cuts = slices.spread_cuts(region, MARGIN_MM, *views)
    rows = [
        slices.make_row(name, cuts, *stack, *thin_outlines)
        for name, stack in zip(images, layer_stacks, strict=True)
    ]
    note = (
        "Left is left. Hover to switch between the reference and the registered image (bottom row)"
    )
    return slices.image_figure(rows, outlines=outlines, note=note)


def _mask_or_nonzero(image: Volume, mask: Volume | None) -> Volume:
    """Return a mask, or the nonzero voxels of an image if there is no mask."""
    return image.like(image.data != 0) if mask is None else mask


def _thin_outlines(outlines: Sequence[Outline]) -> list[Outline]:
    """Return thinner outlines without short pieces."""
    return [replace(outline, width=0.6, shortest_mm=_SHORTEST_OUTLINE_MM) for outline in outlines]


def make_isolines(image: Volume, mask: Volume | None = None) -> list[Outline]:
    """Return two outlines of an image: the edge of the head, and bright inner structures.

    They serve as contours if there are no tissue maps. The levels are 45 % of the median and the
    88th percentile of the lightly smoothed image inside the mask. `mask` is the head or brain;
    None or empty for voxels above the mean.
    """
    from scipy import ndimage

    smoothed = ndimage.gaussian_filter(np.asarray(image.data, dtype=np.float32), 1.0)
    has_mask = mask is not None and np.any(mask.data)
    inner_values = smoothed[mask.data > 0 if mask and has_mask else smoothed > smoothed.mean()]
    if not inner_values.size or float(inner_values.max()) <= float(inner_values.min()):
        return []
    levels = {
        "edge of the reference": (canvas.SKY, 0.45 * float(np.median(inner_values))),
        "bright structures of the reference": (
            canvas.ORANGE,
            float(np.percentile(inner_values, 88)),
        ),
    }
    return [
        Outline(name=name, image=image.like(smoothed), color=color, level=level)
        for name, (color, level) in levels.items()
    ]
