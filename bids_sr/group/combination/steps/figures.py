"""Figures of the combined map of all runs of a participant."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from markupsafe import Markup

from bids_sr.config.levels import StoredMaps
from bids_sr.engine.artifacts import Derivative, File, Map, Rows, Table
from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.result import StoredResult
from bids_sr.glm.activation_regions import fdr_region
from bids_sr.glm.contrasts import ALL
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
from bids_sr.group.combination.steps.runs_verdict import TestedSizes, describe_test
from bids_sr.group.combination.steps.sibling_runs import SAME_SCALE
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import BOLDREF, FIRST_BOLDREF, Factor
from bids_sr.io.json_values import as_mapping, as_number, as_texts
from bids_sr.io.safe_width import is_safe
from bids_sr.io.series import ACQUIRED
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.figure_steps import run_maps as run_maps_figures
from bids_sr.report.figure_steps.map_viewer import ViewedMaps
from bids_sr.report.figure_steps.page_maps import PageMaps
from bids_sr.report.figure_steps.run_maps import SceneImages, ShownMaps
from bids_sr.report.first_screen import locate_regions
from bids_sr.report.sections import FigureSpec
from bids_sr.spatial.itk_files import Transforms

if TYPE_CHECKING:
    from bids_sr.evaluation.result import RunResult
    from bids_sr.group.combination.overview import ParticipantMap


@frozen
class ParticipantPage:
    """Facts of the combined runs of a participant on their page.

    `entities` are the entities of the combined maps: labels by long entity name. `over_sessions`
    states whether runs are from several sessions. `factor` is the acquired relative to the
    super-resolved voxel size. `stored` determines which maps are stored. The participant has
    `n_runs` runs on the page. `names` are the names of
    contrasts over runs as requested, by contrast. `uncombined` are phrases on contrasts that are
    not combined, with the reason. `tested_mm` are voxel sizes of the test; None if unknown.
    """

    entities: Mapping[str, str]
    over_sessions: bool
    factor: Factor
    stored: StoredMaps
    n_runs: int
    names: Mapping[str, str] = field(default_factory=dict)
    uncombined: Sequence[str] = ()
    tested_mm: TestedSizes | None = None


@figure(
    FigureSpec("participant", "participant", html=True),
    FigureSpec("participantWhy", "why", html=True),
    FigureSpec("participantRegions", "regions", html=True, place=-1),
    FigureSpec("participantViewer", "maps", html=True, place=-1),
)
def draw_participant(
    maps: list[Map],
    resampled_maps: list[Map],
    rows: Rows,
    images: SceneImages,
    result: StoredResult,
    regions: Table | None = None,
    boldref2t1w_xfm: Transforms | None = None,
    std2t1w_xfm: File | None = None,
    *,
    page: ParticipantPage,
) -> Iterator[FigureDrawing]:
    """Draw the first screen of all runs, its reasons, the regions, and the viewer of the maps.

    `maps` are combined maps and regions of all series, in the frame of the first run.
    `resampled_maps` are effects, variances and errors of the primary series in each run, in the
    same frame. `rows` are rows of the test across runs, and sizes of the regions in the combined
    maps, of the primary series. `images` are images of the first run that the maps are drawn on,
    and `result` is that of `runs_verdict.judge_runs`. `regions` are means of regions in contrasts
    over runs, and their clusters; None if there are none. The transforms of the first run are
    to the T1w image from the boldref and from the template.
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
    shown_effect = _choose_effect(shown_maps, page, result, tuple(images.boldref.zooms))
    shown_maps = shown_effect.maps
    participant_map = _summarize_map(
        shown_effect,
        find_combined_maps(by_contrast, shown_effect.list_maps()["effect"]),
        page,
    )
    page_maps = PageMaps(
        shown_maps=shown_maps,
        images=images,
        factor=page.factor,
        rows=rows,
        stored=page.stored,
        entities=page.entities,
        space=FIRST_BOLDREF,
        over_runs=page.names,
        further_files=[] if regions is None else [locate_regions(page.entities)],
    )
    available = shown_maps.list_contrasts("")
    participant_map = replace(
        participant_map,
        result=result,
        reasons=_list_reasons(result, rows, page),
        views=page_maps.make_views(result, shown_effect.contrast),
        spaces_apart=_list_differing_grids(by_contrast),
        lost=[name for contrast, name in page.names.items() if contrast not in available],
    )
    yield FigureDrawing("participant", participant_html(participant_map))
    yield FigureDrawing("participantWhy", participant_reasons_html(participant_map))
    if regions is not None and len(regions):
        tables = _show_regions(regions, shown_effect, page.names)
        yield FigureDrawing("participantRegions", tables)
    start = shown_effect.contrast, shown_effect.series
    viewed = _view_maps(shown_effect, images, result, page)
    viewer = viewed.render(*start, boldref2t1w_xfm, std2t1w_xfm)
    yield FigureDrawing("participantViewer", viewer)


def _view_maps(
    shown_effect: "_ShownEffect", images: SceneImages, result: "RunResult", page: ParticipantPage
) -> ViewedMaps:
    """Return the combined maps for the viewer."""
    return ViewedMaps(
        shown_maps=shown_effect.maps,
        images=images,
        result=result,
        n_runs=page.n_runs,
        entities=page.entities,
        stored=page.stored,
        space=FIRST_BOLDREF,
        over_runs=page.names,
    )


def _sort_combined_maps(maps: Iterable[Derivative]) -> ShownMaps:
    """Sort combined maps as maps of a single run, which are in the space of its boldref."""
    return run_maps_figures.sort_maps(
        replace(combined_map, entities={**combined_map.entities, "space": BOLDREF})
        for combined_map in maps
    )


def _list_reasons(
    result: "RunResult", rows: Sequence[MetricRow], page: ParticipantPage
) -> list[str]:
    """Return the reasons of the answers of all contrasts."""
    from bids_sr.report.reasons import explain_contrasts, list_reasons

    return [
        *explain_contrasts(result, rows),
        *list_reasons(
            result, rows, describe_test(page.stored.primary, page.tested_mm), across_runs=True
        ),
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


def _show_regions(
    regions: Table, shown_effect: "_ShownEffect", names: Mapping[str, str]
) -> Markup:
    """Return the table of regions of contrasts over runs."""
    from bids_sr.report.region_table import regions_html

    used = dict.fromkeys(regions["contrast"].unique().tolist(), shown_effect.series)
    return regions_html(regions, [], used, shown_effect.contrast, names)


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


def _choose_width(widths: Sequence[float], zooms: Sequence[float]) -> float:
    """Return the smoothing (FWHM, mm) of a map of a difference: the least that is safe."""
    return min((width for width in widths if is_safe(width, zooms)), default=max(widths))


def _choose_effect(
    shown_maps: ShownMaps, page: ParticipantPage, result: "RunResult", zooms: Sequence[float]
) -> _ShownEffect:
    """Choose the maps, and the series, the contrast and the smoothing that are shown first.

    The series is the primary series, or else an interpolation. The contrast is a
    contrast over runs, or else the shown contrast of the `result`, or else the mean of all
    conditions, or else the first contrast with a value. The smoothing is the least. Contrasts over
    runs have the maps at the safe width, or none if the series has none. `zooms` is the voxel size
    of the acquired grid (mm).
    """
    available_series = {name for by_series in shown_maps.stats.values() for name in by_series}
    names = (page.stored.primary, "bspline", ACQUIRED)
    series = next(name for name in names if name in available_series)
    contrasts = {item.contrast: item for item in result.contrasts}
    with_values = [name for name, item in contrasts.items() if item.has_values]
    widths: dict[str, list[float]] = {}
    for (contrast, stat, width), by_series in shown_maps.stats.items():
        if contrast in page.names and stat == "effect" and series in by_series:
            widths.setdefault(contrast, []).append(width)
    shown_maps = shown_maps.omit(
        {
            (contrast, width)
            for contrast, _, width in shown_maps.stats
            if contrast in page.names
            and (contrast not in widths or width != _choose_width(widths[contrast], zooms))
        }
    )
    over_runs = [*widths]
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
    shared = sidecar.get("SharedErrorCorrelation")
    has_error = "sd" in combined_maps
    return ParticipantMap(
        entities=page.entities,
        series=shown_effect.series,
        fwhm_mm=shown_effect.fwhm_mm,
        input_fwhm_mm=read_input_smoothing(effect),
        runs={
            name: as_number(weight)
            for name, weight in weights.items()
            if "variance" in by_run.get(name, {})
        },
        shared=None if shared is None else as_number(shared),
        no_error="" if has_error else str(sidecar.get("ErrorOfReconstruction", "")),
        left_out=parse_reasons(sidecar, "RunsLeftOut"),
        not_applied=as_texts(sidecar.get("NotAppliedIn")),
        shared_brain=_list_small_shared_brains(by_run, weights),
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
