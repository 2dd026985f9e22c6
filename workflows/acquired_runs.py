"""Series as acquired: volumes at the start, reference and head motion, of a run and of others.

What a scope was given takes the place of what would be estimated.
"""

from pathlib import Path

from bids_sr.glm.design import Events
from bids_sr.pipeline.graph import Scope, Wires
from bids_sr.steps import calibration_run, imported, motion
from bids_sr.steps.compared import another_run


def add_motion(scope: Scope, reference: str = "boldref") -> None:
    """Add the reference of an acquired series and its head motion.

    `reference`: name of the reference; of another series than that of the run nothing is stored.
    """
    of_run, made = reference == "boldref", {"boldref": reference}
    keep, quiet = of_run, not of_run
    if "given_hmc_xfms" in scope.makers:
        own: Wires = {} if of_run else {"distortion": (), "given_boldref": ()}
        scope.add(imported.import_motion, rename=made, wires=own, keep=keep, quiet=quiet)
    elif "given_confounds" in scope.makers:
        scope.add(imported.rebuild_motion, rename=made, keep=keep, quiet=quiet)
    else:
        if reference not in scope.makers:
            scope.add(motion.average_volumes, rename=made, keep=keep, quiet=quiet)
        own = {} if of_run else {"boldref": scope[reference]}
        scope.add(motion.mask_head, motion.estimate_motion, wires=own, keep=keep, quiet=quiet)


def add_calibration(own: Scope, events: Path | None) -> None:
    """Add a short high-resolution run that tells where the run fluctuates, registered with it."""
    assert own.outer is not None
    own.alias["reference"] = "calibration_ref"
    own.add(motion.count_dummies, quiet=True)
    add_motion(own, "calibration_ref")
    if "head_mask" not in own.makers:
        own.add(motion.mask_head, wires={"boldref": own["calibration_ref"]}, quiet=True)
    own.add(calibration_run.register_calibration)
    if events is not None:
        own.give(calibration_events=events)
    own.add(calibration_run.measure_calibration)
    names = (
        "calibration_ref",
        "calibration_patterns",
        "boldref2calibration_xfm",
        "calibration_facts",
    )
    own.outer.give(**{name: own[name] for name in names})


def add_another_run(
    own: Scope, file: Path, events: Path | Events | None, *, correct: bool
) -> None:
    """Add another acquired run of the task.

    This gives its motion, its alignment to the run, and the effects of its blocks.

    `file`: file of the series (NIfTI, 4D).
    """
    assert own.outer is not None
    own.alias["reference"] = "other_ref"
    own.give(bold_file=file, regressors=events)
    own.add(motion.import_series, motion.count_dummies, quiet=True)
    add_motion(own, "other_ref")
    if correct:
        own.add(motion.correct_slice_timing, quiet=True)
    else:
        own.alias["stc"] = "bold"
    own.add(another_run.measure_other_run)
    own.outer.give(other_effects=own["other_effects"])
