"""Rigid and affine transforms between scanner spaces, as 4x4 matrices in RAS mm.

A transform maps a **reference** point to its position in the **moving** image, as resampling
requires.
"""

import math
from collections.abc import Sequence
from itertools import permutations, product

import numpy as np

from bids_sr.io.arrays import Array, Float
from bids_sr.io.grids import Shape, highres_size
from bids_sr.io.notices import InvalidInput

_DISPLACEMENT_STRIDE = 7  # every 7th brain voxel is a point whose displacement is measured


def rigid_matrix(params6: Sequence[float] | Array, center: Sequence[float] | Array) -> Float:
    """Return a 4x4 rigid matrix from three translations and a rotation vector.

    Parameters
    ----------
    params6 : Sequence[float] | Array
        Translation of `center` (mm, RAS), then rotation vector (rad; 6,). The direction of the
        vector is the axis and its length the angle, right-handed: (0, 0, +a) rotates +x towards
        +y.
    center : Sequence[float] | Array
        Center of rotation (3,; RAS mm).

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
    params, origin = np.asarray(params6, dtype=np.float64), np.asarray(center, dtype=np.float64)
    x, y, z = params[3:]
    angle = float(np.linalg.norm(params[3:]))
    cross_matrix = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    # Rodrigues' formula with sin(a)/a and (1 - cos(a))/a^2, which lose no digits at small angles
    sine_ratio = np.sinc(angle / np.pi)
    cosine_ratio = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    transform = np.eye(4)
    transform[:3, :3] = (
        np.eye(3) + sine_ratio * cross_matrix + cosine_ratio * cross_matrix @ cross_matrix
    )
    transform[:3, 3] = params[:3] + origin - transform[:3, :3] @ origin
    return transform


def rigid_params(matrix: Array, center: Sequence[float] | Array) -> Float:
    """Return the translation of `center` and the rotation vector; inverse of `rigid_matrix`.

    Parameters
    ----------
    matrix : Array
        Rigid transform of points in RAS+ mm (4 x 4).
    center : Sequence[float] | Array
        Center of rotation (3,; RAS+ mm).

    Returns
    -------
    Float
        Three translations (mm), then the rotation vector (rad; 6,).

    Raises
    ------
    InvalidInput
        The matrix scales, shears or mirrors.
    """
    transform, origin = np.asarray(matrix, dtype=np.float64), np.asarray(center, dtype=np.float64)
    rotation, translation = transform[:3, :3], transform[:3, 3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4) or np.linalg.det(rotation) < 0:
        raise InvalidInput(
            "the matrix is not a rigid transform, because its 3x3 part is not a rotation"
        )
    return np.concatenate(
        [rotation @ origin + translation - origin, _compute_rotation_vector(rotation)]
    )


def _compute_rotation_vector(rotation: Array) -> Float:
    """Return the rotation vector (3,; rad) of a rotation matrix (3 x 3)."""
    double_sine_vector = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine_vector = double_sine_vector / 2  # axis times the sine of the angle
    sine, cosine = float(np.linalg.norm(sine_vector)), float((np.trace(rotation) - 1) / 2)
    angle = math.atan2(sine, cosine)
    if sine > 1e-9:
        return sine_vector * (angle / sine)
    if cosine > 0:
        return sine_vector
    # rotation by 180 degrees, whose axis is the eigenvector with eigenvalue 1
    axis = np.linalg.svd(rotation - np.eye(3))[2][-1]
    return axis * angle


def rotation_angle_deg(matrix: Array) -> float:
    """Return the rotation angle (degrees) of an affine, without its scales and shears."""
    left_vectors, _, right_vectors = np.linalg.svd(np.asarray(matrix, dtype=np.float64)[:3, :3])
    return float(
        np.rad2deg(np.arccos(np.clip((np.trace(left_vectors @ right_vectors) - 1) / 2, -1.0, 1.0)))
    )


def quarter_turns() -> list[Float]:
    """Return the 23 rotations (3 x 3) that permute or reverse axes without mirroring.

    These are all rotations by 90 and 180 degrees about the axes and their combinations, without
    the identity.
    """
    rotations = []
    for axes in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            rotation = np.zeros((3, 3))
            rotation[range(3), axes] = signs
            if np.linalg.det(rotation) > 0 and not np.array_equal(rotation, np.eye(3)):
                rotations.append(rotation)
    return rotations


def invert(matrix: Array) -> Float:
    """Invert one (4, 4) or several (N, 4, 4) affine matrices, with an exact last row."""
    inverse = np.linalg.inv(np.asarray(matrix, dtype=np.float64))
    inverse[..., 3, :] = [0.0, 0.0, 0.0, 1.0]
    return inverse


def compute_displacement_mm(matrices: Array, mask: Array, affine: Array) -> Array:
    """Return the rms displacement of the brain from the reference in each volume (T,; mm).

    `matrices` transform a reference point to its position in each volume (T, 4, 4; RAS+ mm).
    `mask` contains the brain voxels of the reference (3D), and `affine` is its voxel-to-world
    matrix (4 x 4, RAS+ mm).
    """
    points = voxel_centers(mask, affine, _DISPLACEMENT_STRIDE)
    return np.array([rms_distance(np.eye(4), matrix, points) for matrix in matrices])


def voxel_centers(mask: Array, affine: Array, stride: int = 1) -> Float:
    """Return the centers of the voxels in a mask (N, 3; RAS mm).

    Only every `stride`-th voxel is used.
    """
    from nibabel.affines import apply_affine

    return apply_affine(affine, np.argwhere(mask)[::stride])


def rms_distance(matrix_a: Array, matrix_b: Array, points: Array) -> float:
    """Return the root mean square of `displacement` over all points (mm)."""
    return float(np.sqrt((displacement(matrix_a, matrix_b, points) ** 2).mean()))


def displacement(matrix_a: Array, matrix_b: Array, points: Array) -> Float:
    """Return the distance between the positions of each point after two transforms.

    Transforms are 4 x 4 (RAS+ mm), points (N, 3; RAS+ mm) and distances (N,; mm).
    """
    from nibabel.affines import apply_affine

    return np.linalg.norm(apply_affine(matrix_a - matrix_b, points), axis=1)


def hr_grid(shape: Sequence[int], affine: Array, factor: Sequence[float]) -> tuple[Shape, Float]:
    """Return the grid with `factor` times smaller voxels over the same field of view.

    The matrix size is round(shape * factor), with halves rounded up, and the voxel size is the
    field of view divided by this size. If shape * factor is an integer, low-resolution voxel i has
    its center at high-resolution voxel factor * i + (factor - 1) / 2.

    `factor` is the ratio of low- to high-resolution voxel size along each axis. Both
    voxel-to-world matrices are 4 x 4 (RAS+ mm). Raises `InvalidInput` if the factor is so small
    that no voxel remains along an axis.
    """
    x, y, z = (highres_size(n, ratio) for n, ratio in zip(shape[:3], factor, strict=True))
    if min(x, y, z) < 1:
        raise InvalidInput(
            f"a grid of {tuple(shape)} voxels cannot be resampled by a factor of "
            f"{tuple(factor)}, because no voxel would remain"
        )
    high_shape = (x, y, z)
    return high_shape, resize_affine(affine, shape, high_shape)


def resize_affine(affine: Array, shape: Sequence[int], new_shape: Sequence[int]) -> Float:
    """Return the voxel-to-world matrix of a grid with `new_shape` over the same field of view.

    Both matrices are 4 x 4 (RAS+ mm).

    >>> resized_affine = resize_affine(np.diag([4.0, 4, 4, 1]), (8, 8, 8), (16, 8, 4))
    >>> resized_affine[:3, :3].diagonal().tolist()
    [2.0, 4.0, 8.0]
    """
    ratio = np.asarray(shape[:3], dtype=np.float64) / np.asarray(new_shape[:3])
    resized_affine = np.array(affine, dtype=np.float64)
    # an explicit sum gives the same bits on every processor, unlike a matrix product
    resized_affine[:, 3] += (resized_affine[:, :3] * ((ratio - 1) / 2)).sum(axis=1)
    resized_affine[:, :3] *= ratio
    return resized_affine


def apply_matrix(matrix: Array, points: Array) -> Array:
    """Apply a 4x4 matrix to points (N, 3).

    The sums are written out, because a matrix product would lose more time by starting threads
    than the threads save.
    """
    x, y, z = np.ascontiguousarray(points.T)
    return np.stack([row[0] * x + row[1] * y + row[2] * z + row[3] for row in matrix[:3]]).T
