"""Rigid and affine transforms between scanner spaces, as 4x4 matrices in RAS mm.

A transform takes a **reference** point to where it lies in the **moving** image, which is what
resampling needs.
"""

import math
from collections.abc import Sequence
from itertools import permutations, product

import numpy as np

from bids_sr.io.arrays import Array, Float
from bids_sr.io.grids import Shape

_HALF = 1e-4  # voxels, by which half a voxel may be missed and still counts as half


class TransformError(ValueError):
    """A transform file or matrix that cannot be used; names the file where there is one."""


def rigid_matrix(params6: Sequence[float] | Array, center: Sequence[float] | Array) -> Float:
    """Return 4x4 rigid matrix from three translations and a rotation vector.

    Parameters
    ----------
    params6 : Sequence[float] | Array
        (6,) translation of `center` (mm, RAS), then rotation vector (rad): its direction is the
        axis, its length the angle, right-handed: (0, 0, +a) turns +x towards +y.
    center : Sequence[float] | Array
        (3,) point about which the rotation turns (mm, RAS).

    Returns
    -------
    Float
        Transform of points in RAS+ mm (4 x 4).

    Examples
    --------
    >>> matrix = rigid_matrix([0, 0, 0, 0, 0, np.pi / 2], [0, 0, 0])
    >>> (matrix @ [1, 0, 0, 1]).round(6).tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    p, c = np.asarray(params6, dtype=np.float64), np.asarray(center, dtype=np.float64)
    x, y, z = p[3:]
    angle = float(np.linalg.norm(p[3:]))
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    # sin(a)/a and (1 - cos(a))/a^2 without loss of digits at small angles
    s = np.sinc(angle / np.pi)
    q = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    out = np.eye(4)
    out[:3, :3] = np.eye(3) + s * k + q * k @ k
    out[:3, 3] = p[:3] + c - out[:3, :3] @ c
    return out


def rigid_params(matrix: Array, center: Sequence[float] | Array) -> Float:
    """Return (6,) translation of `center` (mm) and rotation vector (rad); inverts `rigid_matrix`.

    TransformError where the matrix scales, shears or mirrors.

    Parameters
    ----------
    matrix : Array
        Rigid transform of points in RAS+ mm (4 x 4).
    center : Sequence[float] | Array
        Point about which the rotation turns (3,; RAS+ mm).

    Returns
    -------
    Float
        Three translations (mm), then the rotation vector (rad).

    Raises
    ------
    TransformError
        The matrix scales, shears or mirrors.
    """
    m, c = np.asarray(matrix, dtype=np.float64), np.asarray(center, dtype=np.float64)
    r = m[:3, :3]
    if not np.allclose(r @ r.T, np.eye(3), atol=1e-4) or np.linalg.det(r) < 0:
        raise TransformError(
            "the matrix is not a rigid transform, because its 3x3 part is not a rotation"
        )
    twist = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / 2
    sine, cosine = float(np.linalg.norm(twist)), float((np.trace(r) - 1) / 2)
    angle = math.atan2(sine, cosine)
    if sine > 1e-9:
        vector = twist * (angle / sine)
    elif cosine > 0:
        vector = twist
    else:  # half a turn: the axis is the eigenvector of eigenvalue 1
        axis = np.linalg.svd(r - np.eye(3))[2][-1]
        vector = axis * angle
    return np.concatenate([m[:3, :3] @ c + m[:3, 3] - c, vector])


def turn_deg(matrix: Array) -> float:
    """Return the angle (degrees) by which an affine turns, apart from its scales and shears."""
    u, _, vt = np.linalg.svd(np.asarray(matrix, dtype=np.float64)[:3, :3])
    return float(np.rad2deg(np.arccos(np.clip((np.trace(u @ vt) - 1) / 2, -1.0, 1.0))))


def quarter_turns() -> list[Float]:
    """Return the 23 rotations (3 x 3) by which axes are exchanged or reversed without mirroring.

    These are all turns by 90 and 180 degrees about the axes, and their combinations, without the
    identity.
    """
    turns = []
    for axes in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            turn = np.zeros((3, 3))
            turn[range(3), axes] = signs
            if np.linalg.det(turn) > 0 and not np.array_equal(turn, np.eye(3)):
                turns.append(turn)
    return turns


def invert(matrix: Array) -> Float:
    """Inverse of one (4, 4) or many (N, 4, 4) affine matrices, with an exact last row.

    Inverse transforms of the same shape.
    """
    out = np.linalg.inv(np.asarray(matrix, dtype=np.float64))
    out[..., 3, :] = [0.0, 0.0, 0.0, 1.0]
    return out


def displacement(matrix_a: Array, matrix_b: Array, points: Array) -> Float:
    """Distance in mm, (N,), between where two transforms put each of the points (N, 3; mm).

    `matrix_a`: first transform of the points (4 x 4, RAS+ mm). `matrix_b`: second transform of the
    points (4 x 4, RAS+ mm).
    """
    from nibabel.affines import apply_affine

    return np.linalg.norm(apply_affine(matrix_a - matrix_b, points), axis=1)


def points_in(mask: Array, affine: Array, every: int = 1) -> Float:
    """Return centers of every so many voxels of a mask, (N, 3) RAS mm.

    `every`: step through the voxels; 1 takes all of them.
    """
    from nibabel.affines import apply_affine

    return apply_affine(affine, np.argwhere(mask)[::every])


def rms_distance(matrix_a: Array, matrix_b: Array, points: Array) -> float:
    """Root mean square of `displacement` (mm).

    `matrix_a`: first transform of the points (4 x 4, RAS+ mm). `matrix_b`: second transform of the
    points (4 x 4, RAS+ mm). Distance over all points (mm).
    """
    return float(np.sqrt((displacement(matrix_a, matrix_b, points) ** 2).mean()))


def hr_grid(shape: Sequence[int], affine: Array, factor: Sequence[float]) -> tuple[Shape, Float]:
    """Return shape and affine of a grid with `factor` times finer voxels and the same FOV edges.

    Matrix size round(shape * factor) (halves up); voxels are the field of view over that size, so
    that where shape * factor is whole, low-resolution voxel i has its center at factor * i +
    (factor - 1) / 2.
    """
    low = np.asarray(shape[:3], dtype=np.float64)
    high = np.floor(low * np.asarray(factor, dtype=np.float64) + 0.5 + _HALF).astype(int)
    if (high < 1).any():
        raise TransformError(
            f"a grid of {tuple(shape)} voxels cannot be resampled by a factor of "
            f"{tuple(factor)}, because no voxel would remain"
        )
    fine = (int(high[0]), int(high[1]), int(high[2]))
    return fine, resized_affine(affine, shape, fine)


def resized_affine(affine: Array, shape: Sequence[int], other: Sequence[int]) -> Float:
    """Return the voxel-to-RAS matrix of a grid of `other` voxels over the same field of view.

    The field of view is that of `shape` voxels with the given matrix.

    >>> resized = resized_affine(np.diag([4.0, 4, 4, 1]), (8, 8, 8), (16, 8, 4))
    >>> resized[:3, :3].diagonal().tolist()
    [2.0, 4.0, 8.0]
    """
    ratio = np.asarray(shape[:3], dtype=np.float64) / np.asarray(other[:3])
    out = np.array(affine, dtype=np.float64)
    # written out: the same bits on every processor
    out[:, 3] += (out[:, :3] * ((ratio - 1) / 2)).sum(axis=1)
    out[:, :3] *= ratio
    return out


def moved(matrix: Array, points: Array) -> Array:
    """Apply a 4x4 matrix to points.

    It is written out, as the threads of a matrix product cost more than they bring here.
    """
    x, y, z = np.ascontiguousarray(points.T)
    return np.stack([row[0] * x + row[1] * y + row[2] * z + row[3] for row in matrix[:3]]).T
