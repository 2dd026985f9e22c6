"""Smooth random fields, steps and distances, and separable upsampling, for the simulated head."""

from collections.abc import Sequence

import numpy as np
from scipy import interpolate, ndimage

from bids_sr.io.arrays import Array


def upsample(samples: Array, shape: Sequence[int]) -> Array:
    """Upsample an array to `shape` by a cubic spline (float32).

    The points are evenly spaced from the first to the last sample. At least four samples are
    required along each axis.
    """
    out = np.asarray(samples, dtype=np.float32)
    for axis, n in enumerate(shape):
        m = out.shape[axis]
        weights = interpolate.make_interp_spline(np.arange(m), np.eye(m), k=3)(
            np.linspace(0, m - 1, n)
        )
        out = np.moveaxis(np.tensordot(weights.astype(np.float32), out, (1, axis)), 0, axis)
    return np.ascontiguousarray(out)


def smooth_field(rng: np.random.Generator, shape: Sequence[int], sigma: float) -> Array:
    """Return a random field of zero mean and unit standard deviation (float32).

    The field is white noise smoothed by a Gaussian with standard deviation `sigma` (voxels). If
    possible without loss, it is drawn on a grid of larger voxels.
    """
    step = max(1, int(sigma / 1.5))
    noise = rng.standard_normal([max(4, n // step + 1) for n in shape], dtype=np.float32)
    out = ndimage.gaussian_filter(noise, sigma / step, mode="wrap")
    out = upsample(out, shape) if step > 1 else out[tuple(slice(0, n) for n in shape)]
    return np.asarray((out - out.mean()) / out.std(), dtype=np.float32)


def smooth_step(value: Array, soft: float) -> Array:
    """Return 1 well below zero and 0 well above, with a smooth transition over about `soft` mm."""
    return 0.5 - 0.5 * np.tanh(value / np.float32(2 * soft))


def distance(mask: Array, step: int, voxel: float) -> Array:
    """Return the distance (mm) from each voxel to the mask (float32), 0 inside.

    The distance is computed at every `step`-th voxel and interpolated; `voxel` is the voxel size
    (mm).
    """
    subsampled = mask[::step, ::step, ::step]
    distances = ndimage.distance_transform_edt(~subsampled).astype(np.float32) * (step * voxel)
    if step == 1:
        return distances
    axes = [
        np.minimum(np.arange(n) / step, c - 1.0)
        for n, c in zip(mask.shape, subsampled.shape, strict=True)
    ]
    for axis, positions in enumerate(axes):
        low = np.minimum(positions.astype(int), distances.shape[axis] - 2)
        weight = (
            (positions - low)
            .astype(np.float32)
            .reshape([-1 if a == axis else 1 for a in range(3)])
        )
        distances = (
            np.take(distances, low, axis) * (1 - weight)
            + np.take(distances, low + 1, axis) * weight
        )
    return np.asarray(distances, dtype=np.float32)


def polynomial(rng: np.random.Generator, affine: Array, shape: Sequence[int]) -> Array:
    """Return a random polynomial of second order over a grid (float32).

    Its values are about -1 to 1 within 100 mm of the center of the grid.
    """
    world = [affine[a, a] * (np.arange(n) - (n - 1) / 2) / 100.0 for a, n in enumerate(shape)]
    x, y, z = np.meshgrid(*[w.astype(np.float32) for w in world], indexing="ij", sparse=True)
    c = rng.uniform(-1, 1, 9).astype(np.float32)
    c[:3] *= 0.6
    out = c[0] * x + c[1] * y + c[2] * z + c[3] * x * x + c[4] * y * y + c[5] * z * z
    return np.asarray((out + c[6] * x * y + c[7] * x * z + c[8] * y * z) / 1.5, dtype=np.float32)
