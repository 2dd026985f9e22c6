"""What several tests check."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.bids import Findings
from bids_sr.notices import Notice
from bids_sr.sr.matrices import downsample


def found_by(check: Callable[..., Any], *args: Any, **kwargs: Any) -> Findings:
    """Findings of a check, which takes them as its last positional argument."""
    found = Findings()
    check(*args, found, **kwargs)
    return found


def problems_of(check: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Notice]:
    """Problems that a check finds."""
    return found_by(check, *args, **kwargs).problems


def inconsistency(fine: np.ndarray, volume: np.ndarray) -> float:
    """|B(fine) - volume| / |volume|, where B crops k-space."""
    return float(np.linalg.norm(downsample(fine, volume.shape) - volume) / np.linalg.norm(volume))


def listed(listing: str | Path) -> list[Path]:
    """Files that a step with a list of artifacts has named in a file of its own."""
    return [Path(line) for line in Path(listing).read_text(encoding="utf-8").splitlines()]
