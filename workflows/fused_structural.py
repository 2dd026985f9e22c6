"""One participant's structural scans: fused as channels, super-resolved together, measured and shown."""

from collections.abc import Mapping

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.anat import LoadTemplate
from bids_sr.interfaces.learning.fused_contrasts import (
    MeasureContrasts,
    PrepareContrasts,
    ResolveContrasts,
    TrainContrasts,
)
from bids_sr.interfaces.reporting.structural_reportlets import ExplanationReport, ScansReport
from bids_sr.workflows.drawings import init_reportlets_wf, summary
from bids_sr.workflows.plans import Store, StructuralPlan
from bids_sr.workflows.sinks import Fields, init_sink, keep_fields, keep_figures, keep_model
from bids_sr.workflows.wiring import Part, Source, into, joined, new_stage, out_of, passed, same

METRICS_COLUMNS = {
    "contrast": "scan that was measured; all: several of them together",
    "series": "super-resolution method or interpolation; measured: the high-resolution scan itself",
    "measure": "name of the figure",
    "value": "the figure; n/a where it cannot be had",
    "unit": "of the figure; 1 for a pure number",
    "reference": "heldOut: slices that no model was trained on, against the measured ones; brain: the whole brain, "
    "alone or against the measured scans",
}
SCANS = ("fine_files", "coarse_files", "mask")
KNOWN = (*SCANS, "other_files", "facts_json")
PREPARED = (*KNOWN, "head_json")
MODEL = ("model_file", "card_file", "log_file")
ALIGNED = {
    "rigid": "aligned rigidly to the high-resolution {} scan by mutual information in ANTs [@ants]",
    "affine": "aligned to the high-resolution {} scan by an affine transform that maximizes mutual information in ANTs "
    "[@ants]",
    "nonlinear": "aligned to the high-resolution {} scan by an affine transform and a symmetric deformation that "
    "maximize mutual information in ANTs [@ants]",
}


def init_prepare_contrasts_wf(*, plan: StructuralPlan, name: str = "prepare_contrasts_wf") -> LiterateWorkflow:
    """Bring the scans of one head into one frame.

    Inputs
    ------
    highres, lowres : fine and coarse scan of each contrast, as acquired

    Outputs
    -------
    fine_files, coarse_files : scans on one grid, [0, 1], brain alone; coarse ones by cubic spline
    other_files : all contrasts by each of the other interpolations
    mask : brain on that grid
    facts_json : position of each scan
    head_json : name and files, for networks that are trained on several heads
    """
    contrasts = list(plan.contrasts)
    text = (
        f"The {' and '.join(contrasts)} scans of both resolutions were corrected for intensity non-uniformity with N4 "
        f"[@n4], {ALIGNED[plan.align].format(contrasts[0])} and interpolated once, each; the brain was taken from the "
        "template's mask, and intensities were scaled linearly to the range from 0 to 1, with equal means in the brain "
        "at both resolutions. "
    )
    workflow, inputnode, outputnode = new_stage(
        name, text, inputs=["highres", "lowres"], outputs=PREPARED, part=Part.ANATOMY
    )
    load_template = pe.Node(LoadTemplate(space=plan.template), name="load_template")
    step = PrepareContrasts(
        contrasts=contrasts, head=plan.head, others=list(plan.others), align=plan.align, seed=plan.seed,
        sloppy=plan.sloppy,
    )  # fmt: skip
    prepare = pe.Node(step, name="prepare")
    workflow.connect([
        (inputnode, prepare, same("highres", "lowres")),
        (load_template, prepare, same("template", "template_mask")),
        (prepare, outputnode, same(*PREPARED)),
    ])  # fmt: skip
    return workflow


def init_fused_wf(*, plan: StructuralPlan, method: str, name: str = "fused_wf") -> LiterateWorkflow:
    """Train a network on all contrasts of one head or of others, or take one that was trained, and apply it.

    Inputs
    ------
    fine_files, coarse_files, mask : scans and brain on one grid
    heads : descriptions of the heads to train on, where these are others

    Outputs
    -------
    out_files : super-resolved scan of each contrast
    model_file, card_file, log_file : weights, card and log
    """
    how, from_others = plan.training[method], plan.from_others
    given = "pretrained" in how or how.get("model_source") == "reuse"
    whose = "pairs of the other participants" if from_others else "participant's own pairs"
    trained = f"A network ({method}) was trained on the {whose} and "
    text = (f"A network trained beforehand ({method}) " if given else trained) + (
        "super-resolved all contrasts together, as channels, slice by slice [@attention_unet]. "
    )
    fields = (*SCANS, "heads") if from_others else SCANS
    workflow, inputnode, outputnode = new_stage(
        name, text, inputs=fields, outputs=("out_files", *MODEL), part=Part.SERIES
    )
    common = {"contrasts": list(plan.contrasts), "threads": plan.omp_nthreads}
    step = TrainContrasts(method=method, head=plan.head, **common, **how)
    train = pe.Node(step, name="train", n_procs=plan.omp_nthreads)
    resolve = pe.Node(ResolveContrasts(device=how["device"], **common), name="resolve", n_procs=plan.omp_nthreads)
    workflow.connect([
        (inputnode, train, same(*fields)),
        (inputnode, resolve, same("coarse_files", "mask")),
        (train, resolve, same("model_file")),
        (train, outputnode, same(*MODEL)),
        (resolve, outputnode, same("out_files")),
    ])  # fmt: skip
    return workflow


def init_measured_wf(*, plan: StructuralPlan, name: str = "measured_wf") -> LiterateWorkflow:
    """Measure all series against the fine scans, and show them side by side.

    Inputs
    ------
    fine_files, mask, facts_json : prepared scans
    series_files : all contrasts of the first series, then of the next
    card_files : card of each method

    Outputs
    -------
    metrics_tsv, dseg : measures, and tissues of the fine scans
    reportlets, entities : figures and tables, and the entities of each
    """
    text = (
        "Images were compared with the measured scans by error, PSNR and SSIM in slices that training had not seen, "
        "by image quality measures, and by tissues segmented with Atropos [@ants] and white-matter hyperintensities "
        "[@attention_unet]. "
    )
    shared = same("fine_files", "series_files", "mask", "card_files")
    workflow, inputnode, outputnode = new_stage(
        name, text, inputs=[*(field for field, _ in shared), "facts_json"],
        outputs=("metrics_tsv", "dseg", "reportlets", "entities"), part=Part.EVALUATION,
    )  # fmt: skip
    names = [one for one in plan.series for _ in plan.contrasts]
    common = {"contrasts": list(plan.contrasts), "series_names": names}
    measure = pe.Node(MeasureContrasts(seed=plan.seed, **common), name="measure")
    show = pe.Node(ScansReport(**common), name="show")
    workflow.connect([
        (inputnode, measure, shared),
        (inputnode, show, [*shared, *same("facts_json")]),
        (measure, show, same(out_file="metrics_tsv")),
        (measure, outputnode, same("dseg", out_file="metrics_tsv")),
        (show, outputnode, same(out_files="reportlets", out_entities="entities")),
    ])  # fmt: skip
    return workflow


def add_structural(workflow: LiterateWorkflow, plans: Mapping[str, StructuralPlan]) -> None:
    """Add what is to be done with the structural scans of all participants.

    The preparation of each head is a workflow of its own, because networks may be trained on the heads of others.

    Parameters
    ----------
    workflow : of all participants
    plans : by name of the participant's workflow, ``sub_01_wf``
    """
    prepared = {name: _prepared(plan, f"{name.removesuffix('_wf')}_scans_wf") for name, plan in plans.items()}
    for name, plan in plans.items():
        own = init_structural_subject_wf(plan=plan, name=name)
        workflow.connect([(prepared[name], own, passed(*KNOWN))])
        if plan.from_others:
            others = [other for other, its in plans.items() if other != name and its.contrasts == plan.contrasts]
            heads = joined(workflow, f"{name}_heads", [(prepared[other], "outputnode.head_json") for other in others])
            workflow.connect([(heads, own, into(out="heads"))])


def _prepared(plan: StructuralPlan, name: str) -> LiterateWorkflow:
    """The preparation of one head."""
    prepare_wf = init_prepare_contrasts_wf(plan=plan, name=name)
    inputs = prepare_wf.inputs.inputnode
    inputs.highres, inputs.lowres = list(plan.highres), list(plan.lowres)
    return prepare_wf


def init_structural_subject_wf(*, plan: StructuralPlan, name: str) -> LiterateWorkflow:
    """Super-resolve the prepared scans of one participant, measure and keep them.

    Parameters
    ----------
    plan : what there is and what is to be done

    Inputs
    ------
    fine_files, coarse_files, other_files, mask, facts_json : prepared scans, see `init_prepare_contrasts_wf`
    heads : descriptions of the other heads, where networks are trained on these
    """
    fields = (*KNOWN, "heads") if plan.from_others else KNOWN
    workflow = LiterateWorkflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=list(fields)), name="inputnode")
    fused = [_fused(plan, method, inputnode, workflow) for method in plan.methods]
    measured_wf = init_measured_wf(plan=plan)
    scans: list[Source] = [(inputnode, "coarse_files"), (inputnode, "other_files")]
    scans += [(fused_wf, "outputnode.out_files") for fused_wf in fused]
    files = joined(workflow, "series_files", scans)
    cards = joined(workflow, "cards", [(fused_wf, "outputnode.card_file") for fused_wf in fused])
    workflow.connect([
        (inputnode, measured_wf, into("fine_files", "mask", "facts_json")),
        (files, measured_wf, into(out="series_files")),
        (cards, measured_wf, into(out="card_files")),
    ])  # fmt: skip
    _keep(plan, inputnode, files, measured_wf, workflow)
    return workflow


def _fused(plan: StructuralPlan, method: str, inputnode: pe.Node, workflow: LiterateWorkflow) -> LiterateWorkflow:
    """One method: its model, its scans, what it looked at, and what is stored of the model."""
    fused_wf = init_fused_wf(plan=plan, method=method, name=f"fused_{method}_wf")
    shown = ExplanationReport(contrasts=list(plan.contrasts), method=method if len(plan.methods) > 1 else "")
    explain = pe.Node(shown, name=f"explain_{method}")
    out = plan.output_dir
    keep = init_sink(Store(output_dir=out, common={"subject": plan.label}), name=f"keep_explanation_{method}")
    workflow.connect([
        (inputnode, fused_wf, into(*SCANS, *(["heads"] if plan.from_others else []))),
        (inputnode, explain, same(*SCANS)),
        (fused_wf, explain, out_of(*MODEL, out_files="made_files")),
        (explain, keep, same(out_files="in_file", out_entities="entities")),
    ])  # fmt: skip
    models = Store(output_dir=out, common={**plan.common, "acquisition": "anat"})
    keep_model(workflow, fused_wf, models, name=f"keep_{method}_wf", method=method)
    return fused_wf


def _keep(
    plan: StructuralPlan, inputnode: pe.Node, files: pe.Node, measured_wf: LiterateWorkflow, workflow: LiterateWorkflow
) -> None:
    """Store scans, brain, tissues, measures and figures of a participant."""
    out, grid = plan.output_dir, f"grid of the high-resolution {plan.contrasts[0]} scan"
    about = {
        "Resolution": grid, "SkullStripped": True,
        "Description": "scaled to [0, 1]: 1 is the 99.9th percentile of the brain in the low-resolution scan",
    }  # fmt: skip
    store = Store(output_dir=out, common={**plan.common, "datatype": "anat"}, sources=plan.sources)
    scans = init_sink(
        store, name="keep_scans",
        entities=[{"res": "hr", "desc": one, "suffix": contrast} for one in plan.series for contrast in plan.contrasts],
        sidecar=[about] * (len(plan.series) * len(plan.contrasts)),
    )  # fmt: skip
    measured = init_sink(
        store, name="keep_measured",
        entities=[{"res": "hr", "desc": "measured", "suffix": contrast} for contrast in plan.contrasts],
        sidecar=[about] * len(plan.contrasts),
    )  # fmt: skip
    brain = init_sink(
        store, name="keep_brain", entities=[{"res": "hr", "desc": "brain", "suffix": "mask"}],
        sidecar=[{"Type": "Brain", "Resolution": grid}],
    )  # fmt: skip
    workflow.connect([
        (files, scans, same(out="in_file")),
        (inputnode, measured, same(fine_files="in_file")),
        (inputnode, brain, same(mask="in_file")),
    ])  # fmt: skip
    keep_fields(workflow, measured_wf, store, name="keep_measures", fields=structural_fields(grid=grid))
    summary_wf = init_reportlets_wf(drawings=summary(plan.facts), name="summary_wf")
    for drawn_by in (measured_wf, summary_wf):
        keep_figures(workflow, drawn_by, output_dir=out, common={"subject": plan.label})


def structural_fields(*, grid: str) -> Fields:
    """Names of what is measured of structural scans; `grid` in words, for the sidecars."""
    described = {name: {"Description": text} for name, text in METRICS_COLUMNS.items()}
    return {
        "dseg": (
            {"res": "hr", "desc": "measured", "suffix": "dseg"},
            {"Resolution": grid, "Description": "tissues of the measured scans by Atropos: 1 GM, 2 WM, 3 CSF"},
        ),
        "metrics_tsv": ({"desc": "anat", "suffix": "metrics"}, described),
    }
