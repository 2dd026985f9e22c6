"""Series of other programs (``--compare``): imported, resampled to the run's grid and judged."""

from pathlib import Path

from bids_sr.io.grids import AxisOrder
from bids_sr.pipeline.graph import Scope
from bids_sr.pipeline.step import Part
from bids_sr.stats.glm.regressors import Events
from bids_sr.steps import motion
from bids_sr.steps.compared import another_run, placing
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

    Parameters
    ----------
    scope : of the run
    order : axis of the file that each axis of the run is
    correct : whether its slice timing is corrected

    Returns
    -------
    The scope of the series
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


def add_another_run(
    own: Scope, file: Path, events: Path | Events | None, *, correct: bool
) -> None:
    """Add another acquired run of the task.

    This gives its motion, its alignment to the run, and the effects of its blocks.

    Parameters
    ----------
    own : a scope of it in that of the run
    correct : whether its slice timing is corrected
    """
    assert own.outer is not None
    own.alias["reference"] = "other_ref"
    own.give(bold_file=file, regressors=events)
    own.add(motion.import_series, motion.count_dummies, quiet=True)
    own.add(motion.average_volumes, rename={"boldref": "other_ref"}, keep=False, quiet=True)
    own.add(
        motion.mask_head,
        motion.estimate_motion,
        wires={"boldref": own["other_ref"]},
        keep=False,
        quiet=True,
    )
    if correct:
        own.add(motion.correct_slice_timing, quiet=True)
    else:
        own.alias["stc"] = "bold"
    own.add(another_run.measure_other_run)
    own.outer.give(other_effects=own["other_effects"])
