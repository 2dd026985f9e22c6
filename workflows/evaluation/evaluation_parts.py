"""The ways in which the series of a run are evaluated; each adds its nodes and says where its rows are."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.split_halves import BlockEffects, SplitHalf, TruthImages, TruthMaps
from bids_sr.series import PCA_RANKS
from bids_sr.workflows.evaluation.attribute import init_claim_wf
from bids_sr.workflows.evaluation.control_quality import init_distortion_wf, init_guards_wf
from bids_sr.workflows.evaluation.run_placebos import init_null_wf, member
from bids_sr.workflows.plans import RunPlan
from bids_sr.workflows.wiring import Source, fields_of, into, joined, same

RUN_FIELDS = ("events_file", "confounds_tsv", "n_dummy")
MAPS = ("maps", "maps_entities", "maps_sidecars")


def knows_truth(run: RunPlan) -> bool:
    """Whether maps can be compared with measured or known activation."""
    return bool(run.evaluation.truth_file or run.evaluation.truth_maps) and "glm" in run.activation.kinds


def first(files: list[str], count: int) -> list[str]:
    """The first of a list; runs between two nodes."""
    return files[:count]


def split_half(workflow: LiterateWorkflow, run: RunPlan) -> Source:
    """Effects of every block in every series, and what the two halves say of one another."""
    inputnode, outputnode = workflow.get_node("inputnode"), workflow.get_node("outputnode")
    effects: list[Source] = []
    for number, series in enumerate(run.judged):
        step = pe.Node(
            BlockEffects(
                series=series, high_pass=run.activation.high_pass,
                pca_ranks=list(PCA_RANKS) if series == "bspline" else [],
                with_t=series == (run.evaluation.measured or ("bspline",))[0], **run.acquisition.timing,
            ),
            name=f"effects_{series}",
        )  # fmt: skip
        own = [(("series_files", member, number), "in_file"), *same(*RUN_FIELDS, bold_mask_hr="mask")]
        workflow.connect([(inputnode, step, own)])
        effects.append((step, "effects_file"))
    halves = pe.Node(
        SplitHalf(factor=run.acquisition.factor, contrasts=run.activation.plain_contrasts, seed=run.seed), name="halves"
    )
    workflow.connect([
        (inputnode, halves, same(bold_mask_hr="mask", roi_bold_hr="roi")),
        (joined(workflow, "gather_effects", effects), halves, same(out="effects_files")),
        (halves, outputnode, same("figures_npz")),
    ])  # fmt: skip
    return halves, "out_file"


def against_truth(workflow: LiterateWorkflow, run: RunPlan) -> Source:
    """Maps of the whole run against measured ones and against known activation."""
    maps = pe.Node(
        TruthMaps(
            factor=run.acquisition.factor, contrasts=run.activation.plain_contrasts, seed=run.seed,
            connectivity=run.at_rest,
        ),
        name="truth",
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
    images = pe.Node(TruthImages(series_names=list(names), seed=run.seed), name="images")
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
    inputnode, null_wf = workflow.get_node("inputnode"), init_null_wf(run=run)
    count = 1 + len(run.series.names)
    stored = pe.Node(niu.Select(index=list(range(count))), name="stored", run_without_submitting=True)
    every = joined(workflow, "raw_and_others", [(inputnode, "preproc_file"), (inputnode, "series_files")])
    workflow.connect([
        (every, stored, same(out="inlist")),
        (stored, null_wf, into(out="series_files")),
        (inputnode, null_wf, into("bold_mask", "bold_mask_hr", *RUN_FIELDS)),
    ])  # fmt: skip
    return null_wf, "outputnode.out_file"


def claim(workflow: LiterateWorkflow, run: RunPlan) -> Source:
    """Sizes and overlap of two conditions' regions, and what changes them."""
    inputnode, claim_wf = workflow.get_node("inputnode"), init_claim_wf(run=run)
    grids = {"bold_mask": "mask", "roi_bold": "roi", "bold_mask_hr": "mask_hr", "roi_bold_hr": "roi_hr"}
    files = joined(workflow, "claim_files", [(inputnode, "preproc_file"), (inputnode, "series_files")])
    workflow.connect([
        (files, claim_wf, into(out="series_files")),
        (inputnode, claim_wf, into(*RUN_FIELDS, "activation_tsv", **grids)),
    ])  # fmt: skip
    return claim_wf, "outputnode.out_file"


def quality_control(workflow: LiterateWorkflow, run: RunPlan) -> list[LiterateWorkflow]:
    """Distortion against the pair, uncertainty and unrepeated detail of each method."""
    inputnode, outputnode = workflow.get_node("inputnode"), workflow.get_node("outputnode")
    found = []
    if run.with_pair:
        distortion_wf = init_distortion_wf(run=run)
        workflow.connect([(inputnode, distortion_wf, into("boldref", "guide_hr", bold_mask_hr="mask_hr"))])
        found.append(distortion_wf)
    guards = [_guard(workflow, run, method) for method in run.guarded]
    for field in MAPS if guards else ():
        merge = joined(workflow, f"guard_{field}", [(each, f"outputnode.{field}") for each in guards])
        workflow.connect([(merge, outputnode, same(out=field))])
    return [*found, *guards]


def _guard(workflow: LiterateWorkflow, run: RunPlan, method: str) -> LiterateWorkflow:
    """Quality control of one method."""
    inputnode = workflow.get_node("inputnode")
    guards_wf = init_guards_wf(method=method, run=run, name=f"guards_{method}_wf")
    fields = fields_of(guards_wf)
    renamed = {"mask": "bold_mask_hr", "model_file": f"model_{method}"}
    here = [field for field in fields if field not in ("effects_file", "member_files", "measured_file")]
    workflow.connect([
        (inputnode, guards_wf, [(renamed.get(field, field), f"inputnode.{field}") for field in here]),
        (workflow.get_node(f"effects_{method}"), guards_wf, into("effects_file")),
    ])  # fmt: skip
    if "member_files" in fields:
        members = [(workflow.get_node(f"effects_{one}"), "effects_file") for one in run.ensemble(method)]
        workflow.connect([(joined(workflow, f"members_{method}", members), guards_wf, into(out="member_files"))])
    if "measured_file" in fields:
        measured = workflow.get_node(f"effects_{run.evaluation.measured[0]}")
        workflow.connect([(measured, guards_wf, into(effects_file="measured_file"))])
    return guards_wf
