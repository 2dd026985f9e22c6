"""Smooth random fields, steps and distances, and separable upsampling, for the simulated head."""

from collections.abc import Sequence

import numpy as np
from scipy import interpolate, ndimage

from bids_sr.io.arrays import Array


def smooth_field(rng: np.random.Generator, shape: Sequence[int], sigma: float) -> Array:
    """Return a random field of zero mean and unit standard deviation (float32).

    The field is white noise smoothed by a Gaussian with standard deviation `sigma` (voxels). If
    possible without loss, it is drawn on a grid of larger voxels.
    """
    step = max(1, int(sigma / 1.5))
    noise = rng.standard_normal([max(4, size // step + 1) for size in shape], dtype=np.float32)
    field = ndimage.gaussian_filter(noise, sigma / step, mode="wrap")
    field = upsample(field, shape) if step > 1 else field[tuple(slice(0, size) for size in shape)]
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def upsample(samples: Array, shape: Sequence[int]) -> Array:
    """Upsample an array to `shape` by a cubic spline (float32).

    The points are evenly spaced from the first to the last sample. At least four samples are
    required along each axis.
    """
    upsampled = np.asarray(samples, dtype=np.float32)
    for axis, size in enumerate(shape):
        n_samples = upsampled.shape[axis]
        weights = interpolate.make_interp_spline(np.arange(n_samples), np.eye(n_samples), k=3)(
            np.linspace(0, n_samples - 1, size)
        )
        upsampled = np.moveaxis(
            np.tensordot(weights.astype(np.float32), upsampled, (1, axis)), 0, axis
        )
    return np.ascontiguousarray(upsampled)


def smooth_step(distance_mm: Array, width_mm: float) -> Array:
    """Return 1 well below zero and 0 well above, with a transition over about `width_mm`."""
    return 0.5 - 0.5 * np.tanh(distance_mm / np.float32(2 * width_mm))


def distance_to_mask(mask: Array, step: int, voxel_mm: float) -> Array:
    """Return the distance (mm) from each voxel to the mask (float32), 0 inside.

    The distance is computed at every `step`-th voxel and interpolated; `voxel_mm` is the voxel
    size.
    """
    subsampled = mask[::step, ::step, ::step]
    distances = ndimage.distance_transform_edt(~subsampled).astype(np.float32) * (step * voxel_mm)
    if step == 1:
        return distances
    axes = [
        np.minimum(np.arange(size) / step, n_samples - 1.0)
        for size, n_samples in zip(mask.shape, subsampled.shape, strict=True)
    ]
    for axis, positions in enumerate(axes):
        sample = np.minimum(positions.astype(int), distances.shape[axis] - 2)
        weight = align_with_axis((positions - sample).astype(np.float32), axis)
        distances = (
            np.take(distances, sample, axis) * (1 - weight)
            + np.take(distances, sample + 1, axis) * weight
        )
    return np.asarray(distances, dtype=np.float32)


def align_with_axis(vector: Array, axis: int) -> Array:
    """Return a vector in a shape that is broadcast along one axis of a volume."""
    return vector.reshape([-1 if dimension == axis else 1 for dimension in range(3)])


def polynomial(rng: np.random.Generator, affine: Array, shape: Sequence[int]) -> Array:
    """Return a random polynomial of second order over a grid (float32).

    Its values are about -1 to 1 within 100 mm of the center of the grid.
    """
    relative_positions = [
        affine[axis, axis] * (np.arange(size) - (size - 1) / 2) / 100.0
        for axis, size in enumerate(shape)
    ]
    x, y, z = np.ix_(*[positions.astype(np.float32) for positions in relative_positions])
    weights = rng.uniform(-1, 1, 9).astype(np.float32)
    weights[:3] *= 0.6
    field = (
        weights[0] * x
        + weights[1] * y
        + weights[2] * z
        + weights[3] * x * x
        + weights[4] * y * y
        + weights[5] * z * z
    )
    return np.asarray(
        (field + weights[6] * x * y + weights[7] * x * z + weights[8] * y * z) / 1.5,
        dtype=np.float32,
    )
