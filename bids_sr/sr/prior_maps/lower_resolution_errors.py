"""Reconstruction errors of a run at lower resolution, for maps of the reconstruction error."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bids_sr.io.arrays import Array, Float32, MaskArray
from bids_sr.io.grids import Factor, Shape
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.spatial.transforms import resize_affine
from bids_sr.sr.operators import ResolutionLevel, level_below, to_slices, to_volume
from bids_sr.sr.prior_maps.add_detail import add_detail_to_slice
from bids_sr.sr.prior_maps.calibration_prior import add_patterns
from bids_sr.sr.prior_maps.estimation import estimate_prior
from bids_sr.sr.prior_maps.posterior import N_SAMPLES, draw_errors
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.prior_maps.temporal_components import temporal_statistics
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.threads import map_in_threads


@dataclass(frozen=True, kw_only=True)
class DownsampledReconstruction:
    """Downsampled run with its reconstruction errors, and samples from its prior.

    `lowres_series` is the downsampled series, and `errors` is its reconstruction minus the
    acquired series (both 4D). `window` is the part of the acquired grid that is tested, and `mask`
    the brain mask in this window (x, y, z); `lowres_mask` is on the downsampled grid. `power` is
    the mean square of samples from the prior, on the downsampled grid, and `error_power` the mean
    square of the samples' reconstruction errors (x, y, z). `plane` is the in-plane conversion
    between the downsampled grid and the window. `task_free_prior` is the prior of the downsampled
    series without its task; None if it was not requested.
    """

    lowres_series: Path
    errors: Path
    window: tuple[slice, slice, slice]
    mask: MaskArray
    lowres_mask: MaskArray
    power: Float32
    error_power: Float32
    plane: ResolutionLevel
    task_free_prior: Prior | None

    def reconstruct_without_task(self, effects: Float32) -> Float32:
        """Super-resolve effects of the downsampled series with the prior without its task.

        `effects` are N maps on the downsampled grid (x, y, z, N), and the result is in the window.
        The reconstruction is linear, so that it is the effect of the reconstructed series. The
        prior must have been requested.
        """
        assert self.task_free_prior is not None
        reconstructed = np.empty((*self.mask.shape, effects.shape[3]), np.float32)
        with torch.inference_mode():
            for k in range(effects.shape[2]):
                maps = torch.from_numpy(np.moveaxis(effects[:, :, k], -1, 0).copy())
                detail = self.task_free_prior.make_slice_function(k)(maps)
                maps = self.plane.upsample(maps) + self.plane.select_above_nyquist(detail)
                reconstructed[:, :, k] = np.moveaxis(maps.numpy(), 0, -1)
        return reconstructed


class _SliceErrors(NamedTuple):
    """Reconstruction error of a slice, with mean squares over samples from the prior.

    `error` is the reconstruction of the downsampled slice minus the acquired slice (T, x, y).
    `sample_power` is the mean square of the samples, on the downsampled grid, and
    `sample_error_power` the mean square of the samples' reconstruction errors (x, y).
    """

    error: Tensor
    sample_power: Tensor
    sample_error_power: Tensor


@dataclass(frozen=True, kw_only=True)
class _TestedRun:
    """Window of an acquired run that is downsampled in plane.

    The `reader` reads the series on the acquired grid (x, y, z, T). `window` is the tested part of
    this grid and the high-resolution grid of `level`, the conversion between the downsampled grid
    and the window.
    """

    reader: SeriesReader
    window: tuple[slice, slice, slice]
    level: ResolutionLevel

    @cached_property
    def plane(self) -> ResolutionLevel:
        """In-plane conversion, for single slices."""
        return self.level.restrict_to_plane()

    def write_downsampled(self, path: Path) -> None:
        """Write the downsampled series."""
        with self._open_writer(path, self.level.acquired_shape) as writer:
            for k in range(self.level.acquired_shape[2]):
                _put_slice(writer, k, self.plane.downsample(self._read_slice(k)))

    def write_errors(self, path: Path, prior: Prior, seed: int) -> tuple[Float32, Float32]:
        """Write the reconstruction errors in the window, and return mean squares over samples.

        The first result is the mean square of samples from the prior on the downsampled grid, the
        second the mean square of their reconstruction errors in the window (3D each).
        """
        power = np.zeros(self.level.acquired_shape, np.float32)
        error_power = np.zeros(self.level.highres_shape, np.float32)
        compute_errors: Callable[[int], _SliceErrors] = partial(
            self._compute_errors, prior=prior, seed=seed
        )
        with self._open_writer(path, self.level.highres_shape) as writer:
            slices = map_in_threads(compute_errors, range(self.level.acquired_shape[2]))
            for k, slice_errors in enumerate(slices):
                _put_slice(writer, k, slice_errors.error)
                power[..., k] = slice_errors.sample_power
                error_power[..., k] = slice_errors.sample_error_power
        return power, error_power

    def _compute_errors(self, k: int, *, prior: Prior, seed: int) -> _SliceErrors:
        """Reconstruct slice k from its downsampled data, and return the errors."""
        reference, reconstruct = self._read_slice(k), prior.make_slice_function(k)
        reconstruction = self.plane.upsample(self.plane.downsample(reference))
        add_detail_to_slice(self.plane, reconstruct, reconstruction)
        sample_errors, samples = draw_errors(prior, k, reconstruct, N_SAMPLES, seed + k)
        return _SliceErrors(
            error=reconstruction - reference,
            sample_power=samples.square().mean(0),
            sample_error_power=sample_errors.square().mean(0),
        )

    def _open_writer(self, path: Path, shape: Shape) -> SeriesWriter:
        """Open the writer of a series over the field of view of the window."""
        affine = self.reader.affine.copy()
        affine[:3, 3] = (self.reader.affine @ (*(extent.start for extent in self.window), 1))[:3]
        affine = resize_affine(affine, self.level.highres_shape, shape)
        return SeriesWriter(path, (*shape, self.reader.shape[3]), affine, self.reader.tr)

    def _read_slice(self, k: int) -> Tensor:
        """Return slice k of the window (T, x, y)."""
        x, y, z = self.window
        slab = self.reader.slab(z.start + k)[x, y, 0]
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(slab, -1, 0)))


def reconstruct_at_lower_resolution(
    reader: SeriesReader,
    mask: Array,
    factor: Factor,
    recipe: VarianceRecipe,
    work_dir: Path,
    *,
    n_dummy: int = 0,
    nuisance: Array | None = None,
    outliers: Sequence[int] = (),
    seed: int = 0,
    patterns: Tensor | None = None,
    weight: float = 0.0,
    task: Array | None = None,
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
    work_dir : Path
        Folder for the downsampled series and the errors.
    n_dummy : int, optional
        Number of volumes before the steady state, which are excluded.
    nuisance : Array | None, optional
        Nuisance regressors (T, K); None if there are none.
    outliers : Sequence[int], optional
        Numbers of the volumes that are not used for the prior, counted from 0.
    seed : int, optional
        Seed of the samples from the prior.
    patterns : Tensor | None, optional
        Patterns of a calibration run, downsampled to the acquired grid (C, z, x, y).
    weight : float, optional
        Weight of these patterns in the prior, see `sr.prior_maps.calibration_prior.add_patterns`.
    task : Array | None, optional
        Regressors of the task (T, K), for a second prior of the run without its task; None if
        there is no such prior.

    Returns
    -------
    DownsampledReconstruction
        Downsampled series, reconstruction errors, and mean squares of samples (3D).

    Raises
    ------
    SeriesError, ResolutionError
        If the run is too short, or cannot be downsampled.
    """
    level, window = level_below(mask.shape, (factor[0], factor[1], 1.0))
    tested_run = _TestedRun(reader=reader, window=window, level=level)
    in_mask = np.asarray(mask)[window] > 0
    lowres_mask = to_volume(level.downsample(to_slices(in_mask))) > 0.5
    lowres_series, errors = work_dir / "low.nii", work_dir / "errors.nii"
    with torch.inference_mode():
        tested_run.write_downsampled(lowres_series)
        tile = Tile.from_mask(tested_run.plane, lowres_mask)

        def estimate(task: Array | None) -> Prior:
            with SeriesReader(lowres_series) as lowres_reader:
                statistics = temporal_statistics(
                    lowres_reader,
                    lowres_mask,
                    n_dummy,
                    recipe.components,
                    nuisance=nuisance,
                    outliers=outliers,
                    task=task,
                )
            prior = estimate_prior(to_slices(statistics.components), tile, recipe, seed=seed)
            if patterns is None:
                return prior
            x, y, z = window
            return add_patterns(prior, patterns[:, z, x, y], weight)

        prior = estimate(None)
        task_free_prior = None if task is None else estimate(task)
        power, error_power = tested_run.write_errors(errors, prior, seed)
    return DownsampledReconstruction(
        lowres_series=lowres_series,
        errors=errors,
        window=window,
        mask=in_mask,
        lowres_mask=lowres_mask,
        power=power,
        error_power=error_power,
        plane=tested_run.plane,
        task_free_prior=task_free_prior,
    )


def _put_slice(writer: SeriesWriter, k: int, images: Tensor) -> None:
    """Write slice k of a series (T, x, y)."""
    writer.put_slab(k, np.moveaxis(images.numpy(), 0, -1)[:, :, None])
