"""Storage order of the voxels of an image, relative to another image.

Copies of one image may be stored with other axes first, or with axes that run the other way.
Turning such a copy moves voxels within the array and interpolates no value.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder, nearest_axis_order, reorder, reorder_affine

_T = TypeVar("_T", bound=np.generic)


@frozen
class StorageOrder:
    """Turn of an image that brings its axes along the axes of another image.

    `axes` is the number of the stored axis that becomes each axis, and `flips` states whether each
    axis, after the change of their order, is reversed.
    """

    axes: AxisOrder
    flips: tuple[bool, bool, bool]

    @property
    def is_equal(self) -> bool:
        """Whether both images are stored in the same order."""
        return self.axes == AS_STORED and not any(self.flips)

    def turn_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape (3D or 4D) after the turn."""
        return (*(shape[axis] for axis in self.axes), *shape[3:])

    def turn(self, data: NDArray[_T]) -> NDArray[_T]:
        """Return a view of an array (3D or 4D) after the turn."""
        steps = (slice(None, None, -1 if is_flipped else 1) for is_flipped in self.flips)
        return reorder(data, self.axes)[tuple(steps)]

    def turn_affine(self, affine: Array, shape: Sequence[int]) -> Array:
        """Return the voxel-to-world matrix (4 x 4) after the turn.

        The position of each voxel does not change. `shape` is the shape before the turn.
        """
        turned = np.array(reorder_affine(affine, self.axes), dtype=np.float64)
        for axis, is_flipped in enumerate(self.flips):
            if is_flipped:
                turned[:, 3] += turned[:, axis] * (self.turn_shape(shape)[axis] - 1)
                turned[:, axis] *= -1
        return turned


def storage_order(affine: Array, reference: Array) -> StorageOrder:
    """Return the turn that brings the axes of an image closest to the axes of a reference.

    Both affines are voxel-to-world matrices (4 x 4, RAS+ mm).

    >>> storage_order(np.diag([-2.0, 2.0, 3.0, 1.0]), np.eye(4)).flips
    (True, False, False)
    """
    axes = nearest_axis_order(affine, reference)
    cosines = (reorder_affine(affine, axes)[:3, :3] * np.asarray(reference)[:3, :3]).sum(axis=0)
    first, second, third = (bool(cosine < 0) for cosine in cosines)
    return StorageOrder(axes=axes, flips=(first, second, third))


def axes_text(affine: Array) -> str:
    """Return the directions of the voxel axes in letters, such as ``RAS``.

    `affine` is the voxel-to-world matrix (4 x 4, RAS+ mm).
    """
    from nibabel.orientations import aff2axcodes

    return "".join(aff2axcodes(affine))
