"""Evaluation of a run: all figures that tell whether its finer maps are true in one table, with a verdict in words."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.placebos import NullShuffles
from bids_sr.interfaces.evaluation.split_halves import BlockEffects, SplitHalf, TruthImages, TruthMaps
from bids_sr.interfaces.evaluation.tested_shares import OneLevelDown
from bids_sr.interfaces.evaluation.verdicts import Flags, Verdict
from bids_sr.interfaces.steps import MergeEvaluation
from bids_sr.series import PCA_RANKS
from bids_sr.workflows.bold.unsaved_series import placebos_text
from bids_sr.workflows.evaluation.attribute import init_claim_wf
from bids_sr.workflows.evaluation.control_quality import guards_text, init_distortion_wf, init_guards_wf
from bids_sr.workflows.plans import EvaluationPlan, RunPlan
from bids_sr.workflows.wiring import Part, Source, fields_of, into, joined, new_stage, same

PAIR_FIELDS = ("train_highres", "train_lowres", "pair_mask")


def evaluation_fields(run: RunPlan) -> list[str]:
    """Inputs that the evaluation of a run reads; see `init_evaluation_wf`."""
    evaluation, plan = run.evaluation, run.series
    halves, null, claimed = evaluation.split, bool(evaluation.null_checks), bool(evaluation.pair_conditions)
    truth, measured = knows_truth(run), bool(evaluation.measured)
    models = [f"model_{method}" for method in run.guarded if method in plan.models]
    wanted = {
        **dict.fromkeys(("bold_mask", "roi_placed", "maps", "maps_entities", "confounds_tsv"), True),
        "roi_bold": claimed,
        "events_file": halves or null or claimed,
        **dict.fromkeys(("n_dummy", "series_files"), halves or null or claimed or measured),
        "preproc_file": null or claimed,
        "activation_tsv": claimed,
        "bold_mask_hr": halves or null or claimed or truth or run.with_pair or measured,
        "roi_bold_hr": halves or claimed or truth,
        "boldref": run.with_pair or bool(models),
        **dict.fromkeys((*PAIR_FIELDS, "guide_hr"), run.with_pair),
        "holdout_tsv": run.with_holdout,
        **dict.fromkeys((*models, *(f"precision_{method}" for method in plan.checked)), True),
        **dict.fromkeys((f"card_{method}" for method in plan.by_variance), True),
        **dict.fromkeys((f"tested_{name}" for name in plan.on_run), True),
    }
    return [field for field, needed in wanted.items() if needed]


def init_evaluation_wf(*, run: RunPlan, name: str = "evaluation_wf") -> LiterateWorkflow:
    """Evaluate every series of a run: against truth, against placebos, against itself.

    Parameters
    ----------
    run : what there is of the run

    Inputs
    ------
    confounds_tsv : of the run
    events_file, n_dummy : of the run; these and what follows only where something reads them (`evaluation_fields`)
    bold_mask, bold_mask_hr, roi_bold, roi_bold_hr, boldref : brain and region of interest on both grids, reference of
        the run
    roi_placed : region of interest on the acquired grid as registration placed it, before it was grown
    preproc_file, series_files : raw on the acquired grid; all others in the order of `judged`
    maps, maps_entities, activation_tsv : statistical maps and regions of all series that are mapped, and their figures
    train_highres, train_lowres, pair_mask, guide_hr : the pair in one frame, its mask, and its fine image on the
        boldref's fine grid; only with a pair
    holdout_tsv : scores on the other pair, only with one
    model_METHOD, precision_METHOD : trained model of each method that learned from the pair, for which guards are made;
        rows of the test of a lower precision, only where one is possible
    card_METHOD : of each method that learns from how the run changes: whether it was applied
    tested_METHOD : of each of them and of its controls: what it explains one level of resolution down

    Outputs
    -------
    evaluation_tsv, evaluation_json : every figure with its interval, and what the columns mean
    verdict_json, flags_json : the verdict and the flags in words
    one_level_down_json : what each series explains one level of resolution down, where the run itself is the truth
    figures_npz : effects beyond the acquired Nyquist limit, only where the blocks can be split
    maps, maps_entities, maps_sidecars : uncertainty and unrepeated detail, only where there are methods and blocks that
        can be split
    """
    outputs = ["evaluation_tsv", "evaluation_json", "verdict_json", "flags_json", "one_level_down_json"]
    if run.evaluation.split:
        outputs.append("figures_npz")
    if run.guarded:
        outputs += MAPS
    text = _text(run.evaluation, "Segments of the run" if run.at_rest else "Blocks of each condition")
    text += guards_text(run) + placebos_text(run.series.extras)
    if run.series.on_run:
        text += (
            "Methods that estimate variances were also tested one level of resolution down, without a reference: the "
            "volumes of the run were downsampled by the super-resolution factor, super-resolved and compared with "
            "those acquired; the share of zero filling's squared error that each series explains was computed, with "
            "an interval over stretches of volumes. "
        )
    workflow, inputnode, _ = new_stage(name, text, inputs=evaluation_fields(run), outputs=outputs, part=Part.EVALUATION)
    tables: list[Source] = [(inputnode, "holdout_tsv")] if run.with_holdout else []
    tables += [(inputnode, f"precision_{method}") for method in run.series.checked]
    if run.evaluation.split:
        tables.append(split_half(workflow, run))
    if knows_truth(run):
        tables.append(against_truth(workflow, run))
    if run.evaluation.measured:
        tables.append(against_images(workflow, run))
    if run.evaluation.null_checks:
        tables.append(without_signal(workflow, run))
    if run.evaluation.pair_conditions:
        tables.append(claim(workflow, run))
    tables.append(one_level_down(workflow, run))
    _judge(workflow, run, tables)
    return workflow


def _judge(workflow: LiterateWorkflow, run: RunPlan, tables: list[Source]) -> None:
    """Quality control, flags and the verdict, and all tables as one."""
    inputnode, outputnode, plan = workflow.get_node("inputnode"), workflow.get_node("outputnode"), run.series
    flags = pe.Node(
        Flags(
            contrasts={} if run.at_rest else run.activation.plain_contrasts, factor=run.acquisition.factor,
            methods=list(plan.methods), card_names=list(plan.by_variance),
        ),
        name="flags",
    )  # fmt: skip
    seen = same(maps="in_files", maps_entities="in_entities", bold_mask="mask", roi_placed="roi")
    workflow.connect([(inputnode, flags, seen)])
    if run.with_pair:
        workflow.connect([(inputnode, flags, same(*PAIR_FIELDS))])
    if controls := quality_control(workflow, run):
        rows = joined(workflow, "guard_rows", [(each, "outputnode.rows_tsv") for each in controls])
        tables = [*tables, (rows, "out")]
    workflow.connect([(joined(workflow, "flagged", tables), flags, same(out="tables"))])
    verdict = pe.Node(
        Verdict(
            methods=list(plan.methods), baselines=[one for one in plan.names if one not in plan.methods],
            margin=run.evaluation.margin, card_names=list(plan.by_variance),
        ),
        name="verdict",
    )  # fmt: skip
    if plan.by_variance:
        cards = joined(workflow, "cards", [(inputnode, f"card_{method}") for method in plan.by_variance])
        workflow.connect([(cards, each, same(out="card_files")) for each in (flags, verdict)])
    workflow.connect([(workflow.get_node("one_level_down"), verdict, same("one_level_down_json"))])
    gathered = joined(workflow, "gathered", [*tables, (flags, "out_file")])
    merge = pe.Node(MergeEvaluation(), name="merge")
    workflow.connect([
        (gathered, verdict, same(out="in_files")),
        (inputnode, verdict, same("confounds_tsv")),
        (joined(workflow, "every", [(gathered, "out"), (verdict, "out_file")]), merge, same(out="in_files")),
        (merge, outputnode, same(out_file="evaluation_tsv", out_json="evaluation_json")),
        (verdict, outputnode, same("verdict_json")),
        (flags, outputnode, same("flags_json")),
    ])  # fmt: skip


def _text(evaluation: EvaluationPlan, blocks: str) -> str:
    """Methods text of what was done to judge the series."""
    if not evaluation.split:
        return "The run had too few blocks for split halves, so reproducible detail was not measured. "
    held = "of the measured high-resolution series" if evaluation.measured else "of the same series"
    explained = (
        " The explained variance of the true effect T by an estimate e, 1 - E|e - T|^2 / E|T|^2, was corrected for "
        "noise in the measured series by the covariance of its halves."
        if evaluation.measured
        else ""
    )
    return (
        f"{blocks} were split into two halves; the effect in one half was compared with that {held} in the other "
        "half, both ways, over all in-plane spatial frequencies and over those at or beyond the Nyquist limit of the "
        f"acquisition.{explained} Confidence intervals come from resampling blocks, with the same draws for all "
        "series. "
    )


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


def one_level_down(workflow: LiterateWorkflow, run: RunPlan) -> Source:
    """What each series explains of the run itself one level of resolution down; needs no reference."""
    plan = run.series
    tested = pe.Node(
        OneLevelDown(
            series_names=[name for name in plan.names if name != "zerofill"], networks=list(plan.models),
            voxel=run.acquisition.voxel, factor=run.acquisition.factor,
        ),
        name="one_level_down",
    )  # fmt: skip
    if plan.on_run:
        inputnode = workflow.get_node("inputnode")
        files = joined(workflow, "tested", [(inputnode, f"tested_{name}") for name in plan.on_run])
        workflow.connect([(files, tested, same(out="tested_files"))])
    workflow.connect([(tested, workflow.get_node("outputnode"), same("one_level_down_json"))])
    return tested, "out_file"


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


def member(files: list[str], number: int) -> str:
    """One of a list; runs between two nodes."""
    return files[number]


def init_null_wf(*, run: RunPlan, name: str = "null_wf") -> LiterateWorkflow:
    """How often the linear model finds activity in each series once its order in time is undone.

    Parameters
    ----------
    run : ``raw`` is tested on the acquired grid, the series of its plan on the high-resolution one; all get the same
        draws of phases and onsets

    Inputs
    ------
    series_files : ``raw``, then those stored; more are passed over
    bold_mask, bold_mask_hr : brain on the acquired and on the high-resolution grid
    events_file, confounds_tsv, n_dummy : of the run

    Outputs
    -------
    out_file : rows of the evaluation: null_rate, nominal, fwe, threshold, peak and active of each series
    """
    model = ("events_file", "confounds_tsv", "n_dummy")
    workflow, inputnode, outputnode = new_stage(
        name, _null_text(run.evaluation.null_checks) + "\n",
        inputs=["series_files", "bold_mask", "bold_mask_hr", *model], outputs=["out_file"],
    )  # fmt: skip
    tables: list[Source] = []
    for number, series in enumerate(("raw", *run.series.names)):
        null = pe.Node(
            NullShuffles(
                series=series, n_shuffles=run.evaluation.null_checks, high_pass=run.activation.high_pass,
                seed=run.seed, **run.acquisition.timing,
            ),
            name=f"null_{series}",
        )  # fmt: skip
        mask = "bold_mask" if series == "raw" else "bold_mask_hr"
        own = [(("series_files", member, number), "in_file"), (mask, "mask"), *same(*model)]
        workflow.connect([(inputnode, null, own)])
        tables.append((null, "out_file"))
    merge = pe.Node(MergeEvaluation(), name="merge")
    workflow.connect([
        (joined(workflow, "gather", tables), merge, same(out="in_files")),
        (merge, outputnode, same("out_file")),
    ])  # fmt: skip
    return workflow


def _null_text(n_shuffles: int) -> str:
    return (
        "The rate of false positives was measured in each series: task, drift and confounds were removed, the phases "
        "of the residuals were randomized identically in all voxels, onsets were drawn at random, and the same linear "
        f"model was fitted ({n_shuffles} times); rates are means over these shuffles. The largest z of each shuffle "
        "gives the threshold of the maximum statistic [@nichols2002], which 5 % of runs without signal exceed."
    )
