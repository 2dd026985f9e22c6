"""Calibration of variance maps by a short high-resolution run."""

from dataclasses import replace

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.head_motion import BoldMask, EstimateDummies, EstimateMotion, ImportSeries, MakeBoldRef
from bids_sr.interfaces.learning.calibration import CalibrationSD, RegisterCalibration
from bids_sr.workflows.plans import CalibrationPlan, Factor, RunPlan
from bids_sr.workflows.sinks import CALIBRATION, keep_fields
from bids_sr.workflows.wiring import Part, new_stage, passed, same, set_given

CALIBRATED = ("calibration_ref", "calibration_sd", "calibration_xfm", "calibration_json")  # outputs of the run
OF = {
    "calibration_ref": "calibration_ref", "calibration_sd": "sd_file", "calibration_sd_low": "sd_low_file",
    "calibration_xfm": "boldref2calibration_xfm", "calibration_json": "calibration_json",
}  # fmt: skip
"""What methods and the report call each output."""


def init_calibration_wf(
    *, plan: CalibrationPlan, factor: Factor, seed: int, name: str = "calibration_wf"
) -> LiterateWorkflow:
    """Standard deviation map of a calibration, in register with the run that it is for.

    Parameters
    ----------
    plan : the calibration; where it has events, the task is regressed out
    factor : voxel of the run over that of the calibration, by axis

    Inputs
    ------
    boldref, bold_mask : reference of the run that it is for, and its brain

    Outputs
    -------
    sd_file : standard deviation of the fluctuations on the calibration's own grid, signal units; zero where it is not
        usable
    sd_low_file : the same of the calibration downsampled to the resolution of the run
    boldref2calibration_xfm : ITK text; takes a boldref point to its point in the calibration
    calibration_json : ``usable``, ``reason`` where it is not, and what was measured: volumes, motion, degrees of
        freedom, noise, overlap and agreement with the run
    calibration_ref : mean of its realigned steady volumes, for the report
    """
    workflow, inputnode, outputnode = new_stage(
        name, _text(bool(plan.events_file)), inputs=["boldref", "bold_mask"], outputs=OF.values(), part=Part.SERIES
    )
    series = ImportSeries(in_file=plan.bold_file, axis_order=plan.axis_order, tr=plan.tr)
    imported = pe.Node(series, name="import_series")
    dummies = pe.Node(EstimateDummies(), name="dummies")
    set_given(dummies, {"n_dummy": plan.n_dummy})
    reference = pe.Node(MakeBoldRef(), name="reference")
    mask = pe.Node(BoldMask(), name="brain")
    motion = pe.Node(EstimateMotion(), name="motion")
    register = pe.Node(RegisterCalibration(factor=factor, seed=seed), name="register")
    measure = pe.Node(CalibrationSD(tr=plan.tr, factor=factor), name="measure")
    set_given(measure, {"events_file": plan.events_file or None})
    workflow.connect([
        *((imported, node, same(out_file="in_file")) for node in (dummies, reference, motion, measure)),
        *((dummies, node, same("n_dummy")) for node in (reference, motion, measure)),
        (reference, mask, same(out_file="boldref")),
        (reference, motion, same(out_file="boldref")),
        (mask, motion, same(out_mask="mask")),
        (mask, measure, same(out_mask="mask")),
        (inputnode, register, same("boldref", "bold_mask")),
        (reference, register, same(out_file="calibration_ref")),
        (mask, register, same(out_mask="calibration_mask")),
        (motion, measure, same("hmc_xfms", "motion_tsv")),
        (register, measure, same(out_json="registration_json")),
        (register, outputnode, same("boldref2calibration_xfm")),
        (measure, outputnode, same("sd_file", "sd_low_file", "calibration_json")),
        (reference, outputnode, same(out_file="calibration_ref")),
    ])  # fmt: skip
    return workflow


def _text(with_events: bool) -> str:
    """What was done, for the methods text."""
    task = ", its task" if with_events else ""
    return (
        "A short run at the high resolution was registered rigidly to the run, by mutual information in ANTs [@ants] "
        "and then by Gauss-Newton [@bakermatthews2004], to measure where the signal fluctuates: volumes with a "
        "framewise displacement above 0.5 mm [@power2012] or a spike were left out, "
        f"drift{task} and the principal components of head motion were regressed out, and the remaining variance, "
        "divided by its degrees of freedom and less the thermal noise, gave a map of standard deviations.\n"
    )


def add_calibration(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """The calibration of a run, and what is kept of it."""
    plan = run.acquisition.calibration
    assert plan is not None
    calibration_wf = init_calibration_wf(plan=plan, factor=run.acquisition.factor, seed=run.seed)
    workflow.connect([
        (workflow.get_node("motion_wf"), calibration_wf, passed("boldref")),
        (workflow.get_node("bold_registration_wf"), calibration_wf, passed("bold_mask")),
    ])  # fmt: skip
    store = replace(run.store, sources=(plan.source,), axis_order=plan.axis_order)
    keep_fields(workflow, calibration_wf, store, name="keep_calibration", fields=CALIBRATION)
