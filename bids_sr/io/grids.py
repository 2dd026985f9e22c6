"""Grids of images: the order of their voxel axes, and their sizes in words.

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

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

_T = TypeVar("_T", bound=np.generic)
AxisOrder = tuple[int, int, int]
Shape = tuple[int, int, int]
"""Voxels of a grid along each axis."""
Factor = tuple[float, float, float]
"""How many times finer a grid is along each axis."""
LARGE = 500_000_000
"""Bytes of a series in single precision, above which the working directory has it in half."""
AS_STORED: AxisOrder = (0, 1, 2)
TURNED_DEG = 45.0  # angle between two heads above which one of the headers is probably wrong
LARGEST_BRAIN_ML = 2500.0
"""Volume (ml) above which a mask cannot be that of a brain."""
LEAST_SAMPLES = 4
"""Voxels along an axis; with fewer no motion along it can be told: no sample lies inside, or there
is no gradient.
"""


def mm_text(length: float) -> str:
    """Format a length (mm) with three digits.

    Lengths that differ only by the rounding in headers give the same text.

    >>> mm_text(3.75), mm_text(3.7499998), mm_text(3.1250001), mm_text(2.0)
    ('3.75', '3.75', '3.12', '2')

    `length`: size or distance to format (mm). Number as text, without its unit.
    """
    return f"{round(length, 4):.3g}"


def size_text(sizes: Iterable[float], by: str = " × ", unit: str = " mm") -> str:
    """Voxel sizes (mm) as text, such as ``3 × 3 × 3.3 mm``.

    `sizes`: voxel edge lengths (mm). Formatted numbers in one line, with the unit.
    """
    return by.join(map(mm_text, sizes)) + unit


def slices_last(affine: np.ndarray, slice_axis: int) -> AxisOrder:
    """Return the axis order with slices last and in-plane axes closest to RAS.

    The axes in plane are as near to right, anterior, superior as can be.

    So all orders in which one acquisition can be stored lead to one.

    `ImageInputError`: the header names another axis of slices.

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

    `reference`: voxel-to-world matrix of the reference (4 x 4, RAS+ mm).

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


def inverse(order: Sequence[int]) -> AxisOrder:
    """The order that leads back.

    >>> inverse((1, 2, 0))
    (2, 0, 1)
    """
    return order.index(0), order.index(1), order.index(2)


def reordered(data: NDArray[_T], order: Sequence[int]) -> NDArray[_T]:
    """An array of three or four axes with its first three in another order; a view."""
    return np.transpose(data, (*order, *range(3, np.ndim(data))))


def reordered_affine(affine: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The affine that goes with `reordered`; each voxel stays where it is.

    Voxel-to-world matrix of the array in use (4 x 4, RAS+ mm).
    """
    return np.asarray(affine)[:, [*order, 3]]


def reordered_header(header: "Nifti1Header", order: Sequence[int]) -> "Nifti1Header":
    """Return a NIfTI header with frequency, phase and slice axes as `reordered` leaves them.

    Copy whose ``dim_info`` names the axes in use.
    """
    copy = header.copy()
    copy.set_dim_info(
        *(None if axis is None else list(order).index(axis) for axis in header.get_dim_info())
    )
    return copy
