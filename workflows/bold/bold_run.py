"""One BOLD run from the acquired series to maps and their evaluation, and what is kept."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.metric_tables_io import MergeMetrics
from bids_sr.workflows.bold.all_series import (
    ANAT_FIELDS,
    Source,
    add_measured,
    add_series,
    gather_series,
    model_of,
    nodes,
    prepare,
    series_wf_of,
)
from bids_sr.workflows.bold.calibrate import CALIBRATED, OF, add_calibration
from bids_sr.workflows.bold.estimate_variance import CALIBRATION
from bids_sr.workflows.bold.map_activation import init_comparison_wf
from bids_sr.workflows.bold.series_maps import init_maps_wf
from bids_sr.workflows.bold.unsaved_series import SERIES_INPUTS, extra_fields, init_extra_wf
from bids_sr.workflows.evaluation.attribute import init_roi_growth_wf
from bids_sr.workflows.evaluation.evaluate import evaluation_fields, init_evaluation_wf
from bids_sr.workflows.evaluation.evaluation_parts import MAPS
from bids_sr.workflows.node_names import into, out_of, passed, same
from bids_sr.workflows.plans import Extra, RunPlan
from bids_sr.workflows.sinks import init_sink, init_sink_wf, motion_fields, registration_fields

PAIR_FIELDS = ("highres", "highres2lowres_xfm", "train_highres", "train_lowres", "pair_mask")
RUN_OUTPUTS = (
    "boldref", "bold_mask", "n_dummy", "preproc_file", "confounds_tsv", "bold_mask_hr", "roi_bold_hr", "series_files",
    "consistency_files", "maps", "maps_entities", "image_tsv", "activation_tsv", "registration_json",
    "evaluation_tsv", "verdict_json", "flags_json",
)  # fmt: skip


def init_func_wf(*, run: RunPlan, name: str = "func_wf") -> LiterateWorkflow:
    """Take one run from the acquired series to maps, tables and derivatives.

    Parameters
    ----------
    run : what there is of the run, and what is to be done
    name : of the workflow

    Inputs
    ------
    bold_file
        series as acquired
    events_file
        BIDS events
    truth_file
        measured high-resolution series, as acquired; only with one
    t1w_preproc, t1w_mask, t1w_tpms, roi_source, roi_xfms
        from the anatomical stage, only with a T1w image
    t1w2std_xfm, template
        from the anatomical stage, only where output spaces are asked for
    highres, highres2lowres_xfm, train_highres, train_lowres, pair_mask
        from the stage of the pair, only with a pair
    holdout_tsv
        scores of the models on another pair, only with one
    model_METHOD
        trained model of each method in ``run.series.of_pair``, and of each further member of its ensemble

    Outputs
    -------
    boldref, bold_mask, n_dummy
        reference of the run, its brain mask, volumes left out at the start
    preproc_file, confounds_tsv
        motion-corrected series on the acquired grid, and its confounds
    bold_mask_hr, roi_bold_hr
        brain mask and region of interest on the high-resolution grid
    series_files
        every series besides raw, in the order of the plan, then the measured one
    consistency_files
        loss of acquired data of the series of the plan, in its order
    maps, maps_entities
        statistical maps and regions of all series, with their entities
    image_tsv, activation_tsv
        figures of the series and of the maps
    evaluation_tsv, verdict_json, flags_json, figures_npz
        what judges them, the verdict and flags in words, and fine detail for the figures (where blocks can be split)
    guard_maps, guard_maps_entities, guard_maps_sidecars
        uncertainty and unrepeated detail, only where there are methods and blocks that can be split
    weight_file
        standard deviation of the run's fluctuations, of the last of ``run.series.on_run``, only with one
    log_file_METHOD, card_file_METHOD
        of the training of each method in ``run.series.on_volumes``
    registration_json
        size and quality of the registrations
    boldref2t1w_xfm, tpms_bold
        takes a T1w point to its boldref point; tissue maps; only with a T1w image
    guide_hr
        highres image on the boldref's high-resolution grid, only with a pair
    calibration_ref, calibration_sd, calibration_xfm, calibration_json
        reference and standard deviation map of the calibration, what takes a boldref point to it, what was measured;
        only with a calibration and a method trained on the run
    """
    workflow = LiterateWorkflow(name=name)
    workflow.add_nodes(
        [
            pe.Node(niu.IdentityInterface(fields=_inputs(run)), name="inputnode"),
            pe.Node(niu.IdentityInterface(fields=_outputs(run)), name="outputnode"),
        ]
    )
    prepare(workflow, run)
    if run.calibrated:
        add_calibration(workflow, run)
    for series in ("raw", *run.series.names):
        add_series(workflow, run, series)
    if run.evaluation.measured:
        add_measured(workflow, run)
    gather_series(workflow, run)
    if run.evaluation.roi_grow:
        _grow_region(workflow, run)
    _map_series(workflow, run)
    _keep_tables(workflow, run)
    _evaluate(workflow, run)
    _keep_frames(workflow, run)
    return workflow


def _inputs(run: RunPlan) -> list[str]:
    """Fields of the inputnode."""
    fields = ["bold_file", "events_file"]
    if run.evaluation.measured:
        fields.append("truth_file")
    if run.with_anat:
        fields += ANAT_FIELDS
    if run.target.spaces:
        fields += ["t1w2std_xfm", "template"]
    if run.with_pair:
        fields += PAIR_FIELDS
    if run.with_holdout:
        fields.append("holdout_tsv")
    return [*fields, *(f"model_{name}" for name in run.series.models_of_pair)]


def _outputs(run: RunPlan) -> list[str]:
    """Fields of the outputnode."""
    fields = list(RUN_OUTPUTS)
    if run.with_anat:
        fields += ["boldref2t1w_xfm", "tpms_bold"]
    if run.with_pair:
        fields.append("guide_hr")
    if run.evaluation.split:
        fields.append("figures_npz")
    if run.guarded:
        fields += [f"guard_{field}" for field in MAPS]
    if run.series.on_run:
        fields.append("weight_file")
    if run.calibrated:
        fields += CALIBRATED
    return [*fields, *(f"{field}_{name}" for name in run.series.on_volumes for field in ("log_file", "card_file"))]


def _region_of(workflow: LiterateWorkflow, run: RunPlan) -> tuple[LiterateWorkflow, str, str]:
    """Where the region of interest comes from, and its fields on both grids."""
    if run.evaluation.roi_grow:
        return workflow.get_node("roi_growth_wf"), "roi", "roi_hr"
    return workflow.get_node("bold_registration_wf"), "roi_bold", "roi_bold_hr"


def _grow_region(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """The region of interest, grown into the activity that its border cuts off."""
    activation, acquisition = run.activation, run.acquisition
    inputnode, motion_wf, registration_wf, raw_wf = nodes(
        workflow, "inputnode", "motion_wf", "bold_registration_wf", "series_raw_wf"
    )
    growth_wf = init_roi_growth_wf(
        contrasts=activation.contrasts, fwhm_mm=max(activation.smoothing), factor=acquisition.factor,
        tr=acquisition.tr, low_pass=activation.low_pass, slice_time_ref=acquisition.slice_time_ref,
        has_stc=acquisition.slice_times is not None,
    )  # fmt: skip
    keep = init_sink(
        name="keep_grown_roi", output_dir=run.target.output_dir, common=run.target.common, sources=run.target.sources,
        entities=[{"desc": "roigrown", "suffix": "mask"}],
    )  # fmt: skip
    grids = {"bold_mask": "mask", "roi_bold": "roi", "bold_mask_hr": "mask_hr", "roi_bold_hr": "roi_hr"}
    workflow.connect(
        [
            (inputnode, growth_wf, into("events_file")),
            (motion_wf, growth_wf, passed("n_dummy")),
            (raw_wf, growth_wf, passed("series_file")),
            (registration_wf, growth_wf, passed(**grids)),
            (growth_wf, keep, out_of(roi="in_file", out_json="sidecar")),
        ]
    )


def _map_series(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """Maps of raw, of every series of the plan and of the measured one; raw is mapped on the acquired grid."""
    inputnode, outputnode, motion_wf, registration_wf, confounds_wf = nodes(
        workflow, "inputnode", "outputnode", "motion_wf", "bold_registration_wf", "confounds_wf"
    )
    region, low, high = _region_of(workflow, run)
    merged = {
        field: pe.Node(niu.Merge(len(run.mapped)), name=f"all_{field}", run_without_submitting=True)
        for field in ("maps", "maps_entities", "activation_tsv", "quality_tsv")
    }
    workflow.connect(
        [
            (merged["maps"], outputnode, [("out", "maps")]),
            (merged["maps_entities"], outputnode, [("out", "maps_entities")]),
            (region, outputnode, out_of(**{high: "roi_bold_hr"})),
        ]
    )
    for number, series in enumerate(run.mapped, 1):
        mask, roi = ("bold_mask", low) if series == "raw" else ("bold_mask_hr", high)
        maps_wf = init_maps_wf(
            series=series, target=run.target, acquisition=run.acquisition, activation=run.activation,
            omp_nthreads=run.omp_nthreads, name=f"maps_{series}_wf",
        )  # fmt: skip
        workflow.connect(
            [
                (inputnode, maps_wf, into("events_file")),
                (motion_wf, maps_wf, passed("n_dummy")),
                (registration_wf, maps_wf, passed(**{mask: "mask"})),
                (region, maps_wf, passed(**{roi: "roi"})),
                (confounds_wf, maps_wf, passed("confounds_tsv")),
                (series_wf_of(workflow, series), maps_wf, passed("series_file", "consistency_file")),
                *((maps_wf, node, out_of(**{field: f"in{number}"})) for field, node in merged.items()),
            ]
        )
        if run.target.spaces:
            workflow.connect(
                [
                    (inputnode, maps_wf, into("t1w2std_xfm", "template")),
                    (registration_wf, maps_wf, passed("boldref2t1w_xfm")),
                ]
            )


def _keep_tables(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """The tables of a run: all series in one, compared, described and kept."""
    outputnode, registration_wf, confounds_wf = nodes(workflow, "outputnode", "bold_registration_wf", "confounds_wf")
    maps, entities, figures, quality = nodes(
        workflow, "all_maps", "all_maps_entities", "all_activation_tsv", "all_quality_tsv"
    )
    region, _, high = _region_of(workflow, run)
    comparison_wf = init_comparison_wf(
        contrasts=run.activation.contrasts, thresholds=run.activation.thresholds, factor=run.acquisition.factor
    )
    image = pe.Node(MergeMetrics(), name="image_metrics")
    workflow.connect([
        (maps, comparison_wf, into(out="maps")),
        (entities, comparison_wf, into(out="maps_entities")),
        (figures, comparison_wf, into(out="metrics")),
        (registration_wf, comparison_wf, passed(bold_mask="mask_raw", bold_mask_hr="mask_hr")),
        (region, comparison_wf, passed(**{high: "roi_hr"})),
        (comparison_wf, outputnode, out_of(metrics_tsv="activation_tsv")),
        (comparison_wf, _kept_table(run, "activation"), out_of(metrics_tsv="in_file", metrics_json="sidecar")),
        (quality, image, same(out="in_files")),
        (image, outputnode, same(out_file="image_tsv")),
        (image, _kept_table(run, "image"), same(out_file="in_file", out_json="sidecar")),
        (confounds_wf, _kept_table(run, "confounds", "timeseries"),
         out_of(confounds_tsv="in_file", confounds_json="sidecar")),
    ])  # fmt: skip


def _kept_table(run: RunPlan, name: str, suffix: str = "metrics") -> pe.Node:
    """A sink for one table, which says what made it."""
    return init_sink(
        name=f"keep_{name}", output_dir=run.target.output_dir, common=run.target.common,
        entities=[{"desc": name, "suffix": suffix}], sources=run.target.sources,
        provenance=run.target.provenance if suffix == "metrics" else None,
    )  # fmt: skip


def _evaluate(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """Evaluate all series, those that are not stored among them, and keep what comes of it."""
    outputnode, series = nodes(workflow, "outputnode", "all_series")
    evaluation_wf = init_evaluation_wf(run=run)
    all_files = pe.Node(niu.Merge(1 + len(run.series.extras)), name="all_judged", run_without_submitting=True)
    workflow.connect([(series, all_files, [("out", "in1")])])
    sources = _evaluation_sources(workflow, run)
    for field in evaluation_fields(run):
        node, out = sources[field]
        workflow.connect([(node, evaluation_wf, [(out, f"inputnode.{field}")])])
    for number, extra in enumerate(run.series.extras, 2):
        extra_wf = init_extra_wf(extra=extra, run=run, name=f"extra_{extra.name}_wf")
        found = _extra_sources(workflow, run, extra)
        for field in extra_fields(extra, run):
            node, out = found[field]
            workflow.connect([(node, extra_wf, [(out, f"inputnode.{field}")])])
        workflow.connect([(extra_wf, all_files, out_of(series_file=f"in{number}"))])
    workflow.connect(
        [
            (evaluation_wf, outputnode, out_of("evaluation_tsv", "verdict_json", "flags_json")),
            (
                evaluation_wf,
                _kept_table(run, "evaluation"),
                out_of(evaluation_tsv="in_file", evaluation_json="sidecar"),
            ),
            (evaluation_wf, _kept_table(run, "verdict"), out_of(verdict_json="in_file")),
        ]
    )
    if run.evaluation.split:
        workflow.connect([(evaluation_wf, outputnode, out_of("figures_npz"))])
    if run.guarded:
        keep = init_sink(
            name="keep_guards", output_dir=run.target.output_dir, common=run.target.common, sources=run.target.sources
        )
        workflow.connect(
            [
                (evaluation_wf, outputnode, out_of(**{field: f"guard_{field}" for field in MAPS})),
                (evaluation_wf, keep, out_of(maps="in_file", maps_entities="entities", maps_sidecars="sidecar")),
            ]
        )


def _evaluation_sources(workflow: LiterateWorkflow, run: RunPlan) -> dict[str, Source]:
    """Where each input of the evaluation comes from."""
    inputnode, motion_wf, registration_wf = nodes(workflow, "inputnode", "motion_wf", "bold_registration_wf")
    region, low, high = _region_of(workflow, run)
    found: dict[str, Source] = {
        **{f: (inputnode, f) for f in ("events_file", "holdout_tsv", "train_highres", "train_lowres", "pair_mask")},
        **{f: (motion_wf, f"outputnode.{f}") for f in ("n_dummy", "boldref")},
        **{f: (registration_wf, f"outputnode.{f}") for f in ("bold_mask", "bold_mask_hr", "guide_hr")},
        "confounds_tsv": (workflow.get_node("confounds_wf"), "outputnode.confounds_tsv"),
        "roi_placed": (registration_wf, "outputnode.roi_bold"),
        "roi_bold": (region, f"outputnode.{low}"),
        "roi_bold_hr": (region, f"outputnode.{high}"),
        "preproc_file": (workflow.get_node("series_raw_wf"), "outputnode.series_file"),
        "series_files": (workflow.get_node("all_judged"), "out"),
        "maps": (workflow.get_node("all_maps"), "out"),
        "maps_entities": (workflow.get_node("all_maps_entities"), "out"),
        "activation_tsv": (workflow.get_node("comparison_wf"), "outputnode.metrics_tsv"),
    }
    found |= {f"model_{one}": model_of(workflow, run, one) for one in run.series.models}
    for one in run.series.checked:
        found[f"precision_{one}"] = workflow.get_node(f"precision_{one}_wf"), "outputnode.rows_tsv"
    for one in run.series.on_run:
        found[f"card_{one}"] = workflow.get_node(f"variance_{one}_wf"), "outputnode.card_file"
    return found


def _extra_sources(workflow: LiterateWorkflow, run: RunPlan, extra: Extra) -> dict[str, Source]:
    """Where each input of a series comes from that is evaluated and not stored."""
    inputnode, motion_wf, registration_wf = nodes(workflow, "inputnode", "motion_wf", "bold_registration_wf")
    motion = (*(field for field in SERIES_INPUTS if field != "bold_mask"), "shift_map", "n_dummy")
    registered = ("bold_mask", "boldref2t1w_xfm", "highres2boldref_xfm")
    found: dict[str, Source] = {
        **{field: (motion_wf, f"outputnode.{field}") for field in motion},
        **{field: (registration_wf, f"outputnode.{field}") for field in registered},
        **{field: (inputnode, field) for field in ("t1w_preproc", "highres")},
        "preproc_file": (workflow.get_node("series_raw_wf"), "outputnode.series_file"),
        "model_file": (inputnode, f"model_{extra.name}"),
    }
    if extra.method in run.series.on_run:
        variance_wf = workflow.get_node(f"variance_{extra.method}_wf")
        found |= {field: (variance_wf, f"outputnode.{field}") for field in ("model_file", "temporal_file")}
    if run.calibrated:
        calibration_wf = workflow.get_node("calibration_wf")
        found |= {field: (calibration_wf, f"outputnode.{OF[field]}") for field in CALIBRATION}
    return found


def _keep_frames(workflow: LiterateWorkflow, run: RunPlan) -> None:
    """References, masks and transforms of a run, kept under their names."""
    registered = registration_fields(with_anat=run.with_anat, with_pair=run.with_pair)
    for name, source, fields in (
        ("keep_motion_wf", "motion_wf", motion_fields()),
        ("keep_registration_wf", "bold_registration_wf", registered),
    ):
        sink_wf = init_sink_wf(
            fields=fields, output_dir=run.target.output_dir, common=run.target.common, sources=run.target.sources,
            name=name,
        )  # fmt: skip
        workflow.connect([(workflow.get_node(source), sink_wf, passed(*fields))])
