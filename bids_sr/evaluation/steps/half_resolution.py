"""Test of super-resolved effects at half the resolution, with the acquired run as the reference.

The run is downsampled by the super-resolution factor in plane and super-resolved again. The errors
of its effects are compared with their predicted variance, and the detail of its effects with the
acquired detail.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bids_sr.engine.metric_rows import MetricRow, metric_rows
from bids_sr.evaluation.detail_support import COVERAGE, SMOOTHNESS
from bids_sr.evaluation.missing_blocks import iterate_block_counts
from bids_sr.evaluation.steps.half_resolution_maps import HalfResolutionMaps
from bids_sr.evaluation.tested_detail import iterate_tested_detail
from bids_sr.glm.activation_maps import ActivationMaps, ActivationSettings, map_activation
from bids_sr.glm.activation_regions import Z_95
from bids_sr.glm.block_effects import Effects, block_effects
from bids_sr.glm.blocks import BlockDesign, TooFewBlocks, count_used_blocks
from bids_sr.glm.contrast_effects import compute_contrast_effects
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import Design
from bids_sr.glm.noise_smoothness import measure_smoothness
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.io.arrays import Array, Float32
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.series import MEASURED
from bids_sr.io.volume import Volume
from bids_sr.preproc.temporal_regressors import time_column_names
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.prior_maps.temporal_components import motion_regressors, open_uncompressed
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.steps.error_samples import interpolate_to_shape

if TYPE_CHECKING:
    from torch import Tensor

    from bids_sr.sr.prior_maps.lower_resolution_errors import DownsampledReconstruction


@frozen
class HalfResolutionPrior:
    """Prior at half the resolution.

    `patterns` are of the calibration run; None if the model was not calibrated. `weight` is the
    weight of the patterns.
    """

    recipe: VarianceRecipe
    patterns: "Tensor | None" = None
    weight: float = 0.0


@frozen
class HalfResolutionEffects:
    """Effects of a run at half the resolution, on the tested part of the acquired grid (x, y, z).

    `reconstructed` are block effects of the downsampled and super-resolved run, and `acquired` are
    block effects of the acquired run. `active_t` are t maps of the downsampled run by smoothing
    (FWHM, mm) and contrast. `task_free` are the effects with a prior of the run without its task
    (x, y, z, B); None if there is no task.
    """

    reconstructed: Effects
    acquired: Effects
    active_t: Mapping[float, Mapping[str, Float32]]
    task_free: Float32 | None = None

    def score_detail(self, contrasts: Contrasts, factor: Factor) -> Iterator[MetricRow]:
        """Yield the explained variance of the reconstructed detail of each contrast.

        `factor` is the ratio of acquired to high-resolution voxel size, per axis.
        """
        yield from iterate_tested_detail(
            self.reconstructed,
            self.acquired,
            self.active_t,
            contrasts,
            (factor[0], factor[1], 1.0),
            task_free=self.task_free,
        )


@frozen
class HalfResolutionTest:
    """Effects of a run at half the resolution, coverage of their intervals, and smoothness.

    `effects` are effects of blocks; None if the run has no two halves. `run_rows` are the fraction
    of voxels whose error is within the 95 % interval, one row per contrast; smoothness of the run;
    and numbers of blocks of conditions with too few for two halves. `maps` are effects of all
    contrasts, for tests with other runs.
    """

    effects: HalfResolutionEffects | None
    run_rows: Sequence[MetricRow]
    maps: HalfResolutionMaps


def run_half_resolution_test(
    preproc: SeriesReader,
    brain: Volume,
    hmc_xfms: Array,
    prior: HalfResolutionPrior,
    linear_model: LinearModel,
    here: Path,
    *,
    outliers: Sequence[int] = (),
    series_name: str,
    smoothing: Sequence[float],
    factor: Factor,
    random_seed: int,
    omp_nthreads: int,
    keeps_blocks: bool = False,
) -> HalfResolutionTest:
    """Downsample a run, super-resolve it, and compare its effects with the acquired effects.

    `preproc` is motion-corrected, and `brain` is on the acquired grid. `hmc_xfms` are transforms
    of boldref points to points of each volume (T, 4, 4; RAS mm). Scratch files in `here` are
    removed. `outliers` are the numbers of the volumes that are not used for the prior, counted
    from 0. `smoothing` is the smoothing of the maps (FWHM, mm). `random_seed` is the seed of the
    prior and of its samples. `keeps_blocks` states whether the maps for tests with other runs have
    effects of blocks.

    Raises `SeriesError` or `ResolutionError` if the run is too short, or cannot be downsampled.
    """
    from threadpoolctl import threadpool_limits

    from bids_sr.sr.prior_maps.lower_resolution_errors import reconstruct_at_lower_resolution

    design, block_counts = _build_block_design(linear_model.inputs, preproc)
    acquired = None
    with threadpool_limits(omp_nthreads), open_uncompressed(preproc.path, here) as reader:
        model_design = linear_model.build_design(reader)
        reconstruction = reconstruct_at_lower_resolution(
            reader,
            brain.data,
            factor,
            prior.recipe,
            here,
            n_dummy=linear_model.inputs.n_dummy,
            nuisance=motion_regressors(hmc_xfms, brain.data, preproc.affine),
            outliers=outliers,
            seed=random_seed,
            patterns=prior.patterns,
            weight=prior.weight,
            task=list_task_regressors(model_design, design, reader.shape[3]),
        )
        smoothness = measure_smoothness(reader, brain.data, linear_model.inputs.n_dummy)
        if design is not None:
            acquired = block_effects(reader, brain.data, design, series=MEASURED)
        acquired_effects = compute_contrast_effects(
            reader, model_design, linear_model.mapped_contrasts
        )
    maps = _map_reconstruction(
        reconstruction,
        linear_model,
        design,
        series_name=series_name,
        smoothing=smoothing,
        here=here,
    )
    effects = None if acquired is None else _select_effects(acquired, reconstruction, maps)
    return HalfResolutionTest(
        effects=effects,
        run_rows=[
            *_score_coverage(series_name, reconstruction, maps),
            *metric_rows(series_name, {SMOOTHNESS: smoothness}, region="brain"),
            *iterate_block_counts(series_name, block_counts, linear_model.contrasts),
        ],
        maps=_collect_maps(
            reconstruction,
            maps,
            acquired_effects[(slice(None), *reconstruction.window)],
            linear_model.mapped_contrasts,
            smoothness,
            effects if keeps_blocks else None,
        ),
    )


def _build_block_design(
    inputs: DesignInputs, series: SeriesReader
) -> tuple[BlockDesign | None, dict[str, int]]:
    """Return the design with one regressor per block, and the number of blocks by condition.

    The design is None if the run has no two halves. The numbers are {} if the number of volumes is
    the reason.
    """
    confounds = inputs.confounds
    motion_names = [
        name for name in MOTION_REGRESSORS if confounds is not None and name in confounds
    ]
    try:
        design = inputs.build_block_design(series, (*motion_names, *time_column_names(confounds)))
    except TooFewBlocks as error:
        return None, error.counts
    return design, count_used_blocks(design.blocks)


def list_task_regressors(
    design: Design, block_design: BlockDesign | None, n_volumes: int
) -> Array | None:
    """Return responses to conditions, their temporal derivatives, and responses to blocks (T, P).

    Responses may be late, and blocks may differ. None is returned for seeds.
    """
    if design.hrf is None:
        return None
    responses = design.matrix[:, : len(design.conditions)]
    columns = [responses, np.gradient(responses, axis=0)]
    if block_design is not None:
        n_modeled = np.count_nonzero(np.any(block_design.weights, axis=0))
        columns.append(block_design.matrix[:, :n_modeled])
    regressors = np.zeros((n_volumes, sum(column.shape[1] for column in columns)))
    regressors[design.n_dummy :] = np.hstack(columns)
    return regressors


@frozen
class _ReconstructionMaps:
    """Maps of a downsampled run and of the errors of its reconstruction.

    `low_fits` are maps of the downsampled run by smoothing (FWHM, mm). `low_zooms` are the voxel
    sizes (mm) and `low_affine` is the voxel-to-world matrix of their grid. `affine` is the
    voxel-to-world matrix of the tested part of the acquired grid. `error_maps` are unsmoothed maps
    of the errors by contrast and statistic. `error_effects` are errors of the effects in complete
    slices (contrasts, x, y, z). `block_errors` are errors of the block effects; None if the run
    has no two halves. `task_free_effects` (contrasts, x, y, z) and `task_free_blocks` (x, y, z, B)
    are effects with a prior of the run without its task. Without a task, there are no contrasts,
    and the blocks are None; they are also None if the run has no two halves.
    """

    low_fits: Mapping[float, ActivationMaps]
    low_zooms: Sequence[float]
    low_affine: Array
    affine: Array
    error_maps: Mapping[tuple[str, str], Array]
    error_effects: Float32
    block_errors: Effects | None
    task_free_effects: Float32
    task_free_blocks: Float32 | None

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
    contrasts, settings = linear_model.mapped_contrasts, ActivationSettings(kinds=("glm",))
    with SeriesReader(reconstruction.lowres_series) as reader:
        low_zooms, low_affine = reader.zooms, reader.affine
        low_design = linear_model.build_design(reader)
        low_fits = map_activation(
            reader,
            reconstruction.lowres_mask,
            dict.fromkeys(sorted({0.0, *smoothing}), low_design),
            contrasts,
            settings,
            scratch=here,
        )
        task_free_effects = np.zeros((0, *reconstruction.mask.shape), np.float32)
        task_free_blocks = None
        if reconstruction.task_free_prior is not None:
            low_effects = compute_contrast_effects(reader, low_design, contrasts)
            low_maps = [np.moveaxis(low_effects, 0, -1)]
            if design is not None:
                low_blocks = block_effects(
                    reader, reconstruction.lowres_mask, design, series=series_name
                )
                low_maps.append(low_blocks.betas)
            # together, because the matrices of each slice are factored only once
            task_free_maps = reconstruction.reconstruct_without_task(
                np.concatenate(low_maps, axis=-1)
            )
            task_free_effects = np.moveaxis(task_free_maps[..., : len(low_effects)], -1, 0)
            if design is not None:
                task_free_blocks = task_free_maps[..., len(low_effects) :]
    reconstruction.lowres_series.unlink()
    block_errors = None
    with SeriesReader(reconstruction.errors) as reader:
        error_design, affine = linear_model.build_design(reader), reader.affine
        error_fits = map_activation(
            reader, reconstruction.mask, {0.0: error_design}, contrasts, settings, scratch=here
        )
        error_effects = compute_contrast_effects(reader, error_design, contrasts)
        if design is not None:
            block_errors = block_effects(reader, reconstruction.mask, design, series=series_name)
    reconstruction.errors.unlink()
    return _ReconstructionMaps(
        low_fits=low_fits,
        low_zooms=low_zooms,
        low_affine=low_affine,
        affine=affine,
        error_maps=error_fits[0.0].maps,
        error_effects=error_effects,
        block_errors=block_errors,
        task_free_effects=task_free_effects,
        task_free_blocks=task_free_blocks,
    )


def _select_effects(
    acquired: Effects, reconstruction: "DownsampledReconstruction", maps: _ReconstructionMaps
) -> HalfResolutionEffects | None:
    """Return the effects on the tested part of the acquired grid.

    None is returned without block errors, because the run then has no two halves.
    """
    errors = maps.block_errors
    if errors is None:
        return None
    reference = replace(
        acquired,
        betas=acquired.betas[reconstruction.window],
        mean=acquired.mean[reconstruction.window],
        mask=reconstruction.mask,
        affine=errors.affine,
    )
    return HalfResolutionEffects(
        reconstructed=replace(errors, betas=reference.betas + errors.betas),
        acquired=reference,
        active_t=maps.upsample_t(reconstruction.mask.shape, errors.affine),
        task_free=maps.task_free_blocks,
    )


def _score_coverage(
    series_name: str,
    reconstruction: "DownsampledReconstruction",
    maps: _ReconstructionMaps,
) -> list[MetricRow]:
    """Return the fraction of voxels whose error is within the 95 % interval, by contrast.

    The power of the samples from the prior and the masks are taken from `reconstruction`.
    """
    from bids_sr.sr.prior_maps.posterior import effect_scale

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
        variance = interpolate_to_shape(scale, mask.shape) * reconstruction.error_power
        total_variance = (variance + error_maps[contrast, "variance"])[mask]
        is_covered = np.square(error_maps[contrast, "effect"][mask]) < Z_95**2 * total_variance
        rows += metric_rows(
            series_name,
            {COVERAGE: float(is_covered.mean())},
            region="brain",
            contrast=contrast,
            n=int(is_covered.size),
        )
    return rows


def _collect_maps(
    reconstruction: "DownsampledReconstruction",
    maps: "_ReconstructionMaps",
    acquired_effects: Float32,
    contrasts: Contrasts,
    smoothness: float,
    effects: HalfResolutionEffects | None,
) -> HalfResolutionMaps:
    """Join the maps of a run that are needed for tests with other runs.

    `acquired_effects` are on the tested part of the acquired grid (contrasts, x, y, z). `effects`
    are of blocks; None if they are not needed, or if the run has no two halves.
    """

    def stack_low(stat: str) -> Float32:
        return np.stack(
            [
                np.stack([fit.maps[contrast, stat] for contrast in contrasts])
                for fit in maps.low_fits.values()
            ]
        )

    joined = HalfResolutionMaps(
        contrasts=tuple(contrasts),
        widths=tuple(maps.low_fits),
        affine=maps.affine,
        low_affine=maps.low_affine,
        mask=reconstruction.mask,
        low_mask=reconstruction.lowres_mask,
        acquired=acquired_effects,
        errors=maps.error_effects,
        task_free=maps.task_free_effects,
        error_variances=np.stack(
            [maps.error_maps[contrast, "variance"] for contrast in contrasts]
        ),
        error_power=reconstruction.error_power,
        low_effects=stack_low("effect"),
        low_variances=stack_low("variance"),
        low_power=reconstruction.power,
        smoothness=smoothness,
    )
    if effects is None:
        return joined
    acquired, task_free = effects.acquired, effects.task_free
    series = [effects.reconstructed.betas, acquired.betas]
    if task_free is not None:
        series.append(task_free)
    return replace(
        joined,
        blocks=np.moveaxis(np.stack(series), -1, 1),
        block_weights=np.stack([acquired.split_weights(item) for item in contrasts.values()]),
        block_conditions=tuple(block.condition for block in acquired.blocks),
    )
