"""Time series of the voxels in a mask, in blocks of voxels, from a file read volume by volume.

The first pass smooths each volume and appends its mask voxels to a scratch file, one for each
width; the second reads such a file in blocks whose size follows from a budget in bytes, so that
memory depends neither on the length of a run nor on the mask.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_sr.frozen import frozen
from bids_sr.glm.smoothing import smooth
from bids_sr.glm.streamed_fit import in_batches
from bids_sr.io.arrays import Float32, Mask, Real
from bids_sr.io.nifti import SeriesReader, from_half, in_half, step_of
from bids_sr.spatial.masks import bounding_box


def places_in_volume(mask: Mask) -> NDArray[np.intp]:
    """Return where a volume with X contiguous has the voxels of a mask, (N,).

    The voxels are ordered as in `numpy.flatnonzero(mask)`.
    """
    return np.arange(mask.size).reshape(mask.shape, order="F")[mask]


# Relative to the largest value; float32 itself resolves 1.2e-7, so less than this is rounding and
# not a signal.
FLAT = 1e-6
BLOCK_BYTES = 64 * 2**20
# the block as read, and twice, once in double precision, while all of it is fitted
_BYTES_PER_VALUE = 4 + 4 + 8


def largest_size(signals: Real) -> Real:
    """Return the largest absolute value of each voxel (N,), without copying the series (T, N)."""
    return np.maximum(signals.max(axis=0, initial=0), -signals.min(axis=0, initial=0))


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
