"""Acquired, interpolated, super-resolved, measured and compared series of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from bids_sr.bids import BoldRun
from bids_sr.config.levels import series_level
from bids_sr.frozen import frozen
from bids_sr.pipeline.artifacts import (
    Confounds,
    Effects,
    Facts,
    File,
    Rows,
    Series,
    SpaceGrid,
)
from bids_sr.pipeline.flow import add_methods_text, expect_cost, subworkflow
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import Part
from bids_sr.series import ACQUIRED_BAND, INTERPOLATIONS, MEASURED, RAW, SDMOD, series_names
from bids_sr.sr.device import Precision
from bids_sr.sr.inference.upsampler_inputs import Placebo
from bids_sr.sr.method import get_method
from bids_sr.sr.models.request import ModelSource, TrainingSettings
from bids_sr.steps import (
    outlier_volumes,
    resampled_series,
    seeds,
    series_description,
    super_resolution,
    t1w_pair,
    training,
    training_texts,
)
from bids_sr.steps.linear_models import DesignInputs, LinearModel
from bids_sr.steps.quality import network_precision
from bids_sr.steps.registration import TrainingPair
from bids_sr.steps.super_resolution import Guide, Inference, SuperResolvedSeries
from bids_sr.steps.training import ModelFiles, VarianceModel
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.compared_series import resample_all_compared
from bids_sr.workflows.confounds import prepare_confounds
from bids_sr.workflows.fit_run import (
    FittedRun,
    SeriesFile,
    correct_acquired,
    find_correction,
)
from bids_sr.workflows.other_run import measure_another_run
from bids_sr.workflows.pair import RegisteredPair, TrainedNetwork, store_model
from bids_sr.workflows.run_plan import RunPlan
from bids_sr.workflows.seeds import find_own_seeds, find_regressors
from bids_sr.workflows.series_requests import ComputedSeries, SeriesRequest
from bids_sr.workflows.spaces import make_output_grids, show_spaces


@frozen
class RunSeries:
    """All series of a run, with regressors and confounds.

    Parameters
    ----------
    raw : ComputedSeries
        Motion-corrected acquired series on the acquired grid.
    high_resolution : Mapping[str, ComputedSeries]
        Series on the high-resolution grid by name, in the order of computation: stored series, the
        measured series, series of other programs, and series that are only evaluated.
    self_tests : Mapping[str, Facts]
        Self-tests at reduced resolution by series, including the control method, which may not
        have a series.
    model : LinearModel
        Linear model of the run, with events, or time series of seeds or components.
    confounds : Confounds
        Confounds of the run, one row per volume.
    censoring : Facts
        Censored volumes; None if there is no temporal model.
    grids : Sequence[SpaceGrid]
        Grids in other spaces.
    other_effects : Effects | None
        Block effects of another run of the task, for the evaluation of compared series; None if
        either is missing.
    """

    raw: ComputedSeries
    high_resolution: Mapping[str, ComputedSeries]
    self_tests: Mapping[str, Facts]
    model: LinearModel
    confounds: Confounds
    censoring: Facts | None = None
    grids: Sequence[SpaceGrid] = ()
    other_effects: Effects | None = None


@frozen
class SeriesSources:
    """Inputs that all series of a run share.

    `raw`: motion-corrected acquired series; None if no variance maps are estimated. `guide`: None
    if there is no pair.
    """

    fitted: FittedRun
    raw: Series | None = None
    guide: Guide | None = None


@frozen
class PlannedSources(SeriesSources):
    """Inputs that all series of a planned run share, with its linear model."""

    plan: RunPlan
    model: LinearModel


def train_model(
    sources: SeriesSources,
    request: SeriesRequest,
    settings: TrainingSettings,
    pair: TrainingPair | None = None,
) -> ModelFiles:
    """Train the model of a series: variance maps, or a network on volumes of the run or on a pair.

    `pair`: training data of the network; None if the request does not name a pair.
    """
    fitted = sources.fitted
    if request.learned_from == "run":
        return train_on_run(sources, request, settings)
    if request.learned_from == "pair":
        assert pair is not None
        return training.train_on_pair(pair, training=settings, factor=fitted.factor)
    return training.train_on_volumes(
        fitted.stc,
        fitted.registration.bold_mask,
        n_dummy=fitted.n_dummy,
        training=settings,
        factor=fitted.factor,
    )


def train_on_run(
    sources: SeriesSources,
    request: SeriesRequest,
    settings: TrainingSettings,
    *,
    interpolations: Sequence[str] = (),
) -> VarianceModel:
    """Estimate the variance maps of a series from its run.

    `interpolations`: plain interpolations that are self-tested together with the series.
    """
    fitted = sources.fitted
    assert sources.raw is not None
    return training.estimate_variance(
        sources.raw,
        fitted.registration.bold_mask,
        fitted.motion.hmc_xfms,
        None if request.control else fitted.calibration,
        fitted.outliers,
        n_dummy=fitted.n_dummy,
        training=settings,
        factor=fitted.factor,
        interpolations=tuple(interpolations),
    )


def compute_series(
    sources: SeriesSources,
    request: SeriesRequest,
    model_file: File | None,
    zerofilled: Series | None = None,
    grids: Sequence[SpaceGrid] = (),
    *,
    inference: Inference,
) -> SuperResolvedSeries:
    """Compute a requested series from the acquired series of a run.

    Parameters
    ----------
    sources : SeriesSources
        Inputs that all series of the run share.
    request : SeriesRequest
        Requested series.
    model_file : File | None
        Weights or variance maps; None for a baseline.
    zerofilled : Series | None
        Zero-filled series that detail is added to; None to compute it.
    grids : Sequence[SpaceGrid]
        Further target grids in other spaces.
    inference : Inference
        Settings of the application.
    """
    return super_resolution.super_resolve(
        sources.fitted.aligned,
        model_file,
        zerofilled,
        sources.guide if request.guided else None,
        grids,
        series_name=request.source,
        factor=sources.fitted.factor,
        inference=inference,
    )


def make_series(
    plan: RunPlan,
    fitted: FittedRun,
    anat: Anatomy | None,
    pair: RegisteredPair | None,
    models: Mapping[str, TrainedNetwork],
    outputs: Outputs,
) -> RunSeries:
    """Compute all series of a run.

    Parameters
    ----------
    plan : RunPlan
        Plan of the run.
    fitted : FittedRun
        Motion and registration of the run.
    anat : Anatomy | None
        Anatomy of the participant; None if missing.
    pair : RegisteredPair | None
        T2*-weighted pair of the run; None if missing.
    models : Mapping[str, TrainedNetwork]
        Networks trained on the pair, by series.
    outputs : Outputs
        Storage of the derivatives of the run.

    Returns
    -------
    RunSeries
        Acquired, stored, measured and compared series, and series that are only evaluated.
    """
    grids = {} if anat is None else make_output_grids(plan, fitted, anat)
    raw = make_raw(plan, fitted, outputs)
    confounds = prepare_confounds(plan, fitted, raw.series, outputs)
    regressors = find_regressors(plan, fitted, anat, raw.series, confounds, outputs)
    model = LinearModel(
        inputs=DesignInputs(
            regressors=regressors,
            confounds=confounds.confounds,
            n_dummy=fitted.n_dummy,
            design=plan.design,
        ),
        contrasts=plan.contrasts,
        nuisance=plan.nuisance,
    )
    xfm = fitted.registration.highres2boldref_xfm
    sources = PlannedSources(
        plan=plan,
        fitted=fitted,
        raw=raw.series,
        guide=None
        if pair is None or xfm is None
        else Guide(highres_file=pair.highres_file, highres2boldref_xfm=xfm),
        model=model,
    )
    hr_series: dict[str, ComputedSeries] = {}
    tested: dict[str, Facts] = {}
    for spec in plan.stored:
        if spec.learned_from == "run" and spec.judged and SDMOD not in tested:
            # Self-tests are compared with this control method, even if its series is not computed.
            control = replace(spec, name=SDMOD, method=get_method(SDMOD))
            with subworkflow(SDMOD, high_resolution=True):
                tested[SDMOD] = find_variance(sources, control, tested, outputs).tested
        with subworkflow(spec.name, high_resolution=True):
            made_series = make_stored(
                sources,
                spec,
                models.get(spec.name),
                hr_series,
                tested,
                list(grids.values()) if spec.name == plan.primary else [],
                outputs,
            )
        hr_series[spec.name] = made_series
        if made_series.variance is not None:
            tested[spec.name] = made_series.variance.tested
    show_spaces(plan, fitted, hr_series[plan.primary].series, grids, outputs)
    truth = plan.bold.truth
    if truth is not None and truth.series is not None:
        with subworkflow(MEASURED, high_resolution=True):
            hr_series[MEASURED] = place_measured(plan, fitted, truth.series, outputs)
    hr_series |= resample_all_compared(plan, fitted)
    other_effects = measure_another_run(plan, fitted) if plan.bold.compared else None
    for spec in plan.requested_series:
        if not spec.stored:
            with subworkflow(spec.name, high_resolution=True, stored=False, described=False):
                hr_series[spec.name] = make_unstored(
                    sources, spec, models.get(spec.name), hr_series, anat
                )
    if plan.planned.settings.activation.seed_series == "own" and plan.seeds:
        add_methods_text(Part.MAPS, seeds.OWN_SEEDS_TEXT)

        def add_own_seeds(made_series: ComputedSeries) -> ComputedSeries:
            name = made_series.name
            stored = name in (RAW, MEASURED, *plan.stored_names)
            with subworkflow(name, high_resolution=name != RAW, stored=stored):
                own_regressors = find_own_seeds(
                    plan,
                    fitted,
                    anat,
                    name,
                    made_series.series,
                    made_series.mask,
                    confounds.confounds,
                    regressors,
                    outputs,
                )
            return replace(made_series, own_regressors=own_regressors)

        raw = add_own_seeds(raw)
        hr_series = {name: add_own_seeds(made_series) for name, made_series in hr_series.items()}
    return RunSeries(
        raw=raw,
        high_resolution=hr_series,
        self_tests=tested,
        model=model,
        confounds=confounds.confounds,
        censoring=confounds.censoring,
        grids=list(grids.values()),
        other_effects=other_effects,
    )


def make_raw(plan: RunPlan, fitted: FittedRun, outputs: Outputs) -> ComputedSeries:
    """Correct head motion of the acquired series on the acquired grid, and store the result."""
    preproc = resample_acquired(fitted)
    add_methods_text(
        Part.PREPROCESSING, series_description.describe_raw(fitted.distortion is not None)
    )
    outputs.store(
        preproc,
        {"desc": RAW, "suffix": "bold"},
        sidecar=_sidecar(plan, RAW),
        facts=fitted.outliers,
        level="minimal",
    )
    return ComputedSeries(name=RAW, series=preproc, mask=fitted.registration.bold_mask)


def resample_acquired(fitted: FittedRun) -> Series:
    """Correct head motion of the acquired series of a run."""
    return resampled_series.correct_motion(
        fitted.stc, fitted.motion.boldref, fitted.motion.hmc_xfms, fitted.distortion
    )


def _sidecar(plan: RunPlan, name: str, resolution: str = "") -> dict[str, object]:
    """Return the sidecar of a series of a run."""
    return series_description.series_sidecar(
        name,
        task_name=plan.task_name,
        tr=plan.bold.tr,
        start_time=plan.start_time,
        slice_timing_corrected=plan.corrects_slice_timing or plan.bold.is_corrected,
        input_smoothing=plan.planned.settings.preprocessing.input_smoothing,
        resolution=resolution,
    )


def make_stored(
    sources: PlannedSources,
    spec: SeriesRequest,
    model: TrainedNetwork | None,
    hr_series: Mapping[str, ComputedSeries],
    tested: Mapping[str, Facts],
    grids: Sequence[SpaceGrid],
    outputs: Outputs,
) -> ComputedSeries:
    """Compute and store a series; train its model first if necessary.

    Parameters
    ----------
    sources : PlannedSources
        Inputs that all series of the run share.
    spec : SeriesRequest
        Requested series.
    model : TrainedNetwork | None
        Network trained on the pair of the run; None if the series does not use such a network.
    hr_series : Mapping[str, ComputedSeries]
        Series that already exist.
    tested : Mapping[str, Facts]
        Self-tests at reduced resolution that already exist, by series.
    grids : Sequence[SpaceGrid]
        Further target grids in other spaces.
    outputs : Outputs
        Storage of the derivatives of the run.
    """
    plan, fitted = sources.plan, sources.fitted
    variance = trained = None
    files = None if model is None else model.files
    if spec.learned_from == "volumes":
        settings = plan.planned.make_training(spec)
        files = trained = train_model(sources, spec, settings)
        add_methods_text(
            Part.SERIES,
            training_texts.describe_planned(settings, "volumes"),
            output=trained.model_file,
            describe=partial(training_texts.describe_finished, settings, "volumes"),
        )
        store_model(trained, settings.method, outputs)
    elif spec.learned_from == "run":
        files = variance = find_variance(sources, spec, tested, outputs)
    inference = _inference(plan, spec)
    precision = precision_rows = None
    half_precision = plan.planned.settings.superres.precision == "bf16" or (
        plan.planned.settings.superres.precision == "auto"
        and plan.planned.settings.resources.device == "cuda"
    )
    if spec.network and half_precision and files is not None:
        precision, precision_rows = _guard_precision(sources, spec, files.model_file, inference)
        inference = replace(inference, precision=precision)
    resolved = compute_series(
        sources,
        spec,
        None if files is None else files.model_file,
        _make_zerofilled(plan, spec, hr_series),
        grids,
        inference=replace(
            inference, with_error_samples=spec.method is not None and spec.method.has_prior
        ),
    )
    _expect_cost(plan, spec.name, resolved)
    add_methods_text(Part.SERIES, series_description.describe_series(spec.name))
    _store_series(plan, spec.name, resolved, outputs)
    return ComputedSeries(
        name=spec.name,
        series=resolved.series,
        mask=fitted.registration.bold_mask_hr,
        request=spec,
        model_file=None if files is None else files.model_file,
        card_file=None if files is None else files.card_file,
        trained=trained,
        variance=variance,
        holdout=None if model is None else model.holdout,
        precision=precision,
        precision_rows=precision_rows,
        error_draws=resolved.error_draws,
        acquired_draws=resolved.acquired_draws,
    )


def find_variance(
    sources: PlannedSources, spec: SeriesRequest, tested: Mapping[str, Facts], outputs: Outputs
) -> VarianceModel:
    """Estimate the variance maps of a run.

    The maps are stored and described unless the method is a control. `tested`: existing self-tests
    by series; if empty, plain interpolations are also tested.
    """
    plan = sources.plan
    settings = plan.planned.make_training(spec)
    plain = [
        name for name in plan.stored_names if name in INTERPOLATIONS and name != ACQUIRED_BAND
    ]
    variance = train_on_run(sources, spec, settings, interpolations=() if tested else plain)
    if not spec.control:
        add_methods_text(
            Part.SERIES, training_texts.describe_variance(settings, calibrated=plan.calibrated)
        )
        store_model(variance, settings.method, outputs)
    return variance


def _inference(plan: RunPlan, spec: SeriesRequest) -> Inference:
    """Return the inference settings of a series.

    A series without a method is computed on one CPU thread.
    """
    superres, resources = plan.planned.settings.superres, plan.planned.settings.resources
    plain = spec.method is None
    return Inference(
        data_consistency=superres.data_consistency,
        precision=superres.precision,
        force=superres.force,
        omp_nthreads=1 if plain else resources.omp_nthreads or 1,
        device="cpu" if plain else resources.device,
        random_seed=resources.random_seed + spec.seed,
    )


def _guard_precision(
    sources: PlannedSources, spec: SeriesRequest, model_file: File, inference: Inference
) -> tuple[Precision, Rows]:
    """Choose the numerical precision of a network.

    Half precision is only used if it preserves the t values of the linear model.
    """
    plan, fitted = sources.plan, sources.fitted
    add_methods_text(Part.SERIES, network_precision.PRECISION_TEXT)
    return network_precision.guard_precision(
        fitted.stc,
        fitted.motion.boldref,
        fitted.registration.bold_mask,
        model_file,
        sources.model,
        series_name=spec.name,
        factor=plan.bold.factor,
        precision=inference.precision,
        device=inference.device,
        force=inference.force,
        omp_nthreads=inference.omp_nthreads,
    )


def _make_zerofilled(
    plan: RunPlan, spec: SeriesRequest, hr_series: Mapping[str, ComputedSeries]
) -> Series | None:
    """Return the zero-filled series that variance methods refine.

    None if the series uses no variance maps, if no zero-filled series exists, or if the slice
    direction is also super-resolved.
    """
    filled = hr_series.get(ACQUIRED_BAND)
    if spec.learned_from != "run" or filled is None or plan.bold.factor[2] != 1:
        return None
    return filled.series


def _expect_cost(plan: RunPlan, name: str, resolved: SuperResolvedSeries) -> None:
    """Set the expected processing time of a series.

    The expectation depends on the training recipe of its model.
    """
    superres = plan.planned.settings.superres
    expect_cost(
        resolved.series,
        super_resolution.cost_of_series(name, superres.recipe, superres.recipe_changes),
    )


def _store_series(
    plan: RunPlan, name: str, resolved: SuperResolvedSeries, outputs: Outputs
) -> None:
    """Store a series; the primary series is also exported as preprocessed BOLD data."""
    primary = name == plan.primary
    bold = plan.bold
    hr_series = series_description.describe_hr_resolution(name, bold.factor, bold.axis_order)
    outputs.store(
        resolved.series,
        {"res": "hr", "desc": name, "suffix": "bold"},
        sidecar=_sidecar(plan, name, hr_series),
        facts=resolved.series_facts,
        exported_as={"res": "", "desc": "preproc"} if primary and plan.in_func else None,
        level=series_level(name, _always_stored(plan)),
    )
    if primary and plan.elsewhere:
        outputs.store(
            resolved.space_series,
            sidecar=_sidecar(plan, name, series_description.describe_space_resolution(name)),
            facts=resolved.series_facts,
            exported_only=True,
        )


def _always_stored(plan: RunPlan) -> list[str]:
    """Return names of series that are stored at every storage level."""
    return [*series_names(plan.planned.settings.superres.methods), plan.primary]


def place_measured(
    plan: RunPlan, fitted: FittedRun, measured: BoldRun, outputs: Outputs
) -> ComputedSeries:
    """Resample the measured high-resolution reference series to the grid of the run."""
    corrects = "slicetiming" not in plan.planned.settings.preprocessing.ignore
    correction = replace(
        find_correction(plan), slice_times=measured.slice_timing if corrects else None
    )
    placed = resample_measured(
        fitted,
        SeriesFile(
            bold_file=measured.bold,
            tr=plan.bold.tr,
            axis_order=measured.axis_order,
            correction=correction,
        ),
    )
    add_methods_text(Part.SERIES, series_description.MEASURED_TEXT)
    hr_series = series_description.describe_hr_resolution(
        MEASURED, plan.bold.factor, plan.bold.axis_order
    )
    outputs.store(
        placed.series,
        {"res": "hr", "desc": MEASURED, "suffix": "bold"},
        sidecar=_sidecar(plan, MEASURED, hr_series),
        level=series_level(MEASURED, _always_stored(plan)),
    )
    return placed


def resample_measured(fitted: FittedRun, file: SeriesFile) -> ComputedSeries:
    """Resample a series measured at the high resolution to the grid of a run.

    The outlier volumes of the run are replaced. `file`: file of the series, with the repetition
    time of the run.
    """
    bold = file.import_series()
    if fitted.outliers is not None:
        bold = outlier_volumes.replace_same_volumes(bold, fitted.outliers, n_dummy=fitted.n_dummy)
    stc = correct_acquired(bold, fitted.n_dummy, file.correction)
    mask = fitted.registration.bold_mask_hr
    series = resampled_series.place_measured(stc, mask, fitted.motion.hmc_xfms, fitted.distortion)
    return ComputedSeries(name=MEASURED, series=series, mask=mask)


def make_unstored(
    sources: PlannedSources,
    spec: SeriesRequest,
    model: TrainedNetwork | None,
    hr_series: Mapping[str, ComputedSeries],
    anat: Anatomy | None,
) -> ComputedSeries:
    """Compute a negative control or further ensemble member, for the evaluation only.

    Parameters
    ----------
    sources : PlannedSources
        Inputs that all series of the run share.
    spec : SeriesRequest
        Requested series.
    model : TrainedNetwork | None
        Network trained on the pair of the run; None if the series does not use such a network.
    hr_series : Mapping[str, ComputedSeries]
        Series that already exist, including the series of the method.
    anat : Anatomy | None
        Anatomy of the participant; None if missing.
    """
    plan, fitted = sources.plan, sources.fitted
    source = hr_series[spec.source]
    inference = replace(_inference(plan, spec), data_consistency="off", force=True)
    if source.precision is not None:
        inference = replace(inference, precision=source.precision)
    model_file, card_file = source.model_file, source.card_file
    if spec.model is not None:
        model_file, card_file = spec.model, None
    elif (files := _make_unstored_model(sources, spec, model, anat)) is not None:
        model_file, card_file = files.model_file, files.card_file
        if model is not None and files is model.files:
            # The half-precision check was made for the network of the source series, not for the
            # network of this ensemble member.
            inference = replace(inference, precision=plan.planned.settings.superres.precision)
    placebo: Placebo = ""
    if spec.placebo == "Mirror":
        placebo = "mirror"
    elif spec.placebo == "Shift":
        placebo = "shift"
    resolved = compute_series(
        sources,
        spec,
        model_file,
        _make_zerofilled(plan, spec, hr_series),
        inference=replace(inference, placebo=placebo),
    )
    _expect_cost(plan, spec.source, resolved)
    return ComputedSeries(
        name=spec.name,
        series=resolved.series,
        mask=fitted.registration.bold_mask_hr,
        request=spec,
        model_file=model_file,
        card_file=card_file,
    )


def _make_unstored_model(
    sources: PlannedSources,
    spec: SeriesRequest,
    model: TrainedNetwork | None,
    anat: Anatomy | None,
) -> ModelFiles | None:
    """Return the model of a negative control or ensemble member; see `make_unstored`.

    None if the series is computed with the model of the method.
    """
    settings = sources.plan.planned.make_training(spec)
    if spec.placebo == "T1w":
        assert anat is not None, "a placebo of the T1w image needs one"
        return _train_on_t1w(sources, settings, anat)
    if not spec.seed:
        return None
    if spec.learned_from == "run":
        return train_model(sources, spec, _drop_existing_models(settings, "auto"))
    if spec.learned_from == "volumes":
        return train_model(sources, spec, settings)
    return None if model is None else model.files


def _drop_existing_models(
    settings: TrainingSettings, model_source: ModelSource
) -> TrainingSettings:
    """Return training settings without existing models, so that a new model is trained."""
    return replace(
        settings, model_source=model_source, model_dir=None, pretrained=None, force=True
    )


def _train_on_t1w(
    sources: PlannedSources, settings: TrainingSettings, anat: Anatomy
) -> ModelFiles:
    """Train a network on the T1w image in place of the T2*-weighted pair."""
    plan, fitted = sources.plan, sources.fitted
    train_highres, train_lowres = t1w_pair.another_contrast(
        anat.t1w_preproc,
        fitted.motion.boldref,
        fitted.registration.boldref2t1w_xfm,
        factor=plan.bold.factor,
    )
    pair = TrainingPair(
        train_highres=train_highres,
        train_lowres=train_lowres,
        pair_mask=fitted.registration.bold_mask,
    )
    return training.train_on_pair(
        pair, training=_drop_existing_models(settings, "train"), factor=plan.bold.factor
    )
