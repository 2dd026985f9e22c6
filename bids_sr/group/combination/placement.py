"""Place of runs that are compared: equal interpolation, and the error of their registration.

Two maps that are a fraction of a millimeter apart differ wherever they are steep. The first run
is not interpolated, so that its map is sharper than the map of a run that is moved to its frame.
It is therefore filtered like this interpolation, without a shift. The remaining error
of the registration moves a map by a translation and a rotation that are unknown, but the same for
all voxels. To first order, it changes an effect by the product of its gradient with the shift.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from bids_sr.group.combination.interpolated_variance import (
    FRACTIONS,
    TAP_OFFSETS,
    interpolation_weights,
)
from bids_sr.io.arrays import Array, Float
from bids_sr.spatial.transforms import apply_matrix

_RADIUS = 11  # voxels, half the width of the kernels
_N_FREQUENCIES = 64  # length of the Fourier transform of an interpolation kernel


def filter_alike(values: Array, frame_to_runs: Sequence[Array]) -> Float:
    """Filter maps (3D, …) like the interpolation of other runs to their grid, on average.

    `frame_to_runs` transform voxels of the map to voxels of the other runs (4 x 4). The filter
    along each axis depends on the position between two voxels, and does not move the map.
    """
    kernels = _make_kernels()
    voxels = np.indices(values.shape[:3], dtype=np.float32).reshape(3, -1).T
    filtered = [_filter_axes(values, matrix, voxels, kernels) for matrix in frame_to_runs]
    return np.asarray(np.mean(filtered, axis=0))


def _filter_axes(values: Array, matrix: Array, voxels: Array, kernels: Float) -> Array:
    """Filter a map along each axis with the kernels at its `voxels` in another run."""
    points = apply_matrix(matrix, voxels)
    for run_axis in range(3):
        axis = int(np.argmax(np.abs(matrix[run_axis, :3])))
        fractions = np.mod(points[:, run_axis], 1.0)
        fractions = fractions.reshape(*values.shape[:3], *[1] * (values.ndim - 3))
        padding = [(_RADIUS * (other == axis),) * 2 for other in range(values.ndim)]
        padded = np.pad(values, padding, mode="edge")
        size = values.shape[axis]
        values = sum(
            np.interp(fractions, FRACTIONS, kernels[:, tap])
            * np.take(padded, np.arange(tap, tap + size), axis=axis)
            for tap in range(kernels.shape[1])
        )
    return values


def _make_kernels() -> Float:
    """Return kernels (fractions, taps) of the spline interpolation less its shift."""
    responses = np.fft.rfft(interpolation_weights(), n=_N_FREQUENCIES, axis=1)
    frequencies = 2 * np.pi * np.fft.rfftfreq(_N_FREQUENCIES)
    shifts = FRACTIONS[:, None] - TAP_OFFSETS[0]
    kernels = np.fft.irfft(responses * np.exp(1j * shifts * frequencies), axis=1)
    kernels = np.roll(kernels, _RADIUS, axis=1)[:, : 2 * _RADIUS + 1]
    return np.asarray(kernels / kernels.sum(axis=1, keepdims=True))


def compute_place_gradients(effect: Array, affine: Array, center: Array) -> Float:
    """Return the change of an effect (3D) per mm and per radian of six rigid parameters (3D, 6).

    `affine` is from voxels to RAS+ mm, and `center` the point (mm) that rotations leave in place.
    """
    slopes = np.stack(np.gradient(effect.astype(np.float64)), axis=-1)
    gradient = slopes @ np.linalg.inv(affine)[:3, :3]
    voxels = np.indices(effect.shape).reshape(3, -1).T
    points = apply_matrix(affine, voxels).reshape(*effect.shape, 3)
    return np.concatenate([gradient, np.cross(points - center, gradient)], axis=-1)


def compute_place_sd(gradients: Array, covariance: Array) -> Float:
    """Return the SD of an effect from the covariance (6, 6) of the rigid parameters.

    `gradients` are (…, 6): those of voxels, or their means over regions, because the error of a
    rigid registration is one error for all voxels.
    """
    variance = np.einsum("...i,ij,...j->...", gradients, covariance, gradients)
    return np.asarray(np.sqrt(np.maximum(variance, 0)))


def find_nearest_voxels(mask: Array) -> tuple[Array, ...]:
    """Return the index of the nearest mask voxel for each voxel of the grid (3 arrays, 3D)."""
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return tuple(nearest)
