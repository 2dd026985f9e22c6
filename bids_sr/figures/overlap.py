"""Figure of the active regions of two conditions in one image, and of their overlap."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from bids_sr.figures import canvas as s
from bids_sr.figures import slices
from bids_sr.figures.canvas import FigureInputError
from bids_sr.figures.maps import Scene
from bids_sr.figures.slices import Layer, Outline, Row
from bids_sr.glm.activation_regions import dice
from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.metrics.number_text import number
from bids_sr.report.evaluation_rows import series_text

_FIRST, _SECOND, _BOTH = s.ORANGE, s.BLUE, s.PURPLE
"""Colors of voxels of the first condition only, of the second only, and of both."""
_MARGIN_MM, _LEAST_MM, _APART_MM = 14.0, 64.0, 4.0
"""Around the regions of the first series in the enlarged part; least width of that part; least
distance of two planes.
"""
_MOST_SHARE = 0.6  # of the width of the brain, for the enlarged part
_TALLEST = 3.0  # inches, of a panel


def overlap_figure(
    regions: Mapping[str, tuple[Volume, Volume]],
    scene: Scene,
    conditions: tuple[str, str],
    *,
    n_slices: int = 3,
) -> Figure:
    """Plot voxels of two conditions' regions, a row per series, whole and enlarged.

    The regions of the first series choose planes and the enlarged part for all rows. The Dice
    coefficient of all voxels, not of the drawn planes alone, is written beside the name of the
    series.

    Parameters
    ----------
    regions : Mapping[str, tuple[Volume, Volume]]
        Masks of both conditions (3D) by series, on any grid of the scene's field of view; the two
        masks of a series share a grid.
    scene : Scene
        Signal, brain and region of interest below the regions.
    conditions : tuple[str, str]
        Names of the two conditions.
    n_slices : int, optional
        Number of axial planes.

    Returns
    -------
    Figure
        Figure with one row per series.

    Raises
    ------
    FigureInputError
        There is no series, or no region of the first series has a voxel.
    """
    if not regions:
        raise FigureInputError(f"no series has regions of {' and '.join(conditions)}")
    labels = {name: overlap_labels(*pair) for name, pair in regions.items()}
    first = next(iter(labels.values()))
    if not first.data.any():
        raise FigureInputError(
            f"the regions of {' and '.join(conditions)} are empty in {next(iter(labels))}"
        )
    whole = slices.box_of(scene.mask, 3.0)
    places = _planes(first, n_slices)
    cuts = slices.cuts(places, whole) + slices.cuts(places, _close_up(first, whole))
    colors = ListedColormap([_FIRST, _SECOND, _BOTH])
    rows: list[Row] = []
    for name, label in labels.items():
        shown = label.like(np.where(label.data > 0, label.data, math.nan))
        layer = Layer(image=shown, low=0.5, high=3.5, colors=colors, alpha=0.9)
        score = dice(*(each.data > 0.5 for each in regions[name]))
        text = "Dice n/a" if score is None else f"Dice {number(score, '.2f')}"
        rows.append(slices.row_of(f"{series_text(name)}\n{text}", cuts, *scene.around(layer)))
    a, b = conditions
    roi = Outline(image=scene.roi, color=s.ROI_COLOR, name="region of interest")
    return slices.image_figure(
        rows,
        outlines=[] if scene.roi_is_brain else [roi],
        fills={f"{a} only": _FIRST, f"{b} only": _SECOND, "both": _BOTH},
        tallest=_TALLEST,
    )


def overlap_labels(first: Volume, second: Volume) -> Volume:
    """Return 1 for voxels of the first mask only, 2 for the second only, 3 for both, else 0."""
    return first.like((first.data > 0.5) * 1 + (second.data > 0.5) * 2)


def _planes(first: Volume, count: int) -> list[float]:
    """Return places (mm) of the axial planes in which the regions of a series are largest."""
    turned = slices.canonical(first)
    thickness = float(turned.zooms[2])
    area = (turned.data > 0).sum(axis=(0, 1))
    apart = max(1, math.ceil(_APART_MM / thickness))
    return [(k + 0.5) * thickness for k in slices.strongest_planes(area, count, apart)]


def _close_up(first: Volume, whole: Array) -> Array:
    """Return the corners (2, 3; mm) of a part around the middle of the regions of a series.

    It holds them all unless they need more than `_MOST_SHARE` of the width of `whole`. Its ratio
    of height to width is the ratio of `whole`, so that rows keep their columns.
    """
    wide, high, _ = np.ptp(whole, axis=0)
    needed_x, needed_y, _ = np.ptp(slices.box_of(first, _MARGIN_MM), axis=0)
    needed = max(needed_x, needed_y * wide / high)
    width = float(np.clip(needed, min(_LEAST_MM, wide), max(_LEAST_MM, _MOST_SHARE * wide)))
    turned = slices.canonical(first)
    middle = (np.median(np.argwhere(turned.data > 0), axis=0) + 0.5) * turned.zooms
    return slices.part_of(whole, middle, (width, width * high / wide))
