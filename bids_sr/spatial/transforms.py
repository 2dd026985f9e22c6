"""Rigid and affine transforms between scanner spaces, and points through ITK transform files.

In memory a transform is a 4x4 matrix in RAS mm that takes a **reference** point to where it lies
in the **moving** image (what resampling needs). On disk it is ITK text, in LPS mm, the same
direction. Composite transforms with displacement fields (HDF5) carry points without an image: some
ten times quicker than resampling images of coordinates.

ITK text is not read and written by nitransforms 25.1, which writes six digits, reads single
precision and no Euler angles, and does not check the type of a transform.
"""

import math
import re
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.io import atomic_files
from bids_sr.io.grids import Array, Float, Float32, Shape

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_HALF = 1e-4  # voxels, by which half a voxel may be missed and still counts as half
_KINDS = (
    "AffineTransform_double_3_3",
    "MatrixOffsetTransformBase_double_3_3",
    "AffineTransform_float_3_3",
    "MatrixOffsetTransformBase_float_3_3",
)
_EULER = ("Euler3DTransform_double_3_3", "Euler3DTransform_float_3_3")


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


def write_itk(path: Path, mats: Array) -> None:
    """Write (4, 4) or (N, 4, 4) RAS matrices as one ITK text file (LPS), whole or not at all.

    Parameters
    ----------
    path : Path
        ITK transform file (text).
    mats : Array
        Affine transforms, one (4, 4) or many (N, 4, 4), RAS+ mm.

    Raises
    ------
    TransformError
        The matrices are not 4 x 4, or not finite.
    """
    matrices = np.asarray(mats, dtype=np.float64)
    matrices = matrices[None] if matrices.ndim == 2 else matrices
    if matrices.ndim != 3 or matrices.shape[1:] != (4, 4) or not np.isfinite(matrices).all():
        raise TransformError(
            f"{path}: expected finite 4x4 matrices, got an array of shape {np.shape(mats)}"
        )
    lines = ["#Insight Transform File V1.0"]
    for number, matrix in enumerate(LPS @ matrices @ LPS):
        values = [*matrix[:3, :3].ravel(), *matrix[:3, 3]]
        lines += [
            f"#Transform {number}",
            f"Transform: {_KINDS[0]}",
            "Parameters: " + " ".join(repr(float(v) + 0.0) for v in values),
            "FixedParameters: 0 0 0",
        ]
    atomic_files.write_whole(path, "\n".join(lines) + "\n")


def about_center(values: Array, center: Array) -> Float:
    """Return a 4x4 matrix from ITK's twelve affine parameters about a center (3,).

    The parameters are 3x3 by rows, then translation.

    `center`: point about which the matrix turns (3,), in the frame of the parameters.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = values[:9].reshape(3, 3)
    matrix[:3, 3] = values[9:12] + center - matrix[:3, :3] @ center
    return matrix


def _euler(angles: Array, zyx: bool) -> Float:
    """Rotation of ITK's Euler3DTransform: Rz Rx Ry, or Rz Ry Rx; angles (rad) about x, y, z."""
    from scipy.spatial.transform import Rotation

    x, y, z = angles
    turn = Rotation.from_euler("ZYX", [z, y, x]) if zyx else Rotation.from_euler("ZXY", [z, x, y])
    return turn.as_matrix()


def read_itk(path: Path) -> Float:
    """Read (N, 4, 4) RAS matrices of ITK affine or Euler text files, with center of rotation.

    TransformError where it is not ITK text, or a transform is not affine.

    Parameters
    ----------
    path : Path
        ITK transform file (text).

    Returns
    -------
    Float
        Affine transforms in the order of the file (N, 4, 4; RAS+ mm).

    Raises
    ------
    TransformError
        The file is not ITK text, or holds other than 3D affine transforms.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("#Insight Transform File"):
        raise TransformError(f"{path}: the file is not an ITK transform in text format")
    kinds = re.findall(r"^Transform:\s*(\S+)", text, flags=re.M)
    parameters = re.findall(r"^Parameters:(.*)$", text, flags=re.M)
    fixed = re.findall(r"^FixedParameters:(.*)$", text, flags=re.M)
    if (
        not kinds
        or not len(kinds) == len(parameters) == len(fixed)
        or set(kinds) - {*_KINDS, *_EULER}
    ):
        raise TransformError(
            f"{path}: expected only affine transforms, found {sorted(set(kinds)) or 'none'}"
        )
    out = []
    for kind, line, origin in zip(kinds, parameters, fixed, strict=True):
        values, center = np.array(line.split(), dtype=float), np.array(origin.split(), dtype=float)
        if kind in _EULER and values.size == 6 and center.size in (3, 4):
            values = np.concatenate(
                [_euler(values[:3], bool(center[3:].any())).ravel(), values[3:]]
            )
            center = center[:3]
        if values.size != 12 or center.size != 3:
            raise TransformError(
                f"{path}: a three-dimensional affine transform must have 12 parameters and 3 "
                "fixed parameters"
            )
        out.append(about_center(values, center))
    return LPS @ np.stack(out) @ LPS


_FLIP = np.array([-1.0, -1.0, 1.0])  # between RAS and LPS


def carry(points: Array, chain: Sequence[Path]) -> Float:
    """Map points (N, 3; RAS mm) through a chain of transform files, the **last** applied first.

    TransformError for a file of a kind that is not known here.

    Parameters
    ----------
    points : Array
        Points before the transform (N, 3; RAS+ mm).
    chain : Sequence[Path]
        ITK transform files, text with one affine or composite (.h5).

    Returns
    -------
    Float
        Points after the transform (N, 3).

    Raises
    ------
    TransformError
        A text file of the chain holds more than one transform.
    """
    carried = np.asarray(points, dtype=np.float64)
    for path in reversed(chain):
        if path.suffix == ".h5":
            carried = _composite(carried * _FLIP, path) * _FLIP
            continue
        matrices = read_itk(path)
        if len(matrices) != 1:
            raise TransformError(f"{path}: expected a single transform, found {len(matrices)}")
        carried = moved(matrices[0], carried)
    return carried


def moved(matrix: Array, points: Array) -> Array:
    """Apply a 4x4 matrix to points.

    It is written out, as the threads of a matrix product cost more than they bring here.
    """
    x, y, z = np.ascontiguousarray(points.T)
    return np.stack([row[0] * x + row[1] * y + row[2] * z + row[3] for row in matrix[:3]]).T


def _composite(points: Array, path: Path) -> Array:
    """LPS points through a composite transform; of its parts the last is applied first."""
    import h5py

    matrix = np.eye(4)  # linear parts that follow one another are one
    try:
        with h5py.File(path, "r") as file:
            group = file["TransformGroup"]
            for name in sorted(group, key=int, reverse=True):
                kind, values, fixed = _part(group[name])
                if kind.startswith(("AffineTransform", "MatrixOffsetTransformBase")):
                    matrix = about_center(values, fixed[:3]) @ matrix
                elif kind.startswith("DisplacementFieldTransform"):
                    points = moved(matrix, points)
                    matrix = np.eye(4)
                    points += _displacements(points, values, fixed)
                elif not kind.startswith("CompositeTransform"):
                    raise TransformError(
                        f"{path}: the file contains a transform of type {kind}, which is not "
                        "supported"
                    )
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        if isinstance(error, TransformError):
            raise
        raise TransformError(
            f"{path}: the file cannot be read as a composite ITK transform ({error})"
        ) from error
    return moved(matrix, points)


def _part(part: Any) -> tuple[str, Array, Array]:
    """Kind, parameters and fixed parameters of one part."""
    kind = part["TransformType"][0]
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if kind.startswith("CompositeTransform"):
        return kind, np.zeros(0), np.zeros(0)
    fixed = np.asarray(part["TransformFixedParameters"], dtype=np.float64)
    return kind, np.asarray(part["TransformParameters"]), fixed


def _displacements(points: Array, values: Array, fixed: Array) -> Array:
    """Interpolate a displacement field linearly; (N, 3) LPS mm.

    It is 0 beyond half a voxel outside the field.
    """
    shape = tuple(int(n) for n in fixed[:3])
    origin = fixed[3:6]
    spacing = fixed[6:9]
    direction = fixed[9:18].reshape(3, 3)
    to_grid = np.eye(4)
    to_grid[:3, :3] = np.linalg.inv(direction * spacing)
    to_grid[:3, 3] = -to_grid[:3, :3] @ origin
    at = moved(to_grid, points).T
    # after the components the first axis runs fastest
    return linear_values(values.reshape(*shape[::-1], 3), at[::-1])


def linear_values(maps: Array, at: Array) -> Float32:
    """Linear interpolation of maps (X, Y, Z, K) at voxel coordinates (3, N), (N, K).

    Voxels at the edge reach half a voxel further; points beyond get 0.

    Interpolated value of each map at each point (N, K).
    """
    from bids_sr.spatial.spline_kernels import sample_linear

    out = np.empty((at.shape[1], maps.shape[3]), dtype=np.float32)
    stored = np.ascontiguousarray(maps, dtype=np.float32)
    points = np.ascontiguousarray(at, dtype=np.float64)
    sample_linear(stored, points, out)
    return out
