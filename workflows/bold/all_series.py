"""The series of one run: motion, registration, and raw, every baseline and method, and the measured run on one grid.

The steps add to the workflow of the run and find there, by their names, the workflows that they follow.
"""

from typing import Any

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.head_motion import CombineEchoes
from bids_sr.series import MEASURED
from bids_sr.workflows.bold.calibrate import OF
from bids_sr.workflows.bold.hmc_workflow import init_confounds_wf, init_motion_wf
from bids_sr.workflows.bold.register import init_bold_registration_wf
from bids_sr.workflows.bold.super_resolve import init_series_wf, init_truth_wf
from bids_sr.workflows.bold.train_models import FLUCTUATIONS, RUN_VOLUMES, init_train_wf
from bids_sr.workflows.evaluation.control_quality import init_precision_wf
from bids_sr.workflows.plans import RunPlan
from bids_sr.workflows.sinks import keep_model
from bids_sr.workflows.wiring import Source, fields_of, joined, out_of, same

MADE_BY = {
    "motion_wf": ("n_dummy", "boldref", "hmc_xfms", "motion_tsv", "stc_file", "shift_map"),
    "bold_registration_wf": (
        "bold_mask", "bold_mask_hr", "roi_bold", "roi_bold_hr", "registration_json", "boldref2t1w_xfm", "tpms_bold",
        "highres2boldref_xfm", "guide_hr",
    ),
    "confounds_wf": ("confounds_tsv",),
}  # fmt: skip
"""What each workflow of a run gives to others, under one name throughout."""


def nodes(workflow: LiterateWorkflow, *names: str) -> list[Any]:
    """Nodes and workflows of a run that are there already."""
    return [workflow.get_node(name) for name in names]


def source_of(workflow: LiterateWorkflow, run: RunPlan, field: str) -> Source:
    """Where something of the run comes from: a workflow or the joined ones that make it, or the inputs of the run."""
    for name, fields in MADE_BY.items():
        if field in fields:
            return workflow.get_node(name), f"outputnode.{field}"
    if field == "bold_file" and run.echoes:
        return workflow.get_node("combine_echoes"), "out_file"
    if field == "events_file" and run.at_rest:
        return workflow.get_node("seeds_wf"), "outputnode.out_file"
    if field == "preproc_file":
        return workflow.get_node("series_raw_wf"), "outputnode.series_file"
    if run.calibrated and field in OF:
        return workflow.get_node("calibration_wf"), f"outputnode.{OF[field]}"
    if field in ("roi", "roi_hr"):
        if run.evaluation.roi_grow:
            return workflow.get_node("roi_growth_wf"), f"outputnode.{field}"
        return workflow.get_node("bold_registration_wf"), f"outputnode.{field.replace('roi', 'roi_bold')}"
    if gathered := workflow.get_node(f"all_{field}"):
        return gathered, "out"
    if field not in fields_of(workflow):
        raise KeyError(f"nothing of the run makes {field}")
    return workflow.get_node("inputnode"), field


def feed(workflow: LiterateWorkflow, run: RunPlan, stage: LiterateWorkflow, **others: Source) -> None:
    """Connect every input of a stage of the run: from `others`, else by its name."""
    for field in fields_of(stage):
        node, out = others.get(field) or source_of(workflow, run, field)
        workflow.connect([(node, stage, [(out, f"inputnode.{field}")])])


def series_wf_of(workflow: LiterateWorkflow, series: str) -> LiterateWorkflow:
    """The workflow that makes a series of the run."""
    return workflow.get_node("truth_wf" if series == MEASURED else f"series_{series}_wf")


def model_of(workflow: LiterateWorkflow, run: RunPlan, series: str) -> Source:
    """Where the model of a network comes from."""
    if series in run.series.on_volumes:
        return workflow.get_node(f"train_{series}_wf"), "outputnode.model_file"
    return workflow.get_node("inputnode"), f"model_{series}"


def prepare(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """Head motion and registration."""
    precomputed = run.acquisition.precomputed
    if run.echoes:
        files, times = zip(*run.echoes, strict=True)
        combine = pe.Node(CombineEchoes(in_files=list(files), echo_times=list(times)), name="combine_echoes")
        workflow.add_nodes([combine])
    feed(workflow, run, init_motion_wf(acquisition=run.acquisition))
    registration_wf = init_bold_registration_wf(
        with_anat=run.with_anat,
        with_pair=run.with_pair,
        factor=run.acquisition.factor,
        seed=run.seed,
        precomputed=precomputed,
    )
    feed(workflow, run, registration_wf)


def add_confounds(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """Confounds of the raw series, which is there already."""
    precomputed = run.acquisition.precomputed
    has_table = precomputed is not None and "confounds_tsv" in precomputed.files
    feed(workflow, run, init_confounds_wf(with_anat=run.with_anat, precomputed=precomputed if has_table else None))


def add_series(workflow: LiterateWorkflow, run: RunPlan, series: str) -> None:
    """One series, with the training that it needs."""
    plan = run.series
    others: dict[str, Source] = {}
    if series in plan.on_volumes:
        _train_on_volumes(workflow, run, series)
    if series in plan.models:
        others["model_file"] = model_of(workflow, run, series)
    if series in plan.checked:
        precision_wf = init_precision_wf(method=series, run=run, name=f"precision_{series}_wf")
        feed(workflow, run, precision_wf, **others)
        others["precision"] = precision_wf, "outputnode.precision"
    if series in plan.on_run:
        variance_wf = _estimate_variance(workflow, run, series)
        others |= {field: (variance_wf, f"outputnode.{field}") for field in ("model_file", "temporal_file")}
    feed(workflow, run, init_series_wf(series=series, run=run, name=f"series_{series}_wf"), **others)


def _train_on_volumes(workflow: LiterateWorkflow, run: RunPlan, series: str) -> None:
    """A model of the run's own volumes, and its place in the derivatives."""
    train_wf = init_train_wf(
        series=series, learned=RUN_VOLUMES, how=run.series.training, factor=run.acquisition.factor,
        omp_nthreads=run.omp_nthreads, name=f"train_{series}_wf",
    )  # fmt: skip
    feed(workflow, run, train_wf)
    shown = out_of(log_file=f"log_file_{series}", card_file=f"card_file_{series}")
    workflow.connect([(train_wf, workflow.get_node("outputnode"), shown)])
    keep_model(workflow, train_wf, run.store, name=f"keep_model_{series}_wf", method=series)


def _estimate_variance(workflow: LiterateWorkflow, run: RunPlan, method: str) -> LiterateWorkflow:
    """Variance maps of the run, and their place in the derivatives."""
    control = method in run.series.controls
    first = method == run.series.on_run[0]  # what needs no map is tried once
    variance_wf = init_train_wf(
        series=method, learned=FLUCTUATIONS, how=run.series.training, factor=run.acquisition.factor,
        omp_nthreads=run.omp_nthreads, with_calibration=run.calibrated and not control, control=control,
        interpolations=run.series.interpolations if first else (), name=f"variance_{method}_wf",
    )  # fmt: skip
    feed(workflow, run, variance_wf, in_file=source_of(workflow, run, "preproc_file"))
    if not control:
        keep_model(workflow, variance_wf, run.store, name=f"keep_model_{method}_wf", method=method)
    return variance_wf


def add_measured(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """The measured high-resolution series, through the steps of the run."""
    feed(workflow, run, init_truth_wf(run=run), reference=source_of(workflow, run, "bold_mask_hr"))


def gather_series(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """All series but raw as one list, and what these lose of the acquired data."""
    outputnode = workflow.get_node("outputnode")
    finer = [series_wf_of(workflow, name) for name in run.mapped[1:]]
    named = [series_wf_of(workflow, name) for name in run.series.names]
    files = joined(workflow, "all_series", [(each, "outputnode.series_file") for each in finer])
    lost = joined(workflow, "all_consistency", [(each, "outputnode.consistency_file") for each in named])
    workflow.connect([(files, outputnode, same(out="series_files")), (lost, outputnode, same(out="consistency_files"))])
    if run.series.on_run:
        last = [name for name in run.series.names if name in run.series.on_run][-1]
        workflow.connect([(workflow.get_node(f"variance_{last}_wf"), outputnode, out_of("weight_file"))])
