"""Slowdown against the idle processors of the estimate, from two short self-timings."""

import hashlib
import math
import threading
import time
from functools import cache

import numpy as np

REFERENCE_S = 0.0039
"""Processor seconds of the kernel on the processors that steps were measured on
(``benchmarks/resources.py --pace``).
"""
_REPEATS = 5
_WATCHED_S = 0.5  # shorter than that, the scheduler's turns of some milliseconds weigh
_BLOCK = bytes(2**18)


def kernel_seconds() -> float:
    """Return processor seconds of Fourier transforms of slices, the most common operation.

    The least of a few repeats, so that other work beside does not count. Slice by slice, as arrays
    of a whole volume take four times as long in a process that has not had such memory yet.

    Time of 48 slices there and back (s).
    """
    seconds = []
    image = np.arange(96 * 96, dtype=np.float32).reshape(96, 96)
    for _ in range(_REPEATS):
        began = time.process_time()
        for _ in range(48):
            np.fft.irfft2(np.fft.rfft2(image)).sum()
        seconds.append(time.process_time() - began)
    return min(seconds)


def _processors_had(threads: int) -> float:
    """How many processors that many busy threads are given while others run: 0 to `threads`.

    It is tried, as the number of processes that want to run does not tell: the system may share
    its processors between sessions or groups of processes, and its average of the last minute
    knows neither what has just begun nor what has ended.

    Mean number over half a second.
    """
    until = time.perf_counter() + _WATCHED_S

    def work() -> None:
        while time.perf_counter() < until:
            hashlib.sha256(_BLOCK)  # which needs no lock of the interpreter

    began = time.perf_counter()
    used = time.process_time()
    those = [threading.Thread(target=work) for _ in range(threads)]
    for each in those:
        each.start()
    for each in those:
        each.join()
    return (time.process_time() - used) / (time.perf_counter() - began)


@cache
def pace_now(processors: float) -> tuple[float, float]:
    """Measure this machine once a process, so that the start and the progress tell the same.

    How many times as long as on idle processors of the reference it takes, between 0.25 and 40,
    and how many times other load makes it slower, at least 1.
    """
    threads = math.ceil(processors)
    own = kernel_seconds() / REFERENCE_S
    busy = max(1.0, threads / max(_processors_had(threads), 1e-3))
    return min(40.0, max(0.25, own * busy)), busy
