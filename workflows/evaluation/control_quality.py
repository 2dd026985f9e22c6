"""Quality control of one method in one run: uncertainty, unrepeated detail, domain shift, distortion and precision."""

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.quality_control import (
    DomainGate,
    EdgeMismatch,
    EnsembleUncertainty,
    PrecisionGuard,
    UnrepeatedMap,
)
from bids_sr.interfaces.steps import MergeEvaluation
from bids_sr.workflows.node_names import enumerated
from bids_sr.workflows.plans import RunPlan
from bids_sr.workflows.wiring import Part, joined, new_stage, one_step, same, set_given


def init_guards_wf(*, method: str, run: RunPlan, name: str = "guards_wf") -> LiterateWorkflow:
    """Uncertainty and unrepeated detail of one method, and whether the run is like what the model was trained on.

    Inputs
    ------
    effects_file, mask : block effects of the method, and brain on the high-resolution grid
    member_files, measured_file : block effects of all members, the method's own among them, and of the measured series,
        where there is one; only of an ensemble
    guide_hr : high-resolution image on the high-resolution grid in the boldref's pose, only with a pair
    model_file, boldref, bold_mask : weights with the card beside them, reference of the run and its brain; only where
        the method has a model

    Outputs
    -------
    rows_tsv : rows of the evaluation
    maps, maps_entities, maps_sidecars : uncertainty (``stat-sd``) and unrepeated detail (``stat-unrepeated``), one each
        a contrast; entities and metadata of each
    """
    n_ensemble, contrasts = len(run.ensemble(method)), run.activation.plain_contrasts
    inputs, measured = ["effects_file", "mask"], []
    if n_ensemble > 1:
        measured = same("measured_file") if run.evaluation.measured else []
        inputs += ["member_files", *(field for field, _ in measured)]
    guide = same("guide_hr") if run.with_pair else []
    inputs += [field for field, _ in guide]
    if method in run.series.models:
        inputs += ["model_file", "boldref", "bold_mask"]
    workflow, inputnode, outputnode = new_stage(
        name, "", inputs=inputs,
        outputs=["rows_tsv", "maps", "maps_entities", "maps_sidecars"],
    )  # fmt: skip
    shared = {"contrasts": contrasts, "axis_order": run.acquisition.axis_order, "seed": run.seed}
    detail = pe.Node(UnrepeatedMap(factor=run.acquisition.factor, **shared), name="detail")
    workflow.connect([(inputnode, detail, [*same("effects_file", "mask"), *guide])])
    makers = [detail]
    if n_ensemble > 1:
        spread = pe.Node(EnsembleUncertainty(method=method, **shared), name="spread")
        set_given(spread, {"truth_files": dict(run.evaluation.truth_maps) or None})
        workflow.connect([(inputnode, spread, [*same("mask", member_files="effects_files"), *measured])])
        makers.append(spread)
    tables = list(makers)
    if method in run.series.models:
        gate = pe.Node(DomainGate(series=method), name="gate")
        workflow.connect([(inputnode, gate, same("model_file", "boldref", bold_mask="mask"))])
        tables.append(gate)
    table = pe.Node(MergeEvaluation(), name="table")
    workflow.connect([
        (joined(workflow, "merge_rows", [(node, "out_file") for node in tables]), table, same(out="in_files")),
        (table, outputnode, same(out_file="rows_tsv")),
    ])  # fmt: skip
    for field, out in (("maps", "maps"), ("entities", "maps_entities"), ("sidecars", "maps_sidecars")):
        merged = joined(workflow, f"merge_{field}", [(node, field) for node in makers])
        workflow.connect([(merged, outputnode, same(out=out))])
    return workflow


def guards_text(run: RunPlan) -> str:
    """Methods text of the maps of quality control of all methods."""
    if not run.guarded:
        return ""
    pair = ", or followed the detail of the high-resolution T2*-weighted image," if run.with_pair else ""
    text = (
        f"Detail of {enumerated(run.guarded)} beyond the acquired Nyquist limit was marked unrepeated unless it agreed "
        f"between the two halves of the blocks{pair} more than expected by chance (null distribution: flipped signs of "
        f"blocks{', shifted images' if run.with_pair else ''}). "
    )
    if several := [method for method in run.guarded if len(run.ensemble(method)) > 1]:
        text += (
            f"The uncertainty of {enumerated(several)} is the standard deviation of the effect between "
            f"{len(run.ensemble(several[0]))} models trained with different seeds; errors common to all of them go "
            "undetected. "
        )
    return text


def init_distortion_wf(*, run: RunPlan, name: str = "distortion_wf") -> LiterateWorkflow:
    """Measure how far the boldref's edges lie from those of the high-resolution image.

    Inputs
    ------
    boldref : reference of the run on the acquired grid
    guide_hr, mask_hr : high-resolution image in the boldref's pose and brain, on the fine grid

    Outputs
    -------
    rows_tsv : rows of the evaluation
    warnings : sentences for the report; empty where the edges agree
    """
    text = (
        "Distortion was measured as the displacement at which the edges of the BOLD reference and of the T2*-weighted "
        "image agree best locally, regardless of contrast. "
    )
    guided = [one for one in run.series.names if run.series.takes_guide(one)]
    measure = pe.Node(EdgeMismatch(phase_encoding=run.acquisition.phase_encoding, guided=guided), name="edges")
    outputs = same("warnings", out_file="rows_tsv")
    return one_step(name, text, measure, inputs=same("boldref", "guide_hr", "mask_hr"), outputs=outputs)


def init_precision_wf(*, method: str, run: RunPlan, name: str = "precision_wf") -> LiterateWorkflow:
    """Choose the precision of a network's arithmetic by what it does to t.

    Worth a node only where a lower precision is possible: ``bf16`` asked for, or ``auto`` and a device other than
    ``cpu``.

    Parameters
    ----------
    method : name of the series
    run : what there is of the run

    Inputs
    ------
    stc_file : series on the acquired grid
    boldref : reference of the run
    bold_mask : brain on that grid
    model_file : weights with the card beside them
    events_file : BIDS events of the run
    confounds_tsv : one row a volume
    n_dummy : volumes at the start that are left out

    Outputs
    -------
    precision : "fp32" or "bf16", for inference
    rows_tsv : rows of the evaluation; none where nothing was tried
    """
    text = (
        "Networks computed in single precision unless bfloat16 changed t by less than 1 % of its noise in every "
        "contrast, on slices of the run itself. "
    )
    guard = pe.Node(
        PrecisionGuard(
            series=method, contrasts=run.activation.plain_contrasts, factor=run.acquisition.factor,
            high_pass=run.activation.high_pass, precision=run.series.precision, device=run.series.device,
            force=run.series.training.force, threads=run.omp_nthreads, **run.acquisition.timing,
        ),
        name="guard", n_procs=run.omp_nthreads,
    )  # fmt: skip
    inputs = same(
        "boldref", "model_file", "events_file", "confounds_tsv", "n_dummy", stc_file="in_file", bold_mask="mask"
    )
    return one_step(name, text, guard, inputs=inputs, outputs=same("precision", out_file="rows_tsv"), part=Part.SERIES)
