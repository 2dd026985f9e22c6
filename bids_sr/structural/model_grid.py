"""Grid with a model's voxel size around a scan, for heads without a high-resolution scan."""

from collections.abc import Sequence

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.orientations import inv_ornt_aff, io_orientation

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume

# axes across slices in RAS order, as named in model cards
_SLICE_AXES = ("R-L", "P-A", "I-S")
_TOLERANCE = 1e-3  # voxels, rounding errors in the header that must not add a voxel to the grid


def order_axes(orientation: str) -> list[int]:
    """Return the axes of RAS in the order of a grid: in the plane, and across slices."""
    slice_axis = _SLICE_AXES.index(orientation)
    return [axis for axis in range(3) if axis != slice_axis] + [slice_axis]


def grid_around(image: Volume, mm: Sequence[float], orientation: str) -> Volume:
    """Return an empty image that covers the field of view of a scan with voxels of another size.

    Both images have the same center and directions. The axes point to right, anterior and superior
    as far as the directions of the scan allow. The axis across slices is the last axis; the other
    two follow in RAS order. At its edges the grid extends beyond the scan by less than half a
    voxel.

    `image` is a scan as acquired (3D). `mm` are the voxel sizes along the axes of the new grid.
    `orientation` is the anatomical axis across slices: ``R-L``, ``P-A`` or ``I-S``.
    """
    shape, affine = _reorder_to_ras(image)
    order = order_axes(orientation)
    directions = affine[:3, order] / voxel_sizes(affine)[order]
    center = apply_affine(affine, (shape - 1) / 2)
    extent = (shape * voxel_sizes(affine))[order]
    voxel_mm = np.asarray(mm, dtype=np.float64)
    counts = np.maximum(1, np.ceil(extent / voxel_mm - _TOLERANCE)).astype(int)
    grid_affine = np.eye(4)
    grid_affine[:3, :3] = directions * voxel_mm
    grid_affine[:3, 3] = center - grid_affine[:3, :3] @ ((counts - 1) / 2)
    x, y, z = counts.tolist()
    return Volume(np.zeros((x, y, z), dtype=np.float32), grid_affine)


def _reorder_to_ras(image: Volume) -> tuple[Array, Array]:
    """Return shape and affine of an image with its axes reordered closest to RAS."""
    orientation = io_orientation(image.affine)
    shape = np.empty(3)
    shape[orientation[:, 0].astype(int)] = image.data.shape
    return shape, np.asarray(image.affine, float) @ inv_ornt_aff(orientation, image.data.shape)
