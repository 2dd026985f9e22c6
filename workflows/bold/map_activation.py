"""Activation maps of one series at every smoothing, and all series compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.metric_tables_io import MergeMetrics
from bids_sr.interfaces.statmap_interfaces import ActivationMaps, CompareMaps


def init_activation_wf(
    *,
    series: str,
    fwhm_mm: Sequence[float],
    contrasts: Mapping[str, Mapping[str, float]],
    kinds: Sequence[str],
    tr: float,
    low_pass: float | None,
    high_pass: float,
    slice_time_ref: float,
    has_stc: bool,
    thresholds: Sequence[str],
    factor: tuple[float, float, float],
    omp_nthreads: int,
    name: str = "activation_wf",
) -> LiterateWorkflow:
    """Map the activation in one series, once per smoothing.

    Parameters
    ----------
    series : name of the series; ``raw`` is on the acquired grid, every other on the high-resolution grid
    fwhm_mm : Gaussian smoothing, one set of maps each (mm); 0 is none
    contrasts : name to weights of trial types
    kinds : ``cc`` (correlation, the paper's) and ``glm``
    tr : repetition time (s)
    low_pass : of the correlation (Hz); None is none
    high_pass : of the linear model (Hz)
    slice_time_ref, has_stc : moment within a TR to which slice timing was corrected, and whether it was
    thresholds : ``quarter``, ``fdr`` or values of z
    factor : acquired voxel over high-resolution voxel along each axis
    omp_nthreads : processors that one node may take; these take one each, as there is a node for every smoothing
    name : of the workflow

    Inputs
    ------
    series_file : the series in BOLD signal units, dummies included
    mask : brain mask on the grid of the series
    roi : region of interest on the grid of the series
    events_file : BIDS events of the run
    confounds_tsv : one row a volume; motion, its derivatives and aCompCor enter the linear model
    n_dummy : volumes at the start that are left out

    Outputs
    -------
    maps : statistical maps and regions, of all smoothings
    maps_entities : BIDS entities of each
    maps_sidecars : metadata of each
    metrics_tsv : long table of sizes, peaks and overlaps, all smoothings
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = _text(kinds=kinds, low_pass=low_pass, high_pass=high_pass, fwhm_mm=fwhm_mm)
    fields = ["series_file", "mask", "roi", "events_file", "confounds_tsv", "n_dummy"]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputs = ["maps", "maps_entities", "maps_sidecars", "metrics_tsv"]
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    count = len(fwhm_mm)
    merged = {
        field: pe.Node(niu.Merge(count), name=f"merge_{field}", run_without_submitting=True)
        for field in ("files", "entities", "sidecars", "tables")
    }
    metrics = pe.Node(MergeMetrics(), name="metrics", n_procs=1)
    into = [
        ("series_file", "in_file"), ("mask", "mask"), ("roi", "roi"), ("events_file", "events_file"),
        ("confounds_tsv", "confounds_tsv"), ("n_dummy", "n_dummy"),
    ]  # fmt: skip
    edges = []
    for number, width in enumerate(fwhm_mm, start=1):
        maps = pe.Node(
            ActivationMaps(
                series=series, fwhm_mm=float(width), contrasts={k: dict(v) for k, v in contrasts.items()},
                kinds=list(kinds), tr=tr, low_pass=low_pass, high_pass=high_pass, slice_time_ref=slice_time_ref,
                has_stc=has_stc, thresholds=[str(t) for t in thresholds], factor=tuple(float(f) for f in factor),
            ),
            name=f"maps_fwhm{round(width * 10):03d}",
            n_procs=1,
        )  # fmt: skip
        edges += [
            (inputnode, maps, into),
            (maps, merged["files"], [("out_files", f"in{number}")]),
            (maps, merged["entities"], [("out_entities", f"in{number}")]),
            (maps, merged["sidecars"], [("out_sidecars", f"in{number}")]),
            (maps, merged["tables"], [("metrics_tsv", f"in{number}")]),
        ]
    workflow.connect([
        *edges,
        (merged["tables"], metrics, [("out", "in_files")]),
        (merged["files"], outputnode, [("out", "maps")]),
        (merged["entities"], outputnode, [("out", "maps_entities")]),
        (merged["sidecars"], outputnode, [("out", "maps_sidecars")]),
        (metrics, outputnode, [("out_file", "metrics_tsv")]),
    ])  # fmt: skip
    return workflow


def _text(*, kinds: Sequence[str], low_pass: float | None, high_pass: float, fwhm_mm: Sequence[float]) -> str:
    """Methods text of what was asked for."""
    widths = ", ".join(f"{width:g}" for width in fwhm_mm)
    parts = [f"Activation was mapped alike in every series, after Gaussian smoothing of {widths} mm FWHM (0: none)."]
    if "cc" in kinds:
        filtered = f", filtered below {low_pass:g} Hz" if low_pass else ""
        parts.append(
            f"Voxel courses were linearly detrended{filtered} and correlated with the on/off course convolved with the "
            "canonical response [@stss_srfmri]; regions hold the voxels with CC of at least max - (max - min)/4 in "
            "the region of interest."
        )
    if "glm" in kinds:
        drift = f"cosines up to {high_pass:.4g} Hz" if high_pass else "a straight line"
        parts.append(
            f"A general linear model of the unfiltered series with {drift}, six motion parameters, their derivatives "
            "and the first five components of aCompCor [@behzadi2007], where there are tissue maps, as nuisance "
            "regressors was fitted by generalized least squares; regressors were made with nilearn [@nilearn]. Noise "
            "was taken to be autoregressive of the sixth order; its autocorrelation was smoothed within the brain "
            "mask [@woolrich2001; 12 mm FWHM], related to brightness, shared by voxels of like noise "
            "[@corbin2018] and corrected for what the design takes from the residuals [@worsley2002]. Effects are in "
            "signal units of a sustained block, and regions were also thresholded at a false discovery rate of .05 "
            "[@benjamini1995]."
        )
    return " ".join(parts) + "\n"


def init_comparison_wf(
    *,
    contrasts: Mapping[str, Mapping[str, float]],
    thresholds: Sequence[str],
    factor: tuple[float, float, float],
    name: str = "comparison_wf",
) -> LiterateWorkflow:
    """Compare the maps of all series on the high-resolution grid.

    Parameters
    ----------
    contrasts : name to weights of trial types
    thresholds : ``quarter``, ``fdr`` or values of z
    factor : acquired voxel over high-resolution voxel along each axis
    name : of the workflow

    Inputs
    ------
    maps : maps of all series, raw and bspline among them
    maps_entities : BIDS entities of each
    mask_raw : brain mask on the acquired grid
    mask_hr : brain mask on the high-resolution grid
    roi_hr : region of interest on the high-resolution grid
    metrics : long tables of the series

    Outputs
    -------
    metrics_tsv : all tables and the comparison as one
    metrics_json : what its columns and measures mean
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        "Raw maps entered comparisons on the high-resolution grid by cubic spline interpolation of the map itself.\n"
    )
    fields = ["maps", "maps_entities", "mask_raw", "mask_hr", "roi_hr", "metrics"]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["metrics_tsv", "metrics_json"]), name="outputnode")
    compare = pe.Node(
        CompareMaps(
            contrasts={k: dict(v) for k, v in contrasts.items()}, thresholds=[str(t) for t in thresholds],
            factor=tuple(float(f) for f in factor),
        ),
        name="compare", n_procs=1,
    )  # fmt: skip
    tables = pe.Node(niu.Merge(2), name="tables", run_without_submitting=True)
    merge = pe.Node(MergeMetrics(), name="merge", n_procs=1)
    workflow.connect([
        (inputnode, compare, [
            ("maps", "in_files"), ("maps_entities", "in_entities"), ("mask_raw", "raw_mask"), ("mask_hr", "mask"),
            ("roi_hr", "roi"),
        ]),
        (inputnode, tables, [("metrics", "in1")]),
        (compare, tables, [("metrics_tsv", "in2")]),
        (tables, merge, [("out", "in_files")]),
        (merge, outputnode, [("out_file", "metrics_tsv"), ("out_json", "metrics_json")]),
    ])  # fmt: skip
    return workflow
