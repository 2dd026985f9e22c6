"""Series of other programs (``--compare``): imported, resampled to the run's grid and judged."""

from pathlib import Path

from bids_sr.io.grids import AxisOrder
from bids_sr.pipeline.graph import Scope
from bids_sr.pipeline.step import Part
from bids_sr.steps import motion
from bids_sr.steps.compared import placing
from bids_sr.workflows.acquired_runs import add_another_run
from bids_sr.workflows.run_scope import RunOf

_FINE = {"mask": "compared_mask", "roi": "roi_hr"}


def add_compared(run: RunOf) -> None:
    """Place the compared series of a run; they are evaluated beside the others, and not stored."""
    if not run.bold.compared:
        return
    scope, timed = run.scope, bool(run.scope.setting("has_stc"))
    scope.say(Part.SERIES, placing.compared_text(run.compared))
    for name, one in run.bold.compared.items():
        correct = timed and not one.is_corrected
        run.series[name] = place_compared(scope, name, one.bold, one.axis_order, correct=correct)
    other = run.bold.another
    if other is not None and run.bold.bold not in run.planned.plan.unsplit:
        correct = timed and other.slice_timing is not None
        own = scope.within(
            "another_run_wf",
            axis_order=other.axis_order,
            tr=other.tr,
            slice_times=other.slice_timing,
            has_stc=correct,
            dummy_scans=run.planned.settings.preprocessing.dummy_scans,
        )
        add_another_run(own, other.bold, other.events, correct=correct)


def place_compared(
    scope: Scope, name: str, file: Path, order: AxisOrder, *, correct: bool
) -> Scope:
    """Place the steps that bring a series of another program to the grid of its run.

    `file`: file of the series (NIfTI, 4D).
    """
    own = scope.within(name, alias=_FINE, series_name=name)
    own.give(bold_file=file)
    own.add(placing.import_compared, axis_order=order)
    own.add(placing.align_compared)
    if correct:
        own.add(motion.correct_slice_timing, quiet=True, wires={"bold": own["compared"]})
    else:
        own.alias["stc"] = "compared"
    own.add(placing.place_compared, wires={"acquired": scope["stc"]})
    return own
