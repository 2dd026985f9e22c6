"""Limits on the threads of numerical libraries in a node."""

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


def limit_threads() -> None:
    """One thread for every library in this process and those it starts, whatever the environment said before.

    Has to be called before the libraries are loaded.  Steps run side by side instead, and a step that takes more
    asks for it itself (`hold_threads`).
    """
    os.environ.update(dict.fromkeys(POOLS, "1"))


def hold_threads(count: int) -> None:
    """Set torch, where it is loaded, to the threads of the step that begins; the step before may have had others."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != count:
        torch.set_num_threads(count)
