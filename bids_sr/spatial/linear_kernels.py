"""Linear interpolation on grids, and smoothing at some samples, as compiled loops.

Values equal `scipy.ndimage` to the last bit: products are computed in double precision in the same
order. A difference in the last bit of an image could move a registration by hundredths of a mm.
Arrays are (X, Y, Z) with Z contiguous.

Import this module only in functions that compute, as `bids_sr.spatial.spline_kernels`.
"""

from typing import Any

import numpy as np

from bids_sr.io.arrays import Float, Float32
from bids_sr.io.compiled_loops import compile_for

_SAMPLES_PER_BLOCK = 2048  # samples whose sums fit into the processor cache


@compile_for(
    "void(float32[:,:,::1], float64[:,::1], int64, float64[::1], float64, boolean,"
    " float32[:,:,::1])",
    exact=True,
)
def sample_grid(
    volume: Float32,
    matrix: Float,
    pad: int,
    start: Float,
    margin: float,
    zero_outside: Any,
    out: Float32,
) -> None:
    """Interpolate a volume linearly on a grid; points beyond the edge take the value at the edge.

    `matrix` transforms an output voxel to voxels of the volume (4 x 4). `pad` is added to voxels
    of the volume before they are rounded, and `start` is the voxel of the volume at the first
    output voxel, plus `pad` (3,). A point is outside if it is farther than `margin` voxels from
    the outermost samples; `zero_outside` states whether its value is 0. Values are written to
    `out` (X, Y, Z).
    """
    size_x, size_y, size_z = volume.shape
    last_x, last_y, last_z = size_x - 1, size_y - 1, size_z - 1
    end_x, end_y, end_z = last_x + 2.0 * pad, last_y + 2.0 * pad, last_z + 2.0 * pad
    for x in range(out.shape[0]):
        for y in range(out.shape[1]):
            line = out[x, y]
            plane_x = matrix[0, 0] * x + matrix[0, 1] * y
            plane_y = matrix[1, 0] * x + matrix[1, 1] * y
            plane_z = matrix[2, 0] * x + matrix[2, 1] * y
            for z in range(out.shape[2]):
                if zero_outside:
                    qx = plane_x + (matrix[0, 2] * z + matrix[0, 3])
                    qy = plane_y + (matrix[1, 2] * z + matrix[1, 3])
                    qz = plane_z + (matrix[2, 2] * z + matrix[2, 3])
                    if (
                        qx < -margin
                        or qy < -margin
                        or qz < -margin
                        or qx > last_x + margin
                        or qy > last_y + margin
                        or qz > last_z + margin
                    ):
                        line[z] = 0
                        continue
                px = min(max(plane_x + matrix[0, 2] * z + start[0], 0.0), end_x)
                py = min(max(plane_y + matrix[1, 2] * z + start[1], 0.0), end_y)
                pz = min(max(plane_z + matrix[2, 2] * z + start[2], 0.0), end_z)
                ix, iy, iz = int(px), int(py), int(pz)
                x0 = 1.0 - (px - ix)
                y0 = 1.0 - (py - iy)
                z0 = 1.0 - (pz - iz)
                x1, y1, z1 = 1.0 - x0, 1.0 - y0, 1.0 - z0
                low_x, high_x = min(max(ix - pad, 0), last_x), min(max(ix + 1 - pad, 0), last_x)
                low_y, high_y = min(max(iy - pad, 0), last_y), min(max(iy + 1 - pad, 0), last_y)
                low_z, high_z = min(max(iz - pad, 0), last_z), min(max(iz + 1 - pad, 0), last_z)
                total = 0.0
                total += volume[low_x, low_y, low_z] * x0 * y0 * z0
                total += volume[low_x, low_y, high_z] * x0 * y0 * z1
                total += volume[low_x, high_y, low_z] * x0 * y1 * z0
                total += volume[low_x, high_y, high_z] * x0 * y1 * z1
                total += volume[high_x, low_y, low_z] * x1 * y0 * z0
                total += volume[high_x, low_y, high_z] * x1 * y0 * z1
                total += volume[high_x, high_y, low_z] * x1 * y1 * z0
                total += volume[high_x, high_y, high_z] * x1 * y1 * z1
                line[z] = total


@compile_for("void(float32[:,:,::1], float64[::1], int64[::1], float32[:,:,::1])", exact=True)
def smooth_rows(volume: Float32, weights: Float, rows: Any, out: Float32) -> None:
    """Filter a volume along its second axis at some rows; the edge values are repeated outward.

    `volume` (K, N, M) is filtered with symmetric `weights` (2 r + 1) at the `rows` (R, ascending).
    Filtered rows are written to `out` (K, R, M).
    """
    n_rows, n_columns = volume.shape[1:]
    radius = len(weights) // 2
    total = np.empty(_SAMPLES_PER_BLOCK)
    for k in range(volume.shape[0]):
        for first in range(0, n_columns, _SAMPLES_PER_BLOCK):
            count = min(_SAMPLES_PER_BLOCK, n_columns - first)
            for number in range(len(rows)):
                row = rows[number]
                center = volume[k, row, first : first + count]
                for j in range(count):
                    total[j] = center[j] * weights[radius]
                for offset in range(radius, 0, -1):
                    weight = weights[radius - offset]
                    below = volume[k, max(row - offset, 0), first : first + count]
                    above = volume[k, min(row + offset, n_rows - 1), first : first + count]
                    for j in range(count):
                        total[j] += (np.float64(below[j]) + np.float64(above[j])) * weight
                filtered = out[k, number, first : first + count]
                for j in range(count):
                    filtered[j] = total[j]


@compile_for("void(float32[:,::1], float64[::1], float32[:,::1])", exact=True)
def smooth_lines(lines: Float32, weights: Float, out: Float32) -> None:
    """Filter lines along their last axis; the edge values are repeated outward.

    The filter `weights` (2 r + 1) is symmetric. Filtered lines are written to `out` (K, N).
    """
    k, n = lines.shape
    radius = len(weights) // 2
    padded = np.empty(n + 2 * radius)
    total = np.empty(n)
    for row in range(k):
        padded[:radius] = lines[row, 0]
        padded[radius + n :] = lines[row, n - 1]
        for i in range(n):
            padded[radius + i] = lines[row, i]
        for i in range(n):
            total[i] = padded[radius + i] * weights[radius]
        for offset in range(radius, 0, -1):
            weight = weights[radius - offset]
            below, above = padded[radius - offset :], padded[radius + offset :]
            for i in range(n):
                total[i] += (below[i] + above[i]) * weight
        for i in range(n):
            out[row, i] = total[i]


@compile_for(
    "void(float32[:,:,::1], int64[:,::1], int64[:,::1], int64[:,::1], float64[::1], float64[::1],"
    " float64[::1], float32[:,:,::1])",
    exact=True,
)
def sample_along_axes(
    volume: Float32,
    pairs_x: Any,
    pairs_y: Any,
    pairs_z: Any,
    weights_x: Float,
    weights_y: Float,
    weights_z: Float,
    out: Float32,
) -> None:
    """Interpolate a volume linearly on a grid with parallel axes.

    The pairs are the samples before and after each output voxel along an axis (2, N), and the
    weights are the weights of the samples before (N,). Values are written to `out` (X, Y, Z).
    """
    for x in range(out.shape[0]):
        x0 = weights_x[x]
        x1 = 1.0 - x0
        for y in range(out.shape[1]):
            y0 = weights_y[y]
            y1 = 1.0 - y0
            line = out[x, y]
            line_00 = volume[pairs_x[0, x], pairs_y[0, y]]
            line_01 = volume[pairs_x[0, x], pairs_y[1, y]]
            line_10 = volume[pairs_x[1, x], pairs_y[0, y]]
            line_11 = volume[pairs_x[1, x], pairs_y[1, y]]
            for z in range(len(line)):
                before, after = pairs_z[0, z], pairs_z[1, z]
                z0 = weights_z[z]
                z1 = 1.0 - z0
                total = 0.0
                total += line_00[before] * x0 * y0 * z0
                total += line_00[after] * x0 * y0 * z1
                total += line_01[before] * x0 * y1 * z0
                total += line_01[after] * x0 * y1 * z1
                total += line_10[before] * x1 * y0 * z0
                total += line_10[after] * x1 * y0 * z1
                total += line_11[before] * x1 * y1 * z0
                total += line_11[after] * x1 * y1 * z1
                line[z] = total
