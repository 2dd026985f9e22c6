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
    Mask,
    Regressors,
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
    acquired_series,
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
from bids_sr.workflows.confounds import gather_confounds
from bids_sr.workflows.fit_run import (
    FittedRun,
    correct_acquired,
)
from bids_sr.workflows.other_run import measure_another_run
from bids_sr.workflows.pair import RegisteredPair, TrainedNetwork, store_model
from bids_sr.workflows.run_plan import RunPlan
from bids_sr.workflows.seeds import find_own_seeds, find_regressors
from bids_sr.workflows.series_requests import SeriesRequest
from bids_sr.workflows.spaces import make_output_grids, show_spaces


@frozen
class ComputedSeries:
    """Series of a run, with its model and test results.

    Optional fields are None if they do not apply to the series.

    Parameters
    ----------
    name : str
        Name of the series.
    series : Series
        Motion-corrected volumes.
    mask : Mask
        Brain on the grid of the series.
    request : SeriesRequest | None
        Request; None for the acquired, measured and compared series.
    model_file, card_file : File, Facts
        Applied model, and its model card.
    trained : ModelFiles | None
        Network, if it was trained on volumes of the run.
    variance : VarianceModel | None
        Variance maps, if the method estimates them.
    holdout : Rows
        Metrics on a held-out pair.
    precision, precision_rows : Precision, Rows
        Precision chosen by the half-precision check, and metrics of the check.
    error_draws, acquired_draws : Series
        Samples of the reconstruction error, and the acquired (low-resolution) part of the same
        samples; None if the method has no prior.
    own_regressors : Sequence[Regressors]
        Seed time series in this series, one per smoothing width of the maps; empty if the
        regressors of the run are used.
    compared_facts : Facts | None
        Alignment of a series of another program to the run.
    """

    name: str
    series: Series
    mask: Mask
    request: SeriesRequest | None = None
    model_file: File | None = None
    card_file: Facts | None = None
    trained: ModelFiles | None = None
    variance: VarianceModel | None = None
    holdout: Rows | None = None
    precision: Precision | None = None
    precision_rows: Rows | None = None
    error_draws: Series | None = None
    acquired_draws: Series | None = None
    own_regressors: Sequence[Regressors] = ()
    compared_facts: Facts | None = None


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

    `raw`: motion-corrected acquired series. `guide`: None if there is no pair.
    """

    plan: RunPlan
    fitted: FittedRun
    raw: Series
    guide: Guide | None
    model: LinearModel


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
    confounds = gather_confounds(plan, fitted, raw.series, outputs)
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
    sources = SeriesSources(
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
    for name, compared in resample_all_compared(plan, fitted).items():
        hr_series[name] = ComputedSeries(
            name=name,
            series=compared.series,
            mask=compared.mask,
            compared_facts=compared.compared_facts,
        )
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
    preproc = correct_motion(fitted)
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


def correct_motion(fitted: FittedRun) -> Series:
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
    sources: SeriesSources,
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
    sources : SeriesSources
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
        files = trained = training.train_on_volumes(
            fitted.stc,
            fitted.registration.bold_mask,
            n_dummy=fitted.n_dummy,
            training=settings,
            factor=plan.bold.factor,
        )
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
    resolved = super_resolution.super_resolve(
        fitted.aligned,
        None if files is None else files.model_file,
        _make_zerofilled(plan, spec, hr_series),
        sources.guide if spec.guided else None,
        grids,
        series_name=spec.name,
        factor=plan.bold.factor,
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
    sources: SeriesSources, spec: SeriesRequest, tested: Mapping[str, Facts], outputs: Outputs
) -> VarianceModel:
    """Estimate the variance maps of a run.

    The maps are stored and described unless the method is a control. `tested`: existing self-tests
    by series; if empty, plain interpolations are also tested.
    """
    plan, fitted = sources.plan, sources.fitted
    settings = plan.planned.make_training(spec)
    plain = [
        name for name in plan.stored_names if name in INTERPOLATIONS and name != ACQUIRED_BAND
    ]
    variance = training.estimate_variance(
        sources.raw,
        fitted.registration.bold_mask,
        fitted.motion.hmc_xfms,
        None if spec.control else fitted.calibration,
        fitted.outliers,
        n_dummy=fitted.n_dummy,
        training=settings,
        factor=plan.bold.factor,
        interpolations=() if tested else tuple(plain),
    )
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
    sources: SeriesSources, spec: SeriesRequest, model_file: File, inference: Inference
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
    hr_series = series_description.fine_resolution(name, bold.factor, bold.axis_order)
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
            sidecar=_sidecar(plan, name, series_description.resolution_elsewhere(name)),
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
    preprocessing = plan.planned.settings.preprocessing
    bold = acquired_series.import_series(
        measured.bold, tr=plan.bold.tr, axis_order=measured.axis_order
    )
    if fitted.outliers is not None:
        bold = outlier_volumes.replace_same_volumes(bold, fitted.outliers, n_dummy=fitted.n_dummy)
    stc = correct_acquired(
        bold,
        fitted.n_dummy,
        slice_times=None if "slicetiming" in preprocessing.ignore else measured.slice_timing,
        start_time=plan.start_time,
        input_smoothing=preprocessing.input_smoothing,
    )
    mask = fitted.registration.bold_mask_hr
    series = resampled_series.place_measured(stc, mask, fitted.motion.hmc_xfms, fitted.distortion)
    add_methods_text(Part.SERIES, series_description.MEASURED_TEXT)
    hr_series = series_description.fine_resolution(
        MEASURED, plan.bold.factor, plan.bold.axis_order
    )
    outputs.store(
        series,
        {"res": "hr", "desc": MEASURED, "suffix": "bold"},
        sidecar=_sidecar(plan, MEASURED, hr_series),
        level=series_level(MEASURED, _always_stored(plan)),
    )
    return ComputedSeries(name=MEASURED, series=series, mask=mask)


def make_unstored(
    sources: SeriesSources,
    spec: SeriesRequest,
    model: TrainedNetwork | None,
    hr_series: Mapping[str, ComputedSeries],
    anat: Anatomy | None,
) -> ComputedSeries:
    """Compute a negative control or further ensemble member, for the evaluation only.

    Parameters
    ----------
    sources : SeriesSources
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
    resolved = super_resolution.super_resolve(
        fitted.aligned,
        model_file,
        _make_zerofilled(plan, spec, hr_series),
        sources.guide if spec.guided else None,
        series_name=spec.source,
        factor=plan.bold.factor,
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
    sources: SeriesSources,
    spec: SeriesRequest,
    model: TrainedNetwork | None,
    anat: Anatomy | None,
) -> ModelFiles | None:
    """Return the model of a negative control or ensemble member; see `make_unstored`.

    None if the series is computed with the model of the method.
    """
    plan, fitted = sources.plan, sources.fitted
    settings = plan.planned.make_training(spec)
    if spec.placebo == "T1w":
        assert anat is not None, "a placebo of the T1w image needs one"
        return _train_on_t1w(sources, settings, anat)
    if not spec.seed:
        return None
    if spec.learned_from == "run":
        return training.estimate_variance(
            sources.raw,
            fitted.registration.bold_mask,
            fitted.motion.hmc_xfms,
            fitted.calibration,
            fitted.outliers,
            n_dummy=fitted.n_dummy,
            training=_drop_existing_models(settings, "auto"),
            factor=plan.bold.factor,
        )
    if spec.learned_from == "volumes":
        return training.train_on_volumes(
            fitted.stc,
            fitted.registration.bold_mask,
            n_dummy=fitted.n_dummy,
            training=settings,
            factor=plan.bold.factor,
        )
    return None if model is None else model.files


def _drop_existing_models(
    settings: TrainingSettings, model_source: ModelSource
) -> TrainingSettings:
    """Return training settings without existing models, so that a new model is trained."""
    return replace(
        settings, model_source=model_source, model_dir=None, pretrained=None, force=True
    )


def _train_on_t1w(sources: SeriesSources, settings: TrainingSettings, anat: Anatomy) -> ModelFiles:
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
