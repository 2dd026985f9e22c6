"""Grids of images: the order of their voxel axes, and the comparison of their fields of view.

An order names, for each axis of an array as it is used, the axis of the stored array that it is:
(1, 2, 0) takes a sagittal series with its slices on the first axis to slices on the third. Axes
are exchanged, never turned round, and no value is interpolated; directions stand in the affine. A
field of view ends at the outer edges of the voxels.
"""

from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from bids_sr.io.array_types import Array, Mask

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

T = TypeVar("T", bound=np.generic)
AxisOrder = tuple[int, int, int]
AS_STORED: AxisOrder = (0, 1, 2)
LEAST_SAMPLES = 4
"""Voxels along an axis; with fewer no motion along it can be told: no sample lies inside, or there
is no gradient.
"""


def mm_text(length: float) -> str:
    """Format a length (mm) with three digits.

    Lengths that differ only by the rounding in headers give the same text.

    >>> mm_text(3.75), mm_text(3.7499998), mm_text(3.1250001), mm_text(2.0)
    ('3.75', '3.75', '3.12', '2')
    """
    return f"{round(length, 4):.3g}"


def size_text(sizes: Iterable[float], by: str = " × ", unit: str = " mm") -> str:
    """Voxel sizes (mm) as text, such as ``3 × 3 × 3.3 mm``."""
    return by.join(map(mm_text, sizes)) + unit


def slices_last(affine: np.ndarray, slice_axis: int) -> AxisOrder:
    """Return the axis order with slices last and in-plane axes closest to RAS.

    The axes in plane are as near to right, anterior, superior as can be.

    So all orders in which one acquisition can be stored lead to one.

    Parameters
    ----------
    affine : (4, 4), voxel to RAS mm
    slice_axis : axis of the stored array along which slices were acquired

    Examples
    --------
    >>> slices_last(np.diag([2.0, 2.0, 4.0, 1.0]), 2)
    (0, 1, 2)
    >>> slices_last(np.diag([4.0, 2.0, 2.0, 1.0]), 0)
    (1, 2, 0)
    """
    first, second = (axis for axis in nearest(affine, np.eye(4)) if axis != slice_axis)
    return first, second, slice_axis


def nearest(affine: np.ndarray, reference: np.ndarray) -> AxisOrder:
    """Return the order of an image's axes closest to those of a reference.

    Their directions do not matter.

    Examples
    --------
    >>> nearest(np.diag([1.0, 1.0, 1.0, 1.0])[:, [2, 0, 1, 3]], np.eye(4))
    (1, 2, 0)
    """
    own, other = (
        each[:3, :3] / np.linalg.norm(each[:3, :3], axis=0) for each in (affine, reference)
    )
    cosines = np.abs(other.T @ own)
    best = max(
        permutations(range(3)),
        key=lambda order: float(sum(cosines[k, axis] for k, axis in enumerate(order))),
    )
    return best[0], best[1], best[2]


def finer_text(factor: Sequence[float], axis_order: Sequence[int]) -> str:
    """By what voxels are finer, in the order of axes of the file.

    >>> finer_text((2.0, 2.0, 1.0), (1, 2, 0))
    'voxels 1x2x2 times finer'
    """
    return f"voxels {'x'.join(f'{factor[axis]:g}' for axis in inverse(axis_order))} times finer"


def inverse(order: Sequence[int]) -> AxisOrder:
    """The order that leads back.

    >>> inverse((1, 2, 0))
    (2, 0, 1)
    """
    return order.index(0), order.index(1), order.index(2)


def reordered(data: NDArray[T], order: Sequence[int]) -> NDArray[T]:
    """An array of three or four axes with its first three in another order; a view."""
    return np.transpose(data, (*order, *range(3, np.ndim(data))))


def reordered_affine(affine: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The affine that goes with `reordered`; each voxel stays where it is."""
    return np.asarray(affine)[:, [*order, 3]]


def reordered_header(header: "Nifti1Header", order: Sequence[int]) -> "Nifti1Header":
    """Return a NIfTI header with frequency, phase and slice axes as `reordered` leaves them."""
    copy = header.copy()
    copy.set_dim_info(
        *(None if axis is None else list(order).index(axis) for axis in header.get_dim_info())
    )
    return copy


EDGE_TOLERANCE = 0.1
"""Of a high-resolution voxel: so far may the corners of two fields of view lie apart that are
taken for one.
"""


def corners_apart(
    shape: Sequence[int], affine: Array, other_shape: Sequence[int], other_affine: Array
) -> float:
    """Return the largest distance (mm) between corresponding corners of two fields of view.

    The corners are at the outer edges of the voxels.

    Parameters
    ----------
    shape, affine, other_shape, other_affine : matrices (x, y, z) of the two grids, and voxel to
        RAS mm (4, 4)

    Examples
    --------
    >>> corners_apart((4, 4, 2), np.eye(4), (4, 4, 2), np.eye(4))
    0.0
    """
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    places = [
        (corners * np.asarray(size) - 0.5) @ grid[:3, :3].T + grid[:3, 3]
        for size, grid in ((shape, affine), (other_shape, other_affine))
    ]
    return float(np.linalg.norm(places[0] - places[1], axis=1).max())


def inside_field(
    voxels: Array, affine: Array, other_shape: Sequence[int], other_affine: Array, tolerance: float
) -> Mask:
    """Which voxels (n, 3) of one grid have their center in the field of view of another.

    Parameters
    ----------
    voxels, affine : indices (n, 3), and voxel to RAS mm (4, 4) of their grid
    other_shape, other_affine : matrix (x, y, z) and voxel to RAS mm of the other grid
    tolerance : how far beyond the outer edge a center may lie, in voxels of the other grid

    Examples
    --------
    >>> inside_field(np.array([[0, 0, 0], [4, 0, 0]]), np.eye(4), (4, 4, 2), np.eye(4), 0.0)
    array([ True, False])
    """
    to_other = np.linalg.inv(other_affine) @ affine
    places = voxels @ to_other[:3, :3].T + to_other[:3, 3]
    half = np.asarray(other_shape) / 2
    return np.asarray((np.abs(places + 0.5 - half) <= half + tolerance).all(1))
