"""Combination of the runs of a task, within sessions and over sessions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from bids_sr.engine.artifacts import Facts, Image, Map, Mask, Rows, Table
from bids_sr.engine.flow import add_methods_text, concatenate, subworkflow
from bids_sr.engine.nodes import scope_name
from bids_sr.engine.outputs import Outputs
from bids_sr.engine.step import Part
from bids_sr.evaluation.changes import StoredChanges
from bids_sr.glm.steps import spaces
from bids_sr.group.combination.run_combination import LEAST_RUNS_OF_SPREAD
from bids_sr.group.combination.steps import (
    combined_runs,
    contrasted_regions,
    figures as participant_figures,
    resampled_runs,
    runs_verdict,
    shared_error,
    sibling_runs,
    tested_runs,
)
from bids_sr.group.combination.steps.combined_runs import Combination
from bids_sr.io.frozen import frozen
from bids_sr.io.series import ACQUIRED, MEASURED, map_label, series_names
from bids_sr.spatial.itk_files import Transforms
from bids_sr.survey.preflight.combined_runs import (
    RunGroup,
    group_runs,
    list_uncombined_contrasts,
    name_over_runs,
)
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.report_run import ReportedRun, make_scene_images
from bids_sr.workflows.run_plan import RunPlan
from bids_sr.workflows.series_requests import Analysis
from bids_sr.workflows.stored_maps import list_stored_maps

_INTERPOLATION = "bspline"
"""Interpolation whose maps are always combined."""


@frozen
class _RegisteredRun:
    """Further run in the frame of the first run.

    `first2run_xfm`: transform from points of the first boldref. `framed_boldref`: boldref on the
    grid of the first run. `run_scale`: signal relative to the first run. `place_error`: error of
    the transform; None if there are no contrasts over runs.
    """

    first2run_xfm: Transforms
    framed_boldref: Image
    run_scale: Facts
    place_error: Facts | None


@frozen
class FramedRuns:
    """Runs of a group by name, in the frame of the boldref of its `first` run.

    `registered` are the further runs.
    """

    group: RunGroup
    runs: Mapping[str, ReportedRun]
    first: ReportedRun
    registered: Mapping[str, _RegisteredRun]
    outputs: Outputs

    def select(self, series: str) -> "FramedRuns":
        """Return the runs that have a series, and the contrasts that at least two of them have."""
        runs = {name: run for name, run in self.runs.items() if series in run.maps.series}
        contrasts = {
            contrast: [name for name in names if name in runs]
            for contrast, names in self.group.contrasts.items()
        }
        shared = {contrast: names for contrast, names in contrasts.items() if len(names) > 1}
        return replace(
            self,
            group=replace(self.group, contrasts=shared),
            runs=runs,
            registered={name: run for name, run in self.registered.items() if name in runs},
        )

    def is_calibrated(self, series: str) -> bool:
        """Return whether a series of any run was computed with a calibration run."""
        return any(_is_calibrated(run, series) for run in self.runs.values())

    def find_mask(self, series: str) -> Mask:
        """Return the brain on the grid of the combined maps of a series."""
        if series in self.first.maps.series:
            return self.first.maps.series[series].series.mask
        brain = self.first.fitted
        return brain.bold_mask if series == ACQUIRED else brain.bold_mask_hr


@frozen
class CombinedMaps:
    """Maps of the combined runs of one task, by series.

    `maps` has maps and regions in the frame of the first run. `rows` are the size of the regions
    and the expected share of the wrong sign. `resampled` are effects, variances and errors of the
    runs in this frame. `regions` are the means of regions in contrasts over runs in the exported
    series, and their clusters, and `changes` what they say changed; None if there are none.
    """

    frame: FramedRuns
    maps: Mapping[str, list[Map]]
    rows: Mapping[str, Rows]
    resampled: Mapping[str, list[Map]]
    regions: Table | None
    changes: StoredChanges | None

    @property
    def group(self) -> RunGroup:
        """Group of the runs."""
        return self.frame.group


def combine_participant(
    analysis: Analysis, processed_runs: Sequence[ReportedRun], anat: Anatomy | None
) -> list[CombinedMaps]:
    """Combine the runs of each task of a participant, within sessions and over sessions.

    `anat` is None if missing. Returns the maps of each task and session, followed by maps of each
    task over sessions. They are empty if no runs can be combined, or if no linear model was
    requested.
    """
    if "glm" not in analysis.settings.activation.kinds:
        return []
    run_by_file = {run.plan.bold.bold: run for run in processed_runs}
    combined_maps = []
    for group in group_runs([run.plan.bold for run in processed_runs], analysis.plan):
        runs = {name: run_by_file[run.bold] for name, run in group.runs.items()}
        combined_maps.append(_combine_group(analysis, group, runs, anat))
    if combined_maps:
        add_methods_text(
            Part.MAPS,
            combined_runs.describe_combination(
                over_sessions=any(maps.group.over_sessions for maps in combined_maps),
                in_spaces=any(bool(run.model.grids) for run in processed_runs),
                with_spread=any(
                    len(maps.group.runs) >= LEAST_RUNS_OF_SPREAD for maps in combined_maps
                ),
                weights=analysis.settings.activation.combine_weights,
                combine_all=analysis.settings.activation.combine_all_runs,
            ),
        )
    return combined_maps


@frozen
class _CombinedSeries:
    """Combined maps of one series.

    `maps`: maps and regions in the frame of the first run, and `space_maps` in other spaces.
    `rows`: size of the regions and expected share of the wrong sign. `regions`: means of regions
    in contrasts over runs, and clusters of these contrasts, and `changes` what they say changed;
    None if there are none.
    """

    maps: list[Map]
    space_maps: list[Map]
    rows: Rows
    regions: Table | None = None
    changes: StoredChanges | None = None


def _combine_group(
    analysis: Analysis,
    group: RunGroup,
    runs: Mapping[str, ReportedRun],
    anat: Anatomy | None,
) -> CombinedMaps:
    """Combine the runs of one group, separately for each series.

    `runs`: runs of the group by name, in order; the boldref of the first run is the frame.
    """
    first_name, first = next(iter(runs.items()))
    # with provenance, because the group level compares the digest of the settings with the runs
    outputs = analysis.outputs(
        group.entities, provenance=analysis.provenance, axis_order=first.plan.bold.axis_order
    ).with_references(
        first_boldref=first.fitted.boldref,
        t1w=None if anat is None else anat.t1w_preproc,
    )
    combined_series: dict[str, _CombinedSeries] = {}
    resampled_maps: dict[str, list[Map]] = {}
    with subworkflow(scope_name(_make_scope_name(group))):
        frame = FramedRuns(
            group=group,
            runs=runs,
            first=first,
            registered={
                name: _register_run(name, run, first_name, first, group)
                for name, run in runs.items()
                if name != first_name
            },
            outputs=outputs,
        )
        resampled_maps[ACQUIRED] = _resample_series(frame, ACQUIRED, list(group.used_contrasts))
        # runs that do not match are left out
        agreement = sibling_runs.check_runs(
            resampled_maps[ACQUIRED],
            {name: run.framed_boldref for name, run in frame.registered.items()},
            {name: run.run_scale for name, run in frame.registered.items()},
            first.fitted.boldref,
            first.fitted.bold_mask,
            first=first_name,
            combine_all=analysis.settings.activation.combine_all_runs,
            unusual_runs=group.unusual,
        )
        for series in _list_combined_series(runs.values()):
            selected = frame.select(series)
            used_contrasts = selected.group.used_contrasts
            if len(selected.runs) < 2 or not used_contrasts:
                continue
            if series != ACQUIRED:
                moved_maps = _resample_series(selected, series, list(used_contrasts))
                error_maps = _scale_errors(
                    selected, series, moved_maps, resampled_maps[ACQUIRED], agreement
                )
                resampled_maps[series] = concatenate([moved_maps, error_maps])
            with subworkflow(series, high_resolution=series != ACQUIRED):
                tested_rows = _test_series(selected, series, agreement)
                combined_series[series] = _combine_series(
                    analysis, selected, series, resampled_maps[series], tested_rows, agreement
                )
    primary = combined_series.get(first.plan.primary)
    return CombinedMaps(
        frame=frame,
        maps={name: result.maps for name, result in combined_series.items()},
        rows={name: result.rows for name, result in combined_series.items()},
        resampled=resampled_maps,
        regions=None if primary is None else primary.regions,
        changes=None if primary is None else primary.changes,
    )


def _make_scope_name(group: RunGroup) -> str:
    """Return the name of the subworkflow that combines a group of runs."""
    return f"{group.label}_over_sessions" if group.over_sessions else f"{group.label}_all_runs"


def _register_run(
    name: str, run: ReportedRun, first_name: str, first: ReportedRun, group: RunGroup
) -> _RegisteredRun:
    """Register the boldref of a run to the boldref of the first run, and compare both."""
    with subworkflow(scope_name(name)):
        xfm = resampled_runs.register_to_first_run(
            run.fitted.boldref,
            first.fitted.boldref,
            run.fitted.bold_mask,
            first.fitted.bold_mask,
            random_seed=run.plan.random_seed,
        )
        resampled_boldref, scale = sibling_runs.compare_with_first_run(
            run.fitted.boldref,
            first.fitted.boldref,
            first.fitted.bold_mask,
            xfm,
            run=name,
            first=first_name,
            over_sessions=group.over_sessions,
        )
        place_error = None
        if group.over_runs:
            place_error = resampled_runs.estimate_place_error(
                run.fitted.boldref,
                first.fitted.boldref,
                first.fitted.bold_mask,
                xfm,
            )
    return _RegisteredRun(
        first2run_xfm=xfm,
        framed_boldref=resampled_boldref,
        run_scale=scale,
        place_error=place_error,
    )


def _resample_series(frame: FramedRuns, series: str, contrasts: Sequence[str]) -> list[Map]:
    """Resample the maps of a series of all runs to the frame and scale of the first run."""
    # the acquired maps are also compared between runs before any series is combined, and nipype
    # does not allow workflows that depend on each other
    scope = "acquired_maps" if series == ACQUIRED else series
    resampled_maps: list[list[Map]] = []
    with subworkflow(scope, high_resolution=series != ACQUIRED):
        for name, run in frame.runs.items():
            mapped_series, registered_run = run.maps.series[series], frame.registered.get(name)
            with subworkflow(scope_name(name)):
                resampled = resampled_runs.resample_run_maps(
                    mapped_series.maps,
                    mapped_series.series.mask,
                    frame.find_mask(series),
                    space_maps=[]
                    if mapped_series.space_maps is None
                    else mapped_series.space_maps,
                    first2run_xfm=None if registered_run is None else registered_run.first2run_xfm,
                    run_scale=None if registered_run is None else registered_run.run_scale,
                    card=mapped_series.series.card_file,
                    run=name,
                    contrasts=contrasts,
                    over_sessions=frame.group.over_sessions,
                )
            resampled_maps.append(resampled)
        return concatenate(resampled_maps)


def _list_combined_series(runs: Collection[ReportedRun]) -> list[str]:
    """Return the names of the series whose maps are combined.

    These are the acquired series, the B-spline series, the measured series, the methods, and
    baselines named by the user, whether or not their maps are stored.
    """
    names: dict[str, None] = {}
    for run in runs:
        method_series = series_names(run.plan.stored.methods)
        series_order = (ACQUIRED, _INTERPOLATION, MEASURED, *run.plan.methods, *method_series)
        for name in run.maps.series:
            if name in series_order:
                names[name] = None
    return list(names)


def _scale_errors(
    frame: FramedRuns,
    series: str,
    resampled_maps: list[Map],
    acquired_maps: list[Map],
    agreement: Facts,
) -> list[Map]:
    """Estimate the reconstruction error of the runs from the mean acquired effect of all runs.

    All runs have the series. `resampled_maps` of the series and `acquired_maps` of the acquired
    series are in the frame of the first run, of all runs. `agreement` compares the runs.

    Returns the SD of the reconstruction error of each run and contrast, in the frame of the first
    run and in the output spaces; empty if the method of the series has no prior.
    """
    first, contrasts, frame_mask = frame.first, frame.group.used_contrasts, frame.find_mask(series)
    error_maps: list[list[Map]] = []
    for name, run in frame.runs.items():
        mapped_series = run.maps.series[series]
        if mapped_series.error_powers is None:
            continue
        registered_run = frame.registered.get(name)
        with (
            subworkflow(series, high_resolution=True),
            subworkflow(scope_name(f"{name}_error")),
        ):
            sd_maps = shared_error.scale_run_error(
                resampled_maps,
                acquired_maps,
                mapped_series.error_powers,
                mapped_series.series.mask,
                run.fitted.bold_mask,
                frame_mask,
                first.fitted.bold_mask,
                agreement,
                first2run_xfm=None if registered_run is None else registered_run.first2run_xfm,
                run=name,
                contrasts=contrasts,
            )
            error_maps.append(sd_maps)
            if first.model.grids:
                error_maps.append(
                    spaces.maps_to_spaces(sd_maps, frame_mask, list(first.model.grids.values()))
                )
    return concatenate(error_maps)


def _test_series(frame: FramedRuns, series: str, agreement: Facts) -> Rows | None:
    """Test the detail of the combined effects of a series at half the resolution.

    None is returned if the method of the series has no prior in two runs. `agreement` compares the
    runs.
    """
    runs, group, outputs = frame.runs, frame.group, frame.outputs
    half_resolution_maps = {
        name: maps
        for name, run in runs.items()
        if (maps := run.maps.series[series].half_resolution_maps) is not None
    }
    if len(half_resolution_maps) < 2:
        return None
    if group.contrasts:
        add_methods_text(Part.EVALUATION, tested_runs.RUNS_AS_HALVES_TEXT)
    if group.over_runs:
        add_methods_text(Part.EVALUATION, tested_runs.BLOCKS_OF_RUNS_TEXT)
    tested_rows, columns = tested_runs.compare_runs(
        half_resolution_maps,
        {name: run.first2run_xfm for name, run in frame.registered.items()},
        {name: run.run_scale for name, run in frame.registered.items()},
        agreement,
        {
            name: rows
            for name in half_resolution_maps
            if (rows := runs[name].maps.series[series].coverage_rows) is not None
        },
        series_name=series,
        contrasts=group.contrasts,
        over_runs=group.over_runs,
        factor=next(iter(runs.values())).plan.bold.factor,
        calibrated=frame.is_calibrated(series),
    )
    outputs.store(
        tested_rows,
        {"desc": map_label(series, 0.0, "Detail"), "suffix": "metrics"},
        facts=columns,
        provenance=True,
        level="minimal",
    )
    return tested_rows


def _combine_series(
    analysis: Analysis,
    frame: FramedRuns,
    series: str,
    resampled_maps: list[Map],
    tested_rows: Rows | None,
    agreement: Facts,
) -> _CombinedSeries:
    """Combine the maps of one series and store the result.

    All runs have the series. `resampled_maps` are effects, variances and errors of these runs in
    the frame of the first run. `tested_rows` are the result of the test across runs; None if the
    method of the series has no prior. `agreement` compares the runs.
    """
    group, runs, settings = frame.group, frame.runs, analysis.settings.activation
    missing_series = {
        name: f"the run has no series {series}" for name in group.runs if name not in runs
    }
    combination = Combination(
        series_name=series,
        runs={name: run.plan.entities for name, run in runs.items()},
        left_out={**group.left_out, **missing_series},
        missing_contrasts=group.missing_contrasts,
        thresholds=settings.thresholds,
        calibrated=frame.is_calibrated(series),
        voxel_mm=max(frame.first.plan.bold.zooms[:2]),
    )
    maps, space_maps, rows = combined_runs.combine_maps(
        resampled_maps,
        frame.first.fitted.bold_mask,
        tested_rows=tested_rows,
        run_agreement=agreement,
        combination=combination,
        contrasts=group.contrasts,
        weights=settings.combine_weights,
    )
    combined = _CombinedSeries(maps=maps, space_maps=space_maps, rows=rows)
    _describe_shared_error(frame, analysis.smoothing, combination)
    if group.over_runs:
        combined = _add_contrasts_over_runs(
            frame,
            combined,
            resampled_maps,
            tested_rows,
            agreement,
            combination,
        )
    _store_combined(frame, series, combined)
    return combined


def _describe_shared_error(
    frame: FramedRuns, smoothing: Sequence[float], combination: Combination
) -> None:
    """Describe the error of combined maps if it is known."""
    run_maps = [run.maps.series[combination.series_name] for run in frame.runs.values()]
    has_error = any(mapped_series.error_maps is not None for mapped_series in run_maps)
    if has_error:
        add_methods_text(
            Part.MAPS,
            combined_runs.describe_shared_error(
                smoothing,
                n_runs=len(frame.runs),
                calibrated=combination.calibrated,
                voxel_mm=combination.voxel_mm,
            ),
        )


def _add_contrasts_over_runs(
    frame: FramedRuns,
    combined: _CombinedSeries,
    resampled_maps: list[Map],
    tested_rows: Rows | None,
    agreement: Facts,
    combination: Combination,
) -> _CombinedSeries:
    """Add contrasts over runs to the combined maps of a series.

    Regions and clusters are only measured in the exported series. For the parameters, see
    `_combine_series`.
    """
    first, over_runs = frame.first, frame.group.over_runs
    place_errors = {
        name: run.place_error
        for name, run in frame.registered.items()
        if run.place_error is not None
    }
    difference_maps, rows = combined_runs.contrast_runs(
        resampled_maps,
        place_errors,
        combined.rows,
        agreement,
        combination=combination,
        over_runs=over_runs,
    )
    regions = changes = None
    if combination.series_name == first.plan.primary:
        regions, changes = _contrast_regions(
            frame, resampled_maps, difference_maps, place_errors, tested_rows, agreement
        )
    maps, space_maps = concatenate([combined.maps, difference_maps]), combined.space_maps
    if first.model.grids:
        # the runs are compared in one frame, because their own ways to a template differ
        moved_maps = spaces.maps_to_spaces(
            difference_maps,
            frame.find_mask(combination.series_name),
            list(first.model.grids.values()),
        )
        space_maps = concatenate([space_maps, moved_maps])
    for name, terms in over_runs.items():
        add_methods_text(Part.MAPS, combined_runs.describe_contrast_over_runs(name, terms))
    add_methods_text(Part.MAPS, combined_runs.CONTRASTS_OVER_RUNS_TEXT)
    return _CombinedSeries(
        maps=maps, space_maps=space_maps, rows=rows, regions=regions, changes=changes
    )


def _store_combined(frame: FramedRuns, series: str, combined: _CombinedSeries) -> None:
    """Store the combined maps of a series like the maps of its runs."""
    plans = [run.plan for run in frame.runs.values()]
    stored_entities = _select_stored(series, plans, frame.group.over_runs)
    frame.outputs.store(combined.maps, provenance=True, among=stored_entities)
    if any(bool(run.model.grids) for run in frame.runs.values()):
        frame.outputs.store(combined.space_maps, provenance=True, among=stored_entities)


def _contrast_regions(
    frame: FramedRuns,
    resampled_maps: list[Map],
    difference_maps: list[Map],
    place_errors: dict[str, Facts],
    tested_rows: Rows | None,
    agreement: Facts,
) -> tuple[Table, StoredChanges]:
    """Measure the regions of contrasts over runs in the exported series, and store the table."""
    first, runs = frame.first, frame.runs
    regions, columns, changes = contrasted_regions.contrast_regions(
        {name: run.maps.regions for name, run in runs.items() if run.maps.regions is not None},
        resampled_maps,
        place_errors,
        agreement,
        first.fitted.regions_hr,
        first.maps.atlas,
        tested_rows,
        series_name=first.plan.primary,
        over_runs=frame.group.over_runs,
        calibrated=frame.is_calibrated(first.plan.primary),
        voxel_mm=max(first.plan.bold.zooms[:2]),
    )
    regions, changes = contrasted_regions.add_clusters(
        regions,
        difference_maps,
        changes,
        first.maps.atlas,
        first.fitted.boldref2t1w_xfm,
        None if first.anat is None else first.anat.template.std2t1w_xfm,
        series_name=first.plan.primary,
    )
    frame.outputs.store_metrics(regions, "regions", columns)
    return regions, changes


def _is_calibrated(run: ReportedRun, series: str) -> bool:
    """Return whether a series of a run was computed with a calibration run."""
    request = run.maps.series[series].series.request
    method = None if request is None else request.method
    return run.plan.uses_calibration and method is not None and method.uses_calibration


def _select_stored(
    series: str, plans: Sequence[RunPlan], over_runs: Collection[str]
) -> list[dict[str, str]]:
    """Return the entities of the combined maps to store, which are the entities of run maps.

    The first run may lack a contrast that the other runs have. Contrasts `over_runs` are stored
    like the contrasts of runs, with the significant voxels of their safe map.
    """
    run_entities: list[dict[str, str]] = []
    for plan in plans:
        stored = list_stored_maps(series, plan.stored, [*plan.contrasts, *over_runs])
        if series == plan.primary:
            desc = map_label(series, max(plan.stored.smoothing), "Fdr")
            stored += [{"suffix": "mask", "desc": desc, "label": name} for name in over_runs]
        for map_entities in stored:
            if map_entities not in run_entities:
                run_entities.append(map_entities)
    spread_entities = [
        {**map_entities, "stat": "personsd"}
        for map_entities in run_entities
        if map_entities.get("stat") == "effect"
    ]
    return [*run_entities, *spread_entities]


def report_participant(analysis: Analysis, combined_maps: Sequence[CombinedMaps]) -> None:
    """Draw the combined maps of each task."""
    for maps in combined_maps:
        if maps.maps:
            _report_combined(analysis, maps)


def _report_combined(analysis: Analysis, combined_maps: CombinedMaps) -> None:
    """Draw the report figures of the combined runs of one task.

    The effect is shown for the primary series, or for the last combined series if the primary
    series was not combined.
    """
    frame, group = combined_maps.frame, combined_maps.group
    plan = frame.first.plan
    series = plan.primary if plan.primary in combined_maps.maps else list(combined_maps.maps)[-1]
    outputs = analysis.outputs(group.entities, axis_order=plan.bold.axis_order)
    names = {name: name_over_runs(name, terms) for name, terms in group.over_runs.items()}
    with subworkflow(scope_name(f"{_make_scope_name(group)}_report"), high_resolution=True):
        verdict, result = runs_verdict.judge_runs(
            combined_maps.maps[series],
            combined_maps.rows[series],
            {name: run.evaluation.evidence for name, run in frame.runs.items()},
            combined_maps.changes,
            series=series,
            names=names,
            tested_mm=_list_tested_sizes(plan),
            runs={name: run.plan.bold.stem for name, run in frame.runs.items()},
        )
        frame.outputs.store_metrics(verdict, "verdict")
        outputs.store_figures(
            participant_figures.draw_participant(
                concatenate(combined_maps.maps.values()),
                combined_maps.resampled[series],
                combined_maps.rows[series],
                make_scene_images(frame.first),
                result,
                combined_maps.regions,
                frame.first.fitted.boldref2t1w_xfm,
                None if frame.first.anat is None else frame.first.anat.template.std2t1w_xfm,
                page=participant_figures.ParticipantPage(
                    entities=group.entities,
                    over_sessions=group.over_sessions,
                    factor=plan.bold.factor,
                    stored=replace(plan.stored, primary=series),
                    n_runs=plan.n_runs,
                    names=names,
                    uncombined=list_uncombined_contrasts(group),
                    tested_mm=_list_tested_sizes(plan),
                ),
            )
        )


def _list_tested_sizes(plan: RunPlan) -> tuple[list[float], list[float]]:
    """Return voxel sizes (mm) of the downsampled and of the acquired run; slices are kept."""
    acquired_mm = [round(size, 4) for size in plan.bold.zooms]
    factor = (*plan.bold.factor[:2], 1.0)
    return [round(mm * f, 4) for mm, f in zip(acquired_mm, factor, strict=True)], acquired_mm
