"""Evaluation of a run: all metrics that tell whether its finer maps are true in one table, with a verdict in words."""

from bids_sr.pipeline.graph import Maker
from bids_sr.pipeline.step import Part
from bids_sr.series import MEASURED
from bids_sr.steps import active_regions, evaluation, judgment, quality, super_resolution
from bids_sr.workflows.run_scope import RunOf


def add_evaluation(run: RunOf) -> None:
    """Place what judges the series of a run: split halves, references, controls, quality control, flags, verdict."""
    scope = run.scope
    split = run.bold.bold not in run.planned.plan.unsplit
    tables = [scope[name] for scope in run.models.values() for name in ("holdout",) if name in scope.makers]
    tables += scope.gather("precision_rows").values()
    if split:
        tables.append(_split_halves(run))
    else:
        scope.say(Part.EVALUATION, evaluation.UNSPLIT)
    tables += [*_against_truth(run, split=split), *_without_signal(run), *_sizes(run)]
    stored = [one for one in run.wanted if one.stored]
    scope.add(
        evaluation.gather_tested, series_names=[one.name for one in stored],
        network_names=[one.name for one in stored if one.network],
    )  # fmt: skip
    tables += [scope["tested_shares"], *_quality_control(run, split=split)]
    scope.say(Part.EVALUATION, super_resolution.placebos_text([one.name for one in run.wanted if one.placebo]))
    cards = scope.gather("card_file", [one.name for one in stored if one.learned_from == "run" and one.judged])
    scope.add(judgment.raise_flags, wires={"rows": tables, "card_file": cards})
    every = {"rows": [*tables, scope["flag_rows"]], "card_file": cards}
    scope.add(judgment.judge, wires=every, series_names=[one.name for one in stored])


def _split_halves(run: RunOf) -> Maker:
    """Effects of every block in every series, and what the two halves say of one another."""
    for name in run.judged:
        run.series[name].add(evaluation.measure_effects)
    run.scope.add(evaluation.compare_halves)
    return run.scope["split_half"]


def _against_truth(run: RunOf, *, split: bool) -> list[Maker]:
    """Maps against measured ones and against known activation, volumes against measured ones."""
    scope, known = run.scope, run.bold.truth.activations if run.bold.truth is not None else {}
    found = []
    if (run.measured or known) and "glm" in run.planned.settings.activation.kinds:
        scope.add(evaluation.compare_with_truth)
        found.append(scope["truth"])
    if run.measured:
        scope.add(evaluation.compare_images, wires={"series": scope.gather("series", run.mapped[1:])})
        found.append(scope["truth_images"])
    return found


def _without_signal(run: RunOf) -> list[Maker]:
    """How often activity is found where its order in time was undone, in raw and in every series of the plan."""
    if not run.planned.settings.evaluation.null_checks:
        return []
    names = [name for name in run.mapped if name != MEASURED]
    for name in names:
        run.series[name].add(evaluation.shuffle_signal)
    return [run.series[name]["null_rates"] for name in names]


def _sizes(run: RunOf) -> list[Maker]:
    """Sizes and overlap of two conditions' regions, and what changes them."""
    if not run.scope.setting("pair_conditions"):
        return []
    if run.scope.setting("attribution_widths"):
        for name in run.mapped:
            run.series[name].add(active_regions.measure_claim)
    run.scope.add(active_regions.attribute_sizes)
    return [run.scope["claim"]]


def _quality_control(run: RunOf, *, split: bool) -> list[Maker]:
    """Distortion against the pair, uncertainty and unrepeated detail of each method."""
    scope = run.scope
    found: list[Maker] = []
    if run.bold.pair is not None:
        guided = [one.name for one in run.wanted if one.stored and one.guided]
        scope.add(quality.compare_edges, guided_names=guided)
        found.append(scope["edges"])
    for name in run.methods if split else ():
        members = [one.name for one in run.wanted if one.seed and one.source == name]
        wires = {"member_effects": scope.gather("effects", members)}
        if members and run.measured:
            wires["measured_effects"] = run.series[MEASURED]["effects"]
        run.series[name].add(quality.guard_series, wires=wires)
        found.append(run.series[name]["guard_rows"])
    return found
