"""What is read of an image before its voxels are."""

from dataclasses import field
from pathlib import Path

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder

Triple = tuple[float, float, float]


@frozen
class Header:
    """What the header of an image tells."""

    path: Path
    shape: tuple[int, ...]  # every axis
    zooms: Triple  # mm
    tr: float | None  # seconds; None where the header holds none
    affine: np.ndarray = field(compare=False)  # 4x4, voxel → RAS mm, read-only
    slice_axis: int | None  # axis of slices where the header names it
    complex: bool  # voxels of complex numbers
    # axis of the file that each axis here is, in the order that is worked on
    order: AxisOrder = AS_STORED
    colored: bool = False  # voxels of RGB
