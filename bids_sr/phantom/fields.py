"""Smooth random fields and separable up-sampling: the building blocks of the simulated head."""

from collections.abc import Sequence

import numpy as np
from scipy import interpolate, ndimage

from bids_sr.io.arrays import Array


def upsample(samples: Array, shape: Sequence[int]) -> Array:
    """Upsample an array to `shape` by a cubic spline (float32).

    The points are spread evenly from its first to its last sample.

    `samples`: coarse samples, at least four along each axis. `ResolutionError`: the image does not
    have three or four axes. Finer samples of that shape.
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
    """Return a float32 random field of zero mean and unit standard deviation.

    It is white noise smoothed by `sigma` (voxels).

    It is drawn on a grid of larger voxels where that loses nothing.
    """
    step = max(1, int(sigma / 1.5))
    noise = rng.standard_normal([max(4, n // step + 1) for n in shape], dtype=np.float32)
    out = ndimage.gaussian_filter(noise, sigma / step, mode="wrap")
    out = upsample(out, shape) if step > 1 else out[tuple(slice(0, n) for n in shape)]
    return np.asarray((out - out.mean()) / out.std(), dtype=np.float32)


def distance(mask: Array, step: int, voxel: float) -> Array:
    """Return the float32 distance (mm) from each voxel to the mask (0 inside).

    It is computed on every `step`-th voxel.

    `voxel`: edge length of the voxels (mm).
    """
    thinned = mask[::step, ::step, ::step]
    far = ndimage.distance_transform_edt(~thinned).astype(np.float32) * (step * voxel)
    if step == 1:
        return far
    axes = [
        np.minimum(np.arange(n) / step, c - 1.0)
        for n, c in zip(mask.shape, thinned.shape, strict=True)
    ]
    for axis, at in enumerate(axes):
        low = np.minimum(at.astype(int), far.shape[axis] - 2)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        far = np.take(far, low, axis) * (1 - weight) + np.take(far, low + 1, axis) * weight
    return np.asarray(far, dtype=np.float32)


def polynomial(rng: np.random.Generator, affine: Array, shape: Sequence[int]) -> Array:
    """Return a random polynomial of second order over a grid, float32.

    It is about -1 to 1 within 100 mm of the grid's center.
    """
    world = [affine[a, a] * (np.arange(n) - (n - 1) / 2) / 100.0 for a, n in enumerate(shape)]
    x, y, z = np.meshgrid(*[w.astype(np.float32) for w in world], indexing="ij", sparse=True)
    c = rng.uniform(-1, 1, 9).astype(np.float32)
    c[:3] *= 0.6
    out = c[0] * x + c[1] * y + c[2] * z + c[3] * x * x + c[4] * y * y + c[5] * z * z
    return np.asarray((out + c[6] * x * y + c[7] * x * z + c[8] * y * z) / 1.5, dtype=np.float32)
