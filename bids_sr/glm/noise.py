"""Autocorrelation of the noise, pooled over neighboring voxels and voxels of the same brightness.

An autocorrelation that is estimated from one voxel with 60 volumes has an error of .2. With such
estimates, t passes p < .001 in twice as many voxels as nominal, whatever the number of lags
(`benchmarks/null_noise.py`). The noise model is therefore estimated in these steps:

1. The residuals of each voxel give the ratios r_l of lag products to power, l = 1 … 6.
2. Ratios are averaged over the neighborhood with a Gaussian in mm within the mask (as in FILM,
   Woolrich et al. 2001), so that all series of a run are treated alike on any grid.
3. Tissues differ, and are closer to each other than the width of the Gaussian. One regression
   over the run predicts r_l from the mean signal relative to the neighborhood; the prediction is
   added.
4. Models are computed at the nodes of a lattice in the plane of the two components with the
   largest variance of r_l (`_lattice`). The result of a voxel is the mean over the three
   surrounding nodes, weighted by proximity. The model of a node is the autoregressive process of
   order 6 whose residuals have the r_l of that node. Many voxels thus share a model, as the whole
   brain does in SPM's FAST (Corbin et al. 2018).
5. If voxels scatter more around these expectations than noise would, the r_l of each voxel is
   mixed in accordingly (best linear prediction, empirical Bayes), and step 4 is repeated.

Results are continuous functions of the data. If groups of similar voxels shared a model instead, a
rounding error could move a voxel to another group and change its t by several percent. Remaining
uncertainty, and neighborhoods with few voxels, reduce the degrees of freedom.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.glm.autoregression import (
    compute_expected_products,
    noise_autocorrelations,
    orthonormal,
    ratio_moments,
    slopes,
)
from bids_sr.glm.smoothing import smooth
from bids_sr.glm.time_series import FLAT
from bids_sr.io.arrays import Float, MaskArray, Real, iterate_parts
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.reproducible_numbers import fix_signs

_Labels = npt.NDArray[np.intp]
_ResidualBlocks = Iterable[tuple[slice, Real]]
AT_ONCE = 256
"""Number of voxels whose time series fit in the CPU cache in double precision."""
ORDER = 6
FWHM_MM = 12.0
_ROWS_A_LAG = 6  # degrees of freedom required per lag
FULL_ORDER_DOF = ORDER * _ROWS_A_LAG
_AXES = 2  # number of principal components of the lag ratios that the lattice resolves
_SPACING = 0.35  # distance of nodes near the mean, in SD of the first component
_NARROW = 0.06  # smallest SD of the first component that is used to place nodes
# largest distance of a node from the mean, in SD of the first component; voxels farther away use
# the outermost nodes
_FARTHEST = 8.0
# a node with this number of voxels is shrunk halfway toward the plane of the lattice
_TYPICAL = 40.0
_FEW_VOXELS = 200  # voxels required for the regression on brightness
_OUTLYING = 3.0
# smallest relative singular value of `slopes`; autocorrelations hardly change the residuals in
# directions with smaller values, which are ignored
_UNSEEN = 0.02
# residual relative to the norm of a time series; smaller residuals are rounding errors
_FITTED = 1e-9


@frozen
class NoiseModel:
    """Autocorrelation of N voxels, as mixtures of G models.

    The result of a voxel is the sum of share times result over the models of its cell.

    Attributes
    ----------
    labels : ndarray
        Cell of each voxel (N,).
    cells : ndarray
        Models of each cell (K, C).
    shares : ndarray
        Shares of these models in each voxel (N, C); they sum to 1.
    rho : ndarray
        Autocorrelations of the noise (G, p) at lags 1 … p.
    spread : ndarray
        Covariance (G, p, p) of the voxels' autocorrelations around their model.
    """

    labels: _Labels
    cells: _Labels
    shares: Float
    rho: Float
    spread: Float

    @property
    def order(self) -> int:
        """Number of lags p of the autoregressive process; 0 for white noise."""
        return self.rho.shape[1] if self.rho.any() else 0

    @classmethod
    def from_voxel_models(cls, labels: _Labels, rho: Float, spread: Float) -> "NoiseModel":
        """Return noise with a single model per voxel.

        `labels` are the models of the voxels (N,); `rho` and `spread` are as in the class.
        """
        return cls(
            labels=labels,
            cells=np.arange(len(rho), dtype=np.intp)[:, None],
            shares=np.ones((len(labels), 1)),
            rho=rho,
            spread=spread,
        )

    @classmethod
    def white(cls, n: int) -> "NoiseModel":
        """Return noise without autocorrelation in n voxels."""
        return cls.from_voxel_models(
            np.zeros(n, dtype=np.intp), np.zeros((1, 1)), np.zeros((1, 1, 1))
        )

    def mix(self, values: Float) -> Float:
        """Return the mixture (N, …) of model values (G, …) in each voxel."""
        corners = values[self.cells][self.labels]
        return np.einsum("nc,nc...->n...", self.shares, corners)


def noise_words(order: int = ORDER) -> str:
    """Describe the noise model in words, for sidecars and the methods text.

    `order` is the number of lags and is 0 for white noise.

    >>> noise_words(2)
    'autoregressive of order 2, with autocorrelation smoothed by 12 mm FWHM within the brain mask'
    """
    if not order:
        return "white"
    return (
        f"autoregressive of order {order}, with autocorrelation smoothed by "
        f"{FWHM_MM:g} mm FWHM within the brain mask"
    )


def exceeds_rounding(volumes: int, power: Float, largest: Float) -> MaskArray:
    """Return a mask of time series that vary by more than rounding errors.

    Parameters
    ----------
    volumes : int
        Number of volumes.
    power : ndarray
        Sum of squared deviations from the mean (N,).
    largest : ndarray
        Largest absolute value (N,).
    """
    return np.sqrt(power / volumes) > FLAT * largest


def _lag_ratios(signals: Real, basis: Float, order: int) -> tuple[Float, MaskArray, Float]:
    """Return ratios of lag products to residual power, and the mean signal, of voxels.

    Parameters
    ----------
    signals : ndarray
        Time series, one voxel per column (T, N).
    basis : ndarray
        Orthonormal basis (T, P) of a design whose columns span a constant.
    order : int
        Number of lags.

    Returns
    -------
    tuple[ndarray, ndarray, ndarray]
        Ratios by lag from 1 (order, N), 0 without residuals; voxels with residuals (N, boolean);
        and means (N,).
    """
    from bids_sr.spatial.lag_products import add_lag_products, center

    residual, moments = np.empty(signals.shape), np.empty((3, signals.shape[1]))
    center(np.ascontiguousarray(signals), residual, moments)
    mean, size, largest = moments
    residual -= basis @ (basis.T @ residual)
    sums = np.zeros((order + 1, len(mean)))
    add_lag_products(residual, sums)
    power, lag_products = sums[0], sums[1:]
    has_residual = exceeds_rounding(len(signals), size, largest) & (power > _FITTED**2 * size)
    return (
        np.divide(lag_products, power, out=np.zeros_like(lag_products), where=has_residual),
        has_residual,
        mean,
    )


def _voxel_lags(
    blocks: _ResidualBlocks, n_voxels: int, basis: Float, order: int, level: Float | None = None
) -> tuple[Float, MaskArray, Float]:
    """Return lag ratios, their validity and the mean signal of N voxels, block by block.

    The results are as in `_lag_ratios`, for all N voxels. `level`, if not None, replaces the mean
    signal.
    """
    ratios = np.zeros((order, n_voxels))
    has_residual = np.zeros(n_voxels, dtype=bool)
    means = np.zeros(n_voxels)
    for voxels, block in blocks:
        for part in iterate_parts(block.shape[1], AT_ONCE):
            columns = slice(voxels.start + part.start, voxels.start + part.stop)
            ratios[:, columns], has_residual[columns], means[columns] = _lag_ratios(
                block[:, part], basis, order
            )
    return ratios, has_residual, means if level is None else level


class _Neighborhood:
    """Weighted means over neighbors within a mask, with a Gaussian kernel.

    Voxel sizes and FWHM are in mm. Means are computed for all N voxels of the mask (X, Y, Z) over
    voxels that are `known` (N,), from sums in single precision. `own` (N,) is the weight of a
    voxel in its mean, and `squares` (N,) the sum of squared weights in a mean (an upper bound near
    the edge of the mask); both are between 0 and 1.
    """

    def __init__(
        self, known: MaskArray, mask: MaskArray, zooms: Sequence[float], fwhm_mm: float
    ) -> None:
        # Values outside the bounding box of the mask are 0.
        self.known, self._mask = known, mask[bounding_box(mask)]
        self._zooms, self._fwhm_mm = zooms, fwhm_mm
        self._total = self._sum(known.astype(np.float64))
        peak = square = 1.0
        for zoom in zooms:
            sigma = fwhm_mm / FWHM_PER_SIGMA / float(zoom)
            impulse = np.zeros(2 * int(4 * sigma + 0.5) + 1)
            impulse[len(impulse) // 2] = 1.0
            kernel = ndimage.gaussian_filter1d(impulse, sigma, mode="constant")
            peak, square = peak * float(kernel.max()), square * float(kernel @ kernel)
        self.own = np.divide(peak, self._total, out=np.zeros_like(self._total), where=known)
        squares = np.divide(square, self._total**2, out=np.zeros_like(self._total), where=known)
        self.squares = np.minimum(squares, self.own)

    def _sum(self, values: Float) -> Float:
        volume = np.zeros(self._mask.shape, dtype=np.float32)
        volume[self._mask] = values
        smoothed = smooth(volume, self._zooms, self._fwhm_mm, edge="constant")
        return smoothed[self._mask].astype(np.float64)

    def __call__(self, values: Float) -> Float:
        """Return means (K, N) of values (K, N); 0 without known voxels nearby."""
        out = np.zeros_like(values)
        for mean_row, row_values in zip(out, values, strict=True):
            np.divide(
                self._sum(row_values * self.known),
                self._total,
                out=mean_row,
                where=self._total > 1e-12,
            )
        return out


def _pool_ratios(ratios: Float, level: Float, neighbors: _Neighborhood) -> Float:
    """Return ratios (p, N) that are expected from the neighborhood and brightness of each voxel.

    `ratios` are the ratios of lag products to power, one voxel per column (p, N); `level` is the
    mean signal (N,).
    """
    pooled = neighbors(ratios)
    # Differences from the mean keep the precision of single-precision sums.
    centered = level - level[neighbors.known].mean()
    contrast = centered - neighbors(centered[None])[0]
    is_used = neighbors.known & np.isfinite(contrast)
    spread = float(contrast[is_used].std()) if is_used.any() else 0.0
    if is_used.sum() < _FEW_VOXELS or spread <= FLAT * float(np.abs(level[is_used]).max()):
        return pooled
    scaled = np.clip(np.where(is_used, contrast, 0.0) / spread, -_OUTLYING, _OUTLYING)
    features = np.stack([scaled, scaled**2])
    features -= neighbors(features)
    gram = features[:, is_used] @ features[:, is_used].T
    by_brightness = np.linalg.lstsq(
        gram, features[:, is_used] @ (ratios - pooled)[:, is_used].T, rcond=1e-10
    )[0]
    return pooled + by_brightness.T @ features


@frozen
class _Lattice:
    """Nodes in the space of ratios, and the shares of surrounding nodes in each of N voxels.

    Attributes
    ----------
    labels : ndarray
        Cell of each voxel (N,).
    cells : ndarray
        Nodes at the corners of each cell (K, C).
    nodes : ndarray
        Nodes around each voxel (C, N).
    shares : ndarray
        Shares of these nodes (C, N), which are not negative and sum to 1.
    places : ndarray
        Ratios at the nodes (G, p).
    """

    labels: _Labels
    cells: _Labels
    nodes: _Labels
    shares: Float
    places: Float

    def totals(self, values: Float) -> Float:
        """Return sums over voxels of share times value (K, N), by node (G, K)."""
        return self.products(np.ones((1, values.shape[1])), values)[:, 0]

    def mix(self, values: Float) -> Float:
        """Return the mixture (K, N) of node values (G, K) in each voxel."""
        return self.mix_products(values[:, :, None], np.ones((1, self.nodes.shape[1])))

    def products(self, first: Float, second: Float) -> Float:
        """Return sums over voxels of share times product, (G, K, L), for (K, N) and (L, N)."""
        from bids_sr.glm.lattice_loops import add_products

        sums = np.zeros((len(self.places), len(first), len(second)))
        rows, columns = np.ascontiguousarray(first), np.ascontiguousarray(second)
        add_products(self.nodes, self.shares, rows, columns, sums)
        return sums

    def mix_products(self, matrices: Float, vectors: Float) -> Float:
        """Return the mixture (K, N) of node matrices (G, K, L) times the vector of each voxel.

        `vectors` are the vectors of the voxels (L, N).
        """
        from bids_sr.glm.lattice_loops import add_mixed_products

        out = np.zeros((matrices.shape[1], vectors.shape[1]))
        add_mixed_products(
            self.nodes,
            self.shares,
            np.ascontiguousarray(matrices),
            np.ascontiguousarray(vectors),
            out,
        )
        return out

    def common(self, other_lattice: "_Lattice") -> Float:
        """Return sums over voxels of share times share, (G, H), for the nodes of two lattices."""
        shape = len(self.places), len(other_lattice.places)
        sums = np.zeros(shape[0] * shape[1])
        for nodes, shares in zip(self.nodes, self.shares, strict=True):
            pairs = np.ravel_multi_index(
                (np.broadcast_to(nodes, other_lattice.nodes.shape), other_lattice.nodes), shape
            )
            sums += np.bincount(
                pairs.ravel(), weights=(shares * other_lattice.shares).ravel(), minlength=len(sums)
            )
        return sums.reshape(shape)


def _lattice(ratios: Float) -> _Lattice:
    """Place nodes among ratios (p, N), and compute the shares of surrounding nodes.

    The lattice is in the plane of the two principal components with the largest variance. Nodes
    are dense near the mean, where most voxels are. Cells are triangles, and shares are barycentric
    coordinates, which are continuous across the sides of cells. Perpendicular to the plane, a node
    is at the mean of its voxels, shrunk toward the plane if there are few voxels.
    """
    order, count = ratios.shape
    mean = ratios.mean(axis=1)
    centered = ratios - mean[:, None]
    sizes, vectors = np.linalg.eigh(centered @ centered.T / count)
    axes = fix_signs(vectors[:, : -min(_AXES, order) - 1 : -1])
    scale = max(float(np.sqrt(max(sizes[-1], 0.0))), _NARROW)
    coordinates = axes.T @ centered / scale
    coordinates = np.arcsinh(np.clip(coordinates, -_FARTHEST, _FARTHEST)) / _SPACING
    first = np.floor(coordinates)
    fractions = coordinates - first
    # Sorting the coordinates divides a cube of the lattice into simplices.
    steps = np.argsort(-fractions, axis=0, kind="stable")
    descending = np.take_along_axis(fractions, steps, axis=0)
    bounds = np.vstack([np.ones(count), descending, np.zeros(count)])
    shares = -np.diff(bounds, axis=0)
    corners = [first.astype(np.intp)]
    for step in steps:
        corners.append(corners[-1] + (np.arange(len(axes.T))[:, None] == step))
    stacked = np.stack(corners)
    lowest = stacked.min(axis=(0, 2))
    extent = stacked.max(axis=(0, 2)) - lowest + 1
    codes = np.ravel_multi_index(tuple(np.moveaxis(stacked - lowest[:, None], 1, 0)), extent)
    # The first node of a cell and the axis of its first step, which determines the order of up to
    # two axes, identify the cell.
    kinds = codes[0] * len(steps) + steps[0]
    examples = np.zeros(kinds.max() + 1, dtype=np.intp)
    examples[kinds] = np.arange(count)
    occupied = np.flatnonzero(np.bincount(kinds))
    labels = np.searchsorted(occupied, np.arange(len(examples)))[kinds]
    node_codes, cells = np.unique(codes[:, examples[occupied]], return_inverse=True)
    cells = cells.reshape(len(codes), -1).T
    grid = np.stack(np.unravel_index(node_codes, extent)) + lowest[:, None]
    nodes = mean + scale * (axes @ np.sinh(_SPACING * grid)).T
    lattice = _Lattice(
        labels=labels,
        cells=cells,
        nodes=np.ascontiguousarray(cells.T[:, labels]),
        shares=shares,
        places=nodes,
    )
    deviation = ratios - lattice.mix(nodes)
    deviation -= axes @ (axes.T @ deviation)
    weights = lattice.totals(np.ones((1, count))) + _TYPICAL
    return replace(lattice, places=nodes + lattice.totals(deviation) / weights)


def estimate_noise(
    blocks: _ResidualBlocks,
    matrix: Float,
    mask: MaskArray,
    zooms: Sequence[float],
    *,
    level: Float | None = None,
    fwhm_mm: float = FWHM_MM,
    order: int = ORDER,
) -> NoiseModel:
    """Return the noise model of a run, from one pass over its time series.

    Memory: 8 bytes · 10 · voxels, some volumes, and one block. The number of lags is reduced if
    there are fewer than six degrees of freedom per lag.

    Parameters
    ----------
    blocks : Iterable[tuple[slice, ndarray]]
        Voxel range and time series (T, n) of all mask voxels, in the order of `numpy.flatnonzero`.
    matrix : ndarray
        Design (T, P).
    mask : ndarray
        Brain (X, Y, Z).
    zooms : Sequence[float]
        Voxel size (mm).
    level : ndarray | None
        Signal level (N,) that replaces the mean signal.
    fwhm_mm : float
        Width of the neighborhood (FWHM, mm).
    order : int
        Largest number of lags.

    Returns
    -------
    NoiseModel
        Autocorrelation; white noise if no voxel has residuals.
    """
    basis = orthonormal(matrix)
    n = int(np.count_nonzero(mask))
    order = max(1, min(order, (basis.shape[0] - basis.shape[1]) // _ROWS_A_LAG))
    lags, has_residual, level = _voxel_lags(blocks, n, basis, order, level)
    if not has_residual.any():
        return NoiseModel.white(n)
    neighbors = _Neighborhood(has_residual, mask, zooms, fwhm_mm)
    products = compute_expected_products(basis, order)
    ratios, bias, pools, error_covariances = _mix_own_ratios(
        lags, _pool_ratios(lags, level, neighbors), neighbors, basis, products
    )
    lattice = _lattice(ratios)
    weights = lattice.totals(np.ones((1, n)))
    weights[weights == 0] = 1  # avoids division by 0 at nodes that no voxel uses
    mean_bias = lattice.totals(bias) / weights
    rho = noise_autocorrelations(lattice.places - mean_bias, products)
    unmixing = np.linalg.pinv(slopes(rho, products), rcond=_UNSEEN)
    deviation = ratios - lattice.mix(lattice.places)
    covariance = np.tensordot(lattice.common(pools), error_covariances, axes=1) + lattice.products(
        deviation, deviation
    )
    covariance /= weights[:, :, None]
    return NoiseModel(
        labels=lattice.labels,
        cells=lattice.cells,
        shares=lattice.shares.T,
        rho=rho,
        spread=unmixing @ covariance @ unmixing.transpose(0, 2, 1),
    )


def _mix_own_ratios(
    voxel_ratios: Float, pooled: Float, neighbors: _Neighborhood, basis: Float, products: Float
) -> tuple[Float, Float, _Lattice, Float]:
    """Mix each voxel's own ratios into the pooled ratios, as far as voxels differ beyond noise.

    The scatter of similar voxels around their pooled ratios, minus the scatter S of noise,
    measures how much they differ (T). The best linear estimate of a voxel's ratios is pooled + T
    (T + S)^-1 (own - pooled).

    Returns
    -------
    tuple[ndarray, ndarray, _Lattice, ndarray]
        Ratios (p, N), their bias (p, N), the lattice of the pooled ratios, and covariances of the
        errors at its nodes (G, p, p).
    """
    lattice = _lattice(pooled)
    has_residual = neighbors.known.astype(np.float64)
    deviation = (voxel_ratios - pooled) * has_residual
    counts, own_weights, squares = lattice.totals(
        has_residual * np.stack([np.ones_like(has_residual), neighbors.own, neighbors.squares])
    ).T
    # Only voxels with residuals count; a node without such voxels keeps the pooled ratios.
    divisors = np.where(counts > 0, counts, 1.0)
    own_weights, squares = own_weights / divisors, squares / divisors
    scatter_at_nodes = lattice.products(deviation, deviation) / divisors[:, None, None]
    bias = np.zeros((len(counts), len(pooled)))
    weights, error_covariances = np.zeros_like(scatter_at_nodes), np.zeros_like(scatter_at_nodes)
    for node, rho in enumerate(noise_autocorrelations(lattice.places, products)):
        bias[node], scatter = ratio_moments(rho, basis)
        if counts[node] == 0:
            continue
        # The scatter around a mean is reduced by twice the weight of the voxel in the mean, and
        # increased by the scatter of the mean.
        error = scatter_at_nodes[node] - (1 - 2 * own_weights[node]) * scatter
        excess = error - squares[node] * scatter
        weights[node] = _shrinkage(excess, scatter, float(counts[node]))
        error_covariances[node] = error - weights[node] @ excess
    ratios = pooled + lattice.mix_products(weights, deviation)
    return ratios, lattice.mix(bias), lattice, error_covariances


def _shrinkage(excess: Float, scatter: Float, count: float) -> Float:
    """Return the weight (p, p) of a voxel's own ratios, T (T + S)^-1.

    The scatter T is compared with the scatter that chance produces in `count` similar voxels.
    Directions whose scatter is below this limit have no weight, and directions above twice the
    limit have full weight.
    """
    root = np.linalg.cholesky(scatter + 1e-9 * np.trace(scatter) * np.eye(len(scatter)))
    inverse = np.linalg.inv(root)
    eigenvalues, axes = np.linalg.eigh(inverse @ excess @ inverse.T)
    # largest eigenvalue that is expected by chance (Marchenko and Pastur 1967)
    chance = (1 + np.sqrt(len(scatter) / count)) ** 2 - 1
    confidence = np.clip(eigenvalues / chance - 1, 0, 1)
    shares = confidence * eigenvalues / (1 + np.maximum(eigenvalues, 0))
    return root @ (axes * shares) @ axes.T @ inverse
