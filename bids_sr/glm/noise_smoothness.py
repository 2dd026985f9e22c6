"""Smoothness of the noise of a series.

The noise of an unsmoothed series has nearly the same spectral density at all spatial frequencies.
Smoothing removes the highest frequencies. The noise is taken from differences between successive
volumes, which contain little signal and no trend.
"""

import math

import numpy as np

from bids_sr.io.arrays import Array, MaskArray
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA, beyond_nyquist

# number of pairs of successive volumes, evenly spaced over the run, that are examined
_N_PAIRS = 8
# downsampling factors whose Nyquist frequencies limit the lower of the two compared bands
_OUTER, _MIDDLE = (2.0, 2.0, 1.0), (4 / 3, 4 / 3, 1.0)
_MAX_FWHM = 4.0  # voxels, above which the density at high frequencies is rounding error
_FREQUENCY_TOLERANCE = 1e-6  # cycles per voxel, rounding of the Nyquist frequency


def measure_smoothness(series: SeriesReader, mask: MaskArray, n_dummy: int) -> float:
    """Return the in-plane smoothness of the noise of a series.

    The noise between .5 and .75 of the Nyquist frequency is compared with the noise above.

    The series is (X, Y, Z, T), and the brain `mask` (X, Y, Z). `n_dummy` is the number of volumes
    before the steady state. Returns the FWHM in voxels of a Gaussian that gives white noise the
    same ratio of densities; 0 if the density does not fall, 4 at most, NaN for a series without
    noise.
    """
    energies = np.zeros(2)
    for change in compute_changes(series, n_dummy):
        above_outer, above_middle = (
            beyond_nyquist(change, factor)[mask].astype(np.float64) for factor in (_OUTER, _MIDDLE)
        )
        energies += [np.square(above_outer - above_middle).sum(), np.square(above_middle).sum()]
    if not energies[0] > 0:
        return math.nan
    return _find_fwhm(float(energies[1] / energies[0]), mask.shape[:2])


def compute_changes(series: SeriesReader, n_dummy: int) -> list[Array]:
    """Return differences between successive volumes of a series, (X, Y, Z) each.

    There are at most `_N_PAIRS` differences, evenly spaced over the volumes after the dummies, in
    signal units.
    """
    starts = np.unique(np.linspace(n_dummy, series.shape[3] - 2, _N_PAIRS).round().astype(int))
    return [
        np.asarray(series.volume(start + 1) - series.volume(start), dtype=np.float32)
        for start in starts.tolist()
    ]


def _find_fwhm(energy_ratio: float, shape: tuple[int, ...]) -> float:
    """Return the FWHM (voxels) of a Gaussian that gives white noise a ratio of energies.

    `shape` is the shape of a slice (X, Y).
    """
    # scipy.optimize is slow to import, and few steps need it
    from scipy.optimize import brentq

    frequencies = [np.abs(np.fft.fftfreq(size)) for size in shape]  # cycles per voxel
    x, y = np.meshgrid(*frequencies, indexing="ij")
    above_outer, above_middle = (
        np.maximum(x, y) > 0.5 / factor[0] - _FREQUENCY_TOLERANCE for factor in (_OUTER, _MIDDLE)
    )

    def excess(fwhm: float) -> float:
        density = np.exp(-4 * math.pi**2 * (fwhm / FWHM_PER_SIGMA) ** 2 * (x**2 + y**2))
        upper, lower = density[above_middle].sum(), density[above_outer & ~above_middle].sum()
        return float(upper / lower) - energy_ratio

    if excess(0.0) <= 0:
        return 0.0
    if excess(_MAX_FWHM) >= 0:
        return _MAX_FWHM
    return float(brentq(excess, 0, _MAX_FWHM, xtol=1e-4))
