"""Autocorrelation of the noise, pooled over neighboring voxels and voxels of the same brightness.

An autocorrelation that is estimated from one voxel with 60 volumes has an error of .2. With such
estimates, t passes p < .001 in many times as many voxels as nominal, and in more voxels if there
are more lags (`benchmarks/FINDINGS.md`). The noise model is therefore estimated in
these steps:

1. The residuals of each voxel give the ratios r_l of lag products to power. A ratio is a mean over
   one of six bands of lags, l = 1 … 6, which reach 12 s (`bids_sr.glm.lag_bands`). At TR 2 s and
   above, bands are single lags.
2. Ratios are averaged over the neighborhood with a Gaussian in mm within the mask (as in FILM,
   Woolrich et al. 2001, https://doi.org/10.1006/nimg.2001.0931), so that all series of a run are
   treated alike on any grid.
3. Tissues differ, and are closer to each other than the width of the Gaussian. One regression
   over the run predicts r_l from the mean signal relative to the neighborhood; the prediction is
   added.
4. Models are computed at the nodes of a lattice in the plane of the two components with the
   largest variance of r_l (`_build_lattice`). The result of a voxel is the mean over the three
   surrounding nodes, weighted by proximity. The model of a node is the autoregressive process
   (`bids_sr.glm.band_processes`) whose residuals have the r_l of that node. Many voxels thus
   share a model, as the whole brain does in SPM's FAST (Corbin et al. 2018,
   https://doi.org/10.1002/hbm.24218).
5. If voxels scatter more around these expectations than noise would, the r_l of each voxel is
   mixed in accordingly (best linear prediction, empirical Bayes), and step 4 is repeated.

Results are continuous functions of the data. If groups of similar voxels shared a model instead, a
rounding error could move a voxel to another group and change its t by several percent. Remaining
uncertainty, and neighborhoods with few voxels, reduce the degrees of freedom.

At TR .1 to 3 s, in white noise with fluctuations of 2 to 10 s, variances are .97 to 1.02 of their
true value, and .8 to 1.2 per mille of voxels pass p < .001 (`benchmarks/results/null_noise.md`).
In simulated AR(1) and white noise of 136 volumes, nilearn's AR(1) model estimates .56 of the true
variance, and 12 per mille of voxels pass p < .001, instead of 1.0 and 1.0 per mille here; on the
example its variances are .85 of these.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_sr.glm.autoregression import (
    compute_expected_products,
    noise_autocorrelations,
    orthonormal,
    ratio_derivatives,
    ratio_moments,
)
from bids_sr.glm.lag_bands import MEMORY_S, LagBands, choose_bands, single_lags
from bids_sr.glm.time_series import MIN_RELATIVE_CHANGE
from bids_sr.io.arrays import Float, MaskArray, Real, iterate_parts
from bids_sr.io.frozen import frozen
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.reproducible_numbers import fix_signs
from bids_sr.spatial.smoothing import smooth

_Labels = npt.NDArray[np.intp]
_SignalBlocks = Iterable[tuple[slice, Real]]  # range of voxels, and their time series (T, n)
VOXELS_PER_BATCH = 256
"""Number of voxels whose time series fit in the CPU cache in double precision."""
FWHM_MM = 12.0
_N_COMPONENTS = 2  # number of principal components of the lag ratios that the lattice resolves
_NODE_SPACING = 0.35  # distance of nodes near the mean, in SD of the first component
_MIN_SD = 0.06  # smallest SD of the first component that is used to place nodes
# largest distance of a node from the mean, in SD of the first component; voxels farther away use
# the outermost nodes
_MAX_DISTANCE = 8.0
# a node with this number of voxels is shrunk halfway toward the plane of the lattice
_HALF_SHRINKAGE_VOXELS = 40.0
_MIN_REGRESSION_VOXELS = 200  # voxels required for the regression on brightness
_MAX_CONTRAST = 3.0  # largest brightness relative to the neighborhood, in SD
_SIZE_RANGE = np.log(2)  # SD of the Gaussian of log size over which noise of regions is pooled
# smallest relative singular value of `ratio_derivatives`; autocorrelations hardly change the
# residuals in directions with smaller values, which are ignored
_MIN_SINGULAR_VALUE = 0.02
# residual relative to the norm of a time series; smaller residuals are rounding errors
_MIN_RESIDUAL = 1e-9


@frozen
class NoiseModel:
    """Autocorrelation of N voxels, as mixtures of G models.

    The result of a voxel is the sum of share times result over the models of its cell. `labels` is
    the cell of each voxel (N,), `cells` are the models of each cell (K, C), and `shares` the
    shares of these models in each voxel (N, C), which sum to 1. `rho` are the autocorrelations of
    the noise, averaged over the lags of each of q bands (G, q), and `spread` is the covariance of
    the voxels' autocorrelations around their model (G, q, q).
    """

    labels: _Labels
    cells: _Labels
    shares: Float
    bands: LagBands
    rho: Float
    spread: Float

    @property
    def n_lags(self) -> int:
        """Number of lags of the autoregressive process; 0 for white noise."""
        return self.bands.n_lags if self.rho.any() else 0

    @classmethod
    def from_voxel_models(
        cls, labels: _Labels, rho: Float, spread: Float, bands: LagBands | None = None
    ) -> "NoiseModel":
        """Return noise with a single model per voxel.

        `labels` are the models of the voxels (N,); `rho`, `spread` and `bands` are as in the
        class. If `bands` is None, each band is a single lag.
        """
        return cls(
            bands=bands or single_lags(rho.shape[1]),
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


def noise_words(memory_s: float = MEMORY_S) -> str:
    """Describe the noise model in words, for sidecars and the methods text.

    `memory_s` is the longest lag (s) and is 0 for white noise.

    >>> noise_words(12.0)
    'autoregressive with a memory of 12 s and autocorrelation smoothed by 12 mm FWHM in the brain'
    """
    if not memory_s:
        return "white"
    return (
        f"autoregressive with a memory of {memory_s:.3g} s and autocorrelation smoothed by "
        f"{FWHM_MM:g} mm FWHM in the brain"
    )


class _Neighborhood:
    """Weighted means over neighbors within a mask, with a Gaussian kernel.

    Voxel sizes and FWHM are in mm. Means are computed for all N voxels of the mask (X, Y, Z) over
    voxels that are `known` (N,), from sums in single precision. `own_weights` (N,) are the weights
    of voxels in their mean, and `square_sums` (N,) the sums of squared weights in a mean (an upper
    bound near the edge of the mask); both are between 0 and 1.
    """

    def __init__(
        self, known: MaskArray, mask: MaskArray, zooms: Sequence[float], fwhm_mm: float
    ) -> None:
        # Values outside the bounding box of the mask are 0.
        self.known, self._mask = known, mask[bounding_box(mask)]
        self._zooms, self._fwhm_mm = zooms, fwhm_mm
        self._total = self._sum(known.astype(np.float64))
        # largest weight and sum of squared weights of the three-dimensional kernel
        peak = square_sum = 1.0
        for zoom in zooms:
            sigma = fwhm_mm / FWHM_PER_SIGMA / float(zoom)  # voxels
            impulse = np.zeros(2 * int(4 * sigma + 0.5) + 1)
            impulse[len(impulse) // 2] = 1.0
            kernel = ndimage.gaussian_filter1d(impulse, sigma, mode="constant")
            peak *= float(kernel.max())
            square_sum *= float(kernel @ kernel)
        zeros = np.zeros_like(self._total)
        self.own_weights = np.divide(peak, self._total, out=zeros.copy(), where=known)
        square_sums = np.divide(square_sum, self._total**2, out=zeros, where=known)
        self.square_sums = np.minimum(square_sums, self.own_weights)

    def average(self, values: Float) -> Float:
        """Return means (K, N) of values (K, N); 0 without known voxels nearby."""
        means = np.zeros_like(values)
        has_neighbors = self._total > 1e-12  # sums of weights, except for rounding errors
        for mean, voxel_values in zip(means, values, strict=True):
            sums = self._sum(voxel_values * self.known)
            np.divide(sums, self._total, out=mean, where=has_neighbors)
        return means

    def _sum(self, values: Float) -> Float:
        """Return sums over neighbors, weighted by the kernel, of values (N,) in the mask."""
        volume = np.zeros(self._mask.shape, dtype=np.float32)
        volume[self._mask] = values
        smoothed = smooth(volume, self._zooms, self._fwhm_mm, edge="constant")
        return smoothed[self._mask].astype(np.float64)


def estimate_noise(
    blocks: _SignalBlocks,
    matrix: Float,
    mask: MaskArray,
    zooms: Sequence[float],
    tr: float,
) -> NoiseModel:
    """Return the noise model of a run, from one pass over its time series.

    Memory: 8 bytes · 10 · voxels, some volumes, and one block.

    `blocks` are voxel ranges and time series (T, n) of all mask voxels, in the order of
    `numpy.flatnonzero`. `matrix` is the design (T, P), `mask` the brain (X, Y, Z), `zooms` the
    voxel size (mm), and `tr` the repetition time (s). The noise model is white if no voxel has
    residuals.
    """
    basis = orthonormal(matrix)
    n_voxels = int(np.count_nonzero(mask))
    bands = choose_bands(tr, basis.shape[0] - basis.shape[1])
    voxels = _collect_lag_ratios(blocks, n_voxels, basis, bands)
    if not voxels.has_residual.any():
        return NoiseModel.white(n_voxels)
    neighbors = _Neighborhood(voxels.has_residual, mask, zooms, FWHM_MM)
    products = compute_expected_products(basis, bands)
    pooled = _pool_ratios(voxels.ratios, voxels.means, neighbors)
    mixed = _mix_voxel_ratios(voxels.ratios, pooled, neighbors, basis, products, bands)
    lattice = _build_lattice(mixed.ratios)
    weights = lattice.sum_by_node(np.ones((1, n_voxels)))
    weights[weights == 0] = 1  # avoids division by 0 at nodes that no voxel uses
    mean_bias = lattice.sum_by_node(mixed.bias) / weights
    rho = noise_autocorrelations(lattice.node_ratios - mean_bias, products, bands)
    unmixing = np.linalg.pinv(ratio_derivatives(rho, products, bands), rcond=_MIN_SINGULAR_VALUE)
    deviation = mixed.ratios - lattice.mix(lattice.node_ratios)
    node_weights = lattice.sum_shared(mixed.pooled_lattice)
    covariance = np.tensordot(node_weights, mixed.error_covariances, axes=1)
    covariance = covariance + lattice.sum_products(deviation, deviation)
    covariance /= weights[:, :, None]
    return NoiseModel(
        labels=lattice.labels,
        cells=lattice.cells,
        shares=lattice.shares.T,
        bands=bands,
        rho=rho,
        spread=unmixing @ covariance @ unmixing.transpose(0, 2, 1),
    )


def estimate_mean_noise(
    series: Real, matrix: Float, tr: float, sizes: Sequence[float] | None = None
) -> NoiseModel:
    """Return the noise model of mean time series of regions, one model per series.

    The lag ratios of a series (T, N) are mixed with the mean over regions of like size, with a
    Gaussian weight of the difference of log size, as the ratios of voxels are mixed with their
    neighborhood. A single series determines its slow lags badly: the misfit of a large response
    makes them so uncertain that hardly any degrees of freedom are left. `sizes` are numbers of
    voxels (N,); if None, each model depends only on its series. `matrix` is the design (T, P), and
    `tr` the repetition time (s).
    """
    basis = orthonormal(matrix)
    n_series = series.shape[1]
    bands = choose_bands(tr, basis.shape[0] - basis.shape[1])
    lag_ratios = _collect_lag_ratios([(slice(0, n_series), series)], n_series, basis, bands)
    used = lag_ratios.has_residual
    if not used.any():
        return NoiseModel.white(n_series)
    products = compute_expected_products(basis, bands)
    ratios = lag_ratios.ratios[:, used].T
    weights = np.eye(len(ratios))
    if sizes is not None:
        log_sizes = np.log(np.asarray(sizes, dtype=np.float64)[used])
        distances = np.subtract.outer(log_sizes, log_sizes) / _SIZE_RANGE
        weights = np.exp(-np.square(distances) / 2)
        weights /= weights.sum(axis=1, keepdims=True)
    pooled = weights @ ratios
    deviations = ratios - pooled
    mixed, covariances = np.empty_like(ratios), np.empty((*ratios.shape, ratios.shape[1]))
    for row, rho in enumerate(noise_autocorrelations(pooled, products, bands)):
        bias, scatter = ratio_moments(rho, basis, products, bands)
        square_sum = weights[row] @ weights[row]
        error = np.einsum("k,kp,kq->pq", weights[row], deviations, deviations)
        error -= (1 - 2 * weights[row, row]) * scatter
        excess = error - square_sum * scatter
        share = _compute_shrinkage(excess, scatter, 1 / square_sum)
        mixed[row] = pooled[row] + share @ deviations[row] - bias
        # The error of the pooled ratios is the least; chance can make their scatter smaller.
        sizes_beyond, axes = np.linalg.eigh(error - share @ excess - square_sum * scatter)
        covariances[row] = (axes * np.maximum(sizes_beyond, 0)) @ axes.T + square_sum * scatter
    n_bands = ratios.shape[1]
    rho, spread = np.zeros((n_series, n_bands)), np.zeros((n_series, n_bands, n_bands))
    rho[used] = noise_autocorrelations(mixed, products, bands)
    unmixing = np.linalg.pinv(
        ratio_derivatives(rho[used], products, bands), rcond=_MIN_SINGULAR_VALUE
    )
    spread[used] = unmixing @ covariances @ unmixing.transpose(0, 2, 1)
    return NoiseModel.from_voxel_models(np.arange(n_series, dtype=np.intp), rho, spread, bands)


class _LagRatios(NamedTuple):
    """Autocorrelation of residuals, and mean signal, of N voxels.

    `ratios` are the ratios of mean lag products to residual power by band (q, N), 0 without
    residuals. `has_residual` (N,) is False in voxels without residuals, and `means` (N,) are the
    mean signals.
    """

    ratios: Float
    has_residual: MaskArray
    means: Float


def _collect_lag_ratios(
    blocks: _SignalBlocks, n_voxels: int, basis: Float, bands: LagBands
) -> _LagRatios:
    """Compute the lag ratios of all N voxels, block by block; see `_compute_lag_ratios`."""
    ratios = np.zeros((len(bands.stops), n_voxels))
    has_residual = np.zeros(n_voxels, dtype=bool)
    means = np.zeros(n_voxels)
    for voxels, block in blocks:
        for batch in iterate_parts(block.shape[1], VOXELS_PER_BATCH):
            columns = slice(voxels.start + batch.start, voxels.start + batch.stop)
            ratios[:, columns], has_residual[columns], means[columns] = _compute_lag_ratios(
                block[:, batch], basis, bands
            )
    return _LagRatios(ratios, has_residual, means)


def _compute_lag_ratios(signals: Real, basis: Float, bands: LagBands) -> _LagRatios:
    """Compute ratios of mean lag products to residual power, and the mean signal, of voxels.

    `signals` has one voxel per column (T, N). `basis` is an orthonormal basis (T, P) of a design
    whose columns span a constant.
    """
    from bids_sr.spatial.lag_products import add_lag_products, center

    residual, moments = np.empty(signals.shape), np.empty((3, signals.shape[1]))
    center(np.ascontiguousarray(signals), residual, moments)
    mean, signal_power, largest = moments
    residual -= basis @ (basis.T @ residual)
    sums = np.zeros((len(bands.stops) + 1, len(mean)))
    add_lag_products(residual, np.array([0, *bands.stops]), sums)
    power, lag_products = sums[0], sums[1:] / bands.widths[:, None]
    has_residual = exceeds_rounding(len(signals), signal_power, largest)
    has_residual &= power > _MIN_RESIDUAL**2 * signal_power
    ratios = np.divide(lag_products, power, out=np.zeros_like(lag_products), where=has_residual)
    return _LagRatios(ratios, has_residual, mean)


def exceeds_rounding(n_volumes: int, power: Float, largest: Float) -> MaskArray:
    """Return a mask of time series that vary by more than rounding errors, (N,).

    `power` is the sum of squared deviations from the mean (N,), and `largest` the largest absolute
    value (N,).
    """
    return np.sqrt(power / n_volumes) > MIN_RELATIVE_CHANGE * largest


def _pool_ratios(ratios: Float, means: Float, neighbors: _Neighborhood) -> Float:
    """Return ratios (p, N) that are expected from the neighborhood and brightness of each voxel.

    `ratios` are the ratios of lag products to power, one voxel per column (p, N), and
    `means` their mean signals (N,).
    """
    pooled = neighbors.average(ratios)
    # Differences from the mean keep the precision of single-precision sums.
    centered = means - means[neighbors.known].mean()
    contrast = centered - neighbors.average(centered[None])[0]
    is_used = neighbors.known & np.isfinite(contrast)
    if is_used.sum() < _MIN_REGRESSION_VOXELS:
        return pooled
    contrast_sd = float(contrast[is_used].std())
    if contrast_sd <= MIN_RELATIVE_CHANGE * float(np.abs(means[is_used]).max()):
        return pooled
    scaled = np.where(is_used, contrast, 0.0) / contrast_sd
    scaled = np.clip(scaled, -_MAX_CONTRAST, _MAX_CONTRAST)
    features = np.stack([scaled, scaled**2])
    features -= neighbors.average(features)
    gram = features[:, is_used] @ features[:, is_used].T
    coefficients = np.linalg.lstsq(
        gram, features[:, is_used] @ (ratios - pooled)[:, is_used].T, rcond=1e-10
    )[0]
    return pooled + coefficients.T @ features


@frozen
class _Lattice:
    """Nodes in the space of ratios, and the shares of surrounding nodes in each of N voxels.

    `labels` is the cell of each voxel (N,), and `cells` are the nodes at the corners of each cell
    (K, C). `nodes` are the nodes around each voxel (C, N), and `shares` their shares (C, N), which
    are not negative and sum to 1. `node_ratios` are the ratios at the nodes (G, p).
    """

    labels: _Labels
    cells: _Labels
    nodes: _Labels
    shares: Float
    node_ratios: Float

    def sum_by_node(self, values: Float) -> Float:
        """Return sums over voxels of share times value (K, N), by node (G, K)."""
        return self.sum_products(np.ones((1, values.shape[1])), values)[:, 0]

    def mix(self, values: Float) -> Float:
        """Return the mixture (K, N) of node values (G, K) in each voxel."""
        return self.mix_products(values[:, :, None], np.ones((1, self.nodes.shape[1])))

    def sum_products(self, first: Float, second: Float) -> Float:
        """Return sums over voxels of share times product, (G, K, L), for (K, N) and (L, N)."""
        from bids_sr.glm.lattice_loops import add_products

        sums = np.zeros((len(self.node_ratios), len(first), len(second)))
        rows, columns = np.ascontiguousarray(first), np.ascontiguousarray(second)
        add_products(self.nodes, self.shares, rows, columns, sums)
        return sums

    def mix_products(self, matrices: Float, vectors: Float) -> Float:
        """Return the mixture (K, N) of node matrices (G, K, L) times the vector of each voxel.

        `vectors` are the vectors of the voxels (L, N).
        """
        from bids_sr.glm.lattice_loops import add_mixed_products

        products = np.zeros((matrices.shape[1], vectors.shape[1]))
        add_mixed_products(
            self.nodes,
            self.shares,
            np.ascontiguousarray(matrices),
            np.ascontiguousarray(vectors),
            products,
        )
        return products

    def sum_shared(self, other_lattice: "_Lattice") -> Float:
        """Return sums over voxels of share times share, (G, H), for the nodes of two lattices."""
        shape = len(self.node_ratios), len(other_lattice.node_ratios)
        sums = np.zeros(shape[0] * shape[1])
        for nodes, shares in zip(self.nodes, self.shares, strict=True):
            pair_indices = np.ravel_multi_index(
                (np.broadcast_to(nodes, other_lattice.nodes.shape), other_lattice.nodes), shape
            )
            sums += np.bincount(
                pair_indices.ravel(),
                weights=(shares * other_lattice.shares).ravel(),
                minlength=len(sums),
            )
        return sums.reshape(shape)


@frozen
class _MixedRatios:
    """Lag ratios of voxels, mixed from their own ratios and the pooled ratios.

    `ratios` (p, N) differ from the ratios of the expectations by `bias` (p, N) on average.
    `pooled_lattice` is the lattice of the pooled ratios, and `error_covariances` are the
    covariances of the errors of mixed ratios at its nodes (G, p, p).
    """

    ratios: Float
    bias: Float
    pooled_lattice: _Lattice
    error_covariances: Float


def _mix_voxel_ratios(
    voxel_ratios: Float,
    pooled: Float,
    neighbors: _Neighborhood,
    basis: Float,
    products: Float,
    bands: LagBands,
) -> _MixedRatios:
    """Mix each voxel's own ratios into the pooled ratios, as far as voxels differ beyond noise.

    The scatter of similar voxels around their pooled ratios, minus the scatter S of noise,
    measures how much they differ (T). The best linear estimate of a voxel's ratios is pooled + T
    (T + S)^-1 (own - pooled).

    `voxel_ratios` are ratios of single voxels, and `pooled` the ratios expected from their
    neighborhood and brightness (p, N). `neighbors` is the neighborhood over which ratios were
    pooled, `basis` an orthonormal basis of the design (T, P), and `products` the matrix of
    `compute_expected_products` (q + 1, T).
    """
    lattice = _build_lattice(pooled)
    has_residual = neighbors.known.astype(np.float64)
    deviation = (voxel_ratios - pooled) * has_residual
    ones = np.ones_like(has_residual)
    counts, own_weights, square_sums = lattice.sum_by_node(
        has_residual * np.stack([ones, neighbors.own_weights, neighbors.square_sums])
    ).T
    # Only voxels with residuals count; a node without such voxels keeps the pooled ratios.
    divisors = np.where(counts > 0, counts, 1.0)
    own_weights, square_sums = own_weights / divisors, square_sums / divisors
    scatter_at_nodes = lattice.sum_products(deviation, deviation) / divisors[:, None, None]
    bias = np.zeros((len(counts), len(pooled)))
    weights, error_covariances = np.zeros_like(scatter_at_nodes), np.zeros_like(scatter_at_nodes)
    for node, rho in enumerate(noise_autocorrelations(lattice.node_ratios, products, bands)):
        bias[node], scatter = ratio_moments(rho, basis, products, bands)
        if counts[node] == 0:
            continue
        # The scatter around a mean is reduced by twice the weight of the voxel in the mean, and
        # increased by the scatter of the mean.
        error = scatter_at_nodes[node] - (1 - 2 * own_weights[node]) * scatter
        excess = error - square_sums[node] * scatter
        weights[node] = _compute_shrinkage(excess, scatter, float(counts[node]))
        error_covariances[node] = error - weights[node] @ excess
    return _MixedRatios(
        ratios=pooled + lattice.mix_products(weights, deviation),
        bias=lattice.mix(bias),
        pooled_lattice=lattice,
        error_covariances=error_covariances,
    )


def _build_lattice(ratios: Float) -> _Lattice:
    """Place nodes among ratios (p, N), and compute the shares of surrounding nodes.

    The lattice is in the plane of the two principal components with the largest variance. Nodes
    are dense near the mean, where most voxels are. Cells are triangles, and shares are barycentric
    coordinates, which are continuous across the sides of cells. Perpendicular to the plane, a node
    is at the mean of its voxels, shrunk toward the plane if there are few voxels.
    """
    n_lags, n_voxels = ratios.shape
    mean = ratios.mean(axis=1)
    centered = ratios - mean[:, None]
    sizes, vectors = np.linalg.eigh(centered @ centered.T / n_voxels)
    axes = fix_signs(vectors[:, : -min(_N_COMPONENTS, n_lags) - 1 : -1])
    scale = max(float(np.sqrt(max(sizes[-1], 0.0))), _MIN_SD)
    coordinates = axes.T @ centered / scale
    coordinates = np.arcsinh(np.clip(coordinates, -_MAX_DISTANCE, _MAX_DISTANCE)) / _NODE_SPACING
    simplices = _find_simplices(coordinates)
    numbered = _number_cells(simplices)
    ratios_in_plane = mean + scale * (axes @ np.sinh(_NODE_SPACING * numbered.node_positions)).T
    lattice = _Lattice(
        labels=numbered.labels,
        cells=numbered.cells,
        nodes=np.ascontiguousarray(numbered.cells.T[:, numbered.labels]),
        shares=simplices.shares,
        node_ratios=ratios_in_plane,
    )
    deviation = ratios - lattice.mix(ratios_in_plane)
    deviation -= axes @ (axes.T @ deviation)
    weights = lattice.sum_by_node(np.ones((1, n_voxels))) + _HALF_SHRINKAGE_VOXELS
    return replace(lattice, node_ratios=ratios_in_plane + lattice.sum_by_node(deviation) / weights)


class _Simplices(NamedTuple):
    """Simplex of the integer lattice around each of N points.

    `corners` (axes + 1, axes, N) are each one step along one axis from the corner before it.
    `first_axes` (N,) are the axes of the first step, and `shares` (axes + 1, N) the barycentric
    coordinates.
    """

    corners: _Labels
    first_axes: _Labels
    shares: Float


def _find_simplices(coordinates: Float) -> _Simplices:
    """Find the simplex of the integer lattice around each point (axes, N).

    Sorting the coordinates of its points divides a cube of the lattice into simplices.
    """
    n_axes, n_points = coordinates.shape
    first_corner = np.floor(coordinates)
    fractions = coordinates - first_corner
    steps = np.argsort(-fractions, axis=0, kind="stable")
    descending = np.take_along_axis(fractions, steps, axis=0)
    bounds = np.vstack([np.ones(n_points), descending, np.zeros(n_points)])
    corners = [first_corner.astype(np.intp)]
    for step in steps:
        corners.append(corners[-1] + (np.arange(n_axes)[:, None] == step))
    return _Simplices(np.stack(corners), steps[0], -np.diff(bounds, axis=0))


class _NumberedCells(NamedTuple):
    """Cells and nodes that voxels use, with numbers.

    `labels` are the cells of the voxels (N,), `cells` the nodes of each cell (K, C), and
    `node_positions` the positions of the nodes (axes, G).
    """

    labels: _Labels
    cells: _Labels
    node_positions: _Labels


def _number_cells(simplices: _Simplices) -> _NumberedCells:
    """Assign numbers to the cells and the nodes that voxels use."""
    corners, first_axes = simplices.corners, simplices.first_axes
    _, n_axes, n_voxels = corners.shape
    lowest = corners.min(axis=(0, 2))
    extent = corners.max(axis=(0, 2)) - lowest + 1
    codes = np.ravel_multi_index(tuple(np.moveaxis(corners - lowest[:, None], 1, 0)), extent)
    # The first node of a cell and the axis of its first step, which determines the order of up to
    # two axes, identify the cell.
    cell_codes = codes[0] * n_axes + first_axes
    voxel_of_code = np.zeros(cell_codes.max() + 1, dtype=np.intp)
    voxel_of_code[cell_codes] = np.arange(n_voxels)
    occupied = np.flatnonzero(np.bincount(cell_codes))
    labels = np.searchsorted(occupied, np.arange(len(voxel_of_code)))[cell_codes]
    node_codes, cells = np.unique(codes[:, voxel_of_code[occupied]], return_inverse=True)
    positions = np.stack(np.unravel_index(node_codes, extent)) + lowest[:, None]
    return _NumberedCells(labels, cells.reshape(len(codes), -1).T, positions)


def _compute_shrinkage(excess: Float, scatter: Float, count: float) -> Float:
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
