"""Points through chains of transform files, composites with displacement fields among them.

Composite transforms (HDF5) carry points without an image: some ten times quicker than resampling
images of coordinates.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.io.arrays import Array, Float, Float32
from bids_sr.spatial.itk_files import about_center, read_itk
from bids_sr.spatial.transforms import TransformError, moved

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
