"""Figures of the evaluation: what the finer series is worth, its guards, and the variance map.

Each gives parallel lists, ``reportlets`` and ``entities``, for a sink; no result depends on anything made here.
"""

from collections.abc import Sequence
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.reporting.evaluation_reportlets import EvaluationReport, GuardsReport, VarianceReport

OUTPUTS = ("reportlets", "entities")


def init_evaluation_reportlets_wf(
    *,
    with_truth: bool,
    with_guide: bool,
    with_maps: bool = True,
    with_halves: bool = True,
    series: Sequence[str] = (),
    name: str = "evaluation_reportlets_wf",
) -> LiterateWorkflow:
    """Show the verdict on one run, what it rests on, and the guards.

    Parameters
    ----------
    with_truth : whether high-resolution BOLD or the activation of the run is known
    with_guide : whether there is a high-resolution image to draw over; else the reference of the run is drawn
    with_maps : whether there are maps of the guards (uncertainty, unrepeated detail)
    with_halves : whether the run could be split into halves
    series : names of the series on the high-resolution grid, in the order of ``consistency_files``
    name : of the workflow

    Inputs
    ------
    evaluation_tsv, verdict_json, flags_json
        rows of the evaluation; the verdict and the flags in words
    figures_npz
        effects beyond the acquired Nyquist limit, only with halves
    consistency_files
        loss of acquired data, one row a volume, a file each series
    maps, maps_entities, maps_sidecars
        maps of the guards, among any others, their entities and metadata; only with such maps
    mask_hr
        brain mask on the high-resolution grid
    guide_hr
        high-resolution image that guides, on that grid, only with a guide
    boldref
        reference of the run, only without a guide

    Outputs
    -------
    reportlets : figures and fragments of HTML
    entities : of each
    """
    workflow = LiterateWorkflow(name=name)
    below = "guide_hr" if with_guide else "boldref"
    maps = ("maps", "maps_entities", "maps_sidecars") if with_maps else ()
    halves = ("figures_npz",) if with_halves else ()
    fields = [
        "evaluation_tsv",
        "verdict_json",
        "flags_json",
        *halves,
        "consistency_files",
        *maps,
        "mask_hr",
        below,
    ]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=list(OUTPUTS)), name="outputnode")
    order: dict[str, Any] = {"series_names": list(series)} if series else {}
    worth = pe.Node(EvaluationReport(has_truth=with_truth, **order), name="worth", n_procs=1)
    guards = pe.Node(GuardsReport(consistency_names=list(series)), name="guards", n_procs=1)
    workflow.connect([
        (inputnode, worth, [
            ("evaluation_tsv", "in_table"), ("verdict_json", "verdict_json"), ("flags_json", "flags_json"),
            *[(field, field) for field in halves],
        ]),
        (inputnode, guards, [
            ("evaluation_tsv", "in_table"), ("flags_json", "flags_json"), ("consistency_files", "consistency_files"),
            ("mask_hr", "mask_hr"), (below, "background"),
            *[(field, field.removeprefix("maps_")) for field in maps],
        ]),
    ])  # fmt: skip
    for field, output in (("out_files", "reportlets"), ("out_entities", "entities")):
        merge = pe.Node(niu.Merge(2), name=f"all_{output}", run_without_submitting=True)
        workflow.connect([
            (worth, merge, [(field, "in1")]), (guards, merge, [(field, "in2")]), (merge, outputnode, [("out", output)]),
        ])  # fmt: skip
    return workflow


def init_variance_reportlets_wf(*, with_guide: bool, name: str = "variance_reportlets_wf") -> LiterateWorkflow:
    """Show where a run fluctuates on the high-resolution grid.

    Parameters
    ----------
    with_guide : whether there is a high-resolution image; else the reference of the run is drawn above
    name : of the workflow

    Inputs
    ------
    weight_file : standard deviation of the fluctuations on that grid
    mask_hr : brain mask on that grid
    guide_hr : high-resolution image, on that grid, only with a guide
    boldref : reference of the run, only without a guide

    Outputs
    -------
    reportlets : one figure
    entities : of it
    """
    workflow = LiterateWorkflow(name=name)
    below = "guide_hr" if with_guide else "boldref"
    inputnode = pe.Node(niu.IdentityInterface(fields=["weight_file", "mask_hr", below]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=list(OUTPUTS)), name="outputnode")
    variance = pe.Node(VarianceReport(), name="variance", n_procs=1)
    workflow.connect([
        (inputnode, variance, [("weight_file", "weight_file"), ("mask_hr", "mask"), (below, "guide")]),
        (variance, outputnode, [("out_files", "reportlets"), ("out_entities", "entities")]),
    ])  # fmt: skip
    return workflow
