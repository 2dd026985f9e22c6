"""Spatial frequencies above the acquired Nyquist frequency."""

from collections.abc import Sequence

import numpy as np
from scipy import fft

from bids_sr.io.arrays import Array, MaskArray

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))
"""Full width at half maximum of a Gaussian over its standard deviation."""
_CYCLE_TOLERANCE = 1e-6  # cycles per field of view, rounding of the Nyquist frequency


def beyond_nyquist(maps: Array, factor: Sequence[float]) -> Array:
    """Keep only spatial frequencies at or above the acquired Nyquist frequency.

    Within slices the maps are Fourier transformed, because the head ends inside the field of view.
    Across slices a discrete cosine transform (type 2) is used: the head extends beyond the field
    of view, and a Fourier transform would treat the step between the last and the first slice as
    detail.

    Parameters
    ----------
    maps : Array
        Maps of whole slices on the high-resolution grid (X, Y, Z[, B]).
    factor : Sequence[float]
        Ratio of acquired to high-resolution voxel size along each axis. With factor f, n voxels
        were acquired as n/f voxels, whose Nyquist frequency is n/(2f) cycles per field of view. An
        axis with factor 1 has no limit.

    Returns
    -------
    Array
        Detail at or above the limit of at least one axis, in the units and shape of the maps. Maps
        in float32 remain float32.

    Raises
    ------
    ValueError
        The factor is not above 1 along any axis.

    Examples
    --------
    >>> smooth = np.cos(2 * np.pi * np.arange(8) / 8)[:, None, None] * np.ones((8, 8, 1))
    >>> float(np.abs(beyond_nyquist(smooth, (2, 2, 1))).max().round(6))
    0.0
    """
    axes = [axis for axis in (0, 1) if factor[axis] > 1]
    has_thinner_slices = factor[2] > 1
    is_above = _find_beyond_nyquist(maps.shape[:3], factor)
    spectrum = fft.dct(maps, axis=2, norm="ortho") if has_thinner_slices else maps
    spectrum = fft.fftn(spectrum, axes=axes) if axes else np.array(spectrum)
    spectrum *= is_above.reshape(is_above.shape + (1,) * (maps.ndim - 3))
    detail = fft.ifftn(spectrum, axes=axes).real if axes else spectrum
    return np.ascontiguousarray(
        fft.idct(detail, axis=2, norm="ortho") if has_thinner_slices else detail
    )


def share_beyond_nyquist(shape: Sequence[int], factor: Sequence[float]) -> float:
    """Return the share of the frequencies of a grid (X, Y, Z) that `beyond_nyquist` keeps.

    It is the share of the energy of white noise. ValueError is raised as by `beyond_nyquist`.
    """
    return float(np.broadcast_to(_find_beyond_nyquist(shape, factor), shape).mean())


def _find_beyond_nyquist(shape: Sequence[int], factor: Sequence[float]) -> MaskArray:
    """Return which frequencies `beyond_nyquist` keeps; axes without a limit have length 1."""
    if max(factor) <= 1:
        raise ValueError(
            f"the super-resolution factor {tuple(factor)} adds no spatial frequencies above "
            "the acquired Nyquist frequency. Use a factor above 1 along at least one axis."
        )
    is_below_all = np.ones((1, 1, 1), dtype=bool)
    for axis, size in enumerate(shape):
        if factor[axis] <= 1:
            continue
        # cycles per field of view
        cycles = np.abs(fft.fftfreq(size) * size) if axis < 2 else np.arange(size) / 2
        is_below_limit = cycles < size / (2 * factor[axis]) - _CYCLE_TOLERANCE
        shape_along_axis = [1, 1, 1]
        shape_along_axis[axis] = -1
        is_below_all = is_below_all & is_below_limit.reshape(shape_along_axis)
    return np.asarray(~is_below_all)
