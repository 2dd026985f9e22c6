"""Autoregressive noise from GLM residuals: expectation, scatter and inversion.

For residuals e = R y, with the projection R that removes the columns of the design and the noise
covariance V, lag products have the expectation

    E[sum_t e_t e_(t+l)] = tr(R S_l R V),  S_l the shift by l

which is linear in the autocovariances of the noise (Worsley et al. 2002,
https://doi.org/10.1006/nimg.2001.0933). Here V extends beyond the estimated lags, as the
covariance of an autoregressive process does. The ratio r_l of lag product and power is a ratio of
two quadratic forms in normal variables. Its mean differs from the ratio of the means; this bias
and its scatter over voxels are known to second order for a given design. For noise with an
autocorrelation of .35 in 60 volumes with 17 confounds, the estimated autocorrelation is too low by
.02 without this correction and by .002 with the correction, and t exceeds its threshold a tenth
too often without it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.linalg import toeplitz

from bids_sr.io.arrays import Float

# largest partial autocorrelation; processes closer to a random walk cannot be distinguished from
# drift
_MAX_PARTIAL = 0.97
_MAX_ITERATIONS = 12  # iterations of Newton's method
_JACOBIAN_ITERATIONS = 3  # iterations after which the Jacobian is computed again
_STEP_REDUCTION = 0.3  # factor of the step length after a step that increases the error
_MAX_STEP = 0.2  # largest change of an autocorrelation per iteration
_TOLERANCE = 1e-6  # error of the ratios that ends the iteration
# largest error of a ratio (half the distance of nodes) for which the closest process is accepted
_MAX_RATIO_ERROR = 0.01
# fractions of the distance from white noise that are tested if no process has the ratios
_WHITE_NOISE_DISTANCES = np.array([0.98, 0.95, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1])
_DERIVATIVE_STEP = 1e-4  # step of an autocorrelation for numerical derivatives
_DAMPING = 1e-3  # diagonal that is added to the Jacobian


def noise_autocorrelations(target: Float, products: Float) -> Float:
    """Return the noise autocorrelations (M, p) that lead to given lag ratios of GLM residuals.

    Some ratios do not belong to any stationary process, for example averages of few voxels, or
    lattice nodes outside the voxels. If no process has ratios within .01, the ratios are moved
    toward the ratios of white noise in the same design, as far as necessary
    (`_WHITE_NOISE_DISTANCES`). Otherwise, Newton's method would end near a random walk at several
    lags, and rounding errors would become effects.

    `target` are ratios of lag products and power of residuals (M, p), and `products` the matrix of
    `compute_expected_products` (p + 1, T).
    """
    rho, errors = _invert_ratios(target, products)
    failed_indices = np.flatnonzero(errors > _MAX_RATIO_ERROR)
    if not len(failed_indices):
        return rho
    order = target.shape[1]
    white = _compute_residual_ratios(np.zeros((1, order)), products)
    moved_targets = white + np.multiply.outer(
        _WHITE_NOISE_DISTANCES, target[failed_indices] - white
    )
    moved_rho, moved_errors = _invert_ratios(moved_targets.reshape(-1, order), products)
    moved_rho = moved_rho.reshape(moved_targets.shape)
    is_possible = moved_errors.reshape(moved_targets.shape[:2]) <= _MAX_RATIO_ERROR
    # The ratios are moved toward white noise as little as possible: a process must exist for the
    # selected ratios and for all tested ratios that are closer to white noise.
    rho[failed_indices] = 0.0
    is_reachable = np.ones(len(failed_indices), dtype=bool)
    for distance_rho, is_possible_there in zip(moved_rho[::-1], is_possible[::-1], strict=True):
        is_reachable &= is_possible_there
        rho[failed_indices[is_reachable]] = distance_rho[is_reachable]
    return rho


def _invert_ratios(target: Float, products: Float) -> tuple[Float, Float]:
    """Return the autocorrelations (M, p) with the closest ratios, and the ratios' errors (M,).

    Newton's method starts each step from the closest process so far. Steps are shortened after a
    step that increases the error. An error is the largest over the lags. For the parameters, see
    `noise_autocorrelations`.
    """
    rho = target.copy()
    order = target.shape[1]
    best_rho = rho.copy()
    best_differences = np.zeros_like(target)
    best_errors = np.full(len(rho), np.inf)
    step_lengths = np.ones((len(rho), 1))
    jacobian = np.zeros(0)
    for iteration in range(_MAX_ITERATIONS):
        differences = target - _compute_residual_ratios(rho, products)
        errors = np.abs(differences).max(axis=1)
        is_better = errors < best_errors
        best_rho[is_better] = rho[is_better]
        best_differences[is_better] = differences[is_better]
        best_errors[is_better] = errors[is_better]
        step_lengths[~is_better] *= _STEP_REDUCTION
        if best_errors.max() < _TOLERANCE:
            break
        if iteration % _JACOBIAN_ITERATIONS == 0:
            jacobian = ratio_derivatives(best_rho, products) + _DAMPING * np.eye(order)
        step = np.linalg.solve(jacobian, best_differences[:, :, None])[:, :, 0]
        largest_change = np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-12)
        step *= np.minimum(1, _MAX_STEP / largest_change)
        rho = autocorrelations(levinson(best_rho + step_lengths * step)[0], order + 1)[:, 1:]
    return autocorrelations(levinson(best_rho)[0], order + 1)[:, 1:], best_errors


def ratio_derivatives(rho: Float, products: Float) -> Float:
    """Return derivatives of residual ratios with respect to noise autocorrelations, (M, p, p).

    The second axis has the ratios, and the third axis the autocorrelations. `products` is the
    matrix of `compute_expected_products` (p + 1, T).
    """
    ratios = _compute_residual_ratios(rho, products)
    derivatives = [
        (_compute_residual_ratios(rho + step, products) - ratios) / _DERIVATIVE_STEP
        for step in _DERIVATIVE_STEP * np.eye(rho.shape[1])
    ]
    return np.stack(derivatives, axis=2)


def _compute_residual_ratios(rho: Float, products: Float) -> Float:
    """Compute ratios (M, p) of expected lag products and expected power of residuals.

    `rho` are the autocorrelations (M, p) of the noise.
    """
    moments = autocorrelations(levinson(rho)[0], products.shape[1]) @ products.T
    return moments[:, 1:] / moments[:, :1]


def ratio_moments(rho: Float, basis: Float) -> tuple[Float, Float]:
    """Return bias (p,) and covariance (p, p) of a voxel's ratios of lag products and power.

    The bias is E[r_l] minus the ratio of the expectations. Both are computed for normal noise to
    second order in 1 / degrees of freedom: two quadratic forms e'Ae and e'Be have the covariance 2
    tr(A Σ B Σ), with Σ = R V R.

    `rho` are the autocorrelations of the noise (p,), and `basis` is an orthonormal basis of the
    design (T, P).
    """
    n, order = len(basis), len(rho)
    noise = toeplitz(autocorrelations(levinson(rho[None])[0], n)[0])
    noise -= basis @ (basis.T @ noise)
    noise -= (noise @ basis) @ basis.T
    diagonals = np.array([np.trace(noise, offset=k) for k in range(order + 1)])
    power = diagonals[0]
    ratios = diagonals / power
    traces = _compute_shifted_traces(noise, order)
    cross_terms = np.outer(ratios, traces[0])
    square_terms = np.outer(ratios, ratios) * traces[0, 0]
    covariance = 2 * (traces - cross_terms - cross_terms.T + square_terms) / power**2
    bias = 2 * (ratios * traces[0, 0] - traces[0]) / power**2
    return bias[1:], covariance[1:, 1:]


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


def levinson(rho: Float) -> tuple[list[Float], Float]:
    """Return the best linear predictors from 0, 1 … p earlier samples.

    Sources: Levinson 1947, Durbin 1960. `rho` are the autocorrelations (M, p) at lags 1 … p, whose
    partial autocorrelations are limited to ±.97. Returns weights (M, k) for each order k, latest
    sample first, and the remaining fractions of the variance (M, p + 1).
    """
    n_processes, order = rho.shape
    predictors = [np.zeros((n_processes, 0))]
    remaining = np.ones((n_processes, order + 1))
    for k in range(1, order + 1):
        previous = predictors[-1]
        predicted = (previous * rho[:, : k - 1][:, ::-1]).sum(axis=1)
        partial = (rho[:, k - 1] - predicted) / remaining[:, k - 1]
        partial = np.clip(partial, -_MAX_PARTIAL, _MAX_PARTIAL)[:, None]
        predictors.append(np.hstack([previous - partial * previous[:, ::-1], partial]))
        remaining[:, k] = remaining[:, k - 1] * (1 - partial[:, 0] ** 2)
    return predictors, remaining


def _compute_shifted_traces(noise: Float, order: int) -> Float:
    """Return tr(L_k N L_l N) of a symmetric N for lags k, l = 0 … order, (order + 1, order + 1).

    L_k is the mean of the shifts by k and by -k. The traces are sums of products of N and of N
    shifted by k rows and by ±l columns; spectra of the rows give them for all l at once.
    """
    n = len(noise)
    size = fft.next_fast_len(n + order, real=True)
    spectra = fft.rfft(noise, size, axis=1)
    conjugate = spectra.conj()
    traces = np.empty((order + 1, order + 1))
    for k in range(order + 1):
        sums = np.einsum("tf,tf->f", conjugate[: n - k], spectra[k:])
        products = fft.irfft(sums, size)
        traces[k] = (products[: order + 1] + products[-np.arange(order + 1)]) / 2
    return traces


def compute_expected_products(basis: Float, order: int) -> Float:
    """Return the matrix (order + 1, T) of expected lag products of residuals.

    The product of row l with the autocovariances of the noise at lags 0 … T - 1 is E[sum_t e_t
    e_(t+l)]. `basis` is an orthonormal basis (T, P) of the design.
    """
    products = np.empty((order + 1, len(basis)))
    for lag in range(order + 1):
        shifted_basis = _shift_rows(basis, lag)
        products[lag] = _sum_diagonals(
            basis @ (basis.T @ shifted_basis) - shifted_basis, basis
        ) - _sum_diagonals(basis, _shift_rows(basis, -lag))
        products[lag, lag] += len(basis) - lag
    return products


def _shift_rows(columns: Float, n_rows: int) -> Float:
    """Shift columns in time: row t of the result is row t + `n_rows`, or 0 beyond the ends."""
    shifted = np.zeros_like(columns)
    if n_rows >= 0:
        shifted[: len(columns) - n_rows] = columns[n_rows:]
    else:
        shifted[-n_rows:] = columns[:n_rows]
    return shifted


def _sum_diagonals(left: Float, right: Float) -> Float:
    """Return sums over the k-th diagonals of L Rᵀ above and below the main diagonal, (T,).

    k is from 0 to T - 1, and L and R are `left` and `right` (T, P).
    """
    n = len(left)
    spectra = np.conj(np.fft.rfft(left, 2 * n, axis=0)) * np.fft.rfft(right, 2 * n, axis=0)
    correlation = np.fft.irfft(spectra.sum(axis=1), 2 * n)
    sums = correlation[:n].copy()
    sums[1:] += correlation[:n:-1]
    return sums


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
    its own estimate. `dof` are the residual degrees of freedom, and `uncertainty` is the variance
    of log k, whose negative estimates count as 0.
    """
    return 2 / (2 / dof + np.maximum(uncertainty, 0.0))
