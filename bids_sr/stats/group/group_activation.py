"""What the maps of the group show, series by series."""

from collections.abc import Mapping
from pathlib import Path

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array

Z_SHOWN = 3.1


@frozen
class GroupMap:
    """What the group shows of one series and contrast."""

    task: str
    variant: str
    contrast: str
    series: str
    fwhm_mm: float
    participants: tuple[str, ...]  # who entered
    files: Mapping[str, Path]  # by statistic (effect, t, z)
    peak_z: float  # highest z and where, template's mm
    peak_mm: tuple[float, float, float]
    active_mm3: float  # volume of z > 3.1


@frozen
class GroupMaps:
    """All group maps, and what was left out and why."""

    space: str | None = None  # template's space; None where nothing could be made
    maps: tuple[GroupMap, ...] = ()  # in the order of task, contrast, series
    left_out: tuple[str, ...] = ()  # in words
    background: Array | None = None  # (X, Y, Z) template and voxels tested, on the maps' grid, voxel to RAS mm
    mask: Array | None = None
    affine: Array | None = None
