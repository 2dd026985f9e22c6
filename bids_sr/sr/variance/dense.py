"""A prior written out as matrices, for a tile of one slice at a time.

Conjugate gradients (`bids_sr.sr.variance.prior`) solve for one volume. Where many volumes share
one prior it is faster, and exact, to write D C and D C D' out once: a volume is then one product.
A slice that is too large for that is cut into tiles, whose data overlap by more than the
correlations reach.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Self

import torch
from torch import Tensor

from bids_sr.sr.variance.prior import Prior, Window, correlation, reach_of

# acquired voxels of a tile: its matrix takes 29 MB, and that of what is made of it four times as
# much
_LARGEST = 2700
_HALO = 10  # acquired voxels around a tile whose data count; the widest correlation reaches 9
# rows of high-resolution voxels that are correlated at once: what lies farther apart is never
# formed
_BLOCK = 16


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Part of a slice, in slices of the axes x and y of the whole grids.

    Parameters
    ----------
    inner : tuple[slice, slice]
        Acquired voxels that it stands for.
    seen : tuple[slice, slice]
        Those whose data count.
    fine : tuple[slice, slice]
        High-resolution voxels that they see.
    made : tuple[slice, slice]
        Those of them that are reconstructed from these data.
    """

    inner: tuple[slice, slice]
    seen: tuple[slice, slice]
    fine: tuple[slice, slice]
    made: tuple[slice, slice]

    @classmethod
    def around(cls, window: Window, x: slice, y: slice, halo: int) -> Self:
        """The tile of some acquired voxels; parts that meet leave no high-resolution one out.

        Parameters
        ----------
        window : Window
            Both grids around the mask.
        x : slice
            Acquired voxels along x that the tile stands for.
        y : slice
            Acquired voxels along y that the tile stands for.
        halo : int
            Number of acquired voxels around the tile whose data count.

        Returns
        -------
        Self
            Tile, cut off where the window ends.
        """
        ratios = [window.level.fine[axis] / window.level.coarse[axis] for axis in (0, 1)]
        seen = [
            slice(max(whole.start, part.start - halo), min(whole.stop, part.stop + halo))
            for part, whole in zip((x, y), window.coarse[1:], strict=True)
        ]
        fine = [
            slice(math.floor(s.start * r), math.ceil(s.stop * r))
            for s, r in zip(seen, ratios, strict=True)
        ]
        made = [
            slice(math.ceil(s.start * r), math.ceil(s.stop * r))
            for s, r in zip((x, y), ratios, strict=True)
        ]
        return cls(
            inner=(x, y),
            seen=(seen[0], seen[1]),
            fine=(fine[0], fine[1]),
            made=(made[0], made[1]),
        )

    def within(self, window: Window) -> list[slice]:
        """Return its high-resolution voxels on those of a window.

        Parameters
        ----------
        window : Window
            Both grids around the mask.

        Returns
        -------
        list[slice]
            Ranges along x and y, counted from the start of the window.
        """
        return [
            slice(s.start - w.start, s.stop - w.start)
            for s, w in zip(self.fine, window.fine[1:], strict=True)
        ]


def _tiles_of(window: Window, largest: int = _LARGEST) -> list[Tile]:
    """Tiles that cover a window: one where it is small enough, else as few squares as possible."""
    _, rows, columns = window.coarse
    if (rows.stop - rows.start) * (columns.stop - columns.start) <= largest:
        return [Tile.around(window, rows, columns, 0)]
    inner = max(4, math.isqrt(largest) - 2 * _HALO)
    return [
        Tile.around(window, x, y, _HALO)
        for x, y in product(_parts(rows, inner), _parts(columns, inner))
    ]


def _parts(whole: slice, most: int) -> list[slice]:
    count = math.ceil((whole.stop - whole.start) / most)
    edges = [whole.start + round(k * (whole.stop - whole.start) / count) for k in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


@dataclass(frozen=True, kw_only=True)
class TileCovariance:
    """Prior on a tile: cross D C (m, n), data D C D' (m, m), of m acquired and n voxels.

    The tile is one of a slice.

    Parameters
    ----------
    cross : Tensor
        Covariance of data and fluctuations, D C (m, n).
    data : Tensor
        Covariance of the data without noise, D C D' (m, m).
    """

    cross: Tensor
    data: Tensor

    def mixed(self, other: "TileCovariance", share: float) -> "TileCovariance":
        """Return (1 - share) of this covariance, and share of another.

        Parameters
        ----------
        other : 'TileCovariance'
            Prior on the same tile.
        share : float
            Weight of the other prior, from 0 to 1.

        Returns
        -------
        'TileCovariance'
            Weighted mean of both, for cross and data alike.
        """
        return TileCovariance(
            cross=torch.lerp(self.cross, other.cross, share),
            data=torch.lerp(self.data, other.data, share),
        )


def tile_covariance(
    maps: Tensor, fwhm: Sequence[float], rows: Tensor, columns: Tensor
) -> TileCovariance:
    """D C and D C D' of one slice or tile.

    Parameters
    ----------
    maps : Tensor
        (Q, X, Y), which may be negative; those of one width are taken together.
    fwhm : Sequence[float]
        Q full widths of the correlations (high-resolution voxels).
    rows, columns : Tensor
        (x, X) and (y, Y), D along either axis.

    Returns
    -------
    TileCovariance
        Covariances (x y, X Y) and, without noise, (x y, x y).
    """
    size = rows.shape[1], columns.shape[1]
    low = rows.shape[0], columns.shape[0]
    cross = torch.zeros(low[0] * low[1], *size)
    for width in dict.fromkeys(fwhm):
        own = maps[[number for number, each in enumerate(fwhm) if each == width]]
        across, along = correlation(size[0], width), correlation(size[1], width)
        reach = reach_of(width)
        for start in range(0, size[0], _BLOCK):
            here = slice(start, min(size[0], start + _BLOCK))
            near = slice(max(0, start - reach), min(size[0], here.stop + reach))
            count, others = here.stop - here.start, near.stop - near.start
            part = own[:, here].reshape(len(own), -1).T @ own[:, near].reshape(len(own), -1)
            block = part.view(count, size[1], others, size[1])
            block *= across[here, near][:, None, :, None]
            block *= along[None, :, None, :]
            seen = (columns @ block.view(count, size[1], -1)).view(count, -1)
            cross[:, near] += (rows[:, here] @ seen).view(low[0] * low[1], others, size[1])
    data = (rows @ cross @ columns.T).reshape(len(cross), -1)
    return TileCovariance(cross=cross.reshape(len(cross), -1), data=(data + data.T) / 2)


def reconstructions(prior: Prior, images: Tensor) -> Iterator[tuple[int, Tile, Tensor]]:
    """Conditional mean of the fluctuations of many images, slice by slice and tile by tile.

    Parameters
    ----------
    prior : Prior
        Slices keep their thickness.
    images : Tensor
        (T, z, x, y) on the whole acquired grid.

    Yields
    ------
    tuple[int, Tile, Tensor]
        Number of the slice, tile, and (T, X, Y) of the voxels that are made of it.
    """
    window = prior.window
    if window.thins:
        raise ValueError("slices that get thinner are not independent of one another")
    rows, columns, _ = window.level.down_matrices
    for z in range(window.fine[0].start, window.fine[0].stop):
        for tile in _tiles_of(window):
            own = tile.within(window)
            maps = prior.weight[:, z - window.fine[0].start, own[0], own[1]]
            seen = images[:, z, tile.seen[0], tile.seen[1]].reshape(len(images), -1)
            if not bool(maps.any()):
                continue
            both = tile_covariance(
                maps,
                prior.fwhm,
                rows[tile.seen[0], tile.fine[0]].contiguous(),
                columns[tile.seen[1], tile.fine[1]].contiguous(),
            )
            root = torch.linalg.cholesky(both.data + prior.noise * torch.eye(len(both.data)))
            size = [s.stop - s.start for s in tile.fine]
            out = (torch.cholesky_solve(seen.T, root).T @ both.cross).view(-1, size[0], size[1])
            inner = [
                slice(m.start - f.start, m.stop - f.start)
                for m, f in zip(tile.made, tile.fine, strict=True)
            ]
            yield z, tile, out[:, inner[0], inner[1]]


def expected(prior: Prior, images: Tensor) -> Tensor:
    """Return the conditional means (T, Z, X, Y) of the fluctuations of images (T, z, x, y).

    See `reconstructions`.

    Parameters
    ----------
    prior : Prior
        Prior on a window whose slices keep their thickness.
    images : Tensor
        Change over time on the whole acquired grid (T, z, x, y).

    Returns
    -------
    Tensor
        Fluctuations on the whole high-resolution grid (T, Z, X, Y), 0 outside the window.
    """
    x, y, z = prior.window.level.fine
    out = torch.zeros(len(images), z, x, y)
    for number, tile, made in reconstructions(prior, images):
        out[:, number, tile.made[0], tile.made[1]] = made
    return out
