"""Gaussian smoothing of volumes, in mm.

Volumes are smoothed with a 3D Gaussian over the complete volume, including voxels outside the
mask, as in the paper. Edge values are repeated beyond the edges of the volume.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Float32, Real
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA

_BoundingBox = tuple[slice, slice, slice]
_WHOLE: _BoundingBox = (slice(None), slice(None), slice(None))

_BAND = 32  # samples per matrix


@lru_cache(maxsize=64)
def _gaussian(
    count: int, sigma: float, start: int, stop: int
) -> list[tuple[slice, slice, Float32]]:
    """Return banded matrices that smooth `count` samples with a Gaussian of `sigma` samples.

    The Gaussian is truncated at four sigmas, and edge values are repeated beyond the edges.

    Returns
    -------
    list[tuple[slice, slice, ndarray]]
        For each matrix, the range of its output samples relative to `start`, the range of its
        input samples, and the weights.
    """
    full_matrix = ndimage.gaussian_filter1d(
        np.eye(count), sigma, axis=0, mode="nearest", truncate=4.0
    ).astype(np.float32)
    matrices = []
    for first in range(start, stop, _BAND):
        rows = full_matrix[first : min(first + _BAND, stop)]
        nonzero = np.flatnonzero(rows.any(axis=0))
        input_range = slice(int(nonzero[0]), int(nonzero[-1]) + 1)
        output_range = slice(first - start, first - start + len(rows))
        matrices.append((output_range, input_range, np.ascontiguousarray(rows[:, input_range])))
    return matrices


def smooth(
    volume: Real, zooms: Sequence[float], fwhm_mm: float, box: _BoundingBox = _WHOLE
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

    Returns
    -------
    Float32
        Smoothed values in the box.

    Raises
    ------
    ValueError
        If the width is negative.
    """
    if fwhm_mm < 0:
        raise ValueError(f"the smoothing width must not be negative, got {fwhm_mm} mm")
    out = np.asarray(volume, dtype=np.float32)
    if fwhm_mm == 0:
        return out[box]
    if out.flags.f_contiguous:  # the axes are processed in their order in memory
        return smooth(out.T, zooms[::-1], fwhm_mm, box[::-1]).T
    first, second, third = (
        _gaussian(count, fwhm_mm / FWHM_PER_SIGMA / float(zoom), *part.indices(count)[:2])
        for count, zoom, part in zip(out.shape, zooms, box, strict=True)
    )
    # Matrix products are faster than a filter because a run is smoothed once per width.
    x, y, z = out.shape
    to_x, to_y, to_z = (matrices[-1][0].stop for matrices in (first, second, third))
    along_z = np.empty((x * y, to_z), np.float32)
    for output_range, input_range, rows in third:
        np.matmul(out.reshape(-1, z)[:, input_range], rows.T, out=along_z[:, output_range])
    along_y = np.empty((x, to_y, to_z), np.float32)
    for output_range, input_range, rows in second:
        np.matmul(rows, along_z.reshape(x, y, to_z)[:, input_range], out=along_y[:, output_range])
    smoothed = np.empty((to_x, to_y * to_z), np.float32)
    for output_range, input_range, rows in first:
        np.matmul(rows, along_y.reshape(x, -1)[input_range], out=smoothed[output_range])
    return smoothed.reshape(to_x, to_y, to_z)
