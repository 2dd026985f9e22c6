"""What the report draws of a participant and of a run, and the builder that draws it.

Fields are called as the stages call what they give; no result depends on anything made here.
"""

from collections.abc import Mapping
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.reporting.evaluation_reportlets import EvaluationReport, QualityReport, VarianceReport
from bids_sr.interfaces.reporting.map_reportlets import (
    ActivationReport,
    ClustersReport,
    DesignReport,
    MetricsReport,
    RegionsReport,
    SuperresReport,
)
from bids_sr.interfaces.reporting.overview_reportlets import GlassReport, OverviewReport, ViewerReport
from bids_sr.interfaces.reporting.reportlet_figures import (
    AnatReport,
    CalibrationReport,
    CoregReport,
    GuideReport,
    MotionReport,
    NormReport,
    PairReport,
    RegistrationReport,
    SummaryReport,
    TrainingReport,
)
from bids_sr.workflows.plans import RunPlan
from bids_sr.workflows.wiring import Pairs, joined, same

Drawings = Mapping[str, tuple[Any, Pairs]]
"""Name of a node to its interface, and to what connects the fields that it reads to its inputs."""


IN_PERCENT = ("boldref", "bold_mask")
"""What tells the mean signal of a run's brain, of which effects are given in percent."""


def init_reportlets_wf(*, drawings: Drawings, name: str) -> LiterateWorkflow:
    """Nodes that draw, side by side: what they drew is joined in their order.

    Inputs
    ------
    (those that the drawings read)

    Outputs
    -------
    reportlets, entities : figures and fragments of HTML, and the entities of each
    """
    workflow = LiterateWorkflow(name=name)
    outputnode = pe.Node(niu.IdentityInterface(fields=["reportlets", "entities"]), name="outputnode")
    nodes = [pe.Node(interface, name=each) for each, (interface, _) in drawings.items()]
    wired = [(node, wires) for node, (_, wires) in zip(nodes, drawings.values(), strict=True) if wires]
    if wired:  # the summary reads nothing
        fields = dict.fromkeys(field for _, wires in wired for field, _ in wires)
        inputnode = pe.Node(niu.IdentityInterface(fields=list(fields)), name="inputnode")
        workflow.connect([(inputnode, node, wires) for node, wires in wired])
    if len(nodes) == 1:
        workflow.connect([(nodes[0], outputnode, same(out_files="reportlets", out_entities="entities"))])
        return workflow
    for field, output in (("out_files", "reportlets"), ("out_entities", "entities")):
        merge = joined(workflow, f"all_{output}", [(node, field) for node in nodes])
        workflow.connect([(merge, outputnode, same(out=output))])
    return workflow


def summary(facts: Mapping[str, Any]) -> Drawings:
    """What was found and what will be done, warnings first.

    `facts` : labels to text, numbers, lists or nested mappings; the keys ``warnings`` and ``notices`` hold messages
    """
    return {"show": (SummaryReport(summary=dict(facts)), [])}


def anatomy() -> Drawings:
    """Brain mask, tissues, region of interest and normalization."""
    brain = same(t1w_preproc="t1w", t1w_mask="mask", t1w_tpms="tpms", roi_t1w="roi")
    norm = same("std_t1w", "template", "template_mask", t1w_preproc="t1w")
    return {"brain": (AnatReport(), brain), "norm": (NormReport(), norm)}


def pair() -> Drawings:
    """The T2*-weighted pair as it entered training, and its registration."""
    return {"pair": (PairReport(), same("train_highres", "train_lowres", "pair_mask", "highres", "pair_json"))}


def training(method: str, *, of_run: bool = False) -> Drawings:
    """The progress of one training.

    Parameters
    ----------
    method : its name, where several are trained on one pair: keeps their figures apart
    of_run : trained on the volumes of a run, or given for it with its model; else on the pair
    """
    return {"training": (TrainingReport(method=method, of_run=of_run), same("log_file", "card_file"))}


def motion_and_registration(run: RunPlan) -> Drawings:
    """Facts, motion and registration of one run; apart from its maps, so that these are seen when a map fails."""
    motion = same("confounds_tsv", "preproc_file", "n_dummy", bold_mask="mask")
    if run.with_anat:
        motion += same(tpms_bold="tpms")
    about = SummaryReport(summary=dict(run.facts), desc="runsummary", suffix="bold")
    drawings: dict[str, tuple[Any, Pairs]] = {
        "about": (about, same("n_dummy")),
        "motion": (MotionReport(), motion),
        "facts": (RegistrationReport(), same(registration_json="in_json")),
    }
    if "glm" in run.activation.kinds:
        design = DesignReport(timing={**run.acquisition.timing, "high_pass": run.activation.high_pass})
        drawings["design"] = (design, same("events_file", "confounds_tsv", "n_dummy"))
    if run.with_anat:
        coreg = same("boldref", "t1w_preproc", "t1w_mask", "t1w_tpms", "boldref2t1w_xfm")
        drawings["coreg"] = (CoregReport(), coreg)
    if run.with_pair:
        drawings["guide"] = (GuideReport(), same("boldref", "highres", "guide_hr", bold_mask_hr="mask_hr"))
    return drawings


def _below(run: RunPlan, name: str = "background") -> Pairs:
    """The image to draw over: the high-resolution one of the pair, without a pair the reference of the run."""
    return same(guide_hr=name) if run.with_pair else same(boldref=name)


def maps(run: RunPlan, n_runs: int = 1) -> Drawings:
    """Series and maps of one run of `n_runs`, which share the page, side by side, and its tables."""
    grid = same(bold_mask_hr="mask_hr", roi_bold_hr="roi_hr")
    every = [*same("maps", maps_entities="entities"), *_below(run), *grid]
    slices = SuperresReport(series_names=list(run.mapped[1:]))
    order = {"series_names": list(run.mapped)}
    judged = same("evaluation_tsv", "verdict_json")
    clusters = ClustersReport(series_names=["bspline", *run.series.methods])
    viewer = ViewerReport(n_runs=n_runs, common=dict(run.target.common), **order)
    placed = same("boldref2t1w_xfm", "std2t1w_xfm") if run.with_anat else []
    glass = [*judged, *placed, *same("maps", maps_entities="entities")]
    return {
        **({"glass": (GlassReport(), glass)} if run.with_anat else {}),
        "slices": (slices, [*same("series_files", preproc_file="raw_file"), *grid]),
        "maps": (ActivationReport(at_rest=run.at_rest, **order), every),
        "viewer": (viewer, [*judged, *placed, *(each for each in every if each[1] != "roi_hr")]),
        "clusters": (clusters, [*judged, *same("clusters_tsv")]),
        "regions": (RegionsReport(**order), every),
        "metrics": (MetricsReport(at_rest=run.at_rest, **order), same("image_tsv", "activation_tsv", *IN_PERCENT)),
    }


def evaluation(run: RunPlan) -> Drawings:
    """The verdict on one run, what it rests on, and the quality control."""
    names = list(run.series.names)
    has_truth = bool(run.evaluation.truth_file or run.evaluation.truth_maps)
    table = same("flags_json", *IN_PERCENT, evaluation_tsv="in_table")
    quality = [*table, *same("consistency_files", bold_mask_hr="mask_hr"), *_below(run)]
    if run.guarded:
        quality += same(guard_maps="maps", guard_maps_entities="entities", guard_maps_sidecars="sidecars")
    worth = [*table, *same("verdict_json")]
    if run.evaluation.split:
        worth += same("figures_npz")
    return {
        "worth": (EvaluationReport(has_truth=has_truth, series_names=names), worth),
        "guards": (QualityReport(consistency_names=names), quality),
    }


def overview(run: RunPlan) -> Drawings:
    """The first screen of one run: the answer, three numbers, one figure, checks, and what to do next."""
    wires = same(
        "evaluation_tsv", "verdict_json", "flags_json", "registration_json", "confounds_tsv", "one_level_down_json",
        "image_tsv", "maps", *IN_PERCENT, maps_entities="entities", bold_mask_hr="mask_hr", roi_bold_hr="roi_hr",
    )  # fmt: skip
    shown = OverviewReport(
        run_name=str(run.facts.get("Run", run.name)), truth_maps=dict(run.evaluation.truth_maps),
        calibrated=run.calibrated, at_rest=run.at_rest,
    )  # fmt: skip
    return {"overview": (shown, [*wires, *_below(run)])}


def variance(run: RunPlan) -> Drawings:
    """Where a run fluctuates on the high-resolution grid."""
    return {"variance": (VarianceReport(), [*same("weight_file", bold_mask_hr="mask"), *_below(run, "guide")])}


def calibration() -> Drawings:
    """The calibration of one run: in register with the run, its map, and what it told."""
    wires = same(
        "boldref", "bold_mask", "calibration_ref", "calibration_json", calibration_sd="sd_file",
        calibration_xfm="boldref2calibration_xfm",
    )  # fmt: skip
    return {"drawn": (CalibrationReport(), wires)}
