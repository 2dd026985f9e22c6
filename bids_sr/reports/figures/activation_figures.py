"""Figures of activation: the maps of all series side by side on one scale, and the regions of two conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bids_sr.reports.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    SOFT,
    Array,
    Box,
    FigureInputError,
    Volume,
    bounding_box,
    canonical,
    color_bar,
    cropped,
    gray_limits,
    height_over_width,
    limited_box,
    mark_position,
    mark_sides,
    new_figure,
    repeated,
    show_contour,
    show_plane,
    style,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Display:
    """How a statistic is shown.

    Parameters
    ----------
    statistic : its name
    threshold : |value| below which nothing is drawn
    floor : lowest upper end of the color scale
    """

    statistic: str
    threshold: float
    floor: float


T_DISPLAY = Display(statistic="t", threshold=3.1, floor=6.0)
"""|t| > 3.1: p < .001, one-sided, uncorrected, for many degrees of freedom."""
CC_DISPLAY = Display(statistic="cc", threshold=0.25, floor=0.6)
ROI_COLOR = "#00e5ff"
FDR_COLOR = "white"
Parts = tuple[Volume, Volume | None, tuple[float, float]]
"""Background, region to outline (None: nothing) and gray scale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What lies below all overlays of a run.

    Parameters
    ----------
    background : (X, Y, Z) on the high-resolution grid; signal
    mask : brain on that grid
    roi : region of interest on that grid
    affine : voxel → RAS mm
    """

    background: Array
    mask: Array
    roi: Array
    affine: Array

    @property
    def roi_is_brain(self) -> bool:
        """True where the region is the whole brain (nothing to outline or to zoom into)."""
        return bool(np.count_nonzero(self.roi) >= 0.9 * np.count_nonzero(self.mask))


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesMap:
    """The map of one series for one contrast and smoothing.

    Parameters
    ----------
    name : series
    data : (X, Y, Z), statistic, on the grid of ``affine``
    affine : voxel → RAS mm; the acquired grid for ``raw``, the high-resolution grid for the others
    significant : mask of the FDR region on the same grid, or None
    """

    name: str
    data: Array
    affine: Array
    significant: Array | None = None


def informative_planes(scene: Scene, first: SeriesMap, n_slices: int) -> list[int]:
    """Planes of the background's grid to show: where the *first* map is strongest inside the region, some way apart.

    One map chooses for all, so that no method shows its own best slices.

    Parameters
    ----------
    scene : background, with the region
    first : map that decides, on any grid of the same field of view
    n_slices : number of planes

    Returns
    -------
    indices along the third axis of the RAS-ordered background, ascending
    """
    area = canonical(np.asarray(scene.roi > 0), scene.affine)
    chooser = canonical(np.nan_to_num(first.data), first.affine)
    strength = np.sort(np.abs(chooser.data).reshape(-1, chooser.data.shape[2]), axis=0)[-20:].mean(axis=0)
    places = np.array([chooser.position(2, k) for k in range(len(strength))])
    own = np.array([area.position(2, k) for k in range(area.data.shape[2])])
    score = np.interp(own, places, strength) * (area.data.sum(axis=(0, 1)) > 0)
    if not score.any():
        score = np.interp(own, places, strength) + 1e-6
    apart = max(1, int(np.count_nonzero(score) / (2.0 * n_slices)))
    chosen: list[int] = []
    for k in np.argsort(-score, kind="stable"):
        if score[k] > 0 and all(abs(int(k) - c) >= apart for c in chosen):
            chosen.append(int(k))
        if len(chosen) == n_slices:
            break
    return sorted(chosen)


def common_scale(maps: Sequence[SeriesMap], floor: float) -> float:
    """Upper end of one color scale for all maps: the median of their 99.9th percentiles of |value|, or the floor."""
    tops = [float(np.percentile(np.abs(m.data[np.isfinite(m.data)]), 99.9)) for m in maps if np.isfinite(m.data).any()]
    return max(floor, float(np.median(tops))) if tops else floor


def _panel(ax: Axes, parts: Parts, overlay: Volume, box: Sequence[slice], index: int, **colors: Any) -> Any:
    """Background, overlay and the region's outline in one window; returns the overlay's image."""
    background, area, limits = parts
    flat = (box[0], box[1], slice(index, index + 1))
    show_plane(ax, cropped(background, flat), 2, 0, vmin=limits[0], vmax=limits[1])
    image = show_plane(ax, cropped(overlay, flat), 2, 0, **colors)
    if area is not None:
        show_contour(ax, cropped(area, flat), 2, 0, ROI_COLOR, width=0.7)
    return image


def _ground(scene: Scene) -> tuple[Parts, Volume]:
    """Background, outline and gray scale of a scene, and its brain, in RAS order."""
    background = canonical(scene.background, scene.affine)
    brain = canonical(np.asarray(scene.mask > 0), scene.affine)
    area = None if scene.roi_is_brain else canonical(np.asarray(scene.roi > 0, dtype=np.float32), scene.affine)
    return (background, area, gray_limits(background.data, brain.data)), brain


def _windows(scene: Scene, brain: Volume, planes: Sequence[int], first: SeriesMap) -> list[tuple[Box, int]]:
    """Boxes and planes, left to right: the whole brain, then the neighborhood of the first map's peak in the region."""
    whole = bounding_box(brain.data, brain.zooms, margin_mm=6.0)
    windows = [(whole, k) for k in planes]
    if scene.roi_is_brain:
        return windows
    area = canonical(np.asarray(scene.roi > 0), scene.affine)
    values = np.abs(repeated(canonical(np.nan_to_num(first.data), first.affine), brain).data) * area.data
    peak = np.unravel_index(np.argmax(values[:, :, planes]), (*values.shape[:2], len(planes)))
    close = limited_box(whole, brain, (64.0, 64.0 * height_over_width(whole, brain)), (float(peak[0]), float(peak[1])))
    return windows + [(close, k) for k in planes]


def _rows(fig: Figure, n_rows: int, n_columns: int, *, left: float, bottom: float) -> Array:
    """Axes that fill a figure but for a margin at the left (fraction) and at the bottom (inches)."""
    tall = fig.get_figheight()
    grid = dict(left=left, right=0.999, top=1 - 0.05 / tall, bottom=bottom / tall, wspace=0.012, hspace=0.012)  # noqa: C408
    return np.asarray(fig.subplots(n_rows, n_columns, squeeze=False, gridspec_kw=grid))


def _row_name(fig: Figure, ax: Axes, text: str, left: float) -> None:
    place = ax.get_position()
    fig.text(left - 0.006, (place.y0 + place.y1) / 2, text, ha="right", va="center", fontsize=9.5, linespacing=1.5)


def activation_figure(
    maps: Sequence[SeriesMap],
    scene: Scene,
    *,
    display: Display = T_DISPLAY,
    n_slices: int = 3,
) -> Figure:
    """Maps of one contrast: a row each series, columns the same planes, whole and zoomed into the region.

    One color scale and one threshold hold for all rows.

    Parameters
    ----------
    maps : rows from top to bottom; the first one chooses the planes
    scene : background, brain and region on the high-resolution grid
    display : the statistic, and how it is shown
    n_slices : planes; each twice where the region is less than the brain

    Raises
    ------
    FigureInputError
        if there is no map
    """
    if not maps:
        raise FigureInputError("there is no map to draw")
    parts, brain = _ground(scene)
    planes = informative_planes(scene, maps[0], n_slices if not scene.roi_is_brain else 2 * n_slices)
    windows = _windows(scene, brain, planes, maps[0])
    limit = common_scale(maps, display.floor)
    colors = {"cmap": "RdYlBu_r", "vmin": -limit, "vmax": limit, "alpha": 0.92}
    unit = 11.2 / len(windows) * max(height_over_width(box, brain) for box, _ in windows)
    with style():
        fig = new_figure(12.0, unit * len(maps) + 0.77)
        tall = fig.get_figheight()
        axes = _rows(fig, len(maps), len(windows), left=0.066, bottom=0.72)
        image: Any = None
        for row, each in zip(axes, maps, strict=True):
            values = np.nan_to_num(each.data)
            shown = repeated(
                canonical(np.where(np.abs(values) > display.threshold, values, np.nan), each.affine), brain
            )
            regions = None if each.significant is None else canonical(each.significant.astype(np.float32), each.affine)
            for ax, (box, k) in zip(row, windows, strict=True):
                image = _panel(ax, parts, shown, box, k, **colors)
                if regions is not None:
                    flat = (box[0], box[1], slice(k, k + 1))
                    show_contour(ax, cropped(repeated(regions, brain), flat), 2, 0, FDR_COLOR, width=0.6)
            _row_name(fig, row[0], each.name, 0.066)
        for ax, (_, k) in zip(axes[0], windows, strict=True):
            mark_position(ax, brain, 2, k)
        mark_sides(axes[0, 0], 2)
        label = f"{display.statistic}; shown where |{display.statistic}| > {display.threshold:g}"
        color_bar(fig, image, (0.36, 0.5 / tall, 0.28, 0.09 / tall), label)
    return fig


def regions_figure(
    regions: Mapping[str, tuple[SeriesMap, SeriesMap]],
    scene: Scene,
    conditions: tuple[str, str],
    dice: Mapping[str, float],
    *,
    n_slices: int = 5,
) -> Figure:
    """Regions of two conditions of each series over the same planes: one, the other, both.

    Parameters
    ----------
    regions : series name to the two masks (as maps of 0 and 1)
    scene : background, brain and region of interest on the high-resolution grid
    conditions : names of the two conditions
    dice : overlap of the two masks by series

    Raises
    ------
    FigureInputError
        if there is no series
    """
    if not regions:
        raise FigureInputError("there is no pair of regions to draw")
    parts, brain = _ground(scene)
    first = next(iter(regions.values()))
    both = SeriesMap(name="", data=first[0].data.astype(float) + first[1].data, affine=first[0].affine)
    planes = informative_planes(scene, both, n_slices)
    box = bounding_box(canonical(np.asarray(scene.roi > 0), scene.affine).data, brain.zooms, margin_mm=8.0)
    colors = {"cmap": ListedColormap([ORANGE, BLUE, GREEN]), "vmin": 1, "vmax": 3, "alpha": 0.85}
    unit = 10.7 / len(planes) * height_over_width(box, brain)
    with style():
        fig = new_figure(12.0, unit * len(regions) + 0.41)
        axes = _rows(fig, len(regions), len(planes), left=0.11, bottom=0.36)
        for row, (name, (one, other)) in zip(axes, regions.items(), strict=True):
            code = np.asarray(one.data > 0, dtype=np.float32) + 2 * np.asarray(other.data > 0, dtype=np.float32)
            code[code == 0] = np.nan
            shown = repeated(canonical(code, one.affine), brain)
            for ax, k in zip(row, planes, strict=True):
                _panel(ax, parts, shown, box, k, **colors)
            value = dice.get(name, float("nan"))
            _row_name(fig, row[0], f"{name}\nDice " + (f"{value:.2f}" if np.isfinite(value) else "n/a"), 0.11)
        for ax, k in zip(axes[0], planes, strict=True):
            mark_position(ax, brain, 2, k)
        mark_sides(axes[0, 0], 2)
        keys = ((ORANGE, conditions[0]), (BLUE, conditions[1]), (GREEN, "both"))
        fig.legend(handles=[Patch(color=c, label=n) for c, n in keys], loc="lower left", ncols=3, fontsize=8.5)
        fig.text(0.995, 0.1 / fig.get_figheight(), "Left is left", ha="right", fontsize=7.5, color=SOFT)
    return fig
