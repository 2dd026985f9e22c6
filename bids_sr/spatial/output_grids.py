"""Output grids in other spaces, and their points in the reference frame of a run.

Each grid point is mapped to the boldref of the run once, through all registrations in between. For
each volume, only the pose and the distortion (if corrected) are then applied to these points.
Volumes are therefore interpolated once, without an image on an intermediate grid.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from bids_sr.engine.artifacts import Artifact
from bids_sr.io import atomic_files
from bids_sr.io.arrays import Array, Float, Float32, MaskArray, iterate_parts
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Shape
from bids_sr.io.volume import Volume
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.reproducible_numbers import round_values
from bids_sr.spatial.resampling import (
    Shift,
    evaluate_spline,
    interpolate_linearly,
    spline_coefficients,
)
from bids_sr.spatial.transforms import apply_matrix

_MARGIN_VOXELS = 2  # voxels added around the brain
_POINTS_PER_BLOCK = 400_000  # points per block, which limits the memory for double precision
_ZOOM_DECIMALS = 3  # decimals of voxel sizes (mm); affines contain rounding errors
# decimals of an extent in voxels, so that a rounding error does not add a voxel
_EXTENT_DECIMALS = 6


class _MaskPoints(NamedTuple):
    """M points of a grid whose interpolation uses at least one voxel of a mask.

    `indices` are numbers of these points among the points of the grid (M,), and `voxels` their
    coordinates in voxels of the mask (3, M). `nearest_voxels` are indices of the nearest voxels in
    the flattened mask (M,).
    """

    indices: Array
    voxels: Array
    nearest_voxels: Array


@frozen
class OutputGrid(Artifact):
    """Grid in some space, with the positions of its voxels in the boldref of a run.

    `entities` are the BIDS entities of the outputs on this grid, and `affine` is its
    voxel-to-world matrix (4 x 4, RAS+ mm). `inside` are the voxels inside the field of view of the
    boldref (3D), and `points` the positions of these N voxels in the boldref (N, 3; RAS mm).
    """

    entities: Mapping[str, str]
    shape: Shape
    affine: Array
    inside: MaskArray
    points: Float32

    def to_volume(self, values: Array) -> Array:
        """Return values (N,) of the inside voxels on the full grid (3D), which is 0 elsewhere."""
        volume = np.zeros(self.shape, dtype=values.dtype)
        volume[self.inside] = values
        return volume

    def sample_volume(
        self,
        coefficients: Float32,
        affine: Array,
        pose: Array | None = None,
        shift: Shift | None = None,
    ) -> Float32:
        """Interpolate a volume at the points by a cubic spline.

        `coefficients` are from `bids_sr.spatial.resampling.spline_coefficients`, and `affine` is
        the voxel-to-world matrix of the volume. `pose` transforms a reference point to its
        position in the volume (4 x 4, RAS+ mm); None is the identity. `shift` is the signal shift
        of each point (N,) and its step; None applies no shift.
        """
        world_to_voxel = np.linalg.inv(affine)
        reference_to_voxel = round_values(
            world_to_voxel if pose is None else world_to_voxel @ pose
        )
        values = np.empty(len(self.points), dtype=np.float32)
        for block in iterate_parts(len(values), _POINTS_PER_BLOCK):
            voxels = apply_matrix(reference_to_voxel, self.points[block].astype(np.float64))
            if shift is not None:
                multiples, step = shift
                voxels += multiples[block, None] * (world_to_voxel[:3, :3] @ step)
            values[block] = evaluate_spline(coefficients, voxels)
        return values

    def resample_maps(
        self, maps: Iterable[tuple[Array, bool]], mask: MaskArray, affine: Array
    ) -> Iterator[Array]:
        """Resample maps in reference space to this grid.

        The interpolation is linear; labels are taken from the nearest voxel.

        `maps` are 3D on one grid, each with True if the map contains labels, and can be different
        from 0 only in `mask`. `affine` is their voxel-to-world matrix (4 x 4, RAS+ mm). Yields
        values on this grid (3D), float32 or, for labels, uint8.
        """
        mask_points = self._locate_points_near(mask, affine)
        target_voxels = np.flatnonzero(self.inside)[mask_points.indices]
        for values, is_label_map in maps:
            resampled = np.zeros(self.shape, dtype=np.uint8 if is_label_map else np.float32)
            resampled.reshape(-1)[target_voxels] = (
                np.ravel(values)[mask_points.nearest_voxels]
                if is_label_map
                else interpolate_linearly(values[..., None], mask_points.voxels)[:, 0]
            )
            yield resampled

    def _locate_points_near(self, mask: MaskArray, affine: Array) -> _MaskPoints:
        """Locate the points of the grid at which a linearly interpolated mask is above 0.

        `mask` (3D) is in reference space, and `affine` its voxel-to-world matrix (4 x 4, RAS+ mm).
        """
        world_to_voxel = round_values(np.linalg.inv(affine))
        last_voxel = np.array(mask.shape)[:, None] - 1
        blocks = []
        for block in iterate_parts(len(self.points), _POINTS_PER_BLOCK):
            voxels = apply_matrix(world_to_voxel, self.points[block].astype(np.float64)).T
            is_near_mask = interpolate_linearly(mask[..., None], voxels)[:, 0] > 0
            voxels_near_mask = voxels[:, is_near_mask]
            nearest_voxels = np.clip(np.rint(voxels_near_mask).astype(int), 0, last_voxel)
            blocks.append(
                _MaskPoints(
                    indices=np.flatnonzero(is_near_mask) + block.start,
                    voxels=voxels_near_mask,
                    nearest_voxels=np.ravel_multi_index(tuple(nearest_voxels), mask.shape),
                )
            )
        return _MaskPoints(
            indices=np.concatenate([points.indices for points in blocks]),
            voxels=np.concatenate([points.voxels for points in blocks], axis=1),
            nearest_voxels=np.concatenate([points.nearest_voxels for points in blocks]),
        )

    def signal_shift(self, distortion: Distortion) -> Float32:
        """Return the signal shift of each point (acquired voxels along phase encoding; N,)."""
        return self.sample_volume(spline_coefficients(distortion.shift), distortion.affine)

    def save(self, stem: Path) -> Path:
        """Write the grid as .npz, in a single atomic step."""
        path = stem.with_suffix(".npz")
        with atomic_files.atomic_file(path) as partial_file, partial_file.open("wb") as stream:
            np.savez(
                stream,
                names=np.array(list(self.entities.keys())),
                labels=np.array(list(self.entities.values())),
                affine=self.affine,
                inside=self.inside,
                points=self.points,
            )
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the grid in a file of `save`."""
        with np.load(path, allow_pickle=False) as data:
            x, y, z = data["inside"].shape
            return cls(
                entities={
                    str(name): str(label)
                    for name, label in zip(data["names"], data["labels"], strict=True)
                },
                shape=(x, y, z),
                affine=data["affine"],
                inside=data["inside"],
                points=data["points"],
            )


def make_output_grid(
    entities: Mapping[str, str],
    shape: Shape,
    affine: Array,
    to_boldref: Callable[[Array], Array],
    boldref: Volume,
) -> OutputGrid:
    """Map the voxels of a grid to the boldref of a run.

    Parameters
    ----------
    entities : Mapping[str, str]
        BIDS entities of the outputs on this grid.
    shape : Shape
        Number of voxels of the grid along each axis.
    affine : Array
        Voxel-to-world matrix of the grid (4 x 4, RAS+ mm).
    to_boldref : Callable[[Array], Array]
        Function that maps points of the grid's space to points of the boldref (N, 3; RAS mm).
    boldref : Volume
        Boldref of the run.

    Returns
    -------
    OutputGrid
        Grid with the positions of all voxels inside the boldref's field of view.
    """
    voxel_numbers = np.arange(np.prod(shape))
    is_inside = np.zeros(len(voxel_numbers), dtype=bool)
    points = []
    upper_edges = np.array(boldref.data.shape) - 0.5
    world_to_voxel = round_values(np.linalg.inv(boldref.affine))
    for block in iterate_parts(len(voxel_numbers), _POINTS_PER_BLOCK):
        voxels = np.stack(np.unravel_index(voxel_numbers[block], shape), axis=1).astype(np.float64)
        boldref_points = to_boldref(apply_matrix(affine, voxels))
        boldref_voxels = apply_matrix(world_to_voxel, boldref_points)
        is_inside[block] = ((boldref_voxels >= -0.5) & (boldref_voxels <= upper_edges)).all(axis=1)
        points.append(boldref_points[is_inside[block]].astype(np.float32))
    return OutputGrid(
        entities=dict(entities),
        shape=shape,
        affine=np.asarray(affine, dtype=float),
        inside=is_inside.reshape(shape),
        points=np.concatenate(points),
    )


def zooms_in_ras(affine: Array) -> Float:
    """Return voxel sizes (mm) along the right, anterior and superior directions.

    >>> affine = np.array([[0, -2.0, 0, 0], [1.5, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    >>> zooms_in_ras(affine).tolist()
    [2.0, 1.5, 3.0]
    """
    import nibabel as nb

    zooms = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    axes = nb.orientations.io_orientation(affine)[:, 0].astype(int)
    ras_zooms = np.empty(3)
    ras_zooms[axes] = zooms
    return ras_zooms


def grid_around(mask: MaskArray, affine: Array, zooms: Array) -> tuple[Shape, Float]:
    """Return a RAS grid around a brain mask with a margin of two voxels.

    The grid is the same as in fMRIPrep for T1w space and templates without a resolution.

    `mask` is 3D, `affine` is the voxel-to-world matrix of the mask (4 x 4, RAS+ mm), and `zooms`
    are voxel sizes of the grid (3,; mm). Returns the number of voxels along each axis, and the
    voxel-to-world matrix.
    """
    rounded_zooms = np.round(np.asarray(zooms, dtype=float), _ZOOM_DECIMALS)
    centers = apply_matrix(affine, np.argwhere(mask).astype(float))
    lowest, highest = centers.min(axis=0), centers.max(axis=0)
    n_steps = np.ceil(np.round((highest - lowest) / rounded_zooms, _EXTENT_DECIMALS)).astype(int)
    shape = n_steps + 1 + 2 * _MARGIN_VOXELS
    grid_affine = np.diag([*rounded_zooms, 1.0])
    grid_affine[:3, 3] = (lowest + highest) / 2 - (shape - 1) / 2 * rounded_zooms
    x, y, z = (int(size) for size in shape)
    return (x, y, z), grid_affine
