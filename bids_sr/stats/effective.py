"""Degrees of freedom of t where the autocorrelation of the noise is itself an estimate.

The variance of an effect has two factors: the dispersion of the whitened residuals, known to 2/dof, and what the
design makes of it under the coefficient rho that was found. That coefficient errs, by .2 in a run of 60 volumes with
12 confounds, and a block design lies where the spectrum of the noise depends on it most. To first order the logarithm
of the variance then has the variance

    2/dof + (d log k / d rho)^2 var(rho)

and t has the degrees of freedom of the scaled chi-square with that spread (Satterthwaite 1946; the step that Kenward
and Roger 1997 take for mixed models). With rho known, t is exact; everything that a short run has beyond its nominal
rate comes from this term.

Measured on noise of 60 volumes with a coefficient of .3 and 12 random confounds: t beyond p < .001 in .0029 of voxels
with dof, .0016 with this; 136 volumes: .0018 and .0012.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
_STEP = 0.01


def orthonormal(matrix: Float) -> Float:
    """Orthonormal basis of a matrix' columns, (T, rank)."""
    left, sizes, _ = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(left[:, sizes > 1e-10 * sizes[0]])


def coefficient_variance(matrix: Float, rho: npt.ArrayLike, expected: Any) -> Float:
    """Variance of the coefficient that `bids_sr.stats.glm.NoiseCoefficients` finds, for noise coefficients rho.

    Parameters
    ----------
    matrix : (T, P) design
    rho : (K,) within (-1, 1)
    expected : function of (matrix, (M,) coefficients): lag-one autocorrelation of residuals in expectation, (M,)

    Returns
    -------
    (K,), to first order: r = e'Le / e'e has the variance 2 tr((K V)^2) / tr(R V)^2 with K = R (L - r I) R, which the
    slope of r over rho carries to rho. R projects off the design, L takes the mean of both neighbors, V = rho^|s - t|.

    Notes
    -----
    K is tridiagonal but for terms of the design's rank, so no product of two (T, T) matrices is needed.
    """
    n, basis = len(matrix), orthonormal(matrix)
    lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    values = np.asarray(rho, dtype=np.float64)
    steps = expected(matrix, np.concatenate([values - _STEP, values, values + _STEP])).reshape(3, -1)
    slopes = np.maximum((steps[2] - steps[0]) / (2 * _STEP), 1e-6)
    out = np.empty(len(values))
    for k, (coefficient, r) in enumerate(zip(values, steps[1], strict=True)):
        noise = coefficient**lags
        lagged = _neighbors(basis) - r * basis
        half = lagged - basis @ (basis.T @ lagged) / 2
        outer = np.hstack([basis, half])
        inner = np.hstack([half, basis]).T @ noise
        core = _neighbors(noise) - r * noise
        cross = inner @ outer
        trace = (core * core.T).sum() - 2 * np.trace(inner @ (core @ outer)) + (cross * cross.T).sum()
        power = n - np.einsum("tp,ts,sp->", basis, noise, basis, optimize=True)
        out[k] = 2 * trace / power**2 / slopes[k] ** 2
    return out


def _neighbors(rows: Float) -> Float:
    """Mean of the rows before and after each, zero beyond the ends."""
    out = np.zeros_like(rows)
    out[1:] += rows[:-1] / 2
    out[:-1] += rows[1:] / 2
    return out


def effective_dof(dof: float, sensitivity: npt.ArrayLike, variance: npt.ArrayLike) -> Float:
    """Degrees of freedom of t.

    Parameters
    ----------
    dof : of the residuals
    sensitivity : d log k / d rho of the contrast
    variance : of rho
    """
    return np.asarray(2 / (2 / dof + np.square(sensitivity) * np.asarray(variance)))
