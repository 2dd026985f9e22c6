"""The ways in which the series of a run are judged, each as the nodes and edges that `evaluation` joins."""

from __future__ import annotations

from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.split_halves import PCA_RANKS, BlockEffects, SplitHalf, TruthImages, TruthMaps
from bids_sr.workflows.bold.series_maps import Edges
from bids_sr.workflows.evaluation.attribute import init_claim_wf
from bids_sr.workflows.evaluation.control_quality import init_distortion_wf, init_guards_wf
from bids_sr.workflows.evaluation.run_placebos import init_null_wf
from bids_sr.workflows.plans import Acquisition, ActivationPlan, EvaluationPlan, SeriesPlan

RUN_FIELDS = ("events_file", "confounds_tsv", "n_dummy")
MAPS = ("maps", "maps_entities", "maps_sidecars")


def guarded(plan: SeriesPlan, evaluation: EvaluationPlan) -> tuple[str, ...]:
    """Methods for which there are maps of the guards: they rest on the effects of single blocks."""
    return plan.methods if evaluation.split else ()


def judged(plan: SeriesPlan, evaluation: EvaluationPlan) -> tuple[str, ...]:
    """Names of all series on the high-resolution grid in the order of ``series_files``."""
    return (*plan.names, *evaluation.measured, *(extra.name for extra in plan.extras))


def knows_truth(activation: ActivationPlan, evaluation: EvaluationPlan) -> bool:
    return bool(evaluation.truth_file or evaluation.truth_maps) and "glm" in activation.kinds


Step = tuple[pe.Node | LiterateWorkflow | None, Edges]


def split_half(
    plan: SeriesPlan,
    acquisition: Acquisition,
    activation: ActivationPlan,
    evaluation: EvaluationPlan,
    seed: int,
    inputnode: pe.Node,
) -> tuple[dict[str, pe.Node], pe.Node, pe.Node, Edges]:
    """Effects of every block in every series, and what the two halves say of one another."""
    halves = pe.Node(
        SplitHalf(factor=acquisition.factor, contrasts=plain(activation.contrasts), seed=seed),
        name="halves",
        n_procs=1,
    )
    names = judged(plan, evaluation)
    gather = pe.Node(niu.Merge(len(names)), name="gather_effects", run_without_submitting=True)
    edges: Edges = [
        (inputnode, halves, [("bold_mask_hr", "mask"), ("roi_bold_hr", "roi")]),
        (gather, halves, [("out", "effects_files")]),
    ]
    effects = {}
    for number, series in enumerate(names):
        node = effects[series] = pe.Node(
            BlockEffects(
                series=series, tr=acquisition.tr, high_pass=activation.high_pass,
                slice_time_ref=acquisition.slice_time_ref, has_stc=acquisition.slice_times is not None,
                pca_ranks=list(PCA_RANKS) if series == "bspline" else [],
                with_t=series == (evaluation.measured or ("bspline",))[0],
            ),
            name=f"effects_{series}", n_procs=1,
        )  # fmt: skip
        edges += [
            (inputnode, node, [
                (("series_files", member, number), "in_file"), ("bold_mask_hr", "mask"),
                *[(field, field) for field in RUN_FIELDS],
            ]),
            (node, gather, [("effects_file", f"in{number + 1}")]),
        ]  # fmt: skip
    return effects, gather, halves, edges


def member(files: list[str], number: int) -> str:
    """One of a list; runs between two nodes."""
    return files[number]


def plain(contrasts: Any) -> dict[str, dict[str, float]]:
    return {name: dict(weights) for name, weights in contrasts.items()}


def against_truth(
    plan: SeriesPlan,
    acquisition: Acquisition,
    activation: ActivationPlan,
    evaluation: EvaluationPlan,
    seed: int,
    inputnode: pe.Node,
) -> Step:
    """Maps of the whole run against measured ones and against known activation."""
    if not knows_truth(activation, evaluation):
        return None, []
    maps = pe.Node(
        TruthMaps(factor=acquisition.factor, contrasts=plain(activation.contrasts), seed=seed),
        name="truth", n_procs=1,
    )  # fmt: skip
    if evaluation.truth_maps:
        maps.inputs.truth_files = dict(evaluation.truth_maps)
    edges: Edges = [
        (inputnode, maps, [
            ("maps", "in_files"), ("maps_entities", "in_entities"), ("bold_mask_hr", "mask"), ("roi_bold_hr", "roi"),
        ]),
    ]  # fmt: skip
    return maps, edges


def against_images(
    plan: SeriesPlan,
    acquisition: Acquisition,
    activation: ActivationPlan,
    evaluation: EvaluationPlan,
    seed: int,
    inputnode: pe.Node,
) -> Step:
    """Volumes of every stored series against the measured ones."""
    if not evaluation.measured:
        return None, []
    images = pe.Node(TruthImages(series_names=list(plan.names), seed=seed), name="images", n_procs=1)
    return images, [
        (inputnode, images, [
            (("series_files", first, len(plan.names)), "series_files"),
            (("series_files", member, len(plan.names)), "measured_file"),
            ("bold_mask_hr", "mask"), ("n_dummy", "n_dummy"),
        ]),
    ]  # fmt: skip


def first(files: list[str], count: int) -> list[str]:
    """The first of a list; runs between two nodes."""
    return files[:count]


def without_signal(
    plan: SeriesPlan,
    acquisition: Acquisition,
    activation: ActivationPlan,
    evaluation: EvaluationPlan,
    seed: int,
    inputnode: pe.Node,
) -> Step:
    """How often activity is found where its order in time was undone, in raw and in every stored series."""
    if not evaluation.null_checks:
        return None, []
    names = ["raw", *plan.names]
    null_wf = init_null_wf(
        series=names, n_shuffles=evaluation.null_checks, tr=acquisition.tr, high_pass=activation.high_pass,
        slice_time_ref=acquisition.slice_time_ref, has_stc=acquisition.slice_times is not None, seed=seed,
    )  # fmt: skip
    stored = pe.Node(niu.Select(index=list(range(len(names)))), name="stored", run_without_submitting=True)
    all_files = pe.Node(niu.Merge(2), name="raw_and_others", run_without_submitting=True)
    return null_wf, [
        (inputnode, all_files, [("preproc_file", "in1"), ("series_files", "in2")]),
        (all_files, stored, [("out", "inlist")]),
        (stored, null_wf, [("out", "inputnode.series_files")]),
        (inputnode, null_wf, [(f, f"inputnode.{f}") for f in ("bold_mask", "bold_mask_hr", *RUN_FIELDS)]),
    ]


def claim(
    plan: SeriesPlan,
    acquisition: Acquisition,
    activation: ActivationPlan,
    evaluation: EvaluationPlan,
    seed: int,
    inputnode: pe.Node,
) -> Step:
    """The paper's claim taken apart, where there are two conditions."""
    if not evaluation.pair_conditions:
        return None, []
    names = ["raw", *plan.names, *evaluation.measured]
    claim_wf = init_claim_wf(
        series=names, pair=evaluation.pair_conditions, contrasts=plain(activation.contrasts),
        widths=evaluation.attribution_widths, voxel_mm=acquisition.voxel, factor=acquisition.factor, tr=acquisition.tr,
        low_pass=activation.low_pass, high_pass=activation.high_pass, slice_time_ref=acquisition.slice_time_ref,
        has_stc=acquisition.slice_times is not None,
    )  # fmt: skip
    files = pe.Node(niu.Merge(2), name="claim_files", run_without_submitting=True)
    grids = {"bold_mask": "mask", "roi_bold": "roi", "bold_mask_hr": "mask_hr", "roi_bold_hr": "roi_hr"}
    return claim_wf, [
        (inputnode, files, [("preproc_file", "in1"), ("series_files", "in2")]),
        (files, claim_wf, [("out", "inputnode.series_files")]),
        (inputnode, claim_wf, [
            *[(ours, f"inputnode.{theirs}") for ours, theirs in grids.items()],
            *[(field, f"inputnode.{field}") for field in (*RUN_FIELDS, "activation_tsv")],
        ]),
    ]  # fmt: skip


def guards(
    plan: SeriesPlan,
    acquisition: Acquisition,
    activation: ActivationPlan,
    evaluation: EvaluationPlan,
    with_pair: bool,
    seed: int,
    inputnode: pe.Node,
    effects: dict[str, pe.Node],
    outputnode: pe.Node,
) -> tuple[list[LiterateWorkflow], Edges]:
    """Uncertainty and unrepeated detail of each method, and distortion against the pair."""
    edges: Edges = []
    tables = []
    if with_pair:
        distortion_wf = init_distortion_wf(
            phase_encoding=acquisition.phase_encoding or None,
            guided=[one for one in plan.names if one in (*plan.guided, *plan.on_run * (plan.guide_kind != "none"))],
        )
        into = {"boldref": "boldref", "guide_hr": "guide_hr", "bold_mask_hr": "mask_hr"}
        edges.append((inputnode, distortion_wf, [(a, f"inputnode.{b}") for a, b in into.items()]))
        tables.append(distortion_wf)
    methods = guarded(plan, evaluation)
    if not methods:
        return tables, edges
    merged = {
        field: pe.Node(niu.Merge(len(methods)), name=f"guard_{field}", run_without_submitting=True) for field in MAPS
    }
    for number, method in enumerate(methods, 1):
        members = [method, *(e.name for e in plan.extras if e.is_member and e.method == method)]
        guards_wf = init_guards_wf(
            method=method, contrasts=plain(activation.contrasts), factor=acquisition.factor, n_ensemble=len(members),
            has_guide=with_pair, has_measured=bool(evaluation.measured), needs_model=method in plan.models, seed=seed,
            truth_files=evaluation.truth_maps or None, name=f"guards_{method}_wf",
        )  # fmt: skip
        edges.append((effects[method], guards_wf, [("effects_file", "inputnode.effects_file")]))
        if len(members) > 1:
            gather = pe.Node(niu.Merge(len(members)), name=f"members_{method}", run_without_submitting=True)
            edges += [(effects[one], gather, [("effects_file", f"in{k}")]) for k, one in enumerate(members, 1)]
            edges.append((gather, guards_wf, [("out", "inputnode.member_files")]))
            measured = (
                (effects[one], guards_wf, [("effects_file", "inputnode.measured_file")]) for one in evaluation.measured
            )
            edges += list(measured)
        edges.append((inputnode, guards_wf, [("bold_mask_hr", "inputnode.mask")]))
        if with_pair:
            edges.append((inputnode, guards_wf, [("guide_hr", "inputnode.guide_hr")]))
        if method in plan.models:
            into = {f"model_{method}": "model_file", "boldref": "boldref", "bold_mask": "bold_mask"}
            edges.append((inputnode, guards_wf, [(a, f"inputnode.{b}") for a, b in into.items()]))
        edges += [(guards_wf, merge, [(f"outputnode.{field}", f"in{number}")]) for field, merge in merged.items()]
        tables.append(guards_wf)
    edges += [(merge, outputnode, [("out", field)]) for field, merge in merged.items()]
    return tables, edges
