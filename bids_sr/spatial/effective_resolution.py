"""Effective resolution of a single image by image decorrelation analysis, without a reference.

Source: Descloux, Grussmayer and Radenovic 2019 (https://doi.org/10.1038/s41592-019-0515-7), cited
and used by mouse-sr; implemented from the description. The Fourier transform I of an image is
correlated with its own phase, I/|I|, inside a growing circle:

    d(r) = sum_{k < r} |I(k)| / sqrt( sum |I|^2 * number of k inside r )

The maximum of d is at the radius where the signal ends. As low frequencies dominate images, the
analysis is repeated after high-pass filters of increasing strength. The cutoff K is the largest
radius with a maximum (1 is the Nyquist frequency). The effective resolution is voxel size / K, as
in mouse-sr (a full period is twice as long). It does not measure accuracy: the steps of
nearest-neighbor interpolation and hallucinated noise with the spectrum of a signal also count as
detail.

The border, the number of radii and filters and their refinement are taken from the authors.
Medians over slices are our choice.
"""

from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Float, MaskArray, Real
from bids_sr.io.frozen import frozen

_N_RADII = 50
_N_FILTERS = 10
_NARROWEST_BLUR = 0.15  # pixels, width of the narrowest blur that is subtracted
_MIN_DECREASE = 5e-4  # smallest decrease of the curve beyond a maximum
_MIN_CORRELATION = 0.05  # smallest correlation at a maximum
_TAPER_WIDTH = 20  # pixels, taper at each edge, at most an eighth of the axis
_REFINED_RANGE = 0.4  # extent of the refined radii above the largest maximum
_MIN_HEAD_FRACTION = 0.1  # of the voxels of a slice; smaller slices are excluded


def effective_resolution(
    image: Real, zooms: Sequence[float], mask: MaskArray | None = None
) -> float | None:
    """Return the in-plane effective resolution of an image (mm).

    This is the voxel size divided by K, the median over slices. The image must not be masked by
    the brain, because the edge of the mask would count as detail.

    Parameters
    ----------
    image : Real
        One slice (X, Y) or several slices (X, Y, Z), with intensities in any unit.
    zooms : Sequence[float]
        Voxel size along each axis (mm).
    mask : MaskArray | None, optional
        Voxels of the head, of the shape of the image. Slices with less than a tenth of their
        voxels in the mask are excluded; None includes all slices.

    Returns
    -------
    float | None
        Resolution in plane (mm); None if no slice has a maximum below the Nyquist frequency.

    Raises
    ------
    ValueError
        Voxel sizes in plane differ by more than 1 percent.
    """
    if abs(zooms[0] - zooms[1]) > 0.01 * zooms[0]:
        raise ValueError(
            f"decorrelation analysis requires isotropic in-plane voxels, got {zooms[0]:g} x "
            f"{zooms[1]:g} mm"
        )
    stack = image[..., None] if image.ndim == 2 else image
    slices = (
        range(stack.shape[2])
        if mask is None
        else np.flatnonzero(np.atleast_3d(mask).mean((0, 1)) >= _MIN_HEAD_FRACTION)
    )
    cutoffs = [slice_cutoff for z in slices if (slice_cutoff := cutoff(stack[..., z])) is not None]
    if not cutoffs:
        return None
    return float(zooms[0]) / float(np.median(cutoffs))


def cutoff(image: Real) -> float | None:
    """Return the cutoff K of one slice (X, Y), from 0 to 1 (the Nyquist frequency).

    The result is None if no curve has a maximum, as in a constant slice or a slice with detail up
    to the limit.
    """
    analysis = analyze_decorrelation(image)
    if analysis is None:
        return None
    peaks = (find_peak(*curve) for curve in analysis.curves)
    return max((peak for peak in peaks if peak is not None), default=None)


@frozen
class DecorrelationAnalysis:
    """Curves of the decorrelation analysis of one slice.

    `frequencies` are the radii of the Fourier coefficients within the Nyquist circle, in ascending
    order, and `magnitudes` their magnitudes. `radii` are the radii of the first curves. `curves`
    are radii and d of each curve: without a filter, filtered, and filtered again on finer radii
    (if a previous curve has a maximum).
    """

    frequencies: Float
    magnitudes: Float
    radii: Float
    curves: tuple[tuple[Float, Float], ...]


def analyze_decorrelation(image: Real) -> DecorrelationAnalysis | None:
    """Compute the decorrelation curves of one slice (X, Y), or None if the slice is constant."""
    # Fourier coefficients within the Nyquist circle, in order of their radius
    magnitudes = np.abs(np.fft.fft2(_apodize(image))).ravel()
    axis_frequencies = (2 * np.fft.fftfreq(n) for n in image.shape)
    radius = np.hypot(*np.meshgrid(*axis_frequencies, indexing="ij")).ravel()
    order = np.argsort(radius)
    order = order[radius[order] <= 1]
    frequencies, magnitudes = radius[order], magnitudes[order]
    if not magnitudes.any():
        return None

    # curve 0 without a filter, and curve k filtered with the k-th width (pixels)
    radii = np.linspace(0, 1, _N_RADII)
    unfiltered = decorrelation(frequencies, magnitudes, radii)
    peak = find_peak(radii, unfiltered)
    widest = 2 / peak if peak else max(image.shape) / 2
    widths = np.array([max(image.shape) / 4, *np.geomspace(widest, _NARROWEST_BLUR, _N_FILTERS)])
    curves = [(radii, unfiltered)]
    curves += [
        (radii, _filter_and_decorrelate(frequencies, magnitudes, radii, width)) for width in widths
    ]

    # the same with finer radii and widths, around the curve with the largest maximum
    maxima = [
        (maximum, number)
        for number, curve in enumerate(curves)
        if (maximum := find_peak(*curve)) is not None
    ]
    if maxima:
        largest_maximum, curve_number = max(maxima)
        fine_radii = np.linspace(
            max(0.0, largest_maximum - (radii[1] - radii[0])),
            min(1.0, largest_maximum + _REFINED_RANGE),
            _N_RADII,
        )
        neighbors = widths[max(curve_number - 2, 0) : curve_number + 1]
        narrowest = max(_NARROWEST_BLUR, neighbors.min() / 2)
        curves += [
            (fine_radii, _filter_and_decorrelate(frequencies, magnitudes, fine_radii, width))
            for width in np.geomspace(neighbors.max(), narrowest, _N_FILTERS)
        ]
    return DecorrelationAnalysis(
        frequencies=frequencies, magnitudes=magnitudes, radii=radii, curves=tuple(curves)
    )


def _apodize(image: Real) -> Float:
    """Subtract the mean of a slice (X, Y), and taper its edges so that they add no detail."""
    tapered = np.asarray(image, dtype=np.float64)
    tapered = tapered - tapered.mean()
    for axis, n in enumerate(tapered.shape):
        width = min(_TAPER_WIDTH, n // 8)
        window = np.ones(n)
        ramp = np.sin(np.pi / 2 * (np.arange(width) + 0.5) / max(width, 1)) ** 2
        window[:width] = ramp
        window[n - width :] = ramp[::-1]
        tapered = tapered * np.expand_dims(window, 1 - axis)
    return tapered


def find_peak(radii: Float, curve: Float) -> float | None:
    """Return the radius of the highest point beyond which a curve decreases.

    The result is None if the curve increases to its end, or if the decrease or the height is too
    small.
    """
    end = len(curve)
    while end > 2:
        top = int(np.argmax(curve[:end]))
        if top < end - 1:
            decrease = curve[top] - curve[top:end].min()
            is_peak = top > 0 and decrease >= _MIN_DECREASE and curve[top] >= _MIN_CORRELATION
            return float(radii[top]) if is_peak else None
        end -= 1
    return None


def _filter_and_decorrelate(
    frequencies: Float, magnitudes: Float, radii: Float, width: float
) -> Float:
    """Return d(r) after a high-pass filter that subtracts a copy blurred by `width` pixels."""
    blur = np.exp(-((np.pi * width * frequencies / 2) ** 2) * 2)
    return decorrelation(frequencies, magnitudes * (1 - blur), radii)


def decorrelation(frequencies: Float, magnitudes: Float, radii: Float) -> Float:
    """Return d(r) for each radius, or 0 if no coefficient is inside the radius.

    `frequencies` are the radii of the Fourier coefficients in ascending order, and `radii` are r.
    """
    count = np.searchsorted(frequencies, radii, side="right")
    magnitude_sum = np.concatenate([[0.0], np.cumsum(magnitudes)])[count]
    return magnitude_sum / np.sqrt(np.maximum(count, 1) * (magnitudes**2).sum())
