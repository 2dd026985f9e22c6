"""Mean effects of regions: effect in the mean time series of a region, with its errors.

The noise of a mean depends on the correlation of the noise between voxels, which maps of variances
do not contain. It is therefore estimated from the residuals of the mean time series, with the
noise model of the maps. The autocorrelation of a single mean is uncertain: it has few effective
degrees of freedom, and hardly any in large active clusters, where the response does not fit
exactly. It is therefore pooled over clusters, or over atlas labels, of like size. Intervals take
the remaining uncertainty into account by Student's t.

Voxels of a region are positions in a volume with contiguous X, as in image files. The means of all
regions are weighted sums of a volume, one sparse row of weights per mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from bids_sr.glm.clusters import Cluster
from bids_sr.glm.design import Design
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import estimate_mean_noise
from bids_sr.io.arrays import Float, Float32, MaskArray, Real
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.smoothing import smooth

ERROR_DOF = 64.0
"""Degrees of freedom of the SD of the reconstruction error: samples from the prior."""
# With fewer degrees of freedom, intervals of Student's t can be thousands of times the effect, but
# intervals with this number cover (benchmarks/results/other_half.md).
_MIN_DOF = 1.0
_MAX_SIGMAS = 4.5  # distance from the region that its smoothing can reach, in SD of the Gaussian
Voxels = npt.NDArray[np.intp]
"""Positions of voxels in a volume with contiguous X (N,)."""
Origin = Literal["roi", "auto", "cluster", "atlas"]


@frozen
class Region:
    """Region whose mean effect is measured.

    `voxels` are the positions of its voxels in a volume (N,). `n_given` is the number of voxels
    before the brain mask was applied. `cluster` is a cluster of the acquired map of a `contrast`,
    which is the only contrast that is measured; None and "" for other regions.
    """

    name: str
    origin: Origin
    voxels: Voxels
    n_given: int
    contrast: str = ""
    cluster: Cluster | None = None


@frozen
class MeanEffect:
    """Effect of a contrast in the mean time series of a region.

    `noise_sd` is the standard deviation of the effect's noise, which is 0 if the series is
    constant, and `noise_dof` the effective degrees of freedom of this standard deviation, at least
    1.
    `others` are the effects in other series by name, estimated with the same noise model, so that
    they differ only by the data. All effects and the standard deviation have the unit of the
    series until `times` changes it.
    """

    effect: float
    noise_sd: float
    noise_dof: float
    others: Mapping[str, float] = field(default_factory=dict)

    def times(self, factor: float) -> "MeanEffect":
        """Return effects and noise multiplied by a factor."""
        return replace(
            self,
            effect=factor * self.effect,
            noise_sd=factor * self.noise_sd,
            others={name: factor * effect for name, effect in self.others.items()},
        )

    def add_error(self, error_sd: float, error_dof: float) -> "MeanEffect":
        """Return the effect with a further error in its noise.

        `error_sd` is the standard deviation of an error that is independent of the noise, with
        `error_dof` degrees of freedom. Degrees of freedom are combined by Welch and Satterthwaite.
        """
        noise, error = self.noise_sd**2, error_sd**2
        if error == 0:
            return self
        dof = (noise + error) ** 2 / (noise**2 / self.noise_dof + error**2 / error_dof)
        return replace(self, noise_sd=float(np.sqrt(noise + error)), noise_dof=dof)

    def compute_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the lower and upper end of the interval of the effect."""
        half_width = float(stats.t.ppf((1 + level) / 2, self.noise_dof)) * self.noise_sd
        return self.effect - half_width, self.effect + half_width

    def compute_p(self) -> float:
        """Return the two-sided p of an effect of 0; NaN without noise."""
        if not self.noise_sd:
            return np.nan
        return float(2 * stats.t.sf(abs(self.effect) / self.noise_sd, self.noise_dof))

    def compute_smallest_change(self, alpha: float = 0.05) -> float:
        """Return the change that is found with a probability of 80 % (two-sided p < `alpha`)."""
        quantiles = stats.t.ppf([1 - alpha / 2, 0.8], self.noise_dof)
        return float(quantiles.sum()) * self.noise_sd


def locate_region(
    name: str, origin: Origin, given: MaskArray, brain: MaskArray, contrast: str = ""
) -> Region | None:
    """Return the part of a region in the brain; None if it is empty or the whole brain.

    `given` are the voxels of the region (X, Y, Z), also outside the brain.
    """
    used = given & brain
    if not used.any() or np.array_equal(used, brain):
        return None
    return Region(
        name=name,
        origin=origin,
        voxels=np.flatnonzero(used.ravel(order="F")),
        n_given=int(np.count_nonzero(given)),
        contrast=contrast,
    )


def weigh_means(
    means: Sequence[tuple[Voxels, float]], shape: Sequence[int], zooms: Sequence[float]
) -> sparse.csr_array:
    """Return the weights of voxels in the means of regions (K, voxels).

    `means` are the voxels of K regions, with the smoothing of the volumes that are averaged (FWHM,
    mm). `shape` is the shape of a volume, and `zooms` its voxel size (mm).
    """
    rows = []
    for voxels, fwhm_mm in means:
        columns, weights = voxels, np.full(len(voxels), 1 / len(voxels))
        if fwhm_mm:
            mask = np.zeros(int(np.prod(shape)), dtype=bool)
            mask[voxels] = True
            volume = weigh_smoothed_mean(mask.reshape(shape, order="F"), zooms, fwhm_mm)
            smoothed = volume.ravel(order="F")
            columns = np.flatnonzero(smoothed)
            weights = smoothed[columns].astype(np.float64)
        rows.append((columns, weights))
    starts = np.cumsum([0, *(len(columns) for columns, _ in rows)])
    return sparse.csr_array(
        (
            np.concatenate([weights for _, weights in rows]),
            np.concatenate([columns for columns, _ in rows]),
            starts,
        ),
        shape=(len(rows), int(np.prod(shape))),
    )


def average_series(series: SeriesReader, weights: sparse.csr_array, start: int) -> Float:
    """Return mean time series (T, K) from volume `start` on; see `weigh_means` for weights."""
    return np.stack([weights @ volume.ravel(order="F") for volume in series.volumes(start)])


def fit_mean_series(
    mean_series: Real,
    design: Design,
    vectors: Float,
    names: Sequence[str],
    other_series: Mapping[str, Real] | None = None,
    sizes: Sequence[float] | None = None,
) -> list[dict[str, MeanEffect]]:
    """Fit the linear model of a run to mean time series, and return effects by contrast.

    Each of the `mean_series` (T, K) has its own noise model, in which regions of like size are
    pooled if the numbers of voxels `sizes` are given (`estimate_mean_noise`). `vectors` are the
    weights of the contrasts over the columns of the design (C, columns), and `names` the
    contrasts. `other_series` are means of the same regions in other series by name (T, K), whose
    effects are estimated with the same noise models; NaN for regions that a series does not have.
    """
    series = np.asarray(mean_series, dtype=np.float64)
    noise = estimate_mean_noise(series, design.matrix, design.tr, sizes)
    model = ContrastModel(design.matrix, vectors, noise, rank=design.rank)
    estimates = model.fit(series)
    effects, variances, dofs = (estimates[key] for key in ("effect", "variance", "effective"))
    other_effects = {
        name: np.where(np.isnan(other[0]), np.nan, model.fit(np.nan_to_num(other))["effect"])
        for name, other in (other_series or {}).items()
    }
    return [
        {
            name: MeanEffect(
                effect=float(effects[row, column]),
                noise_sd=float(np.sqrt(variances[row, column])),
                noise_dof=max(float(dofs[row, column]), _MIN_DOF),
                others={
                    other: float(values[row, column]) for other, values in other_effects.items()
                },
            )
            for row, name in enumerate(names)
        }
        for column in range(series.shape[1])
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
