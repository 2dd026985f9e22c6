"""The ways in which the series of a run are evaluated; each adds its nodes and says where its rows are."""

from __future__ import annotations

from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.split_halves import PCA_RANKS, BlockEffects, SplitHalf, TruthImages, TruthMaps
from bids_sr.workflows.evaluation.attribute import init_claim_wf
from bids_sr.workflows.evaluation.control_quality import init_distortion_wf, init_guards_wf
from bids_sr.workflows.evaluation.run_placebos import init_null_wf
from bids_sr.workflows.node_names import into, out_of, same
from bids_sr.workflows.plans import RunPlan

RUN_FIELDS = ("events_file", "confounds_tsv", "n_dummy")
MAPS = ("maps", "maps_entities", "maps_sidecars")
Source = tuple[pe.Node | LiterateWorkflow, str]


def knows_truth(run: RunPlan) -> bool:
    """Whether maps can be compared with measured or known activation."""
    return bool(run.evaluation.truth_file or run.evaluation.truth_maps) and "glm" in run.activation.kinds


def plain(contrasts: Any) -> dict[str, dict[str, float]]:
    """Contrasts as the traits of an interface want them."""
    return {name: dict(weights) for name, weights in contrasts.items()}


def member(files: list[str], number: int) -> str:
    """One of a list; runs between two nodes."""
    return files[number]


def first(files: list[str], count: int) -> list[str]:
    """The first of a list; runs between two nodes."""
    return files[:count]


def split_half(workflow: LiterateWorkflow, run: RunPlan) -> Source:
    """Effects of every block in every series, and what the two halves say of one another."""
    inputnode, outputnode = workflow.get_node("inputnode"), workflow.get_node("outputnode")
    acquisition, activation = run.acquisition, run.activation
    halves = pe.Node(
        SplitHalf(factor=acquisition.factor, contrasts=plain(activation.contrasts), seed=run.seed),
        name="halves", n_procs=1,
    )  # fmt: skip
    gather = pe.Node(niu.Merge(len(run.judged)), name="gather_effects", run_without_submitting=True)
    workflow.connect(
        [
            (inputnode, halves, same(bold_mask_hr="mask", roi_bold_hr="roi")),
            (gather, halves, same(out="effects_files")),
            (halves, outputnode, same("figures_npz")),
        ]
    )
    for number, series in enumerate(run.judged):
        effects = pe.Node(
            BlockEffects(
                series=series, tr=acquisition.tr, high_pass=activation.high_pass,
                slice_time_ref=acquisition.slice_time_ref, has_stc=acquisition.slice_times is not None,
                pca_ranks=list(PCA_RANKS) if series == "bspline" else [],
                with_t=series == (run.evaluation.measured or ("bspline",))[0],
            ),
            name=f"effects_{series}", n_procs=1,
        )  # fmt: skip
        workflow.connect(
            [
                (
                    inputnode,
                    effects,
                    [(("series_files", member, number), "in_file"), *same(*RUN_FIELDS, bold_mask_hr="mask")],
                ),
                (effects, gather, same(effects_file=f"in{number + 1}")),
            ]
        )
    return halves, "out_file"


def against_truth(workflow: LiterateWorkflow, run: RunPlan) -> Source:
    """Maps of the whole run against measured ones and against known activation."""
    maps = pe.Node(
        TruthMaps(factor=run.acquisition.factor, contrasts=plain(run.activation.contrasts), seed=run.seed),
        name="truth", n_procs=1,
    )  # fmt: skip
    if run.evaluation.truth_maps:
        maps.inputs.truth_files = dict(run.evaluation.truth_maps)
    into_maps = same(maps="in_files", maps_entities="in_entities", bold_mask_hr="mask", roi_bold_hr="roi")
    workflow.connect([(workflow.get_node("inputnode"), maps, into_maps)])
    if run.evaluation.split:  # the finest band needs whole slices, not masked maps
        workflow.connect([(workflow.get_node("gather_effects"), maps, same(out="effects_files"))])
    return maps, "out_file"


def against_images(workflow: LiterateWorkflow, run: RunPlan) -> Source:
    """Volumes of every stored series against the measured ones."""
    names = run.series.names
    images = pe.Node(TruthImages(series_names=list(names), seed=run.seed), name="images", n_procs=1)
    workflow.connect([
        (workflow.get_node("inputnode"), images, [
            (("series_files", first, len(names)), "series_files"),
            (("series_files", member, len(names)), "measured_file"),
            *same("n_dummy", bold_mask_hr="mask"),
        ]),
    ])  # fmt: skip
    return images, "out_file"


def without_signal(workflow: LiterateWorkflow, run: RunPlan) -> Source:
    """How often activity is found where its order in time was undone, in raw and in every stored series."""
    inputnode, acquisition = workflow.get_node("inputnode"), run.acquisition
    names = ["raw", *run.series.names]
    null_wf = init_null_wf(
        series=names, n_shuffles=run.evaluation.null_checks, tr=acquisition.tr, high_pass=run.activation.high_pass,
        slice_time_ref=acquisition.slice_time_ref, has_stc=acquisition.slice_times is not None, seed=run.seed,
    )  # fmt: skip
    stored = pe.Node(niu.Select(index=list(range(len(names)))), name="stored", run_without_submitting=True)
    all_files = pe.Node(niu.Merge(2), name="raw_and_others", run_without_submitting=True)
    workflow.connect(
        [
            (inputnode, all_files, same(preproc_file="in1", series_files="in2")),
            (all_files, stored, same(out="inlist")),
            (stored, null_wf, into(out="series_files")),
            (inputnode, null_wf, into("bold_mask", "bold_mask_hr", *RUN_FIELDS)),
        ]
    )
    return null_wf, "outputnode.out_file"


def claim(workflow: LiterateWorkflow, run: RunPlan) -> Source:
    """Sizes and overlap of two conditions' regions, and what changes them."""
    inputnode, acquisition, activation = workflow.get_node("inputnode"), run.acquisition, run.activation
    claim_wf = init_claim_wf(
        series=run.mapped, pair=run.evaluation.pair_conditions, contrasts=plain(activation.contrasts),
        widths=run.evaluation.claim_widths, voxel_mm=acquisition.voxel, factor=acquisition.factor, tr=acquisition.tr,
        low_pass=activation.low_pass, high_pass=activation.high_pass, slice_time_ref=acquisition.slice_time_ref,
        has_stc=acquisition.slice_times is not None,
    )  # fmt: skip
    files = pe.Node(niu.Merge(2), name="claim_files", run_without_submitting=True)
    grids = {"bold_mask": "mask", "roi_bold": "roi", "bold_mask_hr": "mask_hr", "roi_bold_hr": "roi_hr"}
    workflow.connect(
        [
            (inputnode, files, same(preproc_file="in1", series_files="in2")),
            (files, claim_wf, into(out="series_files")),
            (inputnode, claim_wf, into(*RUN_FIELDS, "activation_tsv", **grids)),
        ]
    )
    return claim_wf, "outputnode.out_file"


def quality_control(workflow: LiterateWorkflow, run: RunPlan) -> list[LiterateWorkflow]:
    """Distortion against the pair, uncertainty and unrepeated detail of each method."""
    inputnode, outputnode, plan = workflow.get_node("inputnode"), workflow.get_node("outputnode"), run.series
    found = []
    if run.with_pair:
        by_guide = plan.guided if plan.guide_kind == "none" else (*plan.guided, *plan.on_run)
        distortion_wf = init_distortion_wf(
            phase_encoding=run.acquisition.phase_encoding or None,
            guided=[one for one in plan.names if one in by_guide],
        )
        workflow.connect([(inputnode, distortion_wf, into("boldref", "guide_hr", bold_mask_hr="mask_hr"))])
        found.append(distortion_wf)
    guards = [_guard(workflow, run, method) for method in run.guarded]
    for field in MAPS if guards else ():
        merge = pe.Node(niu.Merge(len(guards)), name=f"guard_{field}", run_without_submitting=True)
        workflow.connect([(each, merge, out_of(**{field: f"in{k}"})) for k, each in enumerate(guards, 1)])
        workflow.connect([(merge, outputnode, same(out=field))])
    return [*found, *guards]


def _guard(workflow: LiterateWorkflow, run: RunPlan, method: str) -> LiterateWorkflow:
    """Quality control of one method."""
    inputnode, plan, evaluation = workflow.get_node("inputnode"), run.series, run.evaluation
    members = [method, *(extra.name for extra in plan.extras if extra.is_member and extra.method == method)]
    guards_wf = init_guards_wf(
        method=method, contrasts=plain(run.activation.contrasts), factor=run.acquisition.factor,
        n_ensemble=len(members), has_guide=run.with_pair, has_measured=bool(evaluation.measured),
        needs_model=method in plan.models, seed=run.seed, truth_files=evaluation.truth_maps or None,
        name=f"guards_{method}_wf",
    )  # fmt: skip
    workflow.connect(
        [
            (workflow.get_node(f"effects_{method}"), guards_wf, into("effects_file")),
            (inputnode, guards_wf, into(bold_mask_hr="mask")),
        ]
    )
    if len(members) > 1:
        gather = pe.Node(niu.Merge(len(members)), name=f"members_{method}", run_without_submitting=True)
        workflow.connect([
            *((workflow.get_node(f"effects_{one}"), gather, same(effects_file=f"in{k}"))
              for k, one in enumerate(members, 1)),
            (gather, guards_wf, into(out="member_files")),
        ])  # fmt: skip
        if evaluation.measured:
            measured = workflow.get_node(f"effects_{evaluation.measured[0]}")
            workflow.connect([(measured, guards_wf, into(effects_file="measured_file"))])
    if run.with_pair:
        workflow.connect([(inputnode, guards_wf, into("guide_hr"))])
    if method in plan.models:
        workflow.connect([(inputnode, guards_wf, into("boldref", "bold_mask", **{f"model_{method}": "model_file"}))])
    return guards_wf
