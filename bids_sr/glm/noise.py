"""Autocorrelation of the noise, pooled over neighboring voxels and voxels of the same brightness.

A coefficient from one voxel of 60 volumes errs by .2, and t then passes p < .001 in twice as many
voxels as it should, however long the model is (`benchmarks/null_noise.py`). So

1. Each voxel's residuals give the ratios r_l of lag products to power, l = 1 … 6.
2. These are averaged over the neighborhood, by a Gaussian in mm that knows nothing outside the
   mask (as FILM smooths them, Woolrich et al. 2001), so that all series of a run are treated
   alike, on whatever grid.
3. Tissues differ and lie closer to each other than that width. One regression over the run gives
   how r_l depends on the mean signal relative to the neighborhood, and is added.
4. Models are made at the nodes of a lattice in the plane of the two components with the largest
   variance of r_l (`_lattice`). A voxel takes its results from the three nodes around it, in
   proportion to how near they are. The model of a node is the autoregressive process of order 6
   whose residuals show the r_l of that node. Many voxels thus share a model, as SPM's FAST shares
   one over the brain (Corbin et al. 2018).
5. Where voxels scatter about these expectations more than noise would, a voxel's own r_l enters in
   that proportion (the best linear prediction, empirical Bayes); 4 is done again.

Results are continuous in the data. If groups of similar voxels shared a model, a rounding error
could move a voxel to another group, and change its t by several percent.

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

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage
from scipy.linalg import toeplitz

from bids_sr.frozen import frozen
from bids_sr.glm.time_series import FLAT
from bids_sr.io.grids import Float, Mask, Real, parts_of
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.resampling import FWHM_PER_SIGMA
from bids_sr.spatial.same_results import with_sign

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


_Labels = npt.NDArray[np.intp]
_Blocks = Iterable[tuple[slice, Real]]
AT_ONCE = 256
"""Voxels whose time series stay in the cache, in double precision."""
ORDER = 6
FWHM_MM = 12.0
_ROWS_A_LAG = 6  # degrees of freedom that a lag needs
FULL_ORDER_DOF = ORDER * _ROWS_A_LAG
_AXES = 2  # components of the ratios that the lattice resolves
_SPACING = 0.35  # between nodes near the mean, in standard deviations of the first component
_NARROW = 0.06  # standard deviation below which nodes come no closer
_FARTHEST = 8.0  # standard deviations from the mean; voxels beyond have the model of that distance
_TYPICAL = 40.0  # voxels at a node that weigh as much as the plane does
_FEW_VOXELS = 200  # no regression on brightness among fewer
_OUTLYING = 3.0
_UNSEEN = 0.02  # of the clearest direction: what residuals show less of, they show nothing of
_FITTED = 1e-9  # of a time series's norm; residuals below this are rounding


@frozen
class Noise:
    """Autocorrelation of N voxels, as mixtures of G models.

    A result of a voxel is the sum over the models of its cell of share times result.

    `labels`: (N,) cells of the voxels. `cells`: (K, C) models of each cell. `shares`: (N, C)
    shares of these models, which sum to 1. `rho`: (G, p) autocorrelations of the noise at lags 1 …
    p. `spread`: (G, p, p) covariance of the voxels' own autocorrelations about those of their
    model.
    """

    labels: _Labels
    cells: _Labels
    shares: Float
    rho: Float
    spread: Float

    @property
    def order(self) -> int:
        """Return lags p of the autoregressive process; 0 is white noise."""
        return self.rho.shape[1] if self.rho.any() else 0

    @classmethod
    def shared(cls, labels: _Labels, rho: Float, spread: Float) -> "Noise":
        """Return one model per voxel.

        `labels`: (N,) models of the voxels. `rho`, `spread`: as above.
        """
        return cls(
            labels=labels,
            cells=np.arange(len(rho), dtype=np.intp)[:, None],
            shares=np.ones((len(labels), 1)),
            rho=rho,
            spread=spread,
        )

    @classmethod
    def white(cls, n: int) -> "Noise":
        """No autocorrelation in n voxels, known exactly."""
        return cls.shared(np.zeros(n, dtype=np.intp), np.zeros((1, 1)), np.zeros((1, 1, 1)))

    def mixed(self, values: Float) -> Float:
        """Return the values (N, …) of voxels from values (G, …) of models."""
        corners = values[self.cells][self.labels]
        return np.einsum("nc,nc...->n...", self.shares, corners)


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


@frozen
class _Lattice:
    """Nodes in the space of ratios, and shares of N voxels in the nodes around them.

    `labels`: (N,) cells of the voxels. `cells`: (K, C) nodes at the corners of each cell. `nodes`:
    (C, N) nodes around the voxels. `shares`: (C, N), ≥ 0, which sum to 1. `places`: (G, p) ratios
    at the nodes.
    """

    labels: _Labels
    cells: _Labels
    nodes: _Labels
    shares: Float
    places: Float

    def totals(self, values: Float | float = 1.0) -> Float:
        """Return sums over voxels of share times value (N,), by node (G,)."""
        count, weighted = len(self.places), self.shares * values
        sums = np.bincount(self.nodes.ravel(), weights=weighted.ravel(), minlength=count)
        return np.asarray(sums, dtype=np.float64)

    def mixed(self, values: Float) -> Float:
        """Return values (N,) of the voxels from values (G,) of the nodes."""
        return np.einsum("cn,cn->n", self.shares, values[self.nodes])

    def products(self, one: Float, other: Float) -> Float:
        """Return sums over voxels of share times product, (G, K, L), of (K, N) and (L, N)."""
        out = np.empty((len(self.places), len(one), len(other)))
        for row, column in np.ndindex(*out.shape[1:]):
            out[:, row, column] = self.totals(one[row] * other[column])
        return out

    def common(self, other: "_Lattice") -> Float:
        """Return sums over voxels of share times share, (G, H), of the nodes of two lattices."""
        shape = len(self.places), len(other.places)
        out = np.zeros(shape[0] * shape[1])
        for nodes, shares in zip(self.nodes, self.shares, strict=True):
            pairs = np.ravel_multi_index(
                (np.broadcast_to(nodes, other.nodes.shape), other.nodes), shape
            )
            out += np.bincount(
                pairs.ravel(), weights=(shares * other.shares).ravel(), minlength=len(out)
            )
        return out.reshape(shape)


def _lattice(ratios: Float) -> _Lattice:
    """Place nodes among ratios (p, N), and find the shares of each voxel in the nodes around it.

    The lattice lies in the plane of the two principal components with the largest variance. Nodes
    are dense near the mean, where most voxels are. A cell is a triangle, and shares are
    barycentric coordinates in it, which are continuous across its sides. Off the plane a node is
    at the mean of its voxels, shrunk toward the plane if these are few.
    """
    order, count = ratios.shape
    mean = ratios.mean(axis=1)
    centered = ratios - mean[:, None]
    sizes, vectors = np.linalg.eigh(centered @ centered.T / count)
    axes = with_sign(vectors[:, : -min(_AXES, order) - 1 : -1])
    scale = max(float(np.sqrt(max(sizes[-1], 0.0))), _NARROW)
    places = axes.T @ centered / scale
    places = np.arcsinh(np.clip(places, -_FARTHEST, _FARTHEST)) / _SPACING
    first = np.floor(places)
    within = places - first
    # a cube is cut into simplices by the order of its coordinates
    steps = np.argsort(-within, axis=0, kind="stable")
    descending = np.take_along_axis(within, steps, axis=0)
    bounds = np.vstack([np.ones(count), descending, np.zeros(count)])
    shares = -np.diff(bounds, axis=0)
    corners = [first.astype(np.intp)]
    for step in steps:
        corners.append(corners[-1] + (np.arange(len(axes.T))[:, None] == step))
    stacked = np.stack(corners)
    least = stacked.min(axis=(0, 2))
    extent = stacked.max(axis=(0, 2)) - least + 1
    codes = np.ravel_multi_index(tuple(np.moveaxis(stacked - least[:, None], 1, 0)), extent)
    # corners of a cell: its first node and the order of its coordinates
    kinds = np.ravel_multi_index((codes[0], codes[min(1, len(axes.T))]), (extent.prod(),) * 2)
    _, examples, labels = np.unique(kinds, return_index=True, return_inverse=True)
    used, cells = np.unique(codes[:, examples], return_inverse=True)
    cells = cells.reshape(len(codes), -1).T
    grid = np.stack(np.unravel_index(used, extent)) + least[:, None]
    nodes = mean + scale * (axes @ np.sinh(_SPACING * grid)).T
    found = _Lattice(
        labels=labels, cells=cells, nodes=cells[labels].T, shares=shares, places=nodes
    )
    off = ratios - np.stack([found.mixed(column) for column in nodes.T])
    off -= axes @ (axes.T @ off)
    weights = found.totals() + _TYPICAL
    return replace(
        found, places=nodes + np.stack([found.totals(row) / weights for row in off], axis=1)
    )


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
    `numpy.flatnonzero`. `mask, zooms`: (X, Y, Z); voxel size (mm). Autocorrelation by models;
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
    ratios, bias, pools, doubts = _own_share(
        lags, _pooled_ratios(lags, level, neighbors), neighbors, basis, products
    )
    lattice = _lattice(ratios)
    weights = lattice.totals()
    weights[weights == 0] = 1  # corners that have no share in any voxel
    within = np.stack([lattice.totals(row) / weights for row in bias], axis=1)
    rho = unseen(lattice.places - within, products)
    unmixing = np.linalg.pinv(slopes(rho, products), rcond=_UNSEEN)
    rest = ratios - np.stack([lattice.mixed(column) for column in lattice.places.T])
    doubt = np.tensordot(lattice.common(pools), doubts, axes=1) + lattice.products(rest, rest)
    doubt /= weights[:, None, None]
    return Noise(
        labels=lattice.labels,
        cells=lattice.cells,
        shares=lattice.shares.T,
        rho=rho,
        spread=unmixing @ doubt @ unmixing.transpose(0, 2, 1),
    )


def _own_share(
    shown: Float, pooled: Float, neighbors: _Neighborhood, basis: Float, products: Float
) -> tuple[Float, Float, _Lattice, Float]:
    """Move pooled ratios toward each voxel's own, as far as voxels differ by more than noise.

    Returns them (p, N), their bias (p, N), a lattice of the pooled ratios, and covariances of
    their errors at its nodes (G, p, p). The scatter of similar voxels about their pooled ratios,
    less that of noise, is how much they differ (T). With S the scatter of noise, a voxel's ratios
    are best taken as pooled + T (T + S)^-1 (own - pooled).
    """
    lattice = _lattice(pooled)
    known = neighbors.known.astype(np.float64)
    rest = (shown - pooled) * known
    counts = lattice.totals(known)
    # voxels count where they have residuals; without any a node keeps what is pooled
    at_least = np.where(counts > 0, counts, 1.0)
    own, squares = (
        lattice.totals(known * values) / at_least for values in (neighbors.own, neighbors.squares)
    )
    found = lattice.products(rest, rest) / at_least[:, None, None]
    bias = np.zeros((len(counts), len(pooled)))
    weights, doubts = np.zeros_like(found), np.zeros_like(found)
    for node, rho in enumerate(unseen(lattice.places, products)):
        bias[node], scatter = sampling(rho, basis)
        if counts[node] == 0:
            continue
        # a voxel's own share in its mean hides that much of its scatter, twice; the mean adds a
        # scatter of its own
        error = found[node] - (1 - 2 * own[node]) * scatter
        differ = error - squares[node] * scatter
        weights[node] = _shrinkage(differ, scatter, float(counts[node]))
        doubts[node] = error - weights[node] @ differ
    ratios = pooled.copy()
    for row, column in np.ndindex(*weights.shape[1:]):
        ratios[row] += lattice.mixed(weights[:, row, column]) * rest[column]
    return ratios, np.stack([lattice.mixed(column) for column in bias.T]), lattice, doubts


def _shrinkage(differ: Float, scatter: Float, count: float) -> Float:
    """Return the weight (p, p) of a voxel's own ratios, T (T + S)^-1.

    T is taken less what chance produces with `count` similar voxels: a direction counts from there
    on, and in full from twice as much.
    """
    root = np.linalg.cholesky(scatter + 1e-9 * np.trace(scatter) * np.eye(len(scatter)))
    inverse = np.linalg.inv(root)
    sizes, axes = np.linalg.eigh(inverse @ differ @ inverse.T)
    # largest eigenvalue of so many (Marchenko and Pastur 1967)
    chance = (1 + np.sqrt(len(scatter) / count)) ** 2 - 1
    clear = np.clip(sizes / chance - 1, 0, 1)
    shares = clear * sizes / (1 + np.maximum(sizes, 0))
    return root @ (axes * shares) @ axes.T @ inverse
