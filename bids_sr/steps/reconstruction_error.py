"""Reconstruction error of effect maps: coverage of intervals, error maps and reliable regions."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bids_sr.evaluation.detail_support import COVERAGE, permits_reliable
from bids_sr.evaluation.evidence import was_applied
from bids_sr.evaluation.tested_detail import iterate_tested_detail
from bids_sr.frozen import frozen
from bids_sr.glm.activation_maps import ActivationMaps
from bids_sr.glm.block_effects import Effects, block_effects
from bids_sr.glm.blocks import BlockDesign, TooFewBlocks
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.model_confounds import MOTION
from bids_sr.glm.smoothing import smooth
from bids_sr.glm.temporal_regressors import time_column_names
from bids_sr.io.arrays import Array, Float32, MaskArray
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
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
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import load_model
from bids_sr.sr.prior_maps.temporal_components import (
    SeriesError,
    motion_regressors,
    open_uncompressed,
)
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.steps.activation import map_contrasts, write_map
from bids_sr.steps.calibration_run import Calibration, get_patterns
from bids_sr.steps.error_maps import (
    FITTED,
    ErrorImages,
    describe_error_maps,
    describe_reliable_region,
    error_images,
    is_wide,
    iterate_contrasts,
)
from bids_sr.steps.linear_models import DesignInputs, LinearModel
from bids_sr.steps.memory import MAPS, VARIANCE
from bids_sr.steps.outlier_volumes import reasons_by_volume

if TYPE_CHECKING:
    from torch import Tensor

    from bids_sr.sr.prior_maps.lower_resolution_errors import DownsampledReconstruction

_LOGGER = logging.getLogger(__name__)
_Z_95 = 1.96  # standard deviations, half width of a 95 % interval


INTERVAL_TEST_TEXT = (
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
    preproc : Series
        Motion-corrected acquired series.
    bold_mask : Mask
        Brain on the acquired grid.
    hmc_xfms : Transforms
        Transforms of boldref points to points of each volume (T, 4, 4; RAS mm).
    model_file : File
        Variance maps of the run, with the model card in the same folder.
    linear_model : LinearModel
        Linear model of the run.
    calibration : Calibration | None
        Calibration run of the model; None if there is none.
    outliers : Facts | None
        Outlier volumes, which the prior does not use; None if they were not searched.
    series_name : str
        Name of the series of the method.
    smoothing : Sequence[float]
        Smoothing of the maps (FWHM, mm).
    factor : Factor
        Ratio of acquired to high-resolution voxel size, per axis.
    random_seed : int
        Seed of the prior and of its samples.
    omp_nthreads : int
        Number of CPU threads.

    Returns
    -------
    Rows
        One ``coverage_one_level_down`` per contrast; explained variance of the detail and number
        of voxels per contrast, region and smoothing, if the blocks can be split into halves. Empty
        if the model has no prior, was not applied, or cannot be tested in this run.
    """
    from threadpoolctl import threadpool_limits

    from bids_sr.sr.prior_maps.lower_resolution_errors import reconstruct_at_lower_resolution

    model = load_model(model_file)
    recipe = model.recipe
    if not (isinstance(recipe, VarianceRecipe) and recipe.fwhm and was_applied(model.card.json)):
        return []
    design = _build_block_design(linear_model.inputs, preproc)
    acquired = None
    try:
        prior = _downsample_calibration(recipe, model.card, calibration, preproc, factor)
        with threadpool_limits(omp_nthreads), open_uncompressed(preproc.path, here) as reader:
            reconstruction = reconstruct_at_lower_resolution(
                reader,
                bold_mask.data,
                factor,
                prior.recipe,
                here,
                n_dummy=linear_model.inputs.n_dummy,
                nuisance=_make_motion_regressors(hmc_xfms, bold_mask, preproc.affine),
                outliers=list(reasons_by_volume(outliers)),
                seed=random_seed,
                patterns=prior.patterns,
                weight=prior.weight,
            )
            if design is not None:
                acquired = block_effects(reader, bold_mask.data, design, series=MEASURED)
    except (SeriesError, ResolutionError) as error:
        _LOGGER.warning("%s: the confidence intervals could not be tested: %s", series_name, error)
        return []
    maps = _map_reconstruction(
        reconstruction,
        linear_model,
        design,
        series_name=series_name,
        smoothing=smoothing,
        here=here,
    )
    detail_rows: Iterator[MetricRow] = iter(())
    if acquired is not None:
        detail_rows = _score_detail(acquired, reconstruction, maps, linear_model.contrasts, factor)
    return [*detail_rows, *_score_coverage(series_name, reconstruction, maps)]


def _make_motion_regressors(hmc_xfms: Array, bold_mask: Volume, affine: Array) -> Array:
    """Return the regressors of head motion around the center of the brain.

    `affine` is the voxel-to-world matrix of the run (4 x 4, RAS mm).
    """
    from nibabel.affines import apply_affine

    brain_center = apply_affine(affine, np.argwhere(bold_mask.data).mean(0))
    return motion_regressors(hmc_xfms, brain_center)


@frozen
class _ReconstructionMaps:
    """Maps of a downsampled run and of the errors of its reconstruction.

    Attributes
    ----------
    low_fits : Mapping[float, ActivationMaps]
        Maps of the downsampled run by smoothing (FWHM, mm).
    low_zooms, low_affine : Sequence[float], Array
        Voxel sizes (mm) and voxel-to-world matrix of their grid.
    error_maps : Mapping[tuple[str, str], Array]
        Unsmoothed maps of the errors by contrast and statistic.
    block_errors : Effects | None
        Errors of the block effects; None if the run has no two halves.
    """

    low_fits: Mapping[float, ActivationMaps]
    low_zooms: Sequence[float]
    low_affine: Array
    error_maps: Mapping[tuple[str, str], Array]
    block_errors: Effects | None

    def upsample_t(self, shape: Sequence[int], affine: Array) -> dict[float, dict[str, Float32]]:
        """Return the t maps of the downsampled run on another grid, by smoothing and contrast."""
        return {
            width: {
                contrast: sample_volume(values, self.low_affine, shape, affine)
                for (contrast, stat), values in fit.maps.items()
                if stat == "t"
            }
            for width, fit in self.low_fits.items()
        }


def _map_reconstruction(
    reconstruction: "DownsampledReconstruction",
    linear_model: LinearModel,
    design: BlockDesign | None,
    *,
    series_name: str,
    smoothing: Sequence[float],
    here: Path,
) -> _ReconstructionMaps:
    """Map a downsampled run and the errors of its reconstruction, and remove their files."""
    with SeriesReader(reconstruction.lowres_series) as reader:
        low_zooms, low_affine = reader.zooms, reader.affine
        low_fits = map_contrasts(
            reader,
            reconstruction.lowres_mask,
            linear_model,
            here,
            kinds=("glm",),
            smoothing=sorted({0.0, *smoothing}),
        )
    reconstruction.lowres_series.unlink()
    block_errors = None
    with SeriesReader(reconstruction.errors) as reader:
        error_fits = map_contrasts(
            reader, reconstruction.mask, linear_model, here, kinds=("glm",), smoothing=[0.0]
        )
        if design is not None:
            block_errors = block_effects(reader, reconstruction.mask, design, series=series_name)
    reconstruction.errors.unlink()
    return _ReconstructionMaps(
        low_fits=low_fits,
        low_zooms=low_zooms,
        low_affine=low_affine,
        error_maps=error_fits[0.0].maps,
        block_errors=block_errors,
    )


class _LowerResolutionPrior(NamedTuple):
    """Prior at half the resolution.

    Attributes
    ----------
    recipe : VarianceRecipe
        Recipe of the variance maps.
    patterns : Tensor | None
        Patterns of the calibration run; None if the model was not calibrated.
    weight : float
        Weight of the patterns.
    """

    recipe: VarianceRecipe
    patterns: "Tensor | None"
    weight: float


def _downsample_calibration(
    recipe: VarianceRecipe,
    card: ModelCard,
    calibration: Calibration | None,
    preproc: SeriesReader,
    factor: Factor,
) -> _LowerResolutionPrior:
    """Return the prior at half the resolution; the recipe changes only for a calibrated model.

    A `SeriesError` is raised if the calibration run of the model is not available.
    """
    from bids_sr.sr.prior_maps.calibration_fit import read_calibration
    from bids_sr.sr.prior_maps.fit_variance import make_short_recipe

    calibration_patterns = get_patterns(calibration)
    weight, correction = read_calibration(card.json.get("held_out"))
    if not weight:
        return _LowerResolutionPrior(recipe, None, weight)
    if calibration_patterns is None or correction is None:
        raise SeriesError("the calibration run of the model is not available")
    low_patterns = calibration_patterns.downsample(
        preproc.shape[:3], preproc.affine, factor, correction
    )
    return _LowerResolutionPrior(make_short_recipe(recipe), low_patterns, weight)


def _score_detail(
    acquired: Effects,
    reconstruction: "DownsampledReconstruction",
    maps: _ReconstructionMaps,
    contrasts: Contrasts,
    factor: Factor,
) -> Iterator[MetricRow]:
    """Yield the explained variance of the reconstructed detail, with `acquired` as reference.

    There are no rows without block errors, because the run then has no two halves.
    """
    errors = maps.block_errors
    if errors is None:
        return
    reference = replace(
        acquired,
        betas=acquired.betas[reconstruction.window],
        mean=acquired.mean[reconstruction.window],
        mask=reconstruction.mask,
        affine=errors.affine,
    )
    yield from iterate_tested_detail(
        replace(errors, betas=reference.betas + errors.betas),
        reference,
        maps.upsample_t(reconstruction.mask.shape, errors.affine),
        contrasts,
        (factor[0], factor[1], 1.0),
    )


def _score_coverage(
    series_name: str,
    reconstruction: "DownsampledReconstruction",
    maps: _ReconstructionMaps,
) -> list[MetricRow]:
    """Return the fraction of voxels whose error is within the 95 % interval, by contrast.

    The power of the samples from the prior and the masks are taken from `reconstruction`.
    """
    from bids_sr.sr.prior_maps.posterior import effect_scale, interpolate_scale

    rows = []
    mask = reconstruction.mask
    low_maps, error_maps = maps.low_fits[0.0].maps, maps.error_maps
    for contrast in dict.fromkeys(contrast for contrast, _ in error_maps):
        scale = effect_scale(
            low_maps[contrast, "effect"],
            low_maps[contrast, "variance"],
            reconstruction.power,
            reconstruction.lowres_mask,
            maps.low_zooms,
        )
        variance = interpolate_scale(scale, mask.shape) * reconstruction.error_power
        total_variance = (variance + error_maps[contrast, "variance"])[mask]
        is_covered = np.square(error_maps[contrast, "effect"][mask]) < _Z_95**2 * total_variance
        rows += metric_rows(
            series_name,
            {COVERAGE: float(is_covered.mean())},
            region="brain",
            contrast=contrast,
            n=int(is_covered.size),
        )
    return rows


def _build_block_design(inputs: DesignInputs, series: SeriesReader) -> BlockDesign | None:
    """Return the design with one regressor per block; None if the run has no two halves."""
    confounds = inputs.confounds
    motion_names = [name for name in MOTION if confounds is not None and name in confounds]
    try:
        return inputs.build_block_design(series, (*motion_names, *time_column_names(confounds)))
    except TooFewBlocks:
        return None


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
    brain = mask.data
    scales = scale_by_contrast(
        acquired_maps, acquired_draws, bold_mask, min(smoothing), brain.shape
    )
    error_maps: list[Derivative] = []
    rows: list[MetricRow] = list(coverage_rows)
    box = bounding_box(brain)
    for width in smoothing:
        unit_variance = _average_squares(error_draws, width, box)
        for contrast, fitted_maps in iterate_contrasts(maps, width):
            contrast_error = _compute_error(
                fitted_maps, scales[contrast], unit_variance, mask, width, bold_mask.zooms
            )
            with_reliable = bool(permits_reliable(coverage_rows, series_name, contrast, width))
            described_maps = _describe_maps(
                contrast_error, fitted_maps["effect"], with_reliable=with_reliable
            )
            error_maps += [
                write_map(values, mask.affine, derivative, here)
                for values, derivative in described_maps
            ]
            regions = {"fdr": contrast_error.active}
            if with_reliable:
                regions["reliable"] = contrast_error.reliable
            for threshold, region in regions.items():
                rows += metric_rows(
                    series_name,
                    _measure_region(contrast_error, region),
                    threshold=threshold,
                    contrast=contrast,
                    fwhm_mm=width,
                )
    return error_maps, rows


def _compute_error(
    fitted_maps: Mapping[str, Derivative],
    scale: Float32,
    unit_variance: Float32,
    mask: Volume,
    width: float,
    acquired_zooms: Array,
) -> ErrorImages:
    """Compute the maps of the reconstruction error of one contrast.

    Parameters
    ----------
    fitted_maps : Mapping[str, Derivative]
        Maps of the linear model by statistic.
    scale : Float32
        Variance scale of the samples (X, Y, Z).
    unit_variance : Float32
        Mean square of the smoothed samples (X, Y, Z).
    mask : Volume
        Brain on the grid of the series.
    width : float
        Smoothing of the maps (FWHM, mm).
    acquired_zooms : Array
        Voxel size of the acquired grid (mm).
    """
    effect, variance, t, z = (fitted_maps[stat].volume.data for stat in FITTED)
    # The scale is averaged with the square of the smoothing kernel, which approximates the
    # smoothing of scaled samples.
    smoothed_scale = smooth(scale, mask.zooms.tolist(), width / 2**0.5)
    return error_images(
        effect=effect,
        variance=variance,
        t=t,
        z=z,
        error=np.where(mask.data, smoothed_scale * unit_variance, 0),
        brain=mask.data,
        is_wide=is_wide(width, acquired_zooms),
    )


def _describe_maps(
    contrast_error: ErrorImages, effect: Derivative, *, with_reliable: bool
) -> Iterator[tuple[Array, Derivative]]:
    """Yield values and metadata of error maps, followed by the reliable region if requested."""
    yield from describe_error_maps(contrast_error.images, effect)
    if with_reliable:
        yield describe_reliable_region(
            contrast_error.reliable, effect, contrast_error.reliable_text
        )


def _measure_region(contrast_error: ErrorImages, region: MaskArray) -> dict[str, float | None]:
    """Return the number of voxels of a region, and their expected share of the wrong sign."""
    return {
        "expected_wrong": contrast_error.compute_expected_wrong(region),
        "voxels": int(region.sum()),
    }


def scale_by_contrast(
    acquired_maps: Sequence[Derivative],
    acquired_draws: SeriesReader,
    bold_mask: Volume,
    width: float,
    shape: Sequence[int],
) -> dict[str, Float32]:
    """Return the variance scale of the samples on the high-resolution grid, by contrast.

    Parameters
    ----------
    acquired_maps : Sequence[Derivative]
        Maps of the acquired series.
    acquired_draws : SeriesReader
        Acquired part of the samples, on slices of the high-resolution grid.
    bold_mask : Volume
        Brain on the acquired grid.
    width : float
        Smoothing of the effects that scale the samples (FWHM, mm).
    shape : Sequence[int]
        Shape of the high-resolution grid.
    """
    from bids_sr.sr.prior_maps.posterior import (
        effect_scale,
        interpolate_scale,
        select_acquired_slices,
    )

    brain = bold_mask.data
    in_plane = bounding_box(brain)[:2]
    power = select_acquired_slices(
        _average_squares(acquired_draws, width, (*in_plane, slice(None))), brain.shape[2]
    )
    scales = {}
    for contrast, acquired in iterate_contrasts(acquired_maps, width):
        effect, variance = (acquired[stat].volume.data for stat in ("effect", "variance"))
        scale = effect_scale(effect, variance, power, brain, bold_mask.zooms.tolist())
        scales[contrast] = interpolate_scale(scale, shape)
    return scales


def _average_squares(
    samples: SeriesReader, width: float, box: tuple[slice, slice, slice]
) -> Float32:
    """Return the mean square of smoothed samples in a box, and 0 elsewhere (X, Y, Z).

    Samples are smoothed with a kernel of `width` (FWHM, mm).
    """
    mean_square = np.zeros(samples.shape[:3], np.float32, order="F")  # as the volumes of a file
    for sample in samples.volumes():
        smoothed = smooth(sample, samples.zooms, width, box)
        mean_square[box] += smoothed * (smoothed / samples.shape[3])
    return mean_square
