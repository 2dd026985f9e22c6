"""Smoothing that gives the acquired series the smoothness of a compared series."""

import numpy as np

from bids_sr.glm.block_effects import Effects
from bids_sr.glm.smoothing import smooth
from bids_sr.io.arrays import MaskArray

_SAME_RATIOS = (1 / 1.5, 1.0, 1.5)
"""Candidate widths of a compared series' smoothed control, relative to its estimated width."""


def control_width(acquired: Effects, inside: MaskArray, fwhm_mm: float) -> float:
    """Return the smoothing (mm) of a compared series' control at the same resolution.

    The smoothness of a series is only known approximately, and no claim should depend on a control
    that is slightly too sharp or too smooth. Among widths around `fwhm_mm` (`_SAME_RATIOS`), the
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
    halves = [
        acquired.betas[..., [b.used and b.half == half for b in acquired.blocks]]
        for half in (0, 1)
    ]
    if not fwhm_mm or not all(half.shape[-1] for half in halves):
        return fwhm_mm
    half_a, half_b = (half.mean(axis=-1) for half in halves)

    def squared_distance(width: float) -> float:
        differences = (
            smooth(half_a, acquired.zooms, width) - half_b,
            smooth(half_b, acquired.zooms, width) - half_a,
        )
        return sum(
            float(np.square(difference[inside], dtype=np.float64).sum())
            for difference in differences
        )

    return min((ratio * fwhm_mm for ratio in _SAME_RATIOS), key=squared_distance)
