"""Evaluation of the high-resolution series and maps of a run, and the verdict."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from bids_sr.engine.artifacts import Facts, File, Image, Map, Rows, Verdict
from bids_sr.engine.flow import add_methods_text, as_artifact, concatenate, subworkflow
from bids_sr.engine.outputs import Outputs
from bids_sr.engine.step import Part
from bids_sr.evaluation.qc_flags import Flags
from bids_sr.evaluation.run_evidence import StoredEvidence
from bids_sr.evaluation.steps import (
    edge_comparison,
    mask_comparison,
    reference_comparisons,
    region_checks,
    run_verdict,
    self_test_rows,
)
from bids_sr.evaluation.steps.reference_comparisons import EffectsComparison
from bids_sr.glm.steps import block_effects, known_activation as activation_steps
from bids_sr.glm.steps.linear_models import DesignInputs
from bids_sr.io.frozen import frozen
from bids_sr.io.series import ACQUIRED, MEASURED
from bids_sr.survey.bids.inputs import HighresReference
from bids_sr.workflows.make_series import RunSeries
from bids_sr.workflows.map_run import MappedRun
from bids_sr.workflows.model_run import ModeledRun
from bids_sr.workflows.pair import RegisteredPair
from bids_sr.workflows.run_plan import RunPlan
from bids_sr.workflows.series_requests import ComputedSeries, list_methods

_T = TypeVar("_T")
FIRST_VERDICT = "first_verdict"
"""Name of the subworkflow that evaluates methods without networks before networks are trained."""


@frozen
class FirstVerdict:
    """Verdict on the methods without networks, and its evidence, before networks are trained."""

    verdict: Verdict
    evidence: StoredEvidence


@frozen
class RunEvaluation:
    """Metrics of a run, verdict with its evidence, and inputs of figures.

    `first_verdict` is None if no verdict is reached before `verdict`. `known_activation` is in
    signal units, by contrast. `halves_figures`: None without a reference, or if the run cannot be
    split into halves.
    """

    evaluation: Rows
    verdict: Verdict
    evidence: StoredEvidence
    first_verdict: FirstVerdict | None
    known_activation: Mapping[str, Image]
    halves_figures: File | None = None


def evaluate_run(
    run: ModeledRun,
    series: RunSeries,
    maps: MappedRun,
    pair: RegisteredPair | None,
    outputs: Outputs,
) -> RunEvaluation:
    """Evaluate the high-resolution series of a run, raise flags, and reach a verdict.

    `pair` is the T2*-weighted pair of the run; None if missing.
    """
    plan = run.plan
    comparison = EffectsComparison(
        bold_mask_hr=run.fitted.bold_mask_hr,
        roi_hr=run.model.roi_hr,
        contrasts=plan.contrasts,
        factor=plan.bold.factor,
        random_seed=plan.random_seed,
    )
    effects, halves_figures = _measure_run_effects(run, series, comparison)
    known_activation = _read_known_activation(plan.bold.truth)
    known = known_activation if "glm" in plan.maps.kinds else {}
    tables = _gather_tables(run, series, maps, effects, comparison, known)
    raise_flags = partial(_raise_flags, run, pair, region_flags=_check_region(run, maps))
    first_verdict = _evaluate_early(
        run, series, maps, effects, comparison, tables, raise_flags, known=known
    )
    flags, activation_rows = raise_flags(tables, maps.maps)
    verdict, verdict_rows, evidence = run_verdict.decide_verdict(
        tables.list_for_verdict(activation_rows),
        tables.method_tests.self_test_facts,
        run.model.confounds,
        flags=flags,
        card_file=tables.method_tests.cards,
        method_names=plan.methods,
        series_names=plan.stored_names,
        margin=plan.margin,
    )
    all_metrics, columns = reference_comparisons.join_evaluation(
        tables.list_for_evaluation(activation_rows),
        verdict_rows,
        input_smoothing=plan.correction.input_smoothing,
    )
    stored_verdict = run_verdict.add_large_effects(verdict, all_metrics)
    outputs.store_metrics(all_metrics, "evaluation", columns)
    outputs.store_metrics(stored_verdict, "verdict")
    return RunEvaluation(
        evaluation=all_metrics,
        verdict=verdict,
        evidence=evidence,
        first_verdict=first_verdict,
        known_activation=known_activation,
        halves_figures=halves_figures,
    )


@frozen
class _MetricTables:
    """Tables of metrics of a run by subject.

    `models` are held-out metrics of networks, `maps` name all contrasts of the run, also those
    without a reference or a test, and `errors` are of the reconstruction error of maps. `masks`
    are on the brain coverage of series, and `quality` on the acquired run.
    """

    models: Sequence[Rows]
    maps: Sequence[Rows]
    errors: Sequence[Rows]
    references: Sequence[Rows]
    masks: Sequence[Rows]
    quality: Sequence[Rows]
    method_tests: "_MethodTests"

    def list_for_flags(self) -> list[Rows]:
        """Return the tables that flags are based on."""
        return [*self.models, *self._list_shared()]

    def list_for_verdict(self, activation: Rows) -> list[Rows]:
        """Return the tables that the verdict is based on.

        It does not depend on error maps, and can therefore be computed before them.
        """
        coverage = self.method_tests.coverage_tables
        return [*self.models, *self.maps, *self._list_shared(), activation, *coverage]

    def list_for_evaluation(self, activation: Rows) -> list[Rows]:
        """Return the tables that are stored as one table."""
        return [*self.models, *self.errors, *self._list_shared(), activation]

    def _list_shared(self) -> list[Rows]:
        """Return tables that flags, verdict and stored table have in common."""
        self_tests = self.method_tests.self_test_rows
        return [*self.references, self_tests, *self.masks, *self.quality]


def _gather_tables(
    run: ModeledRun,
    series: RunSeries,
    maps: MappedRun,
    effects: Mapping[str, File],
    comparison: EffectsComparison,
    known: Mapping[str, Image],
) -> _MetricTables:
    """Compare the series of a run with references, and gather the other metrics of the run.

    `known` is known activation by contrast; empty if the linear model is not mapped.
    """
    plan = run.plan
    reference_tables = compare_with_references(
        {name: mapped for name, mapped in series.mapped.items() if name != ACQUIRED},
        effects,
        comparison,
        acquired_maps=maps.series[ACQUIRED].maps,
        maps=maps.maps if "glm" in plan.maps.kinds else None,
        known=known,
        at_rest=plan.at_rest,
        n_dummy=run.fitted.n_dummy,
    )
    _add_comparisons_text(plan, effects, has_known_activation=bool(known))
    return _MetricTables(
        models=_list_present(
            computed_series.holdout for computed_series in series.high_resolution.values()
        ),
        maps=[mapped_series.results.map_metrics for mapped_series in maps.series.values()],
        errors=_list_present(mapped.error_rows for mapped in maps.series.values()),
        references=reference_tables,
        masks=[_compare_masks(run, series)],
        quality=check_quality(run),
        method_tests=_gather_method_tests(plan, series, maps),
    )


def _check_region(run: ModeledRun, maps: MappedRun) -> Flags | None:
    """Check the response of a run and of its region; None without a linear model of events."""
    if "glm" not in run.plan.maps.kinds or run.plan.at_rest:
        return None
    return region_checks.check_region(
        run.model.preproc,
        maps.series[ACQUIRED].maps,
        run.fitted,
        run.fitted.roi_bold,
        run.model.linear,
    )


def _raise_flags(
    run: ModeledRun,
    pair: RegisteredPair | None,
    tables: _MetricTables,
    maps: list[Map],
    region_flags: Flags | None,
) -> tuple[Flags, Rows]:
    """Raise the flags of a run; return them, and rows of the activation kept in each series."""
    plan, fitted_run = run.plan, run.fitted
    return run_verdict.raise_flags(
        tables.list_for_flags(),
        maps,
        fitted_run.bold_mask,
        fitted_run.roi_bold,
        pair=pair,
        registration=fitted_run.registration_facts,
        region_flags=region_flags,
        contrasts=plan.contrasts,
        factor=plan.bold.factor,
        at_rest=plan.at_rest,
    )


def _read_known_activation(reference: HighresReference | None) -> dict[str, Image]:
    """Return known activation in signal units, by contrast."""
    if reference is None:
        return {}
    activations: dict[str, Image] = {}
    for name, file in reference.activations.items():
        activations[name] = as_artifact(file)
        if name in reference.mean_signals:
            with subworkflow(f"known_{name}"):
                activations[name] = activation_steps.convert_to_signal(
                    activations[name], mean_signal=reference.mean_signals[name]
                )
    return activations


def _measure_run_effects(
    run: ModeledRun, series: RunSeries, comparison: EffectsComparison
) -> tuple[dict[str, File], File | None]:
    """Measure the block effects of all series, and gather the inputs of their figures.

    Block effects are only compared with references: without one, or if the run cannot be split
    into halves, there are no files, and the inputs are None. Returns files of the effects by
    series, and the inputs.
    """
    if not run.plan.can_split or not run.plan.has_truth:
        return {}, None
    effects = measure_all_effects(series.high_resolution, run.model.linear.inputs)
    return effects, reference_comparisons.gather_fine_effects(effects, comparison)


def measure_all_effects(
    series: Mapping[str, ComputedSeries], inputs: DesignInputs
) -> dict[str, File]:
    """Measure the effect of each block in each series, and return the files by series.

    The series, by name, are on the high-resolution grid. Seeds in a series replace the regressors
    of `inputs`.
    """
    effects: dict[str, File] = {}
    for name, computed_series in series.items():
        with subworkflow(name, high_resolution=True):
            effects[name] = block_effects.measure_effects(
                computed_series, inputs, has_measured=MEASURED in series
            )
    return effects


def _add_comparisons_text(
    plan: RunPlan, effects: Mapping[str, File], *, has_known_activation: bool
) -> None:
    """Add methods text on references and self-tests."""
    has_measured = MEASURED in effects
    if not plan.can_split:
        add_methods_text(Part.EVALUATION, reference_comparisons.UNSPLIT_TEXT)
    elif has_measured:
        add_methods_text(
            Part.EVALUATION,
            reference_comparisons.describe_halves(plan.bold.factor, at_rest=plan.at_rest),
        )
    _add_self_test_text(plan)
    if effects and not has_measured and has_known_activation:
        add_methods_text(
            Part.EVALUATION, reference_comparisons.describe_known_activation(plan.bold.factor)
        )


def _add_self_test_text(plan: RunPlan) -> None:
    """Add methods text on self-tests at reduced resolution."""
    tested = [request for request in plan.stored_series if request.learned_from == "run"]
    if tested and all(request.is_control for request in tested):
        # other methods are described with their self-test
        add_methods_text(Part.EVALUATION, self_test_rows.SELF_TEST_TEXT)


@frozen
class _MethodTests:
    """Tests of the methods that do not require a reference.

    `self_test_rows` and `self_test_facts` are of the self-tests at reduced resolution.
    `coverage_tables` are tests of the confidence intervals at reduced resolution; empty if the run
    has a reference. `cards` are model cards of evaluated methods, by series.
    """

    self_test_rows: Rows
    self_test_facts: Facts
    coverage_tables: Sequence[Rows]
    cards: dict[str, Facts]


def _gather_method_tests(plan: RunPlan, series: RunSeries, maps: MappedRun) -> _MethodTests:
    """Gather the tests of the methods that do not require a reference."""
    rows, facts = self_test_rows.gather_self_tests(
        list(series.self_tests.values()),
        series_names=plan.stored_names,
        network_names=[request.name for request in plan.stored_series if request.uses_network],
        voxel=plan.bold.zooms,
        factor=plan.bold.factor,
    )
    cards = {
        name: computed_series.card_file
        for name, computed_series in series.high_resolution.items()
        if computed_series.card_file is not None and _is_evaluated(computed_series)
    }
    return _MethodTests(
        self_test_rows=rows,
        self_test_facts=facts,
        coverage_tables=_list_present(mapped.coverage_rows for mapped in maps.series.values()),
        cards=cards,
    )


def _is_evaluated(computed_series: ComputedSeries) -> bool:
    """Return whether a series is from an evaluated method, rather than a baseline."""
    request = computed_series.request
    return request is not None and request.is_evaluated


def _compare_masks(run: ModeledRun, series: RunSeries) -> Rows:
    """Compare the brain coverage of all series."""
    return mask_comparison.compare_masks(
        run.model.preproc,
        {
            name: computed_series.series
            for name, computed_series in series.mapped.items()
            if name != ACQUIRED
        },
        run.fitted.bold_mask_hr,
        n_dummy=run.fitted.n_dummy,
    )


def check_quality(run: ModeledRun) -> list[Rows]:
    """Measure the quality of the acquired run: its distortion relative to the pair, if any."""
    fitted_run = run.fitted
    tables: list[Rows] = []
    if fitted_run.guide_hr is not None:
        tables.append(
            edge_comparison.compare_edges(
                fitted_run.boldref,
                fitted_run.guide_hr,
                fitted_run.bold_mask_hr,
                phase_encoding=run.plan.phase_encoding,
                guided_names=[
                    request.name for request in run.plan.stored_series if request.uses_guide
                ],
            )
        )
        add_methods_text(Part.EVALUATION, edge_comparison.EDGE_COMPARISON_TEXT)
    return tables


def _evaluate_early(
    run: ModeledRun,
    series: RunSeries,
    maps: MappedRun,
    effects: Mapping[str, File],
    comparison: EffectsComparison,
    tables: _MetricTables,
    raise_flags: Callable[[_MetricTables, list[Map]], tuple[Flags, Rows]],
    *,
    known: Mapping[str, Image],
) -> FirstVerdict | None:
    """Evaluate methods without networks before networks are trained.

    The page begins with this verdict. Its answers do not change when the networks are evaluated,
    so it also needs the maps of these methods: a method that lost the acquired activation has no
    answers. The result is None if all methods or no methods use networks, or if the run has a
    measured series and cannot be split into halves.

    `tables` are those of all series, and `raise_flags` raises the flags of tables and maps.
    `known`: known activation by contrast; empty if the linear
    model is not mapped.
    """
    plan = run.plan
    early_requests = [request for request in plan.stored_series if not request.uses_network]
    methods = list_methods(early_requests)
    series_names = [request.name for request in early_requests]
    has_measured = MEASURED in series.high_resolution
    if not methods or len(methods) == len(plan.methods) or (has_measured and not effects):
        return None
    compared_names = [*series_names, *([MEASURED] if has_measured else [])]
    early_effects = {name: effects[name] for name in compared_names} if effects else {}
    judged_maps = [maps.series[name] for name in (ACQUIRED, *methods)]
    cards = tables.method_tests.cards
    with subworkflow(FIRST_VERDICT, stored=False, described=False):
        reference_tables = compare_with_references(
            {},
            early_effects,
            comparison,
            acquired_maps=maps.series[ACQUIRED].maps,
            maps=concatenate(
                maps.series[name].maps
                for name in (ACQUIRED, *compared_names)
                if name in maps.series
            ),
            known=known,
            at_rest=plan.at_rest,
        )
        early_tables = replace(
            tables,
            models=(),
            masks=(),
            maps=[mapped_series.results.map_metrics for mapped_series in judged_maps],
            references=reference_tables,
        )
        flags, activation_rows = raise_flags(
            early_tables, concatenate(mapped_series.maps for mapped_series in judged_maps)
        )
        verdict, _, evidence = run_verdict.decide_verdict(
            early_tables.list_for_verdict(activation_rows),
            tables.method_tests.self_test_facts,
            run.model.confounds,
            flags=flags,
            card_file={name: cards[name] for name in methods if name in cards},
            method_names=methods,
            series_names=series_names,
            margin=plan.margin,
        )
    return FirstVerdict(verdict=verdict, evidence=evidence)


def compare_with_references(
    series: Mapping[str, ComputedSeries],
    effects: Mapping[str, File],
    comparison: EffectsComparison,
    *,
    acquired_maps: list[Map],
    maps: list[Map] | None,
    known: Mapping[str, Image],
    at_rest: bool,
    n_dummy: int = 0,
) -> list[Rows]:
    """Compare effects, maps and volumes of a run with all of its references.

    With a measured series, effects in one half of the task blocks are compared with the measured
    effects in the other half, and maps and volumes with the maps and volumes of the measured
    series. Maps are also compared with known activation.

    The series, by name, are on the high-resolution grid, and their volumes are compared. `effects`
    are files of their block effects by series. `acquired_maps` are of the acquired series, and
    `maps` of all series; None if the linear model is not mapped. `known` is known activation by
    contrast. `at_rest` states whether time series of seeds replace events. The first `n_dummy`
    volumes are discarded. Returns tables of metrics; empty if there is no reference.
    """
    tables = []
    if MEASURED in effects:
        tables.append(
            reference_comparisons.compare_halves(dict(effects), comparison, acquired_maps)
        )
    if (MEASURED in series or known) and maps is not None:
        tables.append(
            reference_comparisons.compare_with_truth(
                maps,
                comparison,
                effects=dict(effects) or None,
                truth_maps=dict(known),
                at_rest=at_rest,
            )
        )
    if MEASURED in series:
        images = {
            name: computed_series.series
            for name, computed_series in series.items()
            if name != MEASURED
        }
        tables.append(
            reference_comparisons.compare_images(
                {**images, MEASURED: series[MEASURED].series},
                comparison.bold_mask_hr,
                n_dummy=n_dummy,
                random_seed=comparison.random_seed,
                n_boot=comparison.n_boot,
            )
        )
    return tables


def _list_present(values: Iterable[_T | None]) -> list[_T]:
    """Return the values that are not None."""
    return [value for value in values if value is not None]
