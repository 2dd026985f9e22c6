"""One series of a run: its maps, its quality, and both in the derivatives."""

from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.coregistration import MapsToTemplate
from bids_sr.interfaces.metric_tables_io import SeriesQuality
from bids_sr.workflows.bold.map_activation import init_activation_wf
from bids_sr.workflows.input_plans import Acquisition, Target
from bids_sr.workflows.plans import ActivationPlan
from bids_sr.workflows.sinks import init_sink

Edges = list[tuple[pe.Node | LiterateWorkflow, pe.Node | LiterateWorkflow, list[Any]]]


def init_maps_wf(
    *, series: str, target: Target, acquisition: Acquisition, activation: ActivationPlan, omp_nthreads: int, name: str
) -> LiterateWorkflow:
    """Map activation in one series, judge the series, and keep it with its maps.

    Parameters
    ----------
    series : name of the series
    target, acquisition, activation : where results go, how the run was acquired, which maps
    omp_nthreads : threads that one node may take
    name : of the workflow

    Inputs
    ------
    series_file, mask, roi
        the series, brain mask and region of interest, on one grid
    events_file, confounds_tsv, n_dummy
        of the run
    consistency_file
        of the series, one row a volume
    boldref2t1w_xfm, t1w2std_xfm, template
        only where output spaces are asked for

    Outputs
    -------
    maps, maps_entities
        statistical maps and regions with their entities
    activation_tsv, quality_tsv
        figures of the maps and of the series
    stored_file
        the series in the derivatives
    """
    workflow = LiterateWorkflow(name=name)
    spatial = ["boldref2t1w_xfm", "t1w2std_xfm", "template"] if target.spaces else []
    fields = ["series_file", "mask", "roi", "events_file", "confounds_tsv", "n_dummy", "consistency_file", *spatial]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputs = ["maps", "maps_entities", "activation_tsv", "quality_tsv", "stored_file"]
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    maps_wf = init_activation_wf(
        series=series, fwhm_mm=activation.smoothing, contrasts=activation.contrasts, kinds=activation.kinds,
        tr=acquisition.tr, low_pass=activation.low_pass, high_pass=activation.high_pass,
        slice_time_ref=acquisition.slice_time_ref, has_stc=acquisition.slice_times is not None,
        thresholds=activation.thresholds, factor=acquisition.factor,
        omp_nthreads=omp_nthreads,
    )  # fmt: skip
    quality = pe.Node(SeriesQuality(series=series), name="quality")
    keep_series = init_sink(
        name="keep_series", output_dir=target.output_dir, common=target.common, sources=target.sources,
        dtype=target.dtype, entities=[_series_entities(series)], sidecar=[_series_sidecar(series, target, acquisition)],
    )  # fmt: skip
    keep_maps = init_sink(name="keep_maps", output_dir=target.output_dir, common=target.common, sources=target.sources)
    shared = [field for field in fields if field not in (*spatial, "consistency_file")]
    edges: Edges = [
        (inputnode, maps_wf, [(field, f"inputnode.{field}") for field in shared]),
        (inputnode, quality, [
            ("series_file", "in_file"), ("mask", "mask"), ("n_dummy", "n_dummy"),
            ("consistency_file", "consistency_file"),
        ]),
        (inputnode, keep_series, [("series_file", "in_file")]),
        (maps_wf, keep_maps, [
            ("outputnode.maps", "in_file"), ("outputnode.maps_entities", "entities"),
            ("outputnode.maps_sidecars", "sidecar"),
        ]),
        (maps_wf, outputnode, [
            ("outputnode.maps", "maps"), ("outputnode.maps_entities", "maps_entities"),
            ("outputnode.metrics_tsv", "activation_tsv"),
        ]),
        (quality, outputnode, [("metrics_tsv", "quality_tsv")]),
        (keep_series, outputnode, [("out_file", "stored_file")]),
    ]  # fmt: skip
    for space in target.spaces:
        edges += _template_edges(space, target, inputnode, maps_wf)
    workflow.connect(edges)
    return workflow


def _template_edges(space: str, target: Target, inputnode: pe.Node, maps_wf: LiterateWorkflow) -> Edges:
    """Statistical maps in one output space: one interpolation each, then a sink."""
    to_template = pe.Node(MapsToTemplate(space=space), name=f"to_{space}")
    keep = init_sink(name=f"keep_{space}", output_dir=target.output_dir, common=target.common, sources=target.sources)
    return [
        (inputnode, to_template, [(field, field) for field in ("boldref2t1w_xfm", "t1w2std_xfm", "template")]),
        (maps_wf, to_template, [
            ("outputnode.maps", "in_files"), ("outputnode.maps_entities", "in_entities"),
            ("outputnode.maps_sidecars", "in_sidecars"),
        ]),
        (to_template, keep, [("out_files", "in_file"), ("out_entities", "entities"), ("out_sidecars", "sidecar")]),
    ]  # fmt: skip


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
        factor = "x".join(f"{f:g}" for f in acquisition.factor)
        sidecar["Resolution"] = f"acquired field of view, voxels {factor} times finer, by {series}"
    return sidecar
