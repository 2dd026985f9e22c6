"""Degradations to low resolution and interpolations to high resolution, one matrix an axis.

Sample i of the low-resolution grid lies at ``(n/m) * i + (n/m - 1)/2`` of the other, which leaves
the outer edges of the field of view where they were. A matrix size n that a factor does not divide
is cropped first, to the largest n' <= n for which n'/factor is whole; half of the surplus goes
from the start (rounded down), the rest from the end. The other way, high-resolution voxel j lies
at ``(j + 0.5) * m/n - 0.5`` of the acquired grid.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.transforms import resized_affine


class ResolutionError(ValueError):
    """A factor or a grid that the operator cannot serve."""


def check_factor(factor: Factor) -> Factor:
    """Return the factor as three floats >= 1, or raise `ResolutionError`.

    It is the low- over the high-resolution voxel size.
    """
    out = tuple(float(f) for f in factor)
    if len(out) != 3 or not all(np.isfinite(out)) or min(out) < 1:
        raise ResolutionError(
            "the super-resolution factor must consist of three numbers of at least 1 "
            f"(low-resolution voxel size divided by high-resolution voxel size), got {factor}"
        )
    return out[0], out[1], out[2]


def lowres_size(n: int, factor: float) -> tuple[int, int]:
    """Return (n', n'/factor) of an axis of n voxels, n' <= n the largest that divides.

    High-resolution voxels that are kept, and low-resolution voxels in their place.
    """
    ratio = Fraction(factor).limit_denominator(64)
    m = n * ratio.denominator // ratio.numerator
    while m > 0 and (m * ratio.numerator) % ratio.denominator:
        m -= 1
    if m < 1:
        raise ResolutionError(
            f"an axis with {n} voxels cannot be downsampled by a factor of {factor:g}"
        )
    return m * ratio.numerator // ratio.denominator, m


def highres_size(m: int, factor: float) -> int:
    """Return the high-resolution grid size over the field of view of m acquired voxels.

    Halves are rounded up.
    """
    return int(np.floor(m * factor + 0.5))


def divided(
    shape: Sequence[int], factor: Sequence[float]
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Return the window (start, stop) of each axis that the factors divide, and the lowres shape.

    Range of voxels that is kept along each axis, and numbers of low-resolution voxels.

    >>> divided((11, 8, 3), (3, 2, 1))
    (((1, 10), (0, 8), (0, 3)), (3, 4, 3))
    """
    sizes = [lowres_size(n, f) if f != 1 else (n, n) for n, f in zip(shape, factor, strict=True)]
    starts = [(n - seen) // 2 for n, (seen, _) in zip(shape, sizes, strict=True)]
    return tuple((a, a + seen) for a, (seen, _) in zip(starts, sizes, strict=True)), tuple(
        m for _, m in sizes
    )


def windowed_affine(
    affine: Array, window: Sequence[tuple[int, int]], shape: Sequence[int]
) -> Array:
    """Return the voxel -> mm affine of a grid over a window of another grid.

    The window is (start, stop) of three axes, and the new grid may have any shape.
    """
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] += moved[:3, :3] @ [start for start, _ in window]
    return resized_affine(moved, [stop - start for start, stop in window], shape)


@lru_cache(maxsize=64)
def crop_matrix(n: int, m: int) -> Array:
    """Return the real m x n matrix of the k-space crop.

    It keeps the m central samples of k-space of a real image, and gives the real part of what they
    make.

    A scanner samples k = -m/2 … m/2 - 1 (even m): of the pair at the Nyquist limit it sees one
    member only.

    `n`: number of high-resolution voxels along the axis. `m`: number of low-resolution voxels
    along the axis, at most n. Read-only matrix from high to low resolution (m x n, float64).
    """
    out = np.ascontiguousarray(crop_matrix_complex(n, m).real)
    out.setflags(write=False)
    return out


@lru_cache(maxsize=64)
def crop_matrix_complex(n: int, m: int) -> Array:
    """Return the complex m x n matrix of the k-space crop.

    Its phase ramp moves the samples to the centers of the voxels.

    `n`: number of high-resolution voxels along the axis. Read-only matrix from high to low
    resolution (m x n, complex128).
    """
    if not 1 <= m <= n:
        raise ResolutionError(
            f"the number of k-space samples after cropping must be from 1 to {n}, got {m}"
        )
    k = np.arange(-(m // 2), m - m // 2)
    centers = (np.arange(m) + 0.5) * n / m - 0.5
    out = np.exp(2j * np.pi * k * (centers[:, None, None] - np.arange(n)[:, None]) / n).sum(-1) / n
    out.setflags(write=False)
    return out


@lru_cache(maxsize=64)
def fill_matrix(m: int, n: int) -> Array:
    """Return the real n x m matrix of k-space zero filling.

    It is the pseudo-inverse of `crop_matrix`, so crop(fill(x)) is x exactly.

    Below the Nyquist limit it is the usual sinc interpolation. At the limit (even m) one real
    number was measured of a complex pair; the pseudo-inverse gives both members of the pair what
    the measurement says.

    `m`: number of acquired voxels along the axis. `n`: number of high-resolution voxels along the
    axis. Read-only matrix from acquired to high resolution (n x m); identity without upsampling.
    """
    out = np.linalg.pinv(crop_matrix(n, m)) if m < n else np.eye(n)
    out.setflags(write=False)
    return out


def block_matrix(n: int, m: int) -> Array:
    """Return the m x n matrix of means over low-resolution voxels, which may overlap.

    Source: mouse-sr, "block averaging".

    Matrix from high to low resolution (m x n), whose rows sum to 1.
    """
    edges = np.arange(m + 1) * n / m
    low = np.maximum(edges[:-1, None], np.arange(n)[None])
    high = np.minimum(edges[1:, None], np.arange(n)[None] + 1)
    return np.clip(high - low, 0, None) * m / n


def gaussian_matrix(n: int, m: int) -> Array:
    """Return the m x n matrix of a Gaussian with the low-resolution voxel size as FWHM.

    It is sampled at the center of each low-resolution voxel.

    Matrix from high to low resolution (m x n), whose rows sum to 1.
    """
    centers = (np.arange(m) + 0.5) * n / m - 0.5
    sigma = n / m / FWHM_PER_SIGMA
    out = np.exp(-0.5 * ((np.arange(n)[None] - centers[:, None]) / sigma) ** 2)
    return out / out.sum(1, keepdims=True)


def apply_along(matrix: Array, data: Array, axis: int) -> Array:
    """Matrix (out, in) applied along one axis; real float32 stays float32.

    `matrix`: real or complex factors, one row for each voxel that comes out. `data`: real or
    complex image with any number of axes.
    """
    if not np.iscomplexobj(data) and not np.iscomplexobj(matrix):
        matrix = matrix.astype(data.dtype if data.dtype.kind == "f" else np.float64, copy=False)
    if axis == data.ndim - 1:
        return data @ matrix.T
    before, behind = data.shape[:axis], data.shape[axis + 1 :]
    rows = data.reshape(-1, data.shape[axis], math.prod(behind))
    return np.matmul(matrix, rows).reshape(*before, len(matrix), *behind)


def _apply(image: Array, sizes: Sequence[int], matrix: Callable[[int, int, int], Array]) -> Array:
    """Resize the first three axes by a matrix (axis, size before, size after) each.

    An axis whose size stays is left as it is. The first axis lies innermost in memory, as in
    files: volumes are interpolated and written so.
    """
    stored = np.ascontiguousarray(image.T)
    for axis, after in enumerate(sizes):
        before = image.shape[axis]
        if before != after:
            stored = apply_along(matrix(axis, before, after), stored, image.ndim - 1 - axis)
    return stored.T


def downsample(hr: Array, lr_shape: tuple[int, ...]) -> Array:
    """Downsample a volume to an acquisition matrix: in-plane k-space crop, mean across slices.

    `hr`: high-resolution image (X, Y, Z[, T]), real. `lr_shape`: numbers of low-resolution voxels
    (x, y, z); further axes are ignored.
    """
    return _apply(
        hr,
        lr_shape[:3],
        lambda axis, n, m: crop_matrix(n, m) if axis < 2 else block_matrix(n, m),
    )


def _as_image(values: Array) -> Array:
    values = np.asarray(values)
    if values.ndim not in (3, 4):
        raise ResolutionError(f"expected an image with 3 or 4 axes, got {values.ndim}")
    return values


def degrade(
    hr: Array, hr_affine: Array, factor: Factor, matrix: Callable[[int, int], Array]
) -> tuple[Array, Array]:
    """Apply a matrix (n, m) along each axis whose factor is not 1; return image and affine.

    See `kspace_crop`.

    `hr`: high-resolution image (X, Y, Z[, T]), real or complex. `hr_affine`: voxel-to-world matrix
    of the high-resolution grid (4 x 4, RAS+ mm). `ResolutionError`: the image does not have three
    or four axes. Low-resolution image, and its voxel-to-world matrix (4 x 4, RAS+ mm).
    """
    hr = _as_image(hr)
    window, shape = divided(hr.shape[:3], check_factor(factor))
    seen = hr[tuple(slice(*part) for part in window)]
    out = _apply(seen, shape, lambda _, n, m: matrix(n, m))
    return np.ascontiguousarray(out), windowed_affine(hr_affine, window, shape)


def kspace_crop(
    hr: Array, hr_affine: Array, *, factor: Factor, magnitude: bool = False
) -> tuple[Array, Array]:
    """Keep the center of k-space along the axes whose factor is not 1.

    `hr`: (X, Y, Z[, T]), real or complex; a complex image stays complex. `ResolutionError`: a
    factor below 1, or a matrix that leaves no voxel. Returns the image and its affine; the outer
    edges of the (cropped) field of view stay.

    Source: gan-cpce-circle, section "Low-resolution images"; the half-voxel ramp is ours.
    """
    matrix = crop_matrix_complex if np.iscomplexobj(hr) else crop_matrix
    lr, affine = degrade(hr, hr_affine, factor, matrix)
    return (np.abs(lr) if magnitude else lr), affine


def acquire(
    hr: Array, hr_affine: Array, *, factor: Factor, magnitude: bool = False
) -> tuple[Array, Array]:
    """Downsample an image as a slice-by-slice acquisition does; return image and affine.

    In plane, the center of k-space is kept, as by `kspace_crop`. Across slices, where a scanner
    excites one slice at a time and encodes nothing, signals are averaged over the thicker slice.
    Without thinner slices the two functions give the same image.

    Parameters
    ----------
    hr : Array
        (X, Y, Z[, T]), real or complex, slices on the third axis; complex images stay complex.
    hr_affine : Array
        Voxel -> RAS mm of the high-resolution grid (4 x 4).
    factor : Factor
        Low- over high-resolution voxel size along each axis.
    magnitude : bool, optional
        Whether to return the magnitude of the image.

    Returns
    -------
    tuple[Array, Array]
        Low-resolution image and its affine; the outer edges of the (cropped) field of view stay.

    Raises
    ------
    ResolutionError
        A factor below 1, or a matrix that leaves no voxel.
    """
    hr = _as_image(hr)
    window, shape = divided(hr.shape[:3], check_factor(factor))
    crop = crop_matrix_complex if np.iscomplexobj(hr) else crop_matrix
    seen = hr[tuple(slice(*part) for part in window)]
    out = _apply(seen, shape, lambda axis, n, m: crop(n, m) if axis < 2 else block_matrix(n, m))
    lr = np.ascontiguousarray(np.abs(out) if magnitude else out)
    return lr, windowed_affine(hr_affine, window, shape)


def fill(missing: Array, factor: Factor) -> Array:
    """Upsample what an upsampled image lacks of the acquired one, so that it agrees with it.

    In plane this is zero filling. Across slices, where they get thinner, it is a cubic spline
    whose *means* over the acquired slices are what is missing.

    Parameters
    ----------
    missing : Array
        Acquired minus downsampled image (x, y, z), any unit.
    factor : Factor
        Acquired over high-resolution voxel size along each axis.

    Returns
    -------
    Array
        Image on the high-resolution grid (X, Y, Z), which `downsample` turns into `missing`.
    """
    m = missing.shape[2]
    n = highres_size(m, factor[2])
    if m != n:
        means = block_matrix(n, m) @ matrix_for("zerofill", m, n, axis=2)
        missing = apply_along(np.linalg.inv(means), missing, 2)
    return upsample("zerofill", missing, factor)


def _positions(m: int, n: int) -> Array:
    """Where the centers of n high-resolution voxels lie on a grid of m acquired ones."""
    return (np.arange(n) + 0.5) * m / n - 0.5


def _by_scipy(m: int, n: int, order: int) -> Array:
    """Return a matrix whose columns are the interpolated unit vectors.

    Beyond the last center the edge value holds (scipy's ``nearest``).
    """
    at = _positions(m, n)[None]
    return np.stack(
        [ndimage.map_coordinates(column, at, order=order, mode="nearest") for column in np.eye(m)],
        1,
    )


@lru_cache(maxsize=64)
def _nearest_matrix(m: int, n: int) -> Array:
    """n x m matrix that takes the acquired voxel in which a center lies."""
    return np.eye(m)[np.minimum(np.floor((np.arange(n) + 0.5) * m / n), m - 1).astype(int)]


@lru_cache(maxsize=64)
def linear_matrix(m: int, n: int) -> Array:
    """Return n x m matrix of linear interpolation, edge value held.

    `m`: number of acquired voxels along the axis. `n`: number of high-resolution voxels along the
    axis. Matrix from acquired to high resolution (n x m).
    """
    return _by_scipy(m, n, 1)


@lru_cache(maxsize=64)
def bspline_matrix(m: int, n: int) -> Array:
    """Return n x m matrix of interpolating cubic B-splines (prefilter included), edge value held.

    `m`: number of acquired voxels along the axis. `n`: number of high-resolution voxels along the
    axis. Matrix from acquired to high resolution (n x m).
    """
    return _by_scipy(m, n, 3)


@lru_cache(maxsize=64)
def _lanczos_matrix(m: int, n: int) -> Array:
    """Return the n x m matrix of the windowed sinc with three lobes.

    Taps outside the image are dropped, and the rest sums to 1.
    """
    x = _positions(m, n)[:, None] - np.arange(m)[None]
    out = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    return out / out.sum(1, keepdims=True)


MATRICES: dict[str, Callable[[int, int], Array]] = {
    "nearest": _nearest_matrix,
    "linear": linear_matrix,
    "bspline": bspline_matrix,
    "lanczos": _lanczos_matrix,
    "zerofill": fill_matrix,
}


def matrix_for(name: str, m: int, n: int, axis: int = 0) -> Array:
    """Return the n x m matrix of one axis.

    Slices are excited one by one: zero filling has no meaning across them, while B-splines have
    one.

    `n`: number of high-resolution voxels along the axis. `axis`: number of the axis; across slices
    (2), B-splines replace zero filling. Matrix from acquired to high resolution (n x m).
    """
    if name not in MATRICES:
        raise KeyError(
            f"unknown interpolation method {name}; expected one of {', '.join(MATRICES)}"
        )
    return MATRICES["bspline" if name == "zerofill" and axis == 2 else name](m, n)


def upsample(name: str, lr: Array, factor: Factor) -> Array:
    """Bring (X, Y, Z[, T]) to the high-resolution grid over the same field of view.

    `name`: nearest, linear, bspline (order 3), lanczos (3 lobes) or zerofill (in-plane k-space
    zero filling). `lr`: image on the acquired grid, any unit. `ResolutionError`: the image does
    not have three or four axes.
    """
    lr = _as_image(lr)
    sizes = [highres_size(m, f) for m, f in zip(lr.shape, check_factor(factor), strict=False)]
    return _apply(lr, sizes, lambda axis, m, n: matrix_for(name, m, n, axis))
