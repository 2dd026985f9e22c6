"""Metrics of super-resolved structural scans against measured ones: similarity and quality.

Source: attention-unet, section 3.8, equations 6 to 8, in the form that MRIQC (Esteban et al. 2017)
gives them. All images of a contrast lie on one grid and in one unit, scaled to [0, 1].
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from bids_sr.io.arrays import Float, Mask, Real
from bids_sr.metrics import similarity
from bids_sr.metrics.rows import BRAIN, SCAN, MetricRow, metric_rows
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
                values[each] = getattr(similarity, each)(truth, seen, mask=inside, **scale)
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
