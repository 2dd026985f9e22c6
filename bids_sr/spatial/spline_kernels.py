"""Cubic spline and linear interpolation as compiled loops.

Arrays have their axes as in files (Z, Y, X), with X contiguous. Coefficients belong to a volume
padded by its edge samples. Points beyond the coefficients take the value at the edge of the
padding, so that no point is outside the array.

On a grid, neighbors along x are mostly in the same cell along y and z and in neighboring cells
along x. Such a sequence of voxels requires only twelve arrays of weights and 16 lines of
contiguous coefficients, so that the compiler can vectorize the loop.

Import this module only in functions that compute: it imports numba (about 0.3 s and 70 MB) and
compiles the loops if they are not cached.
"""

import math
from typing import Any

import numpy as np

from bids_sr.io.arrays import Float, Float32
from bids_sr.io.compiled_loops import compile_for, inlined

_POLE = np.float32(math.sqrt(3) - 2)
_GAIN = np.float32(6)
# factor that sets the last coefficient for a mirror boundary
_LAST_GAIN = np.float32(1 / (math.sqrt(3) - 2 - 1 / (math.sqrt(3) - 2)))
_FILTER_SAMPLES = 24  # the filter does not depend on samples farther away (_POLE ** 24 is 2e-14)
_ROWS_PER_BLOCK = 16  # rows filtered at a time if the filter runs along contiguous samples
_MIN_SEQUENCE = 8  # voxels; shorter sequences are sampled point by point
_SIXTH, _TWO_THIRDS, _ONE = np.float32(1 / 6), np.float32(2 / 3), np.float32(1)


@compile_for("void(float32[:,::1])")
def filter_first(samples: Float32) -> None:
    """Compute spline coefficients along the first axis of samples (N, M), in place.

    Samples are mirrored at both ends (about the outermost samples).
    """
    n_rows, n_columns = samples.shape
    start = samples[0].copy()
    power = _ONE
    for i in range(1, min(n_rows, _FILTER_SAMPLES)):
        power *= _POLE
        for j in range(n_columns):
            start[j] += power * samples[i, j]
    for j in range(n_columns):
        samples[0, j] = _GAIN * start[j]
    for i in range(1, n_rows):
        for j in range(n_columns):
            samples[i, j] = _GAIN * samples[i, j] + _POLE * samples[i - 1, j]
    for j in range(n_columns):
        samples[n_rows - 1, j] = _LAST_GAIN * (
            samples[n_rows - 1, j] + _POLE * samples[n_rows - 2, j]
        )
    for i in range(n_rows - 2, -1, -1):
        for j in range(n_columns):
            samples[i, j] = _POLE * (samples[i + 1, j] - samples[i, j])


@compile_for("void(float32[:,::1])")
def filter_last(samples: Float32) -> None:
    """Apply `filter_first` along the last axis of samples (K, N), in place.

    Blocks of rows are transposed so that the filter runs along contiguous memory.
    """
    n_rows, n_samples = samples.shape
    block = np.zeros((n_samples, _ROWS_PER_BLOCK), np.float32)
    for first in range(0, n_rows, _ROWS_PER_BLOCK):
        block_rows = min(_ROWS_PER_BLOCK, n_rows - first)
        for row in range(block_rows):
            for i in range(n_samples):
                block[i, row] = samples[first + row, i]
        filter_first(block)
        for row in range(block_rows):
            for i in range(n_samples):
                samples[first + row, i] = block[i, row]


@inlined
def _interpolate_point(coefs: Float32, px: float, py: float, pz: float) -> np.float32:
    """Interpolate the value at one point."""
    ix, tx = _locate_cell(px, coefs.shape[2])
    iy, ty = _locate_cell(py, coefs.shape[1])
    iz, tz = _locate_cell(pz, coefs.shape[0])
    x0, x1, x2, x3 = _compute_weights(tx)
    wy, wz = _compute_weights(ty), _compute_weights(tz)
    total = np.float32(0)
    for kz in range(4):
        plane = np.float32(0)
        for ky in range(4):
            line = coefs[iz - 1 + kz, iy - 1 + ky]
            plane += wy[ky] * (
                x0 * line[ix - 1] + x1 * line[ix] + x2 * line[ix + 1] + x3 * line[ix + 2]
            )
        total += wz[kz] * plane
    return total


@inlined
def _interpolate_sequence(
    coefs: Float32, px: float, py: float, pz: float, matrix: Float, weights: Float32, out: Float32
) -> None:
    """Interpolate a sequence of voxels that starts at a point.

    Along the sequence the cells along y and z do not change, and the cells along x advance by one
    per voxel.

    `coefs` are coefficients of the padded volume (Z, Y, X), and `px`, `py`, `pz` the position of
    the first voxel in voxels of the coefficients. `matrix` transforms an output voxel (x, y, z) to
    voxels of the coefficients (4 x 4). `weights` is memory for the weights of all voxels (12, at
    least the length of the sequence). Values are written to `out` (N,).
    """
    ix, tx = _locate_cell(px, coefs.shape[2])
    iy, ty = _locate_cell(py, coefs.shape[1])
    iz, tz = _locate_cell(pz, coefs.shape[0])
    dx, dy, dz = np.float32(matrix[0, 0] - 1.0), np.float32(matrix[1, 0]), np.float32(matrix[2, 0])
    count = len(out)
    for i in range(count):
        k = np.float32(i)
        weights[0, i], weights[1, i], weights[2, i], weights[3, i] = _compute_weights(tx + dx * k)
        weights[4, i], weights[5, i], weights[6, i], weights[7, i] = _compute_weights(ty + dy * k)
        weights[8, i], weights[9, i], weights[10, i], weights[11, i] = _compute_weights(
            tz + dz * k
        )
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    y0, y1, y2, y3 = weights[4], weights[5], weights[6], weights[7]
    out[:] = 0
    # Four lines are processed per pass. Their weights and sums fit into registers, and the
    # compiler can check that so few arrays do not overlap.
    for kz in range(4):
        wz = weights[8 + kz]
        f0 = coefs[iz - 1 + kz, iy - 1, ix - 1 : ix + count + 2]
        f1 = coefs[iz - 1 + kz, iy, ix - 1 : ix + count + 2]
        f2 = coefs[iz - 1 + kz, iy + 1, ix - 1 : ix + count + 2]
        f3 = coefs[iz - 1 + kz, iy + 2, ix - 1 : ix + count + 2]
        for i in range(count):
            wx = w0[i], w1[i], w2[i], w3[i]
            plane = y0[i] * _sum_weighted(f0, i, wx) + y1[i] * _sum_weighted(f1, i, wx)
            plane += y2[i] * _sum_weighted(f2, i, wx) + y3[i] * _sum_weighted(f3, i, wx)
            out[i] += wz[i] * plane


@inlined
def _locate_cell(coordinate: float, size: int) -> tuple[int, np.float32]:
    """Return the sample before a coordinate and the distance to it, clipped to the array."""
    if not coordinate > 1.0:  # NaN also takes this branch
        coordinate = 1.0
    coordinate = min(coordinate, size - 2.0)
    i = min(int(coordinate), size - 3)
    return i, np.float32(coordinate - i)


@inlined
def _compute_weights(
    distance: np.float32,
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Return the weights of four samples around a point at a distance from the second sample.

    The weights sum to 1.
    """
    complement = _ONE - distance
    first = complement * complement * complement * _SIXTH
    last = distance * distance * distance * _SIXTH
    second = _TWO_THIRDS - distance * distance + np.float32(3) * last
    return first, second, _ONE - (first + second + last), last


@inlined
def _sum_weighted(
    line: Float32, i: int, weights: tuple[np.float32, np.float32, np.float32, np.float32]
) -> np.float32:
    """Return the weighted sum of four consecutive samples of a line, from the i-th on."""
    return (
        weights[0] * line[i]
        + weights[1] * line[i + 1]
        + weights[2] * line[i + 2]
        + weights[3] * line[i + 3]
    )


@compile_for("void(float32[:,:,::1], float64[:,::1], float32[::1])")
def write_samples(coefs: Float32, points: Float, values: Float32) -> None:
    """Interpolate a volume at points by the cubic spline.

    `coefs` are coefficients of the padded volume (Z, Y, X), and `points` x, y and z coordinates in
    voxels of the coefficients (3, N). `values` (N,) are written.
    """
    for n in range(points.shape[1]):
        values[n] = _interpolate_point(coefs, points[0, n], points[1, n], points[2, n])


@compile_for(
    "void(float32[:,:,::1], float64[:,::1], float64[:,::1], int64, boolean[::1], float64[::1],"
    " float64[::1], boolean[::1])"
)
def compare_moved(
    coefs: Float32,
    points: Float,
    to_voxel: Float,
    pad: int,
    unbounded_axes: Any,
    reference: Float,
    residual: Float,
    inside: Any,
) -> None:
    """Subtract a reference from a volume sampled at moved points.

    The field of view ends half a voxel inside the outermost samples, because the spline and the
    smoothing have no data beyond the edge.

    `coefs` (X, Y, Z) are padded by `pad` samples at each side. `to_voxel` transforms the
    reference's `points` (N, 3; mm) to voxels of the volume without padding (4 x 4).
    `unbounded_axes` is True for axes along which every point counts as inside the field of view
    (3,). Differences from the values of the `reference` (N,) are written to `residual` (N,), 0
    outside the field of view, and True for points inside the field of view to `inside` (N,).
    """
    upper_edges = np.array([size - 2 * pad - 1.5 for size in coefs.shape])
    voxel = np.empty(3)
    for n in range(len(points)):
        is_inside = True
        for k in range(3):
            voxel[k] = to_voxel[k, 3]
            for axis in range(3):
                voxel[k] += to_voxel[k, axis] * points[n, axis]
            is_inside = is_inside and (unbounded_axes[k] or 0.5 <= voxel[k] <= upper_edges[k])
        inside[n] = is_inside
        residual[n] = 0.0
        if is_inside:  # axes are reversed here, as the coefficients are (X, Y, Z)
            residual[n] = (
                _interpolate_point(coefs, voxel[2] + pad, voxel[1] + pad, voxel[0] + pad)
                - reference[n]
            )


@inlined
def _count_steps(coordinate: float, slope: float, size: int) -> int:
    """Return the number of steps of size `slope` within the cell of a point; 0 beyond the edge."""
    if not 1.0 <= coordinate < size - 2.0:
        return 0
    offset = coordinate - int(coordinate)
    distance = 1e6
    if slope > 0:
        distance = (1.0 - offset) / slope
    elif slope < 0:
        distance = -offset / slope
    return int(min(distance, 1e6))


@compile_for("void(float32[:,:,::1], float64[:,::1], float32[:,:,::1])")
def sample_grid(coefs: Float32, matrix: Float, out: Float32) -> None:
    """Interpolate a volume on a grid by the cubic spline.

    `coefs` are coefficients of the padded volume (Z, Y, X), and `matrix` transforms an output
    voxel (x, y, z) to voxels of the coefficients (4 x 4). Values are written to `out` (Z, Y, X).
    """
    width = out.shape[2]
    weights = np.empty((12, width), np.float32)
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            start_x = matrix[0, 1] * y + matrix[0, 2] * z + matrix[0, 3]
            start_y = matrix[1, 1] * y + matrix[1, 2] * z + matrix[1, 3]
            start_z = matrix[2, 1] * y + matrix[2, 2] * z + matrix[2, 3]
            x = 0
            while x < width:
                px = start_x + matrix[0, 0] * x
                py = start_y + matrix[1, 0] * x
                pz = start_z + matrix[2, 0] * x
                steps = min(
                    _count_steps(py, matrix[1, 0], coefs.shape[1]),
                    _count_steps(pz, matrix[2, 0], coefs.shape[0]),
                )
                steps = min(
                    steps,
                    _count_steps(px, matrix[0, 0] - 1.0, coefs.shape[2]),
                    coefs.shape[2] - 3 - int(px),
                    width - 1 - x,
                )
                if steps < _MIN_SEQUENCE:
                    out[z, y, x] = _interpolate_point(coefs, px, py, pz)
                    x += 1
                else:
                    _interpolate_sequence(
                        coefs, px, py, pz, matrix, weights, out[z, y, x : x + steps + 1]
                    )
                    x += steps + 1


@compile_for("void(float32[:,:,:,::1], float64[:,::1], float32[:,::1])")
def sample_linear(maps: Float32, points: Float, out: Float32) -> None:
    """Interpolate maps linearly at points.

    `maps` are on one grid (X, Y, Z, K), and `points` in voxels (3, N). Values are written to `out`
    (N, K), 0 at points more than half a voxel outside the maps.
    """
    size_x, size_y, size_z, count = maps.shape
    for n in range(points.shape[1]):
        x, y, z = points[0, n], points[1, n], points[2, n]
        out[n] = 0
        is_inside = (
            -0.5 <= x <= size_x - 0.5 and -0.5 <= y <= size_y - 0.5 and -0.5 <= z <= size_z - 0.5
        )
        if not is_inside:
            continue
        ix, iy, iz = math.floor(x), math.floor(y), math.floor(z)
        tx, ty, tz = np.float32(x - ix), np.float32(y - iy), np.float32(z - iz)
        for i in range(2):
            wx = tx if i else _ONE - tx
            sample_x = min(max(ix + i, 0), size_x - 1)
            for j in range(2):
                wy = wx * (ty if j else _ONE - ty)
                sample_y = min(max(iy + j, 0), size_y - 1)
                for k in range(2):
                    weight = wy * (tz if k else _ONE - tz)
                    values = maps[sample_x, sample_y, min(max(iz + k, 0), size_z - 1)]
                    for map_index in range(count):
                        out[n, map_index] += weight * values[map_index]
