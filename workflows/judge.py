"""Evaluation of a run: all metrics that tell whether its finer maps are true in one table, with a verdict in words."""

from bids_sr.pipeline.graph import Maker, Wires
from bids_sr.pipeline.step import Part
from bids_sr.series import ACQUIRED_BAND
from bids_sr.steps import evaluation, judgment, quality, super_resolution
from bids_sr.steps.compared import another_run, comparing
from bids_sr.workflows.run_scope import RunOf


def add_evaluation(run: RunOf) -> None:
    """Place what judges the series of a run: split halves, references, controls, quality control, flags, verdict."""
    scope = run.scope
    split = run.bold.bold not in run.planned.plan.unsplit
    tables = [scope[name] for scope in run.models.values() for name in ("holdout",) if name in scope.makers]
    tables += scope.gather("precision_rows").values()
    if split:
        tables += _split_halves(run)
    else:
        scope.say(Part.EVALUATION, evaluation.UNSPLIT)
    stored = [one for one in run.wanted if one.stored]
    _say(run, split=split)
    tables += [*_against_truth(run, split=split), *_against_another_run(run)]
    tested = [scope.gather("tested")[one.name] for one in stored if one.learned_from == "run"]  # no ensemble's
    networks = [one.name for one in stored if one.network]
    scope.add(evaluation.gather_tested, wires={"tested": tested}, network_names=networks)
    tables += [scope["tested_shares"], *_quality_control(run, split=split)]
    cards = scope.gather("card_file", [one.name for one in stored if one.learned_from == "run" and one.judged])
    scope.add(judgment.raise_flags, wires={"rows": tables, "card_file": cards})
    every: Wires = {"rows": [*tables, scope["flag_rows"]], "card_file": cards}
    scope.add(judgment.judge, wires=every)


def _say(run: RunOf, *, split: bool) -> None:
    """Sentences about several steps: quality control, placebos, tests one level of resolution down."""
    ensembles = _ensembles(run)
    if split and ensembles:
        run.scope.say(Part.EVALUATION, quality.uncertainty_text(list(ensembles), 1 + max(map(len, ensembles.values()))))
    placebos = [one.name for one in run.wanted if one.placebo]
    run.scope.say(Part.EVALUATION, super_resolution.placebos_text(placebos))
    if any(one.learned_from == "run" for one in run.wanted):
        run.scope.say(Part.EVALUATION, evaluation.ONE_LEVEL_DOWN)


def _split_halves(run: RunOf) -> list[Maker]:
    """Effects of every block in every series, and what the two halves say of one another."""
    for name in run.judged:
        run.series[name].add(evaluation.measure_effects)
    if run.compared:
        wires: Wires = {name: run.scope.gather(name, [*run.compared, ACQUIRED_BAND]) for name in ("series", "effects")}
        run.scope.add(comparing.match_resolution, wires=wires)
    run.scope.add(evaluation.gather_fine_effects)
    if not run.measured:
        return []
    run.scope.add(evaluation.compare_halves)
    return [run.scope["split_half"]]


def _against_truth(run: RunOf, *, split: bool) -> list[Maker]:
    """Maps against measured ones and against known activation, volumes against measured ones."""
    scope, known = run.scope, run.bold.truth.activations if run.bold.truth is not None else {}
    found = []
    if (run.measured or known) and "glm" in run.planned.settings.activation.kinds:
        scope.add(evaluation.compare_with_truth)
        if split and not run.measured:
            scope.say(Part.EVALUATION, evaluation.KNOWN_TEXT)
        found.append(scope["truth"])
    if run.measured:
        scope.add(evaluation.compare_images, wires={"series": scope.gather("series", run.mapped[1:])})
        found.append(scope["truth_images"])
    return found


def _against_another_run(run: RunOf) -> list[Maker]:
    """Series of other programs against another acquired run of the task."""
    scope = run.scope
    if "other_effects" not in scope.makers:
        return []
    among = scope.gather("effects", [*run.compared, ACQUIRED_BAND])
    scope.add(another_run.compare_with_other_run, wires={"effects": among})
    return [scope["other_rows"]]


def _quality_control(run: RunOf, *, split: bool) -> list[Maker]:
    """Distortion against the pair, whether networks know such images, and uncertainty of ensembles."""
    scope = run.scope
    found: list[Maker] = []
    if run.bold.pair is not None:
        guided = [one.name for one in run.wanted if one.stored and one.guided]
        scope.add(quality.compare_edges, guided_names=guided)
        found.append(scope["edges"])
    for name in run.methods:
        if any(one.name == name and one.network for one in run.wanted):  # variance maps are of the run itself
            run.series[name].add(quality.check_domain)
            found.append(run.series[name]["domain_rows"])
    for name, members in _ensembles(run).items() if split else ():
        run.series[name].add(quality.measure_uncertainty, wires={"member_effects": scope.gather("effects", members)})
        found.append(run.series[name]["uncertainty_rows"])
    return found


def _ensembles(run: RunOf) -> dict[str, list[str]]:
    """Further members of the ensemble of each method that has one."""
    members = {name: [one.name for one in run.wanted if one.seed and one.source == name] for name in run.methods}
    return {name: others for name, others in members.items() if others}
