"""Series of other programs on the high-resolution grid of their run."""

from collections.abc import Sequence

from bids_sr.compared_series import steps
from bids_sr.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.pipeline.artifacts import Facts, Mask, Series
from bids_sr.pipeline.flow import add_methods_text, subworkflow
from bids_sr.pipeline.step import Part
from bids_sr.workflows.fit_run import FittedRun, correct_acquired
from bids_sr.workflows.run_plan import RunPlan


@frozen
class ComparedSeries:
    """A series of another program on the high-resolution grid of its run.

    `mask`: brain voxels with signal. `compared_facts`: alignment of the series to the run.
    """

    series: Series
    mask: Mask
    compared_facts: Facts


def resample_all_compared(plan: RunPlan, fitted: FittedRun) -> dict[str, ComparedSeries]:
    """Resample the series of other programs to the high-resolution grid of their run."""
    resampled: dict[str, ComparedSeries] = {}
    if not plan.bold.compared:
        return resampled
    add_methods_text(Part.SERIES, steps.describe_compared(plan.compared_names))
    for name, run in plan.bold.compared.items():
        with subworkflow(name, high_resolution=True):
            compared = steps.import_compared(run.bold, tr=plan.bold.tr, axis_order=run.axis_order)
            resampled[name] = resample_compared(
                fitted,
                name,
                compared,
                slice_times=None if run.is_corrected else plan.slice_times,
                start_time=plan.start_time,
                factor=plan.bold.factor,
            )
    return resampled


def resample_compared(
    fitted: FittedRun,
    name: str,
    compared: Series,
    *,
    slice_times: Sequence[float] | None,
    start_time: float,
    factor: Factor,
) -> ComparedSeries:
    """Resample a series of another program to the high-resolution grid of its run.

    Parameters
    ----------
    fitted : FittedRun
        Motion and registration of the run.
    name : str
        Name of the series.
    compared : Series
        Series of the other program.
    slice_times : Sequence[float] | None
        Slice times of the series (s); None: slice timing is not corrected.
    start_time : float
        Target time of the slice-timing correction (s after the start of a volume).
    factor : Factor
        Ratio of acquired to high-resolution voxel size, per axis.
    """
    registered, hmc_xfms = fitted.registration, fitted.motion.hmc_xfms
    compared_xfms, compared_facts, compared_signal = steps.align_compared(
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
    series, mask = steps.resample_compared(
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
