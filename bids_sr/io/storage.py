"""Data types of stored series: integers with one slope per series, or single precision."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import LARGE_SERIES_BYTES, Shape
from bids_sr.io.nifti import SeriesReader, SeriesWriter, Storage

_MIN_STEPS = 1000  # smallest number of integer steps within the intensity range of the head
# the same for a large series, so that rounding errors are small relative to noise of 1 %
_MIN_STEPS_IN_FOLDER = 10_000
# how far a computed series may be below and above the range of its source, relative to this range
_UNDERSHOOT, _OVERSHOOT = 0.1, 0.2


def choose_storage(reader: SeriesReader, dtype: np.dtype) -> Storage:
    """Return the requested data type with its scaling, or float32 if integers are too coarse."""
    if dtype.kind not in "iu":
        return Storage(dtype)
    return _require_steps(_scale_to_integers(*reader.extent(), dtype), reader, _MIN_STEPS)


def choose_working_storage(source: SeriesReader, shape: Sequence[int]) -> Storage:
    """Return the data type of a series of a shape that is computed from another series.

    A large series is int16, unless the range of the source is too wide for the noise.
    """
    if 4 * math.prod(shape) <= LARGE_SERIES_BYTES:
        return Storage()
    lowest, highest = source.extent()
    extent = highest - lowest
    lowest, highest = lowest - _UNDERSHOOT * extent, highest + _OVERSHOOT * extent
    storage = _scale_to_integers(lowest, highest, np.dtype(np.int16))
    return _require_steps(storage, source, _MIN_STEPS_IN_FOLDER)


def working_writer(
    path: Path, source: SeriesReader, shape: Shape | None = None, affine: Array | None = None
) -> SeriesWriter:
    """Return the writer of a series that is computed from another series.

    `shape` (X, Y, Z) and `affine` are the grid of the computed series; None for the grid of its
    source.
    """
    series_shape = source.shape if shape is None else (*shape, source.shape[3])
    return SeriesWriter(
        path,
        series_shape,
        source.affine if affine is None else affine,
        source.tr,
        header_like=source.header,
        storage=choose_working_storage(source, series_shape),
    )


def _require_steps(storage: Storage, reader: SeriesReader, n_steps: int) -> Storage:
    """Return single precision if the range of the head has fewer than `n_steps` steps."""
    if storage.slope > _measure_intensity_range(reader.volume(0)) / n_steps:
        return Storage()
    return storage


def _scale_to_integers(lowest: float, highest: float, dtype: np.dtype) -> Storage:
    """Return the scaling of a range with 0 to an integer type that preserves 0.

    `lowest` is at most and `highest` at least 0. The intercept is an integer multiple of the
    slope, which has eight significant bits. The intercept is therefore exact in the single
    precision of the header and of programs that read it.
    """
    limits = np.iinfo(dtype)
    if highest - lowest < 1e-30:
        return Storage(dtype)
    fraction, exponent = math.frexp((highest - lowest) / (float(limits.max) - limits.min - 4))
    slope = math.ldexp(math.ceil(fraction * 256), exponent - 8)
    return Storage(dtype, slope, (round(lowest / slope) - limits.min - 2) * slope)


def _measure_intensity_range(volume: Array) -> float:
    """Return the intensity range of most voxels, without background and padding.

    A few voxels with much higher intensity than the head (artifacts) and an offset do not change
    the result. The range is infinite if only a few different values occur.
    """
    values, counts = np.unique(volume, return_counts=True)
    rare_values = values[counts < 0.01 * volume.size]  # a background or padding has a single value
    if not rare_values.size:
        return math.inf
    signal = volume[np.isin(volume, rare_values)]
    return float(np.percentile(np.abs(signal - np.median(signal)), 98))
