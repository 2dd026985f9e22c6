"""Speed of this machine relative to the processors of the estimate, from a short timing test."""

import time
from functools import cache

import numpy as np

REFERENCE_S = 0.0039
"""Processor time (s) of the kernel on the processors that the times of stages refer to."""
_N_REPEATS = 5
_N_SLICES, _MATRIX = 48, 96  # of the transformed volume
# range of slowdowns that are reported
_MIN_SLOWDOWN, _MAX_SLOWDOWN = 0.25, 40.0


@cache
def measure_slowdown() -> float:
    """Measure the processor time of this machine relative to the reference, from 0.25 to 40.

    It is measured once per process, so that plan, start message and progress display use the same
    value. Other load does not change it, because it may end before the steps run.
    """
    return min(_MAX_SLOWDOWN, max(_MIN_SLOWDOWN, kernel_seconds() / REFERENCE_S))


def kernel_seconds() -> float:
    """Return the processor time (s) for Fourier transforms of 48 slices, a common operation.

    The minimum of several repeats excludes the influence of other processes. Slices are
    transformed one by one, because a whole volume takes four times as long in a process that has
    not allocated as much memory before.
    """
    seconds = []
    image = np.arange(_MATRIX * _MATRIX, dtype=np.float32).reshape(_MATRIX, _MATRIX)
    for _ in range(_N_REPEATS):
        start = time.process_time()
        for _ in range(_N_SLICES):
            np.fft.irfft2(np.fft.rfft2(image)).sum()
        seconds.append(time.process_time() - start)
    return min(seconds)
