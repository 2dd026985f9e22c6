"""Smoothing that gives the acquired series the smoothness of another one, as a control.

Smoothness is that of what changes from a volume to the next: the correlation of voxels of the
brain that lie one acquired voxel apart in plane, as estimates of the full width at half maximum
take it. Changes of the acquired series are smoothed until they have that of the other one. A
denoiser that takes away noise that neighbors do not share raises the smoothness of what is left,
as smoothing does; its control is smoothed by as much.
"""

import math
from collections.abc import Sequence

import numpy as np

from bids_sr.glm.smoothing import smooth
from bids_sr.io.arrays import Array, Mask
from bids_sr.io.nifti import SeriesReader

_WIDEST_MM = 20.0
_PAIRS = 8
"""Moments of a run, evenly spaced, at each of which two volumes that follow one another are looked
at.
"""
_EXACT_MM, _ALIKE = 0.02, 1e-3


def changes_of(series: SeriesReader, n_dummy: int) -> list[Array]:
    """Return changes from a volume to the next at `_PAIRS` moments of a series, (X, Y, Z) each.

    At most eight images of change (signal units).
    """
    starts = np.unique(np.linspace(n_dummy, series.shape[3] - 2, _PAIRS).round().astype(int))
    return [
        np.asarray(series.volume(int(t) + 1) - series.volume(int(t)), dtype=np.float32)
        for t in starts
    ]


def _smoothness(changes: Sequence[Array], mask: Mask, step: Sequence[int]) -> float:
    """Return the mean correlation of mask voxels `step` voxels apart, along x and along y.

    It is the mean of both axes, from -1 to 1; NaN where it is not defined.

    `changes`: changes from a volume to the next (3D each).
    """
    widths = []
    for axis in (0, 1):
        n = mask.shape[axis]
        here, there = (
            tuple(part if k == axis else slice(None) for k in range(3))
            for part in (slice(0, n - step[axis]), slice(step[axis], n))
        )
        both = mask[here] & mask[there]
        products, first, other = 0.0, 0.0, 0.0
        for change in changes:
            a = change[here][both]
            b = change[there][both]
            products += float(a @ b)
            first += float(a @ a)
            other += float(b @ b)
        widths.append(products / math.sqrt(first * other) if first * other > 0 else math.nan)
    return sum(widths) / len(widths)


def same_resolution(
    acquired: Sequence[Array],
    other: Sequence[Array],
    mask: Mask,
    zooms: Sequence[float],
    factor: Sequence[float],
) -> float:
    """Gaussian (FWHM, mm) that gives the acquired series the smoothness of the other.

    0 where that is no smoother; NaN where its smoothness cannot be told.

    Parameters
    ----------
    acquired, other : Sequence[Array]
        Changes of both series on the high-resolution grid, see `changes_of`.
    mask, zooms : Mask
        (X, Y, Z) brain, and voxel sizes (mm) of that grid.
    factor : Sequence[float]
        Acquired over high-resolution voxel by axis.

    Returns
    -------
    float
        Width of the Gaussian (FWHM, mm), 20 at most.
    """
    step = [max(1, round(each)) for each in factor[:2]]
    target_width = _smoothness(other, mask, step)

    def lacking(fwhm_mm: float) -> float:
        return (
            _smoothness([smooth(each, zooms, fwhm_mm) for each in acquired], mask, step)
            - target_width
        )

    if not math.isfinite(target_width):
        return math.nan
    if not lacking(0.0) < -_ALIKE:
        return 0.0
    from scipy import optimize  # long to import, and few runs have a compared series

    return (
        _WIDEST_MM
        if lacking(_WIDEST_MM) < 0
        else float(optimize.brentq(lacking, 0.0, _WIDEST_MM, xtol=_EXACT_MM))
    )
