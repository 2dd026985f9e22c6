"""Display grids of figures, and resampling of images to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.engine.artifacts import Volume
from bids_sr.io.arrays import Array, Float
from bids_sr.io.grids import Shape
from bids_sr.spatial.resampling import sample_volume

_DISPLAY_MM = 1.5  # smallest voxel size of display grids
_SMALL_VOXEL_MM = 0.85  # largest voxel size that is replaced by 1 mm
_MARGIN_MM = 12.0  # margin of display grids around the mask
_DisplayGrid = tuple[Shape, Float]
"""Shape, and affine (voxel to RAS mm)."""


def choose_display_grid(mask: Volume) -> _DisplayGrid:
    """Return the grid of a mask, or an isotropic 1 mm grid if its voxels are much smaller.

    The grid of the mask avoids interpolation.
    """
    if mask.zooms.min() < _SMALL_VOXEL_MM:
        return display_grid(mask, zoom=1.0)
    return read_grid(mask)


def display_grid(mask: Volume, *, zoom: float = _DISPLAY_MM) -> _DisplayGrid:
    """Return an isotropic grid that contains a mask with a margin of `_MARGIN_MM`.

    The grid is parallel to the axes of the mask, and its voxels are at least as large as the
    smallest voxel size of the mask. `zoom` is the smallest voxel size of the grid (mm).
    """
    voxels = np.argwhere(mask.data > 0)
    if not len(voxels):
        voxels = np.array([[0, 0, 0], np.array(mask.data.shape) - 1])
    mask_zooms = mask.zooms
    grid_zoom = max(zoom, float(mask_zooms.min()))
    first_voxel = voxels.min(axis=0) - _MARGIN_MM / mask_zooms
    last_voxel = voxels.max(axis=0) + _MARGIN_MM / mask_zooms
    affine = np.eye(4)
    affine[:3, :3] = mask.affine[:3, :3] / mask_zooms * grid_zoom
    affine[:3, 3] = apply_affine(mask.affine, first_voxel)
    extent_mm = (last_voxel - first_voxel) * mask_zooms
    nx, ny, nz = np.maximum(np.ceil(extent_mm / grid_zoom).astype(int), 1)
    return (int(nx), int(ny), int(nz)), affine


def read_grid(image: Volume) -> _DisplayGrid:
    """Return the shape and the voxel-to-RAS-mm matrix of an image."""
    nx, ny, nz = image.data.shape
    return (nx, ny, nz), image.affine


def resample_to(
    image: Volume, shape: Sequence[int], affine: Float, xfm: Array | None = None, *, order: int = 1
) -> Volume:
    """Resample an image to a display grid, with 0 outside the image.

    `affine` is the voxel-to-RAS-mm matrix of the grid. `xfm` is the transform of points of the
    grid to points of the image; None for the identity. The spline is of `order` 0 (nearest
    neighbor), 1 (linear) or 3 (cubic).
    """
    data = np.asarray(image.data, dtype=np.float32)
    same_grid = data.shape == tuple(shape) and np.allclose(image.affine, affine, atol=1e-4)
    if xfm is None and same_grid:
        return Volume(data, affine)
    return Volume(
        sample_volume(data, image.affine, shape, affine, xfm, order=order, zero_outside=True),
        affine,
    )


def binarize(mask: Volume) -> Volume:
    """Return the voxels of an interpolated mask with values above .5 (3D, boolean)."""
    return mask.like(mask.data > 0.5)
