"""Metrics of super-resolved structural scans against measured ones.

They cover similarity, quality, tissues and lesions.

Source: attention-unet, section 3.8, equations 6 to 8, in the form that MRIQC (Esteban et al. 2017)
gives them. All images of a contrast lie on one grid and in one unit, scaled to [0, 1].

Effective resolution of a single image, without a reference, by image decorrelation analysis.

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

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from scipy import ndimage

from bids_sr import metrics
from bids_sr.frozen import frozen
from bids_sr.io.grids import Float, Mask, Real
from bids_sr.metrics import BRAIN, SCAN, MetricRow, metric_rows
from bids_sr.quality import printed_metrics
from bids_sr.quality.series_quality import smoothness

_DATA_RANGE = 1.0
_RATIOS: Mapping[str, Callable[[Float], float]] = {
    "ratio_mean": lambda values: float(values.mean()),
    "ratio_sd": lambda values: float(values.std()),
    "ratio_p05": lambda values: float(np.percentile(values, 5)),
    "ratio_p95": lambda values: float(np.percentile(values, 95)),
}
_PAIRS = (("gm", "wm"), ("csf", "gm"), ("csf", "wm"))
_LESION_SD = 1.3  # standard deviations above the brain's mean
_LESION_SMOOTHING_MM = 2.0  # FWHM
_LESION_SHARE = 0.1  # smoothed value below which a voxel is removed
_LESION_Z = 0.95  # z score below which a voxel is removed
FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))
"""Full width at half maximum of a Gaussian of standard deviation 1."""
_TOP_PERCENTILE = 99.95  # MRIQC's; attention-unet prints 95 %, as MRIQC's manual does


def _summary_ratios(image: Real, masks: Mapping[str, Mask]) -> dict[str, dict[str, float]]:
    """Return ratios of summary statistics between gm, wm and csf, by pair (gm/wm) and statistic.

    The statistics are the mean, the SD (population), and the 5 % and 95 % percentiles.

    Ratios over 0 are left out; ValueError for a tissue without a voxel or on another grid.

    `image`: image in any unit of intensity (3D). `masks`: voxels of ``gm``, ``wm`` and ``csf``
    (3D, boolean) by name.
    """
    values = {name: _inside(image, mask, name) for name, mask in masks.items()}
    return {
        f"{one}/{other}": {
            name: of(values[one]) / of(values[other])
            for name, of in _RATIOS.items()
            if of(values[other]) != 0
        }
        for one, other in _PAIRS
    }


def cjv(image: Real, gm: Mask, wm: Mask) -> float:
    """Return the coefficient of joint variation, (sd WM + sd GM) / |mean WM - mean GM|.

    Lower is better; it is infinite for equal means.

    Source: attention-unet, equation 6 (Ganzetti et al. 2016), with the absolute value that MRIQC
    takes.

    `image`: image in any unit of intensity (3D). `gm`: voxels of gray matter (3D, boolean). `wm`:
    voxels of white matter (3D, boolean). Ratio without a unit, 0 at best.
    """
    gray, white = _inside(image, gm, "gm"), _inside(image, wm, "wm")
    apart = float(white.mean()) - float(gray.mean())
    return (float(white.std()) + float(gray.std())) / abs(apart) if apart else math.inf


def efc(image: Real, mask: Mask | None = None) -> float:
    """Return the entropy focus criterion: entropy of the magnitudes over its largest value.

    It is 0 for one bright voxel and 1 for a constant image. Lower is better (less ghosting and
    blurring).

    Source: attention-unet, equation 7, with the sign and normalization of MRIQC (Atkinson et al.
    1997).

    `image`: image in any unit of intensity (3D). `mask`: voxels that count (3D, boolean); None for
    all.
    """
    x = np.abs(np.asarray(image if mask is None else image[mask], dtype=np.float64)).ravel()
    if x.size < 2 or not x.any():
        raise ValueError(
            "the entropy focus criterion requires an image with at least two voxels that are "
            "not all zero"
        )
    part = x / np.linalg.norm(x)
    entropy = -(part * np.log(np.where(part > 0, part, 1.0))).sum()
    return float(entropy / (np.sqrt(x.size) * np.log(np.sqrt(x.size))))


def fwhm(
    image: Real, zooms: Sequence[float], mask: Mask | None = None
) -> tuple[float | None, ...]:
    """Return the smoothness (FWHM in mm) of an image (X, Y, Z) along each axis.

    It is measured from pairs of neighbors inside the mask.

    None for an axis whose neighbors do not correlate; ValueError for a constant image.

    FWHM = d sqrt(-2 ln 2 / ln(1 - var(x_i+1 - x_i) / 2 var(x))), Forman et al. 1995, the estimator
    of AFNI's 3dFWHMx that MRIQC runs. Equation 8 of attention-unet names half the maximum only. An
    anatomical image is no noise: the metric compares images of one head on one grid.

    `image`: image in any unit of intensity (3D). Widths along the three axes (mm), or None.
    `mask`: voxels that count (3D, boolean); None for all.
    """
    x = np.asarray(image, dtype=np.float64)
    inside = np.ones(x.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    variance = float(x[inside].var())
    if variance == 0:
        raise ValueError("smoothness cannot be estimated for a constant image")
    correlations = []
    for axis in range(3):
        first, second = (np.take(x, range(k, x.shape[axis] - 1 + k), axis) for k in (0, 1))
        pairs = np.take(inside, range(x.shape[axis] - 1), axis) & np.take(
            inside, range(1, x.shape[axis]), axis
        )
        change = (second - first)[pairs]
        correlations.append(1 - float(change.var()) / (2 * variance) if change.size else 0.0)
    return smoothness(correlations, [float(z) for z in zooms[:3]])


def wm2max(image: Real, wm: Mask) -> float:
    """Return the white-matter median over the 99.95 % percentile of the image.

    It is .6 to .8 in a T1w image of a whole head.

    `image`: image in any unit of intensity (3D). `wm`: voxels of white matter (3D, boolean). Ratio
    without a unit.
    """
    top = float(np.percentile(np.asarray(image, dtype=np.float64), _TOP_PERCENTILE))
    if top == 0:
        raise ValueError(
            "the white-matter-to-maximum intensity ratio cannot be computed, because "
            f"{_TOP_PERCENTILE:g} % of the voxels have an intensity of 0 or less"
        )
    return float(np.median(_inside(image, wm, "wm")) / top)


def white_matter_hyperintensities(
    flair: Real, brain: Mask, zooms: Sequence[float], likely: Mask | None = None
) -> Mask:
    """Return white-matter hyperintensities of a bias-corrected FLAIR (X, Y, Z).

    Voxels above the brain's mean + 1.3 SD, where lesions are likely, are smoothed by a Gaussian;
    voxels of a smoothed value below 0.1 and of a z score below .95 are removed.

    Source: attention-unet, section 3.8.3. The paper prints no width of the Gaussian; it is
    `_LESION_SMOOTHING_MM` here. Its template of where lesions occur is not public: without
    `likely`, the mask also contains bright gray matter, so that it compares images of one head and
    is not a lesion load.

    Parameters
    ----------
    flair : Real
        Image in any unit of intensity.
    brain : Mask
        Voxels of the brain on the same grid.
    zooms : Sequence[float]
        Voxel size along each axis (mm).
    likely : Mask | None, optional
        Voxels in which lesions occur; None: everywhere in the brain.

    Raises
    ------
    ValueError
        The brain mask is empty.
    """
    inside = np.asarray(brain, dtype=bool)
    values = np.asarray(flair, dtype=np.float64)
    if not inside.any():
        raise ValueError("the brain mask is empty")
    spread = values[inside].std()
    if not spread > 0:
        return np.zeros(inside.shape, dtype=bool)
    z = (values - values[inside].mean()) / spread
    seeds = inside & (z > _LESION_SD)
    if likely is not None:
        seeds &= np.asarray(likely, dtype=bool)
    sigma = [_LESION_SMOOTHING_MM / FWHM_PER_SIGMA / float(mm) for mm in zooms[:3]]
    smooth = ndimage.gaussian_filter(seeds.astype(np.float64), sigma)
    kept = inside & (smooth >= _LESION_SHARE) & (z >= _LESION_Z)
    return np.asarray(kept, dtype=bool)


def overlap(reference: Mask, voxels: Mask, within: Mask | None = None) -> dict[str, float | None]:
    """Return Dice, Jaccard, true positive and negative fractions, positive predictive value.

    Nothing over nothing (0/0) is None.

    True negatives are counted `within` the brain, not the whole field of view. Source:
    attention-unet, section 3.8.3. ValueError for masks on different grids.

    >>> overlap(np.array([True, True, False]), np.array([True, False, False]))["tpf"]
    0.5
    """
    if reference.shape != voxels.shape or (within is not None and within.shape != voxels.shape):
        raise ValueError(
            f"the masks have different shapes, {reference.shape} and {voxels.shape}, and "
            "cannot be compared"
        )
    keep = slice(None) if within is None else np.asarray(within, dtype=bool)
    a, b = (np.asarray(mask, dtype=bool)[keep] for mask in (reference, voxels))
    hit, wrong, missed, left = (int(part.sum()) for part in (a & b, ~a & b, a & ~b, ~a & ~b))
    ratios = {
        "dice": (2 * hit, 2 * hit + wrong + missed),
        "jaccard": (hit, hit + wrong + missed),
        "tpf": (hit, hit + missed),
        "tnf": (left, left + wrong),
        "ppv": (hit, hit + wrong),
    }
    return {name: part / whole if whole else None for name, (part, whole) in ratios.items()}


def _tissue_volumes(
    tissues: Mapping[str, Mask | Real], zooms: Sequence[float]
) -> dict[str, float]:
    """Return the volume (ml) of each tissue, given as a mask or a probability map.

    Each voxel counts by its probability.

    `tissues`: mask, or probability from 0 to 1, of each tissue by name.
    """
    voxel = float(np.prod([float(z) for z in zooms[:3]])) / 1000
    return {
        name: float(np.asarray(part, dtype=np.float64).sum()) * voxel
        for name, part in tissues.items()
    }


def _inside(image: Real, mask: Mask, name: str) -> Float:
    if mask.shape != image.shape:
        raise ValueError(
            f"the {name} mask has shape {mask.shape}, but the image has shape {image.shape}"
        )
    values = np.asarray(image, dtype=np.float64)[np.asarray(mask, dtype=bool)]
    if not values.size:
        raise ValueError(f"the {name} mask is empty")
    return values


def likeness(
    contrast: str, series: Mapping[str, Real], measured: Real, mask: Mask, slices: Sequence[int]
) -> Iterator[MetricRow]:
    """Return MAE, RMSE, NMSE, PSNR and SSIM of each series (X, Y, Z), in some slices.

    They are given in the brain, and over all voxels of these slices (region `SCAN`), as
    attention-unet averages them over the entire scan, whose background was removed. The background
    raises PSNR and SSIM: compare values of one region and one field of view only.

    The data range is 1. NMSE is given as usual and as attention-unet prints it (``nmse_voxel``).

    Parameters
    ----------
    contrast : str
        BIDS suffix of the scans.
    series : Mapping[str, Real]
        Scans of one contrast (3D, 0 to 1) by series.
    measured : Real
        High-resolution scan as measured (3D, 0 to 1).
    mask : Mask
        Voxels of the brain on the grid of the scans (3D, boolean).
    slices : Sequence[int]
        Numbers of the slices, counted from 0.

    Yields
    ------
    MetricRow
        Rows of each series and region; none if the slices contain no brain.
    """
    with_brain = [z for z in slices if mask[..., z].any()]
    if not with_brain:
        return
    for region, chosen in ((BRAIN, with_brain), (SCAN, list(slices))):
        truth = measured[..., chosen]
        inside = mask[..., chosen] if region == BRAIN else None
        for name, image in series.items():
            seen = image[..., chosen]
            values: dict[str, float | None] = {}
            for each in ("mae", "rmse", "nmse", "psnr", "ssim"):
                scale = {"data_range": _DATA_RANGE} if each in ("psnr", "ssim") else {}
                values[each] = getattr(metrics, each)(truth, seen, mask=inside, **scale)
            values["nmse_voxel"] = printed_metrics.nmse_voxel(truth, seen, mask=inside)
            yield from metric_rows(
                name, values, contrast=contrast, reference="heldOut", region=region
            )


def quality(
    contrast: str,
    series: Mapping[str, Real],
    mask: Mask,
    tissues: Mapping[str, Mask],
    zooms: Sequence[float],
) -> Iterator[MetricRow]:
    """CJV, EFC, FWHM, WM2max and ratios between tissues of each series, over the whole brain.

    `tissues` (gm, wm and csf, may be empty) were found in the measured scans for all series alike
    (section 3.8.1).

    Parameters
    ----------
    contrast : str
        BIDS suffix of the scans.
    series : Mapping[str, Real]
        Scans of one contrast (3D, 0 to 1) by series.
    mask : Mask
        Voxels of the brain on the grid of the scans (3D, boolean).
    tissues : Mapping[str, Mask]
        Voxels of each tissue (3D, boolean) by name; empty for none.
    zooms : Sequence[float]
        Voxel size along each axis (mm).

    Yields
    ------
    MetricRow
        Rows of each series; without all tissues only EFC and FWHM. Both, CJV and WM2max are given
        as MRIQC computes them and as attention-unet prints them.
    """
    whole = bool(tissues) and all(part.any() for part in tissues.values())
    for name, image in series.items():
        widths = [width for width in fwhm(image, zooms, mask) if width is not None]
        values: dict[str, float | None] = {
            "efc": efc(image, mask),
            "fwhm": float(np.mean(widths)) if widths else None,
            "efc_sum": printed_metrics.efc_sum(image, mask),
            "half_maximum": printed_metrics.half_maximum(image, mask),
        }
        if whole:
            values["cjv"] = cjv(image, tissues["gm"], tissues["wm"])
            values["cjv_signed"] = printed_metrics.cjv_signed(image, tissues["gm"], tissues["wm"])
            in_brain = np.where(mask, image, 0)
            values["wm2max"] = wm2max(in_brain, tissues["wm"])
            values["wm2max_p95"] = printed_metrics.wm2max_p95(in_brain, tissues["wm"])
            for pair, ratios in _summary_ratios(image, tissues).items():
                yield from metric_rows(name, ratios, contrast=contrast, region=pair)
        yield from metric_rows(name, values, contrast=contrast, region="brain")


def segmentations(
    contrast: str, masks: Mapping[str, Mapping[str, Mask]], mask: Mask, zooms: Sequence[float]
) -> Iterator[MetricRow]:
    """Return the volume (ml) of each class of each series, and its overlap with ``measured``.

    The overlap with the series ``measured`` is taken in the brain.

    Parameters
    ----------
    contrast : str
        BIDS suffix of the scans.
    masks : Mapping[str, Mapping[str, Mask]]
        Voxels of each class (3D, boolean) by name, for each series.
    mask : Mask
        Voxels of the brain on the grid of the scans (3D, boolean).
    zooms : Sequence[float]
        Voxel size along each axis (mm).

    Yields
    ------
    MetricRow
        Rows of each series and class.
    """
    for name, classes in masks.items():
        for label, volume in _tissue_volumes(classes, zooms).items():
            yield from metric_rows(
                name, {"tissue_volume": volume}, contrast=contrast, region=label
            )
            if name != "measured":
                shared = overlap(masks["measured"][label], classes[label], mask)
                shared = {
                    "tissue_dice": shared.pop("dice"),
                    "tissue_jaccard": shared.pop("jaccard"),
                    **shared,
                }
                yield from metric_rows(
                    name, shared, contrast=contrast, reference="measured", region=label
                )


def lesions(
    series: Mapping[str, Real], mask: Mask, zooms: Sequence[float], likely: Mask | None = None
) -> dict[str, dict[str, Mask]]:
    """Return each series' FLAIR white-matter hyperintensities as a class for `segmentations`.

    `series`: scans of one contrast (3D, 0 to 1) by series. `zooms`: voxel size along each axis
    (mm). `likely`: voxels in which lesions occur (3D, boolean); None: everywhere in the brain.
    """
    return {
        name: {"wmh": white_matter_hyperintensities(image, mask, zooms, likely)}
        for name, image in series.items()
    }


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
