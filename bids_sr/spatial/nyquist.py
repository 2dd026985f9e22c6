"""Detail beyond the acquired Nyquist limit, and the width of Gaussians."""

from collections.abc import Sequence

import numpy as np
from scipy import fft

from bids_sr.io.array_types import Array

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))
"""Full width at half maximum of a Gaussian over its standard deviation."""


def beyond_nyquist(maps: Array, factor: Sequence[float]) -> Array:
    """Keep only in-plane Fourier coefficients at or beyond the acquired Nyquist limit.

    Parameters
    ----------
    maps : Array
        (X, Y, Z[, B]) whole slices on the high-resolution grid; float32 stays float32.
    factor : Sequence[float]
        Acquired over high-resolution voxel by axis; n voxels at factor f were acquired as n/f,
        whose limit is n/(2f) cycles over the field of view. An axis of factor 1 has no limit of
        its own; ValueError where all are. Where the factor is above 1 across slices only, the band
        is the one beyond their limit.

    Returns
    -------
    Array
        Detail in the units of the maps, of the same shape.

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
    axes = [axis for axis in (0, 1) if factor[axis] > 1] or [
        axis for axis in (2,) if factor[axis] > 1
    ]
    if not axes:
        raise ValueError(f"a factor of {tuple(factor)} leaves nothing beyond the acquired limit")
    spectrum = fft.fftn(maps, axes=axes)
    inner = np.ones((1,) * spectrum.ndim, dtype=bool)
    for axis in axes:
        n = spectrum.shape[axis]
        within = np.abs(fft.fftfreq(n) * n) < n / (2 * factor[axis]) - 1e-6
        inner = inner & within.reshape([-1 if k == axis else 1 for k in range(spectrum.ndim)])
    spectrum *= ~inner
    return np.ascontiguousarray(fft.ifftn(spectrum, axes=axes).real)
