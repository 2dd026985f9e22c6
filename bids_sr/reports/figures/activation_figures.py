"""Figures of activation: the maps of all series side by side on one scale, and the regions of two conditions."""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.reports.figures import style as s
from bids_sr.reports.figures.style import FigureInputError, Look, NamedImage, ShownVolume, Window
from bids_sr.reports.tables.evaluation_rows import series_text


@frozen
class Display:
    """How a statistic is shown: |value| up to `threshold` is not drawn, the color scale ends at `floor` or above."""

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
FDR_COLOR = "white"
MAP_COLORS = (
    "#b3f3ff", "#4fb6f2", "#1f6fd6", "#123a9c", "#0b1f66", "#6b1200", "#b33100", "#ea6a00", "#ffb000", "#fff3a0",
)  # fmt: skip
"""Blue below 0, orange above, as color-blind readers tell them; dark near 0 and light far from it, never gray."""
MAP_CMAP = LinearSegmentedColormap.from_list("bids-sr-maps", MAP_COLORS)
COLUMNS = 8
"""Panels side by side; fewer are no larger, so that a thin slab makes no tall figure."""
ZOOM_MM = (72.0, 62.0)


@frozen
class Scene:
    """What lies below all overlays of a run: signal, brain and region of interest (X, Y, Z), and voxel → RAS mm."""

    background: Array
    mask: Array
    roi: Array
    affine: Array

    @property
    def roi_is_brain(self) -> bool:
        """True where the region is the whole brain (nothing to outline or to zoom into)."""
        return s.is_brain(self.roi, self.mask)

    def canonical(self, data: Array) -> ShownVolume:
        """An array on the scene's grid in RAS order."""
        return s.canonical(data, self.affine)


class _Panels:
    """Background, overlay and the region's outline in windows."""

    def __init__(self, scene: Scene) -> None:
        self.brain = scene.canonical(np.asarray(scene.mask > 0))
        self._below = scene.canonical(scene.background)
        self._outline = None if scene.roi_is_brain else scene.canonical(np.asarray(scene.roi > 0, dtype=np.float32))
        self._low, self._high = s.gray_limits(self._below.data, self.brain.data)

    def show(self, ax: Axes, overlay: ShownVolume, window: Window, **colors: Unpack[Look]) -> AxesImage:
        """Draw one panel; returns the overlay's image."""
        s.show_window(ax, self._below, window, vmin=self._low, vmax=self._high)
        image = s.show_window(ax, overlay, window, **colors)
        s.show_window_contour(ax, self._outline, window, s.ROI_COLOR, width=0.7)
        return image


def informative_planes(scene: Scene, first: NamedImage, n_slices: int) -> list[int]:
    """Planes to show: where the *first* map is strongest inside the region, some way apart.

    One map (on any grid of the same field of view) chooses for all, so that no method shows its own best slices.
    Returns ascending indices along the third axis of the RAS-ordered background.
    """
    area = scene.canonical(np.asarray(scene.roi > 0))
    chooser = s.canonical(np.nan_to_num(first.data), first.affine)
    strength = np.sort(np.abs(chooser.data).reshape(-1, chooser.data.shape[2]), axis=0)[-20:].mean(axis=0)
    places = np.array([chooser.position(2, k) for k in range(len(strength))])
    own = np.array([area.position(2, k) for k in range(area.data.shape[2])])
    score = np.interp(own, places, strength) * (area.data.sum(axis=(0, 1)) > 0)
    if not score.any():
        score = np.interp(own, places, strength) + 1e-6
    return s.planes_apart(score, n_slices, max(1, int(np.count_nonzero(score) / (2.0 * n_slices))))


def common_scale(maps: Sequence[NamedImage], floor: float) -> float:
    """Upper end of the color scale of one contrast, statistic and smoothing, wherever its maps are shown.

    The median over all series of the 99.9th percentile of |value| where it is not 0, in two digits, or the floor.
    Overview, viewer and figures of activation take it from all series, whichever of them they show, so that one color
    is one value on the page.
    """
    known = [np.abs(each.data[np.isfinite(each.data) & (each.data != 0)]) for each in maps]
    tops = [float(np.percentile(values, 99.9)) for values in known if values.size]
    return max(floor, float(f"{np.median(tops):.2g}")) if tops else floor


def _windows(scene: Scene, brain: ShownVolume, planes: Sequence[int], first: NamedImage) -> list[Window]:
    """Boxes and planes, left to right: the whole brain, then the neighborhood of the first map's peak in the region."""
    whole = s.bounding_box(brain.data, brain.zooms, margin_mm=3.0)
    windows: list[Window] = [(whole, k) for k in planes]
    if scene.roi_is_brain:
        return windows
    area = scene.canonical(np.asarray(scene.roi > 0))
    values = np.abs(s.repeated(s.canonical(np.nan_to_num(first.data), first.affine), brain).data) * area.data
    peak = np.unravel_index(np.argmax(values[:, :, planes]), (*values.shape[:2], len(planes)))
    size = (64.0, 64.0 * s.height_over_width(whole, brain))
    close = s.limited_box(whole, brain, size, (float(peak[0]), float(peak[1])))
    return windows + [(close, k) for k in planes]


def peak_voxel(first: NamedImage, mask: Array, affine: Array) -> tuple[int, int, int]:
    """Voxel of the largest |value| of a map inside a brain mask: where the overview and the viewer of a run open.

    `first` may be on any grid of the same field of view as `mask` (X, Y, Z; `affine`: voxel to RAS mm). The indices
    are those of the mask's grid in RAS order.
    """
    brain = s.canonical(np.asarray(mask > 0), affine)
    found = s.repeated(s.canonical(np.abs(np.nan_to_num(first.data)), first.affine), brain).data * brain.data
    x, y, z = (int(k) for k in np.unravel_index(np.argmax(found), found.shape))
    return x, y, z


def activation_figure(
    maps: Sequence[NamedImage], scene: Scene, *, display: Display = T_DISPLAY, n_slices: int = 4,
    limit: float | None = None,
) -> Figure:  # fmt: skip
    """Maps of one contrast: a row each series, columns the same planes, whole and zoomed into the region.

    The first map chooses the planes; one color scale, which ends at `limit` (default: `common_scale` of the maps), and
    one threshold hold for all rows. Where the region is the brain, twice `n_slices` planes take the place of the zoom.
    Raises `FigureInputError` without a map.
    """
    if not maps:
        raise FigureInputError("there is no map to draw")
    panels = _Panels(scene)
    brain = panels.brain
    planes = informative_planes(scene, maps[0], n_slices if not scene.roi_is_brain else 2 * n_slices)
    windows = _windows(scene, brain, planes, maps[0])
    limit = limit or common_scale(maps, display.floor)
    colors: Look = {"cmap": MAP_CMAP, "vmin": -limit, "vmax": limit, "alpha": 0.92}
    columns = max(len(windows), COLUMNS)
    unit = 11.2 / columns * max(s.height_over_width(box, brain) for box, _ in windows)
    with s.style():
        right = 0.066 + 0.933 * len(windows) / columns
        fig, axes = s.panel_grid(len(maps), len(windows), unit, left=0.066, right=right, top=0.05, bottom=0.72)
        image: AxesImage | None = None
        for row, each in zip(axes, maps, strict=True):
            values = np.nan_to_num(each.data)
            over = np.where(np.abs(values) > display.threshold, values, np.nan)
            shown = s.repeated(s.canonical(over, each.affine), brain)
            regions = None
            if each.significant is not None:
                regions = s.repeated(s.canonical(each.significant.astype(np.float32), each.affine), brain)
            for ax, window in zip(row, windows, strict=True):
                image = panels.show(ax, shown, window, **colors)
                s.show_window_contour(ax, regions, window, FDR_COLOR, width=0.6)
            s.name_row(row[0], series_text(each.name), x=0.06, upright=False, size=9.5)
        s.mark_planes(axes[0], brain, [k for _, k in windows])
        s.bar_below(fig, image, display.label, bottom=0.5)
    return fig


def zoomed_figure(
    maps: Sequence[NamedImage], scene: Scene, *, display: Display = T_DISPLAY, limit: float | None = None,
    at: tuple[int, int, int] | None = None,
) -> Figure:  # fmt: skip
    """Maps side by side in one part of one axial plane, on one color scale; at the left, where in the plane it lies.

    `limit` ends the color scale (default: `common_scale` of the maps); `at` is the voxel of the scene, in RAS order, in
    the middle (default: the peak of the first map, that of the acquired series). Raises `FigureInputError` without a
    map.
    """
    if not maps:
        raise FigureInputError("there is no map to draw")
    panels = _Panels(scene)
    brain = panels.brain
    x, y, z = at or peak_voxel(maps[0], scene.mask, scene.affine)
    whole = s.bounding_box(brain.data, brain.zooms, margin_mm=3.0)
    box = s.limited_box(whole, brain, ZOOM_MM, (float(x), float(y)))
    limit = limit or common_scale(maps, display.floor)
    colors: Look = {"cmap": MAP_CMAP, "vmin": -limit, "vmax": limit, "alpha": 0.95}
    count = max(len(maps), 3)
    close, far = (s.height_over_width(each, brain) for each in (box, whole))
    widths = [close / far, *[1.0] * count]  # all panels are equally high
    with s.style(literal=True):
        fig, axes = s.panel_grid(
            1, count + 1, 11.9 / sum(widths) * close, left=0.004, right=0.996, top=0.24, bottom=0.5, widths=widths
        )
        image: AxesImage | None = None
        parts = [whole, *[box] * count]
        for ax, part, each in zip(axes[0], parts, [maps[0], *maps], strict=False):
            data = np.nan_to_num(each.data)
            over = np.where(np.abs(data) > display.threshold, data, np.nan)
            image = panels.show(ax, s.repeated(s.canonical(over, each.affine), brain), (part, z), **colors)
            ax.set_title(each.name if part is box else "", fontsize=11, pad=3)
        for ax in axes[0][len(maps) + 1 :]:
            ax.set_axis_off()
        s.frame(axes[0][0], box, whole, brain.zooms)
        s.mark_sides(axes[0][0], 2)
        s.mark_mm(axes[0][0], 2, float(brain.millimeters((x, y, z))[2]))
        s.bar_below(fig, image, display.label, bottom=0.34)
    return fig
