"""How much longer work takes here and now than on the processor that the estimates are of: a short self-timing."""

import os
import time

import numpy as np

REFERENCE_S = 0.0032
"""Processor seconds of the kernel on the processors of `CostModel` (``benchmarks/resources.py --pace``)."""
_REPEATS = 5


def kernel_seconds() -> float:
    """Processor seconds of a fixed piece of what the stages do most, which is Fourier transforms of slices.

    The least of a few repeats, so that other work beside does not count. Slice by slice, as arrays of a whole volume
    take four times as long in a process that has not had such memory yet.
    """
    found, image = [], np.arange(96 * 96, dtype=np.float32).reshape(96, 96)
    for _ in range(_REPEATS):
        began = time.process_time()
        for _ in range(48):
            np.fft.irfft2(np.fft.rfft2(image)).sum()
        found.append(time.process_time() - began)
    return min(found)


def slowdown(
    workers: int, *, seconds: float | None = None, load: float | None = None, cores: int | None = None
) -> float:
    """Return by what a clock estimate is to be multiplied on this machine.

    Parameters
    ----------
    workers : processors that the run will keep busy
    seconds : processor seconds of the kernel; measured by default
    load : processes of others that are running; by default the system's average over the last minute
    cores : processors of the machine

    Returns
    -------
    Ratio to an unshared processor of the reference, between 0.25 and 20.

    >>> slowdown(2, seconds=REFERENCE_S, load=0.0, cores=2)
    1.0
    >>> slowdown(2, seconds=REFERENCE_S, load=2.0, cores=2)
    2.0
    """
    seconds = kernel_seconds() if seconds is None else seconds
    load = os.getloadavg()[0] if load is None else load
    cores = cores or os.cpu_count() or 1
    shared = max(1.0, (load + workers) / max(cores, workers))
    return float(np.clip(seconds / REFERENCE_S * shared, 0.25, 20.0))


def duration(minutes: float) -> str:
    """A time in words.

    >>> duration(.4), duration(4.4), duration(135)
    ('under 1 min', 'about 4 min', 'about 2 h 15 min')
    """
    whole = round(minutes)
    if whole < 1:
        return "under 1 min"
    return f"about {whole} min" if whole < 60 else f"about {whole // 60} h {whole % 60} min"
