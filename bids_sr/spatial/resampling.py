"""Interpolation: the single step by which every volume reaches its final grid.

Edges: a point beyond the outermost sample takes that sample's value, however far it lies. Padding with zeros would
blank the edge slices of every volume that moves by more than nothing and put jumps into the time series there; what
lies outside the acquired field of view is for masks to leave out.

Small motion: on nearly its own grid a sample needs coefficients whose offsets hardly change from voxel to voxel. So
instead of gathering 64 values for each voxel, whole runs of voxels are multiplied by one offset's weights at a time: a
few hundred passes over contiguous memory. Voxels between which the nearest sample changes share a run, with weights of
0 where an offset is not theirs. The result is that of the same spline sampled point by point, to rounding in single
precision.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array, Float, Float32, Mask

Shift = tuple[Array, Float]
"""How far each target voxel's source point is moved (the shape of the target), and along what (3,; RAS mm)."""
# Edge samples repeated outwards before the spline coefficients are computed. The mirror beyond them is 16 samples
# away, and a cubic coefficient feels it by 0.27 ** 16: 1e-9 of a step at the edge. A volume that moved by less than
# these samples is sampled without leaving them.
PAD = 8
_WHOLE = 1e-6  # voxels: a transform this close to a whole-voxel shift is one


@frozen
class Spline:
    """How images are interpolated: the one home of these defaults."""

    order: int = 3  # of the B-spline, 0 (nearest neighbor, labels), 1 (linear) or 3 (cubic)
    mode: str = "nearest"  # beyond the edge, "nearest" (its value) or "constant" (`cval` beyond half a voxel outside)
    cval: float = 0.0

    def __post_init__(self) -> None:
        if self.order not in (0, 1, 2, 3, 4, 5) or self.mode not in ("nearest", "constant"):
            raise ValueError(f"no interpolation of order {self.order} and mode {self.mode!r}")


def spline_coefficients(volume: Array, spline: Spline | None = None) -> Float32:
    """Coefficients of a volume (X, Y, Z), `PAD` samples wider at each side; compute once, sample often.

    The first axis of the result is contiguous, as it is in files and as `sample_small_motion` reads it.
    """
    spline = spline or Spline()
    if volume.ndim != 3:
        raise ValueError(f"a volume has 3 axes, not {volume.ndim}")
    padded = np.pad(np.asarray(volume, dtype=np.float32).T, PAD, mode="edge")
    if spline.order < 2:
        return padded.T
    return ndimage.spline_filter(padded, order=spline.order, output=np.float32, mode="mirror").T


def _whole_shift(matrix: Array) -> npt.NDArray[np.int64] | None:
    """The shift in voxels if the voxel-to-voxel matrix is nothing else, or None."""
    shift = np.rint(matrix[:3, 3])
    exact = np.eye(4)
    exact[:3, 3] = shift
    return shift.astype(np.int64) if np.abs(matrix - exact).max() < _WHOLE else None


def _points(matrix: Array, shape: tuple[int, ...]) -> Iterator[tuple[int, Array]]:
    """Each slice of the target with its voxels' points in the volume, (3, X, Y) voxels; they stay in the cache."""
    rows, columns = (np.arange(n, dtype=np.float64) for n in shape[:2])
    for z in range(shape[2]):
        yield z, np.stack([r[0] * rows[:, None] + r[1] * columns + (r[2] * z + r[3]) for r in matrix[:3]])


def _outside(at: Array, source_shape: tuple[int, ...]) -> Mask:
    """Points (3, X, Y) more than half a voxel beyond the volume's outermost samples."""
    edges = np.array(source_shape)[:, None, None] - 0.5 + _WHOLE
    return np.asarray(((at < -0.5 - _WHOLE) | (at > edges)).any(0))


def _warped(
    coefficients: Float32, source_shape: tuple[int, ...], matrix: Array, shape: tuple[int, ...],
    moved: Callable[[int], Array], spline: Spline,
) -> Float32:  # fmt: skip
    """A volume through a voxel-to-voxel matrix and what moves the points of each slice (3, X, Y; voxels)."""
    out = np.empty(shape, dtype=np.float32)
    for z, at in _points(matrix, shape):
        at += moved(z)
        out[:, :, z] = ndimage.map_coordinates(
            coefficients, at + PAD, order=spline.order, mode="nearest", prefilter=False, output=np.float32
        )
        if spline.mode == "constant":
            out[:, :, z][_outside(at, source_shape)] = spline.cval
    return out


def sample_volume(
    volume: Array, affine: Array, target_shape: Sequence[int], target_affine: Array, xfm: Array | None = None,
    spline: Spline | None = None, coefficients: Float32 | None = None, shift: Shift | None = None,
) -> Float32:  # fmt: skip
    """A volume (X, Y, Z) as seen on another grid through one transform, in one interpolation; float32.

    The identity and shifts by whole voxels return the very values of the input.

    Parameters
    ----------
    affine, target_affine : voxel-to-RAS matrices (mm)
    xfm : 4x4, takes a target point (RAS mm) to the volume's point; identity by default. Example: with a translation of
        +4 mm along x and 4 mm voxels, target voxel i shows the volume's voxel i + 1
    coefficients : of `spline_coefficients(volume, spline)`, where several grids are sampled from one volume
    shift : added to the volume's point after `xfm`, by as much as it says for each target voxel; none by default
    """
    spline = spline or Spline()
    shape = (int(target_shape[0]), int(target_shape[1]), int(target_shape[2]))
    back = np.linalg.inv(affine)
    matrix = back @ (np.eye(4) if xfm is None else np.asarray(xfm)) @ target_affine
    whole = _whole_shift(matrix) if shift is None else None
    if whole is None and coefficients is None:
        coefficients = spline_coefficients(volume, spline)
    if shift is not None:
        assert coefficients is not None
        amount, step = shift[0], (back[:3, :3] @ shift[1])[:, None, None]
        return _warped(coefficients, volume.shape, matrix, shape, lambda z: step * amount[:, :, z], spline)
    if whole is not None:
        out = np.asarray(volume, dtype=np.float32)
        for axis in range(3):
            index = np.clip(np.arange(shape[axis]) + whole[axis], 0, volume.shape[axis] - 1)
            out = np.take(out, index, axis=axis)
    elif spline.order == 3 and is_small_motion(matrix, volume.shape, shape, PAD):
        assert coefficients is not None
        out = sample_small_motion(coefficients, matrix, shape, PAD)
    else:
        rows = np.ascontiguousarray(coefficients)  # scipy runs along the last axis
        out = ndimage.affine_transform(
            rows, matrix[:3, :3], matrix[:3, 3] + PAD, output_shape=shape, output=np.float32, order=spline.order,
            mode="nearest", prefilter=False,
        )  # fmt: skip
    if spline.mode == "constant":
        for z, at in _points(matrix, shape):
            out[:, :, z][_outside(at, volume.shape)] = spline.cval
    return out


def sample_warped(
    volume: Array, affine: Array, target_affine: Array, xfm: Array, moved: Array, spline: Spline | None = None
) -> Float32:
    """A volume as seen on another grid through a matrix and a displacement behind it, in one interpolation.

    As `sample_volume`; `moved` (3, *target) mm along RAS is added to the volume's point after `xfm`.
    """
    spline = spline or Spline()
    if moved.ndim != 4 or len(moved) != 3 or spline.mode != "nearest":
        raise ValueError(f"displacements of {moved.shape}, edge {spline.mode!r}: not (3, X, Y, Z) and 'nearest'")
    back = np.linalg.inv(affine)
    return _warped(
        spline_coefficients(volume, spline), volume.shape, back @ xfm @ target_affine, moved.shape[1:],
        lambda z: np.tensordot(back[:3, :3], moved[..., z], axes=1), spline,
    )  # fmt: skip


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
