"""Gaussian prior of a run's fluctuations, as matrices for one tile of a slice at a time.

A fluctuation on the high-resolution grid is ``x = sum_q W_q z_q`` with ``z_q ~ N(0, K_q)``. W_q =
diag(w_q) describes the magnitude of fluctuations in each voxel, and K_q is a stationary Gaussian
correlation in plane. The acquired data are ``y = D x + noise``, where D crops k-space in plane.
The conditional mean is

    x = C D' (D C D' + s2 I)^-1 y,        C = sum_q W_q K_q W_q

which for one q and K = I is the weighted minimum-norm solution (Gorodnitsky and Rao 1997, eq. 8;
https://doi.org/10.1109/78.558475). Only its part above the acquired Nyquist frequency is used. The
covariance of two k-space samples is a Fourier coefficient of the squared prior SD map at their
*difference*. Fluctuations thus encode this map up to twice the acquired Nyquist frequency
(Dertinger et al. 2009, https://doi.org/10.1073/pnas.0907866106).

Slices are independent. If the factor is above 1 across slices, they are interpolated in advance
(`ResolutionLevel.upsample_slices`), and the model applies to each plane. Large slices are divided
into tiles, whose data overlap by more than the range of correlations.

Tensors are (..., Z, X, Y), slices first.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import pairwise, product
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from scipy.ndimage import maximum_filter
from torch import Tensor, nn
from torch.nn.functional import pad

from bids_sr.io.arrays import Array, Float32, iterate_parts
from bids_sr.spatial.lapack import factor_in_place, solve_in_place
from bids_sr.spatial.masks import bounding_box
from bids_sr.sr.operators import ResolutionLevel

_MARGIN_WIDTH = 4  # acquired voxels, width of the region around the mask that is included
_REACH_FWHM = 2.25  # distance, in FWHM of a correlation, beyond which it is below 1e-6 and ignored
# smallest correlation that is not set to 0, because many CPU types are slow with subnormal numbers
_MIN_CORRELATION = 1e-20
# Largest number of acquired voxels per tile, in general and for applying few maps. Dividing
# slices into tiles reduces the explained share by 5 % when maps are applied, and by a third of
# this when they are estimated (studyforrest, four slices).
_MAX_TILE_VOXELS, _MAX_APPLIED_TILE_VOXELS = 1600, 4096
# high-resolution voxels, width of the data region around a tile when maps are applied
_APPLIED_REACH = 18
_MAX_IMPLICIT_MAPS = 4  # largest number of maps without an explicit reconstruction matrix
# Ratio of the side of a tile to the width of its surrounding data region. Smaller values repeat
# more computations, and larger values need larger matrices.
_SIDE_TO_HALO = 4

_PART_ROWS = 8  # rows of acquired voxels whose covariance is computed together
_BLOCK_ROWS = 16  # rows of high-resolution voxels processed together
# High-resolution voxels along an axis that are correlated with their surroundings together. More
# voxels need more products with zero, and fewer voxels more small products.
_BAND_WIDTH = 20

_Matrices = tuple[Tensor, Tensor]  # matrices along x and along y


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Rectangular part of every slice, given by ranges along x and y.

    `level` is the in-plane conversion between the acquired and the high-resolution grid.
    `inner_range` are the acquired voxels of the tile, `data_range` the acquired voxels of the tile
    and of its surrounding data region, and `near_mask` the acquired voxels in the mask or near it
    (x, y, z).
    """

    level: ResolutionLevel
    inner_range: tuple[slice, slice]
    data_range: tuple[slice, slice]
    near_mask: Array = field(repr=False, compare=False)

    @classmethod
    def from_mask(cls, level: ResolutionLevel, mask: Array) -> Self:
        """Return the tile around a mask (x, y, z) on the acquired grid.

        `level` is the in-plane conversion between the acquired and the high-resolution grid.
        """
        x, y = (
            slice(max(0, extent.start - _MARGIN_WIDTH), min(count, extent.stop + _MARGIN_WIDTH))
            for extent, count in zip(bounding_box(mask)[:2], level.acquired_shape[:2], strict=True)
        )
        near_mask = maximum_filter(mask > 0, (2 * _MARGIN_WIDTH + 1, 2 * _MARGIN_WIDTH + 1, 1))
        return cls(level=level, inner_range=(x, y), data_range=(x, y), near_mask=near_mask)

    def crop(self, x: slice, y: slice, halo: int) -> Self:
        """Return the tile of some acquired voxels, surrounded by `halo` voxels of data.

        The data region is limited to the data region of this tile.
        """
        data_ranges = [
            slice(max(limits.start, extent.start - halo), min(limits.stop, extent.stop + halo))
            for extent, limits in zip((x, y), self.data_range, strict=True)
        ]
        return replace(self, inner_range=(x, y), data_range=(data_ranges[0], data_ranges[1]))

    def has_mask_voxels(self, z: int) -> bool:
        """Return whether the tile contains voxels in or near the mask.

        `z` is the number of a high-resolution slice.
        """
        return bool(
            self.near_mask[
                *self.inner_range, z * self.near_mask.shape[2] // self.level.highres_shape[2]
            ].any()
        )

    def divide(self, reach: int, max_voxels: int) -> list[Self]:
        """Divide the tile unless it has at most `max_voxels` acquired voxels.

        The data region of each part is wider than the range of correlations (`reach`,
        high-resolution voxels).
        """
        if math.prod(extent.stop - extent.start for extent in self.inner_range) <= max_voxels:
            return [self]
        halo = math.ceil(reach / min(self._ratios)) + 1
        ranges_x, ranges_y = (
            _divide_range(extent, math.ceil((extent.stop - extent.start) / (_SIDE_TO_HALO * halo)))
            for extent in self.inner_range
        )
        return [self.crop(x, y, halo) for x, y in product(ranges_x, ranges_y)]

    @cached_property
    def highres_range(self) -> tuple[slice, slice]:
        """High-resolution voxels of the data region."""
        x, y = (
            slice(math.floor(extent.start * ratio), math.ceil(extent.stop * ratio))
            for extent, ratio in zip(self.data_range, self._ratios, strict=True)
        )
        return x, y

    @cached_property
    def output_range(self) -> tuple[slice, slice]:
        """High-resolution voxels reconstructed from the data region.

        The ranges of adjacent tiles cover all voxels.
        """
        x, y = (
            slice(math.ceil(extent.start * ratio), math.ceil(extent.stop * ratio))
            for extent, ratio in zip(self.inner_range, self._ratios, strict=True)
        )
        return x, y

    @cached_property
    def _ratios(self) -> tuple[float, float]:
        """Ratio of high-resolution to acquired matrix size along x and y."""
        highres, acquired = self.level.highres_shape, self.level.acquired_shape
        return highres[0] / acquired[0], highres[1] / acquired[1]

    @cached_property
    def output_in_data(self) -> tuple[slice, slice]:
        """Position of the reconstructed voxels (`output_range`) within the data region."""
        x, y = (
            slice(output.start - data.start, output.stop - data.start)
            for output, data in zip(self.output_range, self.highres_range, strict=True)
        )
        return x, y

    @cached_property
    def down_matrices(self) -> _Matrices:
        """Downsampling matrices D of the data region, along x and along y."""
        x, y, _ = self.level.down_matrices
        return (
            x[self.data_range[0], self.highres_range[0]].contiguous(),
            y[self.data_range[1], self.highres_range[1]].contiguous(),
        )


def _divide_range(extent: slice, count: int) -> list[slice]:
    """Divide a range into parts of nearly equal length."""
    edges = np.linspace(extent.start, extent.stop, count + 1).round().astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Gaussian prior defined by W, K and noise (see the module documentation).

    `region` is the region around the mask. `weight` are the maps w_q on the whole high-resolution
    grid (Q, Z, X, Y), in the unit of the signal change, and `fwhm` full widths of the Q
    correlations (high-resolution voxels). `noise` is the noise variance s2, in the squared unit of
    the signal change.
    """

    region: Tile
    weight: Tensor
    fwhm: tuple[float, ...]
    noise: float

    def make_tiles(self, max_voxels: int = _MAX_TILE_VOXELS, min_reach: int = 0) -> list[Tile]:
        """Return tiles that cover the region around the mask and are solved separately.

        A tile has at most `max_voxels` acquired voxels if the correlations permit. `min_reach` is
        the smallest width of the data region (high-resolution voxels).
        """
        return self.region.divide(max(min_reach, *map(_compute_reach, self.fwhm)), max_voxels)

    @cached_property
    def mean_variance(self) -> float:
        """Mean variance of noise-free data: the exact mean of the diagonal of D C D'.

        D'D and K_q are products over the axes, and so is their elementwise product.
        """
        total_variance = 0.0
        for width, weight in zip(self.fwhm, self.weight, strict=True):
            correlation_x, correlation_y = (
                (matrix.T @ matrix) * gaussian_correlation(matrix.shape[1], width)
                for matrix in self.region.down_matrices
            )
            map_of_tile = weight[:, *self.region.highres_range]
            total_variance += float(
                (map_of_tile * (correlation_x @ map_of_tile @ correlation_y)).sum()
            )
        n_acquired = math.prod(len(matrix) for matrix in self.region.down_matrices)
        return total_variance / (len(self.weight[0]) * n_acquired)

    def scale(self, variance: float) -> "Prior":
        """Return the prior with maps scaled so that noise-free data have a given mean variance."""
        gain = (variance / max(self.mean_variance, 1e-30)) ** 0.5
        return replace(self, weight=self.weight * gain)

    def factor_covariance(self, z: int, tile: Tile) -> Float32:
        """Return the Cholesky factor of a tile's data covariance, as a lower triangle (m, m).

        The data covariance is D C D' + s2 I. Values above the diagonal are undefined.
        """
        maps = self.weight[:, z, *tile.highres_range]
        if len(set(self.fwhm)) == len(self.fwhm):
            return self._factor_with_noise(data_covariance(maps, self.fwhm, tile.down_matrices))
        down = tile.down_matrices
        return self._factor_with_noise(covariance(maps, self.fwhm, down, down).numpy())

    def compute_responses(
        self, z: int, tile: Tile, solutions: Float32
    ) -> tuple[Float32, list[Float32]]:
        """Return b = D' a, and K_q W_q b for each map, on the reconstructed voxels of a tile.

        `solutions` contains N vectors a = (D C D' + s2 I)^-1 y (N, m). All results are (N, X, Y).
        """
        down_x, down_y = (matrix.numpy() for matrix in tile.down_matrices)
        images = solutions.reshape(-1, len(down_y)) @ down_y
        images = down_x.T @ images.reshape(len(solutions), len(down_x), -1)
        maps = self.weight[:, z, *tile.highres_range].numpy()
        responses = [
            _correlate(images, weight, width, tile.output_in_data)
            for width, weight in zip(self.fwhm, maps, strict=True)
        ]
        return images[:, *tile.output_in_data], responses

    def make_slice_function(self, z: int) -> Callable[[Tensor], Tensor]:
        """Return the function that computes conditional means of a slice.

        It maps signal changes (T, x, y) to signal changes on the high-resolution grid (T, X, Y).
        """
        if len(self.weight) > _MAX_IMPLICIT_MAPS:
            make_solver, max_voxels = self._make_matrix_solver, _MAX_TILE_VOXELS
        else:
            make_solver, max_voxels = self._make_triangular_solver, _MAX_APPLIED_TILE_VOXELS
        solvers = [
            (tile, make_solver(z, tile))
            for tile in self.make_tiles(max_voxels, _APPLIED_REACH)
            if tile.has_mask_voxels(z) and bool(self.weight[:, z, *tile.highres_range].any())
        ]

        def reconstruct(change: Tensor) -> Tensor:
            means = torch.zeros(len(change), *self.region.level.highres_shape[:2])
            for tile, solve in solvers:
                means[:, *tile.output_range] = solve(change[:, *tile.data_range].flatten(1))
            return means

        return reconstruct

    def _make_matrix_solver(self, z: int, tile: Tile) -> Callable[[Tensor], Tensor]:
        """Return the same function as `_make_triangular_solver`, computed with an explicit matrix.

        With many maps, a single product is faster than one product per map.
        """
        down_x, down_y = tile.down_matrices
        maps = self.weight[:, z, *tile.highres_range]
        output_shape = [voxels.stop - voxels.start for voxels in tile.output_range]
        # C D' with D applied along y (X, x, y, y), and C D' at the output along y (X, Y, x, y)
        with_data_y = torch.empty(maps.shape[1], len(down_x), len(down_y), len(down_y))
        with_output_y = torch.empty(maps.shape[1], output_shape[1], len(down_x), len(down_y))
        for block, covariance_rows in _iterate_rows(maps, self.fwhm, tile.down_matrices, None):
            with_data_y[block] = down_y @ covariance_rows
            with_output_y[block] = covariance_rows[:, :, tile.output_in_data[1]].transpose(1, 2)
        noise_free = (down_x @ with_data_y.flatten(1)).unflatten(1, with_data_y.shape[1:])
        noise_free = noise_free.transpose(1, 2).flatten(2).flatten(0, 1)
        cholesky_factor = torch.from_numpy(self._factor_with_noise(noise_free.numpy()))
        cross_covariance = with_output_y[tile.output_in_data[0]].flatten(2).flatten(0, 1)

        def solve(data: Tensor) -> Tensor:
            solutions = torch.cholesky_solve(data.T, cholesky_factor)
            return (cross_covariance @ solutions).T.reshape(-1, *output_shape)

        return solve

    def _factor_with_noise(self, noise_free: Float32) -> Float32:
        """Add the noise to a covariance of data, and replace it by its Cholesky factor."""
        noise_free.reshape(-1)[:: len(noise_free) + 1] += self.noise
        return factor_in_place(noise_free)

    def _make_triangular_solver(self, z: int, tile: Tile) -> Callable[[Tensor], Tensor]:
        """Return the function from the data of a tile (T, m) to conditional means (T, X, Y)."""
        cholesky_factor = self.factor_covariance(z, tile)
        weights = self.weight[:, z, *tile.output_range].numpy()

        def solve(data: Tensor) -> Tensor:
            solutions = np.array(data.numpy(), order="C")
            solve_in_place(cholesky_factor, solutions, transposed=False)
            solve_in_place(cholesky_factor, solutions, transposed=True)
            _, responses = self.compute_responses(z, tile, solutions)
            means = np.zeros_like(responses[0])
            for weight, response in zip(weights, responses, strict=True):
                response *= weight
                means += response
            return torch.from_numpy(means)

        return solve


def data_covariance(maps: Tensor, fwhm: Sequence[float], down: _Matrices) -> Float32:
    """Return the covariance D C D' of a tile's noise-free data, as a lower triangle (m, m).

    The result equals `covariance` with L = R = D, but requires fewer products. It is used if the
    correlation widths of all maps differ. For high-resolution lines c and d along x, with maps w_c
    and w_d, the covariance of the data along x is

        P(c, d) = sum_q k_q(d - c) (D_x w_c) K_q (D_x w_d)'

    Only pairs of lines with d >= c are computed, because P(d, c) is P(c, d)'. D_y is then applied
    from both sides, once per pair of acquired voxels along x, which gives the blocks of the lower
    triangle. Blocks above the diagonal are not written.

    `maps` are the maps w_q on the high-resolution voxels of the tile (Q, X, Y), and `fwhm` full
    widths of the Q correlations (high-resolution voxels). `down` is D along both axes, (x, X) and
    (y, Y).
    """
    along_x, along_y = (matrix.numpy() for matrix in down)
    x, y, n_lines = len(along_x), *along_y.shape
    covariances, decay = _compute_line_covariances(maps.numpy(), fwhm, along_x, n_lines)
    reach = len(decay) - 1
    padded_matrix = np.pad(along_y, ((0, 0), (reach, reach)))
    # k(d - c) D_y[:, d] for the lines around each line c (Y, 2 reach + 1, y)
    windows = sliding_window_view(padded_matrix, 2 * reach + 1, axis=1).transpose(1, 2, 0)
    weighted_windows = windows * np.concatenate([decay[:0:-1], decay])[:, None]
    triangle = np.empty((x, y, x * y), np.float32)
    for rows in iterate_parts(x, _PART_ROWS):
        # pairs (u, v) of the rows u of this part, row by row
        pair_range = slice(*(u * (u + 1) // 2 for u in (rows.start, rows.stop)))
        from_right = covariances[:, :, pair_range].swapaxes(1, 2) @ weighted_windows
        from_right = from_right.reshape(n_lines, -1)
        end = 0
        for u in range(rows.start, rows.stop):
            start, end = end, end + (u + 1) * y
            np.matmul(along_y, from_right[:, start:end], out=triangle[u, :, : end - start])
    return triangle.reshape(x * y, -1)


def _compute_line_covariances(
    maps: Float32, fwhm: Sequence[float], along: Float32, n_lines: int
) -> tuple[Float32, Float32]:
    """Return covariances P(c, d) between lines as in `data_covariance`, for pairs u >= v along x.

    `maps` are the maps w_q (Q, X, Y), whose Y = `n_lines` lines are along x, and `fwhm` full
    widths of the Q correlations (high-resolution voxels). `along` is D along x (x, X).

    Returns P(c, d) / k(d - c), see `_pack_pairs`; and the widest correlation k for d - c from 0.
    """
    x, size = along.shape
    widest = max(fwhm)
    decay = gaussian_correlation(n_lines, widest).numpy()[0, : _count_steps(widest, n_lines)]
    line_pairs = np.zeros((n_lines, len(decay), x, x), np.float32)
    for width, weight in zip(fwhm, maps, strict=True):
        steps = _count_steps(width, n_lines)
        # D_x w_c, zero-padded after the last line
        weighted_rows = np.zeros((n_lines + steps - 1, x, size), np.float32)
        np.multiply(along, weight.T[:, None], out=weighted_rows[:n_lines])
        later_rows = as_strided(
            weighted_rows, (n_lines, steps * x, size), weighted_rows.strides, writeable=False
        )
        correlated = (
            weighted_rows[:n_lines].reshape(-1, size) @ gaussian_correlation(size, width).numpy()
        )
        pairs_of_map = later_rows @ correlated.reshape(n_lines, x, size).swapaxes(1, 2)
        pairs_of_map = pairs_of_map.reshape(n_lines, steps, x, x)
        if width != widest:
            pairs_of_map *= (
                gaussian_correlation(n_lines, width).numpy()[0, :steps] / decay[:steps]
            )[:, None, None]
        line_pairs[:, :steps] += pairs_of_map
    return _pack_pairs(line_pairs.reshape(n_lines, len(decay), -1), x), decay


def _count_steps(fwhm: float, n_lines: int) -> int:
    """Return the number of distances between lines with a correlation that is not ignored."""
    return min(n_lines, math.floor(_REACH_FWHM * fwhm) + 1)


def _pack_pairs(pairs: Float32, x: int) -> Float32:
    """Return covariances of each line with the lines around it, for pairs u >= v along x.

    `pairs` are covariances of lines c and d >= c, for c, d - c, and x of d times x of c (Y, steps,
    x x). Values are not used if d is not below Y. `x` is the number of acquired voxels along x.

    Returns covariances of voxel u of line c and voxel v of line d, for c, d - c from -(steps - 1)
    to steps - 1, and pairs (u, v) row by row; 0 before the first line.
    """
    n_lines, steps, _ = pairs.shape
    u, v = np.tril_indices(x)
    packed = np.empty((n_lines, 2 * steps - 1, len(u)), np.float32)
    # mode "clip" writes to the output without a buffer
    np.take(pairs, v * x + u, axis=2, out=packed[:, steps - 1 :], mode="clip")
    for step in range(1, steps):
        earlier = packed[:, steps - 1 - step]
        earlier[:step] = 0
        np.take(pairs[:-step, step], u * x + v, axis=1, out=earlier[step:], mode="clip")
    return packed


def covariance(maps: Tensor, fwhm: Sequence[float], right: _Matrices, left: _Matrices) -> Tensor:
    """Return the covariance L C R' of two linear transforms of a fluctuation, in a slice or tile.

    C is the prior covariance. L and R are products of one matrix per axis.

    If L is R, the result is symmetric and requires half the computation.

    `maps` are the maps w_q on the high-resolution voxels (Q, X, Y), and `fwhm` full widths of the
    Q correlations (high-resolution voxels). `right` is R along both axes, (x, X) and (y, Y), and
    `left` is L along both axes, (u, X) and (v, Y). The covariance is (u v, x y).
    """
    is_symmetric = left is right
    u, v = map(len, left)
    by_axis = torch.zeros(u, len(right[0]), v, len(right[1]))  # (u, x, v, y)
    for block, rows in _iterate_rows(maps, fwhm, right, left[1], symmetric=is_symmetric):
        by_axis.flatten(1).addmm_(left[0][:, block], rows.flatten(1))
    covariances = by_axis.transpose(1, 2).reshape(u * v, -1)
    return covariances + covariances.T if is_symmetric else covariances


def _iterate_rows(
    maps: Tensor,
    fwhm: Sequence[float],
    right: _Matrices,
    along: Tensor | None,
    *,
    symmetric: bool = False,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield C R' for blocks of high-resolution rows, (n, x, Y, y) each, reusing the same memory.

    `maps` are the maps w_q on the high-resolution voxels (Q, X, Y), and `fwhm` full widths of the
    Q correlations (high-resolution voxels). `right` is R along both axes, (x, X) and (y, Y).
    `along` is a matrix (v, Y) applied to the second spatial axis, which gives (n, x, v, y); None
    means all voxels. If the covariance is `symmetric`, only one part is returned, which gives the
    covariance when added to its transpose.
    """
    _, count, size = maps.shape
    row_covariance = _RowCovariance(maps, fwhm)
    reach = row_covariance.reach
    # distances between voxels along x; one direction is sufficient for a symmetric matrix
    steps = range(0 if symmetric else -reach, reach + 1)
    padded = pad(right[0], (reach, reach))
    windows = padded[:, reach + steps.start :].unfold(1, len(steps), 1).transpose(0, 1)
    columns_by_step = torch.empty(
        len(steps), _BLOCK_ROWS, size if along is None else len(along), len(right[1])
    )
    for start in range(0, count, _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, count))
        n = rows.stop - rows.start
        for step, columns in zip(steps, columns_by_step[:, :n], strict=True):
            # the diagonal is halved, because the transpose is added
            share = 0.5 if symmetric and step == 0 else 1.0
            block_columns = row_covariance.compute_block(rows, step, share) @ right[1].T
            columns[:] = block_columns if along is None else along @ block_columns
        products_of_rows = windows[rows] @ columns_by_step[:, :n].flatten(2).transpose(0, 1)
        yield rows, products_of_rows.unflatten(2, columns_by_step.shape[2:])


class _MapsOfWidth(NamedTuple):
    """Maps with the same correlation width, in the two orders whose products are computed.

    `width` is the full width of the correlation (high-resolution voxels). `maps_last` are (X, Y,
    Q'), and `padded_rows` are maps of zero-padded rows (X + 2 reach, Q', Y).
    """

    width: float
    maps_last: Tensor
    padded_rows: Tensor


class _RowCovariance:
    """Prior covariance C between rows of high-resolution voxels, computed in the same memory.

    `maps` are the maps w_q on the high-resolution voxels (Q, X, Y), and `fwhm` full widths of the
    Q correlations (high-resolution voxels).
    """

    def __init__(self, maps: Tensor, fwhm: Sequence[float]) -> None:
        _, self._n_rows, self._size = maps.shape
        self.reach = min(self._n_rows - 1, max(map(_compute_reach, fwhm)))
        self._maps_by_width = []
        for width in dict.fromkeys(fwhm):
            maps_of_width = maps[
                [number for number, map_width in enumerate(fwhm) if map_width == width]
            ]
            self._maps_by_width.append(
                _MapsOfWidth(
                    width=width,
                    maps_last=maps_of_width.permute(1, 2, 0),
                    padded_rows=pad(maps_of_width, (0, 0, self.reach, self.reach)).transpose(0, 1),
                )
            )
        self._block, self._products = torch.zeros(2, _BLOCK_ROWS, self._size, self._size)

    def compute_block(self, rows: slice, step: int, share: float) -> Tensor:
        """Return a share of C between rows and the rows `step` further along x (n, Y, Y).

        The next call overwrites the result.
        """
        n = rows.stop - rows.start
        other_rows = slice(rows.start + self.reach + step, rows.stop + self.reach + step)
        self._block.zero_()
        for width, maps_last, padded_rows in self._maps_by_width:
            if abs(step) > _compute_reach(width):
                continue
            torch.bmm(maps_last[rows], padded_rows[other_rows], out=self._products[:n])
            correlation = float(gaussian_correlation(self._n_rows, width)[0, abs(step)])
            self._block.addcmul_(
                self._products,
                gaussian_correlation(self._size, width),
                value=correlation * share,
            )
        return self._block[:n]


def _correlate(
    images: Float32, weight: Float32, fwhm: float, output: tuple[slice, slice]
) -> Float32:
    """Return K W b for images b, on some voxels.

    `images` are (N, X, Y), `weight` is the diagonal of W (X, Y), and `fwhm` the full width of the
    correlation K (voxels). `output` are the voxels of the result along x and y. Returns images (N,
    voxels along x, voxels along y).
    """
    x, y = weight.shape
    row_bands, column_bands = (
        list(_iterate_bands(voxels, size, fwhm))
        for voxels, size in zip(output, weight.shape, strict=True)
    )
    first, last = row_bands[0][1].start, row_bands[-1][1].stop
    correlation_x, correlation_y = (gaussian_correlation(size, fwhm).numpy() for size in (x, y))
    weighted_images = (images[:, first:last] * weight[first:last]).reshape(-1, y)
    height, width = (voxels.stop - voxels.start for voxels in output)
    correlated_y = np.empty((len(weighted_images), width), np.float32)
    for voxels, neighbors in column_bands:
        target = _shift_range(voxels, -output[1].start)
        np.matmul(
            weighted_images[:, neighbors],
            correlation_y[neighbors, voxels],
            out=correlated_y[:, target],
        )
    correlated_y = correlated_y.reshape(len(images), last - first, width)
    correlated = np.empty((len(images), height, width), np.float32)
    for voxels, neighbors in row_bands:
        target = _shift_range(voxels, -output[0].start)
        source = correlated_y[:, _shift_range(neighbors, -first)]
        np.matmul(correlation_x[voxels, neighbors], source, out=correlated[:, target])
    return correlated


def _iterate_bands(output: slice, size: int, fwhm: float) -> Iterator[tuple[slice, slice]]:
    """Divide voxels along an axis, and yield each part and the voxels that correlate with it.

    `size` is the number of voxels along the axis, and `fwhm` the full width of the correlation.
    """
    reach = _compute_reach(fwhm)
    count = max(1, round((output.stop - output.start) / _BAND_WIDTH))
    for voxels in _divide_range(output, count):
        yield voxels, slice(max(0, voxels.start - reach), min(size, voxels.stop + reach))


def _compute_reach(fwhm: float) -> int:
    """Return the range of a correlation with a given full width (voxels)."""
    return math.ceil(_REACH_FWHM * fwhm)


@lru_cache(maxsize=64)
def gaussian_correlation(size: int, fwhm: float) -> Tensor:
    """Return the Gaussian correlation between voxels along one axis (size, size).

    `fwhm` is the full width at half maximum (voxels). Negligible values are set to 0.
    """
    with torch.inference_mode(False):
        positions = torch.arange(size, dtype=torch.float64)
        distances = positions[:, None] - positions
        correlation = torch.exp(-4 * math.log(2) * distances**2 / fwhm**2).float()
        return torch.where(correlation < _MIN_CORRELATION, 0.0, correlation)


def _shift_range(voxels: slice, shift: int) -> slice:
    """Return a range shifted by some voxels."""
    return slice(voxels.start + shift, voxels.stop + shift)


class PriorMaps(nn.Module):
    """Stored part of a `Prior`: its maps (Q, Z, X, Y) and the noise.

    The maps are on the whole high-resolution grid of a run, with zeros in unused voxels. The grid
    differs between runs, so the shape of the maps is taken from the tensor `like`; None means a
    single voxel.
    """

    weight: Tensor
    noise: Tensor

    def __init__(self, like: Tensor | None) -> None:
        super().__init__()
        like = torch.zeros(1, 1, 1, 1) if like is None else like
        self.register_buffer("weight", torch.zeros_like(like))
        self.register_buffer("noise", torch.zeros(()))
