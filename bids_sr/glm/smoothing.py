"""Gaussian smoothing of volumes, in mm.

Smoothing is a plain 3D Gaussian in mm over the whole volume (what lies outside the mask counts, as
in the paper's filter). Beyond the edge of the volume the edge value goes on.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Float32, Real
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA

_Box = tuple[slice, slice, slice]
_WHOLE: _Box = (slice(None), slice(None), slice(None))

_BAND = 32  # samples


@lru_cache(maxsize=64)
def _gaussian(
    count: int, sigma: float, start: int, stop: int
) -> list[tuple[slice, slice, Float32]]:
    """Return matrices that smooth `count` samples by a Gaussian of `sigma` samples.

    It is cut off at four sigmas, and the edge value is continued beyond the edge. Each matrix
    makes some of the samples from `start` to `stop`, of which few samples have a weight other than
    0. It comes with the smoothed samples, counted from `start`, and the samples that it takes.
    """
    whole = ndimage.gaussian_filter1d(
        np.eye(count), sigma, axis=0, mode="nearest", truncate=4.0
    ).astype(np.float32)
    matrices = []
    for first in range(start, stop, _BAND):
        rows = whole[first : min(first + _BAND, stop)]
        used = np.flatnonzero(rows.any(axis=0))
        at = slice(int(used[0]), int(used[-1]) + 1)
        made = slice(first - start, first - start + len(rows))
        matrices.append((made, at, np.ascontiguousarray(rows[:, at])))
    return matrices


def smooth(volume: Real, zooms: Sequence[float], fwhm_mm: float, box: _Box = _WHOLE) -> Float32:
    """Smooth a finite volume (X, Y, Z) with a Gaussian, with voxels of `zooms` mm.

    0 mm returns the values unchanged.

    Only what lies in the `box` is made, of all of the volume.

    Parameters
    ----------
    volume : Real
        Image without NaN or infinity (X, Y, Z).
    zooms : Sequence[float]
        Voxel size along each axis (mm).
    fwhm_mm : float
        Width of the Gaussian smoothing (FWHM, mm); 0 for none.
    box : _Box, optional
        Range of voxels to return, along each axis.

    Returns
    -------
    Float32
        Smoothed values in the box.

    Raises
    ------
    ValueError
        The width is negative.
    """
    if fwhm_mm < 0:
        raise ValueError(f"the smoothing width must not be negative, got {fwhm_mm} mm")
    out = np.asarray(volume, dtype=np.float32)
    if fwhm_mm == 0:
        return out[box]
    if out.flags.f_contiguous:  # axes in the order in which they lie in memory
        return smooth(out.T, zooms[::-1], fwhm_mm, box[::-1]).T
    first, second, third = (
        _gaussian(count, fwhm_mm / FWHM_PER_SIGMA / float(zoom), *part.indices(count)[:2])
        for count, zoom, part in zip(out.shape, zooms, box, strict=True)
    )
    # matrix products, which take less time than a filter: a run is smoothed once for each width
    x, y, z = out.shape
    to_x, to_y, to_z = (matrices[-1][0].stop for matrices in (first, second, third))
    along_z = np.empty((x * y, to_z), np.float32)
    for made, at, rows in third:
        np.matmul(out.reshape(-1, z)[:, at], rows.T, out=along_z[:, made])
    along_y = np.empty((x, to_y, to_z), np.float32)
    for made, at, rows in second:
        np.matmul(rows, along_z.reshape(x, y, to_z)[:, at], out=along_y[:, made])
    smoothed = np.empty((to_x, to_y * to_z), np.float32)
    for made, at, rows in first:
        np.matmul(rows, along_y.reshape(x, -1)[at], out=smoothed[made])
    return smoothed.reshape(to_x, to_y, to_z)
