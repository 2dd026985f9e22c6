"""One BOLD run from the acquired series to maps and their evaluation, and what is kept."""

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.steps import MergeMetrics
from bids_sr.workflows.bold.all_series import (
    add_confounds,
    add_measured,
    add_series,
    feed,
    gather_series,
    model_of,
    nodes,
    prepare,
    series_wf_of,
    source_of,
)
from bids_sr.workflows.bold.calibrate import CALIBRATED, add_calibration
from bids_sr.workflows.bold.map_activation import init_clusters_wf, init_comparison_wf, init_maps_wf, init_seeds_wf
from bids_sr.workflows.bold.super_resolve import series_text
from bids_sr.workflows.bold.unsaved_series import init_extra_wf
from bids_sr.workflows.evaluation.attribute import init_roi_growth_wf
from bids_sr.workflows.evaluation.evaluate import MAPS, init_evaluation_wf
from bids_sr.workflows.plans import RunPlan
from bids_sr.workflows.sinks import MOTION, REGION, REGISTRATION, init_sink, keep_fields
from bids_sr.workflows.wiring import Part, Source, joined, new_stage, out_of, same

ANAT_FIELDS = ("t1w_preproc", "t1w_mask", "t1w_tpms", "roi_source", "roi_xfms", "brain_json")
PAIR_FIELDS = ("highres", "highres2lowres_xfm", "train_highres", "train_lowres", "pair_mask")
RUN_OUTPUTS = (
    "roi_bold_hr", "series_files", "consistency_files", "maps", "maps_entities", "image_tsv", "activation_tsv",
    "clusters_tsv", "evaluation_tsv", "verdict_json", "flags_json", "one_level_down_json",
)  # fmt: skip


def init_func_wf(*, run: RunPlan, name: str = "func_wf") -> LiterateWorkflow:
    """Take one run from the acquired series to maps, tables and derivatives.

    Inputs
    ------
    bold_file : series as acquired; not of a run whose echoes are combined
    events_file : BIDS events; not of a run at rest
    truth_file : measured high-resolution series, as acquired; only with one
    t1w_preproc, t1w_mask, t1w_tpms, roi_source, roi_xfms, brain_json : from the anatomical stage, only with a T1w image
    std2t1w_xfm : from the anatomical stage, only with a T1w image
    t1w2std_xfm, template : from the anatomical stage, only where output spaces are asked for
    highres, highres2lowres_xfm, train_highres, train_lowres, pair_mask : from the stage of the pair, only with a pair
    holdout_tsv : scores of the models on another pair, only with one
    model_METHOD : trained model of each method in ``run.series.of_pair``, and of each further member of its ensemble

    Outputs
    -------
    boldref, bold_mask, n_dummy : reference of the run, its brain mask, volumes left out at the start
    preproc_file, confounds_tsv : motion-corrected series on the acquired grid, and its confounds
    events_file : BIDS events of the run as given, at rest the time series of its seeds
    bold_mask_hr, roi_bold_hr : brain mask and region of interest on the high-resolution grid
    series_files : every series besides raw, in the order of the plan, then the measured one
    consistency_files : loss of acquired data of the series of the plan, in its order
    maps, maps_entities : statistical maps and regions of all series, with their entities
    image_tsv, activation_tsv, clusters_tsv : figures of the series and of the maps, largest clusters of the maps
    evaluation_tsv, verdict_json, flags_json, figures_npz : what judges them, the verdict and flags in words, and fine
        detail for the figures (where blocks can be split)
    one_level_down_json : what each series explains one level of resolution down
    guard_maps, guard_maps_entities, guard_maps_sidecars : uncertainty and unrepeated detail, only where there are
        methods and blocks that can be split
    weight_file : standard deviation of the run's fluctuations, of the last of ``run.series.on_run``, only with one
    log_file_METHOD, card_file_METHOD : of the training of each method in ``run.series.on_volumes``
    registration_json : size and quality of the registrations
    boldref2t1w_xfm, tpms_bold : takes a T1w point to its boldref point; tissue maps; only with a T1w image
    guide_hr : highres image on the boldref's high-resolution grid, only with a pair
    calibration_ref, calibration_sd, calibration_xfm, calibration_json : reference and standard deviation map of the
        calibration, what takes a boldref point to it, what was measured; only with a calibration and a method trained
        on the run
    """
    text = series_text(run.series.names, run.acquisition.corrected)
    workflow, _, outputnode = new_stage(name, text, inputs=_inputs(run), outputs=_outputs(run), part=Part.SERIES)
    prepare(workflow, run)
    if run.calibrated:
        add_calibration(workflow, run)
    add_series(workflow, run, "raw")
    add_confounds(workflow, run)
    if run.at_rest:
        _read_seeds(workflow, run)
    for series in run.series.names:
        add_series(workflow, run, series)
    if run.evaluation.measured:
        add_measured(workflow, run)
    gather_series(workflow, run)
    if run.evaluation.roi_grow:
        _grow_region(workflow, run)
    _map_series(workflow, run)
    _keep_tables(workflow, run)
    _list_clusters(workflow, run)
    _evaluate(workflow, run)
    motion_wf, registration_wf = nodes(workflow, "motion_wf", "bold_registration_wf")
    keep_fields(workflow, motion_wf, run.store, name="keep_motion", fields=MOTION)
    registered = {**REGISTRATION, **REGION} if run.with_anat else REGISTRATION
    keep_fields(workflow, registration_wf, run.store, name="keep_registration", fields=registered)
    for field in _taken_along(run):
        node, out = source_of(workflow, run, field)
        workflow.connect([(node, outputnode, [(out, field)])])
    return workflow


def _inputs(run: RunPlan) -> list[str]:
    """Fields of the inputnode."""
    fields = ([] if run.echoes else ["bold_file"]) + ([] if run.at_rest else ["events_file"])
    if run.evaluation.measured:
        fields.append("truth_file")
    if run.with_anat:
        fields += [*ANAT_FIELDS, "std2t1w_xfm"]
    if run.target.spaces:
        fields += ["t1w2std_xfm", "template"]
    elif run.seeds:
        fields.append("t1w2std_xfm")
    if run.with_pair:
        fields += PAIR_FIELDS
    if run.with_holdout:
        fields.append("holdout_tsv")
    return [*fields, *(f"model_{name}" for name in run.series.models_of_pair)]


def _taken_along(run: RunPlan) -> list[str]:
    """Outputs of the run under the names by which its workflows know them."""
    fields = ["boldref", "bold_mask", "n_dummy", "preproc_file", "confounds_tsv", "bold_mask_hr", "registration_json",
              "events_file"]  # fmt: skip
    if run.with_anat:
        fields += ["boldref2t1w_xfm", "tpms_bold"]
    if run.with_pair:
        fields.append("guide_hr")
    if run.calibrated:
        fields += CALIBRATED
    return fields


def _outputs(run: RunPlan) -> list[str]:
    """Fields of the outputnode."""
    fields = [*_taken_along(run), *RUN_OUTPUTS]
    if run.evaluation.split:
        fields.append("figures_npz")
    if run.guarded:
        fields += [f"guard_{field}" for field in MAPS]
    if run.series.on_run:
        fields.append("weight_file")
    return [*fields, *(f"{field}_{name}" for name in run.series.on_volumes for field in ("log_file", "card_file"))]


def _read_seeds(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """Time series of the seeds, which take the place of events, kept beside the run's other tables."""
    seeds_wf = init_seeds_wf(seeds=run.seeds, acquisition=run.acquisition, high_pass=run.activation.high_pass)
    feed(workflow, run, seeds_wf)
    keep = init_sink(run.store, name="keep_seeds", entities=[{"desc": "seeds", "suffix": "timeseries"}])
    workflow.connect([(seeds_wf, keep, out_of(out_file="in_file", out_json="sidecar"))])


def _grow_region(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """The region of interest, grown into the activity that its border cuts off."""
    growth_wf = init_roi_growth_wf(run=run)
    feed(workflow, run, growth_wf)
    keep = init_sink(run.store, name="keep_grown_roi", entities=[{"desc": "roigrown", "suffix": "mask"}])
    workflow.connect([(growth_wf, keep, out_of(roi="in_file", out_json="sidecar"))])


def _map_series(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """Maps of raw, of every series of the plan and of the measured one; raw is mapped on the acquired grid."""
    outputnode = workflow.get_node("outputnode")
    mapped = []
    for series in run.mapped:
        grid = "" if series == "raw" else "_hr"
        maps_wf = init_maps_wf(series=series, run=run, name=f"maps_{series}_wf")
        made_by = series_wf_of(workflow, series)
        others = {
            "mask": source_of(workflow, run, f"bold_mask{grid}"), "roi": source_of(workflow, run, f"roi{grid}"),
            **{field: (made_by, f"outputnode.{field}") for field in ("series_file", "consistency_file")},
        }  # fmt: skip
        feed(workflow, run, maps_wf, **others)
        mapped.append(maps_wf)
    for field in ("maps", "maps_entities", "activation_tsv", "quality_tsv"):
        every = joined(workflow, f"all_{field}", [(maps_wf, f"outputnode.{field}") for maps_wf in mapped])
        if field.startswith("maps"):
            workflow.connect([(every, outputnode, same(out=field))])
    region, out = source_of(workflow, run, "roi_hr")
    workflow.connect([(region, outputnode, [(out, "roi_bold_hr")])])


def _keep_tables(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """The tables of a run: all series in one, compared, described and kept."""
    outputnode, confounds_wf, quality = nodes(workflow, "outputnode", "confounds_wf", "all_quality_tsv")
    comparison_wf = init_comparison_wf(activation=run.activation, factor=run.acquisition.factor)
    feed(workflow, run, comparison_wf)
    image = pe.Node(MergeMetrics(), name="image_metrics")
    confounds = init_sink(run.store, name="keep_confounds", entities=[{"desc": "confounds", "suffix": "timeseries"}])
    workflow.connect([
        (comparison_wf, outputnode, out_of(metrics_tsv="activation_tsv")),
        (comparison_wf, _kept_table(run, "activation"), out_of(metrics_tsv="in_file", metrics_json="sidecar")),
        (quality, image, same(out="in_files")),
        (image, outputnode, same(out_file="image_tsv")),
        (image, _kept_table(run, "image"), same(out_file="in_file", out_json="sidecar")),
        (confounds_wf, confounds, out_of(confounds_tsv="in_file", confounds_json="sidecar")),
    ])  # fmt: skip


def _list_clusters(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """The largest clusters of raw, of the plain interpolation, of the methods and of the measured series, kept."""
    series = ("raw", "bspline", *run.series.methods, *run.evaluation.measured)
    clusters_wf = init_clusters_wf(series=series, with_anat=run.with_anat)
    feed(workflow, run, clusters_wf)
    workflow.connect([
        (clusters_wf, workflow.get_node("outputnode"), out_of("clusters_tsv")),
        (clusters_wf, _kept_table(run, "clusters"), out_of(clusters_tsv="in_file", clusters_json="sidecar")),
    ])  # fmt: skip


def _kept_table(run: RunPlan, name: str) -> pe.Node:
    """A sink for one table, which says what made it."""
    entities = [{"desc": name, "suffix": "metrics"}]
    return init_sink(run.store, name=f"keep_{name}", entities=entities, provenance=run.target.provenance)


def _evaluate(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """Evaluate all series, those that are not stored among them, and keep what comes of it."""
    outputnode, stored = nodes(workflow, "outputnode", "all_series")
    every: list[Source] = [(stored, "out")]
    for extra in run.series.extras:
        extra_wf = init_extra_wf(extra=extra, run=run, name=f"extra_{extra.name}_wf")
        made_by: dict[str, Source] = {}
        if extra.method in run.series.on_run:
            variance_wf = workflow.get_node(f"variance_{extra.method}_wf")
            made_by = {field: (variance_wf, f"outputnode.{field}") for field in ("model_file", "temporal_file")}
        elif extra.is_member:
            made_by = {"model_file": (workflow.get_node("inputnode"), f"model_{extra.name}")}
        feed(workflow, run, extra_wf, **made_by)
        every.append((extra_wf, "outputnode.series_file"))
    evaluation_wf = init_evaluation_wf(run=run)
    judged = joined(workflow, "all_judged", every)
    feed(workflow, run, evaluation_wf, **_evaluation_sources(workflow, run), series_files=(judged, "out"))
    workflow.connect([
        (evaluation_wf, outputnode, out_of("evaluation_tsv", "verdict_json", "flags_json", "one_level_down_json")),
        (evaluation_wf, _kept_table(run, "evaluation"), out_of(evaluation_tsv="in_file", evaluation_json="sidecar")),
        (evaluation_wf, _kept_table(run, "verdict"), out_of(verdict_json="in_file")),
    ])  # fmt: skip
    if run.evaluation.split:
        workflow.connect([(evaluation_wf, outputnode, out_of("figures_npz"))])
    if run.guarded:
        kept = out_of(maps="in_file", maps_entities="entities", maps_sidecars="sidecar")
        workflow.connect([
            (evaluation_wf, outputnode, out_of(**{field: f"guard_{field}" for field in MAPS})),
            (evaluation_wf, init_sink(run.store, name="keep_guards"), kept),
        ])  # fmt: skip


def _evaluation_sources(workflow: LiterateWorkflow, run: RunPlan) -> dict[str, Source]:
    """Where those inputs of the evaluation come from that have names of their own there."""
    found: dict[str, Source] = {
        "roi_placed": source_of(workflow, run, "roi_bold"),
        "roi_bold": source_of(workflow, run, "roi"),
        "roi_bold_hr": source_of(workflow, run, "roi_hr"),
        "activation_tsv": (workflow.get_node("comparison_wf"), "outputnode.metrics_tsv"),
    }
    found |= {f"model_{one}": model_of(workflow, run, one) for one in run.series.models}
    for one in run.series.checked:
        found[f"precision_{one}"] = workflow.get_node(f"precision_{one}_wf"), "outputnode.rows_tsv"
    for one in run.series.on_run:
        found[f"card_{one}"] = workflow.get_node(f"variance_{one}_wf"), "outputnode.card_file"
        found[f"tested_{one}"] = workflow.get_node(f"variance_{one}_wf"), "outputnode.tested_json"
    return found
