"""Two grids over one field of view, and the way down and up between them.

`down` is what an acquisition of the coarser matrix would have seen: central k-space in-plane, the mean across slices.
`up` is plain interpolation that gives back exactly what went in: zero filling in-plane; across slices a cubic spline
plus the smallest correction that restores the coarse values. So down(up(x)) is x, and x - up(down(x)) is what lies
beyond the measured band.

Volumes here are tensors (..., Z, X, Y): slices first, as the network and the matrix products want them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.sr.resolution.degradation import Factor, block_matrix, coarse_size, crop_matrix, fill_matrix, fine_size
from bids_sr.sr.resolution.interpolation import bspline_matrix

Array = NDArray[Any]
Shape = tuple[int, int, int]


@lru_cache(maxsize=32)
def _across(m: int, n: int) -> tuple[Array, Array]:
    """(down m x n, up n x m) across slices."""
    down, spline = block_matrix(n, m), bspline_matrix(m, n)
    return down, spline + np.linalg.pinv(down) @ (np.eye(m) - down @ spline)


def to_slices(volume: Array) -> Tensor:
    """(X, Y, Z) to a contiguous float32 tensor (Z, X, Y)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, 2, 0), dtype=np.float32))


def to_volume(slices: Tensor) -> Array:
    """(Z, X, Y) to an array (X, Y, Z) that shares its memory where it can."""
    return np.moveaxis(slices.cpu().numpy(), 0, 2)


class Level:
    """The step between a coarse and a fine grid of one field of view.

    Parameters
    ----------
    coarse, fine : shapes (x, y, z) and (X, Y, Z)
    device : of the matrices
    """

    def __init__(
        self, coarse: Shape, fine: Shape, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.coarse, self.fine = coarse, fine
        pairs = [(crop_matrix(n, m), fill_matrix(m, n)) for m, n in zip(coarse[:2], fine[:2], strict=True)]
        pairs.append(_across(coarse[2], fine[2]))
        both = [(down, up, up @ down) for down, up in pairs]
        with torch.inference_mode(False):  # made in that mode, kept matrices would refuse every later backward pass
            self._down, self._up, self._low = (
                [torch.tensor(each[k], dtype=dtype, device=device) for each in both] for k in range(3)
            )

    @property
    def down_matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of `down`, along x, y and across slices: each coarse samples by fine samples."""
        rows, columns, across = self._down
        return rows, columns, across

    def _apply(self, matrices: list[Tensor], image: Tensor) -> Tensor:
        rows, columns, across = matrices
        out = rows @ image @ columns.T
        if self.coarse[2] != self.fine[2]:
            flat = out.reshape(*out.shape[:-2], -1)
            out = (across @ flat).reshape(*flat.shape[:-2], across.shape[0], *out.shape[-2:])
        return out

    def down(self, fine: Tensor) -> Tensor:
        """(..., Z, X, Y) to (..., z, x, y)."""
        return self._apply(self._down, fine)

    def up(self, coarse: Tensor) -> Tensor:
        """(..., z, x, y) to (..., Z, X, Y)."""
        return self._apply(self._up, coarse)

    def low(self, fine: Tensor) -> Tensor:
        """The part of a high-resolution image that the other grid holds: up(down(fine)), in one product an axis."""
        return self._apply(self._low, fine)

    def beyond(self, fine: Tensor) -> Tensor:
        """The part of a fine image that the coarse grid does not hold."""
        return fine - self.up(self.down(fine))


@lru_cache(maxsize=64)
def plane_level(
    size: tuple[int, int], factor: tuple[float, float], dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Level:  # fmt: skip
    """In-plane step of slices (..., x, y) of this size, as k-space crop and zero filling; made once."""
    x, y = (fine_size(m, f) for m, f in zip(size, factor, strict=True))
    return Level((*size, 1), (x, y, 1), device, dtype)


def level_of(slices: Tensor, factor: tuple[float, float]) -> Level:
    """`plane_level` of acquired slices, in their type and on their device."""
    return plane_level((slices.shape[-2], slices.shape[-1]), factor, slices.dtype, slices.device)


def level_above(shape: Shape, factor: Factor, device: str = "cpu") -> Level:
    """From an acquired grid to the wanted one."""
    fine = tuple(fine_size(m, f) for m, f in zip(shape, factor, strict=True))
    return Level(shape, (fine[0], fine[1], fine[2]), device)


def level_below(shape: Shape, factor: Factor, device: str = "cpu") -> tuple[Level, tuple[slice, slice, slice]]:
    """From an acquired grid to one coarser by the factor, and the window of the acquired grid that the factor divides.

    Raises
    ------
    ResolutionError : an axis too short to be brought down
    """
    sizes = [coarse_size(n, f) if f != 1 else (n, n) for n, f in zip(shape, factor, strict=True)]
    starts = [(n - size[0]) // 2 for n, size in zip(shape, sizes, strict=True)]
    window = tuple(slice(s, s + size[0]) for s, size in zip(starts, sizes, strict=True))
    coarse = (sizes[0][1], sizes[1][1], sizes[2][1])
    fine = (sizes[0][0], sizes[1][0], sizes[2][0])
    return Level(coarse, fine, device), (window[0], window[1], window[2])
