"""Curves of an image decorrelation analysis, for figures.

The analysis is described in `bids_sr.spatial.effective_resolution`, whose `cutoff` returns only
its result.
"""

import numpy as np

from bids_sr.io.arrays import Float, Real
from bids_sr.io.frozen import frozen
from bids_sr.spatial import effective_resolution


@frozen
class DecorrelationCurves:
    """Decorrelation curves of one slice, as in figure 6C of mouse-sr.

    `radii` are the frequencies of `plain`, `filtered` and `spectrum`; 1 is the Nyquist frequency.
    `plain` is the curve without a filter, and `filtered` are the curves after high-pass filters.
    `fine_radii` are the frequencies of `refined`, the curves of the refined analysis around the
    largest maximum. `spectrum` is the radial mean of log |Fourier transform|, scaled from 0 to 1.
    `maxima` are frequency and height of the maximum of each curve with a maximum, and `cutoff` is
    the largest of these frequencies; None if no curve has a maximum.
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
    analysis = effective_resolution.analyze_decorrelation(image)
    if analysis is None:
        return None
    maxima = [
        (radius, float(np.interp(radius, radii, curve)))
        for radii, curve in analysis.curves
        if (radius := effective_resolution.find_peak(radii, curve)) is not None
    ]
    unrefined = [curve for radii, curve in analysis.curves if radii is analysis.radii]
    refined = [curve for radii, curve in analysis.curves if radii is not analysis.radii]
    return DecorrelationCurves(
        radii=analysis.radii,
        plain=unrefined[0],
        filtered=tuple(unrefined[1:]),
        fine_radii=analysis.curves[-1][0] if refined else analysis.radii,
        refined=tuple(refined),
        spectrum=_average_spectrum(analysis),
        maxima=tuple(maxima),
        cutoff=max((radius for radius, _ in maxima), default=None),
    )


def _average_spectrum(analysis: effective_resolution.DecorrelationAnalysis) -> Float:
    """Average log magnitudes around each radius, and scale the means from 0 to 1."""
    radii = analysis.radii
    nearest = np.argmin(np.abs(analysis.frequencies[:, None] - radii[None, :]), axis=1)
    log_magnitudes = np.log(np.maximum(analysis.magnitudes, np.finfo(float).tiny))
    log_sum = np.bincount(nearest, log_magnitudes, len(radii))
    count = np.bincount(nearest, minlength=len(radii))
    occupied = count > 0
    mean = np.interp(radii, radii[occupied], log_sum[occupied] / count[occupied])
    extent = float(np.ptp(mean))
    return np.asarray((mean - mean.min()) / extent if extent else np.zeros_like(mean))
