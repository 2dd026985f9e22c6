"""Comparison of grids and fields of view: whether two images cover the same space.

A field of view ends at the outer edges of the voxels.
"""

from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Array, Mask

_NEAR = 0.01  # mm, largest difference of two positions that is rounding


def same_grid(shape: Sequence[int], affine: Array, other: Sequence[int], affine_2: Array) -> bool:
    """Return whether two images (3D) have the same voxels: equal shapes, corners within .01 mm.

    `affine`, `affine_2`: voxel -> RAS mm of the first and of the second image.
    """
    if tuple(shape) != tuple(other):
        return False
    corners = np.array([(*index, 1) for index in np.ndindex(2, 2, 2)], float)
    corners[:, :3] *= np.asarray(shape) - 1
    return bool(np.abs(corners @ (np.asarray(affine) - np.asarray(affine_2)).T).max() < _NEAR)


_TIME_TOLERANCE = 1e-3  # of repetition times (s)
EDGE_TOLERANCE = 0.1
"""Of a high-resolution voxel: so far may the corners of two fields of view lie apart that are
taken for one.
"""


def corners_apart(
    shape: Sequence[int], affine: Array, other_shape: Sequence[int], other_affine: Array
) -> float:
    """Return the largest distance (mm) between corresponding corners of two fields of view.

    The corners are at the outer edges of the voxels.

    `shape, affine, other_shape, other_affine`: matrices (x, y, z) of the two grids, and voxel to
    RAS mm (4, 4). Distance of the pair of corners that lie farthest apart (mm).

    >>> corners_apart((4, 4, 2), np.eye(4), (4, 4, 2), np.eye(4))
    0.0
    """
    from nibabel.affines import apply_affine

    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    places = [
        apply_affine(grid, corners * np.asarray(size) - 0.5)
        for size, grid in ((shape, affine), (other_shape, other_affine))
    ]
    return float(np.linalg.norm(places[0] - places[1], axis=1).max())


def misfits(
    shape: Sequence[int],
    affine: Array,
    tr: float,
    own_shape: Sequence[int],
    own_affine: Array,
    own_tr: float,
    factor: Sequence[float],
    *,
    finest: bool = False,
    name: str = "its run",
) -> list[tuple[str, str]]:
    """Return why times or grid of an image do not fit a run that it was made of, and the fix.

    The grid may be that of the run, its high-resolution one, or one between them.

    `shape, affine, tr`: (X, Y, Z, T) of a series or (X, Y, Z) of a map, voxel to RAS mm,
    repetition time (s); 0 where it is not told. Pairs of reason and remedy; empty where everything
    fits.
    """
    problems = list[tuple[str, str]]()
    if len(shape) > 3 and shape[3] != own_shape[3]:
        fix = (
            "Provide the complete series of this run, including volumes that were removed from"
            " its start."
        )
        problems.append(
            (
                (
                    f"the series has {shape[3]} volumes, but {name} has {own_shape[3]} volumes."
                    " The series may belong to another run, or volumes may have been removed"
                ),
                fix,
            )
        )
    if tr > 0 and own_tr > 0 and abs(tr - own_tr) > _TIME_TOLERANCE:
        fix = (
            "Provide the series of this run, or correct the repetition time in the sidecar or in"
            " the image header (pixdim[4] and its unit)."
        )
        problems.append(
            (
                f"the repetition time of the series is {tr:g} s, but the repetition time of {name}"
                f" is {own_tr:g} s",
                fix,
            )
        )
    high = [int(np.floor(m * f + 0.5)) for m, f in zip(own_shape, factor, strict=False)]
    low, which = (high, "high-resolution") if finest else (own_shape, "acquired")
    coarser = any(n < m for n, m in zip(shape[:3], low, strict=False))
    if coarser or any(n > most for n, most in zip(shape, high, strict=False)):
        sizes = ["×".join(map(str, each[:3])) for each in (shape, low, high)]
        than = (
            f"smaller than the {which} matrix size {sizes[1]}"
            if coarser
            else f"larger than the high-resolution matrix size {sizes[2]}"
        )
        fix = (
            "Provide the series at the high resolution of the run, which is specified with"
            " --sr-factor if there is no T2*w pair."
            if finest
            else "Provide the series on the acquired grid or on a finer grid with the same field"
            " of view, or choose another super-resolution factor."
        )
        by = "×".join(f"{each:g}" for each in factor)
        problems.append(
            (
                f"the matrix size {sizes[0]} is {than}, given the super-resolution factor {by} and"
                f" the matrix size of {name}",
                fix,
            )
        )
    voxel, own_voxel = (np.linalg.norm(each[:3, :3], axis=0) for each in (affine, own_affine))
    apart = corners_apart(shape[:3], affine, own_shape[:3], own_affine)
    limit = EDGE_TOLERANCE * float(voxel.min())
    if apart > limit:
        reason = (
            f"the field of view differs from {name}: its outer edges are shifted by up to"
            f" {apart:.3g} mm ({apart / own_voxel[:2].min():.2g} acquired voxels), but at most"
            f" {limit:.2g} mm are allowed. The series may be shifted, cropped or in another space"
        )
        fix = (
            "Provide the series in the native space of the run rather than in template space,"
            " with the same field of view and axis directions. Compare the affines in the image"
            " headers."
        )
        problems.append((reason, fix))
    return problems


def inside_field(
    voxels: Array, affine: Array, other_shape: Sequence[int], other_affine: Array, tolerance: float
) -> Mask:
    """Which voxels (n, 3) of one grid have their center in the field of view of another.

    `voxels, affine`: indices (n, 3), and voxel to RAS mm (4, 4) of their grid. `other_shape,
    other_affine`: matrix (x, y, z) and voxel to RAS mm of the other grid.

    >>> inside_field(np.array([[0, 0, 0], [4, 0, 0]]), np.eye(4), (4, 4, 2), np.eye(4), 0.0)
    array([ True, False])
    """
    from nibabel.affines import apply_affine

    places = apply_affine(np.linalg.inv(other_affine) @ affine, voxels)
    half = np.asarray(other_shape) / 2
    return np.asarray((np.abs(places + 0.5 - half) <= half + tolerance).all(1))
