"""Compile loops over arrays by numba, and keep the machine code.

Only modules of loops import this module: numba takes some .3 s and 70 MB, and loops whose code is
not kept yet are compiled when their module is imported.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba

# Products and sums may be joined as processors do, and the sign of zero may go; NaN and infinity
# keep their meaning.
_njit = partial(numba.njit, error_model="numpy", fastmath={"contract", "nsz"}, nogil=True)
inlined = _njit(inline="always")
"""Decorator of a function that only compiled loops call."""
# One folder a kind of processor: machines that share a disk and begin at the same moment would mix
# their codes
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "bids-sr", llvm.get_host_cpu_name())


def compiled(*signatures: str) -> Callable[[Any], Any]:
    """Compile a function for each of these argument types when the module is imported.

    The code is kept.
    """

    def decorate(function: Any) -> Any:
        config = vars(numba.config)
        config["CACHE_DIR"] = config["CACHE_DIR"] or os.path.expanduser(_CACHE)
        try:
            return _njit(list(signatures), cache=True)(function)
        # no folder can be written, or a file in it is damaged: no reason not to compute
        except Exception:
            return _njit(list(signatures))(function)

    return decorate
