"""Series of other programs on the high-resolution grid of their run."""

from bids_sr.engine.flow import add_methods_text, subworkflow
from bids_sr.engine.step import Part
from bids_sr.evaluation.compared_series import steps
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.workflows.fit_run import FittedRun, correct_acquired
from bids_sr.workflows.run_plan import RunPlan, SeriesCorrection
from bids_sr.workflows.series_requests import ComputedSeries


def resample_all_compared(plan: RunPlan, fitted_run: FittedRun) -> dict[str, ComputedSeries]:
    """Resample the series of other programs to the high-resolution grid of their run."""
    compared = plan.bold.compared
    if compared:
        corrected_names = [name for name, run in compared.items() if run.motion_corrected]
        text = steps.describe_compared(plan.compared_names, corrected_names)
        add_methods_text(Part.SERIES, text)
    resampled_series = {}
    for name, run in compared.items():
        correction = SeriesCorrection(
            slice_times=None if run.is_corrected else plan.correction.slice_times,
            start_time=plan.correction.start_time,
        )
        with subworkflow(name, high_resolution=True):
            resampled_series[name] = _resample_compared(fitted_run, name, run, correction)
    return resampled_series


def _resample_compared(
    fitted_run: FittedRun, name: str, run: BoldRun, correction: SeriesCorrection
) -> ComputedSeries:
    """Resample a series of another program to the high-resolution grid of its run.

    `run` is the file of the series, and `correction` its slice-timing correction.
    """
    compared, compared_xfms, compared_facts, compared_signal = steps.import_compared(
        run.bold,
        fitted_run.bold,
        fitted_run.boldref,
        fitted_run.bold_mask,
        fitted_run.hmc_xfms,
        series_name=name,
        axis_order=run.axis_order,
        is_corrected=run.motion_corrected,
    )
    series, mask = steps.resample_compared(
        correct_acquired(compared, fitted_run.n_dummy, correction),
        fitted_run.bold_mask_hr,
        compared_xfms,
        compared_signal,
        # motion-corrected series are assumed to be undistorted
        None if run.motion_corrected else fitted_run.distortion,
        factor=fitted_run.factor,
    )
    return ComputedSeries(
        series_name=name, series=series, mask=mask, compared_facts=compared_facts
    )
