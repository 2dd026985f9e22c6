"""Gaussian prior of a run's fluctuations, written out as matrices for a tile of a slice at a time.

A fluctuation on the high-resolution grid is ``x = sum_q W_q z_q`` with ``z_q ~ N(0, K_q)``: W_q =
diag(w_q) carries where the run fluctuates, K_q is a stationary Gaussian correlation in plane. What
was acquired is ``y = D x + noise``, where D crops k-space in plane. The conditional mean is

    x = C D' (D C D' + s2 I)^-1 y,        C = sum_q W_q K_q W_q

which for one q and K = I is the weighted minimum-norm solution (Gorodnitsky and Rao 1997, eq. 8).
Only its part beyond the acquired band is used. The covariance of two samples of k-space is a
Fourier coefficient of the variance map at their *difference*, so fluctuations carry that map out
to twice the acquired band (Dertinger et al. 2009).

Slices are independent of one another; where they get thinner, they are interpolated before
(`Level.across`), and what is modeled is the plane. A large slice is cut into tiles, whose data
overlap by more than the correlations reach.

Tensors are (..., Z, X, Y), slices first.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import pairwise, product
from typing import Self

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from scipy.ndimage import maximum_filter
from torch import Tensor, nn
from torch.nn.functional import pad

from bids_sr.io.arrays import Array, Float32, parts_of
from bids_sr.spatial.masks import bounding_box
from bids_sr.sr.lapack import factor_in_place, solve_in_place
from bids_sr.sr.operators import Level

_MARGIN = 4  # acquired voxels around the mask whose data and fluctuations count
_REACH = 2.25  # full widths after which a correlation is below 1e-6 and left out
_LEAST = 1e-20  # correlations below it are 0: many processors are slow with subnormal numbers
# Acquired voxels that are solved for at once, and where few maps are applied: there tiles cost 5 %
# of the explained share, in the estimate a third of that (studyforrest, four slices)
_LARGEST, _WHOLE = 1600, 4096
_FAR = 18  # high-resolution voxels around a tile whose data count where maps are applied
_MANY = 4  # maps above which what is made of the data is written out as a matrix, too
# Side of what a tile stands for over the width of what is seen around it: with less the same data
# are solved for more often, with more the matrices are larger
_SIDE = 4

_BLOCK = 16  # rows of high-resolution voxels that are correlated at once
_ACROSS = 15  # rows of acquired voxels whose covariance with all rows is computed at once

_Matrices = tuple[Tensor, Tensor]
"""Along x and along y."""


def _reach_of(fwhm: float) -> int:
    """Return voxels over which a correlation of some full width reaches."""
    return math.ceil(_REACH * fwhm)


@lru_cache(maxsize=64)
def correlation(size: int, fwhm: float) -> Tensor:
    """Return the Gaussian correlation along one axis, with 0 in place of what no sum would feel.

    `fwhm`: full width at half maximum of the correlation (voxels). Correlation between all voxels
    of the axis (size, size).
    """
    with torch.inference_mode(False):
        at = torch.arange(size, dtype=torch.float64)
        out = torch.exp(-4 * math.log(2) * (at[:, None] - at) ** 2 / fwhm**2).float()
        return torch.where(out < _LEAST, 0.0, out)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Part of every slice of a level, in slices of the axes x and y of the whole grids.

    `level`: from the acquired to the high-resolution grid, in plane alone. `inner`: acquired
    voxels that it stands for. `seen`: those whose data count. `near`: acquired voxels that count
    for the mask, (x, y, z).
    """

    level: Level
    inner: tuple[slice, slice]
    seen: tuple[slice, slice]
    near: Array = field(repr=False, compare=False)

    @classmethod
    def around(cls, level: Level, mask: Array) -> Self:
        """All that lies around a mask (x, y, z) on the acquired grid.

        `level`: from the acquired to the high-resolution grid, in plane alone.
        """
        x, y = (
            slice(max(0, own.start - _MARGIN), min(count, own.stop + _MARGIN))
            for own, count in zip(bounding_box(mask)[:2], level.coarse[:2], strict=True)
        )
        near = maximum_filter(mask > 0, (2 * _MARGIN + 1, 2 * _MARGIN + 1, 1))
        return cls(level=level, inner=(x, y), seen=(x, y), near=near)

    def part(self, x: slice, y: slice, halo: int) -> Self:
        """The tile of some of its acquired voxels, and of what lies around them in this one."""
        seen = [
            slice(max(whole.start, own.start - halo), min(whole.stop, own.stop + halo))
            for own, whole in zip((x, y), self.seen, strict=True)
        ]
        return replace(self, inner=(x, y), seen=(seen[0], seen[1]))

    def counts(self, z: int) -> bool:
        """Whether it has voxels of the mask, or near it, in a high-resolution slice."""
        return bool(self.near[*self.inner, z * self.near.shape[2] // self.level.fine[2]].any())

    def parts(self, reach: int, largest: int) -> list[Self]:
        """Cut it into tiles that see more than high-resolution correlations reach."""
        if math.prod(own.stop - own.start for own in self.inner) <= largest:
            return [self]
        halo = math.ceil(reach / min(self._ratios)) + 1
        edges = []
        for own in self.inner:
            count = math.ceil((own.stop - own.start) / (_SIDE * halo))
            edges.append(np.linspace(own.start, own.stop, count + 1).round().astype(int).tolist())
        pairs = [[slice(*ends) for ends in pairwise(each)] for each in edges]
        return [self.part(x, y, halo) for x, y in product(*pairs)]

    @cached_property
    def _ratios(self) -> tuple[float, float]:
        fine, coarse = self.level.fine, self.level.coarse
        return fine[0] / coarse[0], fine[1] / coarse[1]

    @cached_property
    def fine(self) -> tuple[slice, slice]:
        """High-resolution voxels that its data see."""
        x, y = (
            slice(math.floor(s.start * r), math.ceil(s.stop * r))
            for s, r in zip(self.seen, self._ratios, strict=True)
        )
        return x, y

    @cached_property
    def made(self) -> tuple[slice, slice]:
        """Those of them that are reconstructed from these data; parts that meet leave none out."""
        x, y = (
            slice(math.ceil(s.start * r), math.ceil(s.stop * r))
            for s, r in zip(self.inner, self._ratios, strict=True)
        )
        return x, y

    @cached_property
    def within(self) -> tuple[slice, slice]:
        """The voxels `made`, counted among those of `fine`."""
        x, y = (
            slice(m.start - f.start, m.stop - f.start)
            for m, f in zip(self.made, self.fine, strict=True)
        )
        return x, y

    @cached_property
    def down(self) -> _Matrices:
        """D on it, along x and along y."""
        x, y, _ = self.level.down_matrices
        return (
            x[self.seen[0], self.fine[0]].contiguous(),
            y[self.seen[1], self.fine[1]].contiguous(),
        )


def covariance(maps: Tensor, fwhm: Sequence[float], right: _Matrices, left: _Matrices) -> Tensor:
    """L C R' of one slice or tile, for matrices L and R that are products over the axes.

    Where L is R, it is symmetric, and half the work.

    `maps`: (Q, X, Y). `fwhm`: Q full widths of the correlations (high-resolution voxels). `right`:
    R along either axis, (x, X) and (y, Y). `left`: L along either axis, (u, X) and (v, Y).
    """
    alike, (u, v) = left is right, map(len, left)
    out = torch.zeros(u, len(right[0]), v, len(right[1]))
    for here, rows in _by_rows(maps, fwhm, right, left[1], alike=alike):
        out.flatten(1).addmm_(left[0][:, here], rows.flatten(1))
    found = out.transpose(1, 2).reshape(u * v, -1)
    return found + found.T if alike else found


def data_covariance(maps: Tensor, fwhm: Sequence[float], down: _Matrices) -> Float32:
    """Return the lower triangle of D C D' of a tile, (m, m).

    It is `covariance` of D with itself by fewer products, for maps whose correlation widths all
    differ. Of high-resolution rows a and b only pairs with b >= a are computed. The shorter matrix
    D_y is applied before pairs are formed, because a sum over pairs is the longest one:

        H = sum_a D_x[:, a] sum_(b >= a) k(b - a) D_x[:, b] (D_y w_a) K (D_y w_b)'

    with k(0) halved, and D C D' = H + H'. Blocks above the diagonal are not written.

    Parameters
    ----------
    maps : Tensor
        w_q on the high-resolution voxels of the tile, (Q, X, Y).
    fwhm : Sequence[float]
        Q full widths of the correlations (high-resolution voxels).
    down : _Matrices
        D along either axis, (x, X) and (y, Y).
    """
    along_x, along_y = (matrix.numpy() for matrix in down)
    x, count = along_x.shape
    y, size = along_y.shape
    reaches = [min(count - 1, _reach_of(width)) for width in fwhm]
    n_steps = sum(reach + 1 for reach in reaches)
    pairs = np.empty((count, n_steps, y, y), np.float32)  # a; b - a of each map; y of b; y of a
    shares = np.empty((count, x, n_steps), np.float32)  # k(b - a) D_x[:, b]
    start = 0
    for width, weight, reach in zip(fwhm, maps.numpy(), reaches, strict=True):
        steps = slice(start, start + reach + 1)
        start = steps.stop
        rows = np.zeros((count + reach, y, size), np.float32)  # D_y w_a; no voxel after the last
        np.multiply(along_y, weight[:, None], out=rows[:count])
        ahead = as_strided(rows, (count, (reach + 1) * y, size), rows.strides, writeable=False)
        correlated = rows[:count] @ correlation(size, width).numpy()
        pairs_of_map = pairs[:, steps].reshape(count, -1, y)
        np.matmul(ahead, correlated.swapaxes(1, 2), out=pairs_of_map)
        by_distance = correlation(count, width).numpy()[0, : reach + 1].copy()
        by_distance[0] /= 2
        padded = np.pad(along_x, ((0, 0), (0, reach)))
        windows = sliding_window_view(padded, reach + 1, axis=1).swapaxes(0, 1)
        shares[:, :, steps] = windows * by_distance
    half = np.empty((x, x, y, y), np.float32)
    for part in parts_of(x, _ACROSS):
        of_b = shares[:, part] @ pairs.reshape(count, n_steps, -1)
        half[:, part] = (along_x @ of_b.reshape(count, -1)).reshape(x, -1, y, y)
    out = np.empty((x, y, x, y), np.float32)
    for u in range(x):
        lower = slice(u + 1)
        out[u, :, lower] = half[u, lower].transpose(2, 0, 1) + half[lower, u].transpose(1, 0, 2)
    return out.reshape(x * y, -1)


def _by_rows(
    maps: Tensor,
    fwhm: Sequence[float],
    right: _Matrices,
    along: Tensor | None,
    *,
    alike: bool = False,
) -> Iterator[tuple[slice, Tensor]]:
    """C R' in rows of high-resolution voxels (n, x, Y, y), a few at once and in the same memory.

    along : (v, Y), applied to the second axis, for (n, x, v, y); None: every voxel
    alike : of what is symmetric the part that, with its transpose, is all
    """
    _, count, size = maps.shape
    reach = min(count - 1, max(map(_reach_of, fwhm)))
    # voxels that are so far apart along x; where both sides are alike, one way is enough
    steps = range(0 if alike else -reach, reach + 1)
    ahead = pad(right[0], (reach, reach))
    windows = ahead[:, reach + steps.start :].unfold(1, len(steps), 1).transpose(0, 1)
    sides = []
    for width in dict.fromkeys(fwhm):
        maps_of_width = maps[[q for q, w in enumerate(fwhm) if w == width]]
        near = pad(maps_of_width, (0, 0, reach, reach)).transpose(0, 1)
        sides.append((width, maps_of_width.permute(1, 2, 0), near))
    block, pairs = torch.zeros(2, _BLOCK, size, size)
    seen = torch.empty(len(steps), _BLOCK, size if along is None else len(along), len(right[1]))
    for start in range(0, count, _BLOCK):
        n = min(_BLOCK, count - start)
        for step, part in zip(steps, seen[:, :n], strict=True):
            other = start + reach + step
            block.zero_()
            for width, here, near in sides:
                if abs(step) <= _reach_of(width):
                    torch.bmm(here[start : start + n], near[other : other + n], out=pairs[:n])
                    share = float(correlation(count, width)[0, abs(step)])
                    share *= 0.5 if alike and step == 0 else 1.0
                    block.addcmul_(pairs, correlation(size, width), value=share)
            maps_of_width = block[:n] @ right[1].T
            part[:] = maps_of_width if along is None else along @ maps_of_width
        rows = windows[start : start + n] @ seen[:, :n].flatten(2).transpose(0, 1)
        yield slice(start, start + n), rows.unflatten(2, seen.shape[2:])


@dataclass(frozen=True, kw_only=True)
class Prior:
    """W, K and the noise; see the module.

    `weight`: (Q, Z, X, Y), w_q on the whole high-resolution grid, unit of the change. `fwhm`: Q
    full widths of the correlations (high-resolution voxels). `noise`: s2, in the squared unit of
    the change.
    """

    whole: Tile
    weight: Tensor
    fwhm: tuple[float, ...]
    noise: float

    def __post_init__(self) -> None:
        if len(self.fwhm) != len(self.weight):
            raise ValueError(
                f"the prior has {len(self.weight)} variance maps but {len(self.fwhm)} "
                "correlation widths; both numbers must be equal"
            )

    def tiles(self, largest: int = _LARGEST, least: int = 0) -> list[Tile]:
        """Return tiles whose data are solved for together.

        `least`: high-resolution voxels around a tile whose data count at least. Tiles that cover
        what lies around the mask.
        """
        return self.whole.parts(max(least, *map(_reach_of, self.fwhm)), largest)

    @cached_property
    def mean_variance(self) -> float:
        """Return the exact mean of the diagonal of D C D'.

        D'D and K_q are products over the axes, and so is D'D times K_q.
        """
        total = 0.0
        for width, weight in zip(self.fwhm, self.weight, strict=True):
            rows, columns = (
                (each.T @ each) * correlation(each.shape[1], width) for each in self.whole.down
            )
            own = weight[:, *self.whole.fine]
            total += float((own * (rows @ own @ columns)).sum())
        return total / (len(self.weight[0]) * math.prod(len(m) for m in self.whole.down))

    def scaled(self, variance: float) -> "Prior":
        """The same maps, so that data without noise have another mean variance."""
        gain = (variance / max(self.mean_variance, 1e-30)) ** 0.5
        return replace(self, weight=self.weight * gain)

    def root(self, z: int, tile: Tile) -> Float32:
        """Return the Cholesky factor of D C D' + s2 I of a tile, as the lower triangle of (m, m).

        Values above the diagonal have no meaning.
        """
        maps = self.weight[:, z, *tile.fine]
        if len(set(self.fwhm)) == len(self.fwhm):
            return self._factor(data_covariance(maps, self.fwhm, tile.down))
        return self._factor(covariance(maps, self.fwhm, tile.down, tile.down).numpy())

    def _factor(self, data: Float32) -> Float32:
        """Replace a covariance of data by its Cholesky factor after noise is added."""
        data.reshape(-1)[:: len(data) + 1] += self.noise
        return factor_in_place(data)

    def responses(self, z: int, tile: Tile, solved: Float32) -> tuple[Float32, list[Float32]]:
        """Return b = D' a and K_q W_q b on the voxels that are made of a tile, (N, X, Y).

        `solved`: a, one row per solution (N, m).
        """
        rows, columns = (matrix.numpy() for matrix in tile.down)
        back = solved.reshape(-1, len(columns)) @ columns
        back = rows.T @ back.reshape(len(solved), len(rows), -1)
        out = []
        for width, weight in zip(self.fwhm, self.weight[:, z, *tile.fine].numpy(), strict=True):
            across, along = (
                correlation(size, width)[own].numpy()
                for size, own in zip(weight.shape, tile.within, strict=True)
            )
            by_y = (weight * back).reshape(-1, weight.shape[1]) @ along.T
            out.append(across @ by_y.reshape(*back.shape[:2], -1))
        return back[:, *tile.within], out

    def at(self, z: int) -> Callable[[Tensor], Tensor]:
        """Return what makes conditional means (T, X, Y) of the changes (T, x, y) of a slice."""
        many = len(self.weight) > _MANY
        parts = [
            (tile, (self._written_out if many else self._solver)(z, tile))
            for tile in self.tiles(_LARGEST if many else _WHOLE, _FAR)
            if tile.counts(z) and bool(self.weight[:, z, *tile.fine].any())
        ]

        def expect(change: Tensor) -> Tensor:
            out = torch.zeros(len(change), *self.whole.level.fine[:2])
            for tile, function in parts:
                out[:, *tile.made] = function(change[:, *tile.seen].flatten(1))
            return out

        return expect

    def _solver(self, z: int, tile: Tile) -> Callable[[Tensor], Tensor]:
        """From the data of a tile (T, m), what is made of it (T, X, Y)."""
        root = self.root(z, tile)
        weights = self.weight[:, z, *tile.made].numpy()

        def expect(data: Tensor) -> Tensor:
            solved = np.array(data.numpy(), order="C")
            solve_in_place(root, solved, transposed=False)
            solve_in_place(root, solved, transposed=True)
            _, responses = self.responses(z, tile, solved)
            out = np.zeros_like(responses[0])
            for weight, response in zip(weights, responses, strict=True):
                response *= weight
                out += response
            return torch.from_numpy(out)

        return expect

    def _written_out(self, z: int, tile: Tile) -> Callable[[Tensor], Tensor]:
        """The same for many maps, where one product is faster than one for each map."""
        rows, columns = tile.down
        maps = self.weight[:, z, *tile.fine]
        sizes = [s.stop - s.start for s in tile.made]
        half = torch.empty(maps.shape[1], len(rows), len(columns), len(columns))
        fine = torch.empty(maps.shape[1], sizes[1], len(rows), len(columns))
        for here, found in _by_rows(maps, self.fwhm, tile.down, None):
            half[here] = columns @ found
            fine[here] = found[:, :, tile.within[1]].transpose(1, 2)
        data = (rows @ half.flatten(1)).unflatten(1, half.shape[1:]).transpose(1, 2)
        root = torch.from_numpy(self._factor(data.flatten(2).flatten(0, 1).numpy()))
        made = fine[tile.within[0]].flatten(2).flatten(0, 1)
        return lambda data: (made @ torch.cholesky_solve(data.T, root)).T.reshape(-1, *sizes)


class VarianceMaps(nn.Module):
    """What is kept of a `Prior`: its maps (Q, Z, X, Y) and the noise.

    The maps are on the whole high-resolution grid (zero where unused), which is that of a run and
    no property of the method: there is room for maps `like` these; None: one voxel.
    """

    weight: Tensor
    noise: Tensor

    def __init__(self, like: Tensor | None) -> None:
        super().__init__()
        like = torch.zeros(1, 1, 1, 1) if like is None else like
        if like.ndim != 4:
            raise ValueError(
                "expected variance maps with 4 axes (map, Z, X, Y), got an array of shape "
                f"{tuple(like.shape)}"
            )
        self.register_buffer("weight", torch.zeros_like(like))
        self.register_buffer("noise", torch.zeros(()))
