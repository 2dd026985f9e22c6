"""Figures of the combined map of all runs of a participant."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from bids_sr.config.levels import StoredMaps
from bids_sr.engine.artifacts import Derivative, Map, Rows, Table
from bids_sr.engine.metric_rows import MetricRow
from bids_sr.engine.number_text import number
from bids_sr.glm.activation_regions import Z_95, fdr_region
from bids_sr.glm.contrasts import ALL
from bids_sr.glm.region_means import ERROR_DOF, MeanEffect
from bids_sr.glm.steps.map_comparison import read_input_smoothing
from bids_sr.group.combination.steps.combined_runs import (
    TERMS,
    MapsByStatistic,
    find_combined_maps,
    grid_differences,
    make_run_estimate,
    maps_by_run,
    parse_reasons,
)
from bids_sr.group.combination.steps.resampled_runs import LEAST_SHARED_BRAIN
from bids_sr.group.combination.steps.sibling_runs import SAME_SCALE
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import BOLDREF, FIRST_BOLDREF, Factor
from bids_sr.io.json_values import as_mapping, as_number, as_texts
from bids_sr.io.series import ACQUIRED, MEASURED, get_need
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.figure_steps import run_maps as run_maps_figures
from bids_sr.report.figure_steps.page_maps import PageMaps
from bids_sr.report.figure_steps.run_maps import SceneImages, ShownMaps
from bids_sr.report.markup import join, render
from bids_sr.report.sections import FigureSpec

if TYPE_CHECKING:
    from bids_sr.evaluation.detail_support import ContrastResult
    from bids_sr.evaluation.result import RunResult
    from bids_sr.evaluation.self_test_results import SelfTestResults
    from bids_sr.group.combination.overview import MapError, ParticipantMap


@frozen
class ParticipantPage:
    """Facts of the combined runs of a participant on their page.

    `entities` are the entities of the combined maps: labels by long entity name. `over_sessions`
    states whether runs are from several sessions, and `at_rest` whether maps show seeds instead of
    conditions. `factor` is the acquired relative to the super-resolved voxel size. `stored`
    determines which maps are stored. `uncombined` are phrases on contrasts that are not combined,
    with the reason. `tested_mm` are voxel sizes (mm) of the downsampled and of the acquired runs;
    None if they are unknown.
    """

    entities: Mapping[str, str]
    over_sessions: bool
    at_rest: bool
    factor: Factor
    stored: StoredMaps
    uncombined: Sequence[str] = ()
    tested_mm: tuple[Sequence[float], Sequence[float]] | None = None

    def describe_test(self) -> "SelfTestResults":
        """Return the voxel sizes of the test of the primary series."""
        from bids_sr.evaluation.self_test_results import SelfTestResults, parse_self_test

        if self.tested_mm is None:
            return SelfTestResults()
        from_mm, to_mm = self.tested_mm
        facts = {"from_mm": from_mm, "to_mm": to_mm, "series": {self.stored.primary: {}}}
        return parse_self_test((), facts)


@figure(
    FigureSpec("participant", "participant", html=True),
    FigureSpec("participantWhy", "why", html=True),
)
def draw_participant(
    maps: list[Map],
    resampled_maps: list[Map],
    rows: Rows,
    images: SceneImages,
    run_rows: dict[str, Rows] | None = None,
    regions: Table | None = None,
    *,
    page: ParticipantPage,
) -> Iterator[FigureDrawing]:
    """Draw the combined map of all runs: table of runs and errors, and a slice of the effect.

    `maps` are combined maps and regions of all series, in the frame of the first run.
    `resampled_maps` are effects, variances and errors of the primary series in each run, in the
    same frame. `rows` are rows of the test across runs, and sizes of the regions in the combined
    maps, of the primary series. `images` are images of the first run that the maps are drawn on.
    `run_rows` are sizes of the regions in the maps of each run, by name of the run. `regions` are
    means of regions in contrasts over runs, and their clusters; None if there are none.
    """
    from bids_sr.group.combination.overview import (
        no_map_html,
        participant_html,
        participant_reasons_html,
    )

    shown_maps, by_contrast = _sort_combined_maps(maps), maps_by_run(resampled_maps)
    if not shown_maps.stats:
        if by_contrast:
            names, reason = _explain_no_map(by_contrast)
            html = no_map_html(page.entities, names, reason, over_sessions=page.over_sessions)
            yield FigureDrawing("participant", html)
        return
    tested_result = _make_result(rows, page)
    shown_effect = _choose_effect(shown_maps, page.stored.primary, tested_result)
    participant_map = _summarize_map(
        shown_effect,
        find_combined_maps(by_contrast, shown_effect.list_maps()["effect"]),
        rows=[row for row in rows if row.series == shown_effect.series],
        run_rows=run_rows or {},
        page=page,
    )
    result = _limit_result(tested_result, participant_map, page.stored.primary)
    page_maps = PageMaps(
        shown_maps=shown_maps,
        images=images,
        factor=page.factor,
        rows=rows,
        stored=page.stored,
        entities=page.entities,
        space=FIRST_BOLDREF,
    )
    participant_map = replace(
        participant_map,
        result=result,
        reasons=_list_reasons(result, rows, page),
        views=page_maps.make_views(result, shown_effect.contrast),
        spaces_apart=_list_differing_grids(by_contrast),
    )
    yield FigureDrawing("participant", participant_html(participant_map))
    reasons_html = participant_reasons_html(participant_map)
    if regions is not None and len(regions):
        tables = _show_regions(regions, shown_effect.series, shown_effect.contrast)
        reasons_html = join([reasons_html, tables])
    yield FigureDrawing("participantWhy", reasons_html)


def _sort_combined_maps(maps: Iterable[Derivative]) -> ShownMaps:
    """Sort combined maps as maps of a single run, which are in the space of its boldref."""
    return run_maps_figures.sort_maps(
        replace(combined_map, entities={**combined_map.entities, "space": BOLDREF})
        for combined_map in maps
    )


def _make_result(rows: Sequence[MetricRow], page: ParticipantPage) -> "RunResult":
    """Return the result of the test across runs for the primary series."""
    from bids_sr.evaluation.result import make_result

    series = page.stored.primary
    results = _collect_results(rows, series)
    return make_result(series, results, rows, sizes=page.describe_test().run_sizes)


def _limit_result(
    result: "RunResult", participant_map: "ParticipantMap", primary: str
) -> "RunResult":
    """Return the result of the shown series, without contrasts if its method was not applied."""
    from bids_sr.evaluation.result import RunResult

    series = participant_map.series
    if series != primary or get_need(series) == "volume":
        return RunResult()
    if 0 < len(participant_map.runs) == len(participant_map.not_applied):
        return RunResult(not_applied=(series,))
    return result


def _list_reasons(
    result: "RunResult", rows: Sequence[MetricRow], page: ParticipantPage
) -> list[str]:
    """Return the reasons of the answers of all contrasts."""
    from bids_sr.report.reasons import explain_contrasts, list_reasons

    return [
        *explain_contrasts(result, rows),
        *list_reasons(result, rows, page.describe_test(), across_runs=True),
    ]


def _list_differing_grids(
    by_contrast: Mapping[tuple[str, str, float], Mapping[str, MapsByStatistic]],
) -> dict[str, str]:
    """Return differences of the grids of runs by space, apart from the frame of the first run."""
    return {
        space: grids
        for (space, *_), by_run in by_contrast.items()
        if space != FIRST_BOLDREF and (grids := grid_differences(by_run))
    }


def _show_regions(regions: Table, series: str, contrast: str) -> Markup:
    """Return the table of regions of contrasts over runs, and their smallest changes."""
    from bids_sr.report.region_table import regions_html

    names = regions["contrast"].unique().tolist()
    changes = regions[regions["contrast"] == contrast]["smallest_change"]
    note = (
        f"Means of regions: changes of {number(changes.min())} to {number(changes.max())} %"
        f" (median {number(changes.median())} %) are found with a probability of 80 % (two-sided"
        " p < .05)."
    )
    return join(
        [
            render("note", "note", note),
            regions_html(regions, [], dict.fromkeys(names, series), contrast),
        ]
    )


def _explain_no_map(
    by_contrast: Mapping[tuple[str, str, float], Mapping[str, MapsByStatistic]],
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


def _collect_results(rows: Sequence[MetricRow], series: str) -> "dict[str, ContrastResult]":
    """Return results for the detail of a series by contrast, {} if it has no error estimate."""
    from bids_sr.evaluation.contrast_results import collect_results

    if not any(row.series == series and row.statistic == "expected_wrong" for row in rows):
        return {}
    return collect_results(rows, series, reason="fewer than two runs could be tested")


@frozen
class _ShownEffect:
    """Combined effect that is shown in the table and in the figure.

    `maps` are the combined maps and regions of all series. `fwhm_mm` is the smoothing of the map
    (FWHM).
    """

    maps: ShownMaps
    series: str
    contrast: str
    fwhm_mm: float

    def find_map(self, stat: str) -> Derivative | None:
        """Return the combined map of a statistic, None if there is no such map."""
        return self.maps.stats.get((self.contrast, stat, self.fwhm_mm), {}).get(self.series)

    def find_region(self, kind: str) -> Derivative | None:
        """Return a region of the combined map by its kind, None if there is no such region."""
        return self.maps.regions.get((self.contrast, kind, self.fwhm_mm), {}).get(self.series)

    def list_maps(self) -> dict[str, Derivative]:
        """Return all combined maps of the series by statistic."""
        return {
            stat: by_series[self.series]
            for (contrast, stat, fwhm_mm), by_series in self.maps.stats.items()
            if (contrast, fwhm_mm) == (self.contrast, self.fwhm_mm) and self.series in by_series
        }

    @property
    def has_interval(self) -> bool:
        """Whether the interval of the effect contains all of its errors.

        An interval of a super-resolved or interpolated effect is too narrow without the
        reconstruction error.
        """
        return self.find_map("sd") is not None or self.series in (ACQUIRED, MEASURED)


def _choose_effect(shown_maps: ShownMaps, primary: str, result: "RunResult") -> _ShownEffect:
    """Choose the series, the contrast and the smoothing that are shown.

    The series is the `primary` series, or else an interpolation. The contrast is a
    contrast over runs, or else the shown contrast of the `result`, or else the mean of all
    conditions, or else the first contrast with a value. The smoothing is the least.
    """
    available_series = {name for by_series in shown_maps.stats.values() for name in by_series}
    series = next(name for name in (primary, "bspline", ACQUIRED) if name in available_series)
    contrasts = {item.contrast: item for item in result.contrasts}
    with_values = [name for name, item in contrasts.items() if item.has_values]
    over_runs = [
        contrast
        for (contrast, stat, _), by_series in shown_maps.stats.items()
        if stat == "effect" and series in by_series and TERMS in by_series[series].sidecar
    ]
    preferred = ALL if ALL in contrasts else next(iter(with_values), "")
    if result.shown is not None:
        preferred = result.shown.map_contrast
    contrast = shown_maps.choose_contrast(next(iter(over_runs), preferred))
    return _ShownEffect(
        maps=shown_maps,
        series=series,
        contrast=contrast,
        fwhm_mm=shown_maps.find_least_smoothing(contrast, "effect"),
    )


def _summarize_map(
    shown_effect: _ShownEffect,
    by_run: Mapping[str, MapsByStatistic],
    *,
    rows: Sequence[MetricRow],
    run_rows: Mapping[str, Sequence[MetricRow]],
    page: ParticipantPage,
) -> "ParticipantMap":
    """Summarize the combined map of a series; see `draw_participant` for other parameters.

    `by_run`: maps of the runs in the frame of the first run, by name of the run and statistic.
    """
    from bids_sr.group.combination.overview import ParticipantMap

    combined_maps = shown_effect.list_maps()
    effect = combined_maps["effect"]
    sidecar = effect.sidecar
    weights = as_mapping(sidecar.get("RunWeights"))
    brain = combined_maps["variance"].volume.data > 0
    region = shown_effect.find_region("Fdr")
    significant = brain if region is None else (region.volume.data > 0) & brain
    in_region = region is not None and bool(significant.any())
    voxels = _select_summary_voxels(effect, significant if in_region else brain)
    shared = sidecar.get("SharedErrorCorrelation")
    has_error = "sd" in combined_maps
    combined = _summarize_error("all", 1.0, combined_maps, rows, shown_effect, voxels)
    noise_dof = as_number(sidecar.get("DegreesOfFreedom", math.nan))
    mean_error = MeanEffect(effect=0.0, noise_sd=combined.noise, noise_dof=noise_dof)
    return ParticipantMap(
        entities=page.entities,
        series=shown_effect.series,
        contrast=shown_effect.contrast,
        fwhm_mm=shown_effect.fwhm_mm,
        input_fwhm_mm=read_input_smoothing(effect),
        at_rest=page.at_rest,
        runs=[
            _summarize_error(
                name, as_number(weight), by_run[name], run_rows.get(name, ()), shown_effect, voxels
            )
            for name, weight in weights.items()
            if "variance" in by_run.get(name, {})
        ],
        combined=combined,
        smallest_change=mean_error.compute_smallest_change(
            combined.reconstruction or 0.0, ERROR_DOF
        ),
        n_voxels=int(voxels.inside.sum()),
        in_region=in_region,
        shared=None if shared is None else as_number(shared),
        no_error="" if has_error else str(sidecar.get("ErrorOfReconstruction", "")),
        person_interval=_summarize_person_interval(shown_effect, by_run, voxels.inside),
        left_out=parse_reasons(sidecar, "RunsLeftOut"),
        not_applied=as_texts(sidecar.get("NotAppliedIn")),
        shared_brain=_list_small_shared_brains(by_run, weights),
        equal_weights=len(set(weights.values())) < 2,
        disagreeing_runs=parse_reasons(sidecar, "DisagreeingRuns"),
        # over sessions, the scales of the runs do not matter
        scales={} if page.over_sessions else _list_differing_scales(sidecar),
        uncombined=page.uncombined,
        fewer_than=(
            ""
            if region is None or TERMS in sidecar
            else _find_larger_run(significant, by_run, weights)
        ),
        place_share=None if TERMS not in sidecar else as_number(sidecar["PlaceErrorShare"]),
    )


@frozen
class _SummaryVoxels:
    """Voxels over which the errors of maps are summarized.

    `inside` are the significant voxels of the combined map, or the brain if there are none (3D,
    boolean). `has_largest_effects` marks which of the voxels inside have the largest effects (n,;
    boolean). `voxel_mm3` is the volume of a voxel.
    """

    inside: Array
    has_largest_effects: Array
    voxel_mm3: float


def _select_summary_voxels(effect: Derivative, inside: Array) -> _SummaryVoxels:
    """Return the voxels inside (3D, boolean), and which of them have the largest effects."""
    from bids_sr.group.combination.overview import LARGEST_EFFECTS

    sizes = np.abs(effect.volume.data[inside])
    return _SummaryVoxels(
        inside=inside,
        has_largest_effects=sizes >= np.quantile(sizes, 1 - LARGEST_EFFECTS),
        voxel_mm3=float(np.prod(effect.volume.zooms)),
    )


def _summarize_error(
    name: str,
    weight: float,
    maps: Mapping[str, Derivative],
    rows: Sequence[MetricRow],
    shown_effect: _ShownEffect,
    voxels: _SummaryVoxels,
) -> "MapError":
    """Summarize the error and the regions of the map of a run, or of the combined map.

    `name` is the name of the run, or ``all``, and `maps` are maps by statistic. `rows` are sizes
    of the regions in the maps, for all contrasts and smoothing widths. `shown_effect` determines
    contrast and smoothing, and medians are over `voxels`.
    """
    from bids_sr.group.combination.overview import MapError

    region_mm3 = {
        row.threshold: row.value * voxels.voxel_mm3
        for row in rows
        if (row.statistic, row.contrast, row.fwhm_mm)
        == ("voxels", shown_effect.contrast, shown_effect.fwhm_mm)
    }
    variance = maps["variance"].volume.data[voxels.inside]
    sd = maps["sd"].volume.data[voxels.inside] if "sd" in maps else None
    total_sd = np.sqrt(variance + (0 if sd is None else np.square(sd)))
    interval = largest_effects_interval = None
    if shown_effect.has_interval:
        interval = Z_95 * float(np.median(total_sd))
        largest_effects_interval = Z_95 * float(np.median(total_sd[voxels.has_largest_effects]))
    return MapError(
        name=name,
        weight=weight,
        noise=float(np.median(np.sqrt(variance))),
        reconstruction=None if sd is None else float(np.median(sd)),
        interval=interval,
        largest_effects_interval=largest_effects_interval,
        significant_mm3=region_mm3.get("fdr"),
        sign_reliable_mm3=region_mm3.get("signReliable"),
    )


def _summarize_person_interval(
    shown_effect: _ShownEffect, by_run: Mapping[str, MapsByStatistic], inside: Array
) -> float | None:
    """Return the median half-width of the 95 % interval for the participant, in percent.

    None if the interval is unknown. `inside`: voxels of the median (3D, boolean). For `by_run`,
    see `_summarize_map`.
    """
    person_sd = shown_effect.find_map("personsd")
    if person_sd is None or not shown_effect.has_interval:
        return None
    sidecar = shown_effect.list_maps()["effect"].sidecar
    half_widths = _person_interval(
        person_sd.volume.data[inside],
        by_run,
        as_mapping(sidecar.get("RunWeights")),
        sidecar.get("SharedErrorCorrelation"),
        inside,
        widening=as_number(sidecar.get("ErrorWidening", 1.0)),
    )
    return float(np.median(half_widths))


def _person_interval(
    person_sd: Array,
    by_run: Mapping[str, MapsByStatistic],
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

    `person_sd` is the SD of the effect as an estimate for the participant, (voxels,). `by_run` are
    maps of the runs in the frame of the first run, by name of the run and statistic, and `weights`
    are weights by name of the run. `shared` is the correlation of the reconstruction error between
    runs; None if the error is unknown. `inside` are the selected voxels (3D, boolean). `widening`
    is the factor of the SD of the reconstruction error
    (`widen_error`).
    """
    from scipy import special

    variance = np.square(person_sd.astype(np.float64))
    repeated = np.zeros_like(variance)
    if shared is not None:
        sds = [
            as_number(weight) * by_run[name]["sd"].volume.data[inside]
            for name, weight in weights.items()
        ]
        repeated = as_number(shared) * np.square(widening * np.sum(sds, axis=0))
    between_variance = np.maximum(variance - repeated, 1e-6 * variance)
    dof = (len(weights) - 1) * np.square(
        variance / np.where(between_variance > 0, between_variance, 1)
    )
    quantile = special.stdtrit(np.maximum(dof, 1), 0.975)
    return np.asarray(quantile * person_sd)


def _list_small_shared_brains(
    by_run: Mapping[str, MapsByStatistic], names: Collection[str]
) -> dict[str, float]:
    """Return small parts of the brain that runs share with the first run, by name of the run.

    `by_run`: maps of the runs, by name of the run and statistic. `names`: names of the combined
    runs.
    """
    shares = {
        name: min(
            (
                as_number(run_map.sidecar.get("SharedBrain", 1.0))
                for run_map in by_run.get(name, {}).values()
            ),
            default=1.0,
        )
        for name in names
    }
    return {name: share for name, share in shares.items() if share < LEAST_SHARED_BRAIN}


def _list_differing_scales(sidecar: Mapping[str, object]) -> dict[str, float]:
    """Return the signal relative to the first run, by name of runs that have another scale."""
    scales = {
        name: as_number(ratio) for name, ratio in as_mapping(sidecar.get("RunScales")).items()
    }
    return {name: ratio for name, ratio in scales.items() if max(ratio, 1 / ratio) > SAME_SCALE}


def _find_larger_run(
    region: Array, by_run: Mapping[str, MapsByStatistic], names: Collection[str]
) -> str:
    """Return the run with the most significant voxels, if it has many more than the combined map.

    The name is "" if no run has many more. `region`: significant voxels of the combined map (3D,
    boolean). `by_run`: maps of the runs in the frame of the first run, by name of the run and
    statistic. `names`: names of the combined runs.
    """
    from bids_sr.glm.linear_model import compute_t, t_to_z
    from bids_sr.group.combination.overview import MIN_CHECKED_VOXELS, MIN_SHARE_OF_RUN

    sizes: dict[str, int] = {}
    for name in names:
        run_maps = by_run.get(name, {})
        if {"effect", "variance"} <= run_maps.keys():
            run = make_run_estimate(run_maps)
            z = t_to_z(compute_t(run.effect, run.variance), run.dof)
            significant, _ = fdr_region(z, run.variance > 0)
            sizes[name] = int(significant.sum())
    largest_run = max(sizes, key=sizes.__getitem__, default="")
    if not largest_run or sizes[largest_run] < MIN_CHECKED_VOXELS:
        return ""
    return largest_run if region.sum() < MIN_SHARE_OF_RUN * sizes[largest_run] else ""
