"""A prior written out as matrices, for a tile of one slice at a time.

Conjugate gradients (`bids_sr.sr.variance.prior`) solve for one volume. Where many volumes share
one prior it is faster, and exact, to write D C and D C D' out once: a volume is then one product.
A slice that is too large for that is cut into tiles, whose data overlap by more than the
correlations reach.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

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
    """Part of a slice, in slices of the axes x and y of the whole grids."""

    seen: tuple[slice, slice]  # acquired voxels whose data count
    fine: tuple[slice, slice]  # high-resolution voxels that they see
    made: tuple[slice, slice]  # those of them that are reconstructed from these data


def _tiles_of(window: Window, largest: int = _LARGEST) -> list[Tile]:
    """Tiles that cover a window: one where it is small enough, else as few squares as possible."""
    _, rows, columns = window.coarse
    sides = rows.stop - rows.start, columns.stop - columns.start
    if sides[0] * sides[1] <= largest:
        return [_tile(window, (rows, columns), (rows, columns))]
    inner = max(4, math.isqrt(largest) - 2 * _HALO)
    out = []
    for part in _parts(rows, inner):
        for other in _parts(columns, inner):
            out.append(_tile(window, (part, other), (_wider(part, rows), _wider(other, columns))))
    return out


def _parts(whole: slice, most: int) -> list[slice]:
    count = math.ceil((whole.stop - whole.start) / most)
    edges = [whole.start + round(k * (whole.stop - whole.start) / count) for k in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _wider(part: slice, whole: slice) -> slice:
    return slice(max(whole.start, part.start - _HALO), min(whole.stop, part.stop + _HALO))


def _tile(window: Window, inner: tuple[slice, slice], seen: tuple[slice, slice]) -> Tile:
    """High-resolution voxels by the acquired ones; parts that meet leave none out."""
    ratios = [window.level.fine[axis] / window.level.coarse[axis] for axis in (0, 1)]
    fine = [
        slice(math.floor(s.start * r), math.ceil(s.stop * r))
        for s, r in zip(seen, ratios, strict=True)
    ]
    made = [
        slice(math.ceil(s.start * r), math.ceil(s.stop * r))
        for s, r in zip(inner, ratios, strict=True)
    ]
    return Tile(seen=seen, fine=(fine[0], fine[1]), made=(made[0], made[1]))


@dataclass(frozen=True, kw_only=True)
class Written:
    """Prior on a tile: cross D C (m, n), data D C D' (m, m), of m acquired and n voxels.

    The tile is one of a slice.
    """

    cross: Tensor
    data: Tensor

    def mixed(self, other: "Written", share: float) -> "Written":
        """(1 - share) of this covariance, and share of another."""
        return Written(
            cross=torch.lerp(self.cross, other.cross, share),
            data=torch.lerp(self.data, other.data, share),
        )


def written(maps: Tensor, fwhm: Sequence[float], rows: Tensor, columns: Tensor) -> Written:
    """D C and D C D' of one slice or tile.

    Parameters
    ----------
    maps : (Q, X, Y), which may be negative; those of one width are taken together
    fwhm : Q full widths of the correlations (high-resolution voxels)
    rows, columns : (x, X) and (y, Y), D along either axis
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
    return Written(cross=cross.reshape(len(cross), -1), data=(data + data.T) / 2)


def reconstructions(prior: Prior, images: Tensor) -> Iterator[tuple[int, Tile, Tensor]]:
    """Conditional mean of the fluctuations of many images, slice by slice and tile by tile.

    Parameters
    ----------
    prior : slices keep their thickness
    images : (T, z, x, y) on the whole acquired grid

    Yields
    ------
    Number of the slice, tile, and (T, X, Y) of the voxels that are made of it
    """
    window = prior.window
    if window.thins:
        raise ValueError("slices that get thinner are not independent of one another")
    rows, columns, _ = window.level.down_matrices
    for z in range(window.fine[0].start, window.fine[0].stop):
        for tile in _tiles_of(window):
            own = [
                slice(s.start - w.start, s.stop - w.start)
                for s, w in zip(tile.fine, window.fine[1:], strict=True)
            ]
            maps = prior.weight[:, z - window.fine[0].start, own[0], own[1]]
            seen = images[:, z, tile.seen[0], tile.seen[1]].reshape(len(images), -1)
            if not bool(maps.any()):
                continue
            both = written(
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
    """
    x, y, z = prior.window.level.fine
    out = torch.zeros(len(images), z, x, y)
    for number, tile, made in reconstructions(prior, images):
        out[:, number, tile.made[0], tile.made[1]] = made
    return out
