"""Workflows that draw the evaluation: what the super-resolved series is worth, quality control, the variance map.

Each gives parallel lists, ``reportlets`` and ``entities``, for a sink; no result depends on anything made here.
"""

from collections.abc import Sequence
from typing import Any

from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.reporting.evaluation_reportlets import EvaluationReport, QualityReport, VarianceReport
from bids_sr.workflows.reportlets.subject_reportlets import drawing_workflow, same


def init_evaluation_reportlets_wf(
    *,
    with_truth: bool,
    with_guide: bool,
    with_maps: bool = True,
    with_halves: bool = True,
    series: Sequence[str] = (),
    name: str = "evaluation_reportlets_wf",
) -> LiterateWorkflow:
    """Show the verdict on one run, what it rests on, and the quality control.

    Parameters
    ----------
    with_truth : whether high-resolution BOLD or the activation of the run is known
    with_guide : whether there is a high-resolution image to draw over; else the reference of the run is drawn
    with_maps : whether there are maps of the quality control (uncertainty, unrepeated detail)
    with_halves : whether the run could be split into halves
    series : names of the series on the high-resolution grid, in the order of ``consistency_files``
    name : of the workflow

    Inputs
    ------
    evaluation_tsv, verdict_json, flags_json
        rows of the evaluation; the verdict and the flags as text
    figures_npz
        effects beyond the acquired Nyquist limit, only with halves
    consistency_files
        loss of acquired data, one row a volume, a file each series
    maps, maps_entities, maps_sidecars
        maps of the quality control, among any others, their entities and metadata; only with such maps
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
    names = list(series)
    order: dict[str, Any] = {"series_names": names} if names else {}
    table = {"evaluation_tsv": "in_table", "flags_json": "flags_json"}
    quality = {**table, **same("consistency_files", "mask_hr"), "guide_hr" if with_guide else "boldref": "background"}
    if with_maps:
        quality |= {"maps": "maps", "maps_entities": "entities", "maps_sidecars": "sidecars"}
    halves = ("figures_npz",) if with_halves else ()
    return drawing_workflow(name, {
        "worth": (EvaluationReport(has_truth=with_truth, **order), {**table, **same("verdict_json", *halves)}),
        "guards": (QualityReport(consistency_names=names), quality),
    })  # fmt: skip


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
    wires = {"weight_file": "weight_file", "mask_hr": "mask", "guide_hr" if with_guide else "boldref": "guide"}
    return drawing_workflow(name, {"variance": (VarianceReport(), wires)})
