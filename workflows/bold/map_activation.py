"""Maps and quality of one series, all series compared, and seeds in the place of conditions."""

from collections.abc import Sequence
from typing import Any

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.coregistration import MapsToTemplate
from bids_sr.interfaces.seeds_of_run import ComponentSeries, SeedSeries
from bids_sr.interfaces.statmap_interfaces import (
    FULL_ORDER_DOF,
    SLOW,
    ActivationMaps,
    ClusterTable,
    CompareMaps,
    finer_text,
    noise_words,
)  # fmt: skip
from bids_sr.interfaces.steps import MergeMetrics, SeriesQuality
from bids_sr.workflows.node_names import enumerated
from bids_sr.workflows.plans import Acquisition, ActivationPlan, Factor, RunPlan, Target
from bids_sr.workflows.sinks import init_sink
from bids_sr.workflows.wiring import Part, fields_of, into, joined, new_stage, one_step, out_of, same


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

    Inputs
    ------
    series_file, mask, roi : the series in BOLD signal units, dummies included; brain and region of interest on its grid
    events_file, confounds_tsv, n_dummy : of the run; motion, its derivatives and aCompCor enter the linear model

    Outputs
    -------
    maps, maps_entities, maps_sidecars : statistical maps and regions of all smoothings, entities and metadata of each
    metrics_tsv : long table of sizes, peaks and overlaps, all smoothings
    """
    into = same("mask", "roi", "events_file", "confounds_tsv", "n_dummy", series_file="in_file")
    workflow, inputnode, outputnode = new_stage(
        name, _text(activation), part=Part.MAPS, inputs=[field for field, _ in into],
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
    widths = enumerated([f"{width:g}" for width in activation.smoothing])
    what, course = ("Connectivity", "time series of each seed") if activation.at_rest else ("Activation", _ON_OFF)
    unit = "standard deviation of the seed" if activation.at_rest else "sustained block"
    none = " (0 mm: none)" if 0 in activation.smoothing else ""
    parts = [f"{what} was mapped in every series with the same model, smoothed by {widths} mm FWHM{none}."]
    if "cc" in activation.kinds:
        filtered = f", low-pass filtered at {low_pass:g} Hz" if low_pass else ""
        parts.append(
            f"Voxel time series were linearly detrended{filtered} and correlated with the {course}; regions are the "
            "voxels of the region of interest in the upper quarter of the map's range, at least max - (max - min)/4."
        )
    if "glm" in activation.kinds:
        drift = f"cosines up to {high_pass:.2g} Hz" if high_pass else "a straight line"
        parts.append(
            "A general linear model was fitted to the unfiltered series by generalized least squares; regressors were "
            f"made with nilearn [@nilearn]. Nuisance regressors were {drift}, six motion parameters and their "
            "derivatives, and the first five aCompCor components [@behzadi2007] where there were tissue maps. The "
            f"noise model was {noise_words()} [@woolrich2001], adjusted for brightness, pooled over voxels with "
            "similar noise [@corbin2018] and corrected for the effect of the design on the residuals [@worsley2002]; "
            f"runs with fewer than {FULL_ORDER_DOF} degrees of freedom had a lower order, which the sidecar of each "
            f"map states. Effects are signal changes per {unit}."
        )
        if "fdr" in activation.thresholds:
            parts.append("Regions were also thresholded at a false discovery rate of .05 [@benjamini1995].")
    if activation.at_rest:
        parts.append(
            f"The amplitude of low-frequency fluctuations, ALFF [@alff], is the standard deviation between {SLOW[0]:g} "
            f"and {SLOW[1]:g} Hz without these regressors, fALFF [@falff] its ratio to that at all frequencies."
        )
    return " ".join(parts) + "\n"


def init_comparison_wf(*, activation: ActivationPlan, factor: Factor, name: str = "comparison_wf") -> LiterateWorkflow:
    """Compare the maps of all series on the high-resolution grid.

    Inputs
    ------
    maps, maps_entities, activation_tsv : maps of all series, raw and bspline among them, entities of each, long tables
    bold_mask, bold_mask_hr, roi_hr : brain on the acquired grid; brain and region on the high-resolution grid

    Outputs
    -------
    metrics_tsv, metrics_json : all tables and the comparison as one; what its columns and measures mean
    """
    workflow, inputnode, outputnode = new_stage(
        name,
        "For comparisons, maps of the acquired series were brought to the high-resolution grid by cubic spline "
        "interpolation. ",
        part=Part.MAPS,
        inputs=["maps", "maps_entities", "bold_mask", "bold_mask_hr", "roi_hr", "activation_tsv"],
        outputs=["metrics_tsv", "metrics_json"],
    )
    compare = pe.Node(
        CompareMaps(contrasts=activation.plain_contrasts, thresholds=list(activation.thresholds), factor=factor),
        name="compare",
    )
    merge = pe.Node(MergeMetrics(), name="merge")
    tables = joined(workflow, "tables", [(inputnode, "activation_tsv"), (compare, "metrics_tsv")])
    grids = same(bold_mask="raw_mask", bold_mask_hr="mask", roi_hr="roi")
    workflow.connect([
        (inputnode, compare, [*grids, ("maps", "in_files"), ("maps_entities", "in_entities")]),
        (tables, merge, same(out="in_files")),
        (merge, outputnode, same(out_file="metrics_tsv", out_json="metrics_json")),
    ])  # fmt: skip
    return workflow


def init_clusters_wf(*, series: Sequence[str], with_anat: bool, name: str = "clusters_wf") -> LiterateWorkflow:
    """List the largest clusters of the maps.

    Inputs
    ------
    maps, maps_entities : maps and regions of all series, with their entities
    boldref2t1w_xfm, std2t1w_xfm : take a T1w point to its boldref point, and to its template point; only with a T1w
        image

    Outputs
    -------
    clusters_tsv, clusters_json : a row a cluster; what the columns are
    """
    text = "The ten largest clusters of each map (voxels joined by faces) were listed"
    text += ", with labels of the AAL2 atlas [@aal2].\n" if with_anat else ".\n"
    wires = same(maps="in_files", maps_entities="in_entities")
    if with_anat:
        wires += same("boldref2t1w_xfm", "std2t1w_xfm")
    step = pe.Node(ClusterTable(series=list(series)), name="list_clusters")
    return one_step(
        name, text, step, part=Part.MAPS, inputs=wires, outputs=same(out_file="clusters_tsv", out_json="clusters_json")
    )


def init_maps_wf(*, series: str, run: RunPlan, name: str) -> LiterateWorkflow:
    """Map activation in one series, measure its quality, and keep it with its maps.

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
    named = {"desc": "preproc"} if series == "raw" else {"res": "hr", "desc": series}
    keep_series = init_sink(
        run.store, name="keep_series", dtype=target.dtype, entities=[{**named, "suffix": "bold"}],
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


def init_seeds_wf(
    *, seeds: Sequence[Any], acquisition: Acquisition, high_pass: float, name: str = "seeds_wf"
) -> LiterateWorkflow:
    """Read the time series that the maps of a run without events are about, from the acquired series.

    Parameters
    ----------
    seeds : `bids_sr.config.seed_options.Seed`; none: the leading temporal components of the run take their place
    acquisition, high_pass : how the run was acquired, and the slowest change (Hz) that is no drift

    Inputs
    ------
    preproc_file, bold_mask, n_dummy : acquired series, head motion undone; brain on its grid, volumes to leave out
    boldref2t1w_xfm, t1w2std_xfm : take a T1w point to its boldref point, and a template point to its T1w point
    std2t1w_xfm, confounds_tsv : takes a T1w point to its template point; what the seeds are cleared of. These four
        only with seeds

    Outputs
    -------
    out_file, out_json : a column a seed, a row a volume; what the columns are, and where
    """
    fields = same("bold_mask", "n_dummy", preproc_file="in_file")
    outputs = same("out_file", "out_json")
    if not seeds:
        text = (
            "The run had neither events nor an anatomical image by which seeds could be placed; its leading temporal "
            "components were mapped.\n"
        )
        components = pe.Node(ComponentSeries(), name="components")
        return one_step(name, text, components, inputs=fields, outputs=outputs, part=Part.PREPROCESSING)
    step = SeedSeries(seeds=list(seeds), high_pass=high_pass, **acquisition.timing)
    text = (
        f"The run had no events; functional connectivity [@biswal1995] was mapped with {_places(seeds)}. The time "
        "series of each seed was read from the acquired series, cleared of drift and confounds, and used in place of a "
        "condition in every series; halves of the run were made of segments of about 30 s.\n"
    )
    placed = same("boldref2t1w_xfm", "t1w2std_xfm", "std2t1w_xfm", "confounds_tsv")
    read = pe.Node(step, name="read_seeds")
    return one_step(name, text, read, inputs=[*fields, *placed], outputs=outputs, part=Part.PREPROCESSING)


def _places(seeds: Sequence[Any]) -> str:
    """Seeds as the methods text names them."""
    spheres = [
        f"{seed.name} ({' '.join(f'{mm:g}' for mm in seed.center)}; {seed.radius_mm:g} mm)"
        for seed in seeds
        if not seed.labels
    ]
    regions = [f"{seed.name} ({' and '.join(seed.labels)})" for seed in seeds if seed.labels]
    parts = [f"spherical seeds at MNI coordinates [@vandijk2010] {', '.join(spheres)}"] if spheres else []
    parts += [f"seed regions of the AAL2 atlas [@aal2] {', '.join(regions)}"] if regions else []
    return " and ".join(parts)
