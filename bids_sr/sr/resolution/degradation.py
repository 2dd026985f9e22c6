"""How a scanner, or a simulation of one, turns a fine image into a coarse one.

Every operator here is separable and linear, so it is one small real matrix per axis. That makes three things cheap:
the adjoint is the transposed matrices, a thousand slices cost one matrix product, and what the operator does to the
grid can be read off: sample i of the coarse grid lies at ``(n/m) * i + (n/m - 1)/2`` of the fine one, which leaves the
outer edges of the field of view where they were.

A matrix size n that a factor does not divide is cropped first, to the largest n' <= n for which n'/factor is whole;
half of the surplus goes from the start (rounded down), the rest from the end, and the affine follows.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.transforms import resized_affine

Array = NDArray
Factor = tuple[float, float, float]


class ResolutionError(ValueError):
    """A factor or a grid that the operator cannot serve."""


def check_factor(factor: Factor) -> Factor:
    """The factor as three floats >= 1 (coarse voxel over fine voxel); raises `ResolutionError` otherwise."""
    out = tuple(float(f) for f in factor)
    if len(out) != 3 or not all(np.isfinite(out)) or min(out) < 1:
        raise ResolutionError(
            f"a factor is three numbers of at least 1 (low- over high-resolution voxel), not {factor}"
        )
    return out[0], out[1], out[2]


def coarse_size(n: int, factor: float) -> tuple[int, int]:
    """(cropped fine size, coarse size) of an axis of n voxels: the largest n' <= n for which n'/factor is whole."""
    ratio = Fraction(factor).limit_denominator(64)
    m = n * ratio.denominator // ratio.numerator
    while m > 0 and (m * ratio.numerator) % ratio.denominator:
        m -= 1
    if m < 1:
        raise ResolutionError(f"{n} voxels cannot be brought down by a factor of {factor:g}")
    return m * ratio.numerator // ratio.denominator, m


def fine_size(m: int, factor: float) -> int:
    """Voxels of the fine grid over the same field of view as m coarse ones (halves go up)."""
    return int(np.floor(m * factor + 0.5))


@lru_cache(maxsize=64)
def crop_matrix(n: int, m: int) -> Array:
    """Real m x n matrix that keeps the m central samples of k-space; the m centers lie inside the same edges.

    A scanner samples k = -m/2 … m/2 - 1 (even m): of the pair at the Nyquist limit it sees one member only. For a
    real image the result is then the real part, which is what this matrix gives; `crop_matrix_complex` keeps all.
    """
    out = np.ascontiguousarray(crop_matrix_complex(n, m).real)
    out.setflags(write=False)
    return out


@lru_cache(maxsize=64)
def crop_matrix_complex(n: int, m: int) -> Array:
    """Complex m x n matrix of the k-space crop, for images that have a phase.

    The ramp moves the samples from 0, n/m, 2n/m …, where a cropped transform puts them, to the coarse centers.
    """
    if not 1 <= m <= n:
        raise ResolutionError(f"k-space of {n} samples cannot be cropped to {m}")
    k = np.arange(-(m // 2), m - m // 2)
    centers = (np.arange(m) + 0.5) * n / m - 0.5
    out = np.exp(2j * np.pi * k * (centers[:, None, None] - np.arange(n)[:, None]) / n).sum(-1) / n
    out.setflags(write=False)
    return out


@lru_cache(maxsize=64)
def fill_matrix(m: int, n: int) -> Array:
    """Real n x m matrix of k-space zero filling: pseudo-inverse of `crop_matrix`, so crop(fill(x)) is x exactly.

    Below the Nyquist limit it is the usual sinc interpolation. At the limit (even m) one real number was measured of
    a complex pair; the pseudo-inverse gives both members of the pair what the measurement says.
    """
    out = np.linalg.pinv(crop_matrix(n, m)) if m < n else np.eye(n)
    out.setflags(write=False)
    return out


def block_matrix(n: int, m: int) -> Array:
    """m x n matrix of means over the coarse voxels; a fine voxel that two coarse ones share counts by its share."""
    edges = np.arange(m + 1) * n / m
    low = np.maximum(edges[:-1, None], np.arange(n)[None])
    high = np.minimum(edges[1:, None], np.arange(n)[None] + 1)
    return np.clip(high - low, 0, None) * m / n


def gaussian_matrix(n: int, m: int) -> Array:
    """m x n matrix: Gaussian with the coarse voxel as full width at half maximum, sampled at the coarse centers."""
    centers = (np.arange(m) + 0.5) * n / m - 0.5
    sigma = n / m / FWHM_PER_SIGMA
    out = np.exp(-0.5 * ((np.arange(n)[None] - centers[:, None]) / sigma) ** 2)
    return out / out.sum(1, keepdims=True)


def apply_along(matrix: Array, data: Array, axis: int) -> Array:
    """Matrix (out, in) applied along one axis; real float32 stays float32."""
    if not np.iscomplexobj(data) and not np.iscomplexobj(matrix):
        matrix = matrix.astype(data.dtype if data.dtype.kind == "f" else np.float64, copy=False)
    if axis == data.ndim - 1:
        return data @ matrix.T
    return np.moveaxis(np.tensordot(matrix, data, (1, axis)), 0, axis)


def downsample(hr: Array, lr_shape: tuple[int, ...]) -> Array:
    """What an acquisition of this matrix sees of a volume: in-plane k-space crop, and the mean across slices."""
    out = hr
    for axis, m in enumerate(lr_shape[:3]):
        n = hr.shape[axis]
        if n != m:
            out = apply_along(crop_matrix(n, m) if axis < 2 else block_matrix(n, m), out, axis)
    return out


def _center_crop(data: Array, affine: Array, factor: Factor) -> tuple[Array, Array, tuple[int, int, int]]:
    """Fine image cropped to what the factors divide, its affine, and the coarse shape."""
    affine = np.array(affine, dtype=float)
    sizes = [coarse_size(n, f) if f != 1 else (n, n) for n, f in zip(data.shape[:3], factor, strict=True)]
    start = [(n - size[0]) // 2 for n, size in zip(data.shape[:3], sizes, strict=True)]
    window = tuple(slice(s, s + size[0]) for s, size in zip(start, sizes, strict=True))
    affine[:3, 3] += affine[:3, :3] @ start
    return data[window], affine, (sizes[0][1], sizes[1][1], sizes[2][1])


def _degrade(hr: Array, hr_affine: Array, factor: Factor, matrix: Callable[[int, int], Array]) -> tuple[Array, Array]:
    hr = np.asarray(hr)
    if hr.ndim not in (3, 4):
        raise ResolutionError(f"an image has 3 or 4 axes, not {hr.ndim}")
    out, affine, shape = _center_crop(hr, hr_affine, check_factor(factor))
    fine = out.shape
    for axis, (n, m) in enumerate(zip(fine[:3], shape, strict=True)):
        out = apply_along(matrix(n, m), out, axis) if n != m else out
    return np.ascontiguousarray(out), resized_affine(affine, fine, shape)


def kspace_crop(hr: Array, hr_affine: Array, *, factor: Factor, magnitude: bool = False) -> tuple[Array, Array]:
    """Keep the center of k-space along the axes whose factor is not 1.

    Parameters
    ----------
    hr : (X, Y, Z[, T]), real or complex; a complex image stays complex
    hr_affine : voxel -> RAS mm
    factor : coarse over fine voxel size, one number >= 1 for each spatial axis
    magnitude : return the magnitude, as a scanner does

    Returns
    -------
    lr, lr_affine : coarse image and its affine; the outer edges of the (cropped) field of view stay

    Raises
    ------
    ResolutionError : a factor below 1, or a matrix that leaves no voxel

    Source: gan-cpce-circle, section "Low-resolution images" (central k-space kept); the half-voxel ramp is ours.
    """
    matrix = crop_matrix_complex if np.iscomplexobj(hr) else crop_matrix
    lr, affine = _degrade(hr, hr_affine, factor, matrix)
    return (np.abs(lr) if magnitude else lr), affine


def kspace_crop_adjoint(lr: Array, hr_shape: tuple[int, ...], *, factor: Factor) -> Array:
    """Adjoint B' of `kspace_crop` for real images: <B x, y> = <x, B' y>; voxels that the crop dropped get zero."""
    factor = check_factor(factor)
    out = np.asarray(lr)
    for axis, (n, f) in enumerate(zip(hr_shape[:3], factor, strict=True)):
        size, m = coarse_size(n, f) if f != 1 else (n, n)
        if m != lr.shape[axis]:
            raise ResolutionError(f"axis {axis}: {lr.shape[axis]} voxels are not {n} brought down by {f:g}")
        if size != m:
            out = apply_along(crop_matrix(size, m).T, out, axis)
        start = (n - size) // 2
        pad = [(0, 0)] * out.ndim
        pad[axis] = (start, n - size - start)
        out = np.pad(out, pad) if n != size else out
    return out


def block_mean(hr: Array, hr_affine: Array, *, factor: Factor) -> tuple[Array, Array]:
    """Average over the coarse voxels; arguments and result as in `kspace_crop`. Source: mouse-sr, "block averaging"."""
    return _degrade(hr, hr_affine, factor, block_matrix)


def gaussian_decimate(hr: Array, hr_affine: Array, *, factor: Factor) -> tuple[Array, Array]:
    """Blur with a Gaussian as wide as the coarse voxel (FWHM), then sample its center; arguments as in `kspace_crop`.

    Source: tv-self-sr, operator B (blur, then decimate); the width is ours.
    """
    return _degrade(hr, hr_affine, factor, gaussian_matrix)
