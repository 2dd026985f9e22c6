"""One BOLD run from the acquired series to maps and their judgment, and what is kept."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.metric_tables_io import MergeMetrics
from bids_sr.workflows.bold.all_series import make_series, prepare
from bids_sr.workflows.bold.calibrate import OF
from bids_sr.workflows.bold.estimate_variance import CALIBRATION
from bids_sr.workflows.bold.map_activation import init_comparison_wf
from bids_sr.workflows.bold.series_maps import Edges, init_maps_wf
from bids_sr.workflows.bold.unsaved_series import SERIES_INPUTS, extra_fields, init_extra_wf
from bids_sr.workflows.evaluation.attribute import init_roi_growth_wf
from bids_sr.workflows.evaluation.evaluate import evaluation_fields, init_evaluation_wf
from bids_sr.workflows.plans import Acquisition, ActivationPlan, EvaluationPlan, Extra, SeriesPlan, Target
from bids_sr.workflows.sinks import init_sink, init_sink_wf, motion_fields, registration_fields
from bids_sr.workflows.stages import RunParts, Stages


def init_func_wf(
    *,
    target: Target,
    acquisition: Acquisition,
    plan: SeriesPlan,
    activation: ActivationPlan,
    evaluation: EvaluationPlan,
    with_anat: bool,
    with_pair: bool,
    with_holdout: bool,
    omp_nthreads: int,
    seed: int,
    name: str = "func_wf",
) -> LiterateWorkflow:
    """Take one run from the acquired series to maps, tables and derivatives.

    Parameters
    ----------
    target, acquisition, plan, activation, evaluation
        where results go, how the run was acquired, which series, which maps, how they are judged
    with_anat, with_pair, with_holdout
        whether there are a T1w image, a T2*-weighted pair, and scores of models on another pair
    omp_nthreads : threads that one node may take
    seed : of everything random
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
        trained model of each method in ``plan.of_pair``, and of each further member of its ensemble

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
        standard deviation of the run's fluctuations, of the last of ``plan.on_run``, only with one
    log_file_METHOD, card_file_METHOD
        of the training of each method in ``plan.on_volumes``
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
    run = RunParts(
        target, acquisition, plan, activation, evaluation, with_anat, with_pair, with_holdout, omp_nthreads, seed
    )
    inputnode = pe.Node(niu.IdentityInterface(fields=run.inputs), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=run.outputs), name="outputnode")
    stages, edges = prepare(run, inputnode, outputnode)
    edges += make_series(run, stages, outputnode)
    edges += _map_series(run, stages, outputnode)
    edges += _evaluate(run, stages, outputnode)
    edges += _sink_edges(run, stages)
    workflow.connect(edges)
    return workflow


def _map_series(run: RunParts, stages: Stages, outputnode: pe.Node) -> Edges:
    """Maps of raw, of every series of the plan and of the measured one, and their tables."""
    merged = stages.merged = {
        **stages.merged,
        **{
            field: pe.Node(niu.Merge(len(run.mapped)), name=f"all_{field}", run_without_submitting=True)
            for field in ("maps", "maps_entities", "activation_tsv", "quality_tsv")
        },
    }
    edges: Edges = [(merged[field], outputnode, [("out", field)]) for field in ("maps", "maps_entities")]
    edges += _region(run, stages)
    assert stages.roi is not None
    region, _, fine = stages.roi
    edges.append((region, outputnode, [(fine, "roi_bold_hr")]))
    for number, series in enumerate(run.mapped, 1):
        maps_wf = init_maps_wf(
            series=series, target=run.target, acquisition=run.acquisition, activation=run.activation,
            omp_nthreads=run.omp_nthreads, name=f"maps_{series}_wf",
        )  # fmt: skip
        edges += _maps_edges(run, stages, series, maps_wf)
        edges += [
            (maps_wf, merged[field], [(f"outputnode.{field}", f"in{number}")])
            for field in ("maps", "maps_entities", "activation_tsv", "quality_tsv")
        ]
    return [*edges, *_table_edges(run, stages, outputnode)]


def _region(run: RunParts, stages: Stages) -> Edges:
    """The region of interest, grown where that was asked for."""
    stages.roi = (stages.registration, "outputnode.roi_bold", "outputnode.roi_bold_hr")
    if not run.evaluation.roi_grow:
        return []
    activation, acquisition = run.activation, run.acquisition
    growth_wf = init_roi_growth_wf(
        contrasts=activation.contrasts, fwhm_mm=max(activation.smoothing), factor=acquisition.factor,
        tr=acquisition.tr, low_pass=activation.low_pass, slice_time_ref=acquisition.slice_time_ref,
        has_stc=acquisition.slice_times is not None,
    )  # fmt: skip
    stages.roi = (growth_wf, "outputnode.roi", "outputnode.roi_hr")
    grids = {"bold_mask": "mask", "roi_bold": "roi", "bold_mask_hr": "mask_hr", "roi_bold_hr": "roi_hr"}
    keep = init_sink(
        name="keep_grown_roi", output_dir=run.target.output_dir, common=run.target.common, sources=run.target.sources,
        entities=[{"desc": "roigrown", "suffix": "mask"}],
    )  # fmt: skip
    return [
        (stages.inputnode, growth_wf, [("events_file", "inputnode.events_file")]),
        (stages.motion, growth_wf, [("outputnode.n_dummy", "inputnode.n_dummy")]),
        (stages.series["raw"], growth_wf, [("outputnode.series_file", "inputnode.series_file")]),
        (stages.registration, growth_wf, [(f"outputnode.{a}", f"inputnode.{b}") for a, b in grids.items()]),
        (growth_wf, keep, [("outputnode.roi", "in_file"), ("outputnode.out_json", "sidecar")]),
    ]


def _maps_edges(run: RunParts, stages: Stages, series: str, maps_wf: LiterateWorkflow) -> Edges:
    """What the maps of one series need; raw is mapped on the acquired grid, every other on the fine one."""
    assert stages.roi is not None
    region, coarse, fine = stages.roi
    grid, roi = ("", coarse) if series == "raw" else ("_hr", fine)
    edges: Edges = [
        (stages.inputnode, maps_wf, [("events_file", "inputnode.events_file")]),
        (stages.motion, maps_wf, [("outputnode.n_dummy", "inputnode.n_dummy")]),
        (stages.registration, maps_wf, [(f"outputnode.bold_mask{grid}", "inputnode.mask")]),
        (region, maps_wf, [(roi, "inputnode.roi")]),
        (stages.confounds, maps_wf, [("outputnode.confounds_tsv", "inputnode.confounds_tsv")]),
        (stages.series[series], maps_wf, [
            (f"outputnode.{f}", f"inputnode.{f}") for f in ("series_file", "consistency_file")
        ]),
    ]  # fmt: skip
    if run.target.spaces:
        edges += [
            (stages.inputnode, maps_wf, [(f, f"inputnode.{f}") for f in ("t1w2std_xfm", "template")]),
            (stages.registration, maps_wf, [("outputnode.boldref2t1w_xfm", "inputnode.boldref2t1w_xfm")]),
        ]
    return edges


def _table_edges(run: RunParts, stages: Stages, outputnode: pe.Node) -> Edges:
    """The tables of a run: all series in one, compared, described and kept."""
    assert stages.roi is not None
    region, _, fine = stages.roi
    comparison_wf = init_comparison_wf(
        contrasts=run.activation.contrasts, thresholds=run.activation.thresholds, factor=run.acquisition.factor
    )
    image = pe.Node(MergeMetrics(), name="image_metrics")
    stages.tables |= {"image": image, "activation": comparison_wf}
    merged = stages.merged
    edges: Edges = [
        (merged["maps"], comparison_wf, [("out", "inputnode.maps")]),
        (merged["maps_entities"], comparison_wf, [("out", "inputnode.maps_entities")]),
        (merged["activation_tsv"], comparison_wf, [("out", "inputnode.metrics")]),
        (stages.registration, comparison_wf, [
            ("outputnode.bold_mask", "inputnode.mask_raw"), ("outputnode.bold_mask_hr", "inputnode.mask_hr"),
        ]),
        (region, comparison_wf, [(fine, "inputnode.roi_hr")]),
        (merged["quality_tsv"], image, [("out", "in_files")]),
        (image, outputnode, [("out_file", "image_tsv")]),
        (comparison_wf, outputnode, [("outputnode.metrics_tsv", "activation_tsv")]),
    ]  # fmt: skip
    for name, (source, table, described, entities) in {
        "image": (image, "out_file", "out_json", {"desc": "image", "suffix": "metrics"}),
        "activation": (
            comparison_wf, "outputnode.metrics_tsv", "outputnode.metrics_json",
            {"desc": "activation", "suffix": "metrics"},
        ),
        "confounds": (
            stages.confounds, "outputnode.confounds_tsv", "outputnode.confounds_json",
            {"desc": "confounds", "suffix": "timeseries"},
        ),
    }.items():  # fmt: skip
        keep = _kept_table(run, name, entities)
        edges.append((source, keep, [(table, "in_file"), (described, "sidecar")]))
    return edges


def _kept_table(run: RunParts, name: str, entities: dict[str, str]) -> pe.Node:
    """A sink for one table, which says what made it."""
    return init_sink(
        name=f"keep_{name}", output_dir=run.target.output_dir, common=run.target.common, entities=[entities],
        sources=run.target.sources, provenance=run.target.provenance if entities["suffix"] == "metrics" else None,
    )  # fmt: skip


def _evaluate(run: RunParts, stages: Stages, outputnode: pe.Node) -> Edges:
    """Judge all series, those that are not stored among them, and keep what comes of it."""
    evaluation_wf = init_evaluation_wf(
        plan=run.plan, acquisition=run.acquisition, activation=run.activation, evaluation=run.evaluation,
        with_pair=run.with_pair, with_holdout=run.with_holdout, seed=run.seed,
    )  # fmt: skip
    assert stages.roi is not None
    region, coarse, fine = stages.roi
    all_files = pe.Node(niu.Merge(1 + len(run.plan.extras)), name="all_judged", run_without_submitting=True)
    sources: dict[str, tuple[pe.Node | LiterateWorkflow, str]] = {
        **{field: (stages.motion, f"outputnode.{field}") for field in ("n_dummy", "boldref")},
        "confounds_tsv": (stages.confounds, "outputnode.confounds_tsv"),
        **{f: (stages.registration, f"outputnode.{f}") for f in ("bold_mask", "bold_mask_hr", "guide_hr")},
        "roi_placed": (stages.registration, "outputnode.roi_bold"),
        "roi_bold": (region, coarse),
        "roi_bold_hr": (region, fine),
        "preproc_file": (stages.series["raw"], "outputnode.series_file"),
        "series_files": (all_files, "out"),
        **{field: (stages.merged[field], "out") for field in ("maps", "maps_entities")},
        "activation_tsv": (stages.tables["activation"], "outputnode.metrics_tsv"),
        **{f"model_{one}": run.model(stages, one) for one in run.plan.models},
        **{f"precision_{one}": (wf, "outputnode.rows_tsv") for one, wf in stages.precision.items()},
        **{f"card_{one}": (wf, "outputnode.card_file") for one, wf in stages.models.items()},
    }
    fields = evaluation_fields(
        run.plan, run.activation, run.evaluation, with_pair=run.with_pair, with_holdout=run.with_holdout
    )
    edges: Edges = [
        (node, evaluation_wf, [(out, f"inputnode.{field}")])
        for field in fields
        for node, out in [sources.get(field, (stages.inputnode, field))]
    ]
    edges += [
        (evaluation_wf, outputnode, [(f"outputnode.{field}", field) for field in run.judged]),
        (evaluation_wf, outputnode, [(f"outputnode.{field}", f"guard_{field}") for field in run.guarded]),
        (stages.merged["series"], all_files, [("out", "in1")]),
    ]
    for number, extra in enumerate(run.plan.extras, 2):
        extra_wf = init_extra_wf(
            extra=extra, plan=run.plan, acquisition=run.acquisition, omp_nthreads=run.omp_nthreads,
            name=f"extra_{extra.name}_wf",
        )  # fmt: skip
        edges += [
            *_extra_edges(run, stages, extra, extra_wf),
            (extra_wf, all_files, [("outputnode.series_file", f"in{number}")]),
        ]
    keep = _kept_table(run, "evaluation", {"desc": "evaluation", "suffix": "metrics"})
    words = _kept_table(run, "verdict", {"desc": "verdict", "suffix": "metrics"})
    edges += [
        (evaluation_wf, keep, [("outputnode.evaluation_tsv", "in_file"), ("outputnode.evaluation_json", "sidecar")]),
        (evaluation_wf, words, [("outputnode.verdict_json", "in_file")]),
    ]
    if run.guarded:
        guards = init_sink(
            name="keep_guards", output_dir=run.target.output_dir, common=run.target.common, sources=run.target.sources
        )
        into = {"maps": "in_file", "maps_entities": "entities", "maps_sidecars": "sidecar"}
        edges.append((evaluation_wf, guards, [(f"outputnode.{a}", b) for a, b in into.items()]))
    return edges


def _extra_edges(run: RunParts, stages: Stages, extra: Extra, extra_wf: LiterateWorkflow) -> Edges:
    """What one series needs that is evaluated and not stored."""
    sources: dict[str, tuple[pe.Node | LiterateWorkflow, str]] = {
        **{field: (stages.motion, f"outputnode.{field}") for field in SERIES_INPUTS if field != "bold_mask"},
        "shift_map": (stages.motion, "outputnode.shift_map"),
        "bold_mask": (stages.registration, "outputnode.bold_mask"),
        "preproc_file": (stages.series["raw"], "outputnode.series_file"),
        "n_dummy": (stages.motion, "outputnode.n_dummy"),
        "t1w_preproc": (stages.inputnode, "t1w_preproc"),
        "boldref2t1w_xfm": (stages.registration, "outputnode.boldref2t1w_xfm"),
        "model_file": (stages.inputnode, f"model_{extra.name}"),
        **_of_variance(stages, extra),
    }
    if stages.guide is not None:
        sources["highres"], sources["highres2boldref_xfm"] = stages.guide
    return [
        (sources[field][0], extra_wf, [(sources[field][1], f"inputnode.{field}")])
        for field in extra_fields(extra, run.plan, calibrated=stages.calibration is not None)
    ]


def _of_variance(stages: Stages, extra: Extra) -> dict[str, tuple[pe.Node | LiterateWorkflow, str]]:
    """Where the extra series of a variance method takes the maps, the mean and the calibration of the run from."""
    if extra.method not in stages.models:
        return {}
    found: dict[str, tuple[pe.Node | LiterateWorkflow, str]] = {
        field: (stages.models[extra.method], f"outputnode.{field}") for field in ("model_file", "temporal_file")
    }
    if stages.calibration is not None:
        found |= {field: (stages.calibration, f"outputnode.{OF[field]}") for field in CALIBRATION}
    return found


def _sink_edges(run: RunParts, stages: Stages) -> Edges:
    """References, masks and transforms of a run, kept under their names."""
    kept = {
        "keep_motion_wf": (stages.motion, motion_fields()),
        "keep_registration_wf": (
            stages.registration, registration_fields(with_anat=run.with_anat, with_pair=run.with_pair)
        ),
    }  # fmt: skip
    edges: Edges = []
    for name, (source, fields) in kept.items():
        sink_wf = init_sink_wf(
            fields=fields, output_dir=run.target.output_dir, common=run.target.common, sources=run.target.sources,
            name=name,
        )  # fmt: skip
        edges.append((source, sink_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in fields]))
    return edges
