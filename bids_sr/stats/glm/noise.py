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
   `bids_sr.stats.glm.autoregression`.
5. Where voxels scatter about these expectations more than noise would, a voxel's own r_l enters in
   that proportion (the best linear prediction, empirical Bayes); 4 is done again.

What remains in doubt, and neighbors too few to average, costs degrees of freedom.
"""

import heapq
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float, Mask, Real, parts_of
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.stats.glm.autoregression import (
    expected_products,
    orthonormal,
    sampling,
    slopes,
    unseen,
)
from bids_sr.stats.glm.time_series import FLAT

_Labels = npt.NDArray[np.intp]
_Blocks = Iterable[tuple[slice, Real]]
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
    smoothed = f"with autocorrelation smoothed by {FWHM_MM:g} mm FWHM within the brain mask"
    return f"autoregressive of order {order}, {smoothed}" if order else "white"


def moving(signals: Real, power: Float) -> Mask:
    """Tell which of the time series (T, N) vary by more than rounding error.

    `signals`: time series, one voxel a column (T, N). Voxels that vary (N, boolean).
    """
    largest = np.maximum(signals.max(axis=0, initial=0), -signals.min(axis=0, initial=0))
    return np.sqrt(power / len(signals)) > FLAT * largest.astype(np.float64)


def _lag_ratios(signals: Real, basis: Float, order: int) -> tuple[Float, Mask, Float]:
    """Return ratios (order, N) of lag products to residual power, which voxels have residuals, and
    the mean signal.

    The ratios are 0 where a voxel has none.

    For signals (T, N) and an orthonormal basis (T, P) of a design with a constant among its
    columns' combinations.

    `signals`: time series, one voxel a column (T, N). Ratios by lag from 1, voxels with residuals
    (N, boolean), and means (N,).
    """
    from bids_sr.stats.lag_products import add_lag_products

    rest = signals.astype(np.float64, order="C")
    mean = rest.mean(axis=0)
    rest -= mean
    size = np.einsum("tn,tn->n", rest, rest)
    rest -= basis @ (basis.T @ rest)
    sums = np.zeros((order + 1, len(mean)))
    add_lag_products(rest, sums)
    power, later = sums[0], sums[1:]
    known = moving(signals, size) & (power > _FITTED**2 * size)
    return np.divide(later, power, out=np.zeros_like(later), where=known), known, mean


def _voxel_lags(
    blocks: _Blocks, n_voxels: int, basis: Float, order: int, level: Float | None = None
) -> tuple[Float, Mask, Float]:
    """Return lag ratios, their validity and the mean signal of N voxels, block by block.

    The ratios of lag products to power are (order, N), their validity and the mean signal (N,).
    `level` replaces the mean signal where it is given.
    """
    ratios, known, means = (
        np.zeros((order, n_voxels)),
        np.zeros(n_voxels, dtype=bool),
        np.zeros(n_voxels),
    )
    for voxels, block in blocks:
        for part in parts_of(block.shape[1]):
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
        self.known, self._mask = known, mask
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
    basis, n = orthonormal(matrix), int(np.count_nonzero(mask))
    order = max(1, min(order, (basis.shape[0] - basis.shape[1]) // _ROWS_A_LAG))
    own, known, level = _voxel_lags(blocks, n, basis, order, level)
    if not known.any():
        return Noise.white(n)
    neighbors = _Neighborhood(known, mask, zooms, fwhm_mm)
    products = expected_products(basis, order)
    ratios, bias, groups, doubts = _own_share(
        own, _pooled_ratios(own, level, neighbors), neighbors, basis, products
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
    bias, ratios, doubts = np.zeros_like(pooled), pooled.copy(), []
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
