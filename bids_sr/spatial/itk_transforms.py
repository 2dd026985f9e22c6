"""Points carried through ITK's transform files: linear ones as text, composite ones with displacement fields as HDF5.

What ITK does to a point, without an image: some ten times quicker than resampling images of coordinates.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.io.array_types import Array, Float
from bids_sr.spatial.transforms import TransformError, about_center, read_itk

_FLIP = np.array([-1.0, -1.0, 1.0])  # between RAS and LPS


def carry(points: Array, chain: Sequence[Path]) -> Float:
    """Where points (N, 3; RAS mm) lie at the other end of a chain of transform files, the **last** applied first.

    TransformError for a file of a kind that is not known here.
    """
    found = np.asarray(points, dtype=np.float64)
    for path in reversed(chain):
        found = _composite(found * _FLIP, path) * _FLIP if path.suffix == ".h5" else _linear(found, path)
    return found


def moved(matrix: Array, points: Array) -> Array:
    """Points through a 4x4 matrix; written out, as the threads of a matrix product cost more than they bring here."""
    x, y, z = np.ascontiguousarray(points.T)
    return np.stack([row[0] * x + row[1] * y + row[2] * z + row[3] for row in matrix[:3]]).T


def _linear(points: Array, path: Path) -> Array:
    matrices = read_itk(path)
    if len(matrices) != 1:
        raise TransformError(f"{path}: holds {len(matrices)} transforms where one is due")
    return moved(matrices[0], points)


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
                    points, matrix = moved(matrix, points), np.eye(4)
                    points += _displacements(points, values, fixed)
                elif not kind.startswith("CompositeTransform"):
                    raise TransformError(f"{path}: holds a {kind}, which is not known here")
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        if isinstance(error, TransformError):
            raise
        raise TransformError(f"{path}: not a composite transform of ITK ({error})") from error
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
    """Linear interpolation of a displacement field, 0 beyond half a voxel outside it; (N, 3) LPS mm."""
    shape = tuple(int(n) for n in fixed[:3])
    origin, spacing, direction = fixed[3:6], fixed[6:9], fixed[9:18].reshape(3, 3)
    to_grid = np.eye(4)
    to_grid[:3, :3] = np.linalg.inv(direction * spacing)
    to_grid[:3, 3] = -to_grid[:3, :3] @ origin
    at = moved(to_grid, points).T
    # after the components the first axis runs fastest
    return np.asarray(linear_weights(shape[::-1], at[::-1]) @ values.reshape(-1, 3))


def linear_weights(shape: Sequence[int], at: Array) -> Any:
    """Linear interpolation at voxel coordinates (3, N) as a sparse matrix, (points, voxels in C order).

    Voxels at the edge reach half a voxel further; points beyond get 0.
    """
    from scipy import sparse

    outside = np.zeros(at.shape[1], dtype=bool)
    ends, shares = [], []
    for axis, (along, stride) in enumerate(zip(at, (shape[1] * shape[2], shape[2], 1), strict=True)):
        outside |= (along < -0.5) | (along > shape[axis] - 0.5)
        low = np.floor(along).astype(np.int32)
        part = (along - low).astype(np.float32)
        ends.append([np.clip(low + step, 0, shape[axis] - 1) * np.int32(stride) for step in (0, 1)])
        shares.append([1 - part, part])
    for share in shares[0]:
        share[outside] = 0
    columns, values = np.empty((at.shape[1], 8), np.int32), np.empty((at.shape[1], 8), np.float32)
    for corner, (i, j, k) in enumerate(product((0, 1), repeat=3)):
        columns[:, corner] = ends[0][i] + ends[1][j] + ends[2][k]
        values[:, corner] = shares[0][i] * shares[1][j] * shares[2][k]
    starts = np.arange(0, 8 * at.shape[1] + 1, 8, dtype=np.int32)
    return sparse.csr_array((values.ravel(), columns.ravel(), starts), shape=(at.shape[1], int(np.prod(shape))))
