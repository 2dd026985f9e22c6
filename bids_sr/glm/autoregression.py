"""Autoregressive noise from GLM residuals: expectation, scatter and inversion.

For residuals e = R y, with R off the columns of the design and V the covariance of the noise, sums
of lag products are

    E[sum_t e_t e_(t+l)] = tr(R S_l R V),  S_l the shift by l

which is linear in the autocovariances of the noise (Worsley et al. 2002); here V goes on beyond
the lags that are looked at, as an autoregressive process does. The lag product over the power,
r_l, is a ratio of two quadratic forms in normal variables: its mean differs from the ratio of the
means, and its scatter from voxel to voxel is known, both to second order and for this design. Of
noise of .35 in 60 volumes with 17 confounds, the autocorrelation comes out .02 too low without
that bias and .002 with it, and t too often beyond its threshold by a tenth.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.linalg import toeplitz

from bids_sr.io.arrays import Float

# largest partial autocorrelation: a process nearer to a random walk is not told from drift
_PARTIAL = 0.97
_ROUNDS = 12
_RENEW = 3  # rounds that share a Jacobian
_SHORTER = 0.3  # length of a step after one that leads away
_STRIDE = 0.2  # largest change of an autocorrelation in a round
_CLOSE = 1e-6
_SAME = 0.01  # error of a ratio up to which a process that comes near is taken: half a node apart
_NEARER = np.array(
    [0.98, 0.95, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1]
)  # of the way from white noise
_NUDGE = 1e-4
_DAMPING = 1e-3


def levinson(rho: Float) -> tuple[list[Float], Float]:
    """Best linear predictors from 0, 1 … p earlier samples (Levinson 1947, Durbin 1960).

    From autocorrelations (M, p) at lags 1 … p, partial ones within ±.97: for each order k weights
    (M, k), of the latest sample first, and (M, p + 1) shares of the variance that are left.
    """
    count, order = rho.shape
    predictors = [np.zeros((count, 0))]
    left = np.ones((count, order + 1))
    for k in range(1, order + 1):
        last = predictors[-1]
        partial = (rho[:, k - 1] - (last * rho[:, : k - 1][:, ::-1]).sum(axis=1)) / left[:, k - 1]
        partial = np.clip(partial, -_PARTIAL, _PARTIAL)[:, None]
        predictors.append(np.hstack([last - partial * last[:, ::-1], partial]))
        left[:, k] = left[:, k - 1] * (1 - partial[:, 0] ** 2)
    return predictors, left


def autocorrelations(predictors: Sequence[Float], n: int) -> Float:
    """Return autocorrelations (M, n) at lags 0 … n - 1 from the predictors of `levinson`.

    `predictors`: weights for each order from 0 to p.
    """
    order = len(predictors) - 1
    out = np.ones((len(predictors[-1]), n))
    for k in range(1, n):
        weights = predictors[min(k, order)]
        out[:, k] = (weights * out[:, k - weights.shape[1] : k][:, ::-1]).sum(axis=1)
    return out


def _moved(columns: Float, by: int) -> Float:
    """Columns moved in time, row t holding t + by; zero where there is none."""
    out = np.zeros_like(columns)
    if by >= 0:
        out[: len(columns) - by] = columns[by:]
    else:
        out[-by:] = columns[:by]
    return out


def _diagonal_sums(a: Float, b: Float) -> Float:
    """Return sums over both k-th diagonals of a bᵀ, for k = 0 … T - 1.

    The diagonals are k steps off the main one. The matrix is not built.
    """
    n = len(a)
    spectra = np.conj(np.fft.rfft(a, 2 * n, axis=0)) * np.fft.rfft(b, 2 * n, axis=0)
    full = np.fft.irfft(spectra.sum(axis=1), 2 * n)
    out = full[:n].copy()
    out[1:] += full[:n:-1]
    return out


def expected_products(basis: Float, order: int) -> Float:
    """Return expected lag products of residuals from noise autocovariances, (order + 1, T).

    Row l, times the noise's autocovariances at lags 0 … T - 1, is E[sum_t e_t e_(t+l)]; `basis` is
    an orthonormal basis (T, P) of the design.
    """
    out = np.empty((order + 1, len(basis)))
    for lag in range(order + 1):
        later = _moved(basis, lag)
        out[lag] = _diagonal_sums(basis @ (basis.T @ later) - later, basis) - _diagonal_sums(
            basis, _moved(basis, -lag)
        )
        out[lag, lag] += len(basis) - lag
    return out


def _seen(rho: Float, products: Float) -> Float:
    """Return ratios (M, p) of expected lag products to expected power.

    They are for noise autocorrelations (M, p).
    """
    moments = autocorrelations(levinson(rho)[0], products.shape[1]) @ products.T
    return moments[:, 1:] / moments[:, :1]


def slopes(rho: Float, products: Float) -> Float:
    """Return the derivatives of `_seen` by the noise autocorrelations, (M, p, p).

    What is seen of the noise is the second axis, and its autocorrelations are the third axis.

    `products`: factors of the autocovariances, as of `expected_products` (p + 1, T).
    """
    found = _seen(rho, products)
    return np.stack(
        [(_seen(rho + _NUDGE * row, products) - found) / _NUDGE for row in np.eye(rho.shape[1])],
        axis=2,
    )


def unseen(target: Float, products: Float) -> Float:
    """Return autocorrelations (M, p) of the noise with the residual ratios `target` (M, p).

    The ratios are as `_seen` gives them. Some ratios are not those of any stationary process:
    averages of few voxels, or nodes beside all voxels. If no process comes within .01 of them,
    they are brought toward those of white noise in the same design, as far as needed (`_NEARER`).
    The process that Newton's steps end at would be near a random walk at several lags, and turn
    rounding errors into effects.

    `products`: factors of the autocovariances, as of `expected_products` (p + 1, T).
    """
    rho, error = _unseen_if_possible(target, products)
    lost = np.flatnonzero(error > _SAME)
    if not len(lost):
        return rho
    white = _seen(np.zeros((1, target.shape[1])), products)
    nearer = white + np.multiply.outer(_NEARER, target[lost] - white)
    possible, errors = _unseen_if_possible(nearer.reshape(-1, target.shape[1]), products)
    possible, errors = possible.reshape(nearer.shape), errors.reshape(nearer.shape[:2])
    # the farthest from white noise that is possible, as are all nearer ones
    rho[lost] = 0.0
    reached = np.ones(len(lost), dtype=bool)
    for row, found in zip(possible[::-1], errors[::-1] <= _SAME, strict=True):
        reached &= found
        rho[lost[reached]] = row[reached]
    return rho


def _unseen_if_possible(target: Float, products: Float) -> tuple[Float, Float]:
    """Return autocorrelations as `unseen` and the largest error (M,) of the ratios.

    By Newton's steps, each from the nearest process so far; after a step that leads away the next
    is shorter.
    """
    rho = target.copy()
    order = target.shape[1]
    best = rho.copy()
    least = np.full(len(rho), np.inf)
    nearest = np.zeros_like(target)  # error of `best`
    length = np.ones((len(rho), 1))
    slope = np.zeros(0)
    for turn in range(_ROUNDS):
        error = target - _seen(rho, products)
        size = np.abs(error).max(axis=1)
        better = size < least
        best[better], nearest[better], least[better] = rho[better], error[better], size[better]
        length[~better] *= _SHORTER
        if least.max() < _CLOSE:
            break
        if turn % _RENEW == 0:
            slope = slopes(best, products) + _DAMPING * np.eye(order)
        step = np.linalg.solve(slope, nearest[:, :, None])[:, :, 0]
        step *= np.minimum(1, _STRIDE / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-12))
        rho = autocorrelations(levinson(best + length * step)[0], order + 1)[:, 1:]
    return autocorrelations(levinson(best)[0], order + 1)[:, 1:], least


def sampling(rho: Float, basis: Float) -> tuple[Float, Float]:
    """Mean and scatter of one voxel's ratios r_l of lag products to power, under normal noise.

    For autocorrelations (p,) of the noise and an orthonormal basis (T, P) of the design: (p,)
    E[r_l] less the ratio of expectations, and (p, p) covariance, both to second order in 1 /
    degrees of freedom: two quadratic forms e'Ae and e'Be have the covariance 2 tr(A Σ B Σ), Σ = R
    V R.
    """
    n, order = len(basis), len(rho)
    noise = toeplitz(autocorrelations(levinson(rho[None])[0], n)[0])
    noise -= basis @ (basis.T @ noise)
    noise -= (noise @ basis) @ basis.T
    diagonals = np.array([np.trace(noise, offset=k) for k in range(order + 1)])
    power = diagonals[0]
    ratios = diagonals / power
    traces = _shifted_traces(noise, order)
    crossed = np.outer(ratios, traces[0])
    covariance = (
        2 * (traces - crossed - crossed.T + np.outer(ratios, ratios) * traces[0, 0]) / power**2
    )
    bias = 2 * (ratios * traces[0, 0] - traces[0]) / power**2
    return bias[1:], covariance[1:, 1:]


def _shifted_traces(noise: Float, order: int) -> Float:
    """Return tr(L_k N L_l N) for a symmetric N and lags k, l = 0 … order, (order + 1, order + 1).

    L_k is half the shift by k and half that by -k. The traces are sums of products of N and of N
    moved by k rows and by l columns either way, which spectra of the rows give for all l at once.
    """
    n = len(noise)
    size = fft.next_fast_len(n + order, real=True)
    spectra = fft.rfft(noise, size, axis=1)
    mirrored = spectra.conj()
    out = np.empty((order + 1, order + 1))
    for k in range(order + 1):
        sums = np.einsum("tf,tf->f", mirrored[: n - k], spectra[k:])
        products = fft.irfft(sums, size)
        out[k] = (products[: order + 1] + products[-np.arange(order + 1)]) / 2
    return out


def orthonormal(matrix: Float) -> Float:
    """Orthonormal basis of a matrix' columns, (T, rank).

    `matrix`: columns of the design (T, P), which may repeat each other.
    """
    left, sizes, _ = np.linalg.svd(matrix, full_matrices=False)
    return left[:, sizes > 1e-10 * sizes[0]]


def effective_dof(dof: float, uncertainty: npt.ArrayLike) -> Float:
    """Return the effective degrees of freedom of t.

    They hold where the autocorrelation of a voxel's noise is not quite that of the model that it
    shares.

    The variance of an effect has two factors: the dispersion of the whitened residuals, known to
    2/dof, and the factor k that the design makes of the noise's autocorrelation. Where a voxel's
    own autocorrelation scatters about that of its model (`bids_sr.glm.noise`), log k
    scatters too. To first order log variance then has the variance

        2/dof + (d log k / d rho)' C (d log k / d rho)

    with C the covariance of the autocorrelations, and t has the degrees of freedom of the scaled
    chi-square with that spread (Satterthwaite 1946; the step that Kenward and Roger 1997 take for
    mixed models). In homogeneous noise C is 0; a voxel alone in its mask has the error of its own
    estimate. `uncertainty` is the variance of log k; estimates below 0 count as 0.
    """
    return 2 / (2 / dof + np.maximum(uncertainty, 0.0))
