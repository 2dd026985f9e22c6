"""Order of voxel axes, sizes of grids in words, and limits that concern grids.

An order contains, for each axis of an array in use, the number of the stored axis: (1, 2, 0) maps
a sagittal series with its slices on the first axis to slices on the third. Axes are permuted,
never flipped, and no value is interpolated; the affine contains the directions.
"""

from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

_T = TypeVar("_T", bound=np.generic)
AxisOrder = tuple[int, int, int]
Shape = tuple[int, int, int]
"""Number of voxels of a grid along each axis."""
Factor = tuple[float, float, float]
"""Ratio of low- to high-resolution voxel size along each axis."""
BOLDREF: Final = "boldref"
FIRST_BOLDREF: Final = "firstBoldref"
"""Labels (``space``) of the boldref of a run, and of the first run in combined maps."""
LARGE_SERIES_BYTES = 500_000_000
"""Bytes of a series in single precision above which it is int16 in the working directory."""
AS_STORED: AxisOrder = (0, 1, 2)
TURNED_DEG = 45.0
"""Rotation between two heads above which a header is probably wrong (degrees)."""
LARGEST_BRAIN_ML = 2500.0
"""Volume (ml) above which a mask cannot be a brain mask."""
_HALF_TOLERANCE = 1e-4  # voxels, tolerance for rounding half a voxel up
LEAST_SAMPLES = 4
"""Smallest number of voxels along an axis for which motion along it can be estimated. With fewer
voxels, no sample is inside or there is no gradient.
"""


def highres_size(n_voxels: int, factor: float) -> int:
    """Return the number of high-resolution voxels over the field of view of m acquired voxels.

    The number is m times `factor`, rounded; halves are rounded up, also if they are missed by
    rounding of `factor`, such as 1.166666 for 7/6.

    >>> highres_size(75, 7 / 6), highres_size(75, 1.166666)
    (88, 88)
    """
    return int(np.floor(n_voxels * factor + 0.5 + _HALF_TOLERANCE))


def size_text(sizes: Iterable[float], separator: str = " × ", unit: str = " mm") -> str:
    """Format voxel sizes (mm) as a text such as ``3 × 3 × 3.3 mm``."""
    return separator.join(map(mm_text, sizes)) + unit


def mm_text(length: float) -> str:
    """Format a length (mm) with three significant digits, without its unit.

    Lengths that differ only by the rounding in headers have the same text.

    >>> mm_text(3.75), mm_text(3.7499998), mm_text(3.1250001), mm_text(2.0)
    ('3.75', '3.75', '3.12', '2')
    """
    return f"{round(length, 4):.3g}"


def slices_last(affine: np.ndarray, slice_axis: int) -> AxisOrder:
    """Return the axis order with slices last and in-plane axes closest to RAS.

    All orders in which an acquisition can be stored lead to the same result.

    >>> slices_last(np.diag([2.0, 2.0, 4.0, 1.0]), 2)
    (0, 1, 2)
    >>> slices_last(np.diag([4.0, 2.0, 2.0, 1.0]), 0)
    (1, 2, 0)
    """
    first, second = (axis for axis in nearest_axis_order(affine, np.eye(4)) if axis != slice_axis)
    return first, second, slice_axis


def nearest_axis_order(affine: np.ndarray, reference: np.ndarray) -> AxisOrder:
    """Return the order of an image's axes closest to the axes of a reference.

    The sign of the directions is ignored. Both affines are voxel-to-world matrices (4 x 4, RAS+
    mm).

    >>> nearest_axis_order(np.diag([1.0, 1.0, 1.0, 1.0])[:, [2, 0, 1, 3]], np.eye(4))
    (1, 2, 0)
    """
    directions, reference_directions = (
        matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (affine, reference)
    )
    cosines = np.abs(reference_directions.T @ directions)

    def sum_cosines(order: Sequence[int]) -> float:
        """Return the sum of the cosines between the axes of the reference and of an order."""
        return float(sum(cosines[row, axis] for row, axis in enumerate(order)))

    first, second, third = max(permutations(range(3)), key=sum_cosines)
    return first, second, third


def inverse_order(order: Sequence[int]) -> AxisOrder:
    """Return the inverse of an axis order.

    >>> inverse_order((1, 2, 0))
    (2, 0, 1)
    """
    return order.index(0), order.index(1), order.index(2)


def reorder(data: NDArray[_T], order: Sequence[int]) -> NDArray[_T]:
    """Return a view of an array (3D or 4D) with its first three axes in another order."""
    return np.transpose(data, (*order, *range(3, np.ndim(data))))


def reorder_affine(affine: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Return the voxel-to-world matrix (4 x 4) for an array after `reorder`.

    The position of each voxel does not change.
    """
    return np.asarray(affine)[:, [*order, 3]]


def reorder_header(header: "Nifti1Header", order: Sequence[int]) -> "Nifti1Header":
    """Return a copy of a NIfTI header with its ``dim_info`` in the order of `reorder`."""
    copy = header.copy()
    copy.set_dim_info(
        *(None if axis is None else list(order).index(axis) for axis in header.get_dim_info())
    )
    return copy
