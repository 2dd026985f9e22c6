"""Reconstruction error of effect maps: coverage of intervals, error maps and reliable regions."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from bids_sr.evaluation.detail_support import COVERAGE, permits_reliable
from bids_sr.evaluation.evidence import was_applied
from bids_sr.evaluation.tested_detail import iterate_tested_detail
from bids_sr.glm.block_effects import block_effects
from bids_sr.glm.blocks import BlockDesign, TooFewBlocks
from bids_sr.glm.model_confounds import MOTION
from bids_sr.glm.smoothing import smooth
from bids_sr.glm.temporal_regressors import time_column_names
from bids_sr.io.arrays import Array, Float32
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.metrics.rows import MetricRow, metric_rows
from bids_sr.pipeline.artifacts import (
    Derivative,
    Facts,
    File,
    Map,
    Mask,
    Rows,
    Series,
    Transforms,
)
from bids_sr.pipeline.step import HERE, step
from bids_sr.run_time import RunTime
from bids_sr.series import MEASURED
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.matrices import ResolutionError
from bids_sr.sr.models.model import load_model
from bids_sr.sr.prior_maps.temporal_components import (
    SeriesError,
    motion_regressors,
    open_uncompressed,
)
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.steps.activation import map_contrasts
from bids_sr.steps.calibration_run import Calibration, calibration_exemplars
from bids_sr.steps.error_maps import (
    FITTED,
    describe_error_maps,
    describe_reliable_region,
    error_images,
    is_wide,
    maps_by_contrast,
)
from bids_sr.steps.linear_models import DesignInputs, LinearModel
from bids_sr.steps.memory import MAPS, VARIANCE
from bids_sr.steps.outlier_volumes import reasons_by_volume

_LOGGER = logging.getLogger(__name__)


CHECKED_INTERVALS = (
    "To test the coverage of the confidence intervals of super-resolved effects, the run was"
    " downsampled by the super-resolution factor and reconstructed with variance maps"
    " estimated at the lower resolution. The reconstructed effects were then compared with"
    " the acquired effects. The explained variance of their detail was computed as described for"
    " a high-resolution reference, with confidence intervals from a jackknife over slices and a"
    " standard deviation of 5 percentage points for the difference in resolution.\n"
)
"""Methods text of `check_intervals`."""


@step(makes="coverage_rows", memory=VARIANCE, cost=RunTime(always=2.0, low=70.0, volumes=0.008))
def check_intervals(
    preproc: Series,
    bold_mask: Mask,
    hmc_xfms: Transforms,
    model_file: File,
    linear_model: LinearModel,
    calibration: Calibration | None = None,
    outliers: Facts | None = None,
    *,
    here: Path = HERE,
    series_name: str,
    smoothing: Sequence[float],
    factor: Factor,
    random_seed: int,
    omp_nthreads: int,
) -> Rows:
    """Test effects at half the resolution, with the acquired run as the reference.

    The run is downsampled by the super-resolution factor and super-resolved. The errors of its
    effects are compared with their predicted variance, and the detail of its effects with the
    acquired detail. If the model was calibrated, the patterns of the calibration run are
    downsampled as well.

    Parameters
    ----------
    linear_model : LinearModel
        Linear model of the run.
    calibration : Calibration | None
        Calibration run of the model; None if there is none.
    outliers : Facts | None
        Outlier volumes, which the prior does not use; None if they were not searched.

    Returns
    -------
    Rows
        One ``coverage_one_level_down`` per contrast; explained variance of the detail and number
        of voxels per contrast, region and smoothing, if the blocks can be split into halves. Empty
        if the model has no prior, was not applied, or cannot be tested in this run.
    """
    from nibabel.affines import apply_affine
    from threadpoolctl import threadpool_limits

    from bids_sr.sr.prior_maps.calibration_fit import read_calibration
    from bids_sr.sr.prior_maps.fit_variance import make_short_recipe
    from bids_sr.sr.prior_maps.lower_resolution_errors import reconstruct_at_lower_resolution
    from bids_sr.sr.prior_maps.posterior import effect_scale

    model = load_model(model_file)
    recipe = model.recipe
    if not (isinstance(recipe, VarianceRecipe) and recipe.fwhm and was_applied(model.card.json)):
        return []
    middle = apply_affine(preproc.affine, np.argwhere(bold_mask.data).mean(0))
    design = _block_design(linear_model.inputs, preproc)
    exemplars = None if calibration is None else calibration_exemplars(calibration)
    weight, correction = read_calibration(model.card.json.get("held_out"))
    patterns = None
    try:
        if weight:
            if exemplars is None or correction is None:
                raise SeriesError("the calibration run of the model is not available")
            recipe = make_short_recipe(recipe)
            patterns = exemplars.downsample(
                bold_mask.data.shape,
                preproc.affine,
                factor,
                correction,
            )
        with threadpool_limits(omp_nthreads), open_uncompressed(preproc.path, here) as reader:
            below = reconstruct_at_lower_resolution(
                reader,
                bold_mask.data,
                factor,
                recipe,
                here,
                n_dummy=linear_model.inputs.n_dummy,
                nuisance=motion_regressors(hmc_xfms, middle),
                outliers=list(reasons_by_volume(outliers)),
                seed=random_seed,
                patterns=patterns,
                weight=weight,
            )
            if design is not None:
                acquired = block_effects(reader, bold_mask.data, design, series=MEASURED)
    except (SeriesError, ResolutionError) as error:
        _LOGGER.warning("%s: the confidence intervals could not be tested: %s", series_name, error)
        return []
    rows: list[MetricRow] = []
    maps = {}
    for path, mask, widths in (
        (below.lowres_series, below.lowres_mask, sorted({0.0, *smoothing})),
        (below.errors, below.mask, [0.0]),
    ):
        with SeriesReader(path) as reader:
            fits = map_contrasts(
                reader, mask, linear_model, here, kinds=("glm",), smoothing=widths
            )
            maps[path] = fits, reader.zooms, reader.affine
            if design is not None and path == below.errors:
                errors = block_effects(reader, mask, design, series=series_name)
        path.unlink()
    (low_fits, zooms, low_affine), (error_fits, _, _) = (
        maps[below.lowres_series],
        maps[below.errors],
    )
    if design is not None:
        acquired = replace(
            acquired,
            betas=acquired.betas[below.window],
            mean=acquired.mean[below.window],
            mask=below.mask,
            affine=errors.affine,
        )
        rows += iterate_tested_detail(
            replace(errors, betas=acquired.betas + errors.betas),
            acquired,
            {
                width: {
                    name: sample_volume(values, low_affine, below.mask.shape, acquired.affine)
                    for (name, stat), values in fit.maps.items()
                    if stat == "t"
                }
                for width, fit in low_fits.items()
            },
            linear_model.contrasts,
            (factor[0], factor[1], 1.0),
        )
    low_maps, error_maps = low_fits[0.0].maps, error_fits[0.0].maps
    for name in dict.fromkeys(contrast for contrast, _ in error_maps):
        scale = effect_scale(
            low_maps[name, "effect"],
            low_maps[name, "variance"],
            below.power,
            below.lowres_mask,
            zooms,
        )
        variance = _interpolate_to(scale, below.mask.shape) * below.error_power
        total = (variance + error_maps[name, "variance"])[below.mask]
        inside = np.square(error_maps[name, "effect"][below.mask]) < 1.96**2 * total
        rows += metric_rows(
            series_name,
            {COVERAGE: float(inside.mean())},
            region="brain",
            contrast=name,
            n=int(inside.size),
        )
    return rows


def _block_design(inputs: DesignInputs, series: SeriesReader) -> BlockDesign | None:
    """Return the design with one regressor per block; None if the run has no two halves."""
    confounds = inputs.confounds
    names = [name for name in MOTION if confounds is not None and name in confounds]
    try:
        return inputs.build_block_design(series, (*names, *time_column_names(confounds)))
    except TooFewBlocks:
        return None


def _interpolate_to(scale: Array, shape: Sequence[int]) -> Float32:
    """Interpolate a map on the acquired grid linearly to the shape of a higher-resolution grid."""
    ratio = [n / m for n, m in zip(shape, scale.shape, strict=True)]
    zoomed: Float32 = ndimage.zoom(scale, ratio, order=1, mode="nearest", grid_mode=True)
    return zoomed


def describe_error(series: str) -> str:
    """Return methods text of the reconstruction error of a series."""
    return (
        f"Reconstruction error in {series} is proportional to the effect and"
        " identical in all blocks, so it is not included in the residuals of the linear model."
        " The standard deviation of the reconstruction error was therefore estimated from 64"
        " samples from the prior distribution of the run, scaled by the local power of the"
        " acquired effect above noise. For each voxel, the probability that the effect has the"
        " wrong sign was computed from this standard deviation and from the variance in the"
        " linear model.\n"
    )


@step(makes=("error_maps", "error_rows"), memory=MAPS, cost=RunTime(always=4.0, high=4.0))
def measure_error(
    maps: list[Map],
    acquired_maps: list[Map],
    mask: Mask,
    bold_mask: Mask,
    coverage_rows: Rows,
    error_draws: Series | None = None,
    acquired_draws: Series | None = None,
    *,
    here: Path = HERE,
    series_name: str,
    smoothing: Sequence[float],
) -> tuple[list[Map], Rows]:
    """Map the reconstruction error of a series, with reliable regions.

    Parameters
    ----------
    maps : list[Map]
        Maps of the series.
    acquired_maps : list[Map]
        Maps of the acquired series, whose effects at the narrowest smoothing scale the samples.
    mask : Mask
        Brain on the grid of the series.
    bold_mask : Mask
        Brain on the acquired grid.
    coverage_rows : Rows
        Result of `check_intervals`.
    error_draws : Series | None, optional
        Samples of the reconstruction error, (X, Y, Z, samples); None if the method has no prior.
    acquired_draws : Series | None, optional
        Acquired (low-resolution) part of the same samples.
    series_name : str
        Name of the series.
    smoothing : Sequence[float]
        Smoothing of the maps (FWHM, mm).

    Returns
    -------
    tuple[list[Map], Rows]
        Error maps and reliable regions; and coverage, sizes of the regions and expected shares of
        the wrong sign. Both are empty if there are no samples.
    """
    if error_draws is None or acquired_draws is None:
        return [], []
    from bids_sr.sr.prior_maps.posterior import effect_scale

    brain, coarse, zooms = mask.data, bold_mask.data, bold_mask.zooms
    narrowest = min(smoothing)
    # if super-resolution makes slices thinner, the samples are taken from the thin slice at the
    # center of each acquired slice
    thinner = brain.shape[2] / coarse.shape[2]
    centers = ((np.arange(coarse.shape[2]) + 0.5) * thinner).astype(int)
    in_plane = bounding_box(coarse)[:2]
    power = _mean_square(acquired_draws, narrowest, (*in_plane, slice(None)))[..., centers]
    scales = {}
    for name, acquired in maps_by_contrast(acquired_maps, narrowest):
        effect, variance = (acquired[stat].volume.data for stat in ("effect", "variance"))
        scales[name] = _interpolate_to(
            effect_scale(effect, variance, power, coarse, zooms.tolist()), brain.shape
        )
    error_maps: list[Derivative] = []
    rows: list[MetricRow] = list(coverage_rows)
    box = bounding_box(brain)
    for width in smoothing:
        unit = _mean_square(error_draws, width, box)
        for name, fitted_maps in maps_by_contrast(maps, width):
            effect, variance, t, z = (fitted_maps[stat].volume.data for stat in FITTED)
            # The scale is averaged with the square of the smoothing kernel, which approximates the
            # smoothing of scaled samples.
            scale = smooth(scales[name], mask.zooms.tolist(), width / 2**0.5)
            error = error_images(
                effect=effect,
                variance=variance,
                t=t,
                z=z,
                error=np.where(brain, scale * unit, 0),
                brain=brain,
                is_wide=is_wide(width, zooms),
            )
            effect_map = fitted_maps["effect"]
            results = list(describe_error_maps(error.images, effect_map))
            regions = {"fdr": error.active}
            if permits_reliable(coverage_rows, series_name, name, width):
                regions["reliable"] = error.reliable
                results.append(
                    describe_reliable_region(error.reliable, effect_map, error.reliable_text)
                )
            for values, derivative in results:
                save_image(values, mask.affine, path := here / f"{derivative.name}.nii")
                error_maps.append(Derivative(path, derivative.entities, derivative.sidecar))
            for threshold, region in regions.items():
                metrics = {
                    "expected_wrong": error.compute_expected_wrong(region),
                    "voxels": int(region.sum()),
                }
                rows += metric_rows(
                    series_name, metrics, threshold=threshold, contrast=name, fwhm_mm=width
                )
    return error_maps, rows


def _mean_square(samples: SeriesReader, width: float, box: tuple[slice, slice, slice]) -> Float32:
    """Return the mean square of smoothed samples in a box, and 0 elsewhere (X, Y, Z).

    Samples are smoothed with a kernel of `width` (FWHM, mm).
    """
    total = np.zeros(samples.shape[:3], np.float32, order="F")  # as the volumes of a file
    for volume in samples.volumes():
        smoothed = smooth(volume, samples.zooms, width, box)
        total[box] += smoothed * (smoothed / samples.shape[3])
    return total
