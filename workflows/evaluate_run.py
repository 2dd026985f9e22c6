"""Evaluation of the high-resolution series and maps of a run, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from bids_sr import compared_series
from bids_sr.frozen import frozen
from bids_sr.glm.model_confounds import MOTION
from bids_sr.pipeline.artifacts import Effects, Facts, File, Image, Map, Rows, Verdict
from bids_sr.pipeline.flow import add_methods_text, concatenate, read_image, subworkflow
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import Part
from bids_sr.series import ACQUIRED_BAND, MEASURED, RAW
from bids_sr.steps import (
    another_run,
    block_effects,
    evaluation,
    run_verdict,
    self_test,
    series_description,
)
from bids_sr.steps.evaluation import EffectsComparison
from bids_sr.steps.linear_models import DesignInputs
from bids_sr.steps.quality import (
    edge_comparison,
    ensemble_uncertainty,
    mask_comparison,
    training_domain,
)
from bids_sr.workflows.fit_run import FittedRun
from bids_sr.workflows.make_series import RunSeries
from bids_sr.workflows.map_run import MappedRun, list_mapped_series
from bids_sr.workflows.pair import RegisteredPair
from bids_sr.workflows.run_plan import RunPlan
from bids_sr.workflows.series_requests import ComputedSeries, list_methods

FIRST_VERDICT = "first_verdict"
"""Name of the subworkflow that evaluates methods without networks before networks are trained."""


@frozen
class SeriesEffects:
    """Block effects of a run in each of its series.

    Parameters
    ----------
    effects : dict[str, File]
        Files of the block effects, by series.
    same_widths : Facts | None
        Smoothing that matches the smoothness of the acquired series to compared series; None if
        there are no compared series.
    """

    effects: dict[str, File]
    same_widths: Facts | None = None


@frozen
class RunEvaluation:
    """Metrics of a run, flags, verdict and inputs of figures.

    `effects`: files of block effects, by series; empty if the run cannot be split into halves.
    `halves_figures`: None if the run cannot be split into halves.
    """

    evaluation: Rows
    verdict: Verdict
    flags: Facts
    self_test: Facts
    effects: Mapping[str, File] = field(default_factory=dict)
    halves_figures: File | None = None
    uncertainty_maps: Sequence[list[Map]] = ()


def evaluate_run(
    plan: RunPlan,
    fitted: FittedRun,
    series: RunSeries,
    maps: MappedRun,
    pair: RegisteredPair | None,
    outputs: Outputs,
) -> RunEvaluation:
    """Evaluate the high-resolution series of a run, raise flags, and reach a verdict.

    Parameters
    ----------
    plan : RunPlan
        Plan of the run.
    fitted : FittedRun
        Motion and registration of the run.
    series : RunSeries
        Series of the run.
    maps : MappedRun
        Maps of the series.
    pair : RegisteredPair | None
        T2*-weighted pair of the run; None if missing.
    outputs : Outputs
        Storage of tables and maps.

    Returns
    -------
    RunEvaluation
        All metrics, flags and the verdict.
    """
    registered, settings = fitted.registration, plan.planned.settings
    comparison = EffectsComparison(
        bold_mask_hr=registered.bold_mask_hr,
        roi_hr=maps.roi_hr,
        contrasts=plan.contrasts,
        factor=plan.bold.factor,
        random_seed=settings.resources.random_seed,
    )
    tables = [
        made_series.holdout
        for made_series in series.high_resolution.values()
        if made_series.holdout is not None
    ]
    tables += [
        made_series.precision_rows
        for made_series in series.high_resolution.values()
        if made_series.precision_rows is not None
    ]
    n_before_errors = len(tables)
    errors = [
        mapped.error_rows for mapped in maps.mapped.values() if mapped.error_rows is not None
    ]
    measured = halves_figures = None
    if plan.split:
        measured = measure_all_effects(series.high_resolution, series.model.inputs, comparison)
        halves_figures = evaluation.gather_fine_effects(
            measured.effects,
            comparison.bold_mask_hr,
            comparison.roi_hr,
            contrasts=comparison.contrasts,
            factor=comparison.factor,
        )
    activations = {} if plan.bold.truth is None else plan.bold.truth.activations
    known_activation = {name: read_image(file) for name, file in activations.items()}
    with_models = "glm" in settings.activation.kinds
    mapped_series = list_mapped_series(series)[1:]
    tables += compare_with_references(
        {made_series.name: made_series for made_series in mapped_series},
        measured,
        comparison,
        acquired_maps=maps.mapped[RAW].maps,
        maps=maps.maps if with_models else None,
        known=known_activation,
        other_effects=series.other_effects,
        at_rest=plan.at_rest,
        n_dummy=fitted.n_dummy,
    )
    _describe_comparisons(
        plan, measured, has_known_activation=with_models and bool(known_activation)
    )
    tested_shares, one_level_down = evaluate_self_test(plan, series)
    tables.append(tested_shares)
    tables += check_quality(plan, fitted, series, measured)
    uncertainty_rows, uncertainty_maps = [], []
    if measured is not None:
        for name, members in list_ensemble_members(plan).items():
            with subworkflow(name, high_resolution=True):
                rows, spread = ensemble_uncertainty.measure_uncertainty(
                    measured.effects[name],
                    registered.bold_mask_hr,
                    {member: measured.effects[member] for member in members},
                    series_name=name,
                    contrasts=plan.contrasts,
                    axis_order=plan.bold.axis_order,
                )
                outputs.store(spread)
            uncertainty_rows.append(rows)
            uncertainty_maps.append(spread)
    tables += uncertainty_rows
    cards = {
        name: made_series.card_file
        for name, made_series in series.high_resolution.items()
        if made_series.card_file is not None and _is_tested_on_run(made_series)
    }
    # With a reference, the verdict does not need the tests at half the resolution, so that it does
    # not wait for them.
    tested_detail = [
        mapped.coverage_rows
        for mapped in maps.mapped.values()
        if mapped.coverage_rows is not None
        and MEASURED not in series.high_resolution
        and not known_activation
    ]
    _judge_first(
        plan,
        series,
        maps,
        measured,
        comparison,
        known=known_activation if with_models else {},
        tested_detail=tested_detail,
        tested_shares=tested_shares,
        one_level_down=one_level_down,
        cards=cards,
    )
    flags, flag_rows = run_verdict.raise_flags(
        tables,
        maps.maps,
        registered.bold_mask,
        registered.roi_bold,
        pair=pair,
        card_file=cards,
        contrasts=plan.contrasts,
        factor=plan.bold.factor,
        method_names=plan.methods,
        at_rest=plan.at_rest,
    )
    table_rows = [*tables, flag_rows]
    verdict, verdict_rows = run_verdict.decide_verdict(
        [*table_rows, *tested_detail],
        one_level_down,
        series.confounds,
        card_file=cards,
        compared_facts=gather_compared_facts(series.high_resolution),
        same_widths=None if measured is None else measured.same_widths,
        method_names=plan.methods,
        series_names=plan.stored_names,
        margin=settings.evaluation.margin,
        compared_names=plan.compared_names,
    )
    # The verdict does not depend on error maps and can therefore be computed before them.
    table, columns = evaluation.join_evaluation(
        [*table_rows[:n_before_errors], *errors, *table_rows[n_before_errors:]], verdict_rows
    )
    outputs.store(
        table,
        {"desc": "evaluation", "suffix": "metrics"},
        facts=columns,
        provenance=True,
        level="minimal",
    )
    outputs.store(
        verdict, {"desc": "verdict", "suffix": "metrics"}, provenance=True, level="minimal"
    )
    return RunEvaluation(
        evaluation=table,
        verdict=verdict,
        flags=flags,
        self_test=one_level_down,
        effects={} if measured is None else measured.effects,
        halves_figures=halves_figures,
        uncertainty_maps=uncertainty_maps,
    )


def _judge_first(
    plan: RunPlan,
    series: RunSeries,
    maps: MappedRun,
    measured: SeriesEffects | None,
    comparison: EffectsComparison,
    *,
    known: Mapping[str, Image],
    tested_detail: Sequence[Rows],
    tested_shares: Rows,
    one_level_down: Facts,
    cards: Mapping[str, Facts],
) -> None:
    """Evaluate methods without networks before networks are trained.

    The user sees this preliminary verdict while networks are trained; it is not stored. Nothing is
    evaluated if all methods or no methods use networks, or if the run has a measured series and
    cannot be split into halves.

    `known`: known activation by contrast; empty if the linear model is not mapped.
    `tested_detail`: tests at half the resolution; empty if the run has a reference. `cards`: model
    cards by name of the method.
    """
    early = [spec for spec in plan.stored if not spec.network]
    methods, names = list_methods(early), [spec.name for spec in early]
    has_measured = MEASURED in series.high_resolution
    if not methods or len(methods) == len(plan.methods) or (has_measured and measured is None):
        return
    compared = [*names, *([MEASURED] if has_measured else [])]
    effects = None
    if measured is not None:
        early_effects = {name: measured.effects[name] for name in compared}
        effects = replace(measured, effects=early_effects)
    with subworkflow(FIRST_VERDICT, stored=False, described=False):
        rows = compare_with_references(
            {},
            effects,
            comparison,
            acquired_maps=maps.mapped[RAW].maps,
            maps=concatenate(maps.mapped[name].maps for name in (RAW, *compared)),
            known=known,
            at_rest=plan.at_rest,
        )
        run_verdict.decide_verdict(
            [tested_shares, *tested_detail, *rows],
            one_level_down,
            series.confounds,
            card_file={name: cards[name] for name in methods if name in cards},
            same_widths=None if effects is None else effects.same_widths,
            method_names=methods,
            series_names=names,
            margin=plan.planned.settings.evaluation.margin,
        )


def measure_all_effects(
    series: Mapping[str, ComputedSeries],
    inputs: DesignInputs,
    comparison: EffectsComparison,
    *,
    effect_confounds: Sequence[str] = MOTION,
) -> SeriesEffects:
    """Measure the effect of each block in each series.

    Parameters
    ----------
    series : Mapping[str, ComputedSeries]
        Series on the high-resolution grid, by name. The zero-filled series is smoothed to match
        series of other programs.
    inputs : DesignInputs
        Regressors, confounds and options of the design. Seeds in a series replace the regressors.
    comparison : EffectsComparison
        Settings of the comparison.
    effect_confounds : Sequence[str], optional
        Columns of the confounds in the model of the blocks; by default, head motion and its
        derivatives.

    Returns
    -------
    SeriesEffects
        Block effects of all series.
    """
    effects: dict[str, File] = {}
    for name, made_series in series.items():
        with subworkflow(name, high_resolution=True):
            effects[name] = block_effects.measure_effects(
                made_series.series,
                made_series.mask,
                inputs,
                own_regressors=made_series.own_regressors,
                series_name=name,
                has_measured=MEASURED in series,
                effect_confounds=effect_confounds,
            )
    same_widths = None
    if compared_names := list_compared(series):
        names = [*compared_names, ACQUIRED_BAND]
        same_widths = compared_series.match_resolution(
            {name: series[name].series for name in names},
            {name: effects[name] for name in names},
            comparison.bold_mask_hr,
            factor=comparison.factor,
            n_dummy=inputs.n_dummy,
            compared_names=compared_names,
        )
    return SeriesEffects(effects=effects, same_widths=same_widths)


def list_compared(series: Mapping[str, ComputedSeries]) -> list[str]:
    """Return the names of the series of other programs."""
    return [name for name, made_series in series.items() if made_series.compared_facts is not None]


def gather_compared_facts(series: Mapping[str, ComputedSeries]) -> list[Facts]:
    """Return the alignment of each series of another program to the run."""
    return [
        made_series.compared_facts
        for made_series in series.values()
        if made_series.compared_facts is not None
    ]


def compare_with_references(
    series: Mapping[str, ComputedSeries],
    measured: SeriesEffects | None,
    comparison: EffectsComparison,
    *,
    acquired_maps: list[Map],
    maps: list[Map] | None,
    known: Mapping[str, Image],
    other_effects: Effects | None = None,
    at_rest: bool,
    n_dummy: int = 0,
) -> list[Rows]:
    """Compare effects, maps and volumes of a run with all of its references.

    With a measured series, effects in one half of the task blocks are compared with the measured
    effects in the other half, and maps and volumes with the maps and volumes of the measured
    series. Maps are also compared with known activation, and series of other programs with another
    run of the task.

    Parameters
    ----------
    series : Mapping[str, ComputedSeries]
        Series on the high-resolution grid whose volumes are compared, by name.
    measured : SeriesEffects | None
        Block effects; None if the run has too few blocks.
    comparison : EffectsComparison
        Settings of the comparison.
    acquired_maps, maps : list[Map], list[Map] | None
        Maps of the acquired series, and maps of all series; None if the linear model is not
        mapped.
    known : Mapping[str, Image]
        Known activation by contrast.
    other_effects : Effects | None
        Block effects of another run of the task; None if there is none.
    at_rest : bool
        Whether time series of seeds replace events.
    n_dummy : int
        Number of volumes at the start that are discarded.

    Returns
    -------
    list[Rows]
        Tables of metrics; empty if there is no reference.
    """
    tables = []
    effects = None if measured is None else measured.effects
    same_widths = None if measured is None else measured.same_widths
    if effects is not None and MEASURED in effects:
        tables.append(evaluation.compare_halves(effects, comparison, acquired_maps, same_widths))
    if (MEASURED in series or known) and maps is not None:
        tables.append(
            evaluation.compare_with_truth(
                maps,
                comparison,
                effects=effects,
                truth_maps=dict(known),
                same_widths=same_widths,
                at_rest=at_rest,
            )
        )
    if MEASURED in series:
        images = {
            name: made_series.series for name, made_series in series.items() if name != MEASURED
        }
        tables.append(
            evaluation.compare_images(
                {**images, MEASURED: series[MEASURED].series},
                comparison.bold_mask_hr,
                n_dummy=n_dummy,
                random_seed=comparison.random_seed,
                n_boot=comparison.n_boot,
            )
        )
    if effects is not None and other_effects is not None:
        assert same_widths is not None
        names = [*list_compared(series), ACQUIRED_BAND]
        tables.append(
            another_run.compare_with_other_run(
                {name: effects[name] for name in names}, other_effects, comparison, same_widths
            )
        )
    return tables


def evaluate_self_test(plan: RunPlan, series: RunSeries) -> tuple[Rows, Facts]:
    """Gather the results of the self-tests at reduced resolution.

    Tests of further ensemble members are omitted.
    """
    unstored = {spec.name for spec in plan.requested_series if not spec.stored}
    return self_test.gather_tested(
        [facts for name, facts in series.self_tests.items() if name not in unstored],
        series_names=plan.stored_names,
        network_names=[spec.name for spec in plan.stored if spec.network],
        voxel=plan.bold.zooms,
        factor=plan.bold.factor,
    )


def check_quality(
    plan: RunPlan, fitted: FittedRun, series: RunSeries, measured: SeriesEffects | None
) -> list[Rows]:
    """Compare brain coverage of series, measure distortion, and check intensities for networks.

    Distortion is measured relative to the pair. Intensities are compared with the training data of
    each network.

    `measured`: block effects; None if the run has too few blocks.
    """
    registered = fitted.registration
    tables = []
    if measured is not None:
        tables.append(
            mask_comparison.compare_masks(
                series.raw.series,
                measured.effects,
                registered.bold_mask_hr,
                n_dummy=fitted.n_dummy,
            )
        )
        add_methods_text(Part.EVALUATION, mask_comparison.MASK_COMPARISON_TEXT)
    if registered.guide_hr is not None:
        tables.append(
            edge_comparison.compare_edges(
                fitted.motion.boldref,
                registered.guide_hr,
                registered.bold_mask_hr,
                phase_encoding=plan.phase_encoding,
                guided_names=[spec.name for spec in plan.stored if spec.guided],
            )
        )
        add_methods_text(Part.EVALUATION, edge_comparison.EDGE_COMPARISON_TEXT)
    networks = [spec.name for spec in plan.stored if spec.network]
    for name in (method for method in plan.methods if method in networks):
        model_file = series.high_resolution[name].model_file
        assert model_file is not None
        with subworkflow(name, high_resolution=True):
            tables.append(
                training_domain.check_domain(
                    model_file,
                    fitted.motion.boldref,
                    registered.bold_mask,
                    series_name=name,
                )
            )
    return tables


def list_ensemble_members(plan: RunPlan) -> dict[str, list[str]]:
    """Return the names of further ensemble members for each method with an ensemble."""
    members = {
        name: [spec.name for spec in plan.requested_series if spec.seed and spec.source == name]
        for name in plan.methods
    }
    return {
        name: members_of_series for name, members_of_series in members.items() if members_of_series
    }


def _is_tested_on_run(made_series: ComputedSeries) -> bool:
    """Return whether a series is from an evaluated method with a self-test on the run."""
    spec = made_series.request
    return spec is not None and spec.stored and spec.judged and spec.learned_from == "run"


def _describe_comparisons(
    plan: RunPlan, measured: SeriesEffects | None, *, has_known_activation: bool
) -> None:
    """Add methods text on references, ensembles, negative controls and self-tests.

    `measured`: block effects; None if the run has too few blocks.
    """
    has_measured = measured is not None and MEASURED in measured.effects
    if measured is None:
        add_methods_text(Part.EVALUATION, evaluation.UNSPLIT_TEXT)
    elif has_measured:
        add_methods_text(
            Part.EVALUATION, evaluation.describe_halves(plan.bold.factor, at_rest=plan.at_rest)
        )
    _describe_controls(plan)
    if measured is not None and not has_measured and has_known_activation:
        add_methods_text(Part.EVALUATION, evaluation.describe_known_activation(plan.bold.factor))


def _describe_controls(plan: RunPlan) -> None:
    """Add methods text on ensembles, negative controls and self-tests at reduced resolution."""
    members = list_ensemble_members(plan)
    if plan.split and members:
        add_methods_text(
            Part.EVALUATION,
            ensemble_uncertainty.describe_uncertainty(
                list(members), 1 + max(map(len, members.values()))
            ),
        )
    placebos = [spec.name for spec in plan.requested_series if spec.placebo]
    add_methods_text(Part.EVALUATION, series_description.describe_negative_controls(placebos))
    if any(spec.learned_from == "run" for spec in plan.requested_series):
        add_methods_text(Part.EVALUATION, self_test.SELF_TEST_TEXT)
