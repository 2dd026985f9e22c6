"""Series of other programs (``--compare``): imported, brought to the grid of the run, judged beside it."""

from bids_sr.pipeline.step import Part
from bids_sr.steps import motion
from bids_sr.steps.compared import comparing, placing
from bids_sr.workflows.run_scope import RunOf

FINE = {"mask": "bold_mask_hr", "roi": "roi_hr"}


def add_compared(run: RunOf) -> None:
    """Place the compared series of a run; they are evaluated beside the others, and not stored."""
    if not run.bold.compared:
        return
    scope, timed = run.scope, bool(run.scope.setting("has_stc"))
    scope.say(Part.SERIES, placing.compared_text(run.compared))
    for one in run.bold.compared:
        own = run.series[one.name] = scope.within(one.name, alias=FINE, series_name=one.name)
        own.give(bold_file=one.bold)
        own.add(motion.import_series, rename={"bold": "compared"}, quiet=True, axis_order=one.axis_order)
        own.add(placing.align_compared)
        if timed and not one.corrected:
            own.add(motion.correct_slice_timing, quiet=True, wires={"bold": own["compared"]})
        else:
            own.alias["stc"] = "compared"
        own.add(placing.place_compared)
    among = [*run.compared, placing.UPSAMPLING]
    scope.add(comparing.match_resolution, wires={"series": scope.gather("series", among)})
