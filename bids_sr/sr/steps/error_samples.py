"""Samples of the reconstruction error of a run, scaled to the effect of a contrast.

The samples have unit scale (`bids_sr.sr.prior_maps.posterior`). The variance scale of a contrast
follows from its unsmoothed or least smoothed effect on the acquired grid.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, sparse

from bids_sr.io.arrays import Array, Float, Float32
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.smoothing import smooth


@frozen
class ErrorSamples:
    """Samples of the reconstruction error of a run.

    `errors` are on the high-resolution grid (X, Y, Z, samples). `acquired` is the acquired part of
    the same samples, with slices as thin as on the high-resolution grid (x, y, Z, samples).
    `brain` is on the acquired grid, and `brain_hr` on the high-resolution grid.
    """

    errors: SeriesReader
    acquired: SeriesReader
    brain: Volume
    brain_hr: Volume

    def compute_acquired_power(self, width: float) -> Float32:
        """Return the mean square of the acquired samples on the acquired grid (x, y, z).

        The samples are smoothed with a kernel of `width` (FWHM, mm).
        """
        brain = self.brain.data
        # if super-resolution makes slices thinner, the samples are taken from the thin slice at
        # the center of each acquired slice
        thin_per_acquired = self.brain_hr.data.shape[2] / brain.shape[2]
        centers = ((np.arange(brain.shape[2]) + 0.5) * thin_per_acquired).astype(int)
        box = (*bounding_box(brain)[:2], slice(None))
        return _average_squares(self.acquired, width, box)[..., centers]

    def compute_error_power(self, width: float) -> Float32:
        """Return the mean square of the errors on the high-resolution grid (X, Y, Z).

        The errors are smoothed with a kernel of `width` (FWHM, mm).
        """
        return _average_squares(self.errors, width, bounding_box(self.brain_hr.data))

    def compute_scale(self, effect: Array, variance: Array, acquired_power: Array) -> Float32:
        """Return the variance scale of a contrast on the high-resolution grid (X, Y, Z).

        `effect` is in any unit, which is also the unit of the error, with its `variance` in the
        linear model, on the acquired grid (x, y, z). `acquired_power` is the result of
        `compute_acquired_power` for the smoothing of the effect.
        """
        return compute_scale(
            effect, variance, acquired_power, self.brain, self.brain_hr.data.shape
        )

    def scale_variance(self, scale: Float32, error_power: Float32, width: float) -> Float32:
        """Return the variance of the reconstruction error of an effect, 0 outside the brain.

        `scale` is the result of `compute_scale`, and `error_power` the result of
        `compute_error_power` for the same width (X, Y, Z). `width` is the smoothing of the effect
        on the high-resolution grid (FWHM, mm).
        """
        return scale_variance(scale, error_power, width, self.brain_hr)

    def compute_mean_sds(self, weights: sparse.csr_array, scales: Sequence[Float32]) -> Float:
        """Return the standard deviations of the reconstruction error of mean effects, (C, K).

        `weights` are the weights of voxels in each mean (K, voxels), see
        `bids_sr.glm.region_means.weigh_means`, and `scales` the scale of each contrast (result of
        `compute_scale`, (X, Y, Z)). The samples are read once.
        """
        from bids_sr.sr.prior_maps.posterior import mean_error_sd

        scaled_weights = []
        for scale in scales:
            scaled = weights.copy()
            scaled.data *= np.sqrt(scale.ravel(order="F")[scaled.indices])
            scaled_weights.append(scaled)
        samples = (sample.ravel(order="F") for sample in self.errors.volumes())
        sds = mean_error_sd(samples, sparse.vstack(scaled_weights, format="csr"))
        return sds.reshape(len(scales), -1)


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


def compute_scale(
    effect: Array, variance: Array, acquired_power: Array, brain: Volume, shape: Sequence[int]
) -> Float32:
    """Return the variance scale of a contrast on a high-resolution grid of some shape (X, Y, Z).

    `brain` is the brain on the acquired grid. See `ErrorSamples.compute_scale` for the other
    parameters.
    """
    from bids_sr.sr.prior_maps.posterior import effect_scale

    scale = effect_scale(effect, variance, acquired_power, brain.data, brain.zooms.tolist())
    return interpolate_to_shape(scale, shape)


def interpolate_to_shape(scale: Array, shape: Sequence[int]) -> Float32:
    """Interpolate a map on the acquired grid linearly to the shape of a higher-resolution grid."""
    ratio = [n / n_acquired for n, n_acquired in zip(shape, scale.shape, strict=True)]
    zoomed: Float32 = ndimage.zoom(scale, ratio, order=1, mode="nearest", grid_mode=True)
    return zoomed


def scale_variance(
    scale: Float32, error_power: Float32, width: float, brain_hr: Volume
) -> Float32:
    """Return the variance of the reconstruction error of an effect, 0 outside the brain.

    `brain_hr` is the brain on the high-resolution grid. See `ErrorSamples.scale_variance` for the
    other parameters.
    """
    # The scale is averaged with the square of the smoothing kernel, which approximates the
    # smoothing of scaled samples.
    smoothed_scale = smooth(scale, brain_hr.zooms.tolist(), width / 2**0.5)
    return np.where(brain_hr.data, smoothed_scale * error_power, np.float32(0))
