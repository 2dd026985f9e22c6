"""Report figures of the combined runs of a participant."""

from collections.abc import Sequence
from dataclasses import replace

from bids_sr.bids import BoldRun
from bids_sr.pipeline.flow import concatenate, subworkflow
from bids_sr.pipeline.nodes import scope_name
from bids_sr.preflight.combined_runs import UncombinedRuns, uncombined_runs
from bids_sr.steps.figures import participant as participant_figures
from bids_sr.workflows.combine_runs import CombinedMaps
from bids_sr.workflows.fuse_slices import FusedSlices
from bids_sr.workflows.map_run import maps_to_store
from bids_sr.workflows.report_run import scene_images
from bids_sr.workflows.series_requests import Planned


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
        for uncombined in uncombined_runs(runs, planned.plan):
            _report_uncombined(planned, uncombined)


def _report_uncombined(planned: Planned, uncombined: UncombinedRuns) -> None:
    """Explain why runs of one task were not combined."""
    outputs = planned.outputs(uncombined.entities)
    with subworkflow(scope_name(f"{uncombined.label}_uncombined")):
        outputs.keep_figures(
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
        outputs.keep_figures(
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
