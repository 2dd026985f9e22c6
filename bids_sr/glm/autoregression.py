"""Autoregressive noise from GLM residuals: expectation, scatter and inversion.

Lag products and autocorrelations are means over bands of lags (`bids_sr.glm.lag_bands`). At TR 2 s
and above, bands are single lags.

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

from bids_sr.glm.band_processes import find_band_processes, invert_band_ratios
from bids_sr.glm.lag_bands import LagBands
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


def noise_autocorrelations(target: Float, products: Float, bands: LagBands) -> Float:
    """Return the noise autocorrelations (M, q) that lead to given lag ratios of GLM residuals.

    Some ratios do not belong to any stationary process, for example averages of few voxels, or
    lattice nodes outside the voxels. If no process has ratios within .01, the ratios are moved
    toward the ratios of white noise in the same design (`_WHITE_NOISE_DISTANCES`). For single
    lags, they are moved as far as necessary: otherwise, Newton's method would end near a random
    walk at several lags, and rounding errors would become effects. For bands, the process with
    the closest ratios is used, because the peaks of its spectrum are resolved
    (`bids_sr.glm.band_processes`).

    `target` are ratios of mean lag products over bands and power of residuals (M, q), and
    `products` the matrix of `compute_expected_products` (q + 1, T). The autocorrelations are means
    over bands.
    """
    rho, errors = _invert_ratios(target, products, bands)
    failed_indices = np.flatnonzero(errors > _MAX_RATIO_ERROR)
    if not len(failed_indices):
        return rho
    n_bands = target.shape[1]
    white = products[1:, 0] / products[0, 0]
    moved_targets = white + np.multiply.outer(
        _WHITE_NOISE_DISTANCES, target[failed_indices] - white
    )
    moved_rho, moved_errors = _invert_ratios(moved_targets.reshape(-1, n_bands), products, bands)
    moved_rho = moved_rho.reshape(moved_targets.shape)
    if not bands.are_single:
        distances = np.abs(moved_targets - target[failed_indices]).max(axis=2)
        distances += moved_errors.reshape(distances.shape)
        distances = np.concatenate([errors[None, failed_indices], distances])
        candidates = np.concatenate([rho[None, failed_indices], moved_rho])
        rho[failed_indices] = candidates[distances.argmin(axis=0), np.arange(len(failed_indices))]
        return rho
    is_possible = moved_errors.reshape(moved_targets.shape[:2]) <= _MAX_RATIO_ERROR
    # The ratios are moved toward white noise as little as possible: a process must exist for the
    # selected ratios and for all tested ratios that are closer to white noise.
    rho[failed_indices] = 0.0
    is_reachable = np.ones(len(failed_indices), dtype=bool)
    for distance_rho, is_possible_there in zip(moved_rho[::-1], is_possible[::-1], strict=True):
        is_reachable &= is_possible_there
        rho[failed_indices[is_reachable]] = distance_rho[is_reachable]
    return rho


def _invert_ratios(target: Float, products: Float, bands: LagBands) -> tuple[Float, Float]:
    """Return the autocorrelations (M, q) with the closest ratios, and the ratios' errors (M,).

    An error is the largest over the bands. For the parameters, see `noise_autocorrelations`.
    """
    if bands.are_single:
        return _invert_lag_ratios(target, products)
    processes, errors = invert_band_ratios(target, products, bands)
    return processes.rho, errors


def _invert_lag_ratios(target: Float, products: Float) -> tuple[Float, Float]:
    """Return the autocorrelations of `_invert_ratios` for single lags.

    Newton's method starts each step from the closest process so far. Steps are shortened after a
    step that increases the error.
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
            jacobian = _differentiate_lag_ratios(best_rho, products) + _DAMPING * np.eye(order)
        step = np.linalg.solve(jacobian, best_differences[:, :, None])[:, :, 0]
        largest_change = np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-12)
        step *= np.minimum(1, _MAX_STEP / largest_change)
        rho = autocorrelations(levinson(best_rho + step_lengths * step)[0], order + 1)[:, 1:]
    return autocorrelations(levinson(best_rho)[0], order + 1)[:, 1:], best_errors


def ratio_derivatives(rho: Float, products: Float, bands: LagBands) -> Float:
    """Return derivatives of residual ratios with respect to noise autocorrelations, (M, q, q).

    The second axis has the ratios, and the third axis the autocorrelations. `products` is the
    matrix of `compute_expected_products` (q + 1, T).
    """
    if bands.are_single:
        return _differentiate_lag_ratios(rho, products)
    return find_band_processes(rho, bands).derivatives(products)


def _differentiate_lag_ratios(rho: Float, products: Float) -> Float:
    """Return the derivatives of `ratio_derivatives` for single lags."""
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


def ratio_moments(
    rho: Float, basis: Float, products: Float, bands: LagBands
) -> tuple[Float, Float]:
    """Return bias (q,) and covariance (q, q) of a voxel's ratios of lag products and power.

    The bias is E[r_l] minus the ratio of the expectations. Both are computed for normal noise to
    second order in 1 / degrees of freedom: two quadratic forms e'Ae and e'Be have the covariance 2
    tr(A Σ B Σ), with Σ = R V R.

    `rho` are the autocorrelations of the noise (q,), `basis` is an orthonormal basis of the design
    (T, P), and `products` the matrix of `compute_expected_products` (q + 1, T).
    """
    autocovariances = extend_autocorrelations(rho[None], bands, len(basis))[0]
    expected = products @ autocovariances
    power = expected[0]
    ratios = expected / power
    traces = _compute_shifted_traces(autocovariances, basis, bands)
    cross_terms = np.outer(ratios, traces[0])
    square_terms = np.outer(ratios, ratios) * traces[0, 0]
    covariance = 2 * (traces - cross_terms - cross_terms.T + square_terms) / power**2
    bias = 2 * (ratios * traces[0, 0] - traces[0]) / power**2
    return bias[1:], covariance[1:, 1:]


def extend_autocorrelations(rho: Float, bands: LagBands, n: int) -> Float:
    """Return autocorrelations (M, n) at lags 0 … n - 1 from means over bands (M, q)."""
    if bands.are_single:
        return autocorrelations(levinson(rho)[0], n)
    return find_band_processes(rho, bands).autocorrelations(n)


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


def _compute_shifted_traces(autocovariances: Float, basis: Float, bands: LagBands) -> Float:
    """Return tr(L_k N L_l N) for N = R V R and bands k, l = 0 … q, (q + 1, q + 1).

    L_k is the mean of the shifts by all lags of band k, forward and back; L_0 is the identity. V
    has the autocovariances at lags 0 … T - 1 (T,), and R removes the orthonormal columns of
    `basis` B (T, P). N is V - B K' - K B' with K = V B - B B'V B / 2, so that no matrix (T, T) is
    required.
    """
    noise_basis = _multiply_toeplitz(autocovariances, basis)
    half = noise_basis - basis @ (basis.T @ noise_basis) / 2
    basis_shifts, half_shifts = (_shift_both_ways(columns, bands) for columns in (basis, half))
    noise_shifts = np.stack([_multiply_toeplitz(autocovariances, rows) for rows in basis_shifts])
    single = np.einsum("ktp,ltp->kl", half_shifts, noise_shifts, optimize=True)
    mixed, basis_squares, half_squares = (
        np.stack([left.T @ columns for columns in right])
        for left, right in ((half, basis_shifts), (basis, basis_shifts), (half, half_shifts))
    )
    both = np.einsum("kpq,lqp->kl", basis_squares, half_squares, optimize=True)
    double = 2 * np.einsum("kpq,lqp->kl", mixed, mixed, optimize=True) + both + both.T
    return np.asarray(
        _compute_toeplitz_traces(autocovariances, bands) - 2 * (single + single.T) + double
    )


def _compute_toeplitz_traces(autocovariances: Float, bands: LagBands) -> Float:
    """Return tr(L_k V L_l V), (q + 1, q + 1), for L and V of `_compute_shifted_traces`.

    Each trace is a sum of products of autocovariances v over diagonals d, whose lengths depend on
    both lags.
    """
    n, n_lags = len(autocovariances), bands.n_lags
    symmetric = np.zeros(2 * (n + n_lags) - 1)
    symmetric[n_lags : n_lags + 2 * n - 1] = np.concatenate(
        [autocovariances[:0:-1], autocovariances]
    )
    # row l of the windows has v(d + l) for d = 1 - n … n - 1
    windows = np.lib.stride_tricks.sliding_window_view(symmetric, 2 * n - 1)[n_lags:]
    lags, d = np.arange(n_lags + 1)[:, None], np.arange(1 - n, n)
    same = _sum_same_direction(windows, lags, d, bands)
    mirrored, opposite = windows[:, ::-1], np.empty_like(same)
    first = 0
    for k, stop in enumerate((0, *bands.stops)):
        band = slice(first, stop + 1)
        # A diagonal has n - max(k + max(0, d), l + max(0, -d)) elements; the first of both is
        # the maximum for the last lags k of the band.
        zeros = np.zeros((1, len(d)))
        sums = np.concatenate([zeros, np.cumsum(windows[band], axis=0)])
        weighted = (lags[band] + np.maximum(0, d)) * windows[band]
        weighted_sums = np.concatenate([zeros, np.cumsum(weighted, axis=0)])
        n_smaller = np.clip(lags - d - first + 1, 0, stop + 1 - first)
        maxima = (lags + np.maximum(0, -d)) * np.take_along_axis(sums, n_smaller, axis=0)
        maxima += weighted_sums[-1] - np.take_along_axis(weighted_sums, n_smaller, axis=0)
        products = ((n * sums[-1] - maxima) * mirrored).sum(axis=1) / (stop + 1 - first)
        opposite[k] = _average_from_0(products, bands)
        first = stop + 1
    return np.asarray((same + opposite) / 2)


def _sum_same_direction(
    windows: Float, lags: npt.NDArray[np.intp], d: npt.NDArray[np.intp], bands: LagBands
) -> Float:
    """Sum the products of `_compute_toeplitz_traces` for shifts in the same direction."""
    n = (len(d) + 1) // 2
    # A diagonal has n + min(-k, d) - max(0, l + d) elements, a term of k plus a term of l.
    starts = _average_from_0(np.maximum(0, lags + d) * windows, bands)
    ends = _average_from_0((n + np.minimum(-lags, d)) * windows, bands)
    shifted = _average_from_0(windows, bands)
    sums = ends @ shifted.T - shifted @ starts.T
    # The number is negative instead of 0 for the last diagonals.
    for from_end in range(1, min(2 * bands.n_lags, n)):
        tail = windows[:, len(d) - from_end]
        excess = np.maximum(0, lags + lags.T - from_end) * tail[:, None] * tail
        sums += _average_from_0(_average_from_0(excess, bands).T, bands)
    return np.asarray(sums)


def _average_from_0(values: Float, bands: LagBands) -> Float:
    """Return values at lag 0 and means over bands (q + 1, …) of values at lags 0 … p."""
    return np.concatenate([values[:1], bands.average(values[1:])])


def _multiply_toeplitz(autocovariances: Float, columns: Float) -> Float:
    """Return the product (T, P) of the symmetric Toeplitz matrix of (T,) with columns (T, P)."""
    n = len(autocovariances)
    size = fft.next_fast_len(2 * n, real=True)
    circulant = np.zeros(size)
    circulant[:n] = autocovariances
    circulant[size - n + 1 :] = autocovariances[:0:-1]
    spectra = fft.rfft(circulant)[:, None] * fft.rfft(columns, size, axis=0)
    return np.asarray(fft.irfft(spectra, size, axis=0)[:n])


def _shift_both_ways(columns: Float, bands: LagBands) -> Float:
    """Multiply each L_k of `_compute_shifted_traces` by columns (T, P), (q + 1, T, P)."""
    both = (bands.shift(columns, 1) + bands.shift(columns, -1)) / 2
    return np.concatenate([columns[None], both])


def compute_expected_products(basis: Float, bands: LagBands) -> Float:
    """Return the matrix (q + 1, T) of expected power and mean lag products of residuals.

    The product of row l with the autocovariances of the noise at lags 0 … T - 1 is the mean of
    E[sum_t e_t e_(t+l)] over the lags of band l; row 0 is the power. `basis` is an orthonormal
    basis (T, P) of the design.
    """
    n = len(basis)
    later, earlier = (
        np.concatenate([basis[None], bands.shift(basis, direction)]) for direction in (1, -1)
    )
    products = np.empty((len(later), n))
    for band, (later_rows, earlier_rows) in enumerate(zip(later, earlier, strict=True)):
        products[band] = _sum_diagonals(
            basis @ (basis.T @ later_rows) - later_rows, basis
        ) - _sum_diagonals(basis, earlier_rows)
    lags = np.arange(bands.n_lags + 1)
    lengths = np.zeros((len(lags), n))
    lengths[lags, lags] = n - lags
    products[0] += lengths[0]
    products[1:] += bands.average(lengths[1:])
    return products


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


def step_processes(rho: Float, bands: LagBands, size: float) -> tuple[Float, Float]:
    """Return prediction filters (M, q, p + 1) for one changed autocorrelation each.

    Also returns the changes (M, q), which are at most `size`. `rho` are the autocorrelations
    before (M, q).
    """
    if bands.are_single:
        n_bands = rho.shape[1]
        stepped = (rho[:, None] + size * np.eye(n_bands)).reshape(-1, n_bands)
        filters = prediction_filters(stepped, bands)
        changes = np.full(rho.shape, size)
    else:
        processes, changes = find_band_processes(rho, bands).step(size)
        filters = processes.prediction_filters()
    return filters.reshape(*rho.shape, -1), changes


def prediction_filters(rho: Float, bands: LagBands) -> Float:
    """Return the filters (M, p + 1) of prediction errors, which begin with 1, from (M, q)."""
    if bands.are_single:
        predictors = levinson(rho)[0][-1]
        return np.hstack([np.ones((len(rho), 1)), -predictors])
    return find_band_processes(rho, bands).prediction_filters()


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
