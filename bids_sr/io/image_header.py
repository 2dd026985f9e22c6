"""Header of an image, read before its voxels."""

from dataclasses import field
from pathlib import Path

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder

Triple = tuple[float, float, float]


@frozen
class Header:
    """Facts from the header of an image.

    `zooms` is the voxel size along each axis (mm), `tr` the repetition time (s; None if not
    known), and `affine` the voxel-to-world matrix (4 x 4, RAS+ mm). `slice_axis` is the axis
    across slices according to the header; None if the header does not state it. `complex` states
    whether the voxels are complex numbers, and `colored` whether they have a type other than real
    or complex numbers, such as colors. `order` is the stored axis for each of the first three axes
    in use.
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
