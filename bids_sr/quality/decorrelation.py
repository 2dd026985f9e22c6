"""Curves of an image decorrelation analysis, for figures.

The analysis is described in `bids_sr.quality.effective_resolution`, whose `cutoff` returns only
its result.
"""

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Float, Real
from bids_sr.quality import effective_resolution


@frozen
class DecorrelationCurves:
    """Decorrelation curves of one slice, as in figure 6C of mouse-sr.

    Attributes
    ----------
    radii : Float
        Frequencies of `plain`, `filtered` and `spectrum`; 1 is the Nyquist frequency.
    plain : Float
        Curve without a filter.
    filtered : tuple[Float, ...]
        Curves after high-pass filters.
    fine_radii : Float
        Frequencies of `refined`.
    refined : tuple[Float, ...]
        Curves of the refined analysis around the largest maximum.
    spectrum : Float
        Radial mean of log |Fourier transform|, scaled from 0 to 1.
    maxima : tuple[tuple[float, float], ...]
        Frequency and height of the maximum of each curve with a maximum.
    cutoff : float | None
        Largest of these frequencies; None if no curve has a maximum.
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
    """Return the decorrelation curves of one slice (X, Y), or None if the slice is constant."""
    steps = effective_resolution.decorrelation_steps(image)
    if steps is None:
        return None
    maxima = [
        (radius, float(np.interp(radius, radii, curve)))
        for radii, curve in steps.curves
        if (radius := effective_resolution.peak_radius(radii, curve)) is not None
    ]
    unrefined = [curve for radii, curve in steps.curves if radii is steps.radii]
    refined = [curve for radii, curve in steps.curves if radii is not steps.radii]
    return DecorrelationCurves(
        radii=steps.radii,
        plain=unrefined[0],
        filtered=tuple(unrefined[1:]),
        fine_radii=steps.curves[-1][0] if refined else steps.radii,
        refined=tuple(refined),
        spectrum=_radial_spectrum(steps.radius, steps.magnitude, steps.radii),
        maxima=tuple(maxima),
        cutoff=max((radius for radius, _ in maxima), default=None),
    )


def _radial_spectrum(radius: Float, size: Float, radii: Float) -> Float:
    """Average log magnitudes around each radius, and scale the means from 0 to 1."""
    bins = np.argmin(np.abs(radius[:, None] - radii[None, :]), axis=1)
    logs = np.log(np.maximum(size, np.finfo(float).tiny))
    total = np.bincount(bins, logs, len(radii))
    count = np.bincount(bins, minlength=len(radii))
    occupied = count > 0
    mean = np.interp(radii, radii[occupied], total[occupied] / count[occupied])
    spread = float(np.ptp(mean))
    return np.asarray((mean - mean.min()) / spread if spread else np.zeros_like(mean))
