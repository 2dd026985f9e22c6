"""bids-sr: subject-specific super-resolution of fMRI, with controls that tell what it added and what it invented."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bids_sr.api.evaluator import Evaluator
    from bids_sr.api.super_resolver import SuperResolver

# The one place of the version. CHANGES.md, CITATION.cff and the Dockerfile agree with it (tests/unit/package).
RELEASE = "0.2.0.dev0"


def _version() -> str:
    """The release, or what leads to it with the commit that ``setup.py`` stamped when the package was built."""
    stamp = Path(__file__).with_name("commit.txt")
    commit = stamp.read_text(encoding="utf-8").strip() if ".dev" in RELEASE and stamp.is_file() else ""
    return f"{RELEASE}+{commit}" if commit else RELEASE


__version__ = _version()
__all__ = ["RELEASE", "Evaluator", "SuperResolver", "__version__"]
_HOMES = {"Evaluator": "bids_sr.api.evaluator", "SuperResolver": "bids_sr.api.super_resolver"}


def __getattr__(name: str) -> Any:
    """The classes of the Python interface, imported when they are first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
