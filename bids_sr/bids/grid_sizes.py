"""Sizes of the grids that steps work on, which decide what memory they need."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from pathlib import Path

from bids_sr.bids.factor import factor_of, has_factor
from bids_sr.bids.headers import read_header
from bids_sr.bids.inputs import Header, Subject
from bids_sr.config import Settings
from bids_sr.config.memory_model import Sizes


def sizes_of(subjects: Iterable[Subject], settings: Settings) -> Sizes:
    """The largest grid of each kind, of all participants; runs without a factor are not worked on."""
    every = tuple(subjects)
    runs = [run for one in every for run in one.runs if has_factor(run, settings)]
    scans = max((_millions(pair.highres) for one in every for pair in one.structural), default=0.0)
    high = max((prod(run.shape) * prod(factor_of(run, settings)) / 1e6 for run in runs), default=0.0)
    return Sizes(
        scans=scans,
        trained=scans * (max(1, len(every) - 1) if settings.superres.train_on == "others" else 1),
        t1w=max((_millions(one.t1w[0]) for one in every if one.t1w), default=0.0),
        low=max((prod(run.shape) / 1e6 for run in runs), default=0.0),
        high=high,
        learned=high if settings.superres.volume_trained else 0.0,
        dense=high if settings.superres.dense else 0.0,
    )


def _millions(path: Path) -> float:
    """Millions of voxels of an image; a file that cannot be read is complained of elsewhere."""
    header = read_header(path)
    return prod(header.shape[:3]) / 1e6 if isinstance(header, Header) else 0.0
