"""Is the finer map true? Everything that judges the series of one run, in one table, with a verdict in words."""

from __future__ import annotations

from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.split_halves import MergeEvaluation
from bids_sr.interfaces.evaluation.verdicts import Flags, Verdict
from bids_sr.workflows.bold.series_maps import Edges
from bids_sr.workflows.evaluation.evaluation_parts import (
    MAPS,
    against_images,
    against_truth,
    claim,
    guarded,
    guards,
    knows_truth,
    plain,
    split_half,
    without_signal,
)
from bids_sr.workflows.plans import Acquisition, ActivationPlan, EvaluationPlan, SeriesPlan

PAIR_FIELDS = ("train_highres", "train_lowres", "pair_mask", "guide_hr")
OUTPUTS = ("evaluation_tsv", "evaluation_json", "verdict_json", "flags_json")


def _by_variance(plan: SeriesPlan) -> list[str]:
    """Methods that may fall back to zero filling, as their cards say."""
    return [name for name in plan.on_run if name in plan.methods]


def evaluation_fields(
    plan: SeriesPlan, activation: ActivationPlan, evaluation: EvaluationPlan, *, with_pair: bool, with_holdout: bool
) -> tuple[str, ...]:
    """Inputs that the evaluation of a run reads; see `init_evaluation_wf`."""
    halves, null, claimed = evaluation.split, bool(evaluation.null_checks), bool(evaluation.pair_conditions)
    truth = knows_truth(activation, evaluation)
    models = [f"model_{method}" for method in guarded(plan, evaluation) if method in plan.models]
    wanted = {
        **dict.fromkeys(("bold_mask", "roi_placed", "maps", "maps_entities"), True),
        "roi_bold": claimed,
        **dict.fromkeys(("events_file", "confounds_tsv"), halves or null or claimed),
        **dict.fromkeys(("n_dummy", "series_files"), halves or null or claimed or bool(evaluation.measured)),
        "preproc_file": null or claimed,
        "activation_tsv": claimed,
        "bold_mask_hr": halves or null or claimed or truth or with_pair or bool(evaluation.measured),
        "roi_bold_hr": halves or claimed or truth,
        "boldref": with_pair or bool(models),
        **dict.fromkeys(PAIR_FIELDS, with_pair),
        "holdout_tsv": with_holdout,
        **dict.fromkeys((*models, *(f"precision_{method}" for method in plan.checked)), True),
        **dict.fromkeys((f"card_{method}" for method in _by_variance(plan)), True),
    }
    return tuple(field for field, needed in wanted.items() if needed)


def init_evaluation_wf(
    *,
    plan: SeriesPlan,
    acquisition: Acquisition,
    activation: ActivationPlan,
    evaluation: EvaluationPlan,
    with_pair: bool,
    with_holdout: bool,
    seed: int,
    name: str = "evaluation_wf",
) -> LiterateWorkflow:
    """Judge every series of a run: against truth, against placebos, against itself.

    Parameters
    ----------
    plan, acquisition, activation, evaluation : series, how the run was acquired, which maps, how they are judged
    with_pair : whether there is a T2*-weighted pair
    with_holdout : whether models were scored on a pair that they were not trained on
    seed : of resampling and of shuffles
    name : of the workflow

    Inputs
    ------
    events_file, confounds_tsv, n_dummy
        of the run; these and what follows only where something reads them (`evaluation_fields`)
    bold_mask, bold_mask_hr, roi_bold, roi_bold_hr, boldref
        brain and region of interest on both grids, reference of the run
    roi_placed
        region of interest on the acquired grid as registration placed it, before it was grown
    preproc_file, series_files
        raw on the acquired grid; all others in the order of `judged`
    maps, maps_entities, activation_tsv
        statistical maps and regions of all series that are mapped, and their figures
    train_highres, train_lowres, pair_mask, guide_hr
        the pair in one frame, its mask, and its fine image on the boldref's fine grid; only with a pair
    holdout_tsv
        scores on the other pair, only with one
    model_METHOD, precision_METHOD
        trained model of each method that learned from the pair, for which guards are made; rows of the test of a lower
        precision, only where one is possible
    card_METHOD
        of each method that learns from how the run changes: whether it was applied

    Outputs
    -------
    evaluation_tsv, evaluation_json
        every figure with its interval, and what the columns mean
    verdict_json, flags_json
        the verdict and the flags in words
    figures_npz
        effects beyond the acquired Nyquist limit, only where the blocks can be split
    maps, maps_entities, maps_sidecars
        uncertainty and unrepeated detail, only where there are methods and blocks that can be split
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = _text(evaluation)
    fields = evaluation_fields(plan, activation, evaluation, with_pair=with_pair, with_holdout=with_holdout)
    inputnode = pe.Node(niu.IdentityInterface(fields=list(fields)), name="inputnode")
    outputs = [*OUTPUTS, *["figures_npz"] * evaluation.split, *MAPS * bool(guarded(plan, evaluation))]
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    given = [*["holdout_tsv"] * with_holdout, *(f"precision_{method}" for method in plan.checked)]
    tables: list[tuple[Any, str]] = [(inputnode, field) for field in given]
    edges: Edges = []
    if evaluation.split:
        effects, gathered, halves, made = split_half(plan, acquisition, activation, evaluation, seed, inputnode)
        edges += [*made, (halves, outputnode, [("figures_npz", "figures_npz")])]
        tables.append((halves, "out_file"))
    else:
        effects = {}
    for make in (against_truth, against_images, without_signal, claim):
        node, made = make(plan, acquisition, activation, evaluation, seed, inputnode)
        edges += made
        if make is against_truth and made and evaluation.split:  # the finest band needs whole slices, not masked maps
            edges.append((gathered, node, [("out", "effects_files")]))
        tables += [(node, "outputnode.out_file" if isinstance(node, LiterateWorkflow) else "out_file")] * bool(made)
    kept, made = guards(plan, acquisition, activation, evaluation, with_pair, seed, inputnode, effects, outputnode)
    edges += made
    edges += _judgment(plan, acquisition, activation, evaluation, with_pair, inputnode, kept, tables, outputnode)
    workflow.connect(edges)
    return workflow


def _judgment(
    plan: SeriesPlan,
    acquisition: Acquisition,
    activation: ActivationPlan,
    evaluation: EvaluationPlan,
    with_pair: bool,
    inputnode: pe.Node,
    guards: list[LiterateWorkflow],
    tables: list[tuple[Any, str]],
    outputnode: pe.Node,
) -> Edges:
    """Flags and the verdict, and all tables as one."""
    flags = pe.Node(Flags(contrasts=plain(activation.contrasts), factor=acquisition.factor), name="flags", n_procs=1)
    guard_rows = pe.Node(niu.Merge(max(1, len(guards))), name="guard_rows", run_without_submitting=True)
    tables = [*tables, *[(guard_rows, "out")] * bool(guards), (flags, "out_file")]
    gathered = pe.Node(niu.Merge(len(tables)), name="gathered", run_without_submitting=True)
    verdict = pe.Node(
        Verdict(
            methods=list(plan.methods), baselines=[one for one in plan.names if one not in plan.methods],
            margin=evaluation.margin, card_names=_by_variance(plan),
        ),
        name="verdict", n_procs=1,
    )  # fmt: skip
    cards = pe.Node(niu.Merge(max(1, len(_by_variance(plan)))), name="cards", run_without_submitting=True)
    every = pe.Node(niu.Merge(2), name="every", run_without_submitting=True)
    merge = pe.Node(MergeEvaluation(), name="merge", n_procs=1)
    return [
        (inputnode, flags, [
            ("maps", "in_files"), ("maps_entities", "in_entities"), ("bold_mask", "mask"), ("roi_placed", "roi"),
            *[(field, field) for field in PAIR_FIELDS[:3] * with_pair],
        ]),
        *[(guard, guard_rows, [("outputnode.rows_tsv", f"in{k}")]) for k, guard in enumerate(guards, 1)],
        *[(guard_rows, flags, [("out", "tables")])] * bool(guards),
        *[(node, gathered, [(field, f"in{k}")]) for k, (node, field) in enumerate(tables, 1)],
        (gathered, verdict, [("out", "in_files")]),
        *[(inputnode, cards, [(f"card_{method}", f"in{k}")]) for k, method in enumerate(_by_variance(plan), 1)],
        *[(cards, verdict, [("out", "card_files")])] * bool(_by_variance(plan)),
        (gathered, every, [("out", "in1")]),
        (verdict, every, [("out_file", "in2")]),
        (every, merge, [("out", "in_files")]),
        (merge, outputnode, [("out_file", "evaluation_tsv"), ("out_json", "evaluation_json")]),
        (verdict, outputnode, [("verdict_json", "verdict_json")]),
        (flags, outputnode, [("flags_json", "flags_json")]),
    ]  # fmt: skip


def _text(evaluation: EvaluationPlan) -> str:
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
        f"Blocks of each condition were split into two halves; the effect of one half was held against that {held} "
        "in the other half, both ways, over in-plane spatial frequencies at or beyond the Nyquist limit of the "
        f"acquisition as well as over all.{explained} Intervals come from resampled blocks, drawn alike for all "
        "series.\n"
    )
