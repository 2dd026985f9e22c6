"""Figures of the combined map of all runs of a participant."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bids_sr.combination.steps.combined_runs import (
    FRAME,
    LEAST_SHARED_BRAIN,
    grid_differences,
    maps_by_run,
)
from bids_sr.combination.steps.sibling_runs import MOST_NOTED_RATIO
from bids_sr.config.levels import StoredMaps
from bids_sr.glm.activation_regions import fdr_region
from bids_sr.io.arrays import Array
from bids_sr.io.json_values import as_number
from bids_sr.metrics.rows import MetricRow
from bids_sr.pipeline.artifacts import (
    Derivative,
    Facts,
    Map,
    Mask,
    Rows,
    Volume,
)
from bids_sr.pipeline.figure import FigureContent, FigureDrawing, FigureStep, figure
from bids_sr.report.sections import FigureSpec
from bids_sr.run_time import RunTime
from bids_sr.series import MEASURED, RAW
from bids_sr.steps.figures import run_maps as run_maps_figures
from bids_sr.steps.figures.display_grids import compute_percent_factor
from bids_sr.steps.figures.overview import ANY_LABEL, EFFECT_SHARE
from bids_sr.steps.figures.run_maps import SceneImages, ShownMaps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bids_sr.combination.overview import MapError, ParticipantMap
    from bids_sr.figures.maps import Scene

_NORMAL_95 = 1.96
"""Half-width of the 95 % interval in standard deviations."""


@figure(FigureSpec("uncombined", "participant", html=True))
def explain_missing_map(
    *,
    entities: Mapping[str, str],
    names: Sequence[str],
    reasons: Mapping[str, str],
    over_sessions: bool,
) -> FigureContent:
    """Explain why there is no combined map of runs.

    Parameters
    ----------
    entities : Mapping[str, str]
        Common entities of the runs: labels by long entity name.
    names : Sequence[str]
        Names of the runs.
    reasons : Mapping[str, str]
        Why runs cannot be combined, by name of the run.
    over_sessions : bool
        Whether the runs are from several sessions.
    """
    from bids_sr.combination.overview import no_map_html

    return no_map_html(entities, names, reasons, subject=_extent(over_sessions))


def _extent(over_sessions: bool) -> str:
    """Return in words what a combined map contains."""
    return "all sessions" if over_sessions else "all runs"


@figure(
    FigureSpec("participant", "participant", html=True),
    FigureSpec(
        "participant",
        "participant",
        caption=(
            "Effect of all runs together, in percent of the mean brain signal, for the contrast"
            " and smoothing named above. Left: axial slice through the peak of the acquired map"
            " (z in scanner space of the first run, mm). Right: region in the yellow frame, in the"
            " acquired series, after interpolation (B-spline) and after super-resolution, and the"
            " SD of the error of the super-resolved effect. All panels have the same color scale"
            " and threshold, so that an SD below the threshold has no color: colors show where the"
            " error is larger than in most voxels. White outlines show reliable voxels, whose"
            " sign is probably right, or significant voxels (FDR .05) if the reconstruction error"
            " is unknown."
        ),
    ),
    cost=RunTime(always=1.5),
)
def draw_participant(
    maps: list[Map],
    resampled_maps: list[Map],
    rows: Rows,
    images: SceneImages,
    bold_mask: Mask,
    run_rows: dict[str, Rows] | None = None,
    fusion: Facts | None = None,
    *,
    entities: Mapping[str, str],
    percent: bool,
    at_rest: bool,
    stored: StoredMaps,
) -> Iterator[FigureDrawing]:
    """Draw the combined map of all runs: table of runs and errors, and a slice of the effect.

    Parameters
    ----------
    maps : list[Map]
        Combined maps and regions of all series, in the frame of the first run.
    resampled_maps : list[Map]
        Effects, variances and errors of the primary series in each run, in the same frame.
    rows : Rows
        Sizes of the regions in the combined maps of the primary series.
    images : SceneImages
        Images of the first run that the maps are drawn on.
    bold_mask : Mask
        Brain of the first run on the grid of its boldref.
    run_rows : dict[str, Rows] | None, optional
        Sizes of the regions in the maps of each run, by name of the run.
    fusion : Facts | None, optional
        Result of `combination.steps.fused_slices.decide_fusion`; None if runs cannot be fused.
    entities : Mapping[str, str]
        Entities of the combined maps: labels by long entity name.
    percent : bool
        Whether effects are in percent of the mean brain signal.
    at_rest : bool
        Whether maps show seeds instead of conditions.
    stored : StoredMaps
        Rules that determine which maps are stored.
    """
    from bids_sr.combination.overview import (
        no_map_html,
        participant_html,
        slice_sentences,
    )

    shown_maps = run_maps_figures.sort_maps(map(_drop_space, maps))
    by_contrast = maps_by_run(resampled_maps)
    if not shown_maps.stats:
        if not by_contrast:
            return
        names, reason = _reason_of_no_map(by_contrast)
        html = no_map_html(entities, names, {"": reason}, subject=_extent(percent))
        yield FigureDrawing("participant", html)
        return
    best = next(
        name for name in (stored.primary, "bspline", RAW) if _is_available(shown_maps, name)
    )
    contrast = shown_maps.choose_contrast("")
    width = min(
        fwhm for name, stat, fwhm in shown_maps.stats if (name, stat) == (contrast, "effect")
    )
    scale = 1.0 if percent else compute_percent_factor(images.boldref, bold_mask) or 1.0
    files = ""
    if stored.includes(best, contrast, width, "effect"):
        effect = shown_maps.stats[contrast, "effect", width][best]
        files = _pattern({**entities, **effect.entities, "space": FRAME})
    facts = _facts(
        shown_maps,
        by_contrast[FRAME, contrast, width],
        best,
        contrast,
        width,
        scale,
        rows=[row for row in rows if row.series == best],
        run_rows=run_rows or {},
        entities=entities,
        at_rest=at_rest,
        files=files,
    )
    facts = replace(
        facts,
        slices=() if fusion is None else slice_sentences(fusion),
        spaces_apart={
            space: grids
            for (space, *_), by_run in by_contrast.items()
            if space != FRAME and (grids := grid_differences(by_run))
        },
    )
    yield FigureDrawing("participant", participant_html(facts))
    scene = images.scene()
    yield FigureDrawing("participant", _effects(shown_maps, best, contrast, width, scale, scene))


def _drop_space(combined_map: Derivative) -> Derivative:
    """Return a combined map without the ``space`` entity, like a map of a single run."""
    entities = {key: label for key, label in combined_map.entities.items() if key != "space"}
    return replace(combined_map, entities=entities)


def _pattern(entities: Mapping[str, str]) -> str:
    """Return a file pattern for all contrasts and statistics, relative to the output directory."""
    from bids_sr.pipeline.store import derivative_path

    keys = ("contrast", "stat")
    any_labels = dict.fromkeys(keys, ANY_LABEL)
    path = derivative_path({**entities, **any_labels, "datatype": "func", "extension": ".nii.gz"})
    for key in keys:
        path = path.replace(f"{key}-{ANY_LABEL}", f"{key}-*")
    return path


def _is_available(shown_maps: ShownMaps, series: str) -> bool:
    return any(series in by_series for by_series in shown_maps.stats.values())


def _facts(
    shown_maps: ShownMaps,
    by_run: Mapping[str, Mapping[str, Derivative]],
    series: str,
    contrast: str,
    width: float,
    scale: float,
    *,
    rows: Sequence[MetricRow],
    run_rows: Mapping[str, Sequence[MetricRow]],
    entities: Mapping[str, str],
    at_rest: bool,
    files: str,
) -> "ParticipantMap":
    """Summarize the combined map of a series; see `draw_participant` for other parameters.

    `by_run`: maps of the runs in the frame of the first run, by name of the run and statistic.
    `width`: smoothing of the map (FWHM, mm). `scale`: percent of the mean brain signal per unit of
    the maps. `files`: file pattern of the stored maps; "" if they are not stored.
    """
    from bids_sr.combination.overview import LARGEST_EFFECTS, MapError, ParticipantMap

    def combined(stat: str) -> Derivative | None:
        return shown_maps.stats.get((contrast, stat, width), {}).get(series)

    effect = combined("effect")
    assert effect is not None
    sidecar = effect.sidecar
    brain = _values(combined("variance")) > 0
    region = shown_maps.regions.get((contrast, "Fdr", width), {}).get(series)
    significant = brain if region is None else (region.volume.data > 0) & brain
    in_region = region is not None and bool(significant.any())
    inside = significant if in_region else brain
    weights = sidecar["RunWeights"]
    assert isinstance(weights, Mapping)
    voxel_mm3 = float(np.prod(effect.volume.zooms))
    sizes_of_effects = np.abs(_values(effect)[inside])
    largest = sizes_of_effects >= np.quantile(sizes_of_effects, 1 - LARGEST_EFFECTS)

    # an interval of a super-resolved or interpolated effect is too narrow without this error
    lacks_error = combined("sd") is None and series not in (RAW, MEASURED)

    def error(
        name: str, weight: float, maps: Mapping[str, Derivative], region_rows: Sequence[MetricRow]
    ) -> "MapError":
        variance = scale**2 * _values(maps["variance"])[inside]
        sd = scale * _values(maps["sd"])[inside] if "sd" in maps else None
        total = np.sqrt(variance + (0 if sd is None else np.square(sd)))
        sizes = {
            row.threshold: row.value * voxel_mm3
            for row in region_rows
            if (row.statistic, row.contrast, row.fwhm_mm) == ("voxels", contrast, width)
        }
        return MapError(
            name=name,
            weight=weight,
            noise=float(np.median(np.sqrt(variance))),
            reconstruction=None if sd is None else float(np.median(sd)),
            interval=None if lacks_error else _NORMAL_95 * float(np.median(total)),
            largest_effects_interval=None
            if lacks_error
            else _NORMAL_95 * float(np.median(total[largest])),
            significant_mm3=sizes.get("fdr"),
            reliable_mm3=sizes.get("reliable"),
        )

    combined_maps = {
        stat: derivative
        for stat in ("variance", "sd")
        if (derivative := combined(stat)) is not None
    }
    person = combined("personsd")
    scales, disagreeing_runs = sidecar.get("RunScales", {}), sidecar.get("DisagreeingRuns", {})
    assert isinstance(scales, Mapping)
    assert isinstance(disagreeing_runs, Mapping)
    left_out, not_applied = sidecar.get("RunsLeftOut", {}), sidecar.get("NotAppliedIn", [])
    assert isinstance(left_out, Mapping)
    assert isinstance(not_applied, Sequence)
    shared = sidecar.get("SharedErrorCorrelation")
    return ParticipantMap(
        entities=entities,
        series=series,
        contrast=contrast,
        fwhm_mm=width,
        at_rest=at_rest,
        runs=[
            error(name, as_number(weight), by_run[name], run_rows.get(name, ()))
            for name, weight in weights.items()
            if "variance" in by_run.get(name, {})
        ],
        combined=error("all", 1.0, combined_maps, rows),
        n_voxels=int(inside.sum()),
        in_region=in_region,
        shared=None if shared is None else as_number(shared),
        no_error="" if "sd" in combined_maps else str(sidecar.get("ErrorOfReconstruction", "")),
        person_interval=None
        if person is None or lacks_error
        else scale
        * float(
            np.median(
                _person_interval(
                    _values(person)[inside],
                    by_run,
                    weights,
                    shared,
                    inside,
                    widening=as_number(sidecar.get("ErrorWidening", 1.0)),
                )
            )
        ),
        left_out={str(name): str(reason) for name, reason in left_out.items()},
        not_applied=[str(name) for name in not_applied],
        shared_brain={
            name: share
            for name in weights
            if (share := _shared_brain(by_run.get(name, {}))) < LEAST_SHARED_BRAIN
        },
        files=files,
        equal_weights=len(set(weights.values())) < 2,
        disagreeing_runs={str(name): str(reason) for name, reason in disagreeing_runs.items()},
        scales={
            name: ratio
            for name, value in scales.items()
            if max(ratio := as_number(value), 1 / ratio) > MOST_NOTED_RATIO
        },
        fewer_than="" if region is None else _find_larger_run(significant, by_run, weights),
    )


def _find_larger_run(
    region: Array, by_run: Mapping[str, Mapping[str, Derivative]], names: Collection[str]
) -> str:
    """Return the run with the most significant voxels, if it has many more than the combined map.

    The name is "" if no run has many more. `region`: significant voxels of the combined map (3D,
    boolean). `by_run`: maps of the runs in the frame of the first run, by name of the run and
    statistic. `names`: names of the combined runs.
    """
    from bids_sr.combination.overview import FEWER, LEAST_CHECKED_VOXELS
    from bids_sr.glm.linear_model import t_to_z

    sizes: dict[str, int] = {}
    for name in names:
        effect, variance = (by_run.get(name, {}).get(stat) for stat in ("effect", "variance"))
        if effect is None or variance is None:
            continue
        model = effect.sidecar["Model"]
        assert isinstance(model, Mapping)
        brain = _values(variance) > 0
        t = np.where(brain, _values(effect) / np.sqrt(np.where(brain, _values(variance), 1)), 0)
        z = t_to_z(t, as_number(model["DegreesOfFreedom"]))
        sizes[name] = int(fdr_region(z, brain)[0].sum())
    largest = max(sizes, key=lambda name: sizes[name], default="")
    if not largest or sizes[largest] < LEAST_CHECKED_VOXELS:
        return ""
    return largest if region.sum() < FEWER * sizes[largest] else ""


def _shared_brain(run_maps: Mapping[str, Derivative]) -> float:
    """Return the part of the brain that a run shares with the first run; 1 for the first run."""
    return min(
        (as_number(run_map.sidecar.get("SharedBrain", 1.0)) for run_map in run_maps.values()),
        default=1.0,
    )


def _reason_of_no_map(
    by_contrast: Mapping[tuple[str, str, float], Mapping[str, Mapping[str, Derivative]]],
) -> tuple[list[str], str]:
    """Return the names of the runs, and why they have no combined map.

    `by_contrast`: maps of the runs, as returned by `maps_by_run`.
    """
    names = list(dict.fromkeys(name for by_run in by_contrast.values() for name in by_run))
    runs_with_map = [
        by_run
        for by_run in by_contrast.values()
        if sum("variance" in run_maps for run_maps in by_run.values()) > 1
    ]
    if runs_with_map:
        return names, "after registration, the brain masks of the runs have no voxel in common"
    return names, "no contrast could be estimated in two runs"


def _person_interval(
    person_sd: Array,
    by_run: Mapping[str, Mapping[str, Derivative]],
    weights: Mapping[str, object],
    shared: object,
    inside: Array,
    *,
    widening: float,
) -> Array:
    """Return half-widths of 95 % intervals for the participant, (voxels,).

    The variance between runs has one degree of freedom fewer than the number of runs. The part of
    the reconstruction error that repeats between runs is treated as known, and degrees of freedom
    are combined by the Welch-Satterthwaite equation.

    Parameters
    ----------
    person_sd : Array
        SD of the effect as an estimate for the participant, (voxels,).
    by_run : Mapping[str, Mapping[str, Derivative]]
        Maps of the runs in the frame of the first run, by name of the run and statistic.
    weights : Mapping[str, object]
        Weights of the runs, by name of the run.
    shared : object
        Correlation of the reconstruction error between runs; None if the error is unknown.
    inside : Array
        Selected voxels (3D, boolean).
    widening : float
        Factor of the SD of the reconstruction error (`combination.run_combination.widen_error`).
    """
    from scipy import special

    variance = np.square(person_sd.astype(np.float64))
    repeated = np.zeros_like(variance)
    if shared is not None:
        sds = [
            as_number(weight) * _values(by_run[name]["sd"])[inside]
            for name, weight in weights.items()
        ]
        repeated = as_number(shared) * np.square(widening * np.sum(sds, axis=0))
    between_variance = np.maximum(variance - repeated, 1e-6 * variance)
    dof = (len(weights) - 1) * np.square(
        variance / np.where(between_variance > 0, between_variance, 1)
    )
    quantile = special.stdtrit(np.maximum(dof, 1), 0.975)
    return np.asarray(quantile * person_sd)


def _values(statmap: Derivative | None) -> Array:
    assert statmap is not None
    values: Array = statmap.volume.data
    return values


def _effects(
    shown_maps: ShownMaps, best: str, contrast: str, width: float, scale: float, scene: "Scene"
) -> "Figure":
    """Draw the effect in acquired, B-spline, best and measured series, and the error of the best.

    `width`: smoothing (FWHM, mm). `scale`: percent of the mean brain signal per unit of the maps.
    """
    from bids_sr.figures.map_viewer import SERIES_TITLES
    from bids_sr.figures.maps import Display, plot_zoomed_maps

    by_series = shown_maps.stats[contrast, "effect", width]
    order = dict.fromkeys((RAW, "bspline", best, MEASURED))
    names = [name for name in order if name in by_series]
    volumes = {
        SERIES_TITLES.get(name, name): _scale(by_series[name].volume, scale) for name in names
    }
    limit = run_maps_figures.color_limit(
        [Derivative(volume, {}) for volume in volumes.values()], 0.0
    )
    variance = shown_maps.stats.get((contrast, "variance", width), {}).get(best)
    sd = shown_maps.stats.get((contrast, "sd", width), {}).get(best)
    if variance is not None:
        error = np.sqrt(_values(variance) + (0 if sd is None else np.square(_values(sd))))
        volumes[f"error of {SERIES_TITLES.get(best, best)} (SD)"] = variance.volume.like(
            (scale * error).astype(np.float32)
        )
    regions = [
        shown_maps.regions.get((contrast, kind, width), {}).get(best)
        for kind in ("Reliable", "Fdr")
    ]
    region = next((region_map for region_map in regions if region_map is not None), None)
    floor = float(f"{EFFECT_SHARE * limit:.2g}")
    drawing = plot_zoomed_maps(
        volumes,
        scene,
        display=Display(statistic="effect", threshold=floor, floor=0.0, unit="%"),
        limit=limit,
        center_voxel=run_maps_figures.peak_of_acquired(shown_maps, contrast, scene),
        region=None if region is None else region.volume,
    )
    smoothing = f"smoothed with a {width:g} mm FWHM kernel" if width else "unsmoothed"
    drawing.set_label(
        f"Axial slice of the effect of all runs together for {contrast}, {smoothing}. Panels:"
        f" {', '.join(volumes)}."
    )
    return drawing


def _scale(volume: Volume, scale: float) -> Volume:
    return volume.like((scale * volume.data).astype(np.float32))


COMBINATION_FIGURES = tuple(
    value for value in list(vars().values()) if isinstance(value, FigureStep)
)
"""Figures of this wing, whose declarations the pages list."""
