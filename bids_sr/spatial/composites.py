"""Mapping of points through chains of linear and composite transform files.

Composite transforms (HDF5) may contain displacement fields. Points are mapped without an image,
about ten times faster than by resampling images of coordinates.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bids_sr.io.arrays import Array, Float, Float32
from bids_sr.spatial.itk_files import make_matrix, read_itk
from bids_sr.spatial.transforms import TransformError, UnsupportedTransformError, apply_matrix

_RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # conversion between RAS and LPS


def map_points(points: Array, chain: Sequence[Path]) -> Float:
    """Map points through a chain of transform files; the **last** file is applied first.

    Parameters
    ----------
    points : Array
        Points before the transform (N, 3; RAS+ mm).
    chain : Sequence[Path]
        ITK transform files, either text with one affine or composite (.h5).

    Returns
    -------
    Float
        Points after the transform (N, 3; RAS+ mm).

    Raises
    ------
    TransformError
        A file cannot be read.
    UnsupportedTransformError
        A text file contains more than one transform, or the type of a transform is not supported.
    """
    mapped_points = np.asarray(points, dtype=np.float64)
    matrix = np.eye(4)  # product of the linear transforms that are not applied yet
    for path in reversed(chain):
        if path.suffix == ".h5":
            mapped_points, matrix = _map_through_composite(mapped_points, _RAS_LPS @ matrix, path)
            matrix = _RAS_LPS @ matrix
            continue
        matrices = read_itk(path)
        if len(matrices) != 1:
            raise UnsupportedTransformError(
                f"{path}: expected a single transform, found {len(matrices)}"
            )
        matrix = matrices[0] @ matrix
    return apply_matrix(matrix, mapped_points)


def _map_through_composite(points: Array, matrix: Array, path: Path) -> tuple[Array, Array]:
    """Map points through a composite transform; its last component is applied first.

    `matrix` is the linear transform of the points (N, 3) to LPS mm, which is not applied yet (4 x
    4). Returns mapped points (N, 3) and, again, the linear transform to LPS mm that is not applied
    yet (4 x 4).
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _apply_components(points, matrix, file["TransformGroup"], path)
    except TransformError:
        raise
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise TransformError(
            f"{path}: the file cannot be read as a composite ITK transform ({error})"
        ) from error


def _apply_components(points: Array, matrix: Array, group: Any, path: Path) -> tuple[Array, Array]:
    """Map points through the components in a group of a composite file, last one first.

    For the parameters and results, see `_map_through_composite`.
    """
    mapped_points = points
    for name in sorted(group, key=int, reverse=True):
        component = _read_component(group[name])
        if component.kind.startswith(("AffineTransform", "MatrixOffsetTransformBase")):
            matrix = make_matrix(component.parameters, component.fixed_parameters[:3]) @ matrix
        elif component.kind.startswith("DisplacementFieldTransform"):
            mapped_points = apply_matrix(matrix, mapped_points)
            matrix = np.eye(4)
            mapped_points += _interpolate_displacements(
                mapped_points, component.parameters, component.fixed_parameters
            )
        elif not component.kind.startswith("CompositeTransform"):
            raise UnsupportedTransformError(
                f"{path}: the file contains a transform of type {component.kind}, which is not "
                "supported"
            )
    return mapped_points, matrix


class _TransformComponent(NamedTuple):
    """Component of a composite transform, with its type in `kind`."""

    kind: str
    parameters: Array
    fixed_parameters: Array


def _read_component(entry: Any) -> _TransformComponent:
    """Read one component; the entry for the composite itself has no parameters."""
    stored_kind = entry["TransformType"][0]
    kind = stored_kind.decode() if isinstance(stored_kind, bytes) else str(stored_kind)
    if kind.startswith("CompositeTransform"):
        return _TransformComponent(kind, np.zeros(0), np.zeros(0))
    fixed_parameters = np.asarray(entry["TransformFixedParameters"], dtype=np.float64)
    return _TransformComponent(kind, np.asarray(entry["TransformParameters"]), fixed_parameters)


def _interpolate_displacements(points: Array, parameters: Array, fixed_parameters: Array) -> Array:
    """Interpolate a displacement field linearly at points (N, 3; LPS mm).

    The displacement is 0 if a point is more than half a voxel outside the field.
    """
    shape = tuple(int(n) for n in fixed_parameters[:3])
    origin = fixed_parameters[3:6]
    spacing = fixed_parameters[6:9]
    direction = fixed_parameters[9:18].reshape(3, 3)
    to_grid = np.eye(4)
    to_grid[:3, :3] = np.linalg.inv(direction * spacing)
    to_grid[:3, 3] = -to_grid[:3, :3] @ origin
    coordinates = apply_matrix(to_grid, points).T
    # the first axis varies fastest in ITK files, after the vector components
    return interpolate_linearly(parameters.reshape(*shape[::-1], 3), coordinates[::-1])


def interpolate_linearly(maps: Array, coordinates: Array) -> Float32:
    """Interpolate maps linearly at voxel coordinates.

    Points up to half a voxel beyond the outermost samples take the edge values; points farther out
    get 0.

    `maps` are on one grid (X, Y, Z, K), and `coordinates` in voxels (3, N). Returns the value of
    each map at each point (N, K).
    """
    from bids_sr.spatial.spline_kernels import sample_linear

    values = np.empty((coordinates.shape[1], maps.shape[3]), dtype=np.float32)
    contiguous_maps = np.ascontiguousarray(maps, dtype=np.float32)
    points = np.ascontiguousarray(coordinates, dtype=np.float64)
    sample_linear(contiguous_maps, points, values)
    return values
