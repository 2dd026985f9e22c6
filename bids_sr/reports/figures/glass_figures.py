"""Glass brain: a map in MNI space, seen through, drawn by nilearn."""

from collections import defaultdict

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from bids_sr.io.array_types import Array
from bids_sr.reports.figures import style as s
from bids_sr.reports.figures.activation_figures import MAP_CMAP, Display

GRID_MM = 3.0
CORNERS_MM = np.array([[-90.0, -126.0, -72.0], [90.0, 90.0, 108.0]])
"""Of the box that holds the brain of MNI templates."""


def glass_image(points: Array, values: Array) -> nib.Nifti1Image:
    """An image in MNI space of values at points (N, 3; mm): of several in a voxel, that of the largest magnitude."""
    shape = np.ceil((CORNERS_MM[1] - CORNERS_MM[0]) / GRID_MM).astype(int)
    data = np.zeros(shape, dtype=np.float32)
    at = np.rint((points - CORNERS_MM[0]) / GRID_MM).astype(int)
    order = np.argsort(np.abs(values))  # the last one written stays
    order = order[((at >= 0) & (at < shape)).all(axis=1)[order]]
    data[tuple(at[order].T)] = values[order]
    affine = np.diag([GRID_MM, GRID_MM, GRID_MM, 1.0])
    affine[:3, 3] = CORNERS_MM[0]
    return nib.Nifti1Image(data, affine)


def glass_figure(image: nib.Nifti1Image, *, display: Display, limit: float) -> Figure:
    """Largest magnitudes of a map in MNI space along each axis, on a color scale that ends at `limit`."""
    from nilearn.plotting import plot_glass_brain

    with s.style():
        fig = s.new_figure(12.0, 2.9)
        plot_glass_brain(
            image, display_mode="lyrz", threshold=display.threshold, vmax=limit, cmap=MAP_CMAP, plot_abs=False,
            colorbar=True, figure=fig, title=None,
        )  # fmt: skip
        for ax in fig.axes:
            _merge_lines(ax)
            for text in [*ax.texts, *ax.get_yticklabels()]:
                text.set_color(s.INK)
                text.set_bbox(None)  # a white box, also in a dark page
        fig.text(0.6, 0.015, display.label, ha="center", fontsize=8)
    return fig


def _merge_lines(ax: Axes) -> None:
    """Lines of one look as one path, in the colors of our figures: a quarter of the size."""
    found = defaultdict(list)
    for patch in [each for each in ax.patches if isinstance(each, PathPatch)]:
        placed = (patch.get_transform() - ax.transData).transform_path(patch.get_path())
        found[sum(to_rgb(patch.get_edgecolor())) < 1.2, patch.get_linewidth()].append(placed)
        patch.remove()
    for (dark, width), paths in found.items():
        merged = Path.make_compound_path(*paths)
        ax.add_patch(PathPatch(merged, fill=False, edgecolor=s.INK if dark else s.SOFT, lw=width, alpha=0.7))
