"""Interpolation of a volume by a windowed sinc.

The Lanczos window with three lobes (Duchon 1979, Journal of Applied Meteorology 18:1016) provides
the interpolation `lanczos` of the acquired grid. The weights of a point sum to 1, so that a
constant image stays constant.
"""

import itertools

import numpy as np

from bids_sr.io.arrays import Array, Float32
from bids_sr.spatial.reproducible_numbers import round_values

_N_LOBES = 3  # half width of the window (voxels)


def lanczos_kernel(distance: Array) -> Array:
    """Return the windowed sinc at distances in voxels, of any shape; 0 beyond the window."""
    windowed_sinc = np.sinc(distance) * np.sinc(distance / _N_LOBES)
    return np.where(np.abs(distance) < _N_LOBES, windowed_sinc, 0.0)


def resample_sinc(
    volume: Array, affine: Array, target_shape: tuple[int, int, int], to_volume: Array
) -> Float32:
    """Resample a volume to another grid, slice by slice to limit memory.

    The volume and the result are 3D. `affine` is the voxel-to-world matrix of the volume, and
    `to_volume` transforms a target voxel to its point in the volume (4 x 4, RAS+ mm).
    """
    matrix = round_values(np.linalg.inv(affine) @ to_volume)
    plane_shape, n_slices = target_shape[:2], target_shape[2]
    plane_voxels = np.indices(plane_shape).reshape(2, -1)
    resampled = np.empty(target_shape, dtype=np.float32)
    for z in range(n_slices):
        voxels = np.vstack([plane_voxels, np.full(plane_voxels.shape[1], z)])
        points = matrix[:3, :3] @ voxels + matrix[:3, 3:]
        resampled[:, :, z] = sample_sinc(volume, points).reshape(plane_shape)
    return resampled


def sample_sinc(volume: Array, points: Array) -> Float32:
    """Interpolate a volume at points in voxels.

    Beyond the edge, the outermost samples are repeated. The volume is 3D. `points` are coordinates
    in voxels along the three axes (3, n), and values (n,).

    >>> volume = np.arange(27.0).reshape(3, 3, 3)
    >>> sample_sinc(volume, np.array([[1.0], [1.0], [2.0]])).tolist()
    [14.0]
    """
    data = np.asarray(volume, dtype=np.float32)
    first_sample = np.floor(points).astype(np.int64) - _N_LOBES + 1
    weights, sample_indices = [], []
    for axis in range(3):
        samples = first_sample[axis] + np.arange(2 * _N_LOBES)[:, None]
        taps = lanczos_kernel(points[axis] - samples)
        weights.append((taps / taps.sum(axis=0)).astype(np.float32))
        sample_indices.append(np.clip(samples, 0, data.shape[axis] - 1))
    values = np.zeros(points.shape[1], dtype=np.float32)
    for i, j in itertools.product(range(2 * _N_LOBES), repeat=2):
        column = np.zeros_like(values)
        for k in range(2 * _N_LOBES):
            column += (
                weights[2][k]
                * data[sample_indices[0][i], sample_indices[1][j], sample_indices[2][k]]
            )
        values += weights[0][i] * weights[1][j] * column
    return values
