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
"""Environment of the libraries that start threads of their own."""
_TRIM_ABOVE, _MAP_FROM = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h


def limit_threads() -> None:
    """Limit every library in this and child processes to one thread.

    Call this before the libraries are loaded.

    Steps run side by side instead, and a step that takes more asks for it itself (`hold_threads`).
    """
    os.environ.update(dict.fromkeys(POOLS, "1"))


def hold_threads(count: int) -> None:
    """Set torch, if loaded, to the number of threads of the current step.

    The step before may have had another number.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != count:
        torch.set_num_threads(count)


def keep_freed_memory() -> None:
    """Let this process use freed memory of volumes again, until `release_memory`.

    The C library else gives each of them back as it is freed: a fault a page then makes up a fifth
    of the time in which a series is interpolated. Its own rule goes up to the same 32 MiB.
    """
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such call
        library = ctypes.CDLL(None)
        library.mallopt(_TRIM_ABOVE, 64 << 20)
        library.mallopt(_MAP_FROM, 32 << 20)


def release_memory() -> None:
    """Return what is free to the system, and to the GPU: a worker lives as long as the run."""
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
