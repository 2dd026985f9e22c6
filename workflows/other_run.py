"""Another acquired run as a reference of a run."""

from dataclasses import replace

from bids_sr.glm.design import DesignSettings
from bids_sr.pipeline.artifacts import Effects, Regressors
from bids_sr.pipeline.flow import add_methods_text, read_events, subworkflow
from bids_sr.pipeline.step import Part
from bids_sr.preflight.run_model import design_settings
from bids_sr.steps import another_run, run_confounds, temporal_model
from bids_sr.steps.temporal_model import TemporalModel
from bids_sr.workflows.confounds import make_temporal_model
from bids_sr.workflows.fit_run import (
    FittedRun,
    SeriesCorrection,
    SeriesFile,
    correct_acquired,
    find_steady_state,
    fit_motion,
)
from bids_sr.workflows.run_plan import RunPlan


def measure_another_run(plan: RunPlan, fitted_run: FittedRun) -> Effects | None:
    """Measure the block effects of another acquired run of the same task.

    None if there is no other run with events, or if either run cannot be split into halves.
    """
    other_run, settings = plan.bold.same_task_run, plan.analysis.settings
    preprocessing = settings.preprocessing
    unsplit = plan.analysis.plan.unsplit
    events = None if other_run is None else other_run.events
    if other_run is None or events is None or {plan.bold.bold, other_run.bold} & unsplit:
        return None
    if not plan.corrects_slice_timing:
        other_run = replace(other_run, slice_timing=None)
    correction = SeriesCorrection(
        slice_times=other_run.slice_timing,
        start_time=other_run.start_time(preprocessing.slice_time_ref),
        input_smoothing=preprocessing.input_smoothing,
    )
    with subworkflow("another_run_wf"):
        effects = _measure_effects(
            fitted_run,
            SeriesFile(
                bold_file=other_run.bold,
                tr=other_run.tr,
                axis_order=other_run.axis_order,
                correction=correction,
            ),
            read_events(events),
            dummy_scans=preprocessing.dummy_scans,
            search_outliers="outliers" not in preprocessing.ignore,
            temporal=make_temporal_model(plan),
            design=design_settings(other_run, settings),
            random_seed=settings.resources.random_seed,
        )
    add_methods_text(Part.EVALUATION, another_run.OTHER_RUN_TEXT)
    return effects


def _measure_effects(
    fitted_run: FittedRun,
    file: SeriesFile,
    regressors: Regressors,
    *,
    dummy_scans: int | None,
    search_outliers: bool,
    temporal: TemporalModel | None,
    design: DesignSettings,
    random_seed: int,
) -> Effects:
    """Measure the block effects of another run on the high-resolution grid of a run.

    `fitted_run` is the target of the registration; `file`, `regressors` (events), `dummy_scans`,
    `temporal` and `design` are of the other run. `dummy_scans` is the number of non-steady-state
    volumes at the start; None to detect it. `search_outliers` states whether outlier volumes are
    searched and replaced. If `temporal` is None, there is no temporal model. `random_seed` is the
    seed of the registration.
    """
    steady_run = find_steady_state(
        file.import_series(), dummy_scans=dummy_scans, search_outliers=search_outliers
    )
    head_motion = fit_motion(steady_run.bold, steady_run.n_dummy)
    assert head_motion.head_mask is not None
    stc = correct_acquired(steady_run.bold, steady_run.n_dummy, file.correction)
    time_columns = None
    if temporal is not None:
        _, _, time_columns, _ = temporal_model.add_temporal_regressors(
            run_confounds.motion_confounds(head_motion.motion, outliers=steady_run.outliers),
            None,
            temporal=temporal,
            tr=file.tr,
            n_dummy=steady_run.n_dummy,
        )
    return another_run.measure_other_run(
        stc,
        head_motion.boldref,
        head_motion.head_mask,
        head_motion.hmc_xfms,
        head_motion.motion,
        regressors,
        fitted_run.motion.boldref,
        fitted_run.registration.bold_mask,
        fitted_run.registration.bold_mask_hr,
        time_columns=time_columns,
        outliers=steady_run.outliers,
        factor=fitted_run.factor,
        n_dummy=steady_run.n_dummy,
        design=design,
        random_seed=random_seed,
    )
