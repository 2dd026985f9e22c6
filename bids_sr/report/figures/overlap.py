"""Figure of the active regions of two conditions in one image, and of their overlap."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from bids_sr.engine.number_text import number
from bids_sr.glm.activation_regions import nonempty_dice
from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.figures import canvas, slices
from bids_sr.report.figures.canvas import FigureInputError
from bids_sr.report.figures.maps import Scene
from bids_sr.report.figures.slices import Layer, Outline, PanelRow

# colors of voxels of the first condition, of the second condition, and of both
_FIRST_COLOR, _SECOND_COLOR, _OVERLAP_COLOR = canvas.ORANGE, canvas.BLUE, canvas.PURPLE
# mm: margin around the regions of the first series in the enlarged part, smallest width of this
# part, and smallest distance between planes
_MARGIN_MM, _MIN_WIDTH_MM, _MIN_PLANE_DISTANCE_MM = 14.0, 64.0, 4.0
_MAX_WIDTH_FRACTION = 0.6  # fraction of the brain width, largest width of the enlarged part
_TALLEST_INCH = 3.0  # inches, largest height of a panel


def overlap_figure(
    regions: Mapping[str, tuple[Volume, Volume]],
    scene: Scene,
    conditions: tuple[str, str],
    *,
    n_slices: int = 3,
) -> Figure:
    """Plot the active regions of two conditions, one row per series.

    Each plane is shown completely and enlarged. Planes and the enlarged part are chosen for all
    rows from the regions of the first series. Rows are labeled with the Dice coefficient of all
    voxels, not only of the planes drawn.

    `regions` are masks of both conditions (3D) by series, on any grid of the scene's field of
    view; the two masks of a series share a grid. `n_slices` is the number of axial planes. Raises
    `FigureInputError` if there are no series, or if all regions of the first series are empty.
    """
    if not regions:
        raise FigureInputError(f"no series has regions of {' and '.join(conditions)}")
    labels = {name: overlap_labels(*pair) for name, pair in regions.items()}
    first_labels = next(iter(labels.values()))
    if not first_labels.data.any():
        raise FigureInputError(
            f"the regions of {' and '.join(conditions)} are empty in {next(iter(labels))}"
        )
    brain_box = slices.bounding_box_mm(scene.mask, 3.0)
    positions = _select_planes(first_labels, n_slices)
    cuts = slices.make_cuts(positions, brain_box) + slices.make_cuts(
        positions, _enlarged_box(first_labels, brain_box)
    )
    colors = ListedColormap([_FIRST_COLOR, _SECOND_COLOR, _OVERLAP_COLOR])
    rows: list[PanelRow] = []
    for name, label_image in labels.items():
        colored_labels = label_image.like(
            np.where(label_image.data > 0, label_image.data, math.nan)
        )
        layer = Layer(image=colored_labels, low=0.5, high=3.5, colors=colors, alpha=0.9)
        score = nonempty_dice(*(region.data > 0.5 for region in regions[name]))
        dice_text = "Dice n/a" if score is None else f"Dice {number(score, '.2f')}"
        rows.append(
            slices.make_row(f"{series_text(name)}\n{dice_text}", cuts, *scene.make_layer(layer))
        )
    first_condition, second_condition = conditions
    roi = Outline(image=scene.roi, color=canvas.ROI_COLOR, name="region of interest")
    return slices.image_figure(
        rows,
        outlines=[] if scene.roi_is_brain else [roi],
        fills={
            f"{first_condition} only": _FIRST_COLOR,
            f"{second_condition} only": _SECOND_COLOR,
            "both": _OVERLAP_COLOR,
        },
        tallest_inch=_TALLEST_INCH,
    )


def overlap_labels(first: Volume, second: Volume) -> Volume:
    """Return labels: 1 only in the first mask, 2 only in the second, 3 in both, 0 elsewhere."""
    return first.like((first.data > 0.5) * 1 + (second.data > 0.5) * 2)


def _select_planes(label_image: Volume, count: int) -> list[float]:
    """Return positions (mm) of the axial planes with the largest regions."""
    ras_image = slices.reorient_to_ras(label_image)
    thickness = float(ras_image.zooms[2])
    area = (ras_image.data > 0).sum(axis=(0, 1))
    separation = max(1, math.ceil(_MIN_PLANE_DISTANCE_MM / thickness))
    return [(plane + 0.5) * thickness for plane in slices.choose_planes(area, count, separation)]


def _enlarged_box(label_image: Volume, brain_box: Array) -> Array:
    """Return the corners (2, 3; mm) of an enlarged part of a box.

    The part is centered on the median active voxel and as wide as the regions with their margin,
    up to `_MAX_WIDTH_FRACTION` of the box. Regions far from the center may be cut off. Its aspect
    ratio equals the aspect ratio of the box, so that columns stay aligned.
    """
    box_width, box_height, _ = np.ptp(brain_box, axis=0)
    required_x, required_y, _ = np.ptp(slices.bounding_box_mm(label_image, _MARGIN_MM), axis=0)
    required_width = max(required_x, required_y * box_width / box_height)
    width = float(
        np.clip(
            required_width,
            min(_MIN_WIDTH_MM, box_width),
            max(_MIN_WIDTH_MM, _MAX_WIDTH_FRACTION * box_width),
        )
    )
    ras_image = slices.reorient_to_ras(label_image)
    center = (np.median(np.argwhere(ras_image.data > 0), axis=0) + 0.5) * ras_image.zooms
    return slices.crop_box(brain_box, center, (width, width * box_height / box_width))
