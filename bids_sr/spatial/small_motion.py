"""Small-motion resampling: the cubic spline on nearly its own grid, by passes over contiguous memory.

A sample there needs coefficients whose offsets hardly change from voxel to voxel. So instead of gathering 64 values for
each voxel, whole runs of voxels are multiplied by one offset's weights at a time: a few hundred passes over contiguous
memory. Voxels between which the nearest sample changes share a run, with weights of 0 where an offset is not theirs.
The result is that of the same spline sampled point by point, to rounding in single precision.
"""

from collections.abc import Iterator

import numpy as np

from bids_sr.io.array_types import Array, Float32

_RUN = 12_000  # voxels at a time: the weights of a run (12 arrays or more) stay in the cache of a core
_MOST_TAPS = 350  # offsets of a run; beyond, gathering is as fast
_SLACK = 1e-6  # voxels: sums over axes in another order may end on the other side of a whole number


def _extent(steps: Array, start: float, counts: tuple[int, ...]) -> tuple[float, float]:
    """Lowest and highest value on a grid of `counts` voxels that begins at `start` and grows by `steps` along axes."""
    ends = [float(step) * (count - 1) for step, count in zip(steps, counts, strict=True)]
    return start + sum(min(end, 0.0) for end in ends), start + sum(max(end, 0.0) for end in ends)


def _taps(low: float, high: float) -> range:
    """Offsets of the coefficients that voxels need which are displaced by `low` to `high` (voxels)."""
    return range(int(np.floor(low)) - 1, int(np.floor(high)) + 3)


def _rows(shape: tuple[int, int, int], row: int) -> int:
    return min(shape[1], max(1, _RUN // row))


def is_small_motion(matrix: Array, source: tuple[int, ...], shape: tuple[int, int, int], pad: int) -> bool:
    """Whether `sample_small_motion` can be used, and is worth it.

    `matrix` takes a target voxel to its voxel in the volume of shape `source`, whose coefficients have `pad` more
    samples at each side; `shape` is the target's.
    """
    moved = matrix - np.eye(4)
    run = shape[0], _rows(shape, source[0] + 2 * pad), 1
    count = 1
    for axis in range(3):
        low, high = _extent(moved[axis, :3], moved[axis, 3], shape)
        taps = _taps(low - _SLACK, high + _SLACK)
        if taps[0] < -pad or taps[-1] > pad + source[axis] - shape[axis]:
            return False
        low, high = _extent(moved[axis, :3], 0.0, run)
        count *= 5 + int(high - low)
    return count <= _MOST_TAPS


def _weights(beyond: Float32, count: int) -> list[Float32]:
    """Weights of `count` offsets for voxels that lie `beyond` the second of them (voxels, 0 … count - 3)."""
    step = np.clip(np.floor(beyond), 0, count - 4) if count > 4 else np.float32(0)
    t = beyond - step
    u = 1 - t
    square = t * t
    last, first = square * t, u * u
    last *= np.float32(1 / 6)
    first *= u
    first *= np.float32(1 / 6)
    second = np.float32(2 / 3) - square + 3 * last
    cubic = [first, second, 1 - (first + second + last), last]  # together 1
    if count == 4:
        return cubic
    out = list(np.zeros((count, *beyond.shape), dtype=np.float32))
    for k in range(count - 3):
        own = (step == k).astype(np.float32)
        for tap, weight in enumerate(cubic, start=k):
            out[tap] += own * weight
    return out


def _runs(shape: tuple[int, int, int], row: int) -> Iterator[tuple[int, int, int]]:
    """Slice, first row and number of rows of every run."""
    step = _rows(shape, row)
    for z in range(shape[2]):
        for y in range(0, shape[1], step):
            yield z, y, min(step, shape[1] - y)


def sample_small_motion(coefficients: Float32, matrix: Array, shape: tuple[int, int, int], pad: int) -> Float32:
    """A volume on a grid that is nearly its own, for which `is_small_motion` holds.

    Parameters
    ----------
    coefficients : (X + 2 pad, Y + 2 pad, Z + 2 pad), of the cubic spline; fastest where the first axis is contiguous
    matrix : 4x4, target voxel -> voxel of the volume without its padding

    Returns
    -------
    float32 (shape), the first axis contiguous; a view of an array whose rows are `2 pad` samples longer
    """
    level = coefficients[tuple(n // 2 for n in coefficients.shape)]
    stored = np.subtract(coefficients.T, level, order="C")  # so that what is constant stays so to the last bit
    row = stored.shape[2]
    strides = 1, row, row * stored.shape[1]
    flat = stored.reshape(-1)
    origin = pad * sum(strides)
    out = np.empty((shape[2], shape[1], row), dtype=np.float32)
    moved = (matrix - np.eye(4))[:3]
    along = moved[:, :1] * np.arange(row)
    for z, y, rows in _runs(shape, row):
        size = (rows - 1) * row + shape[0]  # with the padding between rows, whose results nobody reads
        offsets, weights = [], []
        for axis in range(3):
            start = moved[axis, 1] * y + moved[axis, 2] * z + moved[axis, 3]
            taps = _taps(*_extent(moved[axis, :2], start, (shape[0], rows)))
            first = start + moved[axis, 1] * np.arange(rows) - (taps[0] + 1)
            beyond = np.add.outer(first, along[axis]).astype(np.float32).reshape(-1)[:size]
            offsets.append([tap * strides[axis] for tap in taps])
            weights.append(_weights(beyond, len(taps)))
        begin = origin + y * row + z * strides[2]
        out.reshape(-1)[(z * shape[1] + y) * row :][:size] = _summed(flat, begin, offsets, weights) + level
    return out[:, :, : shape[0]].T


def _summed(flat: Float32, begin: int, offsets: list[list[int]], weights: list[list[Float32]]) -> Float32:
    """The weighted sum over all offsets (along X, Y, Z) of the values from `begin` on."""
    size = len(weights[0][0])
    total, plane, line, part = np.zeros((4, size), dtype=np.float32)
    for across, of_plane in zip(offsets[2], weights[2], strict=True):
        plane[:] = 0
        for down, of_line in zip(offsets[1], weights[1], strict=True):
            at = begin + across + down
            np.multiply(weights[0][0], flat[at + offsets[0][0] :][:size], out=line)
            for tap, weight in zip(offsets[0][1:], weights[0][1:], strict=True):
                np.multiply(weight, flat[at + tap :][:size], out=part)
                np.add(line, part, out=line)
            np.multiply(of_line, line, out=line)
            np.add(plane, line, out=plane)
        np.multiply(of_plane, plane, out=plane)
        np.add(total, plane, out=total)
    return total
