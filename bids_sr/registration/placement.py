"""Position of one image's points in another: a matrix, and a displacement on a grid if any.

Matrices are 4 x 4 (RAS mm) and take a point of the frame to its point in the scan.
"""

from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.spatial.composites import carry
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, invert
from bids_sr.spatial.windowed_sinc import resample_sinc

SINC = -1
"""Takes the place of the order of a spline: a sinc with Lanczos' window."""
# grid on which a deformation is read from its file; SyN smooths its own over three voxels
_WARP_MM = 4.0


@frozen
class Placement:
    """Position of a frame's points in another scan.

    `moved`: displacement added after the transform (3, X, Y, Z; RAS+ mm), or None. `grid`:
    voxel-to-world matrix of the displacements (4 x 4, RAS+ mm), or None.
    """

    xfm: Array
    moved: Array | None = None
    grid: Array | None = None

    def seen(
        self, image: Volume, frame: Volume, order: int, *, zero_outside: bool = False
    ) -> Array:
        """The scan on the grid of the frame, in one interpolation by a spline of that order.

        `image`: scan of the same head as the frame (3D). `order`: order of the spline, such as 0
        (nearest), 1 (linear) or 3 (cubic), or `SINC`. `zero_outside`: 0 beyond the field of view
        of the scan, in place of its edge (splines only). ValueError for `SINC` with a deformation.
        Resampled values on the grid of the frame (3D,
        float32).
        """
        target = (frame.data.shape, frame.affine)
        if order == SINC and self.moved is None:
            x, y, z = frame.data.shape
            return resample_sinc(image.data, image.affine, (x, y, z), self.xfm @ frame.affine)
        if order == SINC:
            raise ValueError("deformation fields are only supported with spline interpolation")
        moved = None
        if self.moved is not None and self.grid is not None:
            parts = [sample_volume(part, self.grid, *target, order=1) for part in self.moved]
            moved = np.stack(parts)
        return sample_volume(
            image.data,
            image.affine,
            *target,
            self.xfm,
            order=order,
            zero_outside=zero_outside,
            moved=moved,
        )

    def points(self, points: Array) -> Array:
        """Return (N, 3) points of the frame in the scan, RAS mm."""
        there = apply_affine(self.xfm, points)
        if self.moved is None or self.grid is None:
            return there
        at = apply_affine(invert(self.grid), points).T
        shifts = [
            ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in self.moved
        ]
        return there + np.stack(shifts, axis=1)


def deformed(frame: Volume, xfm: Array, composite: Path) -> Placement:
    """Return the placement of a composite transform file, over the grid of the frame.

    `frame`: image on whose field of view the displacement is read. `xfm`: linear part (4 x 4, RAS
    mm), which the displacement is added to. `composite`: file that takes points of the frame to
    their points in the scan (.h5).
    """
    points, shape, grid = _coarse_points(frame)
    moved = carry(points, [composite]) - apply_affine(xfm, points)
    return _displaced(xfm, moved, shape, grid)


def composed(frame: Volume, first: Placement, second: Placement) -> Placement:
    """Return the placement that applies `first` to points of the frame, then `second`.

    Matrices are multiplied; displacements are read once, on a grid over the frame.
    """
    xfm = second.xfm @ first.xfm
    if first.moved is None and second.moved is None:
        return Placement(xfm=xfm)
    points, shape, grid = _coarse_points(frame)
    moved = second.points(first.points(points)) - apply_affine(xfm, points)
    return _displaced(xfm, moved, shape, grid)


def _coarse_points(frame: Volume) -> tuple[Array, tuple[int, int, int], Array]:
    """Return points (N, 3; RAS mm) over a frame, the shape of their grid, and its matrix."""
    factor = [min(1.0, float(zoom) / _WARP_MM) for zoom in frame.zooms]
    shape, grid = hr_grid(frame.data.shape, frame.affine, factor)
    return apply_affine(grid, np.indices(shape).reshape(3, -1).T), shape, grid


def _displaced(xfm: Array, moved: Array, shape: tuple[int, int, int], grid: Array) -> Placement:
    return Placement(xfm=xfm, moved=moved.T.reshape(3, *shape).astype(np.float32), grid=grid)
