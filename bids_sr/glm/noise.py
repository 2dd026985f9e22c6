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
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.glm.autoregression import expected_products, orthonormal, sampling, slopes, unseen
from bids_sr.glm.time_series import FLAT
from bids_sr.io.arrays import Float, Mask, Real, parts_of
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.same_results import with_sign

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
    from bids_sr.spatial.lag_products import add_lag_products, center

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
