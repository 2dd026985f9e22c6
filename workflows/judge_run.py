"""Evaluation of a run: whether its finer maps are true, and a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.model_confounds import MOTION
from bids_sr.io.grids import Factor
from bids_sr.pipeline.artifacts import Effects, Facts, File, Image, Map, Mask, Rows, Verdict
from bids_sr.pipeline.flow import image_in, joined, say, subworkflow
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import Part
from bids_sr.series import ACQUIRED_BAND, MEASURED, RAW
from bids_sr.steps import (
    another_run,
    compared_series,
    evaluation,
    judgment,
    quality,
    super_resolution,
)
from bids_sr.workflows.fit_run import FittedRun
from bids_sr.workflows.make_series import MadeSeries, RunSeries
from bids_sr.workflows.map_run import LinearModel, MappedRun, linear_model, mapped_series
from bids_sr.workflows.pair import RegisteredPair
from bids_sr.workflows.run_plan import RunPlan
from bids_sr.workflows.wanted import methods_of

FIRST_VERDICT = "first_verdict"
"""Part of the workflow of a run that judges before networks are trained."""


@frozen
class SeriesComparison:
    """How series on the high-resolution grid of a run are compared.

    Parameters
    ----------
    bold_mask_hr : Mask
        Brain.
    roi_hr : Mask
        Region of interest.
    contrasts : Contrasts
        Weights of conditions, or of seeds, by contrast.
    factor : Factor
        Acquired over high-resolution voxel size by axis.
    at_rest : bool
        Whether time series of seeds replace events.
    random_seed : int
        Seed of the resamples.
    n_boot : int
        Resamples of blocks for intervals.
    """

    bold_mask_hr: Mask
    roi_hr: Mask
    contrasts: Contrasts
    factor: Factor
    at_rest: bool
    random_seed: int
    n_boot: int = evaluation.N_BOOT


@frozen
class SeriesEffects:
    """Effects of the blocks of a run in its series.

    Parameters
    ----------
    effects : dict[str, File]
        Files of the effects, by series.
    same_widths : Facts | None
        Smoothing that gives the acquired series the smoothness of compared ones; None if missing.
    """

    effects: dict[str, File]
    same_widths: Facts | None = None


@frozen
class Judgment:
    """Metrics of a run, flags, verdict and inputs of figures; None where not measured.

    `effects`: files of the effects of blocks by series; empty if the run has no halves.
    """

    evaluation: Rows
    verdict: Verdict
    flags: Facts
    one_level_down: Facts
    effects: Mapping[str, File] = field(default_factory=dict)
    halves_figures: File | None = None
    uncertainty_maps: Sequence[list[Map]] = ()


def judge_run(
    plan: RunPlan,
    fitted: FittedRun,
    series: RunSeries,
    maps: MappedRun,
    pair: RegisteredPair | None,
    outputs: Outputs,
) -> Judgment:
    """Measure whether the finer series of a run are true, look for what went wrong, and judge.

    Parameters
    ----------
    plan : RunPlan
        Plan of the run.
    fitted : FittedRun
        Its motion and registration.
    series : RunSeries
        Its series.
    maps : MappedRun
        Their maps.
    pair : RegisteredPair | None
        The T2*-weighted pair of the run; None if missing.
    outputs : Outputs
        Where tables are stored.

    Returns
    -------
    Judgment
        All metrics, flags and the verdict.
    """
    registered, settings = fitted.registration, plan.planned.settings
    comparison = SeriesComparison(
        bold_mask_hr=registered.bold_mask_hr,
        roi_hr=maps.roi_hr,
        contrasts=plan.contrasts,
        factor=plan.bold.factor,
        at_rest=plan.at_rest,
        random_seed=settings.resources.random_seed,
    )
    tables = [one.holdout for one in series.fine.values() if one.holdout is not None]
    tables += [
        one.precision_rows for one in series.fine.values() if one.precision_rows is not None
    ]
    n_before_errors = len(tables)
    errors = [one.error_rows for one in maps.mapped.values() if one.error_rows is not None]
    measured = halves_figures = None
    if plan.split:
        measured = measure_effects(
            series.fine,
            linear_model(plan, fitted, series),
            comparison,
            compared_names=plan.compared_names,
        )
        halves_figures = evaluation.gather_fine_effects(
            measured.effects,
            comparison.bold_mask_hr,
            comparison.roi_hr,
            contrasts=comparison.contrasts,
            factor=comparison.factor,
        )
        tables += compare_halves(measured, maps.maps, comparison)
    else:
        say(Part.EVALUATION, evaluation.UNSPLIT)
    _describe_controls(plan)
    activations = {} if plan.bold.truth is None else plan.bold.truth.activations
    known = {name: image_in(file) for name, file in activations.items()}
    with_models = "glm" in settings.activation.kinds
    tables += compare_with_truth(
        {one.name: one for one in mapped_series(series)[1:]},
        maps.maps,
        measured,
        comparison,
        known=known,
        n_dummy=fitted.n_dummy,
        with_models=with_models,
    )
    if measured is not None and series.other_effects is not None:
        tables += compare_with_other_run(
            measured, series.other_effects, comparison, compared_names=plan.compared_names
        )
    tested_shares, one_level_down = gather_tested(plan, series)
    tables.append(tested_shares)
    tables += check_quality(plan, fitted, series, measured)
    uncertainty_rows, uncertainty_maps = [], []
    if measured is not None:
        for name, members in ensembles(plan).items():
            with subworkflow(name, high_resolution=True):
                rows, spread = quality.measure_uncertainty(
                    measured.effects[name],
                    registered.bold_mask_hr,
                    {member: measured.effects[member] for member in members},
                    series_name=name,
                    contrasts=plan.contrasts,
                    axis_order=plan.bold.axis_order,
                )
                outputs.keep(spread)
            uncertainty_rows.append(rows)
            uncertainty_maps.append(spread)
    tables += uncertainty_rows
    cards = {
        name: one.card_file
        for name, one in series.fine.items()
        if one.card_file is not None and _tested_on_run(one)
    }
    _judge_first(
        plan,
        series,
        maps,
        measured,
        comparison,
        known=known if with_models else {},
        tested_shares=tested_shares,
        one_level_down=one_level_down,
        cards=cards,
    )
    flags, flag_rows = judgment.raise_flags(
        tables,
        maps.maps,
        registered.bold_mask,
        registered.roi_bold,
        train_highres=None if pair is None else pair.train_highres,
        train_lowres=None if pair is None else pair.train_lowres,
        pair_mask=None if pair is None else pair.pair_mask,
        card_file=cards,
        contrasts=plan.contrasts,
        factor=plan.bold.factor,
        method_names=plan.methods,
        at_rest=plan.at_rest,
    )
    judged = [*tables, flag_rows]
    verdict, verdict_rows = judgment.judge(
        judged,
        one_level_down,
        series.confounds,
        card_file=cards,
        compared_facts=[
            one.compared_facts for one in series.fine.values() if one.compared_facts is not None
        ],
        same_widths=None if measured is None else measured.same_widths,
        method_names=plan.methods,
        series_names=plan.stored_names,
        margin=settings.evaluation.margin,
        compared_names=plan.compared_names,
    )
    # the verdict does not wait for the errors of maps
    table, columns = evaluation.join_evaluation(
        [*judged[:n_before_errors], *errors, *judged[n_before_errors:]], verdict_rows
    )
    outputs.keep(
        table,
        {"desc": "evaluation", "suffix": "metrics"},
        facts=columns,
        provenance=True,
        level="minimal",
    )
    outputs.keep(
        verdict, {"desc": "verdict", "suffix": "metrics"}, provenance=True, level="minimal"
    )
    return Judgment(
        evaluation=table,
        verdict=verdict,
        flags=flags,
        one_level_down=one_level_down,
        effects={} if measured is None else measured.effects,
        halves_figures=halves_figures,
        uncertainty_maps=uncertainty_maps,
    )


def _judge_first(
    plan: RunPlan,
    series: RunSeries,
    maps: MappedRun,
    measured: SeriesEffects | None,
    comparison: SeriesComparison,
    *,
    known: Mapping[str, Image],
    tested_shares: Rows,
    one_level_down: Facts,
    cards: Mapping[str, Facts],
) -> None:
    """Judge methods that are trained on the run itself, if the run also has networks.

    This verdict is shown before networks have been trained and applied, and is not stored. A run
    with a measured series that is not split into halves has none.

    `known`: known activation by contrast, if there are maps of the linear model. `cards`: of the
    methods, by name.
    """
    early = [one for one in plan.stored if not one.network]
    methods, names = methods_of(early), [one.name for one in early]
    has_measured = MEASURED in series.fine
    if not methods or len(methods) == len(plan.methods) or (has_measured and measured is None):
        return
    compared = [*names, *([MEASURED] if has_measured else [])]
    early_maps = joined(maps.mapped[name].maps for name in (RAW, *compared))
    effects = None
    if measured is not None:
        early_effects = {name: measured.effects[name] for name in compared}
        effects = replace(measured, effects=early_effects)
    with subworkflow(FIRST_VERDICT, stored=False, described=False):
        rows = [tested_shares]
        if effects is not None:
            rows += compare_halves(effects, early_maps, comparison)
        if known:
            rows += compare_with_truth(
                {},
                early_maps,
                effects,
                comparison,
                known=known,
                n_dummy=0,
                with_models=True,
            )
        judgment.judge(
            rows,
            one_level_down,
            series.confounds,
            card_file={name: cards[name] for name in methods if name in cards},
            same_widths=None if effects is None else effects.same_widths,
            method_names=methods,
            series_names=names,
            margin=plan.planned.settings.evaluation.margin,
        )


def measure_effects(
    series: Mapping[str, MadeSeries],
    model: LinearModel,
    comparison: SeriesComparison,
    *,
    compared_names: Sequence[str] = (),
    effect_confounds: Sequence[str] = MOTION,
) -> SeriesEffects:
    """Measure the effects of every block in every series.

    Parameters
    ----------
    series : Mapping[str, MadeSeries]
        Series on the high-resolution grid, by their names.
    model : LinearModel
        Linear model; seeds of a series of its own replace the seeds of the run.
    comparison : SeriesComparison
        How they are compared.
    compared_names : Sequence[str], optional
        Series of other programs among them, for which the acquired one is smoothed.
    effect_confounds : Sequence[str], optional
        Columns of the confounds in the model of the blocks; by default, head motion and its
        derivatives.

    Returns
    -------
    SeriesEffects
        Effects of all series.
    """
    effects: dict[str, File] = {}
    for name, made in series.items():
        with subworkflow(name, high_resolution=True):
            effects[name] = evaluation.measure_effects(
                made.series,
                made.mask,
                model.regressors if made.regressors is None else made.regressors,
                confounds=model.confounds,
                series_name=name,
                tr=model.tr,
                n_dummy=model.n_dummy,
                high_pass=model.high_pass,
                start_time=model.start_time,
                has_measured=MEASURED in series,
                effect_confounds=effect_confounds,
            )
    same_widths = None
    if compared_names:
        names = [*compared_names, ACQUIRED_BAND]
        same_widths = compared_series.match_resolution(
            {name: series[name].series for name in names},
            {name: effects[name] for name in names},
            comparison.bold_mask_hr,
            factor=comparison.factor,
            n_dummy=model.n_dummy,
            compared_names=compared_names,
        )
    return SeriesEffects(effects=effects, same_widths=same_widths)


def compare_halves(
    measured: SeriesEffects, maps: list[Map], comparison: SeriesComparison
) -> list[Rows]:
    """Compare effects in half of the blocks with measured effects in the other half.

    `maps`: maps of all series. Returns nothing for a run without a measured series.
    """
    if MEASURED not in measured.effects:
        return []
    split_half = evaluation.compare_halves(
        measured.effects,
        comparison.bold_mask_hr,
        comparison.roi_hr,
        maps,
        measured.same_widths,
        contrasts=comparison.contrasts,
        factor=comparison.factor,
        random_seed=comparison.random_seed,
        n_boot=comparison.n_boot,
    )
    say(
        Part.EVALUATION,
        evaluation.describe_halves(comparison.factor, at_rest=comparison.at_rest),
    )
    return [split_half]


def compare_with_truth(
    series: Mapping[str, MadeSeries],
    maps: list[Map],
    measured: SeriesEffects | None,
    comparison: SeriesComparison,
    *,
    known: Mapping[str, Image],
    n_dummy: int,
    with_models: bool,
) -> list[Rows]:
    """Compare maps and volumes with measured ones, and maps with known activation.

    Parameters
    ----------
    series : Mapping[str, MadeSeries]
        Mapped series on the high-resolution grid, by their names.
    maps : list[Map]
        Maps of all series.
    measured : SeriesEffects | None
        Effects of the blocks; None for a run with too few.
    comparison : SeriesComparison
        How they are compared.
    known : Mapping[str, Image]
        Known activation by contrast.
    n_dummy : int
        Volumes at the start that are left out.
    with_models : bool
        Whether there are maps of the linear model.

    Returns
    -------
    list[Rows]
        Tables of metrics; none without any truth.
    """
    tables = []
    if (MEASURED in series or known) and with_models:
        tables.append(
            evaluation.compare_with_truth(
                maps,
                comparison.bold_mask_hr,
                comparison.roi_hr,
                effects=None if measured is None else measured.effects,
                truth_maps=dict(known),
                same_widths=None if measured is None else measured.same_widths,
                contrasts=comparison.contrasts,
                factor=comparison.factor,
                at_rest=comparison.at_rest,
                random_seed=comparison.random_seed,
                n_boot=comparison.n_boot,
            )
        )
        if measured is not None and MEASURED not in series:
            say(Part.EVALUATION, evaluation.describe_known_activation(comparison.factor))
    if MEASURED in series:
        others = {name: one.series for name, one in series.items() if name != MEASURED}
        tables.append(
            evaluation.compare_images(
                {**others, MEASURED: series[MEASURED].series},
                comparison.bold_mask_hr,
                n_dummy=n_dummy,
                random_seed=comparison.random_seed,
                n_boot=comparison.n_boot,
            )
        )
    return tables


def compare_with_other_run(
    measured: SeriesEffects,
    other_effects: Effects,
    comparison: SeriesComparison,
    *,
    compared_names: Sequence[str],
) -> list[Rows]:
    """Compare series of other programs, and the acquired one, with another run of the task.

    `other_effects`: effects of its blocks. `compared_names`: series of other programs.
    """
    assert measured.same_widths is not None
    return [
        another_run.compare_with_other_run(
            {name: measured.effects[name] for name in [*compared_names, ACQUIRED_BAND]},
            other_effects,
            comparison.bold_mask_hr,
            comparison.roi_hr,
            measured.same_widths,
            contrasts=comparison.contrasts,
            factor=comparison.factor,
            random_seed=comparison.random_seed,
            n_boot=comparison.n_boot,
        )
    ]


def gather_tested(plan: RunPlan, series: RunSeries) -> tuple[Rows, Facts]:
    """Gather tests one level of resolution down, without members of ensembles."""
    unstored = {one.name for one in plan.wanted if not one.stored}
    return evaluation.gather_tested(
        [facts for name, facts in series.tested.items() if name not in unstored],
        series_names=plan.stored_names,
        network_names=[one.name for one in plan.stored if one.network],
        voxel=plan.bold.zooms,
        factor=plan.bold.factor,
    )


def check_quality(
    plan: RunPlan, fitted: FittedRun, series: RunSeries, measured: SeriesEffects | None
) -> list[Rows]:
    """Compare masks of all series, measure distortion, and check the domain of networks.

    Distortion is measured against the pair; the domain check tells whether networks know such
    images. `measured`: effects of the blocks; None for a run with too few.
    """
    registered = fitted.registration
    tables = []
    if measured is not None:
        tables.append(
            quality.compare_masks(
                series.raw.series,
                measured.effects,
                registered.bold_mask_hr,
                n_dummy=fitted.n_dummy,
            )
        )
        say(Part.EVALUATION, quality.COMPARED_MASKS)
    if registered.guide_hr is not None:
        tables.append(
            quality.compare_edges(
                fitted.motion.boldref,
                registered.guide_hr,
                registered.bold_mask_hr,
                phase_encoding=plan.phase_encoding,
                guided_names=[one.name for one in plan.stored if one.guided],
            )
        )
        say(Part.EVALUATION, quality.COMPARED_EDGES)
    networks = [one.name for one in plan.stored if one.network]
    for name in (each for each in plan.methods if each in networks):
        model_file = series.fine[name].model_file
        assert model_file is not None
        with subworkflow(name, high_resolution=True):
            tables.append(
                quality.check_domain(
                    model_file,
                    fitted.motion.boldref,
                    registered.bold_mask,
                    series_name=name,
                )
            )
    return tables


def ensembles(plan: RunPlan) -> dict[str, list[str]]:
    """Further members of the ensemble of each method that has one."""
    members = {
        name: [one.name for one in plan.wanted if one.seed and one.source == name]
        for name in plan.methods
    }
    return {name: others for name, others in members.items() if others}


def _tested_on_run(made: MadeSeries) -> bool:
    """Whether a series is a method under judgment that may not be applied to its run."""
    wanted = made.wanted
    return wanted is not None and wanted.stored and wanted.judged and wanted.learned_from == "run"


def _describe_controls(plan: RunPlan) -> None:
    """Add methods text on ensembles, placebos and tests one level of resolution down."""
    members = ensembles(plan)
    if plan.split and members:
        say(
            Part.EVALUATION,
            quality.describe_uncertainty(list(members), 1 + max(map(len, members.values()))),
        )
    placebos = [one.name for one in plan.wanted if one.placebo]
    say(Part.EVALUATION, super_resolution.placebos_text(placebos))
    if any(one.learned_from == "run" for one in plan.wanted):
        say(Part.EVALUATION, evaluation.ONE_LEVEL_DOWN)
