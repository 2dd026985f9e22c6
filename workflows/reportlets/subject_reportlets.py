"""Figures and tables of the report: one builder for the anatomy, one for the pair, one for a run, one for the summary.

Each gives parallel lists, ``reportlets`` and ``entities``, for a sink; no result depends on anything made here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.reporting.map_reportlets import (
    ActivationReport,
    MetricsReport,
    RegionsReport,
    SummaryReport,
    SuperresReport,
)
from bids_sr.interfaces.reporting.reportlet_figures import (
    AnatReport,
    CoregReport,
    GuideReport,
    MotionReport,
    NormReport,
    PairReport,
    RegistrationReport,
    TrainingReport,
)
from bids_sr.workflows.bold.series_maps import Edges

OUTPUTS = ("reportlets", "entities")


def _figure(interface: Any, name: str) -> pe.Node:
    return pe.Node(interface, name=name, n_procs=1)


def _gathered(nodes: Sequence[pe.Node], outputnode: pe.Node) -> Edges:
    """Join what several nodes drew, in their order."""
    edges: Edges = []
    for field, output in (("out_files", "reportlets"), ("out_entities", "entities")):
        merge = pe.Node(niu.Merge(len(nodes)), name=f"all_{output}", run_without_submitting=True)
        edges += [(node, merge, [(field, f"in{number}")]) for number, node in enumerate(nodes, 1)]
        edges.append((merge, outputnode, [("out", output)]))
    return edges


def _ends(fields: Sequence[str]) -> tuple[pe.Node, pe.Node]:
    inputnode = pe.Node(niu.IdentityInterface(fields=list(fields)), name="inputnode")
    return inputnode, pe.Node(niu.IdentityInterface(fields=list(OUTPUTS)), name="outputnode")


def init_summary_wf(
    *, summary: Mapping[str, Any], desc: str = "summary", suffix: str = "T1w", name: str = "summary_wf"
) -> LiterateWorkflow:
    """Show what was found and what will be done, warnings first.

    Parameters
    ----------
    summary : labels to text, numbers, lists or nested mappings; the keys ``warnings`` and ``notices`` hold messages
    desc, suffix : of the reportlet
    name : of the workflow

    Outputs
    -------
    reportlets : one fragment of HTML
    entities : of it
    """
    workflow = LiterateWorkflow(name=name)
    outputnode = pe.Node(niu.IdentityInterface(fields=list(OUTPUTS)), name="outputnode")
    show = _figure(SummaryReport(summary=dict(summary), desc=desc, suffix=suffix), "show")
    workflow.connect([(show, outputnode, [("out_files", "reportlets"), ("out_entities", "entities")])])
    return workflow


def init_anat_reportlets_wf(*, name: str = "anat_reportlets_wf") -> LiterateWorkflow:
    """Draw brain mask, tissues, region of interest and normalization.

    Parameters
    ----------
    name : of the workflow

    Inputs
    ------
    t1w_preproc, t1w_mask, t1w_tpms, roi_t1w : T1w image and what lies on its grid
    std_t1w, template, template_mask : T1w image in the template's space, the template and its brain mask

    Outputs
    -------
    reportlets : figures
    entities : of each
    """
    workflow = LiterateWorkflow(name=name)
    inputnode, outputnode = _ends(
        ("t1w_preproc", "t1w_mask", "t1w_tpms", "roi_t1w", "std_t1w", "template", "template_mask")
    )
    brain = _figure(AnatReport(), "brain")
    norm = _figure(NormReport(), "norm")
    workflow.connect([
        (inputnode, brain, [("t1w_preproc", "t1w"), ("t1w_mask", "mask"), ("t1w_tpms", "tpms"), ("roi_t1w", "roi")]),
        (inputnode, norm, [
            ("t1w_preproc", "t1w"), *[(field, field) for field in ("std_t1w", "template", "template_mask")],
        ]),
        *_gathered((brain, norm), outputnode),
    ])  # fmt: skip
    return workflow


def init_pair_reportlets_wf(
    *, with_model: bool, method: str = "", name: str = "pair_reportlets_wf"
) -> LiterateWorkflow:
    """Draw the T2*-weighted pair, its register, and the course of training.

    Parameters
    ----------
    with_model : whether a network was trained
    method : its name, where several are trained on one pair: keeps their figures apart
    name : of the workflow

    Inputs
    ------
    train_highres, train_lowres, pair_mask : the pair as it entered training, brain mask of the lowres image
    highres : highres image as acquired
    pair_json : what is known of the pair's register
    log_file, card_file : of the training, only with a model

    Outputs
    -------
    reportlets : figures and fragments of HTML
    entities : of each
    """
    workflow = LiterateWorkflow(name=name)
    shown = ("train_highres", "train_lowres", "pair_mask", "highres", "pair_json")
    training = ("log_file", "card_file") if with_model else ()
    inputnode, outputnode = _ends((*shown, *training))
    nodes = [_figure(PairReport(), "pair")]
    edges: Edges = [(inputnode, nodes[0], [(field, field) for field in shown])]
    if with_model:
        nodes.append(_figure(TrainingReport(method=method), "training"))
        edges.append((inputnode, nodes[1], [(field, field) for field in training]))
    workflow.connect([*edges, *_gathered(nodes, outputnode)])
    return workflow


def init_training_reportlets_wf(*, method: str, of_run: bool, name: str = "training_reportlets_wf") -> LiterateWorkflow:
    """Draw the course of one training alone.

    Parameters
    ----------
    method : name of the series: keeps the figures of several apart
    of_run : trained on the volumes of a run, or given for it with its model; else on the pair
    name : of the workflow

    Inputs
    ------
    log_file, card_file : of the training

    Outputs
    -------
    reportlets : figures and fragments of HTML
    entities : of each
    """
    workflow = LiterateWorkflow(name=name)
    inputnode, outputnode = _ends(("log_file", "card_file"))
    drawn = _figure(TrainingReport(method=method, of_run=of_run), "course")
    edges: Edges = [(inputnode, drawn, [(field, field) for field in ("log_file", "card_file")])]
    workflow.connect([*edges, *_gathered([drawn], outputnode)])
    return workflow


def init_run_reportlets_wf(
    *, with_anat: bool, with_pair: bool, summary: Mapping[str, Any] | None = None, name: str = "run_reportlets_wf"
) -> LiterateWorkflow:
    """Draw motion and registration of one run; apart from its maps, so that these are seen when a map fails.

    Parameters
    ----------
    with_anat, with_pair : whether there are a T1w image and a T2*-weighted pair
    summary : facts of the run for its first lines; see ``init_summary_wf``
    name : of the workflow

    Inputs
    ------
    bold_mask, n_dummy
        brain mask on the acquired grid, volumes left out at the start
    boldref
        reference of the run, only with a T1w image or a pair
    preproc_file, confounds_tsv
        motion-corrected series on the acquired grid, and its confounds
    registration_json
        size and quality of the registrations
    tpms_bold, t1w_preproc, t1w_mask, t1w_tpms, boldref2t1w_xfm
        only with a T1w image
    bold_mask_hr, highres, guide_hr
        brain mask on the high-resolution grid; highres image as acquired, and on that grid; only with a pair

    Outputs
    -------
    reportlets : figures and fragments of HTML
    entities : of each
    """
    workflow = LiterateWorkflow(name=name)
    anat = ("t1w_preproc", "t1w_mask", "t1w_tpms", "boldref2t1w_xfm") if with_anat else ()
    pair = ("highres", "guide_hr") if with_pair else ()
    tissues, fine = ("tpms_bold",) * with_anat, ("bold_mask_hr",) * with_pair
    below = ("boldref",) * (with_anat or with_pair)
    inputnode, outputnode = _ends((
        *below, "bold_mask", "n_dummy", "preproc_file", "confounds_tsv", "registration_json",
        *tissues, *anat, *fine, *pair,
    ))  # fmt: skip
    about = _figure(SummaryReport(summary=dict(summary or {}), desc="runsummary", suffix="bold"), "about")
    motion = _figure(MotionReport(), "motion")
    facts = _figure(RegistrationReport(), "facts")
    nodes = [about, motion, facts]
    edges: Edges = [
        (inputnode, about, [("n_dummy", "n_dummy")]),
        (inputnode, facts, [("registration_json", "in_json")]),
        (inputnode, motion, [
            ("confounds_tsv", "confounds_tsv"), ("preproc_file", "preproc_file"), ("bold_mask", "mask"),
            ("n_dummy", "n_dummy"), *[(field, "tpms") for field in tissues],
        ]),
    ]  # fmt: skip
    if with_anat:
        nodes.append(_figure(CoregReport(), "coreg"))
        edges.append((inputnode, nodes[-1], [("boldref", "boldref"), *[(field, field) for field in anat]]))
    if with_pair:
        nodes.append(_figure(GuideReport(), "guide"))
        edges.append(
            (inputnode, nodes[-1], [("boldref", "boldref"), ("bold_mask_hr", "mask_hr"), *[(f, f) for f in pair]])
        )
    workflow.connect([*edges, *_gathered(nodes, outputnode)])
    return workflow


def init_maps_reportlets_wf(
    *, series: Sequence[str], with_pair: bool, conditions: Sequence[str] = (), name: str = "maps_reportlets_wf"
) -> LiterateWorkflow:
    """Draw series and maps of one run side by side, and show its tables.

    Parameters
    ----------
    series : names of the series besides ``raw``, in the order of ``series_files``
    with_pair : whether there is a T2*-weighted pair; its highres image is drawn below the maps then
    conditions : single conditions whose regions are compared; default: told from the names of the maps
    name : of the workflow

    Inputs
    ------
    preproc_file
        motion-corrected series on the acquired grid
    bold_mask_hr, roi_bold_hr
        brain mask and region of interest on the high-resolution grid
    series_files
        every series besides raw
    maps, maps_entities
        statistical maps and regions of all series, with their entities
    image_tsv, activation_tsv
        figures of the series and of the maps
    boldref
        reference of the run, only without a pair
    guide_hr
        highres image on the boldref's high-resolution grid, only with a pair

    Outputs
    -------
    reportlets : figures and fragments of HTML
    entities : of each
    """
    workflow = LiterateWorkflow(name=name)
    below = "guide_hr" if with_pair else "boldref"
    inputnode, outputnode = _ends((
        "preproc_file", "bold_mask_hr", "roi_bold_hr", "series_files", "maps", "maps_entities", "image_tsv",
        "activation_tsv", below,
    ))  # fmt: skip
    names, every = list(series), ["raw", *series]
    given: dict[str, Any] = {"conditions": list(conditions)} if conditions else {}
    slices = _figure(SuperresReport(series_names=names), "slices")
    maps = _figure(ActivationReport(series_names=every), "maps")
    regions = _figure(RegionsReport(series_names=every, **given), "regions")
    metrics = _figure(MetricsReport(series_names=every), "metrics")
    grid = [("bold_mask_hr", "mask_hr"), ("roi_bold_hr", "roi_hr")]
    edges: Edges = [
        (inputnode, slices, [("series_files", "series_files"), ("preproc_file", "raw_file"), *grid]),
        (inputnode, metrics, [("image_tsv", "image_tsv"), ("activation_tsv", "activation_tsv")]),
        *[
            (inputnode, node, [("maps", "maps"), ("maps_entities", "entities"), (below, "background"), *grid])
            for node in (maps, regions)
        ],
    ]
    workflow.connect([*edges, *_gathered([slices, maps, regions, metrics], outputnode)])
    return workflow
