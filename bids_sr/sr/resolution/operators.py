"""Degradations as linear operators on tensors: what a loss needs of them is forward, adjoint and where they put things.

The matrices are those of `bids_sr.sr.resolution.degradation` and `bids_sr.sr.resolution.interpolation`, one for each
axis; here they act on any number of leading axes, carry gradients, and know the grids on both sides.

| name | what is done to the fine image | source |
| --- | --- | --- |
| kspace | the center of k-space is kept, with the ramp that moves samples to the coarse centers | gan-cpce-circle |
| block | mean over the coarse voxel | mouse-sr |
| gauss | Gaussian as wide as the coarse voxel (FWHM), sampled at its center | tv-self-sr, "blurring and decimation" |
| trilinear | linear interpolation at the coarse centers, without a filter before it | ours, what libraries do |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.spatial.transforms import resized_affine
from bids_sr.sr.resolution.degradation import ResolutionError, block_matrix, coarse_size, crop_matrix, gaussian_matrix
from bids_sr.sr.resolution.interpolation import linear_matrix

MATRICES: dict[str, Callable[[int, int], NDArray[np.float64]]] = {
    "kspace": crop_matrix,
    "block": block_matrix,
    "gauss": gaussian_matrix,
    "trilinear": linear_matrix,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Degradation:
    """A separable linear operator B from a fine grid to a coarse one.

    Parameters
    ----------
    name : key of `MATRICES`
    factor : coarse over fine voxel size of each spatial axis, 1 where nothing changes
    shape : fine grid, two or three axes
    coarse_shape : coarse grid
    window : start and stop of each fine axis that the coarse grid covers; voxels outside are not seen

    Use `get_operator`, which works out the grids.
    """

    name: str
    factor: tuple[float, ...]
    shape: tuple[int, ...]
    coarse_shape: tuple[int, ...]
    window: tuple[tuple[int, int], ...]

    def forward(self, x: Tensor) -> Tensor:
        """B x: (..., *shape) -> (..., *coarse_shape), in the tensor's type and on its device."""
        self._check(x, self.shape)
        for axis, m, (start, stop) in self._axes():
            x = x.narrow(axis, start, stop - start)
            if m != stop - start:
                x = _along(_matrix(self.name, stop - start, m, x.dtype, x.device), x, axis)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """B' y: (..., *coarse_shape) -> (..., *shape), with <B x, y> = <x, B' y>; zero where B does not look."""
        self._check(y, self.coarse_shape)
        for axis, m, (start, stop) in self._axes():
            n = self.shape[axis]
            if m != stop - start:
                y = _along(_matrix(self.name, stop - start, m, y.dtype, y.device).T, y, axis)
            if n != stop - start:
                pad = [0, 0] * (-axis - 1) + [start, n - stop]
                y = torch.nn.functional.pad(y, pad)
        return y

    def coarse_affine(self, fine_affine: NDArray[np.floating]) -> NDArray[np.float64]:
        """Voxel -> mm of the coarse grid, from that of the fine grid (4x4): the window's outer edges stay.

        In two dimensions the third axis keeps its voxels.
        """
        seen = [stop - start for start, stop in self.window]
        third = [1] * (3 - len(self.shape))
        moved = np.array(fine_affine, dtype=np.float64)
        moved[:3, 3] += moved[:3, :3] @ [*(start for start, _ in self.window), *(0 for _ in third)]
        return resized_affine(moved, (*seen, *third), (*self.coarse_shape, *third))

    def _axes(self) -> list[tuple[int, int, tuple[int, int]]]:
        """(axis counted from the end, coarse size, window) of every spatial axis."""
        count = len(self.shape)
        return [(k - count, m, w) for k, (m, w) in enumerate(zip(self.coarse_shape, self.window, strict=True))]

    def _check(self, x: Tensor, wanted: tuple[int, ...]) -> None:
        if tuple(x.shape[-len(wanted) :]) != wanted:
            raise ResolutionError(f"{self.name} was made for {wanted}; the image is {tuple(x.shape)}")


@lru_cache(maxsize=256)
def get_operator(
    name: str, shape: tuple[int, ...], factor: tuple[float, ...], coarse_shape: tuple[int, ...] | None = None
) -> Degradation:
    """The operator of that name on a grid.

    Parameters
    ----------
    name : kspace, block, gauss or trilinear
    shape : (X, Y) or (X, Y, Z) of the fine grid
    factor : coarse over fine voxel size of each axis: any rational number of at least 1 (denominator up to 64)
    coarse_shape : the coarse grid, where it is given: it then covers the whole fine grid, and the factor's rounding to
        whole voxels is in the matrices (43.75 voxels become 44 by a factor of 1.2571). Otherwise a fine size that the
        factor does not divide is cropped around its center, as `bids_sr.sr.resolution.degradation` says

    Raises
    ------
    KeyError : no such operator
    ResolutionError : a factor below 1, axes that do not match, a coarse grid that is finer or leaves no voxel
    """
    if name not in MATRICES:
        raise KeyError(f"no degradation named {name!r}; there are: {', '.join(MATRICES)}")
    if len(shape) not in (2, 3) or len(factor) != len(shape):
        raise ResolutionError(f"a degradation needs one factor for each of two or three axes: {shape}, {factor}")
    if not all(np.isfinite(factor)) or min(factor) < 1:
        raise ResolutionError(f"factors are numbers of at least 1 (low- over high-resolution voxel), not {factor}")
    if coarse_shape is not None:
        if len(coarse_shape) != len(shape) or any(not 1 <= m <= n for m, n in zip(coarse_shape, shape, strict=True)):
            raise ResolutionError(f"{coarse_shape} is no coarse grid for {shape}")
        window: Sequence[tuple[int, int]] = [(0, n) for n in shape]
        coarse: Sequence[int] = coarse_shape
    else:
        sizes = [coarse_size(n, f) if f != 1 else (n, n) for n, f in zip(shape, factor, strict=True)]
        starts = [(n - seen) // 2 for n, (seen, _) in zip(shape, sizes, strict=True)]
        window = [(start, start + seen) for start, (seen, _) in zip(starts, sizes, strict=True)]
        coarse = [m for _, m in sizes]
    return Degradation(
        name=name, factor=tuple(map(float, factor)), shape=tuple(shape), coarse_shape=tuple(coarse),
        window=tuple(window),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _matrix(name: str, n: int, m: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # made in inference mode, a kept matrix would refuse every later backward pass
    with torch.inference_mode(False):
        return torch.tensor(np.array(MATRICES[name](n, m)), dtype=dtype, device=device)


def _along(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """Matrix (out, in) applied along one axis, counted from the end; the axes behind it are one for the product."""
    if axis == -1:
        return x @ matrix.T
    behind = x.shape[axis + 1 :]
    return (matrix @ x.flatten(axis + 1)).unflatten(-1, behind)
