"""Report figures of the combined runs of a participant."""

from collections.abc import Sequence

from bids_sr.pipeline.flow import joined, subworkflow
from bids_sr.pipeline.nodes import scope_name
from bids_sr.steps.figures import participant as participant_figures
from bids_sr.workflows.combine_runs import CombinedMaps
from bids_sr.workflows.fuse_slices import FusedSlices
from bids_sr.workflows.map_run import maps_to_store
from bids_sr.workflows.wanted import Planned


def report_participant(
    planned: Planned,
    combined: Sequence[CombinedMaps],
    fused: Sequence[FusedSlices | None],
) -> None:
    """Draw the combined maps of each task.

    Parameters
    ----------
    planned : Planned
        Settings of the call and plan of all participants.
    combined : Sequence[CombinedMaps]
        Combined maps of the participant.
    fused : Sequence[FusedSlices | None]
        Results of the slice fusion of the same runs; None if the runs cannot be fused.
    """
    for runs, slices in zip(combined, fused, strict=True):
        if runs.maps:
            _report_combined(planned, runs, slices)


def _report_combined(planned: Planned, combined: CombinedMaps, slices: FusedSlices | None) -> None:
    """Draw the combined map of the primary series for the runs of one task."""
    first, plan = combined.first, combined.first.plan
    stored = maps_to_store(plan)
    series = plan.primary if plan.primary in combined.maps else list(combined.maps)[-1]
    outputs = planned.outputs(combined.group.entities, axis_order=plan.bold.axis_order)
    with subworkflow(scope_name(f"{combined.scope}_report"), high_resolution=True):
        outputs.keep_figures(
            participant_figures.draw_participant(
                joined(combined.maps.values()),
                combined.carried[series],
                combined.rows[series],
                first.fitted.registration.bold_mask_hr,
                first.maps.roi_hr,
                first.fitted.motion.boldref,
                first.fitted.registration.bold_mask,
                first.fitted.registration.guide_hr,
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
                level=stored.level,
                methods=list(stored.methods),
                baselines=stored.baselines,
                smoothing=stored.smoothing,
                kinds=stored.kinds,
                primary=series,
                minus_others=list(stored.minus_others),
            )
        )
