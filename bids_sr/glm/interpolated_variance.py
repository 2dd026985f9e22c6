"""Variance of an effect that is interpolated between voxels by a cubic spline.

Interpolation averages the noise of neighboring voxels, so the noise between voxels is smaller than
at voxels unless it is smooth. Along one axis, the variance at a fraction ``f`` between two voxels
is multiplied by ``sum_ij k_i(f) k_j(f) rho(|i - j|)``, where ``k`` are the weights of the
interpolation and ``rho`` is the spatial autocorrelation of the noise. Without this factor, t
values of runs that were moved to the frame of another run would be too small.
"""

import numpy as np
from scipy import ndimage
from scipy.linalg import toeplitz

from bids_sr.io.arrays import Array, Float, Float32, MaskArray
from bids_sr.spatial.transforms import moved

_LAGS = 4
"""Largest lag (voxels) that is estimated; the autocorrelation at larger lags is extrapolated."""
_NOISE_T = 2.5
"""Largest \\|t\\| of voxels from which the autocorrelation of noise is estimated."""
_LEAST_PAIRS = 200
"""Number of pairs of voxels below which the autocorrelation is not estimated."""
_TAPS = np.arange(-5, 7)
_FRACTIONS = np.linspace(0, 1, 41)
_LEAST, _MOST = 0.1, 1.0
"""Limits of the factor along one axis."""


def noise_autocorrelation(t: Array, mask: MaskArray) -> Float:
    """Return the spatial autocorrelation of noise along each axis.

    It is estimated from voxels that show no activity, by pairs of voxels in the mask.

    Parameters
    ----------
    t : Array
        Map of t values (3D), whose noise has the same variance everywhere.
    mask : MaskArray
        Brain (3D, boolean).

    Returns
    -------
    Float
        Autocorrelation (3, lags) at lags of 0, 1, 2, … voxels, from 0 to 1; 1 along an axis with
        too few pairs of voxels, along which the variance then stays as it is.
    """
    usable = mask & (np.abs(t) < _NOISE_T)
    out = np.ones((3, len(_TAPS)))
    for axis in range(3):
        values, valid = np.moveaxis(t, axis, 0), np.moveaxis(usable, axis, 0)
        known: list[float] = []
        for lag in range(1, _LAGS + 1):
            both = valid[lag:] & valid[:-lag]
            if both.sum() < _LEAST_PAIRS:
                break
            first, second = values[lag:][both], values[:-lag][both]
            power = float((np.square(first).mean() + np.square(second).mean()) / 2)
            known.append(max(0.0, float((first * second).mean()) / power) if power else 1.0)
        if not known:
            continue
        ratio = min(1.0, known[-1] / known[-2]) if len(known) > 1 and known[-2] > 0 else 0.0
        beyond = known[-1] * ratio ** np.arange(1, len(_TAPS) - len(known))
        out[axis] = [1.0, *known, *beyond]
    return out


def interpolated_factor(
    autocorrelation: Float,
    shape: tuple[int, ...],
    affine: Array,
    source_affine: Array,
    xfm: Array,
) -> Float32:
    """Return the factor of the variance at each voxel of a grid, by its place between voxels.

    Parameters
    ----------
    autocorrelation : Float
        Autocorrelation along the axes of the source grid as `noise_autocorrelation` returns it.
    shape, affine : tuple[int, ...], Array
        Grid of the interpolated map, voxel to RAS+ mm.
    source_affine : Array
        Grid of the map that is interpolated, voxel to RAS+ mm.
    xfm : Array
        4 x 4 matrix that takes a point of the grid to its point in the source (RAS+ mm).

    Returns
    -------
    Float32
        Factor (3D), at most 1.
    """
    matrix = np.linalg.inv(source_affine) @ xfm @ affine
    voxels = np.indices(shape, dtype=np.float32).reshape(3, -1).T
    fractions = np.mod(moved(matrix, voxels), 1.0)
    factor = np.ones(len(fractions))
    for axis in range(3):
        factor *= np.interp(fractions[:, axis], _FRACTIONS, _factor_along(autocorrelation[axis]))
    return factor.reshape(shape).astype(np.float32)


def _factor_along(autocorrelation: Float) -> Float:
    """Factor of the variance at `_FRACTIONS` between two voxels of one axis."""
    impulse = np.zeros(4 * len(_TAPS) + 1)
    center = len(impulse) // 2
    impulse[center] = 1.0
    at = center + _FRACTIONS[:, None] - _TAPS
    weights = ndimage.map_coordinates(impulse, at[None], order=3)
    covariance = toeplitz(autocorrelation)
    factor = np.einsum("fi,ij,fj->f", weights, covariance, weights)
    return np.clip(factor, _LEAST, _MOST)
