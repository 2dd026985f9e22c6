"""Threads, processors and memory of a step, in the process that runs it."""

import contextlib
import ctypes
import os
import sys

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""Environment variables of libraries with thread pools."""
# Variables that bind the threads of OpenMP (GCC, LLVM and Intel) to processors. A library that is
# loaded with them binds the main thread to one processor, and child processes inherit this mask.
_BINDING_VARIABLES = (
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "KMP_HW_SUBSET",
    "KMP_PLACE_THREADS",
)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as in malloc.h


def limit_threads() -> None:
    """Limit all libraries in this process and its child processes to one thread.

    Call this function before the libraries are loaded. Steps run in parallel instead, and a step
    with several threads sets their number itself (`set_torch_threads`). One thread per process
    must not be bound to one processor, see `clear_processor_binding`.
    """
    clear_processor_binding()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))


def clear_processor_binding() -> None:
    """Let this process and its child processes run on all processors of the current mask.

    Call this function before libraries are loaded. The mask itself does not change, for example
    of ``taskset``, a control group or SLURM.
    """
    for name in _BINDING_VARIABLES:
        os.environ.pop(name, None)


def set_torch_threads(count: int) -> None:
    """Set the number of threads of torch, if loaded, to the number for the current step.

    The previous step may have had another number.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != count:
        torch.set_num_threads(count)


def retain_freed_memory() -> None:
    """Let this process reuse the memory of freed volumes until `release_memory` is called.

    By default, the C library returns freed memory to the system. Page faults then take a fifth of
    the time of the interpolation of a series. The limit for separately mapped blocks (32 MiB) is
    the largest limit that the library would choose itself.
    """
    # other C libraries do not have this function
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)  # bytes
        library.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)


def release_memory() -> None:
    """Return free memory to the system and the GPU, because a worker lives as long as the run."""
    # other C libraries do not have this function
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
