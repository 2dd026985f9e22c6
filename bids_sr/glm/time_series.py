"""Time series of mask voxels, in blocks of voxels, from a file that is read volume by volume.

The first pass smooths each volume and appends its mask voxels to a scratch file per smoothing
width. The second pass reads the file in blocks of voxels. The size of a block depends on a memory
limit in bytes, so that memory depends neither on the length of a run nor on the mask.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import FileIO
from itertools import product
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from bids_sr.io.arrays import Float32, MaskArray, Real
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import LARGE_SERIES_BYTES
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.smoothing import smooth
from bids_sr.spatial.streamed_fit import divide_into_batches

MIN_RELATIVE_CHANGE = 1e-6
"""Smallest change of a time series relative to its largest value. Smaller changes are rounding
errors, because the resolution of float32 is 1.2e-7.
"""
BLOCK_BYTES = 64 * 2**20
# bytes per value: the block as read, and its copies in single and double precision during the fit
_BYTES_PER_VALUE = 4 + 4 + 8
_LARGEST_STEPS = 32_767  # largest int16


@frozen
class VoxelTimeSeries:
    """Scratch file of time series, (n_times, n_voxels) in C order.

    Voxels are in the order of `numpy.flatnonzero(mask)`. `first` has the values at the first time.
    If `steps` are given, the file contains int16 differences from these values in units of the
    step of their time (n_times); otherwise it contains values in single precision.
    """

    path: Path
    n_times: int
    first: Float32
    steps: Sequence[float]

    def blocks(self, budget: int = BLOCK_BYTES) -> Iterator[tuple[slice, Float32]]:
        """Yield blocks of voxels and their time series (n_times, n) until all voxels are covered.

        `budget` is the approximate memory for fitting a block (bytes).
        """
        n_voxels = max(1, budget // (self.n_times * _BYTES_PER_VALUE))
        with open(self.path, "rb", buffering=0) as stream:
            for start in range(0, len(self.first), n_voxels):
                voxels = slice(start, min(start + n_voxels, len(self.first)))
                yield voxels, self._read_block(stream, voxels)

    def _read_block(self, stream: FileIO, voxels: slice) -> Float32:
        """Return the time series (n_times, n) of a range of voxels from the open file."""
        block = np.empty((self.n_times, voxels.stop - voxels.start), np.float32)
        changes = np.empty(voxels.stop - voxels.start, np.int16)
        value_bytes = 2 if self.steps else 4
        for t, values in enumerate(block):
            stored = changes if self.steps else values
            stream.seek(value_bytes * (t * len(self.first) + voxels.start))
            if stream.readinto(stored.data.cast("B")) != stored.nbytes:
                raise OSError(f"{self.path}: the scratch file is truncated")
            if self.steps:
                values[:] = changes * np.float32(self.steps[t]) + self.first[voxels]
        return block


@contextmanager
def extract_time_series(
    reader: SeriesReader,
    mask: MaskArray,
    folder: Path,
    *,
    smoothing: Sequence[float] = (0.0,),
    start: int = 0,
    inspect_volumes: Callable[[list[Float32]], None] | None = None,
) -> Iterator[dict[float, VoxelTimeSeries]]:
    """Write smoothed time series of mask voxels, from volume `start` on, to scratch files.

    The series is read once for all widths, and the files are removed on exit. A file has 4 bytes ·
    volumes · voxels, or half as many if it is large.

    The series is (X, Y, Z, T), and `mask` (X, Y, Z). `smoothing` are widths (FWHM, mm), which are
    the keys of the yielded time series. `start` is counted from 0. `inspect_volumes` is called
    with each batch of unsmoothed volumes.
    """
    paths = {width: folder / f"time_series_{width:g}mm.raw" for width in smoothing}
    try:
        with ExitStack() as files:
            streams = {
                width: files.enter_context(open(stream_path, "wb"))
                for width, stream_path in paths.items()
            }
            first_values, steps = _write_signals(reader, mask, streams, start, inspect_volumes)
        yield {
            width: VoxelTimeSeries(
                path=path,
                n_times=reader.shape[3] - start,
                first=first_values[width],
                steps=steps[width],
            )
            for width, path in paths.items()
        }
    finally:
        for path in paths.values():
            path.unlink(missing_ok=True)


def _write_signals(
    reader: SeriesReader,
    mask: MaskArray,
    streams: Mapping[float, BinaryIO],
    start: int,
    inspect_volumes: Callable[[list[Float32]], None] | None,
) -> tuple[dict[float, Float32], dict[float, list[float]]]:
    """Write mask voxels of smoothed volumes to open files, by smoothing width (FWHM, mm).

    The parameters are as in `extract_time_series`. The values of the first volume, and the steps
    of differences from them, are returned by width; see `VoxelTimeSeries`.
    """
    box = bounding_box(mask)
    positions, box_positions = positions_in_volume(mask), positions_in_volume(mask[box])
    first_values: dict[float, Float32] = {}
    steps: dict[float, list[float]] = {width: [] for width in streams}
    is_large = 4 * (reader.shape[3] - start) * len(positions) > LARGE_SERIES_BYTES
    for batch in divide_into_batches(reader.volumes(start)):
        for volume, (width, stream) in product(batch, streams.items()):
            values = (
                smooth(volume, reader.zooms, width, box).ravel(order="F")[box_positions]
                if width
                else volume.ravel(order="F")[positions]
            )
            first = first_values.setdefault(width, values)
            if is_large:
                changes = values - first
                steps[width].append(float(np.abs(changes).max()) / _LARGEST_STEPS or 1.0)
                values = np.rint(changes / np.float32(steps[width][-1])).astype(np.int16)
            stream.write(values.data.cast("B"))
        if inspect_volumes is not None:
            inspect_volumes(batch)
    return first_values, steps


def positions_in_volume(mask: MaskArray) -> NDArray[np.intp]:
    """Return the positions of mask voxels in a volume with contiguous X, (N,).

    Voxels are in the order of `numpy.flatnonzero(mask)`.
    """
    return np.arange(mask.size).reshape(mask.shape, order="F")[mask]


def find_largest_size(signals: Real) -> Real:
    """Return the largest absolute value of each voxel (N,) without a copy of the series (T, N)."""
    return np.maximum(signals.max(axis=0, initial=0), -signals.min(axis=0, initial=0))
