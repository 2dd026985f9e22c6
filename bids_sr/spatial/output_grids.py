"""Grids in other spaces than that of a run, resampled in one interpolation.

The transforms from their voxels to the run are composed into one.

A point of the grid is carried to the reference of the run once, through whatever registrations
lead there. Each volume then needs its pose, and the distortion where there is one, to know which
of its points to look at. No image is made on a grid in between.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io import atomic_files
from bids_sr.io.arrays import Array, Float, Float32, Mask, parts_of
from bids_sr.io.grids import Shape
from bids_sr.spatial.composites import linear_values
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.resampling import sample_points, spline_coefficients
from bids_sr.spatial.same_results import rounded
from bids_sr.spatial.transforms import moved

_RIM = 2  # voxels around the brain
_POINTS = 400_000  # at a time, which bounds what is held in double precision


@frozen
class PlacedGrid:
    """A grid in some space, and the points of a run's reference at which its voxels lie."""

    entities: Mapping[str, str]
    shape: Shape
    affine: Array
    inside: Mask
    points: Float32

    def filled(self, values: Array) -> Array:
        """Return values (N,) of the voxels inside on the whole grid, 0 elsewhere.

        Values on the whole grid (3D), 0 outside the field of view.
        """
        out = np.zeros(self.shape, dtype=values.dtype)
        out[self.inside] = values
        return out

    def sampled(
        self,
        coefficients: Float32,
        affine: Array,
        pose: Array | None = None,
        shift: Array | None = None,
        step: Array | None = None,
    ) -> Float32:
        """A volume at the points, by the cubic spline; float32 (N,).

        `coefficients, affine`: of `bids_sr.spatial.resampling.spline_coefficients`; voxel -> RAS
        mm of the volume. `pose`: 4x4, takes a point of the reference to its point in the volume;
        none: the volume lies in the reference. `shift, step`: (N,) by how much of `step` (3,; RAS
        mm) a point is moved in the volume; see `bids_sr.spatial.resampling`.
        """
        to_voxel = np.linalg.inv(affine)
        matrix = rounded(to_voxel if pose is None else to_voxel @ pose)
        out = np.empty(len(self.points), dtype=np.float32)
        for part in parts_of(len(out), _POINTS):
            at = moved(matrix, self.points[part].astype(np.float64))
            if shift is not None and step is not None:
                at += shift[part, None] * (to_voxel[:3, :3] @ step)
            out[part] = sample_points(coefficients, at)
        return out

    def of_maps(
        self, maps: Iterable[tuple[Array, bool]], mask: Mask, affine: Array
    ) -> Iterator[Array]:
        """Resample images on one grid in reference space to this grid.

        The interpolation is linear; labels are taken from the nearest voxel.

        `mask, affine`: where they can be other than 0; voxel -> RAS mm of their grid. Values on
        this grid, float32 or uint8.
        """
        back = rounded(np.linalg.inv(affine))
        near = []
        parts = []
        ways = []
        for part in parts_of(len(self.points), _POINTS):
            at = moved(back, self.points[part].astype(np.float64)).T
            hit = linear_values(mask[..., None], at)[:, 0] > 0
            index = np.clip(np.rint(at[:, hit]).astype(int), 0, np.array(mask.shape)[:, None] - 1)
            parts.append(np.flatnonzero(hit) + part.start)
            ways.append(at[:, hit])
            near.append(np.ravel_multi_index(tuple(index), mask.shape))
        where = np.flatnonzero(self.inside)[np.concatenate(parts)]
        for values, labels in maps:
            out = np.zeros(self.shape, dtype=np.uint8 if labels else np.float32)
            if labels:
                out.reshape(-1)[where] = np.ravel(values)[np.concatenate(near)]
            else:
                out.reshape(-1)[where] = np.concatenate(
                    [linear_values(values[..., None], at)[:, 0] for at in ways]
                )
            yield out

    def shift_of(self, distortion: Distortion) -> Float32:
        """How far the signal of each point is moved (acquired voxels along phase encoding)."""
        return self.sampled(spline_coefficients(distortion.shift), distortion.affine)


def place_grid(
    entities: Mapping[str, str],
    shape: Shape,
    affine: Array,
    to_reference: Callable[[Array], Array],
    reference_shape: Shape,
    reference_affine: Array,
) -> PlacedGrid:
    """A grid with its points in the reference of a run.

    Parameters
    ----------
    entities, shape, affine : Mapping[str, str]
        Of the grid, see `PlacedGrid`.
    to_reference : Callable[[Array], Array]
        Takes points (N, 3) of the space to their points in the reference (RAS mm).
    reference_shape, reference_affine : Shape
        Grid of the reference, beyond whose outer edges nothing was measured.

    Returns
    -------
    PlacedGrid
        The grid, with positions for the voxels inside the reference's field of view.
    """
    inside = np.zeros(shape, dtype=bool)
    flat = inside.reshape(-1)
    points = []
    edges = np.array(reference_shape) - 0.5
    back = rounded(np.linalg.inv(reference_affine))
    for part in parts_of(flat.size, _POINTS):
        voxels = np.stack(np.unravel_index(np.arange(flat.size)[part], shape), axis=1).astype(
            np.float64
        )
        found = to_reference(moved(affine, voxels))
        at = moved(back, found)
        seen = ((at >= -0.5) & (at <= edges)).all(axis=1)
        flat[part] = seen
        points.append(found[seen].astype(np.float32))
    return PlacedGrid(
        entities=dict(entities),
        shape=shape,
        affine=np.asarray(affine, dtype=float),
        inside=inside,
        points=np.concatenate(points),
    )


def zooms_in_ras(affine: Array) -> Float:
    """Voxel sizes (mm) along the axes of a grid that are nearest to right, anterior and superior.

    >>> affine = np.array([[0, -2.0, 0, 0], [1.5, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    >>> zooms_in_ras(affine).tolist()
    [2.0, 1.5, 3.0]
    """
    import nibabel as nb

    zooms = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    axes = nb.orientations.io_orientation(affine)[:, 0].astype(int)
    out = np.empty(3)
    out[axes] = zooms
    return out


def grid_around(mask: Mask, affine: Array, zooms: Array) -> tuple[Shape, Float]:
    """Return a grid of given voxel size around a brain, two voxels wider, in RAS axis order.

    Its axes lie along right, anterior and superior.

    As fMRIPrep lays the grids of T1w and of templates without a resolution.
    """
    size = np.round(np.asarray(zooms, dtype=float), 3)
    points = moved(affine, np.argwhere(mask).astype(float))
    low = points.min(axis=0)
    high = points.max(axis=0)
    counts = np.ceil(np.round((high - low) / size, 6)).astype(int) + 1 + 2 * _RIM
    grid = np.diag([*size, 1.0])
    grid[:3, 3] = (low + high) / 2 - (counts - 1) / 2 * size
    x, y, z = (int(n) for n in counts)
    return (x, y, z), grid


def save_placed(placed: PlacedGrid, path: Path) -> None:
    """Write a placed grid as .npz, whole or not at all.

    `placed`: grid in some space with its positions in a run's reference.
    """
    names = list(placed.entities)
    with atomic_files.whole_file(path) as part, part.open("wb") as stream:
        np.savez(
            stream,
            names=np.array(names),
            labels=np.array([placed.entities[name] for name in names]),
            affine=placed.affine,
            inside=placed.inside,
            points=placed.points,
        )


def load_placed(path: Path) -> PlacedGrid:
    """Read what `save_placed` wrote.

    Grid in some space with its positions in a run's reference.
    """
    with np.load(path, allow_pickle=False) as data:
        x, y, z = data["inside"].shape
        return PlacedGrid(
            entities={
                str(name): str(label)
                for name, label in zip(data["names"], data["labels"], strict=True)
            },
            shape=(x, y, z),
            affine=data["affine"],
            inside=data["inside"],
            points=data["points"],
        )
