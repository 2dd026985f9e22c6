"""Acquired, interpolated, super-resolved and measured series of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from bids_sr.config.levels import series_level
from bids_sr.engine.artifacts import Facts, File, Series
from bids_sr.engine.flow import add_methods_text, describe_step, subworkflow
from bids_sr.engine.outputs import Outputs
from bids_sr.engine.step import Part
from bids_sr.glm.steps import seeds
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import BOLDREF
from bids_sr.io.series import (
    ACQUIRED,
    ACQUIRED_BAND,
    MEASURED,
    get_need,
    series_names,
)
from bids_sr.preproc.steps import outlier_volumes
from bids_sr.preproc.steps.registration import TrainingPair
from bids_sr.report import series_description
from bids_sr.spatial.output_grids import OutputGrid
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.sr.steps import resampled_series, super_resolution, training, training_texts
from bids_sr.sr.steps.super_resolution import Inference, SuperResolvedSeries
from bids_sr.sr.steps.training import ModelFiles, VarianceModel
from bids_sr.workflows.fit_run import FittedRun, correct_acquired
from bids_sr.workflows.model_run import ModeledRun, make_seed_template, make_series_sidecar
from bids_sr.workflows.pair import TrainedNetwork, store_model
from bids_sr.workflows.run_plan import RunPlan, SeriesFile
from bids_sr.workflows.series_requests import ComputedSeries, SeriesRequest
from bids_sr.workflows.spaces import show_spaces


@frozen
class RunSeries:
    """All series of a run by name, with results that only the evaluation uses.

    `computed` begins with the acquired series. The others are on the high-resolution grid, in the
    order of computation; the measured series is last. `self_tests` are self-tests at reduced
    resolution by series.
    """

    computed: Mapping[str, ComputedSeries]
    self_tests: Mapping[str, Facts]

    @property
    def high_resolution(self) -> dict[str, ComputedSeries]:
        """Series on the high-resolution grid."""
        return {name: series for name, series in self.computed.items() if name != ACQUIRED}

    @property
    def mapped(self) -> dict[str, ComputedSeries]:
        """Series that are mapped, without those that are only refined."""
        return {
            name: series
            for name, series in self.computed.items()
            if series.request is None or series.request.is_mapped
        }


def make_series(
    run: ModeledRun, networks: Mapping[str, TrainedNetwork], outputs: Outputs
) -> RunSeries:
    """Compute all series of a run.

    `networks` were trained on the pair of the run, by series. Returns the acquired, stored and
    measured series.
    """
    plan, fitted_run, run_model = run.plan, run.fitted, run.model
    highres_series, self_tests = _make_all_stored(run, networks, outputs)
    show_spaces(run, highres_series[plan.primary].series, outputs)
    if plan.measured is not None:
        with subworkflow(MEASURED, high_resolution=True):
            highres_series[MEASURED] = make_measured(plan, fitted_run, plan.measured, outputs)
    acquired = ComputedSeries(
        series_name=ACQUIRED, series=run_model.preproc, mask=fitted_run.bold_mask
    )
    computed = {ACQUIRED: acquired, **highres_series}
    if plan.uses_own_seeds:
        add_methods_text(Part.MAPS, seeds.OWN_SEEDS_TEXT)
        for name, computed_series in computed.items():
            if computed_series.request is not None and not computed_series.request.is_mapped:
                continue
            with subworkflow(name, high_resolution=name != ACQUIRED):
                own_regressors, table, columns = seeds.own_seed_series(
                    computed_series,
                    run_model.linear.inputs,
                    template=make_seed_template(plan, fitted_run, run.anat),
                    seeds=plan.seeds,
                    nuisance=plan.nuisance,
                    smoothing=plan.maps.smoothing,
                )
                outputs.store(
                    table, {"desc": f"{name}Seeds", "suffix": "timeseries"}, facts=columns
                )
            computed[name] = replace(computed_series, own_regressors=own_regressors)
    return RunSeries(computed=computed, self_tests=self_tests)


def _make_all_stored(
    run: ModeledRun,
    networks: Mapping[str, TrainedNetwork],
    outputs: Outputs,
) -> tuple[dict[str, ComputedSeries], dict[str, Facts]]:
    """Compute and store all requested series, and return them with their self-tests by name."""
    plan = run.plan
    highres_series: dict[str, ComputedSeries] = {}
    self_tests: dict[str, Facts] = {}
    for request in plan.stored_series:
        with subworkflow(request.name, high_resolution=True):
            computed_series = make_stored(
                run, request, networks.get(request.name), highres_series, self_tests, outputs
            )
        highres_series[request.name] = computed_series
        if computed_series.variance is not None:
            self_tests[request.name] = computed_series.variance.self_tests
    return highres_series, self_tests


def make_stored(
    run: ModeledRun,
    request: SeriesRequest,
    model: TrainedNetwork | None,
    highres_series: Mapping[str, ComputedSeries],
    self_tests: Mapping[str, Facts],
    outputs: Outputs,
) -> ComputedSeries:
    """Compute and store a series; train its model first if necessary.

    `model` is the network trained on the pair of the run; None if the series does not use such a
    network. `highres_series` and `self_tests` (at reduced resolution, by series) already exist.
    """
    plan, fitted_run = run.plan, run.fitted
    variance = network_files = None
    files = None if model is None else model.files
    if request.learned_from == "volumes":
        files = network_files = _train_stored(run, request, outputs)
    elif request.learned_from == "run":
        files = variance = estimate_prior_sd_maps(run, request, self_tests, outputs)
    inference = _make_inference(plan, request)
    super_resolved = compute_series(
        fitted_run,
        request,
        None if files is None else files.model_file,
        _find_zerofilled(plan, request, highres_series),
        list(run.model.grids.values()) if request.name == plan.primary else [],
        inference=replace(
            inference, with_error_samples=request.method is not None and request.method.has_prior
        ),
    )
    add_methods_text(Part.SERIES, series_description.describe_series(request.name))
    _store_series(plan, request.name, super_resolved, outputs)
    return ComputedSeries(
        series_name=request.name,
        series=super_resolved.series,
        mask=fitted_run.bold_mask_hr,
        request=request,
        model_file=None if files is None else files.model_file,
        card_file=None if files is None else files.card_file,
        network_files=network_files,
        variance=variance,
        holdout=None if model is None else model.holdout,
        error_draws=super_resolved.error_draws,
        acquired_draws=super_resolved.acquired_draws,
    )


def _train_stored(run: ModeledRun, request: SeriesRequest, outputs: Outputs) -> ModelFiles:
    """Train the network of a series on volumes of the run, and store and describe it."""
    settings = run.plan.get_training(request)
    files = make_model(run.fitted, None, request, settings)
    add_methods_text(
        Part.SERIES,
        training_texts.describe_planned(settings, "volumes"),
        output=files.model_file,
        describe=partial(training_texts.describe_finished, settings, "volumes"),
    )
    store_model(files, settings.method, outputs)
    return files


def make_model(
    fitted_run: FittedRun,
    preproc: Series | None,
    request: SeriesRequest,
    settings: TrainingSettings,
    pair: TrainingPair | None = None,
) -> ModelFiles:
    """Train the model of a series: prior SD maps, or a network on volumes of the run or on a pair.

    `preproc`: motion-corrected acquired series, for prior SD maps. `pair`: training data of the
    network; None if the request does not name a pair.
    """
    if request.learned_from == "run":
        assert preproc is not None
        return estimate_from_run(fitted_run, preproc, request, settings)
    if request.learned_from == "pair":
        assert pair is not None
        return training.train_on_pair(pair, training=settings, factor=fitted_run.factor)
    return training.train_on_volumes(
        fitted_run.stc,
        fitted_run.bold_mask,
        n_dummy=fitted_run.n_dummy,
        training=settings,
        factor=fitted_run.factor,
    )


def estimate_prior_sd_maps(
    run: ModeledRun,
    request: SeriesRequest,
    self_tests: Mapping[str, Facts],
    outputs: Outputs,
) -> VarianceModel:
    """Estimate the prior SD maps of a run.

    The maps are stored and described unless the method is a control. `self_tests`: existing
    self-tests by series; if empty, plain interpolations are also tested.
    """
    plan = run.plan
    settings = plan.get_training(request)
    interpolations = [
        name for name in plan.stored_names if get_need(name) == "volume" and name != ACQUIRED_BAND
    ]
    variance = estimate_from_run(
        run.fitted,
        run.model.preproc,
        request,
        settings,
        interpolations=() if self_tests else interpolations,
    )
    if not request.is_control:
        describe = partial(
            training_texts.describe_variance, settings, calibrated=plan.uses_calibration
        )
        describe_step(Part.SERIES, variance.model_file, describe)
        store_model(variance, settings.method, outputs)
    return variance


def estimate_from_run(
    fitted_run: FittedRun,
    preproc: Series,
    request: SeriesRequest,
    settings: TrainingSettings,
    *,
    interpolations: Sequence[str] = (),
) -> VarianceModel:
    """Estimate the prior SD maps of a series from its run.

    `preproc`: motion-corrected acquired series. `interpolations`: plain interpolations that are
    self-tested together with the series.
    """
    return training.estimate_variance(
        preproc,
        fitted_run,
        None if request.is_control else fitted_run.calibration,
        n_dummy=fitted_run.n_dummy,
        training=settings,
        interpolations=tuple(interpolations),
    )


def _store_series(
    plan: RunPlan, name: str, super_resolved: SuperResolvedSeries, outputs: Outputs
) -> None:
    """Store a series; the primary series is also exported as preprocessed BOLD data."""
    is_primary = name == plan.primary
    bold = plan.bold
    resolution = series_description.describe_hr_resolution(name, bold.factor, bold.axis_order)
    outputs.store(
        super_resolved.series,
        {"space": BOLDREF, "res": "hr", "desc": name, "suffix": "bold"},
        sidecar=make_series_sidecar(plan, name, resolution),
        facts=super_resolved.series_facts,
        exported_as={"res": "", "desc": "preproc"} if is_primary and plan.in_func else None,
        level=series_level(name, _list_always_stored(plan)),
    )
    if is_primary and plan.in_other_spaces:
        outputs.store(
            super_resolved.space_series,
            sidecar=make_series_sidecar(
                plan, name, series_description.describe_space_resolution(name)
            ),
            facts=super_resolved.series_facts,
            exported_only=True,
        )


def make_measured(
    plan: RunPlan, fitted_run: FittedRun, measured: SeriesFile, outputs: Outputs
) -> ComputedSeries:
    """Resample the measured high-resolution reference series to the grid of the run."""
    measured_series = _resample_measured(fitted_run, measured)
    add_methods_text(Part.SERIES, series_description.MEASURED_TEXT)
    resolution = series_description.describe_hr_resolution(
        MEASURED, plan.bold.factor, plan.bold.axis_order
    )
    outputs.store(
        measured_series.series,
        {"space": BOLDREF, "res": "hr", "desc": MEASURED, "suffix": "bold"},
        sidecar=make_series_sidecar(plan, MEASURED, resolution),
        level=series_level(MEASURED, _list_always_stored(plan)),
    )
    return measured_series


def _resample_measured(fitted_run: FittedRun, file: SeriesFile) -> ComputedSeries:
    """Resample a series measured at the high resolution to the grid of a run.

    The outlier volumes of the run are replaced. `file`: file of the series, with the repetition
    time of the run.
    """
    bold = file.import_series()
    if fitted_run.outliers is not None:
        bold = outlier_volumes.replace_same_volumes(
            bold, fitted_run.outliers, n_dummy=fitted_run.n_dummy
        )
    stc = correct_acquired(bold, fitted_run.n_dummy, file.correction)
    mask = fitted_run.bold_mask_hr
    series = resampled_series.place_measured(stc, mask, fitted_run.hmc_xfms, fitted_run.distortion)
    return ComputedSeries(series_name=MEASURED, series=series, mask=mask)


def _list_always_stored(plan: RunPlan) -> list[str]:
    """Return names of series that are stored at every storage level."""
    return [*series_names(plan.stored.methods), plan.primary]


def _make_inference(plan: RunPlan, request: SeriesRequest) -> Inference:
    """Return the inference settings of a series.

    A series without a method is computed on one CPU thread.
    """
    if request.method is None:
        return replace(plan.inference, omp_nthreads=1, device="cpu")
    return plan.inference


def compute_series(
    fitted_run: FittedRun,
    request: SeriesRequest,
    model_file: File | None,
    zerofilled: Series | None = None,
    grids: Sequence[OutputGrid] = (),
    *,
    inference: Inference,
) -> SuperResolvedSeries:
    """Compute a requested series from the acquired series of a run.

    `model_file` has weights or prior SD maps; None for a baseline. `zerofilled` is the zero-filled
    series that detail is added to; None to compute it. `grids` are further target grids in other
    spaces.
    """
    return super_resolution.super_resolve(
        fitted_run,
        model_file,
        zerofilled,
        fitted_run.guide if request.uses_guide else None,
        grids,
        series_name=request.name,
        inference=inference,
    )


def _find_zerofilled(
    plan: RunPlan, request: SeriesRequest, highres_series: Mapping[str, ComputedSeries]
) -> Series | None:
    """Return the zero-filled series that variance methods refine.

    None if the series uses no prior SD maps, if no zero-filled series exists, or if the slice
    direction is also super-resolved.
    """
    zerofilled = highres_series.get(ACQUIRED_BAND)
    if request.learned_from != "run" or zerofilled is None or plan.bold.factor[2] != 1:
        return None
    return zerofilled.series
