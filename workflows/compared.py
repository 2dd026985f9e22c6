"""Series of other programs, and another acquired run that they are compared with."""

from collections.abc import Sequence
from dataclasses import replace

from bids_sr.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.pipeline.artifacts import Confounds, Effects, Facts, Mask, Regressors, Series
from bids_sr.pipeline.flow import events_in, say, subworkflow
from bids_sr.pipeline.step import Part
from bids_sr.steps import another_run, compared_series, motion
from bids_sr.workflows.confounds import model_time
from bids_sr.workflows.fit_run import FittedRun, HeadMotion, correct_acquired, estimate_motion
from bids_sr.workflows.run_plan import RunPlan


@frozen
class ComparedSeries:
    """A series of another program on the high-resolution grid of its run.

    `mask`: voxels of the brain that have signal. `compared_facts`: how it lies to the run.
    """

    series: Series
    mask: Mask
    compared_facts: Facts


def place_all_compared(plan: RunPlan, fitted: FittedRun) -> dict[str, ComparedSeries]:
    """Bring the series of other programs to the grid of their run, by name."""
    placed: dict[str, ComparedSeries] = {}
    if not plan.bold.compared:
        return placed
    say(Part.SERIES, compared_series.describe_compared(plan.compared_names))
    for name, run in plan.bold.compared.items():
        with subworkflow(name, high_resolution=True):
            compared = compared_series.import_compared(
                run.bold, tr=plan.bold.tr, axis_order=run.axis_order
            )
            placed[name] = place_compared(
                fitted,
                name,
                compared,
                slice_times=None if run.is_corrected else plan.slice_times,
                start_time=plan.start_time,
                factor=plan.bold.factor,
            )
    return placed


def place_compared(
    fitted: FittedRun,
    name: str,
    compared: Series,
    *,
    slice_times: Sequence[float] | None,
    start_time: float,
    factor: Factor,
) -> ComparedSeries:
    """Bring a series of another program to the grid of its run.

    Parameters
    ----------
    fitted : FittedRun
        The run.
    name : str
        Name of the series.
    compared : Series
        Its volumes.
    slice_times : Sequence[float] | None
        Times of its slices (s); None: their timing is not corrected.
    start_time : float
        Moment to which slices are brought (s after the start of a volume).
    factor : Factor
        Acquired over high-resolution voxel size, each axis.
    """
    registered, hmc_xfms = fitted.registration, fitted.motion.hmc_xfms
    compared_xfms, compared_facts, compared_signal = compared_series.align_compared(
        compared,
        fitted.bold,
        fitted.motion.boldref,
        registered.bold_mask,
        hmc_xfms,
        series_name=name,
    )
    stc = correct_acquired(
        compared,
        fitted.n_dummy,
        slice_times=slice_times,
        start_time=start_time,
        input_smoothing=0.0,
    )
    series, mask = compared_series.place_compared(
        stc,
        fitted.stc,
        registered.bold_mask_hr,
        hmc_xfms,
        compared_xfms,
        compared_facts,
        compared_signal,
        fitted.distortion,
        factor=factor,
        series_name=name,
    )
    return ComparedSeries(series=series, mask=mask, compared_facts=compared_facts)


def measure_another_run(plan: RunPlan, fitted: FittedRun) -> Effects | None:
    """Measure the effects of another acquired run of the task, if there is one with blocks."""
    other, settings = plan.bold.another, plan.planned.settings
    unsplit = plan.planned.plan.unsplit
    events = None if other is None else other.events
    if other is None or events is None or {plan.bold.bold, other.bold} & unsplit:
        return None
    if not plan.timed:
        other = replace(other, slice_timing=None)
    start_time = other.start_time(settings.preprocessing.slice_time_ref)
    with subworkflow("another_run_wf"):
        bold = motion.import_series(other.bold, tr=other.tr, axis_order=other.axis_order)
        n_dummy = motion.count_dummies(bold, dummy_scans=settings.preprocessing.dummy_scans)
        head_motion = estimate_motion(bold, n_dummy)
        stc = correct_acquired(
            bold,
            n_dummy,
            slice_times=other.slice_timing,
            start_time=start_time,
            input_smoothing=settings.preprocessing.input_smoothing,
        )
        time_columns = None
        if settings.activation.models_time:
            _, _, time_columns, _ = model_time(
                plan,
                motion.motion_confounds(head_motion.motion),
                None,
                tr=other.tr,
                n_dummy=n_dummy,
            )
        effects = other_run_effects(
            fitted,
            stc,
            n_dummy,
            head_motion,
            events_in(events),
            time_columns,
            factor=plan.bold.factor,
            tr=other.tr,
            high_pass=plan.high_pass,
            start_time=start_time,
            random_seed=settings.resources.random_seed,
        )
    say(Part.EVALUATION, another_run.OTHER_RUN_TEXT)
    return effects


def other_run_effects(
    fitted: FittedRun,
    stc: Series,
    n_dummy: int,
    head_motion: HeadMotion,
    regressors: Regressors,
    time_columns: Confounds | None,
    *,
    factor: Factor,
    tr: float,
    high_pass: float,
    start_time: float,
    random_seed: int,
) -> Effects:
    """Measure the effect of every block of another run on the high-resolution grid of a run.

    Parameters
    ----------
    fitted : FittedRun
        The run that the other one is registered to.
    stc : Series
        The other run, corrected in time.
    n_dummy : int
        Volumes at its start that are not steady.
    head_motion : HeadMotion
        Its head motion.
    regressors : Regressors
        Its events.
    time_columns : Confounds | None
        Columns of its temporal model; None if missing.
    factor : Factor
        Acquired over high-resolution voxel size, each axis.
    tr : float
        Its repetition time (s).
    high_pass : float
        Cut-off of the drift of its linear model (Hz).
    start_time : float
        Moment of a volume for which its values hold (s after its start).
    random_seed : int
        Seed of the registration.
    """
    head_mask = head_motion.head_mask
    if head_mask is None:
        head_mask = motion.mask_head(head_motion.boldref)
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
        factor=factor,
        tr=tr,
        n_dummy=n_dummy,
        high_pass=high_pass,
        start_time=start_time,
        random_seed=random_seed,
    )
