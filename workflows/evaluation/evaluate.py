"""Evaluation of a run: all figures that tell whether its finer maps are true in one table, with a verdict in words."""

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.split_halves import MergeEvaluation
from bids_sr.interfaces.evaluation.verdicts import Flags, Verdict
from bids_sr.workflows.evaluation.evaluation_parts import (
    MAPS,
    against_images,
    against_truth,
    claim,
    knows_truth,
    quality_control,
    split_half,
    without_signal,
)
from bids_sr.workflows.plans import EvaluationPlan, RunPlan
from bids_sr.workflows.wiring import Source, joined, new_stage, same

PAIR_FIELDS = ("train_highres", "train_lowres", "pair_mask")


def evaluation_fields(run: RunPlan) -> list[str]:
    """Inputs that the evaluation of a run reads; see `init_evaluation_wf`."""
    evaluation, plan = run.evaluation, run.series
    halves, null, claimed = evaluation.split, bool(evaluation.null_checks), bool(evaluation.pair_conditions)
    truth, measured = knows_truth(run), bool(evaluation.measured)
    models = [f"model_{method}" for method in run.guarded if method in plan.models]
    wanted = {
        **dict.fromkeys(("bold_mask", "roi_placed", "maps", "maps_entities"), True),
        "roi_bold": claimed,
        **dict.fromkeys(("events_file", "confounds_tsv"), halves or null or claimed),
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
    }
    return [field for field, needed in wanted.items() if needed]


def init_evaluation_wf(*, run: RunPlan, name: str = "evaluation_wf") -> LiterateWorkflow:
    """Evaluate every series of a run: against truth, against placebos, against itself.

    Parameters
    ----------
    run : what there is of the run

    Inputs
    ------
    events_file, confounds_tsv, n_dummy : of the run; these and what follows only where something reads them
        (`evaluation_fields`)
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

    Outputs
    -------
    evaluation_tsv, evaluation_json : every figure with its interval, and what the columns mean
    verdict_json, flags_json : the verdict and the flags in words
    figures_npz : effects beyond the acquired Nyquist limit, only where the blocks can be split
    maps, maps_entities, maps_sidecars : uncertainty and unrepeated detail, only where there are methods and blocks that
        can be split
    """
    outputs = ["evaluation_tsv", "evaluation_json", "verdict_json", "flags_json"]
    if run.evaluation.split:
        outputs.append("figures_npz")
    if run.guarded:
        outputs += MAPS
    workflow, inputnode, _ = new_stage(
        name,
        _text(run.evaluation, "Segments of the run" if run.at_rest else "Blocks of each condition"),
        inputs=evaluation_fields(run),
        outputs=outputs,
    )
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
    _judge(workflow, run, tables)
    return workflow


def _judge(workflow: LiterateWorkflow, run: RunPlan, tables: list[Source]) -> None:
    """Quality control, flags and the verdict, and all tables as one."""
    inputnode, outputnode, plan = workflow.get_node("inputnode"), workflow.get_node("outputnode"), run.series
    flags = pe.Node(
        Flags(contrasts={} if run.at_rest else run.activation.plain_contrasts, factor=run.acquisition.factor),
        name="flags",
    )
    seen = same(maps="in_files", maps_entities="in_entities", bold_mask="mask", roi_placed="roi")
    workflow.connect([(inputnode, flags, seen)])
    if run.with_pair:
        workflow.connect([(inputnode, flags, same(*PAIR_FIELDS))])
    if controls := quality_control(workflow, run):
        rows = joined(workflow, "guard_rows", [(each, "outputnode.rows_tsv") for each in controls])
        workflow.connect([(rows, flags, same(out="tables"))])
        tables = [*tables, (rows, "out")]
    verdict = pe.Node(
        Verdict(
            methods=list(plan.methods), baselines=[one for one in plan.names if one not in plan.methods],
            margin=run.evaluation.margin, card_names=list(plan.by_variance),
        ),
        name="verdict",
    )  # fmt: skip
    if plan.by_variance:
        cards = joined(workflow, "cards", [(inputnode, f"card_{method}") for method in plan.by_variance])
        workflow.connect([(cards, verdict, same(out="card_files"))])
    gathered = joined(workflow, "gathered", [*tables, (flags, "out_file")])
    merge = pe.Node(MergeEvaluation(), name="merge")
    workflow.connect([
        (gathered, verdict, same(out="in_files")),
        (joined(workflow, "every", [(gathered, "out"), (verdict, "out_file")]), merge, same(out="in_files")),
        (merge, outputnode, same(out_file="evaluation_tsv", out_json="evaluation_json")),
        (verdict, outputnode, same("verdict_json")),
        (flags, outputnode, same("flags_json")),
    ])  # fmt: skip


def _text(evaluation: EvaluationPlan, blocks: str) -> str:
    """Methods text of what was done to judge the series."""
    if not evaluation.split:
        return "The run has too few blocks to be split; no measure of reproducible fine detail was taken.\n"
    held = "of the measured high-resolution series" if evaluation.measured else "of the same series"
    explained = (
        " Explained variance, 1 - E|e - T|^2 / E|T|^2 of the true effect T, was found without the noise of the "
        "measured series by the covariance of its halves."
        if evaluation.measured
        else ""
    )
    return (
        f"{blocks} were split into two halves; the effect of one half was held against that {held} "
        "in the other half, both ways, over in-plane spatial frequencies at or beyond the Nyquist limit of the "
        f"acquisition as well as over all.{explained} Intervals come from resampled blocks, drawn alike for all "
        "series.\n"
    )
