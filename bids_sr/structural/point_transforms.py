"""Mapping from points of a frame image to a scan: a matrix and, optionally, a displacement field.

The frame is the image that other scans of the same head are resampled to. Matrices are 4 x 4 (RAS
mm) and map a point of the frame to its point in the scan.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import apply_to_points
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, invert
from bids_sr.spatial.windowed_sinc import resample_sinc

# mm, voxel size of the grid on which a deformation is sampled; SyN smooths its field over three
# voxels
_DISPLACEMENT_MM = 4.0


@frozen
class PointTransform:
    """Mapping from points of a frame image to points of another scan.

    `xfm` transforms a frame point to its point in the scan (4 x 4, RAS+ mm). `displacement` is
    added after the transform (3, X, Y, Z; RAS mm), and `grid` is its voxel-to-world matrix (4 x 4,
    RAS+ mm); None if there are no displacements.
    """

    xfm: Array
    displacement: Array | None = None
    grid: Array | None = None

    def resample(
        self,
        image: Volume,
        frame: Volume,
        order: int | Literal["sinc"],
        *,
        zero_outside: bool = False,
    ) -> Array:
        """Resample a scan to the grid of the frame in one interpolation.

        `image` is a scan of the same head as the frame (3D). `order` is the order of the spline,
        such as 0 (nearest), 1 (linear) or 3 (cubic), or "sinc" for a windowed sinc. Voxels outside
        the field of view of the scan have its edge value, or 0 if `zero_outside` is set; this is
        ignored by the windowed sinc. The values are 3D and float32. Raises `ValueError` if a
        windowed sinc is requested and there is a displacement.
        """
        target = (frame.data.shape, frame.affine)
        if order == "sinc":
            if self.displacement is not None:
                raise ValueError("deformation fields are only supported with spline interpolation")
            x, y, z = frame.data.shape
            return resample_sinc(image.data, image.affine, (x, y, z), self.xfm @ frame.affine)
        displacement = None
        if self.displacement is not None and self.grid is not None:
            components = [
                sample_volume(component, self.grid, *target, order=1)
                for component in self.displacement
            ]
            displacement = np.stack(components)
        return sample_volume(
            image.data,
            image.affine,
            *target,
            self.xfm,
            order=order,
            zero_outside=zero_outside,
            displacement=displacement,
        )

    def map_points(self, points: Array) -> Array:
        """Map points of the frame (N, 3) to points of the scan (RAS mm)."""
        mapped = apply_affine(self.xfm, points)
        if self.displacement is None or self.grid is None:
            return mapped
        voxels = apply_affine(invert(self.grid), points).T
        shifts = [
            ndimage.map_coordinates(component, voxels, order=1, mode="nearest")
            for component in self.displacement
        ]
        return mapped + np.stack(shifts, axis=1)


def point_transform_from_composite(frame: Volume, xfm: Array, composite: Path) -> PointTransform:
    """Return the point transform defined by a composite transform file.

    The displacement is sampled over the field of view of `frame`, and added to the linear part
    `xfm` (4 x 4, RAS+ mm). `composite` is a file (.h5) that maps points of the frame to points of
    the scan.
    """
    return _sample_deformation(frame, xfm, lambda points: apply_to_points(points, [composite]))


def compose(frame: Volume, first: PointTransform, second: PointTransform) -> PointTransform:
    """Return the point transform that applies `first` to points of the frame, then `second`.

    Matrices are multiplied, and displacements are sampled once on a grid over the frame.
    """
    xfm = second.xfm @ first.xfm
    if first.displacement is None and second.displacement is None:
        return PointTransform(xfm=xfm)
    return _sample_deformation(
        frame, xfm, lambda points: second.map_points(first.map_points(points))
    )


def _sample_deformation(
    frame: Volume, xfm: Array, map_points: Callable[[Array], Array]
) -> PointTransform:
    """Return a transform with the deformation of a mapping on a coarse grid around a frame.

    `map_points` maps points (N, 3; mm), and `xfm` is its affine part.
    """
    factor = [min(1.0, float(zoom) / _DISPLACEMENT_MM) for zoom in frame.zooms]
    shape, affine = hr_grid(frame.data.shape, frame.affine, factor)
    points = apply_affine(affine, np.indices(shape).reshape(3, -1).T)
    displacement = map_points(points) - apply_affine(xfm, points)
    return PointTransform(
        xfm=xfm, displacement=displacement.T.reshape(3, *shape).astype(np.float32), grid=affine
    )
