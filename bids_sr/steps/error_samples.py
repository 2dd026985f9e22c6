"""Samples of the reconstruction error of a run, scaled to the effect of a contrast.

The samples have unit scale (`bids_sr.sr.prior_maps.posterior`). The variance scale of a contrast
follows from its unsmoothed or least smoothed effect on the acquired grid.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.glm.region_means import weigh_smoothed_mean
from bids_sr.glm.smoothing import smooth
from bids_sr.io.arrays import Array, Float32, MaskArray
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.spatial.masks import bounding_box


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

    def compute_mean_sds(
        self, region: MaskArray, effects: Sequence[tuple[Float32, float]]
    ) -> list[float]:
        """Return the standard deviations of the reconstruction error of a region's mean effects.

        `region` is on the high-resolution grid (X, Y, Z) and not empty. `effects` are the scale of
        each effect (result of `compute_scale`, (X, Y, Z)) and its smoothing (FWHM, mm).
        """
        from bids_sr.sr.prior_maps.posterior import mean_error_sd

        weights_by_width = {
            width: weigh_smoothed_mean(region, self.brain_hr.zooms.tolist(), width)
            for width in {width for _, width in effects}
        }
        box = bounding_box(weights_by_width[max(weights_by_width)] > 0)
        weights = [np.sqrt(scale[box]) * weights_by_width[width][box] for scale, width in effects]
        samples = (sample[box] for sample in self.errors.volumes())
        return mean_error_sd(samples, np.stack(weights)).tolist()


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
