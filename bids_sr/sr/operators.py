"""Resolution operators on tensors: differentiable degradations, and upsampling of acquired images.

| name | operation on the high-resolution image | source |
| --- | --- | --- |
| kspace | k-space crop, with a phase ramp that moves samples to voxel centers | gan-cpce-circle |
| multislice | k-space crop in plane, mean over the slice thickness | ours, `matrices.acquire` |
| block | mean over the low-resolution voxel | mouse-sr |
| gauss | Gaussian with the low-resolution voxel size as FWHM, sampled at its center | ours |
| trilinear | linear interpolation at the voxel centers without a filter | tv-self-sr (code) |
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor, Shape, highres_size
from bids_sr.spatial import matrices
from bids_sr.spatial.matrices import (
    affine_of_window,
    cropping_window,
    interpolation_matrix,
)
from bids_sr.sr.recipe import MULTISLICE

_MATRICES: dict[str, Callable[[int, int], NDArray[np.float64]]] = {
    "kspace": matrices.crop_matrix,
    "block": matrices.block_matrix,
    "gauss": matrices.gaussian_matrix,
    "trilinear": matrices.linear_matrix,
}
DEGRADATIONS: dict[str, tuple[str, str, str]] = {
    **{name: (name, name, name) for name in _MATRICES},
    MULTISLICE: ("kspace", "kspace", "block"),
}
"""Names of the matrices along x, y and across slices, by degradation."""


@frozen
class Degradation:
    """Separable linear operator B from a high- to a low-resolution grid; see `get_operator`.

    `shape` is the high-resolution grid with two or three axes, and `lowres_shape` the
    low-resolution grid. `window` has start and stop of the low-resolution grid along each axis, in
    high-resolution voxels; voxels outside are ignored.
    """

    name: str
    shape: tuple[int, ...]
    lowres_shape: tuple[int, ...]
    window: tuple[tuple[int, int], ...]

    def forward(self, x: Tensor) -> Tensor:
        """Return B x for images (..., *shape), on the low-resolution grid (..., *lowres_shape).

        Type and device are preserved.
        """
        ndim = len(self.shape)
        names_by_axis = DEGRADATIONS[self.name][:ndim]
        for axis, (name, m, (start, stop)) in enumerate(
            zip(names_by_axis, self.lowres_shape, self.window, strict=True), -ndim
        ):
            n = stop - start
            x = x.narrow(axis, start, n)
            if m != n:
                x = _apply_along(_get_matrix(name, n, m, x.dtype, x.device), x, axis)
        return x

    def lowres_affine(self, highres_affine: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the voxel-to-world matrix of the low-resolution grid (4 x 4, RAS+ mm).

        `highres_affine` is the matrix of the high-resolution grid. In two dimensions, the third
        axis does not change.
        """
        n_missing_axes = 3 - len(self.shape)
        window = (*self.window, *[(0, 1)] * n_missing_axes)
        shape = (*self.lowres_shape, *[1] * n_missing_axes)
        return affine_of_window(highres_affine, window, shape)


@lru_cache(maxsize=256)
def _get_matrix(name: str, n: int, m: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix of a degradation along one axis as a tensor."""
    # a cached matrix created in inference mode would prevent later backward passes
    with torch.inference_mode(False):
        return torch.tensor(np.array(_MATRICES[name](n, m)), dtype=dtype, device=device)


@lru_cache(maxsize=256)
def get_operator(
    name: str,
    shape: tuple[int, ...],
    factor: tuple[float, ...],
    lowres_shape: tuple[int, ...] | None = None,
) -> Degradation:
    """Return a degradation for a grid.

    `name` is kspace, multislice, block, gauss or trilinear. `shape` is the high-resolution grid
    with two or three axes. `factor` is the ratio of low- to high-resolution voxel size along each
    axis, a fraction with a denominator of at most 64. `lowres_shape` is a low-resolution grid that
    covers the whole high-resolution grid; the matrices then include the rounding of the factor to
    whole voxels (43.75 voxels become 44 with a factor of 1.2571). If it is None, a size that the
    factor does not divide is cropped around its center.

    Raises `KeyError` if the degradation is unknown.
    """
    if name not in DEGRADATIONS:
        raise KeyError(f"unknown degradation {name!r}; expected one of {', '.join(DEGRADATIONS)}")
    if lowres_shape is not None:
        window = tuple((0, n) for n in shape)
    else:
        window, lowres_shape = cropping_window(shape, factor)
    return Degradation(
        name=name, shape=tuple(shape), lowres_shape=tuple(lowres_shape), window=window
    )


def to_slices(volumes: Array) -> Tensor:
    """Convert images (..., X, Y, Z) to a contiguous float32 tensor (..., Z, X, Y)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(volumes, -1, -3), dtype=np.float32))


def to_volume(slices: Tensor) -> Array:
    """Convert a tensor with slices first (Z, X, Y) to an array (X, Y, Z) in CPU memory.

    If possible, the array shares the tensor's memory.
    """
    return np.moveaxis(slices.cpu().numpy(), 0, 2)


class ResolutionLevel:
    """Conversion between an acquired and a high-resolution grid with the same field of view.

    Images are tensors (..., Z, X, Y). `downsample` simulates an acquisition: k-space crop in
    plane, mean across slices. `upsample` preserves the acquired data exactly: zero filling in
    plane; across slices, a cubic spline plus the smallest correction that restores the acquired
    values. Hence, downsample(upsample(x)) is x, and x - upsample(downsample(x)) is above the
    acquired Nyquist frequency.

    `acquired_shape` is (x, y, z) and `highres_shape` (X, Y, Z). `device` and `dtype` are of
    matrices and images.
    """

    def __init__(
        self,
        acquired_shape: Shape,
        highres_shape: Shape,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.acquired_shape, self.highres_shape = acquired_shape, highres_shape
        in_plane = [
            (matrices.crop_matrix(n, m), matrices.fill_matrix(m, n))
            for m, n in zip(acquired_shape[:2], highres_shape[:2], strict=True)
        ]
        # matrices along x, along y, and across slices
        matrix_pairs = [*in_plane, _make_slice_matrices(acquired_shape[2], highres_shape[2])]
        to_tensor = partial(torch.tensor, dtype=dtype, device=device)
        with torch.inference_mode(False):  # see `_get_matrix`
            self.down_matrices = [to_tensor(down) for down, _ in matrix_pairs]
            self._up_matrices = [to_tensor(up) for _, up in matrix_pairs]
            self.band_matrices = [to_tensor(up @ down) for down, up in matrix_pairs]

    def downsample(self, highres: Tensor) -> Tensor:
        """Downsample images to the acquired grid, (..., Z, X, Y) -> (..., z, x, y)."""
        return _apply_matrices(highres, *self.down_matrices)

    def upsample(self, lowres: Tensor) -> Tensor:
        """Upsample images to the high-resolution grid, (..., z, x, y) -> (..., Z, X, Y)."""
        return _apply_matrices(lowres, *self._up_matrices)

    def upsample_slices(self, lowres: Tensor) -> Tensor:
        """Upsample acquired images only across slices, (..., z, x, y) -> (..., Z, x, y)."""
        if self.acquired_shape[2] == self.highres_shape[2]:
            return lowres
        return _apply_along(self._up_matrices[2], lowres, -3)

    def restrict_to_plane(self, slices: int | None = None) -> "ResolutionLevel":
        """Return the conversion restricted to the in-plane axes.

        `slices` is the number of slices of both grids; by default, the number on the
        high-resolution grid.
        """
        count = self.highres_shape[2] if slices is None else slices
        return ResolutionLevel((*self.acquired_shape[:2], count), (*self.highres_shape[:2], count))

    def select_acquired_band(self, highres: Tensor) -> Tensor:
        """Return the part of high-resolution images within the acquired band (..., Z, X, Y).

        The images are downsampled and upsampled with one matrix product per axis.
        """
        return _apply_matrices(highres, *self.band_matrices)

    def select_above_nyquist(self, highres: Tensor) -> Tensor:
        """Return the part of high-resolution images above the acquired Nyquist frequency."""
        return highres - self.upsample(self.downsample(highres))


@lru_cache(maxsize=32)
def _make_slice_matrices(m: int, n: int) -> tuple[Array, Array]:
    """Return matrices across slices: downsampling (m x n) and upsampling (n x m)."""
    down = matrices.block_matrix(n, m)
    spline = matrices.bspline_matrix(m, n)
    return down, spline + np.linalg.pinv(down) @ (np.eye(m) - down @ spline)


def make_plane_conversion(slices: Tensor, factor: tuple[float, float]) -> ResolutionLevel:
    """Return the in-plane conversion for acquired slices (..., x, y).

    The conversion has the type and the device of the slices.
    """
    x, y = slices.shape[-2:]
    return _get_plane_level((x, y, 1), factor, slices.dtype, slices.device)


@lru_cache(maxsize=64)
def _get_plane_level(
    acquired_shape: Shape, factor: tuple[float, float], dtype: torch.dtype, device: torch.device
) -> ResolutionLevel:
    """Return the cached conversion for single slices."""
    x, y = (highres_size(m, f) for m, f in zip(acquired_shape[:2], factor, strict=True))
    return ResolutionLevel(acquired_shape, (x, y, 1), device, dtype)


def upsample_slices(lowres: Tensor, factor: tuple[float, float], name: str | None) -> Tensor:
    """Upsample slices (N, C, x, y) with an interpolation, such as ``bspline``.

    If `name` is None, the slices are returned unchanged.
    """
    if name is None:
        return lowres
    sizes = [highres_size(m, f) for m, f in zip(lowres.shape[-2:], factor, strict=True)]
    return interpolate(name, lowres, sizes)


def interpolate(name: str, image: Tensor, sizes: Sequence[int]) -> Tensor:
    """Interpolate images (..., x, y) or (..., z, x, y) to given sizes.

    `name` is an interpolation such as ``bspline``. `sizes` are the new numbers of voxels along x,
    y and, optionally, across slices.
    """
    axis_matrices = (
        torch.tensor(interpolation_matrix(name, image.shape[dim], n, axis), dtype=image.dtype)
        for axis, (dim, n) in enumerate(zip((-2, -1, -3), sizes, strict=False))
    )
    return _apply_matrices(image, *(matrix.to(image.device) for matrix in axis_matrices))


def _apply_matrices(
    image: Tensor, rows: Tensor, columns: Tensor, across: Tensor | None = None
) -> Tensor:
    """Apply matrices along the last two axes (x, y), and along the slice axis before them.

    `image` is (..., x, y) or (..., z, x, y). `rows` is the matrix along x (X, x), `columns` the
    matrix along y (Y, y), and `across` the matrix across slices (Z, z). If `across` is None or
    square, slices are not changed.
    """
    resized = rows @ image @ columns.T
    if across is None or across.shape[0] == across.shape[1]:
        return resized
    return _apply_along(across, resized, -3)


def _apply_along(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """Apply a matrix (out, in) along one axis, counted from the end.

    Subsequent axes are flattened for the product.
    """
    if axis == -1:
        return x @ matrix.T
    trailing_shape = x.shape[axis + 1 :]
    return (matrix @ x.flatten(axis + 1)).unflatten(-1, trailing_shape)


def level_above(shape: Sequence[int], factor: Factor) -> ResolutionLevel:
    """Return the conversion between an acquired grid and its high-resolution grid."""
    size_x, size_y, size_z = shape
    x, y, z = (highres_size(m, f) for m, f in zip(shape, factor, strict=True))
    return ResolutionLevel((size_x, size_y, size_z), (x, y, z))


def level_below(
    shape: Sequence[int], factor: Factor
) -> tuple[ResolutionLevel, tuple[slice, slice, slice]]:
    """Return the conversion to a grid with lower resolution, and its window of the acquired grid.

    The acquired grid is cropped to the window that the factor divides. The window is the
    high-resolution grid of the conversion. ResolutionError is raised if an axis is too short.
    """
    window, (x, y, z) = cropping_window(shape, factor)
    range_x, range_y, range_z = (slice(start, stop) for start, stop in window)
    size_x, size_y, size_z = (stop - start for start, stop in window)
    return ResolutionLevel((x, y, z), (size_x, size_y, size_z)), (range_x, range_y, range_z)
