"""Comparison of grids and fields of view.

A field of view ends at the outer edges of the voxels.
"""

from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Array, MaskArray

_NEAR = 0.01  # mm, position differences due to rounding


def same_grid(
    shape: Sequence[int], affine: Array, other_shape: Sequence[int], other_affine: Array
) -> bool:
    """Return whether two images (3D) have equal shapes, and corners within .01 mm.

    Parameters
    ----------
    shape, other_shape : Sequence[int]
        Number of voxels of both images along each axis.
    affine, other_affine : Array
        Voxel-to-world matrices of both images (4 x 4, RAS+ mm).
    """
    if tuple(shape) != tuple(other_shape):
        return False
    corners = np.array([(*index, 1) for index in np.ndindex(2, 2, 2)], float)
    corners[:, :3] *= np.asarray(shape) - 1
    return bool(np.abs(corners @ (np.asarray(affine) - np.asarray(other_affine)).T).max() < _NEAR)


_TIME_TOLERANCE = 1e-3  # s, tolerance of repetition times
EDGE_TOLERANCE = 0.1
"""Distance between corners of two fields of view that count as equal, as a fraction of the
high-resolution voxel size.
"""


def corners_apart(
    shape: Sequence[int], affine: Array, other_shape: Sequence[int], other_affine: Array
) -> float:
    """Return the largest distance (mm) between corresponding corners of two fields of view.

    Parameters
    ----------
    shape, other_shape : Sequence[int]
        Number of voxels of both grids along each axis.
    affine, other_affine : Array
        Voxel-to-world matrices of both grids (4 x 4, RAS+ mm).

    Examples
    --------
    >>> corners_apart((4, 4, 2), np.eye(4), (4, 4, 2), np.eye(4))
    0.0
    """
    from nibabel.affines import apply_affine

    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    positions = [
        apply_affine(grid, corners * np.asarray(size) - 0.5)
        for size, grid in ((shape, affine), (other_shape, other_affine))
    ]
    return float(np.linalg.norm(positions[0] - positions[1], axis=1).max())


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
    """Compare time axis and grid of an image with the run from which it was computed.

    The grid may be the acquired grid of the run, its high-resolution grid, or a grid between them.

    Parameters
    ----------
    shape : Sequence[int]
        Shape of a series (X, Y, Z, T) or a map (X, Y, Z).
    affine : Array
        Voxel-to-world matrix of the image (4 x 4, RAS+ mm).
    tr : float
        Repetition time (s); 0 if not known.
    own_shape, own_affine, own_tr : Sequence[int], Array, float
        Shape (X, Y, Z, T), affine and repetition time (s) of the run.
    factor : Sequence[float]
        Ratio of acquired to high-resolution voxel size along each axis.
    finest : bool, optional
        Whether only the high-resolution grid is accepted.
    name : str, optional
        Name of the run in the reasons.

    Returns
    -------
    list[tuple[str, str]]
        Pairs of reason and remedy for each difference; empty if the image fits the run.
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
    low, resolution = (high, "high-resolution") if finest else (own_shape, "acquired")
    coarser = any(n < m for n, m in zip(shape[:3], low, strict=False))
    if coarser or any(n > largest for n, largest in zip(shape, high, strict=False)):
        sizes = ["×".join(map(str, item[:3])) for item in (shape, low, high)]
        difference = (
            f"smaller than the {resolution} matrix size {sizes[1]}"
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
        factor_text = "×".join(f"{item:g}" for item in factor)
        problems.append(
            (
                f"the matrix size {sizes[0]} is {difference}, given the super-resolution factor"
                f" {factor_text} and the matrix size of {name}",
                fix,
            )
        )
    voxel, own_voxel = (np.linalg.norm(item[:3, :3], axis=0) for item in (affine, own_affine))
    distance = corners_apart(shape[:3], affine, own_shape[:3], own_affine)
    limit = EDGE_TOLERANCE * float(voxel.min())
    if distance > limit:
        reason = (
            f"the field of view differs from {name}: its outer edges are shifted by up to"
            f" {distance:.3g} mm ({distance / own_voxel[:2].min():.2g} acquired voxels), but at"
            f" most {limit:.2g} mm are allowed. The series may be shifted, cropped or in another"
            " space"
        )
        fix = (
            "Provide the series in the native space of the run rather than in template space,"
            " with the same field of view and axis directions. Compare the affines in the image"
            " headers."
        )
        problems.append((reason, fix))
    return problems


def is_inside_field(
    voxels: Array, affine: Array, other_shape: Sequence[int], other_affine: Array, tolerance: float
) -> MaskArray:
    """Return for each voxel whether its center is in the field of view of another grid.

    Parameters
    ----------
    voxels : Array
        Voxel indices (n, 3).
    affine : Array
        Voxel-to-world matrix of their grid (4 x 4, RAS+ mm).
    other_shape : Sequence[int]
        Number of voxels of the other grid along each axis.
    other_affine : Array
        Voxel-to-world matrix of the other grid (4 x 4, RAS+ mm).
    tolerance : float
        Distance in voxels by which the field of view is extended.

    Returns
    -------
    MaskArray
        True for voxels inside (n,).

    Examples
    --------
    >>> is_inside_field(np.array([[0, 0, 0], [4, 0, 0]]), np.eye(4), (4, 4, 2), np.eye(4), 0.0)
    array([ True, False])
    """
    from nibabel.affines import apply_affine

    positions = apply_affine(np.linalg.inv(other_affine) @ affine, voxels)
    half = np.asarray(other_shape) / 2
    return np.asarray((np.abs(positions + 0.5 - half) <= half + tolerance).all(1))
