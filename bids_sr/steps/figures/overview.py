"""Overview figures of a run."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bids_sr.config.levels import StoredMaps
from bids_sr.evaluation.words import EFFECT_UNIT
from bids_sr.frozen import frozen
from bids_sr.glm.map_sidecars import MEAN_SIGNAL
from bids_sr.io.json_values import as_number
from bids_sr.pipeline.artifacts import (
    Confounds,
    Derivative,
    Evidence,
    Facts,
    Image,
    Map,
    Rows,
    Verdict,
    Volume,
)
from bids_sr.pipeline.figure import FigureDrawing, figure
from bids_sr.report.sections import FigureSpec
from bids_sr.series import ACQUIRED, MEASURED
from bids_sr.steps.error_maps import SIGN_RELIABLE, SIZE_KNOWN
from bids_sr.steps.figures import run_maps as run_maps_figures
from bids_sr.steps.figures.run_maps import SceneImages, ShownMaps
from bids_sr.steps.map_comparison import SortedMaps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bids_sr.figures.maps import Display, Scene
    from bids_sr.report.overview import MapFiles

ANY_LABEL = "any"
"""Placeholder of the contrast in a file name, to be replaced by ``*`` in a file pattern."""
EFFECT_SHARE = 0.2
"""Threshold of effects, relative to the limit of the color scale."""
FINER_EFFECTS = (
    "For simulated effects with finer spatial structure (3-mm texture), the actual error was 1.9"
    " to 2.6 times as large as the SD."
)
"""Range of the ratio error / SD for textures of 3 mm in
``benchmarks/results/posterior_foreign.md``.
"""

_SD_CAPTION = (
    "Effect and standard deviation (SD) of the reconstruction error, in the same axial slice as"
    " above and with the same color scale. {outline} The SD was computed under the assumption that"
    " the effect has the same spatial spectrum as the signal fluctuations in the run."
    f" {FINER_EFFECTS}"
)
"""Caption of the reconstruction error, with a sentence on the outline of sign reliable voxels."""


@frozen
class _ContrastMaps:
    """Maps of a run, with the contrast that is drawn and its scene.

    `shown_maps` contains the maps and regions of all contrasts. `title` is kind and name of the
    contrast, for texts. `scene` has the background, brain and region of interest.
    """

    shown_maps: ShownMaps
    contrast: str
    title: str
    scene: "Scene"

    @property
    def center_voxel(self) -> tuple[int, int, int]:
        """Voxel that the drawn slice passes through: the peak of the acquired map."""
        return run_maps_figures.peak_of_acquired(self.shown_maps, self.contrast, self.scene)

    def choose_stat(self, *, prefers_effect: bool) -> str:
        """Return the statistic to draw: t, or cc if there is no t map.

        If `prefers_effect` is True, effects are drawn if they exist.
        """
        stats = {stat for name, stat, _ in self.shown_maps.stats if name == self.contrast}
        if prefers_effect and "effect" in stats:
            return "effect"
        return "t" if "t" in stats else "cc"


@figure(
    FigureSpec(
        "overview",
        "overview",
        html=True,
        missing="overview of the run",
        remark="a required step did not finish",
    ),
    FigureSpec(
        "overview",
        "overview",
        caption=(
            "Left: axial slice through the peak of the acquired map (unsmoothed), with the z"
            " coordinate in scanner space (mm). Right: region in the yellow frame, one panel per"
            " series. All panels have the same color scale and threshold. The map viewer below"
            " initially shows the same location."
        ),
    ),
    FigureSpec(
        "signReliable",
        "overview",
        caption=_SD_CAPTION.format(outline="Sign reliable voxels are outlined."),
    ),
)
def draw_overview(
    evaluation: Rows,
    verdict: Verdict,
    evidence: Evidence,
    registration: Facts,
    confounds: Confounds,
    maps: list[Map],
    images: SceneImages,
    truth_maps: dict[str, Image] | None = None,
    error_maps: list[Map] | None = None,
    *,
    entities: Mapping[str, str],
    calibrated: bool,
    at_rest: bool,
    description: str,
    stored: StoredMaps,
    only_run: bool = False,
) -> Iterator[FigureDrawing]:
    """Draw the overview of a run: verdict, cards, checks, next step, and up to two figures.

    `truth_maps` are known activation (signal units) by contrast; None if unknown. `error_maps` are
    maps of the reconstruction error. `entities` are labels by long entity name. `calibrated`
    states whether a method used a calibration run. If `at_rest`, maps show seeds instead of
    conditions. `description` of the run is from its sidecar. `stored` determines which maps are
    stored. `only_run` states whether the task has only this run, whose map is then also the map of
    the participant.
    """
    from bids_sr.report.overview import RunFacts, overview_html

    shown_maps = run_maps_figures.sort_maps([*maps, *(error_maps or ())])
    contrast = shown_maps.choose_contrast(evidence.contrast)
    run = RunFacts(
        entities=entities,
        displacement=[float(value) for value in confounds["framewise_displacement"]],
        acquired_mm=images.boldref.zooms.tolist(),
        super_resolved_mm=images.bold_mask_hr.zooms.tolist(),
        calibrated=calibrated,
        at_rest=at_rest,
        described=description,
        files=list_map_files(shown_maps, evidence.best, stored, entities),
        only_run=only_run,
    )
    cards = overview_html(verdict, evidence, evaluation, registration, run)
    yield FigureDrawing("overview", cards)
    contrast_maps = _ContrastMaps(
        shown_maps=shown_maps,
        contrast=contrast,
        title=f"{'seed' if at_rest else 'contrast'} {contrast}",
        scene=images.scene(),
    )
    known_activation = (truth_maps or {}).get(contrast)
    yield FigureDrawing("overview", _draw_zoomed(contrast_maps, evidence.best, known_activation))
    states = {result.map_contrast: result.state for result in evidence.best_results.values()}
    state = states.get(contrast, "")
    sign_reliable_drawing = _draw_sign_reliable(contrast_maps, evidence.best, state)
    if sign_reliable_drawing:
        caption = _SD_CAPTION.format(outline=_describe_outline(contrast, state))
        yield FigureDrawing("signReliable", sign_reliable_drawing, caption=caption)


def list_map_files(
    shown_maps: ShownMaps, series: str, stored: StoredMaps, entities: Mapping[str, str]
) -> "list[MapFiles]":
    """Return the stored map files of a series, by ascending smoothing width.

    Maps are effects or, if effects are not stored, maps of the displayed statistic. Each pattern
    matches the files of all contrasts and no other files.
    """
    from bids_sr.report.overview import MapFiles

    stored_stats = {
        (fwhm_mm, stat)
        for (contrast, stat, fwhm_mm), maps_by_series in shown_maps.stats.items()
        if series in maps_by_series and stored.includes(series, contrast, fwhm_mm, stat)
    }
    stats = ("effect", shown_maps.display.statistic)
    map_files = []
    for fwhm_mm in sorted({fwhm_mm for fwhm_mm, stat in stored_stats if stat in stats}):
        stat = next(stat for stat in stats if (fwhm_mm, stat) in stored_stats)
        maps, total_sds = (
            _make_file_pattern(shown_maps.stats, kind, fwhm_mm, series, "contrast", entities)
            for kind in (stat, "sdTotal")
        )
        sign_reliable, size_known = (
            _make_file_pattern(shown_maps.regions, label, fwhm_mm, series, "label", entities)
            for label in (SIGN_RELIABLE, SIZE_KNOWN)
        )
        has_error = stat == "effect"  # error maps and masks are stored with the effect
        map_files.append(
            MapFiles(
                fwhm_mm=fwhm_mm,
                maps=maps,
                total_sds=total_sds if has_error else "",
                sign_reliable=sign_reliable if has_error else "",
                size_known=size_known if has_error else "",
            )
        )
    return map_files


def _make_file_pattern(
    maps: SortedMaps,
    kind: str,
    fwhm_mm: float,
    series: str,
    contrast_entity: str,
    entities: Mapping[str, str],
) -> str:
    """Return the pattern of a series' map files for all contrasts; "" if there is no such map.

    `maps` are by contrast, kind and smoothing, and by series. `kind` is a statistic or a kind of
    region. `fwhm_mm` is the smoothing (FWHM). `contrast_entity` is the entity of the contrast in
    the file names, and `entities` are labels of the run by long entity name.
    """
    for (_, map_kind, map_fwhm_mm), maps_by_series in maps.items():
        if (map_kind, map_fwhm_mm) != (kind, fwhm_mm) or series not in maps_by_series:
            continue
        statmap = maps_by_series[series]
        placeholder = replace(statmap, entities={**statmap.entities, contrast_entity: ANY_LABEL})
        path = run_maps_figures.stored_path(placeholder, entities)
        return path.replace(f"{contrast_entity}-{ANY_LABEL}", f"{contrast_entity}-*")
    return ""


def _draw_zoomed(
    contrast_maps: _ContrastMaps, best_series: str, known_activation: Volume | None
) -> "Figure":
    """Draw acquired, B-spline, best and reference maps in one slice, on the same color scale.

    Effects are drawn if the activation (3D, signal units) is known, otherwise t or CC.
    """
    from bids_sr.figures.map_viewer import SERIES_TITLES
    from bids_sr.figures.maps import CC_DISPLAY, T_DISPLAY, plot_zoomed_maps

    shown_maps, contrast = contrast_maps.shown_maps, contrast_maps.contrast
    stat = contrast_maps.choose_stat(prefers_effect=bool(known_activation))
    fwhm_mm = shown_maps.find_least_smoothing(contrast, stat)
    maps_by_series = dict(shown_maps.stats[contrast, stat, fwhm_mm])
    drawn_names = [
        name for name in (ACQUIRED, "bspline", best_series, MEASURED) if name in maps_by_series
    ]
    if known_activation and stat == "effect" and MEASURED not in maps_by_series:
        mean_signal = as_number(next(iter(maps_by_series.values())).sidecar[MEAN_SIGNAL])
        percent = known_activation.data * np.float32(100 / mean_signal)
        maps_by_series["truth"] = Derivative(known_activation.like(percent), {})
        drawn_names.append("truth")
    volumes = {SERIES_TITLES.get(name, name): maps_by_series[name].volume for name in drawn_names}
    if stat == "effect":
        limit = run_maps_figures.color_limit(maps_by_series.values(), 0.0)
        display = _make_effect_display(limit)
    else:
        display = T_DISPLAY if stat == "t" else CC_DISPLAY
        limit = run_maps_figures.color_limit(maps_by_series.values(), display.floor)
    drawing = plot_zoomed_maps(
        volumes,
        contrast_maps.scene,
        display=display,
        limit=limit,
        center_voxel=contrast_maps.center_voxel,
    )
    smoothing = f"smoothed with a {fwhm_mm:g} mm FWHM kernel" if fwhm_mm else "unsmoothed"
    drawing.set_label(
        f"Axial slice of the {stat} maps for {contrast_maps.title}, {smoothing}. Series:"
        f" {', '.join(volumes)}."
    )
    return drawing


def _draw_sign_reliable(contrast_maps: _ContrastMaps, series: str, state: str) -> "Figure | None":
    """Draw the effect of a series and the SD of its error, with outlined sign reliable voxels.

    The region is outlined only if `state`, the result for the detail of the contrast, is
    recovered. None is returned if a map is missing.
    """
    from bids_sr.figures.maps import plot_zoomed_maps

    shown_maps, contrast = contrast_maps.shown_maps, contrast_maps.contrast
    widths = [
        fwhm_mm for name, stat, fwhm_mm in shown_maps.stats if (name, stat) == (contrast, "sd")
    ]
    if not widths:
        return None
    fwhm_mm = min(widths)
    effect, error_sd = (
        shown_maps.stats[contrast, stat, fwhm_mm].get(series) for stat in ("effect", "sd")
    )
    if effect is None or error_sd is None:
        return None
    limit = run_maps_figures.color_limit([effect, error_sd], 0.0)
    region = None
    if state == "recovered":
        region = shown_maps.regions.get((contrast, SIGN_RELIABLE, fwhm_mm), {}).get(series)
    drawing = plot_zoomed_maps(
        {
            f"effect of {series}": effect.volume,
            "SD of the reconstruction error": error_sd.volume,
        },
        contrast_maps.scene,
        display=_make_effect_display(limit),
        limit=limit,
        center_voxel=contrast_maps.center_voxel,
        region=None if region is None else region.volume,
    )
    drawing.set_label(
        f"Effect and SD of the reconstruction error for {series}, {contrast_maps.title}, in one"
        f" axial slice. The sign reliable voxels are {'not ' if region is None else ''}outlined."
    )
    return drawing


def _make_effect_display(limit: float) -> "Display":
    """Return the display of effects with a color scale that ends at `limit` (percent)."""
    from bids_sr.figures.maps import Display

    threshold = float(f"{EFFECT_SHARE * limit:.2g}")
    return Display(statistic="effect", threshold=threshold, floor=0.0, unit=EFFECT_UNIT)


def _describe_outline(contrast: str, state: str) -> str:
    """Return a sentence on the outline of sign reliable voxels, or on why there is none."""
    if state == "recovered":
        return (
            "The white outline, if there is one, shows the sign reliable voxels. At most 5 % of"
            " these voxels are expected to have the wrong sign."
        )
    return (
        "There is no outline of sign reliable voxels, because the detail of the contrast"
        f" {contrast} is {state or 'not testable'}."
    )
