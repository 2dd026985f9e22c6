"""bids-sr: subject-specific super-resolution of fMRI, with controls for invented detail.

docs/changing.md describes the folders. The top level has only the version and the Python
interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_sr.io.lazy import import_on_use
from bids_sr.version import RELEASE, __version__

if TYPE_CHECKING:
    from bids_sr.api.recovered_detail import recovered_detail
    from bids_sr.api.super_resolver import SuperResolver
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "api.recovered_detail": ["recovered_detail"],
            "api.super_resolver": ["SuperResolver"],
        },
    )

__all__ = [
    "RELEASE",
    "SuperResolver",
    "__version__",
    "recovered_detail",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
