"""Reconstruction error of the mean effect of the region of interest."""

from collections.abc import Sequence

import numpy as np

from bids_sr.glm.region_means import (
    MeanEffect,
    describe_mean_effect,
    find_named_region,
)
from bids_sr.metrics.region_statistics import MEAN_EFFECT, NOISE_DOF, NOISE_SD
from bids_sr.metrics.rows import MetricRow
from bids_sr.pipeline.artifacts import Map, Mask, Rows, Series
from bids_sr.pipeline.step import step
from bids_sr.run_time import RunTime
from bids_sr.steps.error_samples import ErrorSamples
from bids_sr.steps.memory import MAPS
from bids_sr.steps.reconstruction_error import scale_by_contrast

REGION_ERROR_TEXT = (
    "The mean effect of the region of interest and its noise were estimated from the mean time"
    " series of the region, and the standard deviation of its reconstruction error from the means"
    " of the same samples over the region.\n"
)
"""Methods text of `measure_region_error`."""


@step(makes="region_rows", memory=MAPS, cost=RunTime(always=0.5, high=0.5))
def measure_region_error(
    region_rows: Rows,
    acquired_maps: list[Map],
    mask: Mask,
    roi: Mask,
    bold_mask: Mask,
    error_draws: Series | None = None,
    acquired_draws: Series | None = None,
    *,
    smoothing: Sequence[float],
) -> Rows:
    """Add the reconstruction error to the mean effects of the region of interest.

    The error of each sample is averaged over the region, so that the result includes the
    correlation of errors between voxels. The interval of the effect then covers both errors.

    `region_rows` are mean effects of a series with their noise, see
    `bids_sr.steps.activation.map_series`. Effects of `acquired_maps` at the narrowest smoothing
    scale the samples. `mask` and `roi` are on the grid of the series, and `bold_mask` on the
    acquired grid. `error_draws` are samples of the reconstruction error, (X, Y, Z, samples); None
    if the method has no prior. `acquired_draws` are the acquired (low-resolution) part of the same
    samples. `smoothing` is the smoothing of the maps (FWHM, mm).

    Returns the input if there is no region, or if there are no samples.
    """
    region = find_named_region(roi.data, mask.data)
    if region is None or not region_rows or error_draws is None or acquired_draws is None:
        return region_rows
    samples = ErrorSamples(
        errors=error_draws, acquired=acquired_draws, brain=bold_mask, brain_hr=mask
    )
    width = min(smoothing)
    acquired_power = samples.compute_acquired_power(width)
    scales = scale_by_contrast(samples, acquired_maps, acquired_power, width)
    mean_effects = _collect_mean_effects(region_rows)
    error_sds = samples.compute_mean_sds(
        region, [(scales[contrast], width) for contrast, width in mean_effects]
    )
    return [
        row
        for (contrast, width), error_sd in zip(mean_effects, error_sds, strict=True)
        for row in describe_mean_effect(
            region_rows[0].series,
            contrast,
            mean_effects[contrast, width],
            width,
            int(np.count_nonzero(region)),
            error_sd=error_sd,
            error_dof=float(error_draws.shape[3]),
        )
    ]


def _collect_mean_effects(rows: Sequence[MetricRow]) -> dict[tuple[str, float], MeanEffect]:
    """Return the mean effects of a series by contrast and smoothing (FWHM, mm)."""
    values = {(row.contrast, row.fwhm_mm, row.statistic): row.value for row in rows}
    return {
        (contrast, width): MeanEffect(
            effect=effect,
            noise_sd=values[contrast, width, NOISE_SD],
            noise_dof=values[contrast, width, NOISE_DOF],
        )
        for (contrast, width, statistic), effect in values.items()
        if statistic == MEAN_EFFECT
    }
