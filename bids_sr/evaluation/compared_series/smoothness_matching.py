"""Spatial smoothing that gives the acquired series the smoothness of another series.

The smoothed series is the control at the same resolution. Smoothness is estimated from differences
between successive volumes: it is the correlation of brain voxels one acquired voxel apart in
plane, as in common estimates of the full width at half maximum. The differences of the acquired
series are smoothed until their smoothness equals the smoothness of the other series. A denoiser
that removes noise that neighboring voxels do not share makes the remaining signal smoother, as
smoothing does; its control is then smoothed accordingly.
"""

import math
from collections.abc import Sequence

import numpy as np

from bids_sr.glm.block_effects import Effects
from bids_sr.io.arrays import Array, MaskArray
from bids_sr.spatial.smoothing import smooth

# candidate widths of a compared series' smoothed control, relative to its estimated width
_WIDTH_RATIOS = (1 / 1.5, 1.0, 1.5)
_MAX_FWHM_MM = 20.0  # widest smoothing
_TOLERANCE_MM = 0.02  # of the estimated width
_SMOOTHNESS_TOLERANCE = 1e-3  # difference of correlations that counts as equal smoothness


def select_control_width(acquired: Effects, inside: MaskArray, fwhm_mm: float) -> float:
    """Return the smoothing (mm) of a compared series' control at the same resolution.

    The smoothness of a series is only known approximately, and no claim should depend on a control
    that is slightly too sharp or too smooth. Among widths around `fwhm_mm` (`_WIDTH_RATIOS`), the
    function chooses the width at which the smoothed effect of one half of the blocks is closest to
    the unsmoothed effect of the other half, summed over both directions. The reference is not
    used.

    Parameters
    ----------
    acquired : Effects
        Block effects of the acquired series.
    inside : MaskArray
        Voxels of the compared series' evaluation (X, Y, Z).
    fwhm_mm : float
        Smoothing that gives the acquired series the smoothness of the compared series.

    Returns
    -------
    float
        Width of the Gaussian (FWHM, mm).
    """
    half_betas = [
        acquired.betas[..., [block.used and block.half == half for block in acquired.blocks]]
        for half in (0, 1)
    ]
    if not fwhm_mm or not all(betas.shape[-1] for betas in half_betas):
        return fwhm_mm
    first, second = (betas.mean(axis=-1) for betas in half_betas)

    def squared_distance(width_mm: float) -> float:
        differences = (
            smooth(first, acquired.zooms, width_mm) - second,
            smooth(second, acquired.zooms, width_mm) - first,
        )
        return sum(
            float(np.square(difference[inside], dtype=np.float64).sum())
            for difference in differences
        )

    return min((ratio * fwhm_mm for ratio in _WIDTH_RATIOS), key=squared_distance)


def match_smoothness(
    acquired: Sequence[Array],
    other: Sequence[Array],
    mask: MaskArray,
    zooms: Sequence[float],
    factor: Sequence[float],
) -> float:
    """Return the FWHM (mm) that gives the acquired series the smoothness of the other series.

    Parameters
    ----------
    acquired, other : Sequence[Array]
        Differences of both series on the high-resolution grid, see `compute_changes`.
    mask, zooms : MaskArray
        Brain mask (X, Y, Z) and voxel sizes (mm) of the high-resolution grid.
    factor : Sequence[float]
        Acquired over high-resolution voxel size by axis.

    Returns
    -------
    float
        Width of the Gaussian (FWHM, mm), 20 at most; 0 if the other series is not smoother; NaN if
        its smoothness cannot be estimated.
    """
    step = [max(1, round(ratio)) for ratio in factor[:2]]
    target_smoothness = _measure_smoothness(other, mask, step)

    def smoothness_gap(fwhm_mm: float) -> float:
        smoothed = [smooth(change, zooms, fwhm_mm) for change in acquired]
        return _measure_smoothness(smoothed, mask, step) - target_smoothness

    if not math.isfinite(target_smoothness):
        return math.nan
    if not smoothness_gap(0.0) < -_SMOOTHNESS_TOLERANCE:
        return 0.0
    if smoothness_gap(_MAX_FWHM_MM) < 0:
        return _MAX_FWHM_MM
    # scipy.optimize is slow to import, and few runs have a compared series
    from scipy import optimize

    return float(optimize.brentq(smoothness_gap, 0.0, _MAX_FWHM_MM, xtol=_TOLERANCE_MM))


def _measure_smoothness(changes: Sequence[Array], mask: MaskArray, step: Sequence[int]) -> float:
    """Return the correlation of mask voxels `step` voxels apart, averaged over the x and y axes.

    `changes` are differences between successive volumes (X, Y, Z), `mask` are the voxels to
    correlate (X, Y, Z), and `step` is the distance in voxels along x and y. The correlation is NaN
    if it is undefined along an axis.
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
