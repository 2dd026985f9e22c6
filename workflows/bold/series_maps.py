"""One series of a run: its maps, its quality, and both in the derivatives."""

from typing import Any

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.coregistration import MapsToTemplate
from bids_sr.interfaces.metric_tables_io import SeriesQuality
from bids_sr.interfaces.statmap_names import finer_text
from bids_sr.workflows.bold.map_activation import init_activation_wf
from bids_sr.workflows.input_plans import Acquisition, Target
from bids_sr.workflows.plans import RunPlan
from bids_sr.workflows.sinks import init_sink
from bids_sr.workflows.wiring import fields_of, into, new_stage, out_of, same


def init_maps_wf(*, series: str, run: RunPlan, name: str) -> LiterateWorkflow:
    """Map activation in one series, measure its quality, and keep it with its maps.

    Parameters
    ----------
    series : name of the series
    run : where results go, how the run was acquired, which maps

    Inputs
    ------
    series_file, mask, roi : the series, brain mask and region of interest, on one grid
    events_file, confounds_tsv, n_dummy : of the run
    consistency_file : of the series, one row a volume
    boldref2t1w_xfm, t1w2std_xfm, template : only where output spaces are asked for

    Outputs
    -------
    maps, maps_entities : statistical maps and regions with their entities
    activation_tsv, quality_tsv : figures of the maps and of the series
    """
    target, acquisition = run.target, run.acquisition
    maps_wf = init_activation_wf(series=series, activation=run.activation, acquisition=acquisition)
    shared = fields_of(maps_wf)
    spatial = ["boldref2t1w_xfm", "t1w2std_xfm", "template"]
    workflow, inputnode, outputnode = new_stage(
        name, "", inputs=[*shared, "consistency_file", *(spatial if target.spaces else ())],
        outputs=["maps", "maps_entities", "activation_tsv", "quality_tsv"],
    )  # fmt: skip
    quality = pe.Node(SeriesQuality(series=series), name="quality")
    keep_series = init_sink(
        run.store, name="keep_series", dtype=target.dtype, entities=[_series_entities(series)],
        sidecar=[_series_sidecar(series, target, acquisition)],
    )  # fmt: skip
    keep_maps = init_sink(run.store, name="keep_maps")
    workflow.connect([
        (inputnode, maps_wf, into(*shared)),
        (inputnode, quality, same("mask", "n_dummy", "consistency_file", series_file="in_file")),
        (inputnode, keep_series, same(series_file="in_file")),
        (maps_wf, keep_maps, out_of(maps="in_file", maps_entities="entities", maps_sidecars="sidecar")),
        (maps_wf, outputnode, out_of("maps", "maps_entities", metrics_tsv="activation_tsv")),
        (quality, outputnode, same(metrics_tsv="quality_tsv")),
    ])  # fmt: skip
    for space in target.spaces:  # one interpolation each
        to_template = pe.Node(MapsToTemplate(space=space), name=f"to_{space}")
        keep = init_sink(run.store, name=f"keep_{space}")
        workflow.connect([
            (inputnode, to_template, same(*spatial)),
            (maps_wf, to_template, out_of(maps="in_files", maps_entities="in_entities", maps_sidecars="in_sidecars")),
            (to_template, keep, same(out_files="in_file", out_entities="entities", out_sidecars="sidecar")),
        ])  # fmt: skip
    return workflow


def _series_entities(series: str) -> dict[str, str]:
    if series == "raw":
        return {"desc": "preproc", "suffix": "bold"}
    return {"res": "hr", "desc": series, "suffix": "bold"}


def _series_sidecar(series: str, target: Target, acquisition: Acquisition) -> dict[str, Any]:
    sidecar: dict[str, Any] = {
        "TaskName": target.task_name,
        "RepetitionTime": acquisition.tr,
        "SkullStripped": False,
        "SliceTimingCorrected": acquisition.slice_times is not None,
    }
    if acquisition.slice_times is not None:
        sidecar["StartTime"] = round(acquisition.slice_time_ref * acquisition.tr, 6)
    if series != "raw":
        finer = finer_text(acquisition.factor, acquisition.axis_order)
        sidecar["Resolution"] = f"acquired field of view, {finer}, by {series}"
    return sidecar
