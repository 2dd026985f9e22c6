"""Variance of an effect that is interpolated between voxels by a cubic spline.

Interpolation averages the noise of neighboring voxels. Unless the noise is smooth, its variance is
therefore smaller between voxel centers than at voxel centers. Along one axis, the variance at a
fraction ``f`` between two voxels is multiplied by ``sum_ij k_i(f) k_j(f) rho(|i - j|)``, where
``k`` are the weights of the interpolation and ``rho`` is the spatial autocorrelation of the noise.
Without this factor, t values of runs that are resampled to the frame of another run would be too
small. Outside the brain, effects are copies of the nearest voxel of the brain, whose noise is not
averaged: the factor is 1 if the interpolation uses them.
"""

import numpy as np
from scipy import ndimage
from scipy.linalg import toeplitz

from bids_sr.io.arrays import Array, Float, Float32, MaskArray
from bids_sr.spatial.transforms import apply_matrix

_MAX_LAG = 4  # largest estimated lag (voxels); the autocorrelation at larger lags is extrapolated
# upper limit of |t| in voxels that serve to estimate the autocorrelation of noise
_MAX_NOISE_T = 2.5
_MIN_PAIRS = 200  # smallest number of voxel pairs for an estimate of the autocorrelation
# voxels with a weight in the interpolation, relative to the voxel below the point
TAP_OFFSETS = np.arange(-5, 7)
FRACTIONS = np.linspace(0, 1, 41)
"""Positions between two voxels at which an interpolation is described."""
# smallest linearly interpolated brain mask between brain voxels only (1, but for rounding)
_BETWEEN_BRAIN_VOXELS = 0.999
_MIN_FACTOR, _MAX_FACTOR = 0.1, 1.0  # limits of the variance factor along one axis


def noise_autocorrelation(t: Array, mask: MaskArray) -> Float:
    """Return the spatial autocorrelation of noise along each axis.

    The estimate uses pairs of inactive voxels in the mask. `t` is a map of t values (3D), and
    noise has the same variance in all voxels. `mask` is the brain (3D). Returns the
    autocorrelation (3, lags) at lags of 0, 1, 2, … voxels, from 0 to 1. It is 1 along an axis with
    too few voxel pairs, so that the variance is not reduced along this axis.
    """
    usable = mask & (np.abs(t) < _MAX_NOISE_T)
    autocorrelation = np.ones((3, len(TAP_OFFSETS)))
    for axis in range(3):
        estimates = _correlate_lags(np.moveaxis(t, axis, 0), np.moveaxis(usable, axis, 0))
        if not estimates:
            continue
        decay = 0.0  # ratio of the autocorrelations at successive lags
        if len(estimates) > 1 and estimates[-2] > 0:
            decay = min(1.0, estimates[-1] / estimates[-2])
        extrapolated = estimates[-1] * decay ** np.arange(1, len(TAP_OFFSETS) - len(estimates))
        autocorrelation[axis] = [1.0, *estimates, *extrapolated]
    return autocorrelation


def _correlate_lags(values: Array, valid: MaskArray) -> list[float]:
    """Return the correlation of valid voxels at lags from 1 to `_MAX_LAG` along the first axis.

    The list ends before the first lag with too few voxel pairs. Negative correlations are set to
    0.
    """
    estimates: list[float] = []
    for lag in range(1, _MAX_LAG + 1):
        valid_pairs = valid[lag:] & valid[:-lag]
        if valid_pairs.sum() < _MIN_PAIRS:
            break
        first, second = values[lag:][valid_pairs], values[:-lag][valid_pairs]
        power = float((np.square(first).mean() + np.square(second).mean()) / 2)
        estimates.append(max(0.0, float((first * second).mean()) / power) if power else 1.0)
    return estimates


def compute_variance_factor(
    autocorrelation: Float,
    shape: tuple[int, ...],
    affine: Array,
    source_affine: Array,
    xfm: Array,
    brain: MaskArray | None = None,
) -> Float32:
    """Return the variance factor of the interpolation at each voxel of a target grid.

    `autocorrelation` (3, lags) is along the axes of the source grid, as returned by
    `noise_autocorrelation`. `affine` and `source_affine` are from voxel indices of target and
    source grid to RAS+ mm (4 x 4), and `xfm` transforms points of the target to points of the
    source (4 x 4, RAS+ mm). `brain` are the voxels of the source that are not extrapolated (3D);
    None if all points are between such voxels. The factor (3D) is from 0 to 1.
    """
    matrix = np.linalg.inv(source_affine) @ xfm @ affine
    voxels = np.indices(shape, dtype=np.float32).reshape(3, -1).T
    fractions = np.mod(apply_matrix(matrix, voxels), 1.0)
    factor = np.ones(len(fractions))
    for axis in range(3):
        factor *= np.interp(
            fractions[:, axis], FRACTIONS, _compute_axis_factor(autocorrelation[axis])
        )
    factor = factor.reshape(shape)
    if brain is not None:
        in_brain = ndimage.affine_transform(
            brain.astype(np.float32), matrix, output_shape=shape, order=1, mode="grid-constant"
        )
        factor = np.where(in_brain > _BETWEEN_BRAIN_VOXELS, factor, 1)
    return factor.astype(np.float32)


def _compute_axis_factor(autocorrelation: Float) -> Float:
    """Return the variance factor at `FRACTIONS` between two voxels along one axis."""
    weights = interpolation_weights()
    covariance = toeplitz(autocorrelation)
    factor = np.einsum("fi,ij,fj->f", weights, covariance, weights)
    return np.clip(factor, _MIN_FACTOR, _MAX_FACTOR)


def interpolation_weights() -> Float:
    """Return the weights (fractions, 12 voxels) of the spline interpolation at `FRACTIONS`."""
    impulse = np.zeros(4 * len(TAP_OFFSETS) + 1)
    center = len(impulse) // 2
    impulse[center] = 1.0
    positions = center + FRACTIONS[:, None] - TAP_OFFSETS
    return np.asarray(ndimage.map_coordinates(impulse, positions[None], order=3))
