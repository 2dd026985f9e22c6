"""Activation maps of one series at every smoothing, and all series compared."""

from collections.abc import Sequence

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.cluster_table import ClusterTable
from bids_sr.interfaces.metric_tables_io import MergeMetrics
from bids_sr.interfaces.statmap_interfaces import ActivationMaps, CompareMaps
from bids_sr.interfaces.statmap_names import SLOW
from bids_sr.workflows.input_plans import Acquisition, Factor
from bids_sr.workflows.plans import ActivationPlan
from bids_sr.workflows.wiring import joined, new_stage, one_step, same


def activation_maps(
    series: str, fwhm_mm: float, *, activation: ActivationPlan, acquisition: Acquisition
) -> ActivationMaps:
    """The step that maps one series at one smoothing."""
    step = ActivationMaps(
        series=series, fwhm_mm=float(fwhm_mm), contrasts=activation.plain_contrasts, kinds=list(activation.kinds),
        low_pass=activation.low_pass, high_pass=activation.high_pass, thresholds=list(activation.thresholds),
        factor=acquisition.factor, axis_order=acquisition.axis_order, **acquisition.timing,
    )  # fmt: skip
    if activation.at_rest:
        step.inputs.band = SLOW
    return step


def init_activation_wf(
    *, series: str, activation: ActivationPlan, acquisition: Acquisition, name: str = "activation_wf"
) -> LiterateWorkflow:
    """Map the activation in one series, once per smoothing; one thread each, as there is a node for every smoothing.

    Parameters
    ----------
    series : name of the series; ``raw`` is on the acquired grid, every other on the high-resolution grid
    activation, acquisition : which maps, and how the run was acquired

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
    into = same("mask", "roi", "events_file", "confounds_tsv", "n_dummy", series_file="in_file")
    workflow, inputnode, outputnode = new_stage(
        name, _text(activation), inputs=[field for field, _ in into],
        outputs=["maps", "maps_entities", "maps_sidecars", "metrics_tsv"],
    )  # fmt: skip
    steps = []
    for width in activation.smoothing:
        step = activation_maps(series, width, activation=activation, acquisition=acquisition)
        steps.append(pe.Node(step, name=f"maps_fwhm{round(width * 10):03d}"))
        workflow.connect([(inputnode, steps[-1], list(into))])
    for field, output in (("files", "maps"), ("entities", "maps_entities"), ("sidecars", "maps_sidecars")):
        every = joined(workflow, f"merge_{field}", [(step, f"out_{field}") for step in steps])
        workflow.connect([(every, outputnode, same(out=output))])
    metrics = pe.Node(MergeMetrics(), name="metrics")
    tables = joined(workflow, "merge_tables", [(step, "metrics_tsv") for step in steps])
    workflow.connect([
        (tables, metrics, same(out="in_files")),
        (metrics, outputnode, same(out_file="metrics_tsv")),
    ])  # fmt: skip
    return workflow


_ON_OFF = "on/off time series convolved with the canonical response [@stss_srfmri]"


def _text(activation: ActivationPlan) -> str:
    low_pass, high_pass = activation.low_pass, activation.high_pass
    widths = ", ".join(f"{width:g}" for width in activation.smoothing)
    what, course = ("Connectivity", "time series of each seed") if activation.at_rest else ("Activation", _ON_OFF)
    unit = "standard deviation of the seed" if activation.at_rest else "sustained block"
    parts = [f"{what} was mapped alike in every series, after Gaussian smoothing of {widths} mm FWHM (0: none)."]
    if "cc" in activation.kinds:
        filtered = f", filtered below {low_pass:g} Hz" if low_pass else ""
        parts.append(
            f"Voxel time series were linearly detrended{filtered} and correlated with the {course}; regions hold the "
            "voxels with CC of at least max - (max - min)/4 in the region of interest."
        )
    if "glm" in activation.kinds:
        drift = f"cosines up to {high_pass:.4g} Hz" if high_pass else "a straight line"
        parts.append(
            f"A general linear model of the unfiltered series with {drift}, six motion parameters, their derivatives "
            "and the first five components of aCompCor [@behzadi2007], where there are tissue maps, as nuisance "
            "regressors was fitted by generalized least squares; regressors were made with nilearn [@nilearn]. Noise "
            "was taken to be autoregressive of the sixth order; its autocorrelation was smoothed within the brain "
            "mask [@woolrich2001; 12 mm FWHM], related to brightness, shared by voxels of like noise "
            "[@corbin2018] and corrected for what the design takes from the residuals [@worsley2002]. Effects are in "
            f"signal units of a {unit}, and regions were also thresholded at a false discovery rate of .05 "
            "[@benjamini1995]."
        )
    if activation.at_rest:
        parts.append(
            f"The amplitude of low-frequency fluctuations (ALFF [@alff]) is the standard deviation between {SLOW[0]:g} "
            f"and {SLOW[1]:g} Hz without these regressors, fALFF [@falff] its share of that at all frequencies."
        )
    return " ".join(parts) + "\n"


def init_comparison_wf(*, activation: ActivationPlan, factor: Factor, name: str = "comparison_wf") -> LiterateWorkflow:
    """Compare the maps of all series on the high-resolution grid.

    Parameters
    ----------
    activation : which maps
    factor : acquired voxel over high-resolution voxel along each axis

    Inputs
    ------
    maps : maps of all series, raw and bspline among them
    maps_entities : BIDS entities of each
    mask_raw : brain mask on the acquired grid
    mask_hr, roi_hr : brain mask and region of interest on the high-resolution grid
    metrics : long tables of the series

    Outputs
    -------
    metrics_tsv : all tables and the comparison as one
    metrics_json : what its columns and measures mean
    """
    workflow, inputnode, outputnode = new_stage(
        name,
        "Raw maps entered comparisons on the high-resolution grid by cubic spline interpolation of the map itself.\n",
        inputs=["maps", "maps_entities", "mask_raw", "mask_hr", "roi_hr", "metrics"],
        outputs=["metrics_tsv", "metrics_json"],
    )
    compare = pe.Node(
        CompareMaps(contrasts=activation.plain_contrasts, thresholds=list(activation.thresholds), factor=factor),
        name="compare",
    )
    merge = pe.Node(MergeMetrics(), name="merge")
    grids = same(mask_raw="raw_mask", mask_hr="mask", roi_hr="roi")
    workflow.connect([
        (inputnode, compare, [*grids, ("maps", "in_files"), ("maps_entities", "in_entities")]),
        (joined(workflow, "tables", [(inputnode, "metrics"), (compare, "metrics_tsv")]), merge, same(out="in_files")),
        (merge, outputnode, same(out_file="metrics_tsv", out_json="metrics_json")),
    ])  # fmt: skip
    return workflow


def init_clusters_wf(*, series: Sequence[str], with_anat: bool, name: str = "clusters_wf") -> LiterateWorkflow:
    """List the largest clusters of the maps.

    Parameters
    ----------
    series : those whose maps are looked at, in the order of the table
    with_anat : whether there is a T1w image that leads to the atlas

    Inputs
    ------
    maps, maps_entities : maps and regions of all series, with their entities
    boldref2t1w_xfm, std2t1w_xfm : take a T1w point to its boldref point, and to its template point; only with a T1w
        image

    Outputs
    -------
    clusters_tsv, clusters_json : a row a cluster; what the columns are
    """
    text = "The ten largest clusters of each map are listed, voxels that share a face belonging together"
    text += ", with labels of the AAL2 atlas [@aal2].\n" if with_anat else ".\n"
    wires = same(maps="in_files", maps_entities="in_entities")
    if with_anat:
        wires += same("boldref2t1w_xfm", "std2t1w_xfm")
    step = pe.Node(ClusterTable(series=list(series)), name="list_clusters")
    return one_step(name, text, step, inputs=wires, outputs=same(out_file="clusters_tsv", out_json="clusters_json"))
