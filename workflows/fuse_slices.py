"""Fusion of runs with displaced slices into maps on slices of half the thickness."""

from bids_sr.frozen import frozen
from bids_sr.pipeline.artifacts import Facts, File, Image, Map
from bids_sr.pipeline.flow import say, subworkflow
from bids_sr.pipeline.nodes import scope_name
from bids_sr.pipeline.step import Part
from bids_sr.steps import activation, fused_slices
from bids_sr.workflows.combine_runs import CombinedMaps, ProcessedRun
from bids_sr.workflows.map_run import maps_to_store
from bids_sr.workflows.series_requests import Planned


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
    first, *further = runs
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
    masks = {name: runs[name].maps.mapped[series].series.mask for name in further}
    scope = scope_name(f"{group.label}_slices")
    with subworkflow(scope, high_resolution=True):
        displaced = fused_slices.measure_displacements(
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
                    displaced,
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
            displaced,
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
        say(Part.MAPS, fused_slices.describe_fusion(series))
        outputs.keep(maps, provenance=True, among=_select_stored(series, runs[first]))
    return FusedSlices(fusion=fusion, maps=maps)


def _select_stored(series: str, run: ProcessedRun) -> list[dict[str, str]]:
    """Return the entities of the thin-slice maps to store, for effects that runs also store."""
    run_maps = activation.select_stored_maps(series, maps_to_store(run.plan), run.plan.contrasts)
    return [
        {**choice, "desc": f"{choice['desc']}{kind}"}
        for choice in run_maps
        if choice.get("stat") == "effect"
        for kind in (fused_slices.FUSED, fused_slices.SPLINED)
    ]
