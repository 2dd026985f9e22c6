"""Metrics of super-resolved structural scans against measured ones: similarity, quality, tissues, lesions.

Source: attention_unet, section 3.8. All images of a contrast lie on one grid and in one unit, scaled to [0, 1].
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bids_sr.io.array_types import Mask, Real
from bids_sr.metrics import image_similarity
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.stats.image import structural_quality
from bids_sr.stats.regions.mask_overlap import overlap, tissue_volumes

DATA_RANGE = 1.0


def _rows(values: Mapping[str, float | None], **where: Any) -> Iterator[MetricRow]:
    for name, value in values.items():
        yield MetricRow(measure=name, value=math.nan if value is None else value, **where)


def likeness(
    contrast: str, series: Mapping[str, Real], measured: Real, mask: Mask, slices: Sequence[int]
) -> Iterator[MetricRow]:
    """MAE, RMSE, NMSE, PSNR and SSIM (data range 1) of each series (X, Y, Z), in the brain of some slices.

    Parameters
    ----------
    contrast : name of the scan
    measured, mask : the high-resolution scan, and its brain
    slices : indices along the third axis; those without brain are left out
    """
    kept = [z for z in slices if mask[..., z].any()]
    if not kept:
        return
    truth, inside = measured[..., kept], mask[..., kept]
    for name, image in series.items():
        seen = image[..., kept]
        found: dict[str, float | None] = {
            each: getattr(image_similarity, each)(truth, seen, mask=inside) for each in ("mae", "rmse", "nmse")
        }
        for each in ("psnr", "ssim"):
            found[each] = getattr(image_similarity, each)(truth, seen, data_range=DATA_RANGE, mask=inside)
        yield from _rows(found, contrast=contrast, series=name, reference="heldOut")


def quality(
    contrast: str, series: Mapping[str, Real], mask: Mask, tissues: Mapping[str, Mask], zooms: Sequence[float]
) -> Iterator[MetricRow]:
    """CJV, EFC, FWHM, WM2max and ratios between tissues of each series, over the whole brain.

    Parameters
    ----------
    tissues : gm, wm and csf, found in the measured scans for all series alike (section 3.8.1); may be empty
    zooms : voxel size (mm)
    """
    whole = bool(tissues) and all(part.any() for part in tissues.values())
    for name, image in series.items():
        found: dict[str, float | None] = {
            "efc": structural_quality.efc(image, mask),
            "fwhm": structural_quality.fwhm(image, zooms, mask)["avg"],
        }
        if whole:
            found["cjv"] = structural_quality.cjv(image, tissues["gm"], tissues["wm"])
            found["wm2max"] = structural_quality.wm2max(np.where(mask, image, 0), tissues["wm"])
            ratios = structural_quality.summary_ratios(image, tissues)
            found |= {f"ratio_{key}": value for key, value in ratios.items()}
        yield from _rows(found, contrast=contrast, series=name, reference="brain")


def segmentations(
    contrast: str, found: Mapping[str, Mapping[str, Mask]], mask: Mask, zooms: Sequence[float], *,
    measured: str = "measured",
) -> Iterator[MetricRow]:  # fmt: skip
    """Volume (ml) of each segmented class of each series, and its overlap with that of the measured scans.

    Parameters
    ----------
    contrast : scans that were segmented
    found : series to class to mask
    mask : brain, in which voxels count as negatives
    measured : name of the series that is the reference
    """
    for name, classes in found.items():
        for label, volume in tissue_volumes(classes, zooms).items():
            values: dict[str, float | None] = {f"volume_{label}": volume}
            if name != measured:
                shared = overlap(found[measured][label], classes[label], mask)
                values |= {f"{each}_{label}": getattr(shared, each) for each in ("dice", "tpf", "tnf", "ppv")}
            yield from _rows(values, contrast=contrast, series=name, reference="brain")


def lesions(series: Mapping[str, Real], mask: Mask, zooms: Sequence[float]) -> dict[str, dict[str, Mask]]:
    """White-matter hyperintensities of the FLAIR of each series, as a class for `segmentations`."""
    return {
        name: {"wmh": structural_quality.white_matter_hyperintensities(image, mask, zooms)}
        for name, image in series.items()
    }
