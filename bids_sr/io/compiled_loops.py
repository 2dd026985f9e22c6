"""Compilation of array loops by numba, with a cache of the machine code.

Only modules with loops import this module: importing numba takes about 0.3 s and 70 MB, and loops
without cached code are compiled when their module is imported.
"""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba

# Products and sums may be fused, and the sign of zero may be lost; NaN and infinity keep their
# meaning.
_njit = partial(numba.njit, error_model="numpy", fastmath={"contract", "nsz"}, nogil=True)
inlined = _njit(inline="always")
"""Decorator for functions that are only called by compiled loops."""
_exact_njit = partial(_njit, fastmath=False)
# One directory per CPU type: machines that share a disk and start at the same time would otherwise
# mix their code. The digest is required because numba only compares the files of the functions.
_CACHE_DIR = Path(
    os.environ.get("XDG_CACHE_HOME") or "~/.cache",
    "bids-sr",
    f"{llvm.get_host_cpu_name()}-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]}",
)


def compile_for(*signatures: str, exact: bool = False) -> Callable[[Any], Any]:
    """Compile a function for argument types when its module is imported, and cache the code.

    `signatures` are argument types. With `exact`, each product and sum is rounded as written, so
    that results do not depend on the CPU type and can equal a library to the last bit.
    """
    njit = _exact_njit if exact else _njit

    def decorate(function: Any) -> Any:
        config = vars(numba.config)
        config["CACHE_DIR"] = config["CACHE_DIR"] or os.path.expanduser(_CACHE_DIR)
        try:
            return njit(list(signatures), cache=True)(function)
        # the directory is not writable or a cached file is damaged: compile without a cache
        except Exception:
            return njit(list(signatures))(function)

    return decorate
