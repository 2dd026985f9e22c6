"""bids-sr: subject-specific super-resolution of fMRI, with controls for invented detail.

The controls tell what super-resolution added to the data and what it invented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_sr.version import RELEASE, __version__

if TYPE_CHECKING:
    from bids_sr.api.evaluator import Evaluator
    from bids_sr.api.super_resolver import SuperResolver
    from bids_sr.combination.api import combine_runs

__all__ = ["RELEASE", "Evaluator", "SuperResolver", "__version__", "combine_runs"]
_HOMES = {
    "Evaluator": "bids_sr.api.evaluator",
    "SuperResolver": "bids_sr.api.super_resolver",
    "combine_runs": "bids_sr.combination.api",
}


def __getattr__(name: str) -> Any:
    """Import a class or function of the Python interface when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
