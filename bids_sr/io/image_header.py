"""Header of an image, read before its voxels."""

import math
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder

_MAX_VOXELS = 2**30  # per volume; a head of 25 cm at 0.25 mm has as many


def describe_excess(shape: Sequence[int]) -> str:
    """Return why the volumes of an image are too large to be read, "" if they are not.

    A compressed file can be small. `shape` is the shape of the image.
    """
    n_voxels = math.prod(shape[:3])
    if n_voxels <= _MAX_VOXELS:
        return ""
    sizes = "×".join(map(str, shape[:3]))
    return (
        f"the header states {sizes} voxels ({n_voxels / 1e6:,.0f} million) per volume, but at most"
        f" {_MAX_VOXELS / 1e6:,.0f} million are supported"
    )


class ZeroFilledAxis(NamedTuple):
    """In-plane axis with fewer samples than voxels, according to a field of the sidecar."""

    field: str
    n_samples: float
    n_voxels: float

    @property
    def share(self) -> float:
        """Samples relative to voxels."""
        return self.n_samples / self.n_voxels


@frozen
class Header:
    """Facts from the header of an image.

    `zooms` is the voxel size along each axis (mm), `tr` the repetition time (s; None if not
    known), and `affine` the voxel-to-world matrix (4 x 4, RAS+ mm). `slice_axis` is the axis
    across slices according to the header; None if the header does not state it. `complex` states
    whether the voxels are complex numbers, and `colored` whether they have a type other than real
    or complex numbers, such as colors. `order` is the stored axis for each of the first three axes
    in use, and `order_reason` states why it is not the stored order. `zero_filled` are axes with
    fewer samples than voxels, if the sidecar was read. `length_unit` is the unit of lengths as in
    nibabel, and `form_distance_mm` the largest distance (mm) of the corners of the image between
    qform and sform: 0 if only one of the two is set, and None if neither is set.
    """

    path: Path
    shape: tuple[int, ...]
    zooms: tuple[float, float, float]
    tr: float | None
    affine: np.ndarray = field(compare=False)
    slice_axis: int | None
    complex: bool
    order: AxisOrder = AS_STORED
    order_reason: str = ""
    colored: bool = False
    zero_filled: tuple[ZeroFilledAxis, ...] = ()
    length_unit: str = "mm"
    form_distance_mm: float | None = 0.0
