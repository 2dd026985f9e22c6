"""Effect in the mean time series of a region, with its noise and its rows in tables.

The noise of a mean depends on the correlation of the noise between voxels, which maps of variances
do not contain. It is therefore estimated from the residuals of the mean time series, with the
noise model of the maps. There is a single autocorrelation to estimate, and nothing to pool it
with, so that it is uncertain: it has few effective degrees of freedom (20 of 118 in a run of
130 volumes), which intervals take into account by Student's t.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from bids_sr.frozen import frozen
from bids_sr.glm.design import Design
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import estimate_noise
from bids_sr.glm.smoothing import smooth
from bids_sr.io.arrays import Float, Float32, MaskArray, Real
from bids_sr.metrics.region_statistics import (
    ERROR_SD,
    MEAN_EFFECT,
    N_VOXELS,
    NOISE_DOF,
    NOISE_SD,
    REGION,
)
from bids_sr.metrics.rows import MetricRow, metric_rows
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA

_CONFIDENCE = 0.95
_MAX_SIGMAS = 4.5  # distance from the region that its smoothing can reach, in SD of the Gaussian


@frozen
class MeanEffect:
    """Effect of a contrast in the mean time series of a region.

    `noise_sd` is the standard deviation of the effect's noise, which is 0 if the series is
    constant, and `noise_dof` the effective degrees of freedom of this standard deviation. Effect
    and standard deviation have the unit of the series until `times` changes it.
    """

    effect: float
    noise_sd: float
    noise_dof: float

    def times(self, factor: float) -> "MeanEffect":
        """Return effect and noise multiplied by a factor."""
        return replace(self, effect=factor * self.effect, noise_sd=factor * self.noise_sd)

    def compute_interval(
        self, error_sd: float = 0.0, error_dof: float = 1.0
    ) -> tuple[float, float]:
        """Return the lower and upper end of the 95 % interval of the effect.

        `error_sd` is the standard deviation of a further error that is independent of the noise,
        with `error_dof` degrees of freedom. The degrees of freedom of the sum are by Welch and
        Satterthwaite.
        """
        noise, error = self.noise_sd**2, error_sd**2
        if noise + error == 0:
            return self.effect, self.effect
        dof = (noise + error) ** 2 / (noise**2 / self.noise_dof + error**2 / error_dof)
        half_width = float(stats.t.ppf((1 + _CONFIDENCE) / 2, dof) * np.sqrt(noise + error))
        return self.effect - half_width, self.effect + half_width


def fit_mean_series(
    mean_series: Real, design: Design, vectors: Float, names: Sequence[str]
) -> Mapping[str, MeanEffect]:
    """Fit the linear model of a run to the mean time series of a region.

    `mean_series` is the mean over the voxels of the region (T,), and `vectors` are the weights of
    the contrasts over the columns of the design (C, columns).
    """
    column = np.asarray(mean_series, dtype=np.float64)[:, None]
    one_voxel = np.ones((1, 1, 1), dtype=bool)
    noise = estimate_noise(
        [(slice(0, 1), column)], design.matrix, one_voxel, (1.0, 1.0, 1.0), design.tr
    )
    estimates = ContrastModel(design.matrix, vectors, noise, rank=design.rank).fit(column)
    return {
        name: MeanEffect(
            effect=float(effect), noise_sd=float(np.sqrt(variance)), noise_dof=float(dof)
        )
        for name, effect, variance, dof in zip(
            names,
            *(estimates[key][:, 0] for key in ("effect", "variance", "effective")),
            strict=True,
        )
    }


def find_named_region(roi: MaskArray, mask: MaskArray) -> MaskArray | None:
    """Return the region of interest within the brain; None if it is empty or the whole brain."""
    region = roi & mask
    return region if region.any() and not np.array_equal(region, mask) else None


def describe_mean_effect(
    series: str,
    contrast: str,
    mean_effect: MeanEffect,
    fwhm_mm: float,
    n_voxels: int,
    *,
    error_sd: float | None = None,
    error_dof: float = 1.0,
) -> list[MetricRow]:
    """Return the rows of a region's mean effect, with the 95 % interval of the effect.

    `fwhm_mm` is the smoothing of the series (FWHM), and `n_voxels` the number of voxels of the
    region on the grid of the series. `error_sd` is the standard deviation of the reconstruction
    error of the mean, with `error_dof` degrees of freedom, which is part of the interval; None if
    the series has no estimate of this error.
    """
    lower, upper = mean_effect.compute_interval(error_sd or 0.0, error_dof)
    values: dict[str, float | None] = {
        MEAN_EFFECT: mean_effect.effect,
        NOISE_SD: mean_effect.noise_sd,
        NOISE_DOF: mean_effect.noise_dof,
        N_VOXELS: n_voxels,
    }
    if error_sd is not None:
        values[ERROR_SD] = error_sd
    rows = metric_rows(series, values, region=REGION, contrast=contrast, fwhm_mm=fwhm_mm)
    return [
        replace(row, lower=lower, upper=upper) if row.statistic == MEAN_EFFECT else row
        for row in rows
    ]


def weigh_smoothed_mean(region: MaskArray, zooms: Sequence[float], fwhm_mm: float) -> Float32:
    """Return the weights of voxels in the mean of a region after smoothing (X, Y, Z).

    The sum of weight times value is the mean, over the region, of the image that `smooth` returns.
    The region (X, Y, Z) must not be empty. `zooms` is the voxel size (mm), and `fwhm_mm` the
    smoothing (FWHM).
    """
    weights: Float32 = (region / np.count_nonzero(region)).astype(np.float32)
    if fwhm_mm == 0:
        return weights
    reach = [int(np.ceil(_MAX_SIGMAS * fwhm_mm / FWHM_PER_SIGMA / size)) for size in zooms]
    weights = smooth(np.pad(weights, [(n, n) for n in reach]), zooms, fwhm_mm, edge="constant")
    # `smooth` repeats edge values, so that weights beyond an edge belong to the voxel at the edge.
    for axis, n in enumerate(reach):
        before, inside, after = np.split(weights, [n, weights.shape[axis] - n], axis=axis)
        weights = np.moveaxis(inside.copy(), axis, 0)
        weights[0] += before.sum(axis=axis)
        weights[-1] += after.sum(axis=axis)
        weights = np.moveaxis(weights, 0, axis)
    return weights
