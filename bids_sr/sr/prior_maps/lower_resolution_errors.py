"""Reconstruction errors of a run at lower resolution, for maps of the reconstruction error."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bids_sr.io.arrays import Array, Float32, MaskArray
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.spatial.transforms import resize_affine
from bids_sr.sr.operators import level_below, to_slices
from bids_sr.sr.prior_maps.add_detail import add_detail_to_slice
from bids_sr.sr.prior_maps.calibration_prior import add_patterns
from bids_sr.sr.prior_maps.estimation import estimate_prior
from bids_sr.sr.prior_maps.posterior import DRAWS, draw_errors
from bids_sr.sr.prior_maps.prior import Tile
from bids_sr.sr.prior_maps.temporal_components import temporal_statistics
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.threads import map_in_threads


@dataclass(frozen=True, kw_only=True)
class DownsampledReconstruction:
    """Downsampled run with its reconstruction errors, and samples from its prior.

    Parameters
    ----------
    low : Path
        Downsampled series (4D).
    errors : Path
        Reconstruction of the downsampled series minus the acquired series (4D).
    window : tuple[slice, slice, slice]
        Part of the acquired grid that is tested.
    mask : MaskArray
        Brain mask in this window (x, y, z).
    low_mask : MaskArray
        Brain mask on the downsampled grid.
    power : Float32
        Mean square of samples from the prior, on the downsampled grid.
    error_power : Float32
        Mean square of the samples' reconstruction errors (x, y, z).
    """

    low: Path
    errors: Path
    window: tuple[slice, slice, slice]
    mask: MaskArray
    low_mask: MaskArray
    power: Float32
    error_power: Float32


def errors_below(
    reader: SeriesReader,
    mask: Array,
    factor: Factor,
    recipe: VarianceRecipe,
    here: Path,
    *,
    n_dummy: int = 0,
    nuisance: Array | None = None,
    outliers: Sequence[int] = (),
    seed: int = 0,
    patterns: Tensor | None = None,
    weight: float = 0.0,
) -> DownsampledReconstruction:
    """Downsample a run in plane, reconstruct it, and compute the reconstruction errors.

    The prior SD maps are estimated from the downsampled run.

    Parameters
    ----------
    reader : SeriesReader
        Uncompressed, motion-corrected series on the acquired grid (x, y, z, T).
    mask : Array
        Brain mask on the acquired grid (3D).
    factor : Factor
        Ratio of acquired to high-resolution voxel size along each axis.
    recipe : VarianceRecipe
        Settings of the prior SD maps.
    here : Path
        Folder for the downsampled series and the errors.
    n_dummy : int, optional
        Number of volumes before the steady state, which are excluded.
    nuisance : Array | None, optional
        Nuisance regressors (T, K); None if there are none.
    outliers : Sequence[int], optional
        Outlier volumes that are not used for the prior, counted from 0.
    seed : int, optional
        Seed of the samples from the prior.
    patterns : Tensor | None, optional
        Patterns of a calibration run, downsampled to the acquired grid (C, z, x, y).
    weight : float, optional
        Weight of these patterns in the prior, see `sr.prior_maps.calibration_prior.add_patterns`.

    Returns
    -------
    DownsampledReconstruction
        Downsampled series, reconstruction errors, and mean squares of samples (3D).

    Raises
    ------
    SeriesError, ResolutionError
        If the run is too short, or cannot be downsampled.
    """
    level, (x, y, z) = level_below(mask.shape, (factor[0], factor[1], 1.0))
    inside = np.asarray(mask)[x, y, z] > 0
    low_mask = np.moveaxis(level.downsample(to_slices(inside)).numpy(), 0, 2) > 0.5
    grid = reader.affine.copy()
    grid[:3, 3] = (reader.affine @ (x.start, y.start, z.start, 1))[:3]
    low, errors = here / "low.nii", here / "errors.nii"
    shapes = {low: level.acquired_shape, errors: level.highres_shape}
    power, error_power = (np.zeros(shape, np.float32) for shape in shapes.values())
    plane = level.restrict_to_plane()

    def measured(number: int) -> Tensor:
        slab = reader.slab(number, number + 1)[x, y, 0]
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(slab, -1, 0)))

    def writer(path: Path) -> SeriesWriter:
        affine = resize_affine(grid, level.highres_shape, shapes[path])
        return SeriesWriter(path, (*shapes[path], reader.shape[3]), affine, reader.tr)

    def put(target: SeriesWriter, number: int, images: Tensor) -> None:
        target.put_slab(number, np.moveaxis(images.numpy(), 0, -1)[:, :, None])

    with torch.inference_mode():
        with writer(low) as target:
            for k in range(z.start, z.stop):
                put(target, k - z.start, plane.downsample(measured(k)))
        with SeriesReader(low) as low_reader:
            statistics = temporal_statistics(
                low_reader,
                low_mask,
                n_dummy,
                recipe.components,
                nuisance=nuisance,
                outliers=outliers,
            )
        components = torch.stack([to_slices(image) for image in statistics.components])
        prior = estimate_prior(components, Tile.from_mask(plane, low_mask), recipe, seed=seed)
        if patterns is not None:
            prior = add_patterns(prior, patterns[:, z, x, y], weight)

        def reconstruct(k: int) -> tuple[Tensor, Tensor, Tensor]:
            """Return the error of a slice, and the mean squares of samples and of their errors."""
            reference, reconstruct = measured(k + z.start), prior.make_slice_function(k)
            reconstruction = plane.upsample(plane.downsample(reference))
            add_detail_to_slice(plane, reconstruct, reconstruction)
            sample_errors, samples = draw_errors(prior, k, reconstruct, DRAWS, seed + k)
            return (
                reconstruction - reference,
                samples.square().mean(0),
                sample_errors.square().mean(0),
            )

        with writer(errors) as target:
            slices = map_in_threads(reconstruct, range(len(components[0])))
            for k, (error, sample_power, sample_error_power) in enumerate(slices):
                put(target, k, error)
                power[..., k] = sample_power
                error_power[..., k] = sample_error_power
    return DownsampledReconstruction(
        low=low,
        errors=errors,
        window=(x, y, z),
        mask=inside,
        low_mask=low_mask,
        power=power,
        error_power=error_power,
    )
