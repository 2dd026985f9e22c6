"""Resolution operators on tensors: differentiable degradations, and an acquisition's upsampling.

| name | what is done to the high-resolution image | source |
| --- | --- | --- |
| kspace | center of k-space, with the ramp that moves samples to voxel centers | gan-cpce-circle |
| multislice | k-space cropped in plane, mean over the slice across | ours, `matrices.acquire` |
| block | mean over the low-resolution voxel | mouse-sr |
| gauss | Gaussian as wide as the low-resolution voxel (FWHM), sampled at its center | tv-self-sr |
| trilinear | linear interpolation at the centers, no filter before it | ours, what libraries do |
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor, Shape
from bids_sr.sr import matrices
from bids_sr.sr.matrices import (
    ResolutionError,
    divided,
    highres_size,
    matrix_for,
    windowed_affine,
)
from bids_sr.sr.recipe import MULTISLICE

_MATRICES: dict[str, Callable[[int, int], NDArray[np.float64]]] = {
    "kspace": matrices.crop_matrix,
    "block": matrices.block_matrix,
    "gauss": matrices.gaussian_matrix,
    "trilinear": matrices.linear_matrix,
}
_DEGRADATIONS: dict[str, tuple[str, str, str]] = {
    **{name: (name, name, name) for name in _MATRICES},
    MULTISLICE: ("kspace", "kspace", "block"),
}
"""Degradation → names of the matrices along x, y and across slices."""


def matrices_along(name: str) -> tuple[str, str, str]:
    """Return what a degradation does along x, y and across slices, as names of its matrices."""
    return _DEGRADATIONS[name]


@frozen
class Degradation:
    """Separable linear operator B from a high- to a low-resolution grid; see `get_operator`.

    `lowres_shape`: numbers of low-resolution voxels along the two or three axes. `window`: start
    and stop of each axis that the low-resolution grid covers; voxels outside are not seen.
    """

    name: str
    shape: tuple[int, ...]
    lowres_shape: tuple[int, ...]
    window: tuple[tuple[int, int], ...]

    def forward(self, x: Tensor) -> Tensor:
        """B x: (..., *shape) -> (..., *lowres_shape), in the tensor's type and on its device.

        `x`: images on the high-resolution grid (..., *shape).
        """
        count = len(self.shape)
        if tuple(x.shape[-count:]) != self.shape:
            raise ResolutionError(
                f"the degradation {self.name} expects an image of shape {self.shape}, got "
                f"{tuple(x.shape)}"
            )
        kinds = _DEGRADATIONS[self.name][:count]
        for axis, (kind, m, (start, stop)) in enumerate(
            zip(kinds, self.lowres_shape, self.window, strict=True), -count
        ):
            x = x.narrow(axis, start, stop - start)
            if m != stop - start:
                x = _along(_matrix(kind, stop - start, m, x.dtype, x.device), x, axis)
        return x

    def lowres_affine(self, fine_affine: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the voxel -> mm affine of the low-resolution grid.

        In two dimensions the third axis keeps its voxels.

        `fine_affine`: voxel-to-world matrix of the high-resolution grid (4 x 4, RAS+ mm).
        """
        third = 3 - len(self.shape)
        return windowed_affine(
            fine_affine, (*self.window, *[(0, 1)] * third), (*self.lowres_shape, *[1] * third)
        )


@lru_cache(maxsize=256)
def get_operator(
    name: str,
    shape: tuple[int, ...],
    factor: tuple[float, ...],
    lowres_shape: tuple[int, ...] | None = None,
) -> Degradation:
    """The operator of that name on a grid.

    `name`: kspace, multislice, block, gauss or trilinear. `factor`: rational, of denominators up
    to 64. `lowres_shape`: low-resolution grid that covers the whole other one, with the factor's
    rounding to whole voxels in the matrices (43.75 voxels become 44 by a factor of 1.2571). Where
    None, a size that the factor does not divide is cropped around its center.
    """
    if name not in _DEGRADATIONS:
        raise KeyError(f"unknown degradation {name!r}; expected one of {', '.join(_DEGRADATIONS)}")
    if len(shape) not in (2, 3) or len(factor) != len(shape):
        raise ResolutionError(
            "expected a grid with two or three axes and one factor per axis, got shape "
            f"{shape} and factor {factor}"
        )
    if not all(np.isfinite(factor)) or min(factor) < 1:
        raise ResolutionError(
            "super-resolution factors must be at least 1 (low-resolution voxel size divided "
            f"by high-resolution voxel size), got {factor}"
        )
    if lowres_shape is not None:
        if len(lowres_shape) != len(shape) or any(
            not 1 <= m <= n for m, n in zip(lowres_shape, shape, strict=True)
        ):
            raise ResolutionError(
                f"the low-resolution grid {lowres_shape} must not have more voxels along any "
                f"axis than the high-resolution grid {shape}"
            )
        window, coarse = tuple((0, n) for n in shape), tuple(lowres_shape)
    else:
        window, coarse = divided(shape, factor)
    return Degradation(name=name, shape=tuple(shape), lowres_shape=coarse, window=window)


@lru_cache(maxsize=256)
def _matrix(name: str, n: int, m: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # made in inference mode, a kept matrix would refuse every later backward pass
    with torch.inference_mode(False):
        return torch.tensor(np.array(_MATRICES[name](n, m)), dtype=dtype, device=device)


def _along(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """Apply a matrix (out, in) along one axis, counted from the end.

    The axes behind it are taken as one for the product.
    """
    if axis == -1:
        return x @ matrix.T
    behind = x.shape[axis + 1 :]
    return (matrix @ x.flatten(axis + 1)).unflatten(-1, behind)


def _apply_matrices(
    image: Tensor, rows: Tensor, columns: Tensor, across: Tensor | None = None
) -> Tensor:
    """Apply matrices along the last two axes (x, y), and along that of the slices before them.

    Slices are left alone where their number stays.

    `image`: images (..., x, y), with slices before these axes if there are any. `columns`: matrix
    along the last axis (Y, y). `across`: matrix across slices (Z, z); None or a square one changes
    none.
    """
    out = rows @ image @ columns.T
    keeps = across is None or across.shape[0] == across.shape[1]
    return out if across is None or keeps else _along(across, out, -3)


@lru_cache(maxsize=32)
def _across(m: int, n: int) -> tuple[Array, Array]:
    """(down m x n, up n x m) across slices."""
    down = matrices.block_matrix(n, m)
    spline = matrices.bspline_matrix(m, n)
    return down, spline + np.linalg.pinv(down) @ (np.eye(m) - down @ spline)


def to_slices(volume: Array) -> Tensor:
    """Return (X, Y, Z) to a contiguous float32 tensor (Z, X, Y).

    `volume`: image on any grid (X, Y, Z). Same values in float32, slices first (Z, X, Y).
    """
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, 2, 0), dtype=np.float32))


def to_volume(slices: Tensor) -> Array:
    """Return (Z, X, Y) to an array (X, Y, Z) that shares its memory where it can.

    `slices`: image with slices first, on any device; the array is in the CPU's memory.
    """
    return np.moveaxis(slices.cpu().numpy(), 0, 2)


class Level:
    """Step between the two grids of one field of view, for tensors (..., Z, X, Y).

    One grid is the acquired one, the other the high-resolution one.

    `down` is what an acquisition of the acquired matrix sees: central k-space in-plane, the mean
    across slices. `up` gives back exactly what went in: zero filling in-plane; across slices a
    cubic spline plus the smallest correction that restores the acquired values. So down(up(x)) is
    x, and x - up(down(x)) lies beyond the measured band.

    `coarse`, `fine`: shapes (x, y, z) and (X, Y, Z); `device`, `dtype`: of the
    matrices, and of images.
    """

    def __init__(
        self,
        coarse: Shape,
        fine: Shape,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.coarse, self.fine = coarse, fine
        pairs = [
            (matrices.crop_matrix(n, m), matrices.fill_matrix(m, n))
            for m, n in zip(coarse[:2], fine[:2], strict=True)
        ]
        both = [(down, up, up @ down) for down, up in (*pairs, _across(coarse[2], fine[2]))]
        with torch.inference_mode(False):  # as in `_matrix`
            self.down_matrices, self._up, self.low_matrices = (  # along x, y and across slices
                [torch.tensor(each[k], dtype=dtype, device=device) for each in both]
                for k in range(3)
            )

    def down(self, fine: Tensor) -> Tensor:
        """Return (..., Z, X, Y) to (..., z, x, y).

        `fine`: images on the high-resolution grid, which are brought to the acquired one.
        """
        return _apply_matrices(fine, *self.down_matrices)

    def up(self, coarse: Tensor) -> Tensor:
        """Return (..., z, x, y) to (..., Z, X, Y).

        `coarse`: images on the acquired grid, which are brought to the high-resolution one.
        """
        return _apply_matrices(coarse, *self._up)

    def across(self, coarse: Tensor) -> Tensor:
        """Return (..., z, x, y) with as many slices as the high-resolution grid has.

        `coarse`: images on the acquired grid, whose matrix in plane stays (..., Z, x, y).
        """
        return coarse if self.coarse[2] == self.fine[2] else _along(self._up[2], coarse, -3)

    def in_plane(self, slices: int | None = None) -> "Level":
        """Return the step in plane alone.

        `slices`: number of slices of both grids; None: that of the high-resolution grid.
        """
        count = self.fine[2] if slices is None else slices
        return Level((*self.coarse[:2], count), (*self.fine[:2], count))

    def low(self, fine: Tensor) -> Tensor:
        """Return up(down(fine)), in one product an axis.

        `fine`: images on the high-resolution grid (..., Z, X, Y). Part within the acquired band,
        of the same shape.
        """
        return _apply_matrices(fine, *self.low_matrices)

    def beyond(self, fine: Tensor) -> Tensor:
        """The part of a high-resolution image beyond the acquired band.

        `fine`: images on the high-resolution grid (..., Z, X, Y). Difference from what an
        acquisition and zero filling leave, of the same shape.
        """
        return fine - self.up(self.down(fine))


@lru_cache(maxsize=64)
def _plane_level(
    coarse: Shape, factor: tuple[float, float], dtype: torch.dtype, device: torch.device
) -> Level:
    x, y = (highres_size(m, f) for m, f in zip(coarse[:2], factor, strict=True))
    return Level(coarse, (x, y, 1), device, dtype)


def level_of(slices: Tensor, factor: tuple[float, float]) -> Level:
    """In-plane step of acquired slices (..., x, y), in their type and on their device."""
    x, y = slices.shape[-2:]
    return _plane_level((x, y, 1), factor, slices.dtype, slices.device)


def upsample_slices(lowres: Tensor, factor: tuple[float, float], name: str | None) -> Tensor:
    """Upsample (N, C, x, y) by the named interpolation; None leaves it as it is.

    `lowres`: slices on the acquired grid (N, C, x, y). `name`: name of the interpolation, such as
    ``bspline``; None for none.
    """
    if name is None:
        return lowres
    sizes = [highres_size(m, f) for m, f in zip(lowres.shape[-2:], factor, strict=True)]
    return interpolate(name, lowres, sizes)


def interpolate(name: str, image: Tensor, sizes: Sequence[int]) -> Tensor:
    """Interpolate (..., [z,] x, y) to some sizes (X, Y[, Z]) by the named matrices.

    `image`: images (..., x, y), with slices before these axes if there are any. `sizes`: numbers
    of voxels wanted along x, y and, if given, across slices.
    """
    made = (
        torch.tensor(matrix_for(name, image.shape[dim], n, axis), dtype=image.dtype)
        for axis, (dim, n) in enumerate(zip((-2, -1, -3), sizes, strict=False))
    )
    return _apply_matrices(image, *(each.to(image.device) for each in made))


def level_above(shape: Sequence[int], factor: Factor) -> Level:
    """From an acquired grid to the wanted one."""
    a, b, c = shape
    x, y, z = (highres_size(m, f) for m, f in zip(shape, factor, strict=True))
    return Level((a, b, c), (x, y, z))


def level_below(shape: Sequence[int], factor: Factor) -> tuple[Level, tuple[slice, slice, slice]]:
    """Return the step to a grid lower by the factor, and the window that the factor divides.

    The window is one of the acquired grid, from which the step goes down.

    Its shape is the fine grid of the step. `ResolutionError`: an axis too short.
    """
    window, (x, y, z) = divided(shape, factor)
    (a, b), (c, d), (e, f) = window
    return Level((x, y, z), (b - a, d - c, f - e)), (slice(a, b), slice(c, d), slice(e, f))
