"""Figures of series and maps: all of them side by side, on one scale, in the same planes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from bids_sr.figures import canvas as s
from bids_sr.figures import slices
from bids_sr.figures.canvas import FigureInputError
from bids_sr.figures.slices import Cut, Layer, Outline, Panel, Row
from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array, Float
from bids_sr.io.grids import size_text
from bids_sr.io.volume import Volume
from bids_sr.metrics.number_text import number
from bids_sr.report.evaluation_rows import series_text


@frozen
class Display:
    """Display of a statistic: values hidden up to a threshold, and the color scale end.

    |value| up to `threshold` is not drawn; the color scale ends at `floor` or above.

    `unit`: unit of the values; empty for pure numbers.
    """

    statistic: str
    threshold: float
    floor: float
    unit: str = ""

    @property
    def label(self) -> str:
        """What a color scale is of."""
        shown = f"{self.statistic} ({self.unit})" if self.unit else self.statistic
        return f"{shown}; shown where |{self.statistic}| > {self.threshold:g}"


T_DISPLAY = Display(statistic="t", threshold=3.1, floor=6.0)
"""|t| > 3.1: p < .001, one-sided, uncorrected, for many degrees of freedom."""
CC_DISPLAY = Display(statistic="cc", threshold=0.25, floor=0.6)
_FDR_COLOR = "white"
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
"""Blue below 0, orange above, as color-blind readers tell them; light far from 0, never as dark as
a brain.
"""
_MAP_CMAP = LinearSegmentedColormap.from_list("bids-sr-maps", MAP_COLORS)
_N_PLANES = 9
ZOOM_MM = (72.0, 62.0)
_CLOSE_MM = 64.0
_PART_MM = (110.0, 80.0)
"""Size (x, y) of the enlarged part of the first screen; width of that beside maps; size of a part
of one slice.
"""
_TALL = 3.2
"""Height of a panel (inches) that none exceeds where few are shown in one part of a slice."""


@frozen
class Scene:
    """What lies below the maps of a run, on one grid: signal, brain and region of interest."""

    background: Volume
    mask: Volume
    roi: Volume

    @property
    def roi_is_brain(self) -> bool:
        """True where the region is the whole brain (nothing to outline or to zoom into)."""
        return slices.is_brain(self.roi.data, self.mask.data)

    def around(self, over: Layer, *lines: Outline) -> list[Layer | Outline]:
        """Return layers of a map over the signal, with outlines.

        The outlines are those of the region, where it is smaller than the brain, and the given
        others.
        """
        roi = [] if self.roi_is_brain else [Outline(image=self.roi, color=s.ROI_COLOR)]
        return [slices.gray(self.background, self.mask), over, *roi, *lines]


def _largest(values: Array, percent: float) -> float:
    """End of a color scale: a percentile of the known values, above 0."""
    known = np.abs(values[np.isfinite(values)])
    return max(float(np.percentile(known, percent)) if known.size else 0.0, 1e-12)


def _on_one_scale(
    maps: Mapping[str, Volume], display: Display, limit: float | None, *, alpha: float
) -> dict[str, Layer]:
    """Maps without the values up to the threshold."""
    high = limit or common_scale(maps.values(), display.floor)
    scaled = {}
    for name, image in maps.items():
        values = np.nan_to_num(image.data)
        shown = image.like(np.where(np.abs(values) > display.threshold, values, np.nan))
        scaled[name] = Layer(image=shown, low=-high, high=high, colors=_MAP_CMAP, alpha=alpha)
    return scaled


def common_scale(maps: Iterable[Volume], floor: float) -> float:
    """Return the common upper end of the color scale of a contrast's maps.

    It holds for one contrast, statistic and smoothing, wherever its maps are shown.

    The median over all series of the 99.9th percentile of |value| where it is not 0, in two
    digits, or the floor. Overview, viewer and figures of activation take it from all series,
    whichever of them they show, so that one color is one value on the page.
    """
    known = [np.abs(each.data[np.isfinite(each.data) & (each.data != 0)]) for each in maps]
    tops = [float(np.percentile(values, 99.9)) for values in known if values.size]
    return max(floor, float(f"{np.median(tops):.2g}")) if tops else floor


def _informative_planes(scene: Scene, first: Volume, count: int) -> list[float]:
    """Return axial planes (mm), ascending, where the *first* map peaks in the region.

    The planes are some distance apart.

    One map (on any grid of the same field of view) chooses for all, so that no method shows its
    own best slices.
    """
    area, chooser = slices.canonical(scene.roi), slices.canonical(first)
    strength = np.sort(
        np.abs(np.nan_to_num(chooser.data)).reshape(-1, chooser.data.shape[2]), axis=0
    )[-20:].mean(0)
    heights, places = (
        (np.arange(each.data.shape[2]) + 0.5) * each.zooms[2] for each in (area, chooser)
    )
    score = np.interp(heights, places, strength)
    inside = score * (area.data > 0).any(axis=(0, 1))
    score = inside if inside.any() else score + 1e-6
    apart = max(1, int(np.count_nonzero(score) / (2.0 * count)))
    return [float(heights[k]) for k in slices.strongest_planes(score, count, apart)]


def peak_voxel(first: Volume, mask: Volume) -> tuple[int, int, int]:
    """Return the voxel of largest |value| in a brain mask, where overview and viewer open.

    `first` may be on any grid of the same field of view as `mask`, whose indices in RAS order
    these are.

    Indices along right, anterior and superior, counted from 0.
    """
    found = slices.repeated(first.like(np.abs(np.nan_to_num(first.data))), mask) * (
        slices.canonical(mask).data > 0
    )
    x, y, z = (int(k) for k in np.unravel_index(np.argmax(found), found.shape))
    return x, y, z


def highest_point(image: Volume, region: Volume) -> Float:
    """Return the center of the voxel of highest positive value in a region, (3,).

    `image` may be on any grid of the same field of view as `region`. In mm along right, anterior
    and superior, from the corner of the region's grid, as planes of `bids_sr.figures.slices` are.
    """
    positive = image.like(np.nan_to_num(image.data).clip(0))
    return (np.array(peak_voxel(positive, region)) + 0.5) * slices.canonical(region).zooms


def _close_up(scene: Scene, first: Volume, places: Sequence[float], whole: Array) -> Array:
    """Return a box around the peak of a map in the region, for the planes shown.

    Its ratio of height to width is that of `whole`.
    """
    area = slices.canonical(scene.roi)
    planes = (np.array(places) // area.zooms[2]).astype(int)
    shown = np.zeros(area.data.shape)
    shown[:, :, planes] = area.data[:, :, planes] > 0
    x, y, _ = peak_voxel(first, Volume(shown, area.affine))
    wide, high, _ = np.ptp(whole, axis=0)
    return slices.part_of(
        whole, (np.array([x, y, 0]) + 0.5) * area.zooms, (_CLOSE_MM, _CLOSE_MM * high / wide)
    )


def activation_figure(
    maps: Mapping[str, Volume],
    scene: Scene,
    *,
    display: Display = T_DISPLAY,
    n_slices: int = 4,
    limit: float | None = None,
    significant: Mapping[str, Volume] | None = None,
) -> Figure:
    """Plot maps of one contrast on any grid of the scene's field of view, a row for each series.

    The columns are the same planes, whole and zoomed into the region.

    The first map chooses the planes; one color scale, which ends at `limit` (default:
    `common_scale` of the maps), and one threshold hold for all rows. Where the region is the
    brain, twice `n_slices` planes take the place of the zoom. Raises `FigureInputError` without a
    map.

    `significant`: masks of the region of the false discovery rate, by series, which are outlined.
    """
    if not maps:
        raise FigureInputError("no map to draw")
    first = next(iter(maps.values()))
    whole = slices.box_of(scene.mask, 3.0)
    places = _informative_planes(scene, first, 2 * n_slices if scene.roi_is_brain else n_slices)
    cuts = slices.cuts(places, whole)
    if not scene.roi_is_brain:
        cuts += slices.cuts(places, _close_up(scene, first, places, whole))
    layers = _on_one_scale(maps, display, limit, alpha=0.92)
    regions = significant or {}
    rows: list[Row] = []
    for name, layer in layers.items():
        lines = (
            [Outline(image=regions[name], color=_FDR_COLOR, width=0.6)] if name in regions else []
        )
        rows.append(slices.row_of(series_text(name), cuts, *scene.around(layer, *lines)))
    return slices.image_figure(rows, scale=layers[next(iter(maps))], label=display.label)


def zoomed_figure(
    maps: Mapping[str, Volume],
    scene: Scene,
    *,
    display: Display = T_DISPLAY,
    limit: float | None = None,
    at: tuple[int, int, int] | None = None,
    region: Volume | None = None,
) -> Figure:
    """Plot maps of one part of one axial plane side by side on one color scale.

    The position of that part in the plane is shown at the left.

    `limit` ends the color scale (default: `common_scale` of the maps); `at` is the voxel of the
    scene, in RAS order, in the middle (default: the peak of the first map, that of the acquired
    series). Raises `FigureInputError` without a map.

    `scene`: signal, brain and region of interest below the maps.
    """
    if not maps:
        raise FigureInputError("no map to draw")
    brain = slices.canonical(scene.mask)
    voxel = at or peak_voxel(next(iter(maps.values())), scene.mask)
    center = (np.array(voxel) + 0.5) * brain.zooms
    whole = slices.box_of(scene.mask, 3.0)
    box = slices.part_of(whole, center, ZOOM_MM)
    layers = _on_one_scale(maps, display, limit, alpha=0.95)
    lines = [] if region is None else [Outline(image=region, color=_FDR_COLOR, width=0.8)]
    stacks = {name: scene.around(each, *lines) for name, each in layers.items()}
    z = float(brain.affine[2] @ [*voxel, 1])
    far = Panel(
        cut=Cut(axis=2, at=center[2], box=whole),
        shown=next(iter(stacks.values())),
        framed=box,
        place=slices.coordinate(2, z),
    )
    near = [
        Panel(cut=Cut(axis=2, at=center[2], box=box), shown=each, title=name)
        for name, each in stacks.items()
    ]
    scale = next(iter(layers.values()))
    return slices.image_figure(
        [("", [far, *near])], scale=scale, label=display.label, tallest=_TALL
    )


def overlay_figure(
    maps: Mapping[str, Volume],
    mask: Volume,
    background: Volume | None = None,
    *,
    label: str,
) -> Figure:
    """Plot nonnegative maps in the brain over an image, one per row, on one scale.

    The scale ends at the 99th percentile in the brain over all maps. Maps, mask and image share a
    grid. `FigureInputError` without a map.
    """
    if not maps:
        raise FigureInputError(f"there is no map with the label {label}")
    inside = mask.data > 0
    high = max(_largest(each.data[inside], 99) for each in maps.values())
    below = [slices.gray(background, mask)] if background else []
    cuts = slices.spread_cuts(mask, 3.0, (2, _N_PLANES))
    layers = {
        name: Layer(
            image=each.like(np.where(inside, each.data, np.nan)),
            low=0.0,
            high=high,
            colors="viridis",
            alpha=0.9,
        )
        for name, each in maps.items()
    }
    rows = [slices.row_of(name, cuts, *below, each) for name, each in layers.items()]
    return slices.image_figure(rows, scale=next(iter(layers.values())), label=label)


def variance_figure(
    weight: Volume,
    mask: Volume,
    background: Volume | None = None,
    *,
    n_slices: int = _N_PLANES,
    source: str = "the acquired series",
) -> Figure:
    """Plot the standard deviation of fluctuations in signal units, below the anatomy.

    Mask and anatomy are on its grid.
    """
    shown = weight.like(np.where(mask.data > 0, weight.data, np.nan))
    scale = Layer(image=shown, low=0.0, high=_largest(shown.data, 99), colors="inferno")
    cuts = slices.spread_cuts(mask, 2.0, (2, n_slices))
    anatomy = [slices.gray(background, mask)] if background else []
    rows = [slices.row_of("", cuts, each) for each in (*anatomy, scale)]
    label = f"standard deviation of the fluctuations (signal units), estimated from {source}"
    return slices.image_figure(rows, scale=scale, label=label)


def beyond_figure(
    maps: Mapping[str, Volume],
    mask: Volume,
    *,
    scores: Mapping[str, float],
    score: str,
    percent: float | None = None,
) -> Figure:
    """Plot effects (signal units) that only the highest band holds, for each series.

    All series share one color scale.

    The last map chooses two planes, at least two apart, and a part of each: where it is strongest.
    `scores` are written beside a series' name, as values of `score`; one unit is so many `percent`
    of the brain's mean signal. Raises `FigureInputError` without a map.
    """
    if not maps:
        raise FigureInputError("no map above the acquired Nyquist frequency to draw")
    shown = {
        name: each.like(np.where(mask.data > 0, each.data, np.nan)) for name, each in maps.items()
    }
    last = slices.canonical(list(shown.values())[-1])
    whole = slices.box_of(mask, 3.0)
    energy = np.square(np.nan_to_num(last.data))
    planes = slices.strongest_planes(energy.sum(axis=(0, 1)), 2, 2) or [energy.shape[2] // 2]
    boxes = [
        slices.part_of(whole, _center(energy[:, :, k]) * last.zooms, _PART_MM) for k in planes
    ]
    cuts = [
        Cut(axis=2, at=(k + 0.5) * last.zooms[2], box=box)
        for k, box in zip(planes, boxes, strict=True)
    ]
    # of the last alone: a series gone wild would make the others pale
    high = max(_largest(slices.cut_out(last, cut)[0], 99) for cut in cuts)
    layers = {
        name: Layer(image=each, low=-high, high=high, colors="RdBu_r")
        for name, each in shown.items()
    }
    known = {name: value for name in shown if math.isfinite(value := scores.get(name, math.nan))}
    titles = {
        name: series_text(name) + (f" ({number(known[name])})" if name in known else "")
        for name in shown
    }
    rows = [
        (
            "",
            [
                Panel(cut=cut, shown=[each], title=titles[name] * (cut is cuts[0]))
                for name, each in layers.items()
            ],
        )
        for cut in cuts
    ]
    label = (
        "effect above the acquired Nyquist frequency"
        f" ({s.units_text(percent)}){f'; in brackets: {score}' if known else ''}"
    )
    return slices.image_figure(
        rows, scale=next(iter(layers.values())), label=label, tallest=_TALL, ground=s.GRID
    )


def _center(weights: Array) -> Array:
    """Middle of a plane (x, y, 0; voxels from its corner), by weight."""
    return np.array(
        [
            *(
                np.average(np.arange(n) + 0.5, weights=weights.sum(1 - k) + 1e-12)
                for k, n in enumerate(weights.shape)
            ),
            0.0,
        ]
    )


def pair_figure(images: Mapping[str, Volume], mask: Volume | None) -> Figure:
    """Plot two registered images in rows, each with its voxel size.

    An example is the pair that the network learns from.

    The mask, on the grid of the first, chooses the planes.

    `mask`: voxels that choose the planes (3D); None or empty takes the whole image.
    """
    first = next(iter(images.values()))
    inside = (
        first.like(np.ones(first.data.shape)) if mask is None or not np.any(mask.data) else mask
    )
    cuts = slices.spread_cuts(inside, 5.0, (2, _N_PLANES))
    rows = []
    for name, image in images.items():
        size = size_text(slices.canonical(image).zooms, unit="\u00a0mm")  # on one line
        rows.append(slices.row_of(f"{name}\n{size}", cuts, slices.gray(image, inside)))
    return slices.image_figure(rows)


def series_figure(
    series: Mapping[str, Volume],
    roi: Volume,
    *,
    mask: Volume | None = None,
    reference: str = "bspline",
) -> Figure:
    """Plot a slice of one volume in all series: whole, enlarged and as a difference.

    The difference is to the series `reference`.

    `series`: columns from left to right; all on the high-resolution grid, but for those on the
    acquired grid.
    """
    brain, base = mask or roi, series.get(reference)
    if base is None or base.data.shape != roi.data.shape:
        raise FigureInputError(
            f"no series {reference!r} on the grid {roi.data.shape} among {list(series)}"
        )
    fine = {name: each for name, each in series.items() if each.data.shape == roi.data.shape}
    changes = {name: each.like(each.data - base.data) for name, each in fine.items()}
    low, high = slices.gray_limits(base, brain)
    # a change of the whole gray scale would be shown white in a figure of identical series, hence
    # not below 1 %
    most = max(
        [
            0.01 * (high - low),
            *(_largest(each.data[brain.data > 0], 99) for each in changes.values()),
        ]
    )
    area = slices.canonical(roi)
    index = int(np.argmax((area.data > 0).sum(axis=(0, 1))))
    in_plane = np.zeros(area.data.shape, bool)
    in_plane[:, :, index] = area.data[:, :, index] > 0
    near = slices.box_of(Volume(in_plane, area.affine), 8.0)
    box = slices.part_of(near, near.mean(axis=0), _PART_MM)
    at = (index + 0.5) * float(area.zooms[2])
    whole, close = (Cut(axis=2, at=at, box=each) for each in (slices.box_of(brain, 8.0), box))
    outlined = (
        []
        if slices.is_brain(roi.data, brain.data)
        else [Outline(image=roi, color=s.ROI_COLOR, width=0.6)]
    )
    signal = {name: Layer(image=each, low=low, high=high) for name, each in series.items()}
    change = {
        name: Layer(image=each, low=-most, high=most, colors="RdBu_r")
        for name, each in changes.items()
    }
    top = [
        Panel(cut=whole, shown=[signal[name]], title=series_text(name), framed=box)
        for name in series
    ]
    middle = [Panel(cut=close, shown=[signal[name], *outlined]) for name in series]
    bottom = [
        (
            Panel(cut=close, shown=[change[name]])
            if name in change
            else Panel(
                cut=close,
                shown=[],
                words=f"acquired grid\n{size_text(slices.canonical(each).zooms)}",
            )
        )
        for name, each in series.items()
    ]
    rows = {"signal": top, "enlarged": middle, f"minus\n{reference}": bottom}
    return slices.image_figure(
        list(rows.items()),
        tallest=_TALL,
        scale=change[reference],
        label=f"difference from {reference} (signal units)",
    )


def surface_figure(
    values: Sequence[Array], surfaces: Sequence[tuple[Array, Array]], display: Display, title: str
) -> Figure:
    """Plot a map on both hemispheres, each from outside and from inside.

    `values`: values at the vertices of the left and the right hemisphere (N,); NaN is not drawn.
    `surfaces`: vertices (N, 3; RAS+ mm) and triangles (F, 3) of both.
    """
    high = max(display.floor, float(f"{_largest(np.concatenate(values), 99.9):.2g}"))
    scale = ScalarMappable(Normalize(-high, high), _MAP_CMAP)
    fig = s.new_figure(slices.WIDTH, 2.8)
    fig.set_label(title)
    fig.suptitle(title)
    for column in range(4):
        (points, faces), own = surfaces[column // 2], values[column // 2]
        corners = points[faces]
        shown = own[faces].mean(axis=1)
        normals = np.cross(*np.diff(corners, axis=1).swapaxes(0, 1))
        light = np.abs(normals[:, :1]) / np.linalg.norm(normals, axis=1, keepdims=True)
        above = np.abs(shown)[:, None] > display.threshold
        colors = (0.4 + 0.6 * light) * np.where(above, scale.to_rgba(shown)[:, :3], 0.75)
        # seen from the left or from the right, what is nearest is drawn last
        from_right = 1 if column % 2 else -1
        order = np.argsort(from_right * corners[..., 0].mean(axis=1))
        flat: Any = corners[order][..., 1:] * [from_right, 1]
        ax = fig.add_axes((0.01 + 0.235 * column, 0.02, 0.225, 0.86))
        drawn = PolyCollection(flat, facecolors=colors[order], linewidths=0, antialiaseds=False)
        drawn.set_rasterized(True)
        ax.add_collection(drawn)
        ax.autoscale_view()
        ax.set_aspect("equal")
        s.blank(ax)
    s.color_bar(fig, scale, (0.957, 0.12, 0.008, 0.7), display.label)
    return fig
