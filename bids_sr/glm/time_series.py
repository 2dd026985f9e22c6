"""Time series of the voxels in a mask, in blocks of voxels, from a file read volume by volume.

The first pass smooths each volume and appends its mask voxels to a scratch file, one for each
width; the second reads such a file in blocks whose size follows from a budget in bytes, so that
memory depends neither on the length of a run nor on the mask.

Smoothing is a plain 3D Gaussian in mm over the whole volume (what lies outside the mask counts, as
in the paper's filter). Beyond the edge of the volume the edge value goes on.

Least squares over volumes that come one by one, without their series in memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import islice, product
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.grids import Array, Float, Float32, Mask, Real
from bids_sr.io.nifti import SeriesReader, from_half, in_half, step_of
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.resampling import FWHM_PER_SIGMA

_Volume = TypeVar("_Volume")
_AT_ONCE = 16  # volumes
_STRIP = 8192  # voxels whose sums stay in the processor's cache


def places_in_volume(mask: Mask) -> NDArray[np.intp]:
    """Return where a volume with X contiguous has the voxels of a mask, (N,).

    The voxels are ordered as in `numpy.flatnonzero(mask)`.
    """
    return np.arange(mask.size).reshape(mask.shape, order="F")[mask]


def in_batches(volumes: Iterable[_Volume]) -> Iterator[list[_Volume]]:
    """Take several volumes at a time, as sums over them go faster."""
    left = iter(volumes)
    while batch := list(islice(left, _AT_ONCE)):
        yield batch


class StreamedFit:
    """Running sums over volumes: y, y², and y times each column of a basis.

    Here y is the signal less the first volume. Products have the precision of the basis.

    `basis`: (rows, columns), orthonormal.
    """

    def __init__(self, basis: Array, first: Array) -> None:
        self.first = first.ravel()
        self.basis = basis
        self.rows = 0
        n = first.size
        self.total, self.squares = np.zeros(n), np.zeros(n)
        self.products = np.zeros((n, basis.shape[1]), dtype=basis.dtype)

    def add(self, volumes: Array) -> None:
        """The next volumes, (n, voxels)."""
        part = self.basis[self.rows : self.rows + len(volumes)]
        self.rows += len(volumes)
        for start in range(0, self.first.size, _STRIP):
            at = slice(start, start + _STRIP)
            y = volumes[:, at] - self.first[at]
            self.total[at] += y.sum(axis=0)
            self.squares[at] += np.einsum("tn,tn->n", y, y)
            self.products[at] += y.T @ part

    @property
    def mean(self) -> Float:
        """Mean over the volumes, (voxels,)."""
        return self.first + self.total / self.rows

    def residual_variance(self, dof: int, rank: int | None = None) -> Float:
        """Of the residuals, (voxels,), where the first `rank` columns (all) span the model.

        Variance in squared signal units, at least 0.
        """
        fitted = self.products[:, :rank]
        explained = np.einsum("nr,nr->n", fitted, fitted, dtype=np.float64)
        return np.maximum(self.squares - explained, 0) / dof


# Relative to the largest value; float32 itself resolves 1.2e-7, so less than this is rounding and
# not a signal.
FLAT = 1e-6
_Box = tuple[slice, slice, slice]
_WHOLE: _Box = (slice(None), slice(None), slice(None))

_BAND = 32  # samples
BLOCK_BYTES = 64 * 2**20
# the block as read, and twice, once in double precision, while all of it is fitted
_BYTES_PER_VALUE = 4 + 4 + 8


def largest_size(signals: Real) -> Real:
    """Return the largest absolute value of each voxel (N,), without copying the series (T, N)."""
    return np.maximum(signals.max(axis=0, initial=0), -signals.min(axis=0, initial=0))


@lru_cache(maxsize=64)
def _gaussian(
    count: int, sigma: float, start: int, stop: int
) -> list[tuple[slice, slice, Float32]]:
    """Return matrices that smooth `count` samples by a Gaussian of `sigma` samples.

    It is cut off at four sigmas, and the edge value is continued beyond the edge. Each matrix
    makes some of the samples from `start` to `stop`, of which few samples have a weight other than
    0. It comes with the smoothed samples, counted from `start`, and the samples that it takes.
    """
    whole = ndimage.gaussian_filter1d(
        np.eye(count), sigma, axis=0, mode="nearest", truncate=4.0
    ).astype(np.float32)
    matrices = []
    for first in range(start, stop, _BAND):
        rows = whole[first : min(first + _BAND, stop)]
        used = np.flatnonzero(rows.any(axis=0))
        at = slice(int(used[0]), int(used[-1]) + 1)
        made = slice(first - start, first - start + len(rows))
        matrices.append((made, at, np.ascontiguousarray(rows[:, at])))
    return matrices


def smooth(volume: Real, zooms: Sequence[float], fwhm_mm: float, box: _Box = _WHOLE) -> Float32:
    """Smooth a finite volume (X, Y, Z) with a Gaussian, with voxels of `zooms` mm.

    0 mm returns the values unchanged.

    Only what lies in the `box` is made, of all of the volume.

    Parameters
    ----------
    volume : Real
        Image without NaN or infinity (X, Y, Z).
    zooms : Sequence[float]
        Voxel size along each axis (mm).
    fwhm_mm : float
        Width of the Gaussian smoothing (FWHM, mm); 0 for none.
    box : _Box, optional
        Range of voxels to return, along each axis.

    Returns
    -------
    Float32
        Smoothed values in the box.

    Raises
    ------
    ValueError
        The width is negative.
    """
    if fwhm_mm < 0:
        raise ValueError(f"the smoothing width must not be negative, got {fwhm_mm} mm")
    out = np.asarray(volume, dtype=np.float32)
    if fwhm_mm == 0:
        return out[box]
    if out.flags.f_contiguous:  # axes in the order in which they lie in memory
        return smooth(out.T, zooms[::-1], fwhm_mm, box[::-1]).T
    first, second, third = (
        _gaussian(count, fwhm_mm / FWHM_PER_SIGMA / float(zoom), *part.indices(count)[:2])
        for count, zoom, part in zip(out.shape, zooms, box, strict=True)
    )
    # matrix products, which take less time than a filter: a run is smoothed once for each width
    x, y, z = out.shape
    to_x, to_y, to_z = (matrices[-1][0].stop for matrices in (first, second, third))
    along_z = np.empty((x * y, to_z), np.float32)
    for made, at, rows in third:
        np.matmul(out.reshape(-1, z)[:, at], rows.T, out=along_z[:, made])
    along_y = np.empty((x, to_y, to_z), np.float32)
    for made, at, rows in second:
        np.matmul(rows, along_z.reshape(x, y, to_z)[:, at], out=along_y[:, made])
    smoothed = np.empty((to_x, to_y * to_z), np.float32)
    for made, at, rows in first:
        np.matmul(rows, along_y.reshape(x, -1)[at], out=smoothed[made])
    return smoothed.reshape(to_x, to_y, to_z)


@frozen
class VoxelTimeSeries:
    """Scratch file of time series, (n_times, n_voxels) in C order.

    The voxels are ordered as in `numpy.flatnonzero(mask)`. `first`: values at the first time, of
    which the file has the differences in half precision, in units of `step`; without a step it has
    the values in single precision.
    """

    path: Path
    n_times: int
    first: Float32
    step: float

    def blocks(self, budget: int = BLOCK_BYTES) -> Iterator[tuple[slice, Float32]]:
        """Yield (voxels, time series (n_times, n)) in blocks until all voxels are covered.

        Fitting a block takes about `budget` bytes.
        """
        width = max(1, budget // (self.n_times * _BYTES_PER_VALUE))
        size = 2 if self.step else 4  # bytes
        with open(self.path, "rb", buffering=0) as stream:
            for start in range(0, len(self.first), width):
                here = slice(start, min(start + width, len(self.first)))
                block = np.empty((self.n_times, here.stop - start), np.float32)
                differences = np.empty(here.stop - start, np.float16)
                for t, values in enumerate(block):
                    stored = differences if self.step else values
                    stream.seek(size * (t * len(self.first) + start))
                    if stream.readinto(stored.data.cast("B")) != stored.nbytes:
                        raise OSError(f"{self.path}: the scratch file is truncated")
                    if self.step:
                        values[:] = from_half(stored, self.first[here], self.step)
                yield here, block


@contextmanager
def extract_time_series(
    reader: SeriesReader,
    mask: Mask,
    folder: Path,
    *,
    smoothing: Sequence[float] = (0.0,),
    start: int = 0,
    seen: Callable[[list[Float32]], None] | None = None,
) -> Iterator[dict[float, VoxelTimeSeries]]:
    """Write smoothed time series of the mask's voxels, from volume `start` on, to scratch files.

    The series is read once for all widths, and the files are removed at the end. Each takes 4
    bytes · volumes · voxels, a large one half of them.
    """
    if mask.shape != reader.shape[:3]:
        raise ValueError(
            f"{reader.path}: the volumes have shape {reader.shape[:3]}, but the mask has shape "
            f"{mask.shape}"
        )
    if not mask.any():
        raise ValueError(f"{reader.path}: the mask is empty")
    box = bounding_box(mask)
    whole, in_box = places_in_volume(mask), places_in_volume(mask[box])
    count = reader.shape[3] - start
    paths = {width: folder / f"time_series_{width:g}mm.raw" for width in smoothing}
    firsts: dict[float, Float32] = {}
    step = 0.0
    try:
        with ExitStack() as files:
            streams = {width: files.enter_context(open(at, "wb")) for width, at in paths.items()}
            for batch in in_batches(reader.volumes(start)):
                step = step if firsts else step_of((count, len(whole)), batch[0])
                for volume, (width, stream) in product(batch, streams.items()):
                    kept = (
                        smooth(volume, reader.zooms, width, box).ravel(order="F")[in_box]
                        if width
                        else volume.ravel(order="F")[whole]
                    )
                    first = firsts.setdefault(width, kept)
                    if step:
                        kept = in_half(kept, first, step, reader.path)
                    stream.write(kept.data.cast("B"))
                if seen is not None:
                    seen(batch)
        yield {
            width: VoxelTimeSeries(path=path, n_times=count, first=firsts[width], step=step)
            for width, path in paths.items()
        }
    finally:
        for path in paths.values():
            path.unlink(missing_ok=True)
