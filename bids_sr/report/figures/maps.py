"""Figures of series and statistical maps, side by side in the same planes and on one scale."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from bids_sr.engine.number_text import number
from bids_sr.evaluation.words import EFFECT_UNIT
from bids_sr.io.arrays import Array, Float
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import size_text
from bids_sr.io.volume import Volume
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.figures import canvas, slices
from bids_sr.report.figures.canvas import FigureInputError
from bids_sr.report.figures.slices import Cut, Layer, Outline, Panel

MAP_COLORS = (
    "#d9fbff",
    "#98e2ff",
    "#62bdf8",
    "#3f98f0",
    "#2f78e8",
    "#d84014",
    "#ea6410",
    "#f9931f",
    "#ffc64a",
    "#fff6b3",
)
"""Blue below 0 and orange above, distinguishable by color-blind readers. Extreme values are light,
and no color is as dark as the brain.
"""
_MAP_CMAP = LinearSegmentedColormap.from_list("bids-sr-maps", MAP_COLORS)
_N_PLANES = 9
_PART_SIZE_MM = (110.0, 80.0)  # mm, size (x, y) of a part of a slice
_TALLEST_INCH = 3.2  # inches, largest height of a panel in figures of a part of a slice


@frozen
class Display:
    """Display of a statistic: threshold and color scale.

    Absolute values up to `threshold` are not drawn. The color scale ends at `floor` or above.
    `unit` is "" for dimensionless values.
    """

    statistic: str
    threshold: float
    floor: float
    unit: str = ""

    @property
    def label(self) -> str:
        """Label of the color scale."""
        name = f"{self.statistic} ({self.unit})" if self.unit else self.statistic
        return f"{name}; shown where |{self.statistic}| > {self.threshold:g}"


T_DISPLAY = Display(statistic="t", threshold=3.1, floor=6.0)
"""|t| > 3.1 corresponds to one-sided p < .001, uncorrected, for many degrees of freedom."""
CC_DISPLAY = Display(statistic="cc", threshold=0.25, floor=0.6)


@frozen
class Scene:
    """Images below the maps of a run, on one grid: signal, brain and region of interest."""

    background: Volume
    mask: Volume
    roi: Volume
    signal: Layer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # All rows of all figures of a run show this layer.
        object.__setattr__(self, "signal", slices.make_gray_layer(self.background, self.mask))

    @property
    def roi_is_brain(self) -> bool:
        """Whether the region covers about the whole brain, with nothing to outline or enlarge."""
        return slices.covers_brain(self.roi.data, self.mask.data)

    def make_layer(self, background: Layer) -> list[Layer | Outline]:
        """Return a map layer over the signal.

        The region of interest is outlined unless it covers about the whole brain.
        """
        roi = [] if self.roi_is_brain else [Outline(image=self.roi, color=canvas.ROI_COLOR)]
        return [self.signal, background, *roi]


def common_scale(maps: Iterable[Volume], floor: float) -> float:
    """Return the upper end of the color scale of a contrast's maps.

    For each map, the 99.9th percentile of nonzero absolute values is computed. The result is the
    median over maps, rounded to two digits, but at least `floor`. Pass the maps of all series of a
    contrast, statistic and smoothing, even if only some are drawn, so that a color has the same
    meaning in all figures.
    """
    magnitudes = [
        np.abs(image.data[np.isfinite(image.data) & (image.data != 0)]) for image in maps
    ]
    percentiles = [float(np.percentile(values, 99.9)) for values in magnitudes if values.size]
    return max(floor, float(f"{np.median(percentiles):.2g}")) if percentiles else floor


def highest_point(image: Volume, region: Volume) -> Float:
    """Return the center of the voxel with the highest positive value in a region, (3,).

    The position is in mm along right, anterior and superior from the corner of the region's grid,
    as in `bids_sr.report.figures.slices`. `image` may be on another grid of the field of view.
    """
    positive = image.like(slices.replace_nan(image.data).clip(0))
    return (np.array(peak_voxel(positive, region)) + 0.5) * slices.reorient_to_ras(region).zooms


def peak_voxel(image: Volume, mask: Volume) -> tuple[int, int, int]:
    """Return the voxel with the largest absolute value in a brain mask.

    Overview and viewer open at this voxel. `image` may be on another grid of the field of view.
    The indices are in the mask in RAS order (right, anterior, superior), counted from 0.
    """
    magnitude = slices.resample_nearest(
        image.like(np.abs(slices.replace_nan(image.data))), mask
    ) * (slices.reorient_to_ras(mask).data > 0)
    x, y, z = (int(index) for index in np.unravel_index(np.argmax(magnitude), magnitude.shape))
    return x, y, z


def variance_figure(
    weight: Volume,
    mask: Volume,
    background: Volume,
    *,
    source: str = "the acquired series",
) -> Figure:
    """Plot the standard deviation of fluctuations (signal units) below the anatomy.

    Mask and background are on the grid of `weight`.
    """
    brain_map = weight.like(np.where(mask.data > 0, weight.data, np.nan))
    scale = Layer(image=brain_map, low=0.0, high=_scale_end(brain_map.data, 99), colors="inferno")
    cuts = slices.spread_cuts(mask, 2.0, (2, _N_PLANES))
    anatomy = slices.make_gray_layer(background, mask)
    rows = [slices.make_row("", cuts, layer) for layer in (anatomy, scale)]
    label = f"standard deviation of the fluctuations (signal units), estimated from {source}"
    return slices.image_figure(rows, scale=scale, label=label)


def plot_effects_above_nyquist(
    maps: Mapping[str, Volume],
    mask: Volume,
    *,
    scores: Mapping[str, float],
    score: str,
) -> Figure:
    """Plot effects (percent) above the acquired Nyquist frequency, for each series.

    All series share one color scale, which depends on the last map. The last map also determines
    two planes, at least two slices apart, and the part of each plane with the strongest values.

    The maps by series and the brain `mask` are on one grid. `scores` are values of the score named
    `score` by series, printed beside the names. Raises `FigureInputError` if `maps` is empty.
    """
    if not maps:
        raise FigureInputError("no map with detail to draw")
    brain_maps = {
        name: image.like(np.where(mask.data > 0, image.data, np.nan))
        for name, image in maps.items()
    }
    last_map = slices.reorient_to_ras(list(brain_maps.values())[-1])
    cuts = _cut_strongest_parts(last_map, slices.bounding_box_mm(mask, 3.0))
    # A single implausible series would otherwise make all others pale.
    scale_end = max(_scale_end(slices.cut_out(last_map, cut)[0], 99) for cut in cuts)
    layers = {
        name: Layer(image=image, low=-scale_end, high=scale_end, colors="RdBu_r")
        for name, image in brain_maps.items()
    }
    finite_scores = {
        name: value for name in brain_maps if math.isfinite(value := scores.get(name, math.nan))
    }
    titles = {
        name: series_text(name)
        + (f" ({number(finite_scores[name])})" if name in finite_scores else "")
        for name in brain_maps
    }
    rows = [
        (
            "",
            [
                Panel(cut=cut, layers=[layer], title=titles[name] if cut is cuts[0] else "")
                for name, layer in layers.items()
            ],
        )
        for cut in cuts
    ]
    label = (
        f"detail of the effect ({EFFECT_UNIT}){f'; in brackets: {score}' if finite_scores else ''}"
    )
    return slices.image_figure(
        rows,
        scale=next(iter(layers.values())),
        label=label,
        tallest_inch=_TALLEST_INCH,
        background=canvas.GRID,
    )


def _cut_strongest_parts(ras_map: Volume, brain_box: Array) -> list[Cut]:
    """Return parts of up to two planes with the largest energy, in the brain's box."""
    energy = np.square(slices.replace_nan(ras_map.data))
    planes = slices.choose_planes(energy.sum(axis=(0, 1)), 2, 2) or [energy.shape[2] // 2]
    cuts = []
    for plane in planes:
        center = _center_of_mass(energy[:, :, plane]) * ras_map.zooms
        box = slices.crop_box(brain_box, center, _PART_SIZE_MM)
        cuts.append(Cut(axis=2, position_mm=(plane + 0.5) * ras_map.zooms[2], box=box))
    return cuts


def _center_of_mass(weights: Array) -> Array:
    """Return the center of mass of a plane (x, y, 0; voxels from its corner)."""
    x, y = (
        np.average(np.arange(size) + 0.5, weights=weights.sum(1 - axis) + 1e-12)
        for axis, size in enumerate(weights.shape)
    )
    return np.array([x, y, 0.0])


def pair_figure(images: Mapping[str, Volume], mask: Volume | None) -> Figure:
    """Plot two registered images in rows, such as the training pair, with their voxel sizes.

    `mask`, on the grid of the first image, determines the planes and the gray scale. The whole
    image is used if the mask is None or empty.
    """
    first_image = next(iter(images.values()))
    region = (
        first_image.like(np.ones(first_image.data.shape))
        if mask is None or not np.any(mask.data)
        else mask
    )
    cuts = slices.spread_cuts(region, 5.0, (2, _N_PLANES))
    rows = []
    for name, image in images.items():
        # A no-break space keeps the size on one line.
        size = size_text(slices.reorient_to_ras(image).zooms, unit="\u00a0mm")
        rows.append(
            slices.make_row(f"{name}\n{size}", cuts, slices.make_gray_layer(image, region))
        )
    return slices.image_figure(rows)


def series_figure(
    series: Mapping[str, Volume],
    roi: Volume,
    *,
    mask: Volume | None = None,
    reference: str = "bspline",
) -> Figure:
    """Plot a slice of one volume in all series: complete, enlarged, and minus a reference series.

    The volumes by series, in order of columns, are on the high-resolution grid or (acquired
    series) on the acquired grid. `roi`, a region of interest on the high-resolution grid,
    determines slice and enlarged part. `mask` is the brain on this grid; None for the region of
    interest. `reference` is the series that is subtracted; if it is missing or on another grid,
    `FigureInputError` is raised.
    """
    brain, reference_image = mask or roi, series.get(reference)
    if reference_image is None or reference_image.data.shape != roi.data.shape:
        raise FigureInputError(
            f"no series {reference!r} on the grid {roi.data.shape} among {list(series)}"
        )
    low, high = slices.gray_limits(reference_image, brain)
    # A minimum of 1 % of the gray scale keeps differences white if all series are identical.
    change_layers = _make_change_layers(series, reference_image, brain, 0.01 * (high - low))
    brain_cut, enlarged_cut = _cut_largest_plane(roi, brain)
    outlines = (
        []
        if slices.covers_brain(roi.data, brain.data)
        else [Outline(image=roi, color=canvas.ROI_COLOR, width=0.6)]
    )
    signal_layers = {
        name: Layer(image=image, low=low, high=high) for name, image in series.items()
    }
    signal_panels = [
        Panel(
            cut=brain_cut,
            layers=[signal_layers[name]],
            title=series_text(name),
            enlarged_box=enlarged_cut.box,
        )
        for name in series
    ]
    enlarged_panels = [
        Panel(cut=enlarged_cut, layers=[signal_layers[name], *outlines]) for name in series
    ]
    change_panels = []
    for name, image in series.items():
        if name in change_layers:
            change_panels.append(Panel(cut=enlarged_cut, layers=[change_layers[name]]))
        else:
            text = f"acquired grid\n{size_text(slices.reorient_to_ras(image).zooms)}"
            change_panels.append(Panel(cut=enlarged_cut, layers=[], text=text))
    rows = {
        "signal": signal_panels,
        "enlarged": enlarged_panels,
        f"minus\n{reference}": change_panels,
    }
    return slices.image_figure(
        list(rows.items()),
        tallest_inch=_TALLEST_INCH,
        scale=change_layers[reference],
        label=f"difference from {reference} (signal units)",
    )


def _make_change_layers(
    series: Mapping[str, Volume], reference: Volume, brain: Volume, min_change: float
) -> dict[str, Layer]:
    """Return layers of the differences from a reference on one scale, at least ± `min_change`.

    Series on another grid than the reference are skipped.
    """
    changes = {
        name: image.like(image.data - reference.data)
        for name, image in series.items()
        if image.data.shape == reference.data.shape
    }
    largest_change = max(
        [
            min_change,
            *(_scale_end(image.data[brain.data > 0], 99) for image in changes.values()),
        ]
    )
    return {
        name: Layer(image=image, low=-largest_change, high=largest_change, colors="RdBu_r")
        for name, image in changes.items()
    }


def _cut_largest_plane(roi: Volume, brain: Volume) -> tuple[Cut, Cut]:
    """Return the axial plane with most voxels of a region: the brain, and an enlarged part."""
    ras_region = slices.reorient_to_ras(roi)
    plane = int(np.argmax((ras_region.data > 0).sum(axis=(0, 1))))
    in_plane = np.zeros(ras_region.data.shape, bool)
    in_plane[:, :, plane] = ras_region.data[:, :, plane] > 0
    region_box = slices.bounding_box_mm(Volume(in_plane, ras_region.affine), 8.0)
    enlarged_box = slices.crop_box(region_box, region_box.mean(axis=0), _PART_SIZE_MM)
    position_mm = (plane + 0.5) * float(ras_region.zooms[2])
    return (
        Cut(axis=2, position_mm=position_mm, box=slices.bounding_box_mm(brain, 8.0)),
        Cut(axis=2, position_mm=position_mm, box=enlarged_box),
    )


def surface_figure(
    values: Sequence[Array], surfaces: Sequence[tuple[Array, Array]], display: Display, title: str
) -> Figure:
    """Plot a map on both hemispheres, each from the lateral and the medial side.

    `values` are those at the vertices (N,) of the left and the right hemisphere; NaN is not drawn.
    `surfaces` are vertices (N, 3; RAS mm) and triangles (F, 3) of both hemispheres.
    """
    high = max(display.floor, float(f"{_scale_end(np.concatenate(values), 99.9):.2g}"))
    scale = ScalarMappable(Normalize(-high, high), _MAP_CMAP)
    fig = canvas.new_figure(slices.WIDTH_INCH, 2.8)
    fig.set_label(title)
    fig.suptitle(title)
    for column in range(4):
        (points, faces), hemisphere_values = surfaces[column // 2], values[column // 2]
        corners = points[faces]
        face_values = hemisphere_values[faces].mean(axis=1)
        normals = np.cross(*np.diff(corners, axis=1).swapaxes(0, 1))
        light = np.abs(normals[:, :1]) / np.linalg.norm(normals, axis=1, keepdims=True)
        is_shown = np.abs(face_values)[:, None] > display.threshold
        colors = (0.4 + 0.6 * light) * np.where(is_shown, scale.to_rgba(face_values)[:, :3], 0.75)
        # The nearest triangles, seen from the left or the right, are drawn last.
        from_right = 1 if column % 2 else -1
        order = np.argsort(from_right * corners[..., 0].mean(axis=1))
        polygons: Any = corners[order][..., 1:] * [from_right, 1]
        ax = fig.add_axes((0.01 + 0.235 * column, 0.02, 0.225, 0.86))
        collection = PolyCollection(
            polygons, facecolors=colors[order], linewidths=0, antialiaseds=False
        )
        collection.set_rasterized(True)
        ax.add_collection(collection)
        ax.autoscale_view()
        ax.set_aspect("equal")
        canvas.hide_axes(ax)
    canvas.color_bar(fig, scale, (0.957, 0.12, 0.008, 0.7), display.label)
    return fig


def _scale_end(values: Array, percent: float) -> float:
    """Return the end of a color scale: a percentile of finite absolute values, above 0."""
    magnitudes = np.abs(values[np.isfinite(values)])
    return max(float(np.percentile(magnitudes, percent)) if magnitudes.size else 0.0, 1e-12)
