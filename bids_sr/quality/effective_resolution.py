"""Effective resolution of a single image, without a reference, by image decorrelation analysis.

Source: Descloux, Grussmayer and Radenovic 2019 (Nature Methods 16:918), cited and used by
mouse-sr; written from the description. The Fourier transform I of an image is correlated with its
own phase, I/|I|, inside a growing circle:

    d(r) = sum_{k < r} |I(k)| / sqrt( sum |I|^2 * number of k inside r )

The maximum of d lies where the signal ends. As low frequencies dominate images, this is repeated
after high-pass filters of growing strength, and the largest radius that is a maximum, K (1 at the
Nyquist limit), is the cut-off. Voxel size / K is told, as mouse-sr prints it (a full period is
twice that). It is no measure of truth: the steps of nearest-neighbor interpolation and invented
noise in the pattern of a signal are detail to it.

The border, the number of radii and filters and their refinement are the authors'; medians over
slices are ours.
"""

from collections.abc import Sequence

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Float, Mask, Real

_RADII = 50
_FILTERS = 10
_STRONGEST = 0.15  # pixels: width of the narrowest blur that is subtracted
_FALL = 5e-4  # a maximum is one if the curve falls by at least this behind it
_LEAST = 0.05  # correlation below which a maximum is none
_BORDER = 20  # pixels that fade out at each edge, at most an eighth of the axis


def effective_resolution(
    image: Real, zooms: Sequence[float], mask: Mask | None = None
) -> float | None:
    """Return the in-plane effective resolution, voxel size / K (mm), K the median over slices.

    It is None where no slice has a maximum below the Nyquist limit.

    The image (X, Y) or (X, Y, Z) must not be cut out along the brain's border, which would count
    as detail; slices of which the mask fills less than a tenth are left out. ValueError where the
    zooms (mm) of the first two axes are not equal.

    Parameters
    ----------
    image : Real
        One slice or several, in any unit of intensity.
    zooms : Sequence[float]
        Voxel size along each axis (mm).
    mask : Mask | None, optional
        Voxels of the head, to choose slices by; None for all slices.

    Returns
    -------
    float | None
        Resolution in plane (mm), or None.

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
    chosen = (
        range(stack.shape[2])
        if mask is None
        else np.flatnonzero(np.atleast_3d(mask).mean((0, 1)) >= 0.1)
    )
    found = [k for k in (cutoff(stack[..., z]) for z in chosen) if k is not None]
    if not found:
        return None
    return float(zooms[0]) / float(np.median(found))


def cutoff(image: Real) -> float | None:
    """Return K of one slice (X, Y), or None where no curve has a maximum.

    That is the case in a constant slice, or one with detail up to the limit.

    `image`: one slice in any unit of intensity (X, Y). Radius from 0 to 1 (the Nyquist limit), or
    None.
    """
    steps = decorrelation_steps(image)
    peaks = [] if steps is None else [peak_radius(*curve) for curve in steps.curves]
    return max((peak for peak in peaks if peak is not None), default=None)


@frozen
class DecorrelationSteps:
    """All curves of the analysis of one slice.

    `at`, `size`: radius (ascending) and magnitude of each Fourier coefficient within the Nyquist
    circle. `radii`: of the first curves. `curves`: radii and d of each curve: without a filter,
    filtered, and filtered once more on finer radii (if a curve before had a maximum).
    """

    at: Float
    size: Float
    radii: Float
    curves: tuple[tuple[Float, Float], ...]


def decorrelation_steps(image: Real) -> DecorrelationSteps | None:
    """Compute all decorrelation curves of one slice (X, Y); None if the slice is constant.

    `image`: one slice in any unit of intensity (X, Y).
    """
    spectrum = np.abs(np.fft.fft2(_apodized(image)))
    radius = np.hypot(*np.meshgrid(*(2 * np.fft.fftfreq(n) for n in image.shape), indexing="ij"))
    order = np.argsort(radius, axis=None)
    order = order[radius.ravel()[order] <= 1]
    at = radius.ravel()[order]
    size = spectrum.ravel()[order]
    if not size.any():
        return None
    radii = np.linspace(0, 1, _RADII)
    curves = [(radii, decorrelation(at, size, radii))]
    plain = peak_radius(*curves[0])
    widest = 2 / plain if plain else max(image.shape) / 2
    widths = np.array([max(image.shape) / 4, *np.geomspace(widest, _STRONGEST, _FILTERS)])
    curves += [(radii, _filtered(at, size, radii, width)) for width in widths]
    peaks = [peak_radius(*curve) for curve in curves]
    kept = [(peak, k) for k, peak in enumerate(peaks) if peak is not None]
    if kept:
        best, which = max(kept)
        # once more, finely: around the radius that was found and the filter that found it
        step = radii[1] - radii[0]
        fine = np.linspace(max(0.0, best - step), min(1.0, best + 0.4), _RADII)
        around = widths[max(which - 2, 0) : which + 1]
        finer = np.geomspace(around.max(), max(_STRONGEST, around.min() / 2), _FILTERS)
        curves += [(fine, _filtered(at, size, fine, width)) for width in finer]
    return DecorrelationSteps(at=at, size=size, radii=radii, curves=tuple(curves))


def _apodized(image: Real) -> Float:
    """Return the demeaned image, tapered by a cosine at its edges so that they add no detail.

    `image`: one slice in any unit of intensity (X, Y). Slice of the same shape that ends near 0.
    """
    out = np.asarray(image, dtype=np.float64)
    out = out - out.mean()
    for axis, n in enumerate(out.shape):
        width = min(_BORDER, n // 8)
        window = np.ones(n)
        ramp = np.sin(np.pi / 2 * (np.arange(width) + 0.5) / max(width, 1)) ** 2
        window[:width] = ramp
        window[n - width :] = ramp[::-1]
        out = out * np.expand_dims(window, 1 - axis)
    return out


def decorrelation(at: Float, size: Float, radii: Float) -> Float:
    """Return d(r) for each radius, 0 where no coefficient lies inside.

    `at` and `size` are radius (ascending) and magnitude of each Fourier coefficient within the
    Nyquist circle.
    """
    count = np.searchsorted(at, radii, side="right")
    total = np.concatenate([[0.0], np.cumsum(size)])[count]
    return total / np.sqrt(np.maximum(count, 1) * (size**2).sum())


def _filtered(at: Float, size: Float, radii: Float, width: float) -> Float:
    """Return d(r) after high-pass filtering by a Gaussian of `width` pixels.

    The blurred copy of the image is subtracted from it.
    """
    blur = np.exp(-((np.pi * width * at / 2) ** 2) * 2)
    return decorrelation(at, size * (1 - blur), radii)


def peak_radius(radii: Float, curve: Float) -> float | None:
    """Return the radius of the highest point behind which the curve falls, or None.

    None if the curve rises to its end.
    """
    end = len(curve)
    while end > 2:
        top = int(np.argmax(curve[:end]))
        if top < end - 1:
            enough = curve[top] - curve[top:end].min() >= _FALL and curve[top] >= _LEAST
            return float(radii[top]) if enough and top > 0 else None
        end -= 1
    return None
