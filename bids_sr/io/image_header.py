"""Header of an image, read before its voxels."""

from dataclasses import field
from pathlib import Path

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder

Triple = tuple[float, float, float]


@frozen
class Header:
    """What the header of an image tells.

    `complex`: voxels of complex numbers.
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
