"""What is read of an image before its voxels are."""

from dataclasses import field
from pathlib import Path

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder

Triple = tuple[float, float, float]


@frozen
class Header:
    """What the header of an image tells.

    Parameters
    ----------
    path : Path
        File that the header was read from.
    shape : tuple[int, ...]
        Every axis.
    zooms : Triple
        Mm.
    tr : float | None
        Seconds; None where the header holds none.
    affine : np.ndarray
        4x4, voxel → RAS mm, read-only.
    slice_axis : int | None
        Axis of slices where the header names it.
    complex : bool
        Voxels of complex numbers.
    order : AxisOrder
        Axis of the file that each axis here is, in the order that is worked on.
    colored : bool
        Voxels of RGB.
    """

    path: Path
    shape: tuple[int, ...]
    zooms: Triple
    tr: float | None
    affine: np.ndarray = field(compare=False)
    slice_axis: int | None
    complex: bool
    order: AxisOrder = AS_STORED
    colored: bool = False
