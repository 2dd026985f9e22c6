"""Autocorrelation of the noise, pooled over neighboring voxels and voxels of the same brightness.

A coefficient from one voxel of 60 volumes errs by .2, and t then passes p < .001 in twice as many
voxels as it should, however long the model is (`benchmarks/null_noise.py`). So

1. Each voxel's residuals give the ratios r_l of lag products to power, l = 1 … 6.
2. These are averaged over the neighborhood, by a Gaussian in mm that knows nothing outside the
   mask (as FILM smooths them, Woolrich et al. 2001), so that all series of a run are treated
   alike, on whatever grid.
3. Tissues differ and lie closer to each other than that width. One regression over the run gives
   how r_l depends on the mean signal relative to the neighborhood, and is added.
4. Voxels of similar r_l form a group (at most 64, less than .02 wide where that many suffice). A
   group shares one model, as SPM's FAST shares one over the brain (Corbin et al. 2018): the
   autoregressive process of order 6 whose residuals show its r_l, see
   `bids_sr.glm.noise`.
5. Where voxels scatter about these expectations more than noise would, a voxel's own r_l enters in
   that proportion (the best linear prediction, empirical Bayes); 4 is done again.

What remains in doubt, and neighbors too few to average, costs degrees of freedom.

Autoregressive noise from GLM residuals: expectation, scatter and inversion.

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

import heapq
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage
from scipy.linalg import toeplitz

from bids_sr.frozen import frozen
from bids_sr.glm.time_series import FLAT
from bids_sr.io.grids import Float, Mask, Real, parts_of
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.resampling import FWHM_PER_SIGMA

# largest partial autocorrelation: a process nearer to a random walk is not told from drift
_PARTIAL = 0.97
_ROUNDS = 12
_RENEW = 3  # rounds that share a Jacobian
_SHORTER = 0.3  # length of a step after one that leads away
_STRIDE = 0.2  # largest change of an autocorrelation in a round
_CLOSE = 1e-6
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

    The ratios are as `_seen` gives them.

    By Newton's steps, each from the nearest process so far; after a step that leads away the next
    is shorter. Where no stationary process shows the target, the one that comes nearest on the
    way: free steps would wander there, and end elsewhere for a target that differs by rounding.

    `products`: factors of the autocovariances, as of `expected_products` (p + 1, T).
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
    return autocorrelations(levinson(best)[0], order + 1)[:, 1:]


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
    own autocorrelation scatters about that of its group (`bids_sr.glm.noise`), log k
    scatters too. To first order log variance then has the variance

        2/dof + (d log k / d rho)' C (d log k / d rho)

    with C the covariance of the autocorrelations, and t has the degrees of freedom of the scaled
    chi-square with that spread (Satterthwaite 1946; the step that Kenward and Roger 1997 take for
    mixed models). In homogeneous noise C is 0; a voxel alone in its mask has the error of its own
    estimate. `uncertainty` is the variance of log k; estimates below 0 count as 0.
    """
    return 2 / (2 / dof + np.maximum(uncertainty, 0.0))


_Labels = npt.NDArray[np.intp]
_Blocks = Iterable[tuple[slice, Real]]
AT_ONCE = 256
"""Voxels whose time series stay in the cache, in double precision."""
ORDER = 6
FWHM_MM = 12.0
_ROWS_A_LAG = 6  # degrees of freedom that a lag needs
FULL_ORDER_DOF = ORDER * _ROWS_A_LAG
_WIDTH = 0.02
_MOST_GROUPS = 64
_FEW_VOXELS = 200  # no regression on brightness among fewer
_OUTLYING = 3.0
_UNSEEN = 0.02  # of the clearest direction: what residuals show less of, they show nothing of
_FITTED = 1e-9  # of a time series's norm; residuals below this are rounding


@frozen
class Noise:
    """Autocorrelation of N voxels in G groups.

    `rho`: (G, p) autocorrelations of the noise at lags 1 … p. `spread`: (G, p, p) covariance of
    the voxels' own autocorrelations about those of their group.
    """

    labels: _Labels
    rho: Float
    spread: Float

    @property
    def order(self) -> int:
        """Return lags p of the autoregressive process; 0 is white noise."""
        return self.rho.shape[1] if self.rho.any() else 0

    @classmethod
    def white(cls, n: int) -> "Noise":
        """No autocorrelation in n voxels, known exactly."""
        return cls(
            labels=np.zeros(n, dtype=np.intp), rho=np.zeros((1, 1)), spread=np.zeros((1, 1, 1))
        )


def noise_words(order: int = ORDER) -> str:
    """Describe the noise model in words, for sidecars and the methods text.

    `order` is the number of lags, 0 for white noise.

    >>> noise_words(2)
    'autoregressive of order 2, with autocorrelation smoothed by 12 mm FWHM within the brain mask'
    """
    if not order:
        return "white"
    return (
        f"autoregressive of order {order}, with autocorrelation smoothed by "
        f"{FWHM_MM:g} mm FWHM within the brain mask"
    )


def exceeds_rounding(volumes: int, power: Float, largest: Float) -> Mask:
    """Tell which time series vary, by the sums of squares of their changes and their maxima."""
    return np.sqrt(power / volumes) > FLAT * largest


def _lag_ratios(signals: Real, basis: Float, order: int) -> tuple[Float, Mask, Float]:
    """Return ratios (order, N) of lag products to residual power, which voxels have residuals, and
    the mean signal.

    The ratios are 0 where a voxel has none.

    For signals (T, N) and an orthonormal basis (T, P) of a design with a constant among its
    columns' combinations.

    `signals`: time series, one voxel a column (T, N). Ratios by lag from 1, voxels with residuals
    (N, boolean), and means (N,).
    """
    from bids_sr.spatial.spline_kernels import add_lag_products, center

    rest, about = np.empty(signals.shape), np.empty((3, signals.shape[1]))
    center(np.ascontiguousarray(signals), rest, about)
    mean, size, largest = about
    rest -= basis @ (basis.T @ rest)
    sums = np.zeros((order + 1, len(mean)))
    add_lag_products(rest, sums)
    power, later = sums[0], sums[1:]
    known = exceeds_rounding(len(signals), size, largest) & (power > _FITTED**2 * size)
    return np.divide(later, power, out=np.zeros_like(later), where=known), known, mean


def _voxel_lags(
    blocks: _Blocks, n_voxels: int, basis: Float, order: int, level: Float | None = None
) -> tuple[Float, Mask, Float]:
    """Return lag ratios, their validity and the mean signal of N voxels, block by block.

    The ratios of lag products to power are (order, N), their validity and the mean signal (N,).
    `level` replaces the mean signal where it is given.
    """
    ratios = np.zeros((order, n_voxels))
    known = np.zeros(n_voxels, dtype=bool)
    means = np.zeros(n_voxels)
    for voxels, block in blocks:
        for part in parts_of(block.shape[1], AT_ONCE):
            at = slice(voxels.start + part.start, voxels.start + part.stop)
            ratios[:, at], known[at], means[at] = _lag_ratios(block[:, part], basis, order)
    return ratios, known, means if level is None else level


class _Neighborhood:
    """Means over neighbors within a mask, weighted by a Gaussian; voxel sizes and FWHM are in mm.

    Means are given for all N voxels of the mask (X, Y, Z), over those that are `known` (N,). `own`
    (N,) is the weight of a voxel in its own mean, `squares` (N,) the sum of the squared weights in
    a mean (near the edge of the mask, an upper bound), both 0 to 1.
    """

    def __init__(self, known: Mask, mask: Mask, zooms: Sequence[float], fwhm_mm: float) -> None:
        # what lies outside the box of the mask is 0
        self.known, self._mask = known, mask[bounding_box(mask)]
        self._sigmas = [fwhm_mm / FWHM_PER_SIGMA / float(zoom) for zoom in zooms]
        self._total = self._sum(known.astype(np.float64))
        peak = square = 1.0
        for sigma in self._sigmas:
            impulse = np.zeros(2 * int(4 * sigma + 0.5) + 1)
            impulse[len(impulse) // 2] = 1.0
            kernel = ndimage.gaussian_filter1d(impulse, sigma, mode="constant")
            peak, square = peak * float(kernel.max()), square * float(kernel @ kernel)
        self.own = np.divide(peak, self._total, out=np.zeros_like(self._total), where=known)
        squares = np.divide(square, self._total**2, out=np.zeros_like(self._total), where=known)
        self.squares = np.minimum(squares, self.own)

    def _sum(self, values: Float) -> Float:
        volume = np.zeros(self._mask.shape)
        volume[self._mask] = values
        return ndimage.gaussian_filter(volume, self._sigmas, mode="constant")[self._mask]

    def __call__(self, values: Float) -> Float:
        """Means (K, N) of values (K, N); 0 where no voxel that counts is near."""
        out = np.zeros_like(values)
        for row, each in zip(out, values, strict=True):
            np.divide(
                self._sum(each * self.known), self._total, out=row, where=self._total > 1e-12
            )
        return out


def _pooled_ratios(ratios: Float, level: Float, neighbors: _Neighborhood) -> Float:
    """Return ratios (p, N) that a voxel's neighborhood and its brightness within it let expect.

    `ratios`: ratios of lag products to power, one voxel a column (p, N). Expected ratios, of the
    same shape.
    """
    pooled = neighbors(ratios)
    contrast = level - neighbors(level[None])[0]
    used = neighbors.known & np.isfinite(contrast)
    spread = float(contrast[used].std()) if used.any() else 0.0
    if used.sum() < _FEW_VOXELS or spread <= FLAT * float(np.abs(level[used]).max()):
        return pooled
    scaled = np.clip(np.where(used, contrast, 0.0) / spread, -_OUTLYING, _OUTLYING)
    features = np.stack([scaled, scaled**2])
    features -= neighbors(features)
    gram = features[:, used] @ features[:, used].T
    by_brightness = np.linalg.lstsq(
        gram, features[:, used] @ (ratios - pooled)[:, used].T, rcond=1e-10
    )[0]
    return pooled + by_brightness.T @ features


def _like_groups(values: Float, most: int = _MOST_GROUPS) -> tuple[_Labels, Float]:
    """Group similar columns: split the widest group until all are narrow or there are 64.

    A group is cut at the mean of its widest row.

    From values (p, N): (N,) labels and (G, p) means. A group whose standard deviations are below
    .01 is not cut.

    `values`: values to compare, one voxel a column (p, N).
    """
    waiting: list[tuple[float, int, int, _Labels]] = []
    done: list[_Labels] = []

    def put(rows: _Labels) -> None:
        spreads = values[:, rows].std(axis=1)
        widest = int(spreads.argmax())
        if spreads[widest] < _WIDTH / 2:
            done.append(rows)
        else:  # the number tells ties apart
            number = len(done) + len(waiting)
            heapq.heappush(
                waiting, (-float(spreads[widest] * np.sqrt(len(rows))), int(rows[0]), number, rows)
            )

    put(np.arange(values.shape[1]))
    while waiting and len(waiting) + len(done) < most:
        rows = heapq.heappop(waiting)[-1]
        row = values[int(values[:, rows].std(axis=1).argmax()), rows]
        low = row <= row.mean()
        put(rows[low])
        put(rows[~low])
    groups = sorted([*done, *(entry[-1] for entry in waiting)], key=lambda rows: int(rows[0]))
    labels = np.zeros(values.shape[1], dtype=np.intp)
    for group, rows in enumerate(groups):
        labels[rows] = group
    return labels, np.stack([values[:, rows].mean(axis=1) for rows in groups])


def estimate_noise(
    blocks: _Blocks,
    matrix: Float,
    mask: Mask,
    zooms: Sequence[float],
    *,
    level: Float | None = None,
    fwhm_mm: float = FWHM_MM,
    order: int = ORDER,
) -> Noise:
    """The noise of a run, from one pass over its time series.

    Memory: 8 bytes · 10 · voxels, some volumes, and one block. Fewer lags are used where there are
    fewer than six degrees of freedom a lag.

    `blocks`: (which voxels, time series (T, n)) of all voxels of the mask, in the order of
    `numpy.flatnonzero`. `mask, zooms`: (X, Y, Z); voxel size (mm). Autocorrelation by groups;
    white noise where no voxel has residuals.
    """
    basis = orthonormal(matrix)
    n = int(np.count_nonzero(mask))
    order = max(1, min(order, (basis.shape[0] - basis.shape[1]) // _ROWS_A_LAG))
    lags, known, level = _voxel_lags(blocks, n, basis, order, level)
    if not known.any():
        return Noise.white(n)
    neighbors = _Neighborhood(known, mask, zooms, fwhm_mm)
    products = expected_products(basis, order)
    ratios, bias, groups, doubts = _own_share(
        lags, _pooled_ratios(lags, level, neighbors), neighbors, basis, products
    )
    labels, means = _like_groups(ratios)
    within = np.array([bias[:, labels == group].mean(axis=1) for group in range(len(means))])
    rho = unseen(means - within, products)
    unmixing = np.linalg.pinv(slopes(rho, products), rcond=_UNSEEN)
    spread = np.empty((len(rho), order, order))
    for group in range(len(rho)):
        members = labels == group
        rest = ratios[:, members] - means[group][:, None]
        doubt = doubts[groups[members]].mean(axis=0) + rest @ rest.T / rest.shape[1]
        spread[group] = unmixing[group] @ doubt @ unmixing[group].T
    return Noise(labels=labels, rho=rho, spread=spread)


def _own_share(
    shown: Float, pooled: Float, neighbors: _Neighborhood, basis: Float, products: Float
) -> tuple[Float, Float, _Labels, Float]:
    """Move pooled ratios toward each voxel's own, as far as voxels differ by more than noise.

    Returns them (p, N), their bias (p, N), and by group (N,) covariances of their errors (G, p,
    p). The scatter of a group's voxels about their pooled ratios, less that of noise, is how much
    they differ (T). With S the scatter of noise, a voxel's ratios are best taken as pooled + T (T
    + S)^-1 (own - pooled).
    """
    labels, means = _like_groups(pooled)
    bias = np.zeros_like(pooled)
    ratios = pooled.copy()
    doubts = []
    for group, rho in enumerate(unseen(means, products)):
        mean_bias, scatter = sampling(rho, basis)
        every = labels == group
        bias[:, every] = mean_bias[:, None]
        members = np.flatnonzero(every & neighbors.known)
        if not len(members):
            doubts.append(np.zeros_like(scatter))
            continue
        rest = shown[:, members] - pooled[:, members]
        own, squares = (float(each[members].mean()) for each in (neighbors.own, neighbors.squares))
        # a voxel's own share in its mean hides that much of its scatter, twice; the mean adds a
        # scatter of its own
        error = rest @ rest.T / len(members) - (1 - 2 * own) * scatter
        differ = error - squares * scatter
        weight = _shrinkage(differ, scatter, len(members))
        ratios[:, members] += weight @ rest
        doubts.append(error - weight @ differ)
    return ratios, bias, labels, np.stack(doubts)


def _shrinkage(differ: Float, scatter: Float, count: int) -> Float:
    """Return the weight (p, p) of a voxel's own ratios, T (T + S)^-1.

    T is taken less what chance produces with `count` similar voxels.
    """
    root = np.linalg.cholesky(scatter + 1e-9 * np.trace(scatter) * np.eye(len(scatter)))
    inverse = np.linalg.inv(root)
    sizes, axes = np.linalg.eigh(inverse @ differ @ inverse.T)
    # largest eigenvalue of so many (Marchenko and Pastur 1967)
    chance = (1 + np.sqrt(len(scatter) / count)) ** 2 - 1
    shares = np.where(sizes > chance, sizes / (1 + np.maximum(sizes, 0)), 0.0)
    return root @ (axes * shares) @ axes.T @ inverse
