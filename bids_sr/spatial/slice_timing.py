"""Slice-timing correction: interpolation in time only, on the acquired grid.

Each slice is a uniformly sampled series whose samples are offset from the common time by a
constant fraction of TR, so one short filter per slice is enough: cubic B-spline coefficients along
time, evaluated at that fraction. A sinusoid comes back to the common time within 0.5 % of its
amplitude up to 0.15 of the sampling rate, and within 3 % at a quarter of it. Signals faster than
half the sampling rate, such as most of the cardiac cycle, are aliased already and not repaired.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.nifti import SeriesReader, SeriesWriter

_PAD_IN_TIME = 6  # samples: the spline's memory of the edge is gone to 1e-3 after them
# rows of a slice worked on at once, so that memory grows by little with the length of the run
_ROWS = 4


def _shift_in_time(series: Array, fraction: float) -> Array:
    """Shift a series (..., T) by `fraction` (-1 to 1) of a sample, float32; ends are held.

    A positive `fraction` samples it later.

    `series`: evenly sampled time series along the last axis (..., T). Shifted time series of the
    same shape.
    """
    if abs(fraction) > 1:
        raise ValueError(f"expected a shift between -1 and 1 samples, got {fraction}")
    series = np.asarray(series, dtype=np.float32)
    if fraction == 0:
        return series.copy()
    padded = np.pad(
        series, [(0, 0)] * (series.ndim - 1) + [(_PAD_IN_TIME, _PAD_IN_TIME)], mode="edge"
    )
    spline = ndimage.spline_filter1d(padded, order=3, axis=-1, output=np.float32, mode="mirror")
    whole = int(np.floor(fraction))
    u = fraction - whole
    taps = ((1 - u) ** 3, 4 - 6 * u**2 + 3 * u**3, 1 + 3 * u + 3 * u**2 - 3 * u**3, u**3)
    count = series.shape[-1]
    first = _PAD_IN_TIME + whole - 1
    out = np.zeros_like(series)
    for k, tap in enumerate(taps):
        out += np.float32(tap / 6) * spline[..., first + k : first + k + count]
    return out


def correct_slice_timing(
    reader: SeriesReader,
    writer: SeriesWriter,
    slice_times: Sequence[float],
    tr: float,
    ref_time: float,
    *,
    n_dummy: int = 0,
) -> None:
    """Bring every slice of a series to one time of acquisition; one slice is in memory at a time.

    Parameters
    ----------
    reader : SeriesReader
        Series as acquired (4D, uncompressed), slices along its third axis.
    writer : SeriesWriter
        Writer of an uncompressed series of the same shape.
    slice_times : Sequence[float]
        S after the start of the volume, for slice 0, 1, ... of axis 2 as on disk.
    tr : float
        Repetition time, TR (s).
    ref_time : float
        S after the start of the volume.
    n_dummy : int, optional
        Volumes at the start that are copied and have no say in the others (their signal is not
        steady).

    Raises
    ------
    ValueError : as many slice times as slices are needed, all within a TR; and two steady volumes
    """
    slices, volumes = reader.shape[2], reader.shape[3]
    times = np.asarray(slice_times, dtype=np.float64)
    if times.shape != (slices,):
        raise ValueError(
            f"{times.size} slice times were given for {slices} slices; expected one time per slice"
        )
    if (
        tr <= 0
        or times.min() < 0
        or times.max() > tr * (1 + 1e-3)
        or not 0 <= ref_time <= tr * (1 + 1e-3)
    ):
        raise ValueError(
            f"slice times must be between 0 and the repetition time ({tr:g} s), but range from "
            f"{times.min():g} to {times.max():g} s"
        )
    if volumes - n_dummy < 2:
        raise ValueError(
            "slice-timing correction requires at least two steady-state volumes, but the run has "
            f"{volumes} volumes and the first {n_dummy} are non-steady-state volumes"
        )
    for z in range(slices):
        slab = reader.slab(z, z + 1)
        fraction = float(np.clip((ref_time - times[z]) / tr, -1, 1))
        for y in range(0, slab.shape[1], _ROWS):
            part = slab[:, y : y + _ROWS, :, n_dummy:]
            part[...] = _shift_in_time(part, fraction)
        writer.put_slab(z, slab)
