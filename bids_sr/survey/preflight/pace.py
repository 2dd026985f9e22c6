"""Slowdown relative to the idle processors of the estimate, from two short timing tests."""

import hashlib
import math
import threading
import time
from functools import cache

import numpy as np

REFERENCE_S = 0.0039
"""Processor time (s) of the kernel on the processors on which steps were measured
(``benchmarks/resources.py --pace``).
"""
_N_REPEATS = 5
_N_SLICES, _MATRIX = 48, 96  # of the transformed volume
# Much longer than time slices of the scheduler (some milliseconds), and two periods of the quotas
# of containers (100 ms). All processors are busy during this time.
_WATCH_S = 0.2
_HASHED_BLOCK = bytes(2**18)
# range of slowdowns that are reported
_MIN_SLOWDOWN, _MAX_SLOWDOWN = 0.25, 40.0


@cache
def measure_slowdown(processors: float) -> tuple[float, float]:
    """Measure the speed of this machine once per process.

    The start message and the progress display thus use the same values. Returns the processing
    time relative to idle reference processors, between 0.25 and 40, and the slowdown due to other
    load, at least 1.
    """
    threads = math.ceil(processors)
    slowdown = kernel_seconds() / REFERENCE_S
    busy = max(1.0, threads / max(_available_processors(threads), 1e-3))
    return min(_MAX_SLOWDOWN, max(_MIN_SLOWDOWN, slowdown * busy)), busy


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


def _available_processors(threads: int) -> float:
    """Return the mean number of processors that `threads` busy threads get, 0 to `threads`.

    The number is measured over a fifth of a second. The number of runnable processes would not be
    sufficient, because the system may divide its processors among sessions or groups of processes,
    and the load average of the last minute lags behind.
    """
    deadline = time.perf_counter() + _WATCH_S

    def hash_until_deadline() -> None:
        while time.perf_counter() < deadline:
            hashlib.sha256(_HASHED_BLOCK)  # hashing does not need the interpreter lock

    start = time.perf_counter()
    processor_time = time.process_time()
    workers = [threading.Thread(target=hash_until_deadline) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (time.process_time() - processor_time) / (time.perf_counter() - start)
