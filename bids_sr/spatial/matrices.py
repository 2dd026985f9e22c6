"""Downsampling and interpolation of images, with one matrix per axis.

Sample i of the low-resolution grid is at ``(n/m) * i + (n/m - 1)/2`` on the high-resolution grid,
so that the outer edges of the field of view coincide. If a factor does not divide a matrix size n,
the image is first cropped to the largest n' <= n for which n'/factor is an integer; half of the
surplus (rounded down) is removed at the start, the rest at the end. In upsampling, high-resolution
voxel j is at ``(j + 0.5) * m/n - 0.5`` on the acquired grid.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache, partial, wraps

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor, highres_size
from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.transforms import resize_affine
from bids_sr.spatial.windowed_sinc import lanczos_kernel

# function that returns a matrix for the numbers of voxels before and after the operation
_MatrixFunction = Callable[[int, int], Array]
# function of the axis and the numbers of voxels before and after the operation
_AxisMatrixFunction = Callable[[int, int, int], Array]

_MAX_DENOMINATOR = 64  # largest denominator of a factor, which is converted to a fraction
# smallest weight that is not set to 0, because many CPU types are slow with subnormal numbers
_MIN_WEIGHT = 1e-20


class ResolutionError(InvalidInput):
    """Error raised for a factor or grid that an operation does not support."""


def kspace_crop(
    hr: Array, hr_affine: Array, *, factor: Factor, magnitude: bool = False
) -> tuple[Array, Array]:
    """Keep the center of k-space along the axes whose factor is not 1.

    The outer edges of the (cropped) field of view do not change. Source: gan-cpce-circle, section
    "Low-resolution images"; the half-voxel phase ramp is ours.

    `hr` is (X, Y, Z[, T]); a complex image remains complex unless the `magnitude` is requested.
    Returns the low-resolution image and its voxel-to-world matrix; both affines are 4 x 4 (RAS+
    mm). Raises `ResolutionError` if a factor is below 1, or no voxel remains.
    """
    crop = crop_matrix_complex if np.iscomplexobj(hr) else crop_matrix
    lr, affine = degrade(hr, hr_affine, factor, lambda _, n, m: crop(n, m))
    return (np.abs(lr) if magnitude else lr), affine


def acquire(
    hr: Array, hr_affine: Array, *, factor: Factor, magnitude: bool = False
) -> tuple[Array, Array]:
    """Downsample an image as a slice-by-slice acquisition does.

    In plane, the center of k-space is kept, as in `kspace_crop`. Across slices, a scanner excites
    one slice at a time without encoding, so signals are averaged over the slice thickness. If the
    factor across slices is 1, both functions return the same image.

    `hr` is (X, Y, Z[, T]), with slices along the third axis; a complex image remains complex
    unless the `magnitude` is requested. Returns the low-resolution image (x, y, z[, T]) and its
    voxel-to-world matrix; both affines are 4 x 4 (RAS+ mm). The outer edges of the (cropped) field
    of view do not change. Raises `ResolutionError` if a factor is below 1, or no voxel remains.
    """
    crop = crop_matrix_complex if np.iscomplexobj(hr) else crop_matrix
    lr, affine = degrade(hr, hr_affine, factor, partial(_make_acquisition_matrix, crop=crop))
    return (np.abs(lr) if magnitude else lr), affine


def degrade(
    hr: Array, hr_affine: Array, factor: Factor, matrix_of_axis: _AxisMatrixFunction
) -> tuple[Array, Array]:
    """Downsample an image with a matrix along each axis whose factor is not 1.

    `hr` is real or complex (X, Y, Z[, T]). `matrix_of_axis` returns, for an axis, n and m, the m x
    n matrix for n high-resolution and m low-resolution voxels. Returns the low-resolution image
    and its voxel-to-world matrix; both affines are 4 x 4 (RAS+ mm).

    Raises `ResolutionError` if the image does not have three or four axes, a factor is below 1, or
    no voxel remains.
    """
    hr = _as_image(hr)
    window, shape = cropping_window(hr.shape[:3], check_factor(factor))
    cropped = hr[tuple(slice(start, stop) for start, stop in window)]
    lr = _resize(cropped, shape, matrix_of_axis)
    return np.ascontiguousarray(lr), affine_of_window(hr_affine, window, shape)


def cropping_window(
    shape: Sequence[int], factor: Sequence[float]
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Return the cropping range (start, stop) of each axis, and the low-resolution shape.

    Each axis is cropped to the largest size that its factor divides.

    >>> cropping_window((11, 8, 3), (3, 2, 1))
    (((1, 10), (0, 8), (0, 3)), (3, 4, 3))
    """
    window, lowres_shape = [], []
    for n, axis_factor in zip(shape, factor, strict=True):
        cropped_size, m = (n, n) if axis_factor == 1 else lowres_size(n, axis_factor)
        start = (n - cropped_size) // 2
        window.append((start, start + cropped_size))
        lowres_shape.append(m)
    return tuple(window), tuple(lowres_shape)


def lowres_size(n: int, factor: float) -> tuple[int, int]:
    """Return the cropped size n' of an axis of n voxels, and its low-resolution size n'/factor.

    n' is the largest size up to n that the factor divides. `ResolutionError` is raised if no voxel
    remains.
    """
    ratio = Fraction(factor).limit_denominator(_MAX_DENOMINATOR)
    m = n * ratio.denominator // ratio.numerator
    while m > 0 and (m * ratio.numerator) % ratio.denominator:
        m -= 1
    if m < 1:
        raise ResolutionError(
            f"an axis with {n} voxels cannot be downsampled by a factor of {factor:g}"
        )
    return m * ratio.numerator // ratio.denominator, m


def affine_of_window(
    affine: Array, window: Sequence[tuple[int, int]], shape: Sequence[int]
) -> Array:
    """Return the voxel-to-world matrix of a new grid over a window of a grid (4 x 4, RAS+ mm).

    `affine` is the matrix of the original grid, `window` contains (start, stop) along three axes,
    and `shape` is the shape of the new grid.
    """
    shifted = np.array(affine, dtype=np.float64)
    shifted[:3, 3] += shifted[:3, :3] @ [start for start, _ in window]
    return resize_affine(shifted, [stop - start for start, stop in window], shape)


def upsample_residual(residual: Array, factor: Factor) -> Array:
    """Upsample the difference between an acquired and a downsampled image.

    Adding the result to the upsampled image makes it consistent with the acquired image. In plane,
    the difference is zero filled. Across slices, if the factor is above 1, it is interpolated with
    a cubic spline, whose means over the acquired slices equal the difference.

    `residual` is the acquired minus the downsampled image (x, y, z), in any unit. `downsample`
    converts the result on the high-resolution grid (X, Y, Z) to `residual`.
    """
    m = residual.shape[2]
    n = highres_size(m, factor[2])
    if m != n:
        means = block_matrix(n, m) @ interpolation_matrix("zerofill", m, n, axis=2)
        residual = apply_along(np.linalg.inv(means), residual, 2)
    return upsample("zerofill", residual, factor)


def upsample(name: str, lr: Array, factor: Factor) -> Array:
    """Upsample an image to the high-resolution grid over the same field of view.

    The interpolation is nearest, linear, bspline (order 3), lanczos (3 lobes) or zerofill
    (in-plane k-space zero filling). `lr` is on the acquired grid (x, y, z[, T]), in any unit, and
    the result on the high-resolution grid (X, Y, Z[, T]). Raises `ResolutionError` if the image
    does not have three or four axes, or a factor is below 1.
    """
    lr = _as_image(lr)
    ratios = check_factor(factor)
    sizes = [highres_size(m, ratio) for m, ratio in zip(lr.shape, ratios, strict=False)]
    return interpolate(name, lr, sizes)


def interpolate(name: str, lr: Array, shape: Sequence[int]) -> Array:
    """Interpolate an image to a grid with more voxels over the same field of view.

    For the interpolations, see `upsample`. `lr` is (x, y, z[, T]), and the result has the `shape`
    (X, Y, Z).
    """
    return _resize(lr, shape, lambda axis, m, n: interpolation_matrix(name, m, n, axis))


def _as_image(values: Array) -> Array:
    """Return the values as an array; raise `ResolutionError` unless it has 3 or 4 axes."""
    values = np.asarray(values)
    if values.ndim not in (3, 4):
        raise ResolutionError(f"expected an image with 3 or 4 axes, got {values.ndim}")
    return values


def check_factor(factor: Factor) -> Factor:
    """Return the factor as three floats, or raise `ResolutionError` unless all are at least 1.

    The factor is the ratio of low-resolution to high-resolution voxel size along each axis.
    """
    ratios = tuple(float(ratio) for ratio in factor)
    if len(ratios) != 3 or not all(np.isfinite(ratios)) or min(ratios) < 1:
        raise ResolutionError(
            "the super-resolution factor must consist of three numbers of at least 1 "
            f"(low-resolution voxel size divided by high-resolution voxel size), got {factor}"
        )
    return ratios[0], ratios[1], ratios[2]


def interpolation_matrix(name: str, m: int, n: int, axis: int = 0) -> Array:
    """Return the n x m interpolation matrix of one axis.

    Across slices (axis 2), B-splines replace zero filling, because slices are excited one by one
    and have no k-space.

    `name` is one of `MATRICES`; `KeyError` is raised otherwise. `m` is the number of acquired
    voxels along the axis, and `n` the number of high-resolution voxels.
    """
    if name not in MATRICES:
        raise KeyError(
            f"unknown interpolation method {name}; expected one of {', '.join(MATRICES)}"
        )
    return MATRICES["bspline" if name == "zerofill" and axis == 2 else name](m, n)


def _cache_read_only(make_matrix: _MatrixFunction) -> _MatrixFunction:
    """Store the matrices of a function in memory, and make them read-only."""

    @lru_cache(maxsize=64)
    @wraps(make_matrix)
    def make_read_only(before: int, after: int) -> Array:
        matrix = make_matrix(before, after)
        matrix.setflags(write=False)
        return matrix

    return make_read_only


@_cache_read_only
def _make_nearest_matrix(m: int, n: int) -> Array:
    """Return the n x m matrix that selects the acquired voxel containing each center."""
    return np.eye(m)[np.minimum(np.floor((np.arange(n) + 0.5) * m / n), m - 1).astype(int)]


@_cache_read_only
def linear_matrix(m: int, n: int) -> Array:
    """Return the n x m matrix of linear interpolation from m acquired voxels.

    Outside the outermost voxel centers, the edge value is repeated.
    """
    return _make_spline_matrix(m, n, 1)


@_cache_read_only
def bspline_matrix(m: int, n: int) -> Array:
    """Return the n x m matrix of cubic B-spline interpolation from m acquired voxels.

    The prefilter is included. Outside the outermost voxel centers, the edge value is repeated.
    """
    return _make_spline_matrix(m, n, 3)


def _make_spline_matrix(m: int, n: int, order: int) -> Array:
    """Return the matrix of scipy's spline interpolation of a given order.

    Its columns are interpolated unit vectors. Outside the outermost voxel centers, the edge value
    is repeated (scipy's ``nearest``).
    """
    positions = _locate_voxels(m, n)[None]
    matrix = np.stack(
        [
            ndimage.map_coordinates(column, positions, order=order, mode="nearest")
            for column in np.eye(m)
        ],
        1,
    )
    return np.where(np.abs(matrix) < _MIN_WEIGHT, 0, matrix)


@_cache_read_only
def _make_lanczos_matrix(m: int, n: int) -> Array:
    """Return the n x m matrix of Lanczos interpolation (windowed sinc) with three lobes.

    Weights outside the image are dropped, and the remaining weights are scaled to sum to 1.
    """
    weights = lanczos_kernel(_locate_voxels(m, n)[:, None] - np.arange(m)[None])
    return weights / weights.sum(1, keepdims=True)


@_cache_read_only
def fill_matrix(m: int, n: int) -> Array:
    """Return the real n x m matrix of k-space zero filling.

    The matrix is the pseudo-inverse of `crop_matrix`, so cropping a zero-filled image restores the
    image exactly. Below the Nyquist limit, it is sinc interpolation. At the limit (even m), one
    real number was measured for a pair of complex samples; the pseudo-inverse assigns the measured
    value to both.

    The matrix is read-only and maps m acquired voxels to n high-resolution voxels. It is the
    identity unless m < n.
    """
    return np.linalg.pinv(crop_matrix(n, m)) if m < n else np.eye(n)


MATRICES: dict[str, _MatrixFunction] = {
    "nearest": _make_nearest_matrix,
    "linear": linear_matrix,
    "bspline": bspline_matrix,
    "lanczos": _make_lanczos_matrix,
    "zerofill": fill_matrix,
}


@_cache_read_only
def crop_matrix(n: int, m: int) -> Array:
    """Return the real m x n matrix that crops k-space.

    The matrix keeps the m central k-space samples of a real image and returns the real part of the
    reconstruction. A scanner samples k = -m/2 … m/2 - 1 (even m), and thus only one of the two
    samples at the Nyquist limit.

    `n` is the number of high-resolution voxels along the axis, and `m` the number of
    low-resolution voxels, at most n. The matrix (m x n, float64) is read-only.
    """
    return np.ascontiguousarray(crop_matrix_complex(n, m).real)


@_cache_read_only
def crop_matrix_complex(n: int, m: int) -> Array:
    """Return the complex m x n matrix that crops k-space.

    A phase ramp moves the samples to the voxel centers of the low-resolution grid. The matrix is
    read-only and maps n high-resolution voxels to m low-resolution voxels.
    """
    if not 1 <= m <= n:
        raise ResolutionError(
            f"the number of k-space samples after cropping must be from 1 to {n}, got {m}"
        )
    frequencies = np.arange(-(m // 2), m - m // 2)
    distances = _locate_voxels(n, m)[:, None, None] - np.arange(n)[:, None]
    return np.exp(2j * np.pi * frequencies * distances / n).sum(-1) / n


def downsample(hr: Array, lr_shape: tuple[int, ...]) -> Array:
    """Downsample a volume to an acquisition matrix: in-plane k-space crop, mean across slices.

    `hr` is a real high-resolution image (X, Y, Z[, T]). `lr_shape` contains the numbers of
    low-resolution voxels (x, y, z); further axes are ignored.
    """
    return _resize(hr, lr_shape[:3], _make_acquisition_matrix)


def _resize(image: Array, sizes: Sequence[int], matrix_of_axis: _AxisMatrixFunction) -> Array:
    """Resize the first three axes of an image, one matrix per axis.

    Axes with unchanged size are skipped. The first axis is innermost in memory, as in files,
    because volumes are interpolated and written in this order.
    """
    stored = np.ascontiguousarray(image.T)
    for axis, new_size in enumerate(sizes):
        old_size = image.shape[axis]
        if old_size != new_size:
            matrix = matrix_of_axis(axis, old_size, new_size)
            stored = apply_along(matrix, stored, image.ndim - 1 - axis)
    return stored.T


def apply_along(matrix: Array, data: Array, axis: int) -> Array:
    """Multiply an image by a matrix along one axis.

    `matrix` is (out, in) and `data` may have any number of axes; both may be real or complex. If
    `data` is real float32 and the matrix is real, the result is float32.
    """
    if not np.iscomplexobj(data) and not np.iscomplexobj(matrix):
        matrix = matrix.astype(data.dtype if data.dtype.kind == "f" else np.float64, copy=False)
    if axis == data.ndim - 1:
        return data @ matrix.T
    leading_shape, trailing_shape = data.shape[:axis], data.shape[axis + 1 :]
    flat_data = data.reshape(-1, data.shape[axis], math.prod(trailing_shape))
    return np.matmul(matrix, flat_data).reshape(*leading_shape, len(matrix), *trailing_shape)


def _make_acquisition_matrix(
    axis: int, n: int, m: int, crop: _MatrixFunction = crop_matrix
) -> Array:
    """Return the m x n matrix of a slice-by-slice acquisition, with a k-space crop in plane."""
    return crop(n, m) if axis < 2 else block_matrix(n, m)


def block_matrix(n: int, m: int) -> Array:
    """Return the m x n matrix of means over low-resolution voxels.

    Low-resolution voxels may contain fractions of high-resolution voxels. Rows sum to 1. The
    operation is the "block averaging" of mouse-sr.
    """
    edges = np.arange(m + 1) * n / m
    overlap_start = np.maximum(edges[:-1, None], np.arange(n)[None])
    overlap_end = np.minimum(edges[1:, None], np.arange(n)[None] + 1)
    return np.clip(overlap_end - overlap_start, 0, None) * m / n


def gaussian_matrix(n: int, m: int) -> Array:
    """Return the m x n matrix of a Gaussian whose FWHM is the low-resolution voxel size.

    The Gaussian is centered on each low-resolution voxel. Rows sum to 1.
    """
    centers = _locate_voxels(n, m)
    sigma = n / m / FWHM_PER_SIGMA
    weights = np.exp(-0.5 * ((np.arange(n)[None] - centers[:, None]) / sigma) ** 2)
    return weights / weights.sum(1, keepdims=True)


def _locate_voxels(m: int, n: int) -> Array:
    """Return the centers of n new voxels on a grid of m voxels with the same field of view."""
    return (np.arange(n) + 0.5) * m / n - 0.5
