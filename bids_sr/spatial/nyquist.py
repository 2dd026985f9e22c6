"""Detail beyond the acquired Nyquist limit, and the width of Gaussians."""

from collections.abc import Sequence

import numpy as np
from scipy import fft

from bids_sr.io.arrays import Array

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))
"""Full width at half maximum of a Gaussian over its standard deviation."""


def beyond_nyquist(maps: Array, factor: Sequence[float]) -> Array:
    """Keep only the spatial frequencies at or beyond the acquired Nyquist limit of an axis.

    In plane these are Fourier coefficients, as the head ends within a slice. Across slices they
    are coefficients of the discrete cosine transform (type 2): there the head goes on beyond the
    field of view, and a Fourier transform would take the step from the last slice to the first for
    detail.

    Parameters
    ----------
    maps : Array
        (X, Y, Z[, B]) whole slices on the high-resolution grid; float32 stays float32.
    factor : Sequence[float]
        Acquired over high-resolution voxel by axis; n voxels at factor f were acquired as n/f,
        whose limit is n/(2f) cycles over the field of view. An axis of factor 1 has no limit of
        its own.

    Returns
    -------
    Array
        Detail in the units of the maps, of the same shape: whatever lies at or beyond the limit of
        at least one axis.

    Raises
    ------
    ValueError
        The factor is above 1 along no axis.

    Examples
    --------
    >>> smooth = np.cos(2 * np.pi * np.arange(8) / 8)[:, None, None] * np.ones((8, 8, 1))
    >>> float(np.abs(beyond_nyquist(smooth, (2, 2, 1))).max().round(6))
    0.0
    """
    axes = [axis for axis in (0, 1) if factor[axis] > 1]
    if not axes and factor[2] <= 1:
        raise ValueError(
            f"the super-resolution factor {tuple(factor)} adds no spatial frequencies above "
            "the acquired Nyquist frequency. Use a factor above 1 along at least one axis."
        )
    across = factor[2] > 1
    spectrum = fft.dct(maps, axis=2, norm="ortho") if across else maps
    spectrum = fft.fftn(spectrum, axes=axes) if axes else np.array(spectrum)
    inner = np.ones((1,) * spectrum.ndim, dtype=bool)
    for axis in (*axes, *([2] if across else [])):
        n = spectrum.shape[axis]
        # cycles over the field of view
        cycles = np.abs(fft.fftfreq(n) * n) if axis < 2 else np.arange(n) / 2
        within = cycles < n / (2 * factor[axis]) - 1e-6
        inner = inner & within.reshape([-1 if k == axis else 1 for k in range(spectrum.ndim)])
    spectrum *= ~inner
    detail = fft.ifftn(spectrum, axes=axes).real if axes else spectrum
    return np.ascontiguousarray(fft.idct(detail, axis=2, norm="ortho") if across else detail)
