"""What tells by how much a run is super-resolved."""

from __future__ import annotations

from bids_sr.bids.inputs import BoldRun, Triple
from bids_sr.config import Settings


def has_factor(run: BoldRun, settings: Settings) -> bool:
    """Whether anything tells the factor: a pair, ``--sr-factor`` or a calibration."""
    return run.pair is not None or settings.superres.factor is not None or run.calibration is not None


def factor_of(run: BoldRun, settings: Settings) -> Triple:
    """Factor of super-resolution of a run: that of its pair, else the one given, else that of its calibration."""
    if run.pair is not None:
        return run.pair.factor
    if settings.superres.factor is not None:
        return settings.superres.factor, settings.superres.factor, 1.0
    if run.calibration is not None:
        return run.calibration.factor
    raise ValueError(f"{run.bold}: neither a pair nor --sr-factor nor a calibration tells the factor")
