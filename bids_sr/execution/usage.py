"""Threads and memory of a step, in the process that runs it."""

import contextlib
import ctypes
import os
import sys

POOLS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""Environment variables of libraries with thread pools."""
_TRIM_ABOVE, _MAP_FROM = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h


def limit_threads() -> None:
    """Limit all libraries in this process and its child processes to one thread.

    Call this function before the libraries are loaded. Steps run in parallel instead, and a step
    with several threads sets their number itself (`hold_threads`).
    """
    os.environ.update(dict.fromkeys(POOLS, "1"))


def hold_threads(count: int) -> None:
    """Set the number of threads of torch, if loaded, to the number for the current step.

    The previous step may have had another number.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != count:
        torch.set_num_threads(count)


def retain_freed_memory() -> None:
    """Let this process reuse the memory of freed volumes until `release_memory` is called.

    By default, the C library returns freed memory to the system. Page faults then take a fifth of
    the time of the interpolation of a series. The default rule of the library uses the same limit
    of up to 32 MiB.
    """
    # other C libraries do not have this function
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_TRIM_ABOVE, 64 << 20)
        library.mallopt(_MAP_FROM, 32 << 20)


def release_memory() -> None:
    """Return free memory to the system and the GPU, because a worker lives as long as the run."""
    # other C libraries do not have this function
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
