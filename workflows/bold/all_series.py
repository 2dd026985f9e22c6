"""The series of one run: motion, registration, and raw, every baseline and method, and the measured run on one grid.

The steps add to the workflow of the run and find there, by their names, the workflows that they follow.
"""

from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.series import MEASURED
from bids_sr.workflows.bold.calibrate import calibration_pairs
from bids_sr.workflows.bold.estimate_variance import init_variance_wf
from bids_sr.workflows.bold.hmc_workflow import init_confounds_wf, init_motion_wf
from bids_sr.workflows.bold.reference_series import init_truth_wf
from bids_sr.workflows.bold.register import init_bold_registration_wf
from bids_sr.workflows.bold.super_resolve import init_series_wf
from bids_sr.workflows.bold.take_precomputed import init_given_confounds_wf, init_given_motion_wf
from bids_sr.workflows.bold.train_on_volumes import init_volumes_train_wf, volumes_values
from bids_sr.workflows.evaluation.control_quality import init_precision_wf
from bids_sr.workflows.node_names import into, out_of, passed
from bids_sr.workflows.plans import RunPlan
from bids_sr.workflows.sinks import init_sink_wf, model_fields

ANAT_FIELDS = ("t1w_preproc", "t1w_mask", "t1w_tpms", "roi_source", "roi_xfms")
Source = tuple[pe.Node | LiterateWorkflow, str]


def nodes(workflow: LiterateWorkflow, *names: str) -> list[Any]:
    """Nodes and workflows of a run that are there already."""
    return [workflow.get_node(name) for name in names]


def series_wf_of(workflow: LiterateWorkflow, series: str) -> LiterateWorkflow:
    """The workflow that makes a series of the run."""
    return workflow.get_node("truth_wf" if series == MEASURED else f"series_{series}_wf")


def model_of(workflow: LiterateWorkflow, run: RunPlan, series: str) -> Source:
    """Where the model of a network comes from."""
    if series in run.series.on_volumes:
        return workflow.get_node(f"train_{series}_wf"), "outputnode.model_file"
    return workflow.get_node("inputnode"), f"model_{series}"


def prepare(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """Motion, registration and confounds."""
    given = {} if run.acquisition.given is None else run.acquisition.given.files
    inputnode, outputnode = nodes(workflow, "inputnode", "outputnode")
    motion_wf, confounds_wf = _motion(run), _confounds(run)
    registration_wf = init_bold_registration_wf(
        with_anat=run.with_anat, with_pair=run.with_pair, factor=run.acquisition.factor, omp_nthreads=run.omp_nthreads,
        seed=run.seed, given=tuple(given), origin="" if run.acquisition.given is None else run.acquisition.given.origin,
    )  # fmt: skip
    workflow.connect(
        [
            (inputnode, motion_wf, into("bold_file")),
            (motion_wf, registration_wf, passed("boldref")),
            (motion_wf, confounds_wf, passed("n_dummy")),
            (motion_wf, outputnode, out_of("boldref", "n_dummy")),
            (registration_wf, outputnode, out_of("bold_mask", "bold_mask_hr", "registration_json")),
            (confounds_wf, outputnode, out_of("confounds_tsv")),
        ]
    )
    if "bold_mask" in given:
        registration_wf.inputs.inputnode.given_mask = given["bold_mask"]
    if run.with_anat:
        if "boldref2t1w_xfm" in given:
            registration_wf.inputs.inputnode.given_xfm = given["boldref2t1w_xfm"]
        workflow.connect(
            [
                (inputnode, registration_wf, into(*ANAT_FIELDS)),
                (registration_wf, outputnode, out_of("boldref2t1w_xfm", "tpms_bold")),
            ]
        )
    if run.with_pair:
        workflow.connect(
            [
                (inputnode, registration_wf, into("highres", "highres2lowres_xfm")),
                (registration_wf, outputnode, out_of("guide_hr")),
            ]
        )
    if "confounds_tsv" not in given:
        tissues = ("bold_mask", "tpms_bold") if run.with_anat else ("bold_mask",)
        workflow.connect(
            [
                (motion_wf, confounds_wf, passed("motion_tsv")),
                (registration_wf, confounds_wf, passed(*tissues)),
            ]
        )


def _motion(run: RunPlan) -> LiterateWorkflow:
    """Head motion, estimated here or precomputed."""
    acquisition, given = run.acquisition, run.acquisition.given
    timed: dict[str, Any] = {
        "n_dummy": acquisition.n_dummy,
        "slice_times": None if acquisition.slice_times is None else list(acquisition.slice_times),
        "slice_time_ref": acquisition.slice_time_ref,
    }  # fmt: skip
    if given is None:
        return init_motion_wf(omp_nthreads=run.omp_nthreads, **timed)
    corrected = run.series.corrected
    motion_wf = init_given_motion_wf(
        origin=given.origin, phase_encoding=acquisition.phase_encoding if corrected else None,
        readout=given.readout, **timed,
    )  # fmt: skip
    for name in ("hmc_xfms", "fieldmap", "boldref2fmap_xfm") if corrected else ("hmc_xfms",):
        setattr(motion_wf.inputs.inputnode, name, given.files[name])
    return motion_wf


def _confounds(run: RunPlan) -> LiterateWorkflow:
    """Confounds, gathered here or precomputed."""
    given = run.acquisition.given
    if given is None or "confounds_tsv" not in given.files:
        return init_confounds_wf()
    confounds_wf = init_given_confounds_wf(origin=given.origin)
    confounds_wf.inputs.inputnode.confounds_file = given.files["confounds_tsv"]
    return confounds_wf


def add_series(workflow: LiterateWorkflow, run: RunPlan, series: str) -> None:
    """One series, with the training that it needs."""
    plan, on_run = run.series, series in run.series.on_run
    inputnode, motion_wf, registration_wf = nodes(workflow, "inputnode", "motion_wf", "bold_registration_wf")
    guided = series in plan.guided or (on_run and plan.guide_kind != "none")
    series_wf = init_series_wf(
        series=series, factor=run.acquisition.factor, needs_model=series in plan.trained, needs_guide=guided,
        data_consistency=plan.data_consistency, precision=plan.precision, device=plan.device,
        omp_nthreads=run.omp_nthreads, force=plan.training.force, of_run=on_run,
        needs_precision=series in plan.checked, corrected=plan.corrected, name=f"series_{series}_wf",
    )  # fmt: skip
    workflow.connect(
        [
            (motion_wf, series_wf, passed("stc_file", "boldref", "hmc_xfms")),
            (registration_wf, series_wf, passed("bold_mask")),
        ]
    )
    if plan.corrected:
        workflow.connect([(motion_wf, series_wf, passed("shift_map"))])
    if series in plan.on_volumes:
        _train_on_volumes(workflow, run, series)
    if series in plan.models:
        source, model = model_of(workflow, run, series)
        workflow.connect([(source, series_wf, [(model, "inputnode.model_file")])])
    if series in plan.checked:
        _choose_precision(workflow, run, series)
    if on_run:
        variance_wf = _estimate_variance(workflow, run, series)
        workflow.connect([(variance_wf, series_wf, passed("model_file", "temporal_file"))])
    if guided:
        workflow.connect(
            [
                (inputnode, series_wf, into("highres")),
                (registration_wf, series_wf, passed("highres2boldref_xfm")),
            ]
        )


def _choose_precision(workflow: LiterateWorkflow, run: RunPlan, series: str) -> None:
    """The precision of a network, chosen by what it does to t."""
    plan, acquisition = run.series, run.acquisition
    inputnode, motion_wf, registration_wf, confounds_wf, series_wf = nodes(
        workflow, "inputnode", "motion_wf", "bold_registration_wf", "confounds_wf", f"series_{series}_wf"
    )
    precision_wf = init_precision_wf(
        method=series, contrasts=run.activation.contrasts, factor=acquisition.factor, tr=acquisition.tr,
        high_pass=run.activation.high_pass, slice_time_ref=acquisition.slice_time_ref,
        has_stc=acquisition.slice_times is not None, precision=plan.precision, device=plan.device,
        force=plan.training.force, omp_nthreads=run.omp_nthreads, name=f"precision_{series}_wf",
    )  # fmt: skip
    source, model = model_of(workflow, run, series)
    workflow.connect(
        [
            (inputnode, precision_wf, into("events_file")),
            (source, precision_wf, [(model, "inputnode.model_file")]),
            (motion_wf, precision_wf, passed("stc_file", "boldref", "n_dummy")),
            (registration_wf, precision_wf, passed("bold_mask")),
            (confounds_wf, precision_wf, passed("confounds_tsv")),
            (precision_wf, series_wf, passed("precision")),
        ]
    )


def _train_on_volumes(workflow: LiterateWorkflow, run: RunPlan, series: str) -> None:
    """A model of the run's own volumes, and its place in the derivatives."""
    motion_wf, registration_wf, outputnode = nodes(workflow, "motion_wf", "bold_registration_wf", "outputnode")
    train_wf = init_volumes_train_wf(
        **volumes_values(run.series.training, series), factor=run.acquisition.factor, omp_nthreads=run.omp_nthreads,
        name=f"train_{series}_wf",
    )  # fmt: skip
    workflow.connect(
        [
            (motion_wf, train_wf, passed("stc_file", "n_dummy")),
            (registration_wf, train_wf, passed("bold_mask")),
            (train_wf, outputnode, out_of(log_file=f"log_file_{series}", card_file=f"card_file_{series}")),
        ]
    )
    _keep_model(workflow, run, series, train_wf)


def _estimate_variance(workflow: LiterateWorkflow, run: RunPlan, method: str) -> LiterateWorkflow:
    """Variance maps of the run, and their place in the derivatives."""
    how = run.series.training
    raw_wf, motion_wf, registration_wf = nodes(workflow, "series_raw_wf", "motion_wf", "bold_registration_wf")
    variance_wf = init_variance_wf(
        factor=run.acquisition.factor, recipe=how.recipe, seed=how.seed, model_source=how.model_source,
        model_dir=how.model_dir, pretrained=how.pretrained.get(method), omp_nthreads=run.omp_nthreads, force=how.force,
        sloppy=how.sloppy, method=how.method(method), with_calibration=run.calibrated,
        text=how.text.get(method) or how.about.get(method, ""), calibrated=method in how.calibrated,
        control=method in run.series.controls, name=f"variance_{method}_wf",
    )  # fmt: skip
    workflow.connect(
        [
            (raw_wf, variance_wf, passed(series_file="in_file")),
            (motion_wf, variance_wf, passed("n_dummy", "hmc_xfms")),
            (registration_wf, variance_wf, passed("bold_mask")),
        ]
    )
    if method not in run.series.controls:
        if run.calibrated:
            workflow.connect([(workflow.get_node("calibration_wf"), variance_wf, calibration_pairs())])
        _keep_model(workflow, run, method, variance_wf)
    return variance_wf


def _keep_model(workflow: LiterateWorkflow, run: RunPlan, method: str, source: LiterateWorkflow) -> None:
    """A model of the run in the derivatives."""
    kept = model_fields(method=method)
    keep_wf = init_sink_wf(
        fields=kept, output_dir=run.target.output_dir, common={**run.target.common, "datatype": "models"},
        name=f"keep_model_{method}_wf",
    )  # fmt: skip
    workflow.connect([(source, keep_wf, passed(*kept))])


def add_measured(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """The measured high-resolution series, through the steps of the run."""
    slice_times = run.evaluation.truth_slice_times
    inputnode, motion_wf, registration_wf = nodes(workflow, "inputnode", "motion_wf", "bold_registration_wf")
    truth_wf = init_truth_wf(
        slice_times=slice_times, slice_time_ref=run.acquisition.slice_time_ref, omp_nthreads=run.omp_nthreads,
        corrected=run.series.corrected,
    )  # fmt: skip
    workflow.connect(
        [
            (inputnode, truth_wf, into("truth_file")),
            (motion_wf, truth_wf, passed("hmc_xfms")),
            (registration_wf, truth_wf, passed(bold_mask_hr="reference")),
        ]
    )
    if run.series.corrected:
        workflow.connect([(motion_wf, truth_wf, passed("shift_map"))])
    if slice_times is not None:
        workflow.connect([(motion_wf, truth_wf, passed("n_dummy"))])


def gather_series(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """Raw for the confounds, all others as one list, and what these lose of the acquired data."""
    raw_wf, confounds_wf, outputnode = nodes(workflow, "series_raw_wf", "confounds_wf", "outputnode")
    given, finer, names = run.acquisition.given, run.mapped[1:], run.series.names
    if given is None or "confounds_tsv" not in given.files:
        workflow.connect([(raw_wf, confounds_wf, passed(series_file="preproc_file"))])
    workflow.connect([(raw_wf, outputnode, out_of(series_file="preproc_file"))])
    files = pe.Node(niu.Merge(len(finer)), name="all_series", run_without_submitting=True)
    lost = pe.Node(niu.Merge(len(names)), name="all_consistency", run_without_submitting=True)
    workflow.connect(
        [(files, outputnode, [("out", "series_files")]), (lost, outputnode, [("out", "consistency_files")])]
    )
    for number, name in enumerate(finer, 1):
        series_wf = series_wf_of(workflow, name)
        workflow.connect([(series_wf, files, out_of(series_file=f"in{number}"))])
        if name in names:
            workflow.connect([(series_wf, lost, out_of(consistency_file=f"in{number}"))])
    if run.series.on_run:
        last = workflow.get_node(f"variance_{[name for name in names if name in run.series.on_run][-1]}_wf")
        workflow.connect([(last, outputnode, out_of("weight_file"))])
