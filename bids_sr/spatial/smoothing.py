"""Gaussian smoothing of volumes, in mm.

Volumes are smoothed with a 3D Gaussian over the complete volume, including voxels outside the
mask, as in the paper. Edge values are repeated beyond the edges of the volume.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Float32, Real
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA

_BoundingBox = tuple[slice, slice, slice]
_Edge = Literal["nearest", "constant"]
_WHOLE: _BoundingBox = (slice(None), slice(None), slice(None))

_SAMPLES_PER_MATRIX = 32
_TRUNCATION = 4.0  # half-width of the Gaussian in standard deviations


def smooth(
    volume: Real,
    zooms: Sequence[float],
    fwhm_mm: float,
    box: _BoundingBox = _WHOLE,
    *,
    edge: _Edge = "nearest",
) -> Float32:
    """Smooth a finite volume (X, Y, Z) with a Gaussian.

    Parameters
    ----------
    volume : Real
        Image without NaN or infinity (X, Y, Z).
    zooms : Sequence[float]
        Voxel size along each axis (mm).
    fwhm_mm : float
        Width of the Gaussian (FWHM, mm); 0 returns the values unchanged.
    box : _BoundingBox, optional
        Range of voxels to return, along each axis. Voxels outside the box contribute to the
        result.
    edge : {"nearest", "constant"}, optional
        Values beyond the edges of the volume: edge values, or 0.

    Returns
    -------
    Float32
        Smoothed values in the box.
    """
    image = np.asarray(volume, dtype=np.float32)
    if fwhm_mm == 0:
        return image[box]
    # The axes are processed in their order in memory.
    if image.flags.f_contiguous and not image.flags.c_contiguous:
        return smooth(image.T, zooms[::-1], fwhm_mm, box[::-1], edge=edge).T
    sigma_mm = fwhm_mm / FWHM_PER_SIGMA
    x_matrices, y_matrices, z_matrices = (
        _make_gaussian_matrices(count, sigma_mm / float(zoom), *extent.indices(count)[:2], edge)
        for count, zoom, extent in zip(image.shape, zooms, box, strict=True)
    )
    # Only voxels within four sigmas of the box contribute.
    x_range, y_range = (
        slice(matrices[0][1].start, matrices[-1][1].stop) for matrices in (x_matrices, y_matrices)
    )
    # Matrix products are faster than a filter because a run is smoothed once per width.
    n_x, n_y, _ = image[x_range, y_range].shape
    out_x, out_y, out_z = (
        matrices[-1][0].stop for matrices in (x_matrices, y_matrices, z_matrices)
    )
    along_z = np.empty((n_x, n_y, out_z), np.float32)
    for output_range, input_range, weights in z_matrices:
        np.matmul(image[x_range, y_range, input_range], weights.T, out=along_z[..., output_range])
    along_y = np.empty((n_x, out_y, out_z), np.float32)
    for output_range, input_range, weights in y_matrices:
        rows = slice(input_range.start - y_range.start, input_range.stop - y_range.start)
        np.matmul(weights, along_z[:, rows], out=along_y[:, output_range])
    smoothed = np.empty((out_x, out_y * out_z), np.float32)
    for output_range, input_range, weights in x_matrices:
        rows = slice(input_range.start - x_range.start, input_range.stop - x_range.start)
        np.matmul(weights, along_y.reshape(n_x, -1)[rows], out=smoothed[output_range])
    return smoothed.reshape(out_x, out_y, out_z)


@lru_cache(maxsize=64)
def _make_gaussian_matrices(
    count: int, sigma: float, start: int, stop: int, edge: _Edge
) -> list[tuple[slice, slice, Float32]]:
    """Return banded matrices that smooth `count` samples with a Gaussian of `sigma` samples.

    The Gaussian is truncated at four sigmas. Beyond the edges, edge values are repeated
    (``nearest``), or values are 0 (``constant``). Returns for each matrix the range of its output
    samples relative to `start`, the range of its input samples, and the weights.
    """
    radius = int(_TRUNCATION * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    impulse = (offsets == 0).astype(np.float64)
    kernel = ndimage.gaussian_filter1d(impulse, sigma, mode="constant", truncate=_TRUNCATION)
    matrices = []
    for first in range(start, stop, _SAMPLES_PER_MATRIX):
        rows = np.arange(first, min(first + _SAMPLES_PER_MATRIX, stop))
        inputs = rows[:, None] + offsets
        nearest_inputs = np.clip(inputs, 0, count - 1)
        input_range = slice(int(nearest_inputs.min()), int(nearest_inputs.max()) + 1)
        weights = np.zeros((len(rows), input_range.stop - input_range.start))
        kernels = np.where((inputs == nearest_inputs) | (edge == "nearest"), kernel, 0.0)
        columns = nearest_inputs - input_range.start
        np.add.at(weights, (rows[:, None] - first, columns), kernels)
        output_range = slice(first - start, first - start + len(rows))
        matrices.append((output_range, input_range, weights.astype(np.float32)))
    return matrices
