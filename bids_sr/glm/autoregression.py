"""Autoregressive noise from GLM residuals: expectation, scatter and inversion.

For residuals e = R y, with the projection R that removes the columns of the design and the noise
covariance V, lag products have the expectation

    E[sum_t e_t e_(t+l)] = tr(R S_l R V),  S_l the shift by l

which is linear in the autocovariances of the noise (Worsley et al. 2002). Here V extends beyond
the estimated lags, as the covariance of an autoregressive process does. The ratio r_l of lag
product and power is a ratio of two quadratic forms in normal variables. Its mean differs from the
ratio of the means; this bias and its scatter over voxels are known to second order for a given
design. For noise with an autocorrelation of .35 in 60 volumes with 17 confounds, the estimated
autocorrelation is too low by .02 without this correction and by .002 with the correction, and t
exceeds its threshold a tenth too often without it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.linalg import toeplitz

from bids_sr.io.arrays import Float

# largest partial autocorrelation; processes closer to a random walk cannot be distinguished from
# drift
_PARTIAL = 0.97
_ROUNDS = 12
_RENEW = 3  # rounds of Newton's method after which the Jacobian is computed again
_SHORTER = 0.3  # factor of the step length after a step that increases the error
_STRIDE = 0.2  # largest change of an autocorrelation per round
_CLOSE = 1e-6
# largest error of a ratio (half the distance of nodes) for which the closest process is accepted
_SAME = 0.01
_NEARER = np.array(
    [0.98, 0.95, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1]
)  # remaining fractions of the distance from white noise
_NUDGE = 1e-4
_DAMPING = 1e-3


def levinson(rho: Float) -> tuple[list[Float], Float]:
    """Return the best linear predictors from 0, 1 … p earlier samples.

    Sources: Levinson 1947, Durbin 1960.

    Parameters
    ----------
    rho : ndarray
        Autocorrelations (M, p) at lags 1 … p. Partial autocorrelations are limited to ±.97.

    Returns
    -------
    tuple[list[ndarray], ndarray]
        Weights (M, k) for each order k, latest sample first; and remaining fractions of the
        variance (M, p + 1).
    """
    count, order = rho.shape
    predictors = [np.zeros((count, 0))]
    remaining = np.ones((count, order + 1))
    for k in range(1, order + 1):
        previous = predictors[-1]
        partial = (rho[:, k - 1] - (previous * rho[:, : k - 1][:, ::-1]).sum(axis=1)) / remaining[
            :, k - 1
        ]
        partial = np.clip(partial, -_PARTIAL, _PARTIAL)[:, None]
        predictors.append(np.hstack([previous - partial * previous[:, ::-1], partial]))
        remaining[:, k] = remaining[:, k - 1] * (1 - partial[:, 0] ** 2)
    return predictors, remaining


def autocorrelations(predictors: Sequence[Float], n: int) -> Float:
    """Return autocorrelations (M, n) at lags 0 … n - 1 from the predictors of `levinson`.

    `predictors` are the weights for each order from 0 to p.
    """
    order = len(predictors) - 1
    rho = np.ones((len(predictors[-1]), n))
    for k in range(1, n):
        weights = predictors[min(k, order)]
        rho[:, k] = (weights * rho[:, k - weights.shape[1] : k][:, ::-1]).sum(axis=1)
    return rho


def _shift_rows(columns: Float, n_rows: int) -> Float:
    """Shift columns in time: row t contains row t + by, or 0 beyond the ends."""
    shifted = np.zeros_like(columns)
    if n_rows >= 0:
        shifted[: len(columns) - n_rows] = columns[n_rows:]
    else:
        shifted[-n_rows:] = columns[:n_rows]
    return shifted


def _diagonal_sums(a: Float, b: Float) -> Float:
    """Return sums over the k-th diagonals of a bᵀ above and below the main diagonal.

    k is from 0 to T - 1.
    """
    n = len(a)
    spectra = np.conj(np.fft.rfft(a, 2 * n, axis=0)) * np.fft.rfft(b, 2 * n, axis=0)
    full = np.fft.irfft(spectra.sum(axis=1), 2 * n)
    sums = full[:n].copy()
    sums[1:] += full[:n:-1]
    return sums


def compute_expected_products(basis: Float, order: int) -> Float:
    """Return the matrix (order + 1, T) of expected lag products of residuals.

    The product of row l with the autocovariances of the noise at lags 0 … T - 1 is E[sum_t e_t
    e_(t+l)]. `basis` is an orthonormal basis (T, P) of the design.
    """
    products = np.empty((order + 1, len(basis)))
    for lag in range(order + 1):
        shifted_basis = _shift_rows(basis, lag)
        products[lag] = _diagonal_sums(
            basis @ (basis.T @ shifted_basis) - shifted_basis, basis
        ) - _diagonal_sums(basis, _shift_rows(basis, -lag))
        products[lag, lag] += len(basis) - lag
    return products


def _residual_ratios(rho: Float, products: Float) -> Float:
    """Return ratios (M, p) of expected lag products and expected power of residuals.

    `rho` are the autocorrelations (M, p) of the noise.
    """
    moments = autocorrelations(levinson(rho)[0], products.shape[1]) @ products.T
    return moments[:, 1:] / moments[:, :1]


def slopes(rho: Float, products: Float) -> Float:
    """Return derivatives of residual ratios with respect to noise autocorrelations, (M, p, p).

    The second axis has the ratios, and the third axis the autocorrelations. `products` is the
    matrix of `compute_expected_products` (p + 1, T).
    """
    ratios = _residual_ratios(rho, products)
    return np.stack(
        [
            (_residual_ratios(rho + _NUDGE * row, products) - ratios) / _NUDGE
            for row in np.eye(rho.shape[1])
        ],
        axis=2,
    )


def noise_autocorrelations(target: Float, products: Float) -> Float:
    """Return the noise autocorrelations (M, p) that lead to given lag ratios of GLM residuals.

    Some ratios do not belong to any stationary process, for example averages of few voxels, or
    lattice nodes outside the voxels. If no process has ratios within .01, the ratios are moved
    toward the ratios of white noise in the same design, as far as necessary (`_NEARER`).
    Otherwise, Newton's method would end near a random walk at several lags, and rounding errors
    would become effects.

    Parameters
    ----------
    target : ndarray
        Ratios of lag products and power of residuals (M, p).
    products : ndarray
        Matrix of `compute_expected_products` (p + 1, T).
    """
    rho, error = _invert_if_possible(target, products)
    failed = np.flatnonzero(error > _SAME)
    if not len(failed):
        return rho
    white = _residual_ratios(np.zeros((1, target.shape[1])), products)
    moved_targets = white + np.multiply.outer(_NEARER, target[failed] - white)
    possible, errors = _invert_if_possible(moved_targets.reshape(-1, target.shape[1]), products)
    possible, errors = (
        possible.reshape(moved_targets.shape),
        errors.reshape(moved_targets.shape[:2]),
    )
    # The ratios are moved toward white noise as little as possible: a process must exist for the
    # selected ratios and for all tested ratios that are closer to white noise.
    rho[failed] = 0.0
    reachable = np.ones(len(failed), dtype=bool)
    for row, is_possible in zip(possible[::-1], errors[::-1] <= _SAME, strict=True):
        reachable &= is_possible
        rho[failed[reachable]] = row[reachable]
    return rho


def _invert_if_possible(target: Float, products: Float) -> tuple[Float, Float]:
    """Return autocorrelations as `noise_autocorrelations`, and the largest errors (M,) of their
    ratios.

    Newton's method starts each step from the closest process so far. Steps are shortened after a
    step that increases the error.
    """
    rho = target.copy()
    order = target.shape[1]
    best = rho.copy()
    best_size = np.full(len(rho), np.inf)
    best_error = np.zeros_like(target)  # error of `best`
    length = np.ones((len(rho), 1))
    slope = np.zeros(0)
    for round_ in range(_ROUNDS):
        error = target - _residual_ratios(rho, products)
        size = np.abs(error).max(axis=1)
        is_smaller = size < best_size
        best[is_smaller], best_error[is_smaller], best_size[is_smaller] = (
            rho[is_smaller],
            error[is_smaller],
            size[is_smaller],
        )
        length[~is_smaller] *= _SHORTER
        if best_size.max() < _CLOSE:
            break
        if round_ % _RENEW == 0:
            slope = slopes(best, products) + _DAMPING * np.eye(order)
        step = np.linalg.solve(slope, best_error[:, :, None])[:, :, 0]
        step *= np.minimum(1, _STRIDE / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-12))
        rho = autocorrelations(levinson(best + length * step)[0], order + 1)[:, 1:]
    return autocorrelations(levinson(best)[0], order + 1)[:, 1:], best_size


def ratio_moments(rho: Float, basis: Float) -> tuple[Float, Float]:
    """Return bias (p,) and covariance (p, p) of a voxel's ratios of lag products and power.

    The bias is E[r_l] minus the ratio of the expectations. Both are computed for normal noise to
    second order in 1 / degrees of freedom: two quadratic forms e'Ae and e'Be have the covariance 2
    tr(A Σ B Σ), with Σ = R V R.

    Parameters
    ----------
    rho : ndarray
        Autocorrelations of the noise (p,).
    basis : ndarray
        Orthonormal basis of the design (T, P).
    """
    n, order = len(basis), len(rho)
    noise = toeplitz(autocorrelations(levinson(rho[None])[0], n)[0])
    noise -= basis @ (basis.T @ noise)
    noise -= (noise @ basis) @ basis.T
    diagonals = np.array([np.trace(noise, offset=k) for k in range(order + 1)])
    power = diagonals[0]
    ratios = diagonals / power
    traces = _compute_shifted_traces(noise, order)
    crossed = np.outer(ratios, traces[0])
    covariance = (
        2 * (traces - crossed - crossed.T + np.outer(ratios, ratios) * traces[0, 0]) / power**2
    )
    bias = 2 * (ratios * traces[0, 0] - traces[0]) / power**2
    return bias[1:], covariance[1:, 1:]


def _compute_shifted_traces(noise: Float, order: int) -> Float:
    """Return tr(L_k N L_l N) of a symmetric N for lags k, l = 0 … order, (order + 1, order + 1).

    L_k is the mean of the shifts by k and by -k. The traces are sums of products of N and of N
    shifted by k rows and by ±l columns; spectra of the rows give them for all l at once.
    """
    n = len(noise)
    size = fft.next_fast_len(n + order, real=True)
    spectra = fft.rfft(noise, size, axis=1)
    mirrored = spectra.conj()
    traces = np.empty((order + 1, order + 1))
    for k in range(order + 1):
        sums = np.einsum("tf,tf->f", mirrored[: n - k], spectra[k:])
        products = fft.irfft(sums, size)
        traces[k] = (products[: order + 1] + products[-np.arange(order + 1)]) / 2
    return traces


def orthonormal(matrix: Float) -> Float:
    """Return an orthonormal basis of the columns of a matrix, (T, rank).

    Columns of the matrix (T, P) may be collinear.
    """
    basis, singular_values, _ = np.linalg.svd(matrix, full_matrices=False)
    return basis[:, singular_values > 1e-10 * singular_values[0]]


def effective_dof(dof: float, uncertainty: npt.ArrayLike) -> Float:
    """Return the effective degrees of freedom of t for voxels that share a noise model.

    The variance of an effect has two factors: the dispersion of the whitened residuals, known to
    2/dof, and a factor k that depends on the design and on the autocorrelation of the noise. If
    autocorrelations of voxels scatter around their model (`bids_sr.glm.noise`), log k scatters as
    well. To first order, the log variance then has the variance

        2/dof + (d log k / d rho)' C (d log k / d rho)

    with the covariance C of the autocorrelations, and t has the degrees of freedom of the scaled
    chi-square with this variance (Satterthwaite 1946; the approach of Kenward and Roger 1997 for
    mixed models). C is 0 in homogeneous noise. For a single voxel in its mask, C is the error of
    its own estimate.

    Parameters
    ----------
    dof : float
        Residual degrees of freedom.
    uncertainty : ndarray
        Variance of log k; negative estimates count as 0.
    """
    return 2 / (2 / dof + np.maximum(uncertainty, 0.0))
