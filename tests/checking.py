"""Helpers for checks that several tests need."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.io.notices import Notice
from bids_sr.spatial.matrices import downsample
from bids_sr.survey.bids.findings import Findings


def found_by(check: Callable[..., Any], *args: Any, **kwargs: Any) -> Findings:
    """Return the findings of a check."""
    with Findings() as findings:
        check(*args, **kwargs)
    return findings


def problems_of(check: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Notice]:
    """Return the problems that a check reports."""
    return found_by(check, *args, **kwargs).problems


def inconsistency(fine: np.ndarray, volume: np.ndarray) -> float:
    """Return |B(fine) - volume| / |volume|, where B crops k-space."""
    return float(np.linalg.norm(downsample(fine, volume.shape) - volume) / np.linalg.norm(volume))


def listed(listing: str | Path) -> list[Path]:
    """Return the files in the listing that a step has written."""
    return [Path(line) for line in Path(listing).read_text(encoding="utf-8").splitlines()]
