"""Maps of the picture on the first screen: effects, detail, and the test of a run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from scipy import ndimage

from bids_sr.engine.artifacts import Derivative
from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.evaluation.result import RunResult
from bids_sr.evaluation.result_text import quote_contrast
from bids_sr.evaluation.steps.half_resolution_maps import load_half_resolution_maps
from bids_sr.glm.activation_regions import SIGN_RELIABLE
from bids_sr.glm.map_sidecars import MEAN_SIGNAL
from bids_sr.io.arrays import Float, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.json_values import as_number
from bids_sr.io.series import ACQUIRED, ACQUIRED_BAND, MEASURED
from bids_sr.io.smoothing_words import smoothing_text
from bids_sr.io.volume import Volume
from bids_sr.report.figure_steps.display_grids import read_grid, resample_to
from bids_sr.report.figure_steps.run_maps import SceneImages, ShownMaps
from bids_sr.spatial.nyquist import beyond_nyquist

if TYPE_CHECKING:
    from bids_sr.report.figures.result_picture import PanelGroup, PicturePanel

_UNITS = {"effect": "% of signal"}


@frozen
class PictureMaps:
    """Maps for the picture of a run, or of all runs of a participant together.

    `result` decides what is shown, of the contrast `contrast`. `known` is the known activation in
    percent; None if there is none. `half_resolution` is the file with the maps of the test; None
    if the run was not tested. `reduced` is the voxel size of the downsampled run in words.
    """

    shown_maps: ShownMaps
    images: SceneImages
    result: RunResult
    contrast: str
    factor: Factor
    known: Volume | None = None
    half_resolution: Path | None = None
    reduced: str = ""

    @property
    def name(self) -> str:
        """Name of the contrast on the page."""
        names = [change.name for change in self.result.changes]
        return names[0] if names else quote_contrast(self.contrast).strip("“”")

    @property
    def stat(self) -> str:
        """Statistic that is shown: the effect if it was mapped, otherwise t or CC."""
        stats = {stat for name, stat, _ in self.shown_maps.stats if name == self.contrast}
        return next((stat for stat in ("effect", "t", "cc") if stat in stats), "")

    @property
    def by_series(self) -> Mapping[str, Derivative]:
        """Maps of the contrast at the least smoothing, by series."""
        width = self.shown_maps.find_least_smoothing(self.contrast, self.stat)
        return self.shown_maps.stats[self.contrast, self.stat, width]

    @property
    def brain(self) -> MaskArray:
        """Brain on the high-resolution grid, the common grid of all panels."""
        return np.asarray(self.images.bold_mask_hr.data) > 0

    def to_grid(self, volume: Volume) -> Volume:
        """Return an image on the common grid, with the voxels of its own grid."""
        return resample_to(volume, *read_grid(self.images.bold_mask_hr), order=0)

    def find_region(self, kind: str) -> MaskArray | None:
        """Return a region of the method's map of the contrast, None if there is no such region."""
        widths = [width for name, label, width in self.shown_maps.regions if name == self.contrast]
        regions = self.shown_maps.regions.get((self.contrast, kind, min(widths, default=0)), {})
        region = regions.get(self.result.method)
        return None if region is None else np.asarray(region.volume.data) > 0


def draw_picture(maps: PictureMaps) -> Markup:
    """Draw the picture of the first screen; "" if the acquired series has no map."""
    return _render_groups(maps, _make_groups)


def draw_error(maps: PictureMaps) -> Markup:
    """Draw the effect of the method and the SD of its error, with the sign reliable voxels.

    "" if one of the maps is missing, or if the detail may not be interpreted.
    """
    return _render_groups(maps, _make_error_groups)


def _render_groups(
    maps: PictureMaps, make_groups: "Callable[[PictureMaps, float], list[PanelGroup]]"
) -> Markup:
    """Render groups of panels in the square with most acquired activation, on one scale."""
    from bids_sr.report.figures.result_picture import (
        CAP_PERCENT,
        choose_square,
        render_picture,
        scale_end,
    )

    if not maps.stat or ACQUIRED not in maps.by_series:
        return Markup("")
    acquired = maps.to_grid(maps.by_series[ACQUIRED].volume)
    cap = CAP_PERCENT if maps.stat == "effect" else np.inf
    square = choose_square(acquired, _select_active(maps), cap)
    limit = scale_end(acquired, square, cap)
    groups = make_groups(maps, limit)
    if not groups:
        return Markup("")
    return render_picture(
        groups,
        square,
        resample_to(maps.images.boldref, *read_grid(maps.images.bold_mask_hr)),
        limit=limit,
        unit=_UNITS.get(maps.stat, maps.stat),
        subject=f"{maps.stat} of {maps.contrast}",
    )


def _select_active(maps: PictureMaps) -> MaskArray:
    """Return the voxels that are active in the acquired map, or the brain if there are none.

    In a contrast over runs, they are the largest cluster of significant voxels; without these, the
    regions that were named.
    """
    significant = maps.find_region("Fdr") if maps.result.changes else None
    if significant is not None and significant.any():
        labels, _ = ndimage.label(significant)
        return np.asarray(labels == np.bincount(labels[labels > 0]).argmax())
    named = np.asarray(maps.images.roi_hr.data) > 0
    if any(not change.is_search for change in maps.result.changes) and named.any():
        return named
    width = maps.shown_maps.find_least_smoothing(maps.contrast, maps.stat)
    t = maps.shown_maps.stats.get((maps.contrast, "t", width), {}).get(ACQUIRED)
    if t is None:
        return maps.brain
    active = (np.abs(maps.to_grid(t.volume).data) > TRUE_T) & maps.brain
    return active if active.any() else maps.brain


def _make_groups(maps: PictureMaps, limit: float) -> "list[PanelGroup]":
    """Return the panels of the picture in groups.

    If the detail was compared with a reference, these are acquired, super-resolved and reference
    effect, and added and true detail. Without a reference, they are the super-resolved effect, and
    the maps of the test. In a contrast over runs, they are both effects, and the mask. If no
    detail may be interpreted, they are the acquired and the B-spline effect.
    """
    from bids_sr.report.figures.result_picture import PanelGroup

    result, by_series = maps.result, maps.by_series
    title = f"{'Effect' if maps.stat == 'effect' else maps.stat} of {maps.name}"
    acquired = _make_panel(maps, "acquired", result.acquired, by_series[ACQUIRED].volume)
    shown = result.shown
    if result.changes and result.method in by_series:
        volume = by_series[result.method].volume
        outline = maps.find_region("Fdr")
        is_found = outline is not None and bool(outline.any())
        note = "FDR .05 outlined" if is_found else "no voxel with FDR .05"
        panels = [acquired, _make_panel(maps, result.method, note, volume, outline)]
        width = maps.shown_maps.find_least_smoothing(maps.contrast, maps.stat)
        return [PanelGroup(title, smoothing_text(width, 0), panels)]
    if shown is None or shown.active.deciding_row is None or result.method not in by_series:
        panels = [acquired]
        if "bspline" in by_series:
            volume = by_series["bspline"].volume
            panels.append(_make_panel(maps, "B-spline", result.final, volume))
        return [PanelGroup(title, "", panels)]
    outline = maps.find_region(SIGN_RELIABLE)
    note = result.final if outline is None else f"{result.final}, mask outlined"
    volume = by_series[result.method].volume
    method = _make_panel(maps, result.method, note, volume, outline)
    has_measured = MEASURED in by_series and result.is_measured
    reference = by_series[MEASURED].volume if has_measured else maps.known
    if reference is None:
        if tested_groups := _make_test_groups(maps, limit):
            return [PanelGroup(title, "", [method]), *tested_groups]
        return [PanelGroup(title, "", [acquired, method]), *_show_detail(maps, limit, volume)]
    name = "measured" if has_measured else "known"
    measured = _make_panel(maps, name, f"{result.final}, reference", reference)
    panels = [acquired, method, measured]
    return [PanelGroup(title, "", panels), *_show_detail(maps, limit, volume, reference)]


def _make_error_groups(maps: PictureMaps, _limit: float) -> "list[PanelGroup]":
    """Return the panels of an effect and its error; [] if they are missing or not to be used."""
    from bids_sr.report.figures.result_picture import PanelGroup

    method, stats = maps.result.method, maps.shown_maps.stats
    effect = maps.by_series.get(method)
    widths = [width for name, stat, width in stats if (name, stat) == (maps.contrast, "sd")]
    error = stats.get((maps.contrast, "sd", min(widths, default=0)), {}).get(method)
    is_used = maps.result.shown is not None or not maps.result.contrasts
    if maps.stat != "effect" or effect is None or error is None or not is_used:
        return []
    outline = maps.find_region(SIGN_RELIABLE)
    note = "" if outline is None else "sign reliable voxels outlined"
    panels = [
        _make_panel(maps, f"effect of {method}", note, effect.volume, outline),
        _make_panel(maps, "SD of the reconstruction error", "", error.volume),
    ]
    return [PanelGroup(f"Contrast {maps.name}", "", panels)]


def _show_detail(
    maps: PictureMaps, limit: float, effect: Volume, reference: Volume | None = None
) -> "list[PanelGroup]":
    """Return the panels of the added and, with a reference, the true detail of the effect.

    The list is empty for statistics other than effects.
    """
    from bids_sr.report.figures.result_picture import PanelGroup

    if maps.stat != "effect":
        return []
    title = f"Detail finer than {maps.result.acquired}"
    added = _take_detail(maps, effect)
    if reference is None:
        return [PanelGroup(title, "", [_make_panel(maps, "added", "", added)])]
    true = _take_detail(maps, reference)
    return [PanelGroup(title, "", _show_wrong_signs(maps, added, true, maps.brain, limit))]


def _take_detail(maps: PictureMaps, effect: Volume) -> Volume:
    """Return the detail of an effect on the high-resolution grid.

    Zero filling has the same effect without detail, with the same edge of the brain. Without its
    map, the effect is filtered.
    """
    zero_filled = maps.by_series.get(ACQUIRED_BAND)
    if zero_filled is None:
        return effect.like(beyond_nyquist(effect.data, maps.factor))
    return effect.like(effect.data - zero_filled.volume.data)


def _make_test_groups(maps: PictureMaps, limit: float) -> "list[PanelGroup]":
    """Return the panels of the test at half the resolution; [] if the contrast was not tested."""
    from bids_sr.report.figures.result_picture import PanelGroup

    path = maps.half_resolution
    half = None if path is None else load_half_resolution_maps(path)
    if half is None or maps.contrast not in half.contrasts or maps.stat != "effect":
        return []
    index = half.contrasts.index(maps.contrast)
    percent = 100 / as_number(maps.by_series[ACQUIRED].sidecar[MEAN_SIGNAL])
    acquired = Volume(percent * half.acquired[index], half.affine)
    recovered = acquired.like(acquired.data + percent * half.errors[index])
    reduced = Volume(percent * half.low_effects[0, index], half.low_affine)
    factor = (maps.factor[0], maps.factor[1], 1)
    added, true = (
        volume.like(beyond_nyquist(volume.data, factor)) for volume in (recovered, acquired)
    )
    size = maps.result.acquired
    return [
        PanelGroup(
            "Half-resolution test",
            "",
            [
                _make_panel(maps, "reduced", maps.reduced, reduced),
                _make_panel(maps, "recovered", size, recovered),
                _make_panel(maps, "acquired", size, acquired),
            ],
        ),
        PanelGroup("Tested detail", "", _show_wrong_signs(maps, added, true, half.mask, limit)),
    ]


def _show_wrong_signs(
    maps: PictureMaps, added: Volume, true: Volume, brain: MaskArray, limit: float
) -> "list[PicturePanel]":
    """Return panels of added detail, with a cross at each wrong sign, and of the true detail."""
    from bids_sr.report.figures.result_picture import find_wrong_signs

    crosses = find_wrong_signs(added, true, brain, limit)
    return [
        _make_panel(maps, "added", "× wrong sign", added, crosses=crosses),
        _make_panel(maps, "true", "", true),
    ]


def _make_panel(
    maps: PictureMaps,
    title: str,
    note: str,
    volume: Volume,
    outline: MaskArray | None = None,
    crosses: Float | None = None,
) -> "PicturePanel":
    """Return a panel of an image on any grid of the run."""
    from bids_sr.report.figures.result_picture import PicturePanel

    return PicturePanel(
        title=title,
        note=note,
        image=maps.to_grid(volume),
        brain=maps.brain,
        outline=outline,
        crosses=crosses,
    )
