"""Unsaved series, which are only evaluated: placebos of a method and further members of its ensemble."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.workflows.bold.estimate_variance import CALIBRATION, init_variance_wf
from bids_sr.workflows.bold.super_resolve import init_series_wf, init_train_wf
from bids_sr.workflows.bold.train_on_volumes import init_volumes_train_wf, volumes_values
from bids_sr.workflows.evaluation.run_placebos import init_other_contrast_wf
from bids_sr.workflows.node_names import into, out_of, passed
from bids_sr.workflows.plans import Extra, RunPlan

SERIES_INPUTS = ("stc_file", "boldref", "bold_mask", "hmc_xfms")


def extra_fields(extra: Extra, run: RunPlan) -> list[str]:
    """Inputs that a series needs which is evaluated and not stored."""
    fields = list(SERIES_INPUTS)
    if run.series.corrected:
        fields.append("shift_map")
    if extra.method in run.series.on_run:
        if run.series.guide_kind != "none":
            fields += ["highres", "highres2boldref_xfm"]
        if not extra.is_member:
            return [*fields, "temporal_file"] if extra.model else [*fields, "temporal_file", "model_file"]
        fields += ["preproc_file", "n_dummy"]
        return [*fields, *CALIBRATION] if run.calibrated else fields
    if extra.contrast:
        return [*fields, "t1w_preproc", "boldref2t1w_xfm"]
    if extra.model:
        return fields
    return [*fields, "n_dummy" if extra.method in run.series.on_volumes else "model_file"]


def init_extra_wf(*, extra: Extra, run: RunPlan, name: str) -> LiterateWorkflow:
    """Make one series for the evaluation alone.

    Parameters
    ----------
    extra : which one
    run : what there is of the run
    name : of the workflow

    Inputs
    ------
    stc_file, boldref, bold_mask, hmc_xfms
        of the run
    shift_map
        distortion of its volumes, only where that is known
    preproc_file, n_dummy
        motion-corrected series on the acquired grid, first volumes to leave out; only for members of an ensemble of a
        variance method (the latter also for networks trained on its volumes)
    calibration_sd, calibration_sd_low, calibration_xfm, calibration_json
        of the calibration, where there is one; only for such members
    temporal_file
        mean and components of the run, only for placebos of a variance method
    highres, highres2boldref_xfm
        T2*-weighted image and what takes a boldref point to it; only for variance methods that add its static detail
    t1w_preproc, boldref2t1w_xfm
        only where the T1w image takes the place of the pair
    model_file
        of a member of an ensemble of a method trained on the pair, or the variance maps that are displaced

    Outputs
    -------
    series_file : on the boldref's fine grid, signal units
    """
    workflow, plan = LiterateWorkflow(name=name), run.series
    inputnode = pe.Node(niu.IdentityInterface(fields=extra_fields(extra, run)), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["series_file"]), name="outputnode")
    on_run = extra.method in plan.on_run
    guided = on_run and plan.guide_kind != "none"
    series_wf = init_series_wf(
        series=extra.method, factor=run.acquisition.factor, needs_model=True, needs_guide=guided,
        data_consistency="off", precision=plan.precision, device=plan.device, omp_nthreads=run.omp_nthreads,
        force=True,  # a placebo need not fit: that is what makes it one
        of_run=on_run, displace=extra.displace, corrected=plan.corrected,
    )  # fmt: skip
    workflow.connect(
        [
            (inputnode, series_wf, into(*SERIES_INPUTS)),
            (series_wf, outputnode, out_of("series_file")),
        ]
    )
    if plan.corrected:
        workflow.connect([(inputnode, series_wf, into("shift_map"))])
    if guided:
        workflow.connect([(inputnode, series_wf, into("highres", "highres2boldref_xfm"))])
    if on_run and not extra.is_member:
        workflow.connect([(inputnode, series_wf, into("temporal_file"))])
    if extra.model:
        series_wf.inputs.inputnode.model_file = extra.model
    elif on_run and extra.is_member:
        variance_wf = _variance_of_member(extra, run, workflow)
        workflow.connect([(variance_wf, series_wf, passed("model_file", "temporal_file"))])
    elif extra.contrast:
        workflow.connect([(_trained_on_t1w(extra, run, workflow), series_wf, passed("model_file"))])
    elif extra.method in plan.on_volumes:
        train_wf = init_volumes_train_wf(
            **volumes_values(plan.training, extra.method, seed=extra.seed), factor=run.acquisition.factor,
            omp_nthreads=run.omp_nthreads, name="train_wf",
        )  # fmt: skip
        workflow.connect(
            [
                (inputnode, train_wf, into("stc_file", "bold_mask", "n_dummy")),
                (train_wf, series_wf, passed("model_file")),
            ]
        )
    else:
        workflow.connect([(inputnode, series_wf, into("model_file"))])
    return workflow


def _variance_of_member(extra: Extra, run: RunPlan, workflow: LiterateWorkflow) -> LiterateWorkflow:
    """Variance maps of the run by another seed."""
    inputnode, how = workflow.get_node("inputnode"), run.series.training
    variance_wf = init_variance_wf(
        factor=run.acquisition.factor, recipe=how.recipe, seed=how.seed + extra.seed, model_source="auto",
        omp_nthreads=run.omp_nthreads, force=True, sloppy=how.sloppy, method=how.method(extra.method),
        with_calibration=run.calibrated,
    )  # fmt: skip
    workflow.connect(
        [
            (inputnode, variance_wf, into("bold_mask", "n_dummy", "hmc_xfms", preproc_file="in_file")),
        ]
    )
    if run.calibrated:
        workflow.connect([(inputnode, variance_wf, into(*CALIBRATION))])
    return variance_wf


def _trained_on_t1w(extra: Extra, run: RunPlan, workflow: LiterateWorkflow) -> LiterateWorkflow:
    """A network of the pair's kind that has seen the T1w image in its place."""
    inputnode, how = workflow.get_node("inputnode"), run.series.training
    contrast_wf = init_other_contrast_wf(factor=run.acquisition.factor)
    train_wf = init_train_wf(
        method=how.method(extra.method), recipe=how.recipe, factor=run.acquisition.factor, model_source="train",
        model_dir=None, about=how.about.get(extra.method, ""), text=how.text.get(extra.method, ""),
        pretrained=None, seed=how.seed, omp_nthreads=run.omp_nthreads, max_train_minutes=how.max_train_minutes,
        device=how.device, precision=how.precision, force=True, sloppy=how.sloppy, vgg_weights=how.vgg_weights,
        start=how.starts.get(extra.method),  # begun otherwise than the real one, it would differ by that too
    )  # fmt: skip
    workflow.connect(
        [
            (inputnode, contrast_wf, into("boldref", "t1w_preproc", "boldref2t1w_xfm")),
            (inputnode, train_wf, into(bold_mask="mask")),
            (contrast_wf, train_wf, passed("highres", "lowres")),
        ]
    )
    return train_wf
