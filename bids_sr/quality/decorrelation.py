"""Curves of an image decorrelation analysis, for drawing.

`bids_sr.quality.effective_resolution.cutoff` describes the analysis and returns its result alone.
"""

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Float, Real
from bids_sr.quality import effective_resolution


@frozen
class DecorrelationCurves:
    """Curves of one slice, as figure 6C of mouse-sr shows them.

    `radii`: frequencies of `plain` (without a filter), `filtered` and `spectrum`; 1 is the Nyquist
    limit. `fine_radii`: frequencies of `refined`. `spectrum`: radial mean of log |Fourier
    transform|, scaled from 0 to 1. `maxima`: frequency and height of the maximum of each curve
    that has one. `cutoff`: the largest of these frequencies; None without a maximum.
    """

    radii: Float
    plain: Float
    filtered: tuple[Float, ...]
    fine_radii: Float
    refined: tuple[Float, ...]
    spectrum: Float
    maxima: tuple[tuple[float, float], ...]
    cutoff: float | None


def decorrelation_curves(image: Real) -> DecorrelationCurves | None:
    """Return the curves of one slice (X, Y) in any unit of intensity; None if it is constant."""
    steps = effective_resolution.decorrelation_steps(image)
    if steps is None:
        return None
    found = [
        (radius, float(np.interp(radius, radii, curve)))
        for radii, curve in steps.curves
        if (radius := effective_resolution.peak_radius(radii, curve)) is not None
    ]
    coarse = [curve for radii, curve in steps.curves if radii is steps.radii]
    refined = [curve for radii, curve in steps.curves if radii is not steps.radii]
    return DecorrelationCurves(
        radii=steps.radii,
        plain=coarse[0],
        filtered=tuple(coarse[1:]),
        fine_radii=steps.curves[-1][0] if refined else steps.radii,
        refined=tuple(refined),
        spectrum=_radial_spectrum(steps.at, steps.size, steps.radii),
        maxima=tuple(found),
        cutoff=max((radius for radius, _ in found), default=None),
    )


def _radial_spectrum(at: Float, size: Float, radii: Float) -> Float:
    """Return the mean of log magnitude around each radius, scaled from 0 to 1."""
    which = np.argmin(np.abs(at[:, None] - radii[None, :]), axis=1)
    logs = np.log(np.maximum(size, np.finfo(float).tiny))
    total = np.bincount(which, logs, len(radii))
    count = np.bincount(which, minlength=len(radii))
    known = count > 0
    mean = np.interp(radii, radii[known], total[known] / count[known])
    spread = float(np.ptp(mean))
    return np.asarray((mean - mean.min()) / spread if spread else np.zeros_like(mean))
