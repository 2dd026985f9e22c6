"""Slice-timing correction by interpolation in time, on the acquired grid.

Each slice is a uniformly sampled time series, offset from the reference time by a constant
fraction of the TR. One short filter per slice is therefore sufficient: cubic B-spline coefficients
along time, evaluated at this fraction. A sinusoid is interpolated to the reference time within 0.5
% of its amplitude up to 0.15 of the sampling rate, and within 3 % at a quarter of the sampling
rate. Signals faster than half the sampling rate, such as most of the cardiac cycle, are already
aliased and cannot be corrected.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.nifti import SeriesReader, SeriesWriter

_PAD_IN_TIME = 6  # samples after which the influence of the edge on the spline is below 1e-3
# rows of a slice processed at a time, so that memory depends little on the length of the run
_ROWS_PER_BLOCK = 4
_TIME_TOLERANCE = 1e-3  # relative to the TR, rounding of times in sidecars


def correct_slice_timing(
    reader: SeriesReader,
    writer: SeriesWriter,
    slice_times: Sequence[float],
    tr: float,
    ref_time: float,
    *,
    n_dummy: int = 0,
) -> None:
    """Interpolate all slices of a series to a common acquisition time.

    Only one slice is in memory at a time.

    Parameters
    ----------
    reader : SeriesReader
        Series as acquired (4D, uncompressed), with slices along its third axis.
    writer : SeriesWriter
        Writer of an uncompressed series of the same shape.
    slice_times : Sequence[float]
        Acquisition times (s) after the start of the volume, for slice 0, 1, ... along the third
        axis of the file.
    tr : float
        Repetition time, TR (s).
    ref_time : float
        Reference time (s) after the start of the volume.
    n_dummy : int, optional
        Number of non-steady-state volumes at the start, which are copied and do not affect the
        other volumes.

    Raises
    ------
    ValueError
        The number of slice times differs from the number of slices, or a time is outside the TR.
    """
    n_slices = reader.shape[2]
    times = np.asarray(slice_times, dtype=np.float64)
    _check_times(times, n_slices, tr, ref_time)
    for z in range(n_slices):
        slab = reader.slab(z)
        fraction = float(np.clip((ref_time - times[z]) / tr, -1, 1))
        for y in range(0, slab.shape[1], _ROWS_PER_BLOCK):
            rows = slab[:, y : y + _ROWS_PER_BLOCK, :, n_dummy:]
            rows[...] = _shift_in_time(rows, fraction)
        writer.put_slab(z, slab)


def _check_times(times: Array, n_slices: int, tr: float, ref_time: float) -> None:
    """Raise ValueError unless there is one time per slice and all times (s) are within the TR."""
    if times.shape != (n_slices,):
        raise ValueError(
            f"{times.size} slice times were given for {n_slices} slices; "
            "expected one time per slice"
        )
    latest_time = tr * (1 + _TIME_TOLERANCE)
    if tr <= 0 or times.min() < 0 or times.max() > latest_time or not 0 <= ref_time <= latest_time:
        raise ValueError(
            f"slice times must be between 0 and the repetition time ({tr:g} s), but range from "
            f"{times.min():g} to {times.max():g} s"
        )


def _shift_in_time(series: Array, fraction: float) -> Array:
    """Shift time series by a fraction of a sample.

    Time series are evenly sampled along the last axis. `fraction` is from -1 to 1, and positive
    values sample the series later. Beyond the ends, the first and last samples are repeated. The
    result is float32.
    """
    series = np.asarray(series, dtype=np.float32)
    if fraction == 0:
        return series.copy()
    padded_series = np.pad(
        series, [(0, 0)] * (series.ndim - 1) + [(_PAD_IN_TIME, _PAD_IN_TIME)], mode="edge"
    )
    spline = ndimage.spline_filter1d(
        padded_series, order=3, axis=-1, output=np.float32, mode="mirror"
    )
    n_whole_samples = int(np.floor(fraction))
    offset = fraction - n_whole_samples
    cubic_weights = (
        (1 - offset) ** 3,
        4 - 6 * offset**2 + 3 * offset**3,
        1 + 3 * offset + 3 * offset**2 - 3 * offset**3,
        offset**3,
    )
    count = series.shape[-1]
    first = _PAD_IN_TIME + n_whole_samples - 1
    shifted_series = np.zeros_like(series)
    for lag, weight in enumerate(cubic_weights):
        shifted_series += np.float32(weight / 6) * spline[..., first + lag : first + lag + count]
    return shifted_series
