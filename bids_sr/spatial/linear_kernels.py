"""Linear interpolation on grids, as compiled loops.

Values equal `scipy.ndimage` to the last bit: products are computed in double precision in the same
order. A difference in the last bit of an image could move a registration by hundredths of a mm.
Arrays are (X, Y, Z) with Z contiguous.

Import this module only in functions that compute, as `bids_sr.spatial.spline_kernels`.
"""

from typing import Any

from bids_sr.io.arrays import Float, Float32
from bids_sr.io.compiled_loops import compile_for, inlined


@inlined
def _interpolate_in_cell(
    line_00: Float32,
    line_01: Float32,
    line_10: Float32,
    line_11: Float32,
    before: int,
    after: int,
    x0: float,
    y0: float,
    z0: float,
) -> float:
    """Interpolate between eight samples, in four lines before and after a point along x and y.

    `before` and `after` are the samples along z. The weights `x0`, `y0` and `z0` are of the
    samples before the point.
    """
    x1, y1, z1 = 1.0 - x0, 1.0 - y0, 1.0 - z0
    total = 0.0
    total += line_00[before] * x0 * y0 * z0
    total += line_00[after] * x0 * y0 * z1
    total += line_01[before] * x0 * y1 * z0
    total += line_01[after] * x0 * y1 * z1
    total += line_10[before] * x1 * y0 * z0
    total += line_10[after] * x1 * y0 * z1
    total += line_11[before] * x1 * y1 * z0
    total += line_11[after] * x1 * y1 * z1
    return total


@compile_for(
    "void(float32[:,:,::1], float64[:,::1], int64, float64, boolean, float32[:,:,::1])",
    exact=True,
)
def sample_grid(
    volume: Float32,
    matrix: Float,
    pad: int,
    margin: float,
    zero_outside: Any,
    out: Float32,
) -> None:
    """Interpolate a volume linearly on a grid; points beyond the edge take the value at the edge.

    `matrix` transforms an output voxel to voxels of the volume (4 x 4). `pad` is added to voxels
    of the volume before they are rounded down. A point is outside if it is farther than `margin`
    voxels from the outermost samples; `zero_outside` states whether its value is 0. Values are
    written to `out` (X, Y, Z).
    """
    size_x, size_y, size_z = volume.shape
    last_x, last_y, last_z = size_x - 1, size_y - 1, size_z - 1
    end_x, end_y, end_z = last_x + 2.0 * pad, last_y + 2.0 * pad, last_z + 2.0 * pad
    start_x, start_y, start_z = matrix[0, 3] + pad, matrix[1, 3] + pad, matrix[2, 3] + pad
    for x in range(out.shape[0]):
        for y in range(out.shape[1]):
            line = out[x, y]
            plane_x = matrix[0, 0] * x + matrix[0, 1] * y
            plane_y = matrix[1, 0] * x + matrix[1, 1] * y
            plane_z = matrix[2, 0] * x + matrix[2, 1] * y
            for z in range(out.shape[2]):
                if zero_outside:
                    # summed in the order of `resampling`, which tests points of splines
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
                # summed in the order of `scipy.ndimage`
                px = min(max(plane_x + matrix[0, 2] * z + start_x, 0.0), end_x)
                py = min(max(plane_y + matrix[1, 2] * z + start_y, 0.0), end_y)
                pz = min(max(plane_z + matrix[2, 2] * z + start_z, 0.0), end_z)
                ix, iy, iz = int(px), int(py), int(pz)
                x0 = 1.0 - (px - ix)
                y0 = 1.0 - (py - iy)
                z0 = 1.0 - (pz - iz)
                low_x, high_x = min(max(ix - pad, 0), last_x), min(max(ix + 1 - pad, 0), last_x)
                low_y, high_y = min(max(iy - pad, 0), last_y), min(max(iy + 1 - pad, 0), last_y)
                low_z, high_z = min(max(iz - pad, 0), last_z), min(max(iz + 1 - pad, 0), last_z)
                line[z] = _interpolate_in_cell(
                    volume[low_x, low_y],
                    volume[low_x, high_y],
                    volume[high_x, low_y],
                    volume[high_x, high_y],
                    low_z,
                    high_z,
                    x0,
                    y0,
                    z0,
                )


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
        for y in range(out.shape[1]):
            line = out[x, y]
            line_00 = volume[pairs_x[0, x], pairs_y[0, y]]
            line_01 = volume[pairs_x[0, x], pairs_y[1, y]]
            line_10 = volume[pairs_x[1, x], pairs_y[0, y]]
            line_11 = volume[pairs_x[1, x], pairs_y[1, y]]
            for z in range(len(line)):
                line[z] = _interpolate_in_cell(
                    line_00,
                    line_01,
                    line_10,
                    line_11,
                    pairs_z[0, z],
                    pairs_z[1, z],
                    weights_x[x],
                    weights_y[y],
                    weights_z[z],
                )
