"""Series of other programs (``--compare``): imported, brought to the grid of the run, judged beside it."""

from bids_sr.bids.inputs import Companion
from bids_sr.pipeline.step import Part
from bids_sr.steps import motion
from bids_sr.steps.compared import another_run, placing
from bids_sr.workflows.run_scope import RunOf

FINE = {"mask": "compared_mask", "roi": "roi_hr"}


def add_compared(run: RunOf) -> None:
    """Place the compared series of a run; they are evaluated beside the others, and not stored."""
    if not run.bold.compared:
        return
    scope, timed = run.scope, bool(run.scope.setting("has_stc"))
    scope.say(Part.SERIES, placing.compared_text(run.compared))
    for one in run.bold.compared:
        own = run.series[one.name] = scope.within(one.name, alias=FINE, series_name=one.name)
        own.give(bold_file=one.bold)
        own.add(placing.import_compared, axis_order=one.header.order)
        own.add(placing.align_compared)
        if timed and not one.is_corrected:
            own.add(motion.correct_slice_timing, quiet=True, wires={"bold": own["compared"]})
        else:
            own.alias["stc"] = "compared"
        own.add(placing.place_compared, wires={"acquired": scope["stc"]})
    if run.bold.another is not None and run.bold.bold not in run.planned.plan.unsplit:
        _add_another_run(run, run.bold.another)


def _add_another_run(run: RunOf, other: Companion) -> None:
    """Another acquired run of the task: its motion, its place on the run, the effects of its blocks."""
    scope = run.scope
    timed = other.slice_timing is not None and bool(scope.setting("has_stc"))
    own = scope.within(
        "another_run_wf", axis_order=other.header.order, tr=other.tr, slice_times=other.slice_timing, has_stc=timed,
        dummy_scans=run.planned.settings.preprocessing.dummy_scans, alias={"reference": "other_ref"},
    )  # fmt: skip
    own.give(bold_file=other.bold, regressors=other.events)
    own.add(motion.import_series, motion.count_dummies, quiet=True)
    own.add(motion.average_volumes, rename={"boldref": "other_ref"}, keep=False, quiet=True)
    own.add(motion.mask_head, motion.estimate_motion, wires={"boldref": own["other_ref"]}, keep=False, quiet=True)
    if timed:
        own.add(motion.correct_slice_timing, quiet=True)
    else:
        own.alias["stc"] = "bold"
    own.add(another_run.measure_other_run)
    scope.give(other_effects=own["other_effects"])
