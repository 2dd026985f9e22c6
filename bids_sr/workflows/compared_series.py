"""Series of other programs on the high-resolution grid of their run."""

from bids_sr.engine.flow import add_methods_text, subworkflow
from bids_sr.engine.step import Part
from bids_sr.evaluation.compared_series import steps
from bids_sr.workflows.fit_run import FittedRun, correct_acquired
from bids_sr.workflows.run_plan import RunPlan, SeriesCorrection, SeriesFile
from bids_sr.workflows.series_requests import ComputedSeries


def resample_all_compared(plan: RunPlan, fitted_run: FittedRun) -> dict[str, ComputedSeries]:
    """Resample the series of other programs to the high-resolution grid of their run."""
    resampled_series: dict[str, ComputedSeries] = {}
    if not plan.bold.compared:
        return resampled_series
    corrected_names = [name for name, run in plan.bold.compared.items() if run.motion_corrected]
    add_methods_text(Part.SERIES, steps.describe_compared(plan.compared_names, corrected_names))
    for name, run in plan.bold.compared.items():
        correction = SeriesCorrection(
            slice_times=None if run.is_corrected else plan.correction.slice_times,
            start_time=plan.correction.start_time,
        )
        file = SeriesFile(
            bold_file=run.bold, tr=plan.bold.tr, axis_order=run.axis_order, correction=correction
        )
        with subworkflow(name, high_resolution=True):
            resampled_series[name] = _resample_compared(
                fitted_run, name, file, is_corrected=run.motion_corrected
            )
    return resampled_series


def _resample_compared(
    fitted_run: FittedRun, name: str, file: SeriesFile, *, is_corrected: bool
) -> ComputedSeries:
    """Resample a series of another program to the high-resolution grid of its run.

    `file` is the file of the series, with the repetition time of the run. `is_corrected` states
    whether the series was corrected for head motion.
    """
    compared = steps.import_compared(file.bold_file, tr=file.tr, axis_order=file.axis_order)
    registration, hmc_xfms = fitted_run.registration, fitted_run.motion.hmc_xfms
    compared_xfms, compared_facts, compared_signal = steps.align_compared(
        compared,
        fitted_run.bold,
        fitted_run.motion.boldref,
        registration.bold_mask,
        hmc_xfms,
        series_name=name,
        is_corrected=is_corrected,
    )
    stc = correct_acquired(compared, fitted_run.n_dummy, file.correction)
    series, mask = steps.resample_compared(
        stc,
        fitted_run.stc,
        registration.bold_mask_hr,
        hmc_xfms,
        compared_xfms,
        compared_facts,
        compared_signal,
        fitted_run.distortion,
        factor=fitted_run.factor,
        series_name=name,
    )
    return ComputedSeries(name=name, series=series, mask=mask, compared_facts=compared_facts)
