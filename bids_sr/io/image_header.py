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

    Attributes
    ----------
    path : Path
        Image file.
    shape : tuple[int, ...]
        Shape of the image.
    zooms : Triple
        Voxel size along each axis (mm).
    tr : float | None
        Repetition time (s), or None if not known.
    affine : np.ndarray
        Voxel-to-world matrix (4 x 4, RAS+ mm).
    slice_axis : int | None
        Axis across slices according to the header, or None.
    complex : bool
        Whether the voxels are complex numbers.
    order : AxisOrder
        Stored axis for each of the first three axes in use.
    colored : bool
        Whether the voxels have a type other than real or complex numbers, such as colors.
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
