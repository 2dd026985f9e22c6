"""Evaluation of one run: baselines, evaluated series, references, and verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.api.evaluation_inputs import is_program_table, load_activation, load_events
from bids_sr.api.guide import (
    MODEL_FREE_BASELINES,
    check_guide,
    find_guide,
    load_pair,
    register_guide,
)
from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    header_tr,
    load_mask,
    series_file,
)
from bids_sr.api.learned_run import LearnedRun
from bids_sr.api.run_basics import RunBasics, to_fitted_run
from bids_sr.api.run_inputs import RunInputs
from bids_sr.config.seeds import Seed
from bids_sr.evaluation.advice import Audience
from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.model_confounds import MOTION
from bids_sr.io.grids import AS_STORED, Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.metrics.rows import MetricRow
from bids_sr.pipeline.artifacts import (
    Confounds,
    Effects,
    Facts,
    Map,
    Mask,
    Regressors,
    Rows,
    Series,
    Verdict,
)
from bids_sr.pipeline.flow import subworkflow
from bids_sr.registration.series_alignment import ComparedError
from bids_sr.series import ACQUIRED_BAND, MEASURED, RAW
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.steps import (
    activation,
    evaluation,
    run_confounds,
    run_verdict,
    seeds as steps_seeds,
    self_test,
)
from bids_sr.steps.activation import MapSettings
from bids_sr.steps.evaluation import EffectsComparison
from bids_sr.steps.linear_models import DesignInputs, LinearModel
from bids_sr.steps.super_resolution import Guide, Inference
from bids_sr.workflows.compared_series import prepare_compared
from bids_sr.workflows.evaluate_run import (
    SeriesEffects,
    compare_with_references,
    gather_compared_facts,
    measure_all_effects,
)
from bids_sr.workflows.fit_run import FittedRun, SeriesCorrection, SeriesFile
from bids_sr.workflows.make_series import (
    SeriesSources,
    compute_series,
    resample_acquired,
    resample_measured,
    train_model,
)
from bids_sr.workflows.map_run import check_run_intervals
from bids_sr.workflows.other_run import measure_other_run_effects
from bids_sr.workflows.pair import register_scans
from bids_sr.workflows.series_requests import ComputedSeries, request_series


@frozen
class EvaluationSettings:
    """Settings of an evaluation; see `bids_sr.Evaluator`.

    Parameters
    ----------
    factor : Factor
        Acquired over high-resolution voxel size by axis.
    tr : float
        Repetition time (s).
    contrasts : Contrasts
        Weights of conditions, or of seeds, by contrast.
    design : DesignSettings
        Options of the design of the linear models.
    registered : bool
        Whether positions of other images are taken from their headers.
    smoothing : Sequence[float]
        Smoothing of the effects whose detail is tested at half the resolution (FWHM, mm).
    margin : float | None
        Differences within ± this value count as equivalent.
    seed_radius_mm : float
        Radius of the spheres around seeds (mm).
    n_boot : int
        Number of resamples of blocks.
    random_seed, omp_nthreads : int
        Seed of random numbers, and number of threads.
    audience : Audience
        Interface that advice is worded for.
    """

    factor: Factor
    tr: float
    contrasts: Contrasts
    design: DesignSettings
    registered: bool
    smoothing: Sequence[float]
    margin: float | None
    seed_radius_mm: float
    n_boot: int
    random_seed: int
    omp_nthreads: int
    audience: Audience

    @property
    def start_time(self) -> float:
        """Reference time of a volume (s after its start)."""
        start_time = self.design.start_time
        return self.tr / 2 if start_time is None else start_time


@frozen
class EvaluatedRun:
    """Run that is evaluated, with its settings and inputs.

    `baselines` and `compared` are the names of baselines and of series of other programs. `raw` is
    the motion-corrected acquired series; None if it is not required.
    """

    settings: EvaluationSettings
    inputs: RunInputs
    fitted_run: FittedRun
    baselines: Sequence[str]
    compared: Sequence[str]
    raw: Series | None

    @property
    def compared_baselines(self) -> list[str]:
        """Names of the baselines that are compared with a reference."""
        return list_compared_baselines(self.inputs, self.baselines, compared=bool(self.compared))


def list_compared_baselines(
    inputs: RunInputs, baselines: Sequence[str], *, compared: bool
) -> list[str]:
    """Return the names of the baselines that are compared with a reference."""
    if inputs.truth is not None:
        return list(baselines)
    return [ACQUIRED_BAND] if compared else []


def prepare_run(
    reader: SeriesReader,
    run_basics: RunBasics,
    inputs: RunInputs,
    settings: EvaluationSettings,
    baselines: Sequence[str],
    compared: Sequence[str],
    *,
    tests_detail: bool = False,
) -> EvaluatedRun:
    """Prepare a run, and correct its head motion if necessary.

    `tests_detail`: whether the detail of a method is tested at half the resolution.
    """
    fitted_run = to_fitted_run(reader, run_basics, settings.factor)
    baseline_names = list_compared_baselines(inputs, baselines, compared=bool(compared))
    uses_model = any(name not in MODEL_FREE_BASELINES for name in baseline_names)
    requires_raw = (
        tests_detail or inputs.seeds is not None or inputs.measured is not None or uses_model
    )
    return EvaluatedRun(
        settings=settings,
        inputs=inputs,
        fitted_run=fitted_run,
        baselines=baselines,
        compared=compared,
        raw=resample_acquired(fitted_run) if requires_raw else None,
    )


def load_region(run: EvaluatedRun, folder: Path) -> Mask:
    """Return the region of interest on the high-resolution grid of a run, by default the brain."""
    brain = run.fitted_run.registration.bold_mask_hr
    if run.inputs.roi is None:
        return brain
    return load_mask(run.inputs.roi, brain, folder, "roi")


def model_run(run: EvaluatedRun, confounds: Confounds | None) -> LinearModel:
    """Return the linear model of a run.

    `confounds` are a table of the program or fMRIPrep, or the columns in the model; None for
    head-motion parameters.
    """
    settings, fitted_run = run.settings, run.fitted_run
    columns = run_confounds.motion_confounds(
        fitted_run.motion.motion, confounds, outliers=fitted_run.outliers
    )
    nuisance = None
    if confounds is not None and not is_program_table(confounds):
        nuisance = list(confounds)
    if run.inputs.seeds is None:
        regressors: Regressors = load_events(run.inputs.events)
    else:
        regressors = _extract_seed_series(run, run.inputs.seeds, columns, nuisance)
    return LinearModel(
        inputs=DesignInputs(
            regressors=regressors,
            confounds=columns,
            n_dummy=fitted_run.n_dummy,
            design=settings.design,
        ),
        contrasts=settings.contrasts,
        nuisance=nuisance,
    )


def _extract_seed_series(
    run: EvaluatedRun,
    centers: Mapping[str, Sequence[float]],
    confounds: Confounds,
    nuisance: list[str] | None,
) -> Regressors:
    """Return the time series of seeds; raise ImageInputError if a seed is outside the brain."""
    assert run.raw is not None
    settings = run.settings
    seeds: list[Seed] = []
    for name, center in centers.items():
        x, y, z = map(float, center)
        seeds.append(Seed(name, (x, y, z), settings.seed_radius_mm))
    try:
        regressors, _ = steps_seeds.seed_series(
            run.raw,
            run.fitted_run.registration.bold_mask,
            confounds,
            seeds=seeds,
            n_dummy=run.fitted_run.n_dummy,
            design=settings.design,
            nuisance=nuisance,
        )
    except ValueError as error:
        raise _make_region_error(next(iter(centers)), centers) from error
    for name in {*centers} - {*regressors.conditions}:
        raise _make_region_error(name, centers)
    return regressors


def _make_region_error(name: str, centers: Mapping[str, Sequence[float]]) -> ImageInputError:
    """Return the error for a seed without voxels in the brain mask."""
    return ImageInputError(
        f"seeds: the seed {name} at {tuple(centers[name])} contains no voxels of the "
        "brain mask. Specify the center of the seed in scanner coordinates (RAS, mm)."
    )


def make_baselines(run: EvaluatedRun, folder: Path) -> dict[str, ComputedSeries]:
    """Compute the baselines of a run that are compared with a reference; register the guide once.

    ImageInputError is raised if a baseline requires a guide that is missing.
    """
    settings, fitted_run = run.settings, run.fitted_run
    has_guide = run.inputs.guide is not None
    for name in run.baselines:
        check_guide(name, None, run.inputs)
    requests = {
        name: request_series(name, has_pair=False, uses_guide=has_guide) for name in run.baselines
    }
    guide = None
    if has_guide and any(request.uses_guide for request in requests.values()):
        guide = _find_run_guide(
            run,
            folder,
            is_required=any(requests[name].uses_guide for name in run.compared_baselines),
        )
    sources = SeriesSources(fitted_run=fitted_run, raw=run.raw, guide=guide)
    baselines = {}
    for name in run.compared_baselines:
        with subworkflow(name):
            model = None
            if requests[name].method is not None:
                training_settings = TrainingSettings(
                    method=name,
                    model_source="train",
                    random_seed=settings.random_seed,
                    omp_nthreads=settings.omp_nthreads,
                )
                model = train_model(sources, requests[name], training_settings)
            super_resolved = compute_series(
                sources,
                requests[name],
                None if model is None else model.model_file,
                inference=Inference(
                    omp_nthreads=settings.omp_nthreads, random_seed=settings.random_seed
                ),
            )
        baselines[name] = ComputedSeries(
            name=name, series=super_resolved.series, mask=fitted_run.registration.bold_mask_hr
        )
    return baselines


def _find_run_guide(run: EvaluatedRun, folder: Path, *, is_required: bool) -> Guide | None:
    """Return the guide in the frame of a run.

    Unless it is `is_required`, it is not registered, and None if its position is unknown.
    """
    inputs, settings = run.inputs, run.settings
    pair = load_pair(
        inputs,
        folder,
        with_lowres=inputs.lowres is not None,
        factor=settings.factor,
        registered=settings.registered,
    )
    guide = find_guide(pair, inputs)
    if guide is not None or not is_required:
        return guide
    registered_pair = (
        None if pair.lowres_file is None else register_scans(pair, settings.random_seed)
    )
    return register_guide(
        pair, run.fitted_run.motion.boldref, registered_pair, random_seed=settings.random_seed
    ).guide


def resample_other_series(
    run: EvaluatedRun, compared: Mapping[str, ImageLike], folder: Path
) -> dict[str, ComputedSeries]:
    """Resample series of other programs to the grid of the run.

    `folder` is for images in memory.
    """
    resampled_series: dict[str, ComputedSeries] = {}
    for name, image in compared.items():
        file = series_file(image, folder, name, allow_nan=True)
        try:
            with subworkflow(name):
                resampled_series[name] = prepare_compared(
                    run.fitted_run,
                    name,
                    SeriesFile(
                        bold_file=file,
                        tr=run.settings.tr,
                        correction=SeriesCorrection(start_time=run.settings.start_time),
                    ),
                )
        except ComparedError as error:
            raise ImageInputError(f"compared: {name}: {error}") from None
    return resampled_series


@frozen
class DetailTests:
    """Tests of methods at half the resolution of a run without a reference.

    Attributes
    ----------
    rows : Rows
        Results by contrast, and scores of the self-test.
    self_test : Facts
        Voxel sizes and scores of the self-test.
    """

    rows: Rows
    self_test: Facts


def measure_detail(
    run: EvaluatedRun, model: LinearModel, learned: Mapping[str, LearnedRun], folder: Path
) -> DetailTests:
    """Test the detail of methods at half the resolution.

    Parameters
    ----------
    run : EvaluatedRun
        Run that the methods were fitted to.
    model : LinearModel
        Linear model of the run.
    learned : Mapping[str, LearnedRun]
        Results of the fit of each method with a prior, by name of its series. A method that was
        not applied has no rows by contrast.
    folder : Path
        Folder for files.
    """
    settings = run.settings
    rows: list[MetricRow] = []
    self_tests: dict[str, Facts] = {}
    for name, learned_run in learned.items():
        assert learned_run.model is not None
        assert run.raw is not None
        if learned_run.self_test is not None:
            self_tests[name] = learned_run.self_test
        model_folder = folder / f"{name}_model"
        model_folder.mkdir()
        with subworkflow(name):
            detail_rows, _ = check_run_intervals(
                replace(run.fitted_run, calibration=learned_run.calibration),
                run.raw,
                learned_run.model.write(model_folder),
                model,
                series_name=name,
                smoothing=settings.smoothing,
                random_seed=learned_run.random_seed,
                omp_nthreads=settings.omp_nthreads,
            )
        rows += detail_rows
    if not self_tests:
        return DetailTests(rows=rows, self_test={})
    x, y, z = run.fitted_run.registration.bold_mask.zooms
    self_test_rows, facts = self_test.gather_tested(
        [self_tests],
        series_names=list(self_tests),
        network_names=(),
        voxel=(float(x), float(y), float(z)),
        factor=settings.factor,
    )
    return DetailTests(rows=[*rows, *self_test_rows], self_test=facts)


def evaluate_series(
    run: EvaluatedRun,
    model: LinearModel,
    roi_hr: Mask,
    series: Mapping[str, ComputedSeries],
    applied: Mapping[str, bool],
    detail_tests: DetailTests | None,
    folder: Path,
) -> tuple[Rows, Verdict]:
    """Compare series with the references of their run, and return the verdict.

    Parameters
    ----------
    run : EvaluatedRun
        Run to evaluate.
    model : LinearModel
        Linear model of the run.
    roi_hr : Mask
        Region of interest on the high-resolution grid.
    series : Mapping[str, ComputedSeries]
        Baselines, series of other programs, and evaluated series.
    applied : Mapping[str, bool]
        Evaluated series by name, and whether their method was applied.
    detail_tests : DetailTests | None
        Tests at half the resolution; None if the run has a reference.
    folder : Path
        Folder for files.
    """
    settings, confounds = run.settings, model.inputs.confounds
    assert confounds is not None
    series_effects, tables = _compare_series(run, model, roi_hr, series, folder)
    if detail_tests is not None:
        tables = [*tables, detail_tests.rows]
    verdict, verdict_rows = run_verdict.decide_verdict(
        tables,
        {} if detail_tests is None else detail_tests.self_test,
        confounds,
        card_file={name: {"applied": is_applied} for name, is_applied in applied.items()},
        compared_facts=gather_compared_facts(series),
        same_widths=None if series_effects is None else series_effects.same_widths,
        method_names=list(applied),
        series_names=[*run.baselines, *applied],
        margin=settings.margin,
        compared_names=run.compared,
        audience=settings.audience,
    )
    rows, _ = evaluation.join_evaluation(tables, verdict_rows)
    return rows, verdict


def _compare_series(
    run: EvaluatedRun,
    model: LinearModel,
    roi_hr: Mask,
    series: Mapping[str, ComputedSeries],
    folder: Path,
) -> tuple[SeriesEffects | None, list[Rows]]:
    """Measure the block effects of series, and compare them with all references of the run.

    Returns effects and tables of metrics; without a reference, None and no tables. See
    `evaluate_series` for parameters.
    """
    settings, inputs, fitted_run = run.settings, run.inputs, run.fitted_run
    bold_mask_hr = fitted_run.registration.bold_mask_hr
    comparison = EffectsComparison(
        bold_mask_hr=bold_mask_hr,
        roi_hr=roi_hr,
        contrasts=settings.contrasts,
        factor=settings.factor,
        random_seed=settings.random_seed,
        n_boot=settings.n_boot,
    )
    known_maps = {
        name: load_activation(bold_mask_hr, image, folder, name)
        for name, image in inputs.known.items()
    }
    evaluated_series = dict(series)
    if inputs.measured is not None:
        evaluated_series[MEASURED] = _resample_reference(run, inputs.measured, folder)
    elif not known_maps:
        compared_names = (*run.compared, ACQUIRED_BAND) if run.compared else ()
        evaluated_series = {name: series[name] for name in series if name in compared_names}
    acquired_maps = [] if inputs.measured is None else _map_acquired(run, model)
    if not evaluated_series:
        return None, []
    series_effects = measure_all_effects(
        evaluated_series,
        model.inputs,
        comparison,
        effect_confounds=MOTION if model.nuisance is None else model.nuisance,
    )
    other_effects = None
    if run.compared and inputs.other_run is not None:
        other_effects = _measure_other_effects(run, inputs.other_run, folder)
    tables = compare_with_references(
        evaluated_series,
        series_effects,
        comparison,
        acquired_maps=acquired_maps,
        maps=acquired_maps,
        known=known_maps,
        other_effects=other_effects,
        at_rest=inputs.seeds is not None,
        n_dummy=fitted_run.n_dummy,
    )
    return series_effects, tables


def _resample_reference(run: EvaluatedRun, measured: ImageLike, folder: Path) -> ComputedSeries:
    """Resample the measured high-resolution series to the grid of a run.

    Unlike the program, the Python interface evaluates outlier volumes as they are, because series
    are passed with all volumes.
    """
    file = series_file(measured, folder, "truth")
    with subworkflow(MEASURED):
        return resample_measured(
            replace(run.fitted_run, outliers=None),
            SeriesFile(bold_file=file, tr=run.settings.tr),
        )


def _map_acquired(run: EvaluatedRun, model: LinearModel) -> list[Map]:
    """Map the acquired series without smoothing, to select active voxels."""
    assert run.raw is not None
    mask = run.fitted_run.registration.bold_mask
    map_settings = MapSettings(
        kinds=("glm",),
        thresholds=(),
        smoothing=(0.0,),
        factor=run.settings.factor,
        axis_order=AS_STORED,
    )
    with subworkflow(RAW):
        return activation.map_series(
            run.raw, mask, mask, model, series_name=RAW, settings=map_settings
        ).maps


def _measure_other_effects(run: EvaluatedRun, image: ImageLike, folder: Path) -> Effects:
    """Estimate the block effects of another run of the task."""
    settings = run.settings
    file = series_file(image, folder, "other_run")
    with SeriesReader(file) as reader:
        tr = header_tr(reader.header) or settings.tr
    events = load_events(run.inputs.other_events)
    with subworkflow("another_run"):
        return measure_other_run_effects(
            run.fitted_run,
            SeriesFile(bold_file=file, tr=tr),
            events,
            design=settings.design,
            random_seed=settings.random_seed,
        )
