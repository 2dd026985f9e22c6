"""Correlation of neighboring voxels in the noise of a series, as a measure of its smoothness.

The correlation is computed from differences between successive volumes, which contain little
signal and no trend, at a few times of the run.
"""

import math
from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Array, MaskArray
from bids_sr.io.nifti import SeriesReader
from bids_sr.quality.series_quality import smoothness

_N_PAIRS = 8
"""Number of pairs of successive volumes, evenly spaced over the run, that are examined."""


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


def correlate_neighbors(changes: Sequence[Array], mask: MaskArray, step: Sequence[int]) -> float:
    """Return the correlation of mask voxels `step` voxels apart, averaged over the x and y axes.

    Parameters
    ----------
    changes : Sequence[ndarray]
        Differences between successive volumes (X, Y, Z).
    mask : ndarray
        Voxels to correlate (X, Y, Z).
    step : Sequence[int]
        Distance in voxels along x and y.

    Returns
    -------
    float
        Mean correlation, from -1 to 1; NaN if it is undefined along an axis.
    """
    correlations = []
    for axis in (0, 1):
        n = mask.shape[axis]
        lower: list[slice] = [slice(None)] * 3
        upper: list[slice] = [slice(None)] * 3
        lower[axis], upper[axis] = slice(0, n - step[axis]), slice(step[axis], n)
        in_both = mask[*lower] & mask[*upper]
        covariance, lower_variance, upper_variance = 0.0, 0.0, 0.0
        for change in changes:
            lower_values = change[*lower][in_both]
            upper_values = change[*upper][in_both]
            covariance += float(lower_values @ upper_values)
            lower_variance += float(lower_values @ lower_values)
            upper_variance += float(upper_values @ upper_values)
        energy = lower_variance * upper_variance
        correlations.append(covariance / math.sqrt(energy) if energy > 0 else math.nan)
    return sum(correlations) / len(correlations)


def measure_smoothness(series: SeriesReader, mask: MaskArray, n_dummy: int) -> float:
    """Return the in-plane smoothness of the noise of a series (FWHM in voxels).

    NaN is returned if neighboring voxels do not correlate. Changes of the mean over the mask are
    removed. `n_dummy` is the number of volumes before the steady state.
    """
    changes = [change - change[mask].mean() for change in compute_changes(series, n_dummy)]
    correlation = correlate_neighbors(changes, mask, (1, 1))
    (fwhm,) = smoothness([correlation], [1.0])
    return math.nan if fwhm is None else fwhm
