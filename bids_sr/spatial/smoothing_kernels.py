"""Smoothing along one axis by symmetric weights, as compiled loops.

Values equal `scipy.ndimage` to the last bit: products and sums are computed in double precision in
the same order.

Import this module only in functions that compute, as `bids_sr.spatial.spline_kernels`.
"""

from typing import Any

import numpy as np

from bids_sr.io.arrays import Float, Float32
from bids_sr.io.compiled_loops import compile_for

_SAMPLES_PER_BLOCK = 2048  # samples whose sums fit into the processor cache


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
