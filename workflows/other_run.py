"""Another acquired run as a reference of a run."""

from dataclasses import replace

from bids_sr.glm.design import DesignSettings
from bids_sr.io.grids import Factor
from bids_sr.pipeline.artifacts import Confounds, Effects, Facts, Regressors, Series
from bids_sr.pipeline.flow import add_methods_text, read_events, subworkflow
from bids_sr.pipeline.step import Part
from bids_sr.preflight.run_model import design_settings
from bids_sr.steps import acquired_series, another_run, bold_reference, run_confounds
from bids_sr.workflows.confounds import add_temporal_regressors
from bids_sr.workflows.fit_run import (
    FittedRun,
    HeadMotion,
    correct_acquired,
    estimate_motion,
    find_steady,
)
from bids_sr.workflows.run_plan import RunPlan


def measure_another_run(plan: RunPlan, fitted: FittedRun) -> Effects | None:
    """Measure the block effects of another acquired run of the same task.

    None if there is no other run with events, or if either run cannot be split into halves.
    """
    other_run, settings = plan.bold.same_task_run, plan.planned.settings
    unsplit = plan.planned.plan.unsplit
    events = None if other_run is None else other_run.events
    if other_run is None or events is None or {plan.bold.bold, other_run.bold} & unsplit:
        return None
    if not plan.corrects_slice_timing:
        other_run = replace(other_run, slice_timing=None)
    design = design_settings(other_run, settings)
    with subworkflow("another_run_wf"):
        steady = find_steady(
            acquired_series.import_series(
                other_run.bold, tr=other_run.tr, axis_order=other_run.axis_order
            ),
            dummy_scans=settings.preprocessing.dummy_scans,
            search_outliers="outliers" not in settings.preprocessing.ignore,
        )
        bold, n_dummy = steady.bold, steady.n_dummy
        head_motion = estimate_motion(bold, n_dummy)
        stc = correct_acquired(
            bold,
            n_dummy,
            slice_times=other_run.slice_timing,
            start_time=other_run.start_time(settings.preprocessing.slice_time_ref),
            input_smoothing=settings.preprocessing.input_smoothing,
        )
        time_columns = None
        if settings.activation.models_time:
            _, _, time_columns, _ = add_temporal_regressors(
                plan,
                run_confounds.motion_confounds(head_motion.motion, outliers=steady.outliers),
                None,
                tr=other_run.tr,
                n_dummy=n_dummy,
            )
        effects = other_run_effects(
            fitted,
            stc,
            n_dummy,
            head_motion,
            read_events(events),
            time_columns,
            steady.outliers,
            factor=plan.bold.factor,
            design=design,
            random_seed=settings.resources.random_seed,
        )
    add_methods_text(Part.EVALUATION, another_run.OTHER_RUN_TEXT)
    return effects


def other_run_effects(
    fitted: FittedRun,
    stc: Series,
    n_dummy: int,
    head_motion: HeadMotion,
    regressors: Regressors,
    time_columns: Confounds | None,
    outliers: Facts | None,
    *,
    factor: Factor,
    design: DesignSettings,
    random_seed: int,
) -> Effects:
    """Measure the block effects of another run on the high-resolution grid of a run.

    Parameters
    ----------
    fitted : FittedRun
        Target run of the registration.
    stc : Series
        Other run, after slice-timing correction.
    n_dummy : int
        Number of non-steady-state volumes at the start of the other run.
    head_motion : HeadMotion
        Head motion of the other run.
    regressors : Regressors
        Events of the other run.
    time_columns : Confounds | None
        Columns of the temporal model of the other run; None if there is no temporal model.
    outliers : Facts | None
        Outlier volumes of the other run; None if they were not searched.
    factor : Factor
        Ratio of acquired to high-resolution voxel size, per axis.
    design : DesignSettings
        Options of the design of the other run.
    random_seed : int
        Seed of the registration.
    """
    head_mask = head_motion.head_mask
    if head_mask is None:
        head_mask = bold_reference.mask_head(head_motion.boldref)
    return another_run.measure_other_run(
        stc,
        head_motion.boldref,
        head_mask,
        head_motion.hmc_xfms,
        head_motion.motion,
        regressors,
        fitted.motion.boldref,
        fitted.registration.bold_mask,
        fitted.registration.bold_mask_hr,
        time_columns=time_columns,
        outliers=outliers,
        factor=factor,
        n_dummy=n_dummy,
        design=design,
        random_seed=random_seed,
    )
