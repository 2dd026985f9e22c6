"""Workflows that draw the report: one builder for the anatomy, one for the pair, one for a run, one for the summary.

Each gives parallel lists, ``reportlets`` and ``entities``, for a sink; no result depends on anything made here.
"""

from collections.abc import Mapping
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.reporting.map_reportlets import (
    ActivationReport,
    ClustersReport,
    MetricsReport,
    RegionsReport,
    SuperresReport,
)
from bids_sr.interfaces.reporting.overview_reportlets import ViewerReport
from bids_sr.interfaces.reporting.reportlet_figures import (
    AnatReport,
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

Drawing = tuple[Any, Pairs]
"""An interface, and what connects the inputnode to its inputs."""


def drawing_workflow(name: str, drawings: Mapping[str, Drawing]) -> LiterateWorkflow:
    """Nodes that draw, side by side: what they drew is joined in their order.

    Parameters
    ----------
    drawings : by the name of their node; together their fields are those of the inputnode
    """
    workflow = LiterateWorkflow(name=name)
    outputnode = pe.Node(niu.IdentityInterface(fields=["reportlets", "entities"]), name="outputnode")
    fields = list(dict.fromkeys(field for _, wires in drawings.values() for field, _ in wires))
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode") if fields else None
    nodes = [pe.Node(interface, name=each) for each, (interface, _) in drawings.items()]
    for node, (_, wires) in zip(nodes, drawings.values(), strict=True):
        if wires:
            workflow.connect([(inputnode, node, wires)])
    if len(nodes) == 1:
        workflow.connect([(nodes[0], outputnode, same(out_files="reportlets", out_entities="entities"))])
        return workflow
    for field, output in (("out_files", "reportlets"), ("out_entities", "entities")):
        merge = joined(workflow, f"all_{output}", [(node, field) for node in nodes])
        workflow.connect([(merge, outputnode, same(out=output))])
    return workflow


def init_summary_wf(*, summary: Mapping[str, Any], name: str = "summary_wf") -> LiterateWorkflow:
    """Show what was found and what will be done, warnings first.

    Parameters
    ----------
    summary : labels to text, numbers, lists or nested mappings; the keys ``warnings`` and ``notices`` hold messages

    Outputs
    -------
    reportlets, entities : one fragment of HTML, and the entities of it
    """
    return drawing_workflow(name, {"show": (SummaryReport(summary=dict(summary)), [])})


def init_anat_reportlets_wf(*, name: str = "anat_reportlets_wf") -> LiterateWorkflow:
    """Draw brain mask, tissues, region of interest and normalization.

    Inputs
    ------
    t1w_preproc, t1w_mask, t1w_tpms, roi_t1w : T1w image and what lies on its grid
    std_t1w, template, template_mask : T1w image in the template's space, the template and its brain mask

    Outputs
    -------
    reportlets, entities : figures, and the entities of each
    """
    brain = same(t1w_preproc="t1w", t1w_mask="mask", t1w_tpms="tpms", roi_t1w="roi")
    norm = same("std_t1w", "template", "template_mask", t1w_preproc="t1w")
    return drawing_workflow(name, {"brain": (AnatReport(), brain), "norm": (NormReport(), norm)})


def init_pair_reportlets_wf(
    *, with_model: bool, method: str = "", name: str = "pair_reportlets_wf"
) -> LiterateWorkflow:
    """Draw the T2*-weighted pair, its registration, and the progress of training.

    Parameters
    ----------
    with_model : whether a network was trained
    method : its name, where several are trained on one pair: keeps their figures apart

    Inputs
    ------
    train_highres, train_lowres, pair_mask : the pair as it entered training, brain mask of the lowres image
    highres : highres image as acquired
    pair_json : what is known of the pair's registration
    log_file, card_file : of the training, only with a model

    Outputs
    -------
    reportlets, entities : figures and fragments of HTML, and the entities of each
    """
    drawings: dict[str, Drawing] = {
        "pair": (PairReport(), same("train_highres", "train_lowres", "pair_mask", "highres", "pair_json"))
    }
    if with_model:
        drawings["training"] = (TrainingReport(method=method), same("log_file", "card_file"))
    return drawing_workflow(name, drawings)


def init_training_reportlets_wf(*, method: str, of_run: bool, name: str = "training_reportlets_wf") -> LiterateWorkflow:
    """Draw the progress of one training alone.

    Parameters
    ----------
    method : name of the series: keeps the figures of several apart
    of_run : trained on the volumes of a run, or given for it with its model; else on the pair

    Inputs
    ------
    log_file, card_file : of the training

    Outputs
    -------
    reportlets, entities : figures and fragments of HTML, and the entities of each
    """
    drawn = TrainingReport(method=method, of_run=of_run)
    return drawing_workflow(name, {"course": (drawn, same("log_file", "card_file"))})


def init_run_reportlets_wf(*, run: RunPlan, name: str = "run_reportlets_wf") -> LiterateWorkflow:
    """Draw motion and registration of one run; apart from its maps, so that these are seen when a map fails.

    Parameters
    ----------
    run : its facts are the first lines; see ``init_summary_wf``

    Inputs
    ------
    bold_mask, n_dummy : brain mask on the acquired grid, volumes left out at the start
    boldref : reference of the run, only with a T1w image or a pair
    preproc_file, confounds_tsv : motion-corrected series on the acquired grid, and its confounds
    registration_json : size and quality of the registrations
    tpms_bold, t1w_preproc, t1w_mask, t1w_tpms, boldref2t1w_xfm : only with a T1w image
    bold_mask_hr, highres, guide_hr : brain mask on the high-resolution grid; highres image as acquired, and on that
        grid; only with a pair

    Outputs
    -------
    reportlets, entities : figures and fragments of HTML, and the entities of each
    """
    motion = same("confounds_tsv", "preproc_file", "n_dummy", bold_mask="mask")
    if run.with_anat:
        motion += same(tpms_bold="tpms")
    about = SummaryReport(summary=dict(run.facts), desc="runsummary", suffix="bold")
    drawings: dict[str, Drawing] = {
        "about": (about, same("n_dummy")),
        "motion": (MotionReport(), motion),
        "facts": (RegistrationReport(), same(registration_json="in_json")),
    }
    if run.with_anat:
        coreg = same("boldref", "t1w_preproc", "t1w_mask", "t1w_tpms", "boldref2t1w_xfm")
        drawings["coreg"] = (CoregReport(), coreg)
    if run.with_pair:
        drawings["guide"] = (GuideReport(), same("boldref", "highres", "guide_hr", bold_mask_hr="mask_hr"))
    return drawing_workflow(name, drawings)


def init_maps_reportlets_wf(*, run: RunPlan, n_runs: int = 1, name: str = "maps_reportlets_wf") -> LiterateWorkflow:
    """Draw series and maps of one run side by side, and show its tables.

    Parameters
    ----------
    run : with a T2*-weighted pair its highres image is drawn below the maps
    n_runs : runs of the participant, which share the page

    Inputs
    ------
    preproc_file : motion-corrected series on the acquired grid
    bold_mask_hr, roi_bold_hr : brain mask and region of interest on the high-resolution grid
    series_files : every series besides raw
    maps, maps_entities : statistical maps and regions of all series, with their entities
    image_tsv, activation_tsv : metrics of the series and of the maps
    clusters_tsv : largest clusters of the maps
    evaluation_tsv, verdict_json : what is shown first: the contrast of the verdict, and its best method
    boldref : reference of the run, only without a pair
    guide_hr : highres image on the boldref's high-resolution grid, only with a pair

    Outputs
    -------
    reportlets, entities : figures and fragments of HTML, and the entities of each
    """
    grid = same(bold_mask_hr="mask_hr", roi_bold_hr="roi_hr")
    below = same(guide_hr="background") if run.with_pair else same(boldref="background")
    maps = [*same("maps", maps_entities="entities"), *below, *grid]
    slices = SuperresReport(series_names=list(run.mapped[1:]))
    order = {"series_names": list(run.mapped)}
    judged = same("evaluation_tsv", "verdict_json")
    clusters = ClustersReport(series_names=["bspline", *run.series.methods])
    return drawing_workflow(name, {
        "slices": (slices, [*same("series_files", preproc_file="raw_file"), *grid]),
        "maps": (ActivationReport(at_rest=run.at_rest, **order), maps),
        "viewer": (
            ViewerReport(n_runs=n_runs, **order), [*judged, *(each for each in maps if each[1] != "roi_hr")]
        ),
        "clusters": (clusters, [*judged, *same("clusters_tsv")]),
        "regions": (RegionsReport(**order), maps),
        "metrics": (MetricsReport(at_rest=run.at_rest, **order), same("image_tsv", "activation_tsv")),
    })  # fmt: skip
