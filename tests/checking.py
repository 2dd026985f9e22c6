"""Helpers for checks that several tests need."""

from pathlib import Path

import numpy as np

from bids_sr.spatial.matrices import downsample


def inconsistency(fine: np.ndarray, volume: np.ndarray) -> float:
    """Return |B(fine) - volume| / |volume|, where B crops k-space."""
    return float(np.linalg.norm(downsample(fine, volume.shape) - volume) / np.linalg.norm(volume))


def listed(listing: str | Path) -> list[Path]:
    """Return the files in the listing that a step has written."""
    return [Path(line) for line in Path(listing).read_text(encoding="utf-8").splitlines()]
