"""Calibration of variance maps by a short high-resolution run."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.head_motion import BoldMask, EstimateDummies, EstimateMotion, MakeBoldRef
from bids_sr.interfaces.learning.calibration import CalibrationSD, RegisterCalibration
from bids_sr.interfaces.reporting.reportlet_figures import CalibrationReport
from bids_sr.interfaces.series_images import ImportSeries
from bids_sr.workflows.bold.estimate_variance import CALIBRATION
from bids_sr.workflows.node_names import passed
from bids_sr.workflows.plans import RunPlan
from bids_sr.workflows.sinks import calibration_fields, init_sink_wf

CALIBRATED = ("calibration_ref", "calibration_sd", "calibration_xfm", "calibration_json")  # outputs of the run
MADE = ("sd_file", "sd_low_file", "boldref2calibration_xfm", "calibration_json", "calibration_ref")
OF = {
    "calibration_ref": "calibration_ref", "calibration_sd": "sd_file", "calibration_sd_low": "sd_low_file",
    "calibration_xfm": "boldref2calibration_xfm",
    "calibration_json": "calibration_json",
}  # fmt: skip
"""What methods and the report call each output."""


def init_calibration_wf(
    *,
    tr: float,
    factor: tuple[float, float, float],
    n_dummy: int | None,
    with_events: bool,
    seed: int,
    omp_nthreads: int,
    name: str = "calibration_wf",
) -> LiterateWorkflow:
    """Standard deviation map of a calibration, in register with the run that it is for.

    Parameters
    ----------
    tr : repetition time of the calibration (s)
    factor : voxel of the run over that of the calibration, by axis
    n_dummy : volumes at its start that are not steady; None: detected
    with_events : there are events, so the task is regressed out
    seed : of everything random
    omp_nthreads : threads that one node may take; these nodes take one
    name : of the workflow

    Inputs
    ------
    bold_file
        calibration as acquired
    events_file
        its events, only with them
    boldref, bold_mask
        reference of the run that it is for, and its brain

    Outputs
    -------
    sd_file
        standard deviation of the fluctuations on the calibration's own grid, signal units; zero where it is not usable
    sd_low_file
        the same of the calibration brought down to the resolution of the run
    boldref2calibration_xfm
        ITK text; takes a boldref point to its point in the calibration
    calibration_json
        ``usable``, ``reason`` where it is not, and what was measured: volumes, motion, degrees of freedom, noise,
        overlap and agreement with the run
    calibration_ref
        mean of its realigned steady volumes, for the report
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = _text(with_events)
    fields = ["bold_file", "boldref", "bold_mask", *["events_file"] * with_events]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=list(MADE)), name="outputnode")
    imported = pe.Node(ImportSeries(), name="import_series", n_procs=1)
    dummies = pe.Node(EstimateDummies(), name="dummies", n_procs=1)
    if n_dummy is not None:
        dummies.inputs.n_dummy = n_dummy
    reference = pe.Node(MakeBoldRef(), name="reference", n_procs=1)
    mask = pe.Node(BoldMask(), name="brain", n_procs=1)
    motion = pe.Node(EstimateMotion(), name="motion", n_procs=1)
    register = pe.Node(RegisterCalibration(factor=tuple(map(float, factor)), seed=seed), name="register", n_procs=1)
    measure = pe.Node(CalibrationSD(tr=float(tr), factor=tuple(map(float, factor))), name="measure", n_procs=1)
    workflow.connect([
        (inputnode, imported, [("bold_file", "in_file")]),
        *[(imported, node, [("out_file", "in_file")]) for node in (dummies, reference, motion, measure)],
        *[(dummies, node, [("n_dummy", "n_dummy")]) for node in (reference, motion, measure)],
        (reference, mask, [("out_file", "boldref")]),
        (reference, motion, [("out_file", "boldref")]),
        *[(mask, node, [("out_mask", "mask")]) for node in (motion, measure)],
        (inputnode, register, [("boldref", "boldref"), ("bold_mask", "bold_mask")]),
        (reference, register, [("out_file", "calibration_ref")]),
        (mask, register, [("out_mask", "calibration_mask")]),
        (motion, measure, [("hmc_xfms", "hmc_xfms"), ("motion_tsv", "motion_tsv")]),
        *[(inputnode, measure, [("events_file", "events_file")])] * with_events,
        (register, measure, [("out_json", "registration_json")]),
        (register, outputnode, [("boldref2calibration_xfm", "boldref2calibration_xfm")]),
        (measure, outputnode, [(f, f) for f in ("sd_file", "sd_low_file", "calibration_json")]),
        (reference, outputnode, [("out_file", "calibration_ref")]),
    ])  # fmt: skip
    return workflow


def _text(with_events: bool) -> str:
    """What was done, for the methods text."""
    task = ", its task" if with_events else ""
    return (
        "A short run at the high resolution was registered rigidly to the run (mutual information in ANTs [@ants], "
        "then Gauss-Newton [@bakermatthews2004]) to tell where the signal fluctuates: volumes with a framewise "
        "displacement above 0.5 mm [@power2012] or a spike were left out, "
        f"drift{task} and the principal components of head motion were regressed out, and the variance that remains, "
        "over its degrees of freedom and less the thermal noise, gave a map of standard deviations. "
    )


def add_calibration(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """The calibration of a run, and what is kept of it."""
    plan, target = run.acquisition.calibration, run.target
    assert plan is not None
    calibration_wf = init_calibration_wf(
        tr=plan.tr, factor=run.acquisition.factor, n_dummy=plan.n_dummy, with_events=bool(plan.events_file),
        seed=run.seed, omp_nthreads=run.omp_nthreads,
    )  # fmt: skip
    calibration_wf.inputs.inputnode.bold_file = plan.bold_file
    if plan.events_file:
        calibration_wf.inputs.inputnode.events_file = plan.events_file
    kept = calibration_fields()
    keep_wf = init_sink_wf(
        fields=kept, output_dir=target.output_dir, common=target.common, sources=[plan.source],
        name="keep_calibration_wf",
    )  # fmt: skip
    workflow.connect(
        [
            (workflow.get_node("motion_wf"), calibration_wf, passed("boldref")),
            (workflow.get_node("bold_registration_wf"), calibration_wf, passed("bold_mask")),
            (calibration_wf, keep_wf, passed(*kept)),
            (
                calibration_wf,
                workflow.get_node("outputnode"),
                [(f"outputnode.{OF[field]}", field) for field in CALIBRATED],
            ),
        ]
    )


def calibration_pairs() -> list[tuple[str, str]]:
    """Fields that connect the calibration to the estimation of variance maps."""
    return [(f"outputnode.{OF[field]}", f"inputnode.{field}") for field in CALIBRATION]


def init_calibration_reportlets_wf(*, name: str = "calibration_reportlets_wf") -> LiterateWorkflow:
    """Draw the calibration of one run: in register with the run, its map, and what it told.

    Parameters
    ----------
    name : of the workflow

    Inputs
    ------
    boldref, bold_mask : reference of the run, and its brain
    calibration_ref, calibration_sd, calibration_xfm, calibration_json : as `init_calibration_wf` gives them

    Outputs
    -------
    reportlets : figures and fragments of HTML
    entities : of each
    """
    workflow = LiterateWorkflow(name=name)
    renamed = {"calibration_sd": "sd_file", "calibration_xfm": "boldref2calibration_xfm"}
    fields = ["boldref", "bold_mask", "calibration_ref", *renamed, "calibration_json"]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["reportlets", "entities"]), name="outputnode")
    drawn = pe.Node(CalibrationReport(), name="drawn", n_procs=1)
    workflow.connect([
        (inputnode, drawn, [(field, renamed.get(field, field)) for field in fields]),
        (drawn, outputnode, [("out_files", "reportlets"), ("out_entities", "entities")]),
    ])  # fmt: skip
    return workflow
