"""Quality metrics of super-resolved structural scans.

Source: attention-unet, section 3.8, equations 6 to 8, as implemented in MRIQC (Esteban et al.
2017). All images (3D) of a contrast are on one grid and have the same unit, scaled to [0, 1].
`zooms` are voxel sizes (mm).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from bids_sr.engine.metric_rows import BRAIN, SCAN, MetricRow, metric_rows
from bids_sr.evaluation import attention_unet_metrics
from bids_sr.glm.series_quality import smoothness
from bids_sr.io.arrays import Float, MaskArray, Real
from bids_sr.spatial import image_similarity

# scans are scaled to [0, 1]
_SIMILARITY: Mapping[str, Callable[..., float]] = {
    "mae": image_similarity.mae,
    "rmse": image_similarity.rmse,
    "nmse": image_similarity.nmse,
    "psnr": partial(image_similarity.psnr, data_range=1.0),
    "ssim": partial(image_similarity.ssim, data_range=1.0),
    "nmse_voxel": attention_unet_metrics.nmse_voxel,
}
_TISSUE_PAIRS = (("gm", "wm"), ("csf", "gm"), ("csf", "wm"))
_MAXIMUM_PERCENTILE = 99.95  # as in MRIQC; attention-unet reports 95 %, as in MRIQC's manual


def similarity_rows(
    contrast: str,
    series: Mapping[str, Real],
    measured: Real,
    mask: MaskArray,
    slices: Sequence[int],
) -> Iterator[MetricRow]:
    """Yield MAE, RMSE, NMSE, PSNR and SSIM of each series in a selection of slices.

    The metrics are computed in the brain, and over all voxels of these slices (region `SCAN`),
    because attention-unet averages over the entire scan after background removal. Background
    increases PSNR and SSIM, so only values for the same region and field of view can be compared.
    The data range is 1. NMSE is computed by the usual definition and as in attention-unet
    (``nmse_voxel``).

    Parameters
    ----------
    contrast : str
        BIDS suffix of the scans.
    series : Mapping[str, Real]
        Scans of one contrast (3D, 0 to 1) by series.
    measured : Real
        High-resolution scan as measured (3D, 0 to 1).
    mask : MaskArray
        Brain voxels on the grid of the scans (3D, boolean).
    slices : Sequence[int]
        Numbers of the slices, counted from 0.

    Yields
    ------
    MetricRow
        Metrics of each series and region; no rows if the slices do not contain any brain voxel.
    """
    brain_slices = [z for z in slices if mask[..., z].any()]
    if not brain_slices:
        return
    for region, region_slices in ((BRAIN, brain_slices), (SCAN, list(slices))):
        reference = measured[..., region_slices]
        inside = mask[..., region_slices] if region == BRAIN else None
        for name, image in series.items():
            compared = image[..., region_slices]
            values = {
                statistic: measure(reference, compared, mask=inside)
                for statistic, measure in _SIMILARITY.items()
            }
            yield from metric_rows(
                name, values, contrast=contrast, reference="heldOut", region=region
            )


def quality_rows(
    contrast: str,
    series: Mapping[str, Real],
    mask: MaskArray,
    tissues: Mapping[str, MaskArray],
    zooms: Sequence[float],
) -> Iterator[MetricRow]:
    """Yield CJV, EFC, FWHM, WM2max and ratios between tissues of each series.

    The tissues are segmented in the measured scans and used for all series (section 3.8.1).

    Parameters
    ----------
    contrast : str
        BIDS suffix of the scans.
    series : Mapping[str, Real]
        Scans of one contrast (3D, 0 to 1) by series.
    mask : MaskArray
        Brain voxels on the grid of the scans (3D, boolean).
    tissues : Mapping[str, MaskArray]
        Voxels of ``gm``, ``wm`` and ``csf`` (3D, boolean); may be empty.
    zooms : Sequence[float]
        Voxel size along each axis (mm).

    Yields
    ------
    MetricRow
        Metrics of each series, only EFC and FWHM if a tissue is missing. EFC, FWHM, CJV and WM2max
        are computed as in MRIQC and as in attention-unet.
    """
    has_tissues = bool(tissues) and all(voxels.any() for voxels in tissues.values())
    for name, image in series.items():
        axis_fwhm_mm = [mm for mm in fwhm(image, zooms, mask) if mm is not None]
        values: dict[str, float | None] = {
            "efc": efc(image, mask),
            "fwhm": float(np.mean(axis_fwhm_mm)) if axis_fwhm_mm else None,
            "efc_sum": attention_unet_metrics.efc_sum(image, mask),
            "half_maximum": attention_unet_metrics.half_maximum(image, mask),
        }
        if has_tissues:
            values["cjv"] = cjv(image, tissues["gm"], tissues["wm"])
            values["cjv_signed"] = attention_unet_metrics.cjv_signed(
                image, tissues["gm"], tissues["wm"]
            )
            in_brain = np.where(mask, image, 0)
            values["wm2max"] = wm2max(in_brain, tissues["wm"])
            values["wm2max_p95"] = attention_unet_metrics.wm2max_p95(in_brain, tissues["wm"])
            for pair, ratios in _summary_ratios(image, tissues).items():
                yield from metric_rows(name, ratios, contrast=contrast, region=pair)
        yield from metric_rows(name, values, contrast=contrast, region="brain")


def fwhm(
    image: Real, zooms: Sequence[float], mask: MaskArray | None = None
) -> tuple[float | None, ...]:
    """Return the smoothness (FWHM in mm) of an image along each axis.

    FWHM = d sqrt(-2 ln 2 / ln(1 - var(x_i+1 - x_i) / 2 var(x))), Forman et al. 1995, as estimated
    by AFNI's 3dFWHMx in MRIQC. Equation 8 of attention-unet defines only half of the maximum. An
    anatomical image is not noise, so the metric should only be used to compare images of one head
    on one grid.

    `image` (X, Y, Z) is in any unit. `mask` marks the voxels to include (3D, boolean); None
    includes all voxels. The FWHM of an axis is None if neighbors along the axis do not correlate.
    Raises `ValueError` if the image is constant.
    """
    values = np.asarray(image, dtype=np.float64)
    inside = np.ones(values.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    variance = float(values[inside].var())
    if variance == 0:
        raise ValueError("smoothness cannot be estimated for a constant image")
    correlations = []
    for axis in range(3):
        n = values.shape[axis]
        both_inside = np.take(inside, range(n - 1), axis) & np.take(inside, range(1, n), axis)
        change = np.diff(values, axis=axis)[both_inside]
        correlations.append(1 - float(change.var()) / (2 * variance) if change.size else 0.0)
    return smoothness(correlations, [float(zoom) for zoom in zooms[:3]])


def efc(image: Real, mask: MaskArray | None = None) -> float:
    """Return the entropy focus criterion: the entropy of magnitudes relative to its maximum.

    The value is 0 for one bright voxel and 1 for a constant image. Lower values are better (less
    ghosting and blurring). Atkinson et al. 1997 and attention-unet (equation 7) define the
    criterion; sign and normalization are the same as in MRIQC. `mask` marks the voxels to include
    (3D, boolean; at least two); None includes all voxels. Raises `ValueError` if the image is 0
    everywhere.
    """
    root = np.sqrt(image.size if mask is None else np.count_nonzero(mask))
    return float(-attention_unet_metrics.efc_sum(image, mask) / (root * np.log(root)))


def cjv(image: Real, gm: MaskArray, wm: MaskArray) -> float:
    """Return the coefficient of joint variation, (sd WM + sd GM) / |mean WM - mean GM|.

    Lower values are better, and the value is infinite for equal means. Ganzetti et al. 2016 and
    attention-unet (equation 6) define it; the absolute value is taken as in MRIQC. The masks of
    gray and white matter are 3D and boolean.
    """
    return abs(attention_unet_metrics.cjv_signed(image, gm, wm))


def wm2max(image: Real, wm: MaskArray) -> float:
    """Return the median of white matter divided by the 99.95 % percentile of the image.

    The ratio is .6 to .8 in a T1w image of a whole head. `wm` marks voxels of white matter (3D,
    boolean). Raises `ValueError` if the percentile is 0.
    """
    return attention_unet_metrics.compare_with_percentile(image, wm, _MAXIMUM_PERCENTILE)


def _summary_ratios(image: Real, masks: Mapping[str, MaskArray]) -> dict[str, dict[str, float]]:
    """Return ratios of summary statistics between gm, wm and csf, by pair (gm/wm) and statistic.

    The statistics are the mean, the population SD, and the 5 % and 95 % percentiles. Ratios with
    denominator 0 are omitted. `masks` are the voxels of ``gm``, ``wm`` and ``csf`` (3D, boolean).
    """
    values = np.asarray(image, dtype=np.float64)
    summaries = {name: _summarize(values[mask]) for name, mask in masks.items()}
    ratios = {}
    for tissue, other_tissue in _TISSUE_PAIRS:
        ratios[f"{tissue}/{other_tissue}"] = {
            f"ratio_{name}": summaries[tissue][name] / denominator
            for name, denominator in summaries[other_tissue].items()
            if denominator != 0
        }
    return ratios


def _summarize(values: Float) -> dict[str, float]:
    """Return the mean, the population SD, and the 5 % and 95 % percentiles of intensities (n,)."""
    return {
        "mean": float(values.mean()),
        "sd": float(values.std()),
        "p05": float(np.percentile(values, 5)),
        "p95": float(np.percentile(values, 95)),
    }
