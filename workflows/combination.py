"""Combination of the runs of a task, within sessions and over sessions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace

from bids_sr.bids import BoldRun
from bids_sr.combination.checks import RunGroup, UncombinedRuns, group_runs, list_uncombined_runs
from bids_sr.combination.steps import (
    combined_runs,
    figures as participant_figures,
    fused_slices,
    sibling_runs,
)
from bids_sr.frozen import frozen
from bids_sr.pipeline.artifacts import Facts, File, Image, Map, Mask, Rows, Transforms
from bids_sr.pipeline.flow import add_methods_text, concatenate, expect_cost, subworkflow
from bids_sr.pipeline.nodes import scope_name
from bids_sr.pipeline.step import Part
from bids_sr.run_time import RunTime
from bids_sr.series import MEASURED, RAW, series_names
from bids_sr.steps import activation
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.fit_run import FittedRun
from bids_sr.workflows.make_series import RunSeries
from bids_sr.workflows.map_run import MappedRun, MappedSeries, maps_to_store
from bids_sr.workflows.report_run import scene_images
from bids_sr.workflows.run_plan import RunPlan
from bids_sr.workflows.series_requests import Planned

_PLAIN = "bspline"
_MAPS_OF_A_RUN = 3
"""Number of maps per run, contrast and smoothing: effect, variance and error."""


@frozen
class ProcessedRun:
    """Results of a run that the participant level uses.

    `effects`: files of block effects, by series; empty if the run cannot be split into halves.
    """

    plan: RunPlan
    fitted: FittedRun
    series: RunSeries
    maps: MappedRun
    effects: Mapping[str, File] = field(default_factory=dict)


@frozen
class CombinedMaps:
    """Maps of the combined runs of one task.

    Parameters
    ----------
    group : RunGroup
        Combined runs, and skipped runs with the reason.
    runs : Mapping[str, ProcessedRun]
        Combined runs by name; the boldref of the first run is the frame.
    first2run_xfms : Mapping[str, Transforms]
        Transforms from a point of the first run's boldref to its point in the boldref of each
        further run, by name.
    run_scales : Mapping[str, Facts]
        Signal of each further run relative to the first run, by name.
    agreement : Facts
        Comparison of the runs, with the runs that are left out.
    maps : Mapping[str, list[Map]]
        Maps and regions in the frame of the first run, by series.
    space_maps : Mapping[str, list[Map]]
        Maps and regions in other spaces, by series.
    rows : Mapping[str, Rows]
        Size of the regions and expected share of the wrong sign, by series.
    skipped_runs : Mapping[str, Mapping[str, str]]
        Reason why a run was skipped, by series and name of the run.
    resampled : Mapping[str, list[Map]]
        Effects, variances and errors of the runs in the frame of the first run, by series.
    """

    group: RunGroup
    runs: Mapping[str, ProcessedRun]
    first2run_xfms: Mapping[str, Transforms]
    run_scales: Mapping[str, Facts]
    agreement: Facts
    maps: Mapping[str, list[Map]]
    space_maps: Mapping[str, list[Map]]
    rows: Mapping[str, Rows]
    skipped_runs: Mapping[str, Mapping[str, str]]
    resampled: Mapping[str, list[Map]]

    @property
    def first(self) -> ProcessedRun:
        """First run, whose boldref is the frame."""
        return next(iter(self.runs.values()))

    @property
    def scope(self) -> str:
        """Name of the subworkflow that combines the runs."""
        return _scope(self.group)


def _scope(group: RunGroup) -> str:
    return f"{group.label}_over_sessions" if group.over_sessions else f"{group.label}_all_runs"


def combine_participant(
    planned: Planned, processed: Sequence[ProcessedRun], anat: Anatomy | None
) -> list[CombinedMaps]:
    """Combine the runs of each task of a participant, within sessions and over sessions.

    Parameters
    ----------
    planned : Planned
        Settings of the call and plan of all participants.
    processed : Sequence[ProcessedRun]
        Runs of the participant.
    anat : Anatomy | None
        Anatomy of the participant; None if missing.

    Returns
    -------
    list[CombinedMaps]
        Maps of each task and session, followed by maps of each task over sessions. Empty if no
        runs can be combined, or if no linear model was requested.
    """
    if "glm" not in planned.settings.activation.kinds:
        return []
    by_file = {run.plan.bold.bold: run for run in processed}
    combined = []
    for group in group_runs([run.plan.bold for run in processed], planned.plan):
        runs = {name: by_file[run.bold] for name, run in group.runs.items()}
        combined.append(_combine_group(planned, group, runs, anat))
    if combined:
        add_methods_text(
            Part.MAPS,
            combined_runs.describe_combination(
                over_sessions=any(maps.group.over_sessions for maps in combined),
                in_spaces=any(bool(run.series.grids) for run in processed),
                with_error=any(
                    mapped.error_maps is not None
                    for run in processed
                    for mapped in run.maps.mapped.values()
                ),
                weights=planned.settings.activation.combine_weights,
                combine_all=planned.settings.activation.combine_all_runs,
            ),
        )
    return combined


def _combine_group(
    planned: Planned,
    group: RunGroup,
    runs: Mapping[str, ProcessedRun],
    anat: Anatomy | None,
) -> CombinedMaps:
    """Combine the runs of one group, separately for each series.

    `runs`: runs of the group by name, in order; the boldref of the first run is the frame.
    """
    first_name, first = next(iter(runs.items()))
    # the group level compares the digest of the settings with the digest of the runs
    outputs = planned.outputs(
        group.entities, provenance=planned.provenance, axis_order=first.plan.bold.axis_order
    )
    outputs = outputs.with_references(
        boldref=first.fitted.motion.boldref, t1w=None if anat is None else anat.t1w_preproc
    )
    maps: dict[str, list[Map]] = {}
    space_maps: dict[str, list[Map]] = {}
    rows: dict[str, Rows] = {}
    left_out: dict[str, Mapping[str, str]] = {}
    resampled_maps: dict[str, list[Map]] = {}
    with subworkflow(scope_name(_scope(group))):
        registered = {
            name: _register(name, run, first_name, first, percent=group.over_sessions)
            for name, run in runs.items()
            if name != first_name
        }
        resampled_maps[RAW] = _carry_series(
            RAW, runs, first, registered, group, list(group.contrasts)
        )
        agreement = sibling_runs.check_runs(
            resampled_maps[RAW],
            {name: run.framed_boldref for name, run in registered.items()},
            {name: run.run_scale for name, run in registered.items()},
            first.fitted.motion.boldref,
            first.fitted.registration.bold_mask,
            first=first_name,
            combine_all=planned.settings.activation.combine_all_runs,
        )
        n_pairs = len(runs) * (len(runs) - 1)
        expect_cost(agreement, RunTime(always=0.2, low=0.5 * n_pairs * (1 + len(group.contrasts))))
        for series in _list_combined_series(runs.values()):
            members = {name: run for name, run in runs.items() if series in run.maps.mapped}
            contrasts = {
                contrast: shared
                for contrast, names in group.contrasts.items()
                if len(shared := [name for name in names if name in members]) > 1
            }
            if len(members) < 2 or not contrasts:
                continue
            missing_series = {
                name: f"the run has no series {series}" for name in runs if name not in members
            }
            left_out[series] = {**group.left_out, **missing_series}
            if series != RAW:
                resampled_maps[series] = _carry_series(
                    series, members, first, registered, group, list(contrasts)
                )
            with subworkflow(series, high_resolution=series != RAW):
                stored = _select_stored(series, [run.plan for run in members.values()])
                maps[series], space_maps[series], rows[series] = combined_runs.combine_maps(
                    resampled_maps[series],
                    first.fitted.registration.bold_mask,
                    coverage_rows=[
                        mapped.coverage_rows
                        for run in members.values()
                        if (mapped := run.maps.mapped[series]).coverage_rows is not None
                    ],
                    run_agreement=agreement,
                    series_name=series,
                    contrasts=contrasts,
                    runs={name: run.plan.entities for name, run in members.items()},
                    left_out=left_out[series],
                    missing_contrasts=group.missing_contrasts,
                    thresholds=planned.settings.activation.thresholds,
                    calibrated=any(_is_calibrated(run, series) for run in members.values()),
                    percent=group.over_sessions,
                    weights=planned.settings.activation.combine_weights,
                )
                n_maps = len(contrasts) * len(planned.settings.activation.smoothing)
                has_error = any(
                    run.maps.mapped[series].error_maps is not None for run in members.values()
                )
                seconds = (1.1 if has_error else 0.6) * n_maps
                expect_cost(maps[series], RunTime(always=0.3, high=seconds))
                outputs.store(maps[series], provenance=True, among=stored)
                if any(bool(run.series.grids) for run in members.values()):
                    outputs.store(space_maps[series], provenance=True, among=stored)
    return CombinedMaps(
        group=group,
        runs=runs,
        first2run_xfms={name: run.first2run_xfm for name, run in registered.items()},
        run_scales={name: run.run_scale for name, run in registered.items()},
        agreement=agreement,
        maps=maps,
        space_maps=space_maps,
        rows=rows,
        skipped_runs=left_out,
        resampled=resampled_maps,
    )


@frozen
class _RegisteredRun:
    """Further run in the frame of the first run.

    `first2run_xfm`: transform from points of the first boldref. `framed_boldref`: boldref on the
    grid of the first run. `run_scale`: signal relative to the first run.
    """

    first2run_xfm: Transforms
    framed_boldref: Image
    run_scale: Facts


def _register(
    name: str, run: ProcessedRun, first_name: str, first: ProcessedRun, *, percent: bool
) -> _RegisteredRun:
    """Register the boldref of a run to the boldref of the first run, and compare both."""
    with subworkflow(scope_name(name)):
        xfm = combined_runs.register_to_first_run(
            run.fitted.motion.boldref,
            first.fitted.motion.boldref,
            run.fitted.registration.bold_mask,
            first.fitted.registration.bold_mask,
            random_seed=run.plan.planned.settings.resources.random_seed,
        )
        resampled_boldref, scale = sibling_runs.compare_with_first_run(
            run.fitted.motion.boldref,
            first.fitted.motion.boldref,
            first.fitted.registration.bold_mask,
            xfm,
            run=name,
            first=first_name,
            percent=percent,
        )
    return _RegisteredRun(first2run_xfm=xfm, framed_boldref=resampled_boldref, run_scale=scale)


def _carry_series(
    series: str,
    runs: Mapping[str, ProcessedRun],
    first: ProcessedRun,
    registered: Mapping[str, _RegisteredRun],
    group: RunGroup,
    contrasts: Sequence[str],
) -> list[Map]:
    """Resample the maps of a series in all runs to the frame of the first run."""
    # the acquired maps are also compared between runs before any series is combined, and nipype
    # does not allow workflows that depend on each other
    scope = "acquired_maps" if series == RAW else series
    with subworkflow(scope, high_resolution=series != RAW):
        return concatenate(
            _carry(name, run, series, first, registered.get(name), group, contrasts)
            for name, run in runs.items()
        )


def _carry(
    name: str,
    run: ProcessedRun,
    series: str,
    first: ProcessedRun,
    registered: _RegisteredRun | None,
    group: RunGroup,
    contrasts: Sequence[str],
) -> list[Map]:
    """Resample the maps of a series to the frame of the first run, and to its scale."""
    mapped: MappedSeries = run.maps.mapped[series]
    with subworkflow(scope_name(name)):
        resampled = combined_runs.resample_run_maps(
            mapped.maps,
            mapped.series.mask,
            _mask_of_frame(first, series),
            run.fitted.motion.boldref,
            run.fitted.registration.bold_mask,
            error_maps=[] if mapped.error_maps is None else mapped.error_maps,
            space_maps=[] if mapped.space_maps is None else mapped.space_maps,
            first2run_xfm=None if registered is None else registered.first2run_xfm,
            run_scale=None if registered is None else registered.run_scale,
            card=mapped.series.card_file,
            run=name,
            contrasts=contrasts,
            percent=group.over_sessions,
        )
        n_maps = (
            _MAPS_OF_A_RUN * len(contrasts) * len(run.plan.planned.settings.activation.smoothing)
        )
        seconds = (0.05 if registered is None else 0.18) * n_maps
        expect_cost(resampled, RunTime(always=0.3, high=seconds))
        return resampled


def _mask_of_frame(first: ProcessedRun, series: str) -> Mask:
    """Return the brain on the grid of the combined maps of a series."""
    if series in first.maps.mapped:
        return first.maps.mapped[series].series.mask
    registered = first.fitted.registration
    return registered.bold_mask if series == RAW else registered.bold_mask_hr


def _list_combined_series(runs: Collection[ProcessedRun]) -> list[str]:
    """Return the names of the series whose maps are combined.

    These are the acquired series, the B-spline series, the methods, the measured and compared
    series, and baselines named by the user, whether or not their maps are stored.
    """
    names: dict[str, None] = {}
    for run in runs:
        method_series = series_names(run.plan.planned.settings.superres.methods)
        series_order = (
            RAW,
            _PLAIN,
            MEASURED,
            *run.plan.methods,
            *run.plan.compared_names,
            *method_series,
        )
        for name in run.maps.mapped:
            if name in series_order:
                names[name] = None
    return list(names)


def _select_stored(series: str, plans: Sequence[RunPlan]) -> list[dict[str, str]]:
    """Return the combined maps that are stored, by their entities: the same as of the runs.

    The first run may lack a contrast that the other runs have.
    """
    of_runs: list[dict[str, str]] = []
    for plan in plans:
        for choice in activation.select_stored_maps(series, maps_to_store(plan), plan.contrasts):
            if choice not in of_runs:
                of_runs.append(choice)
    spread = [
        {**choice, "stat": "personsd"} for choice in of_runs if choice.get("stat") == "effect"
    ]
    return [*of_runs, *spread]


def _is_calibrated(run: ProcessedRun, series: str) -> bool:
    """Return whether a series of a run was computed with a calibration run."""
    spec = run.maps.mapped[series].series.request
    method = None if spec is None else spec.method
    return run.plan.calibrated and method is not None and method.uses_calibration


@frozen
class FusedSlices:
    """Result of the fusion of the runs of a task.

    Parameters
    ----------
    fusion : Facts
        Whether runs were fused, the fused runs, and the reason if nothing was fused.
    maps : list[Map]
        Fused and interpolated effects on thin slices; empty if nothing was fused.
    """

    fusion: Facts
    maps: list[Map]


def fuse_slices(planned: Planned, combined: CombinedMaps) -> FusedSlices | None:
    """Fuse the runs of a task on thinner slices, if their slices are displaced.

    Only the effects of the primary series are fused, and only if a test of the fusion passes.
    Runs of several sessions are not fused.

    Parameters
    ----------
    planned : Planned
        Settings of the call and plan of all participants.
    combined : CombinedMaps
        Combined runs, with their transforms.

    Returns
    -------
    FusedSlices | None
        None if the primary series cannot be fused: runs are from several sessions or at rest, a
        run has no block effects of the series, or slices are already thinner than acquired.
    """
    runs, group = combined.runs, combined.group
    first, *other_runs = runs
    plan = runs[first].plan
    series = plan.primary
    effects: dict[str, File] = {
        name: run.effects[series]
        for name, run in runs.items()
        if series in run.effects and series in run.maps.mapped
    }
    thinner = any(run.plan.bold.factor[2] != 1 for run in runs.values())
    at_rest = any(run.plan.at_rest for run in runs.values())
    if group.over_sessions or at_rest or thinner or len(effects) < len(runs):
        return None
    # contrasts are defined by their weights in the first run
    contrasts = {name: names for name, names in group.contrasts.items() if first in names}
    outputs = planned.outputs(
        group.entities, provenance=planned.provenance, axis_order=plan.bold.axis_order
    )
    outputs = outputs.with_references(boldref=runs[first].fitted.motion.boldref)
    first2run_xfms = dict(combined.first2run_xfms)
    first_mapped = runs[first].maps.mapped[series]
    masks = {name: runs[name].maps.mapped[series].series.mask for name in other_runs}
    scope = scope_name(f"{group.label}_slices")
    with subworkflow(scope, high_resolution=True):
        displacements = fused_slices.measure_displacements(
            first_mapped.maps, first_mapped.series.mask, masks, first2run_xfms, first=first
        )
        slow_sds: dict[str, Image] = {}
        for name, run in runs.items():
            mapped = run.maps.mapped[series]
            with subworkflow(scope_name(name)):
                slow_sds[name] = fused_slices.measure_slow_sd(
                    mapped.series.series,
                    mapped.series.mask,
                    run.fitted.motion.hmc_xfms,
                    displacements,
                    run.fitted.outliers,
                    run=name,
                    first=first,
                    n_dummy=run.fitted.n_dummy,
                )
        fusion = fused_slices.decide_fusion(
            first_mapped.maps,
            first_mapped.series.mask,
            masks,
            first2run_xfms,
            effects,
            slow_sds,
            displacements,
            dict(combined.run_scales),
            combined.agreement,
            first=first,
            series_name=series,
        )
        maps = fused_slices.fuse_maps(
            first_mapped.series.mask,
            first2run_xfms,
            effects,
            slow_sds[first],
            fusion,
            dict(combined.run_scales),
            first=first,
            series_name=series,
            contrasts={name: plan.contrasts[name] for name in contrasts},
            runs_of_contrasts=contrasts,
            smoothing=plan.planned.settings.activation.smoothing,
        )
        add_methods_text(Part.MAPS, fused_slices.describe_fusion(series))
        outputs.store(maps, provenance=True, among=_select_thin_maps(series, runs[first]))
    return FusedSlices(fusion=fusion, maps=maps)


def _select_thin_maps(series: str, run: ProcessedRun) -> list[dict[str, str]]:
    """Return the entities of the thin-slice maps to store, for effects that runs also store."""
    run_maps = activation.select_stored_maps(series, maps_to_store(run.plan), run.plan.contrasts)
    return [
        {**choice, "desc": f"{choice['desc']}{kind}"}
        for choice in run_maps
        if choice.get("stat") == "effect"
        for kind in (fused_slices.FUSED, fused_slices.SPLINED)
    ]


def report_participant(
    planned: Planned,
    runs: Sequence[BoldRun],
    combined: Sequence[CombinedMaps],
    fused: Sequence[FusedSlices | None],
) -> None:
    """Draw the combined maps of each task, or explain why runs were not combined.

    Parameters
    ----------
    planned : Planned
        Settings of the call and plan of all participants.
    runs : Sequence[BoldRun]
        Runs of the participant.
    combined : Sequence[CombinedMaps]
        Combined maps of the participant.
    fused : Sequence[FusedSlices | None]
        Results of the slice fusion of the same runs; None if the runs cannot be fused.
    """
    for maps, slices in zip(combined, fused, strict=True):
        if maps.maps:
            _report_combined(planned, maps, slices)
    if "glm" in planned.settings.activation.kinds:
        for uncombined in list_uncombined_runs(runs, planned.plan):
            _report_uncombined(planned, uncombined)


def _report_uncombined(planned: Planned, uncombined: UncombinedRuns) -> None:
    """Explain why runs of one task were not combined."""
    outputs = planned.outputs(uncombined.entities)
    with subworkflow(scope_name(f"{uncombined.label}_uncombined")):
        outputs.store_figures(
            participant_figures.explain_missing_map(
                entities=uncombined.entities,
                names=uncombined.names,
                reasons=uncombined.reasons,
                over_sessions=uncombined.over_sessions,
            )
        )


def _report_combined(planned: Planned, combined: CombinedMaps, slices: FusedSlices | None) -> None:
    """Draw the report figures of the combined runs of one task.

    The effect is shown for the primary series, or for the last combined series if the primary
    series was not combined.
    """
    first, plan = combined.first, combined.first.plan
    series = plan.primary if plan.primary in combined.maps else list(combined.maps)[-1]
    outputs = planned.outputs(combined.group.entities, axis_order=plan.bold.axis_order)
    with subworkflow(scope_name(f"{combined.scope}_report"), high_resolution=True):
        outputs.store_figures(
            participant_figures.draw_participant(
                concatenate(combined.maps.values()),
                combined.resampled[series],
                combined.rows[series],
                scene_images(first.fitted, first.maps),
                first.fitted.registration.bold_mask,
                {
                    name: rows
                    for name, run in combined.runs.items()
                    if series in run.maps.mapped
                    and (rows := run.maps.mapped[series].error_rows) is not None
                },
                None if slices is None else slices.fusion,
                entities=combined.group.entities,
                percent=combined.group.over_sessions,
                at_rest=plan.at_rest,
                stored=replace(maps_to_store(plan), primary=series),
            )
        )
