"""One BOLD run from the acquired series to maps: motion, registration, every series, activation, and what is kept."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.metrics import MergeMetrics
from bids_sr.workflows.activation import init_comparison_wf
from bids_sr.workflows.maps import Edges, init_maps_wf
from bids_sr.workflows.motion import init_confounds_wf, init_motion_wf
from bids_sr.workflows.outputs import init_sink, init_sink_wf, motion_fields, registration_fields
from bids_sr.workflows.plans import Acquisition, ActivationPlan, SeriesPlan, Target
from bids_sr.workflows.registration import init_bold_registration_wf
from bids_sr.workflows.superres import init_series_wf

ANAT_FIELDS = ("t1w_preproc", "t1w_mask", "t1w_tpms", "roi_source", "roi_xfms")
PAIR_FIELDS = ("highres", "highres2lowres_xfm")
RUN_OUTPUTS = (
    "boldref", "bold_mask", "n_dummy", "preproc_file", "confounds_tsv", "bold_mask_hr", "roi_bold_hr", "series_files",
    "maps", "maps_entities", "image_tsv", "activation_tsv",
)  # fmt: skip


def init_func_wf(
    *,
    target: Target,
    acquisition: Acquisition,
    plan: SeriesPlan,
    activation: ActivationPlan,
    with_anat: bool,
    with_pair: bool,
    force: bool,
    omp_nthreads: int,
    seed: int,
    name: str = "func_wf",
) -> LiterateWorkflow:
    """Take one run from the acquired series to maps, tables and derivatives.

    Parameters
    ----------
    target, acquisition, plan, activation : where results go, how the run was acquired, which series, which maps
    with_anat, with_pair : whether there are a T1w image and a T2*-weighted pair
    force : use a model that does not fit the run
    omp_nthreads : threads that one node may take
    seed : of everything random
    name : of the workflow

    Inputs
    ------
    bold_file
        series as acquired
    events_file
        BIDS events
    t1w_preproc, t1w_mask, t1w_tpms, roi_source, roi_xfms
        from the anatomical stage, only with a T1w image
    t1w2std_xfm, template
        from the anatomical stage, only where output spaces are asked for
    highres, highres2lowres_xfm
        from the stage of the pair, only with a pair
    model_METHOD
        trained model of each method in ``plan.models``

    Outputs
    -------
    boldref, bold_mask, n_dummy
        reference of the run, its brain mask, volumes left out at the start
    preproc_file, confounds_tsv
        motion-corrected series on the acquired grid, and its confounds
    bold_mask_hr, roi_bold_hr
        brain mask and region of interest on the high-resolution grid
    series_files
        every series besides raw, in the order of the plan
    maps, maps_entities
        statistical maps and regions of all series, with their entities
    image_tsv, activation_tsv
        figures of the series and of the maps
    registration_json
        size and quality of the registrations
    boldref2t1w_xfm, tpms_bold
        takes a T1w point to its boldref point; tissue maps; only with a T1w image
    guide_hr
        highres image on the boldref's high-resolution grid, only with a pair
    """
    workflow = LiterateWorkflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(fields=_input_fields(target, plan, with_anat, with_pair)), name="inputnode"
    )
    anat, pair = ANAT_FIELDS * with_anat, PAIR_FIELDS * with_pair
    extra = ("boldref2t1w_xfm", "tpms_bold") * with_anat + ("guide_hr",) * with_pair
    outputnode = pe.Node(niu.IdentityInterface(fields=[*RUN_OUTPUTS, "registration_json", *extra]), name="outputnode")
    motion_wf = init_motion_wf(
        n_dummy=acquisition.n_dummy,
        slice_times=None if acquisition.slice_times is None else list(acquisition.slice_times),
        slice_time_ref=acquisition.slice_time_ref, omp_nthreads=omp_nthreads, mem_gb=acquisition.mem_gb,
    )  # fmt: skip
    registration_wf = init_bold_registration_wf(
        with_anat=with_anat, with_pair=with_pair, factor=acquisition.factor, omp_nthreads=omp_nthreads, seed=seed,
        mem_gb=acquisition.mem_gb,
    )  # fmt: skip
    confounds_wf = init_confounds_wf(mem_gb=acquisition.mem_gb)
    merged = {
        field: pe.Node(niu.Merge(len(plan.every)), name=f"all_{field}", run_without_submitting=True)
        for field in ("maps", "maps_entities", "activation_tsv", "quality_tsv")
    }
    finer = pe.Node(niu.Merge(len(plan.names)), name="all_series", run_without_submitting=True)
    edges: Edges = [
        (inputnode, motion_wf, [("bold_file", "inputnode.bold_file")]),
        (inputnode, registration_wf, [(field, f"inputnode.{field}") for field in (*anat, *pair)]),
        (motion_wf, registration_wf, [("outputnode.boldref", "inputnode.boldref")]),
        (motion_wf, confounds_wf, [(f"outputnode.{f}", f"inputnode.{f}") for f in ("motion_tsv", "n_dummy")]),
        (registration_wf, confounds_wf, [
            (f"outputnode.{f}", f"inputnode.{f}") for f in ("bold_mask", *("tpms_bold",) * with_anat)
        ]),
        (motion_wf, outputnode, [(f"outputnode.{f}", f) for f in ("boldref", "n_dummy")]),
        (registration_wf, outputnode, [
            (f"outputnode.{f}", f) for f in ("bold_mask", "bold_mask_hr", "roi_bold_hr", "registration_json", *extra)
        ]),
        (confounds_wf, outputnode, [("outputnode.confounds_tsv", "confounds_tsv")]),
        *[(merged[f], outputnode, [("out", f)]) for f in ("maps", "maps_entities")],
        (finer, outputnode, [("out", "series_files")]),
    ]  # fmt: skip
    for number, series in enumerate(plan.every, 1):
        series_wf = init_series_wf(
            series=series, factor=acquisition.factor, needs_model=series in plan.models,
            needs_guide=series in plan.guided, data_consistency=plan.data_consistency, precision=plan.precision,
            device=plan.device, omp_nthreads=omp_nthreads, mem_gb=acquisition.mem_gb, force=force,
            name=f"series_{series}_wf",
        )  # fmt: skip
        maps_wf = init_maps_wf(
            series=series, target=target, acquisition=acquisition, activation=activation, omp_nthreads=omp_nthreads,
            name=f"maps_{series}_wf",
        )  # fmt: skip
        edges += _series_edges(series, plan, inputnode, motion_wf, registration_wf, series_wf)
        edges += _maps_edges(series, target, inputnode, (motion_wf, registration_wf, confounds_wf, series_wf), maps_wf)
        edges += [(maps_wf, merge, [(f"outputnode.{field}", f"in{number}")]) for field, merge in merged.items()]
        if series == "raw":
            edges += [
                (series_wf, confounds_wf, [("outputnode.series_file", "inputnode.preproc_file")]),
                (series_wf, outputnode, [("outputnode.series_file", "preproc_file")]),
            ]
        else:
            edges.append((series_wf, finer, [("outputnode.series_file", f"in{number - 1}")]))
    edges += _table_edges(target, acquisition, activation, registration_wf, confounds_wf, merged, outputnode)
    edges += _sink_edges(target, with_anat, with_pair, motion_wf, registration_wf)
    workflow.connect(edges)
    return workflow


def _input_fields(target: Target, plan: SeriesPlan, with_anat: bool, with_pair: bool) -> list[str]:
    std = ("t1w2std_xfm", "template") if target.spaces else ()
    models = (f"model_{method}" for method in plan.models)
    return ["bold_file", "events_file", *ANAT_FIELDS * with_anat, *std, *PAIR_FIELDS * with_pair, *models]


def _series_edges(
    series: str,
    plan: SeriesPlan,
    inputnode: pe.Node,
    motion_wf: LiterateWorkflow,
    registration_wf: LiterateWorkflow,
    series_wf: LiterateWorkflow,
) -> Edges:
    """What one series is made of."""
    edges: Edges = [
        (motion_wf, series_wf, [(f"outputnode.{f}", f"inputnode.{f}") for f in ("stc_file", "boldref", "hmc_xfms")]),
        (registration_wf, series_wf, [("outputnode.bold_mask", "inputnode.bold_mask")]),
    ]
    if series in plan.models:
        edges.append((inputnode, series_wf, [(f"model_{series}", "inputnode.model_file")]))
    if series in plan.guided:
        edges += [
            (inputnode, series_wf, [("highres", "inputnode.highres")]),
            (registration_wf, series_wf, [("outputnode.highres2boldref_xfm", "inputnode.highres2boldref_xfm")]),
        ]
    return edges


def _maps_edges(
    series: str,
    target: Target,
    inputnode: pe.Node,
    stages: tuple[LiterateWorkflow, LiterateWorkflow, LiterateWorkflow, LiterateWorkflow],
    maps_wf: LiterateWorkflow,
) -> Edges:
    """What the maps of one series need; raw is mapped on the acquired grid, every other on the fine one."""
    motion_wf, registration_wf, confounds_wf, series_wf = stages
    grid = "" if series == "raw" else "_hr"
    edges: Edges = [
        (inputnode, maps_wf, [("events_file", "inputnode.events_file")]),
        (motion_wf, maps_wf, [("outputnode.n_dummy", "inputnode.n_dummy")]),
        (registration_wf, maps_wf, [
            (f"outputnode.bold_mask{grid}", "inputnode.mask"), (f"outputnode.roi_bold{grid}", "inputnode.roi"),
        ]),
        (confounds_wf, maps_wf, [("outputnode.confounds_tsv", "inputnode.confounds_tsv")]),
        (series_wf, maps_wf, [(f"outputnode.{f}", f"inputnode.{f}") for f in ("series_file", "consistency_file")]),
    ]  # fmt: skip
    if target.spaces:
        edges += [
            (inputnode, maps_wf, [(f, f"inputnode.{f}") for f in ("t1w2std_xfm", "template")]),
            (registration_wf, maps_wf, [("outputnode.boldref2t1w_xfm", "inputnode.boldref2t1w_xfm")]),
        ]
    return edges


def _table_edges(
    target: Target,
    acquisition: Acquisition,
    activation: ActivationPlan,
    registration_wf: LiterateWorkflow,
    confounds_wf: LiterateWorkflow,
    merged: dict[str, pe.Node],
    outputnode: pe.Node,
) -> Edges:
    """The tables of a run: all series in one, compared, described and kept."""
    comparison_wf = init_comparison_wf(
        contrasts=activation.contrasts, thresholds=activation.thresholds, factor=acquisition.factor
    )
    image = pe.Node(MergeMetrics(), name="image_metrics", mem_gb=0.1)
    edges: Edges = [
        (merged["maps"], comparison_wf, [("out", "inputnode.maps")]),
        (merged["maps_entities"], comparison_wf, [("out", "inputnode.maps_entities")]),
        (merged["activation_tsv"], comparison_wf, [("out", "inputnode.metrics")]),
        (registration_wf, comparison_wf, [
            ("outputnode.bold_mask", "inputnode.mask_raw"), ("outputnode.bold_mask_hr", "inputnode.mask_hr"),
            ("outputnode.roi_bold_hr", "inputnode.roi_hr"),
        ]),
        (merged["quality_tsv"], image, [("out", "in_files")]),
        (image, outputnode, [("out_file", "image_tsv")]),
        (comparison_wf, outputnode, [("outputnode.metrics_tsv", "activation_tsv")]),
    ]  # fmt: skip
    tables = {
        "image": (image, "out_file", "out_json", {"desc": "image", "suffix": "metrics"}),
        "activation": (
            comparison_wf, "outputnode.metrics_tsv", "outputnode.metrics_json",
            {"desc": "activation", "suffix": "metrics"},
        ),
        "confounds": (
            confounds_wf, "outputnode.confounds_tsv", "outputnode.confounds_json",
            {"desc": "confounds", "suffix": "timeseries"},
        ),
    }  # fmt: skip
    for name, (source, table, described, entities) in tables.items():
        keep = init_sink(
            name=f"keep_{name}", output_dir=target.output_dir, common=target.common, entities=[entities],
            sources=target.sources,
        )  # fmt: skip
        edges.append((source, keep, [(table, "in_file"), (described, "sidecar")]))
    return edges


def _sink_edges(
    target: Target,
    with_anat: bool,
    with_pair: bool,
    motion_wf: LiterateWorkflow,
    registration_wf: LiterateWorkflow,
) -> Edges:
    """References, masks and transforms of a run, kept under their names."""
    kept = {
        "keep_motion_wf": (motion_wf, motion_fields()),
        "keep_registration_wf": (registration_wf, registration_fields(with_anat=with_anat, with_pair=with_pair)),
    }
    edges: Edges = []
    for name, (source, fields) in kept.items():
        sink_wf = init_sink_wf(
            fields=fields, output_dir=target.output_dir, common=target.common, sources=target.sources, name=name
        )
        edges.append((source, sink_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in fields]))
    return edges
