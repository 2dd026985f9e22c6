"""Fields of view of images: the outer edges of their voxels, held against one another."""

from collections.abc import Sequence

import numpy as np

from bids_sr.io.array_types import Array, Mask

EDGE_TOLERANCE = 0.1
"""Of a high-resolution voxel: so far may the corners of two fields of view lie apart that are taken for one."""


def corners_apart(shape: Sequence[int], affine: Array, other_shape: Sequence[int], other_affine: Array) -> float:
    """Largest distance (mm) of corresponding corners of two fields of view, the outer edges of their voxels.

    `shape`, `affine`, `other_shape`, `other_affine`: matrices (x, y, z) of the two grids, and voxel to RAS mm (4, 4).

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
    voxels: Array, affine: Array, other_shape: Sequence[int], other_affine: Array, tolerance: float = 0.0
) -> Mask:
    """Which voxels (n, 3) of one grid have their center in the field of view of another.

    Parameters
    ----------
    voxels, affine : indices (n, 3), and voxel to RAS mm (4, 4) of their grid
    other_shape, other_affine : matrix (x, y, z) and voxel to RAS mm of the other grid
    tolerance : how far beyond the outer edge a center may lie, in voxels of the other grid

    Examples
    --------
    >>> inside_field(np.array([[0, 0, 0], [4, 0, 0]]), np.eye(4), (4, 4, 2), np.eye(4))
    array([ True, False])
    """
    to_other = np.linalg.inv(other_affine) @ affine
    places = voxels @ to_other[:3, :3].T + to_other[:3, 3]
    half = np.asarray(other_shape) / 2
    return np.asarray((np.abs(places + 0.5 - half) <= half + tolerance).all(1))
