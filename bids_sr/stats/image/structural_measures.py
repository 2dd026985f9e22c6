"""Measures of super-resolved structural scans against measured ones: likeness, quality, tissues, lesions.

Source: attention_unet, section 3.8. All images of a contrast lie on one grid and in one unit, scaled to [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_sr.metrics import image_similarity
from bids_sr.stats.image import structural_quality
from bids_sr.stats.regions.mask_overlap import overlap, tissue_volumes

Image = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
DATA_RANGE = 1.0
COLUMNS = ("contrast", "series", "measure", "value", "unit", "reference")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One figure; the fields are the columns of the table."""

    contrast: str
    series: str
    measure: str
    value: float | None
    unit: str
    reference: str


def likeness(
    contrast: str, series: Mapping[str, Image], measured: Image, mask: Mask, slices: Sequence[int]
) -> Iterator[Row]:
    """MAE, RMSE, NMSE, PSNR and SSIM (data range 1) of each series, in the brain of some slices.

    Parameters
    ----------
    contrast : name of the scan
    series : (X, Y, Z) by name
    measured : the high-resolution scan
    mask : brain
    slices : indices along the third axis; those without brain are left out
    """
    kept = [z for z in slices if mask[..., z].any()]
    if not kept:
        return
    truth, inside = measured[..., kept], mask[..., kept]
    for name, image in series.items():
        seen = image[..., kept]
        values = {
            "mae": (image_similarity.mae(truth, seen, mask=inside), "1"),
            "rmse": (image_similarity.rmse(truth, seen, mask=inside), "1"),
            "nmse": (image_similarity.nmse(truth, seen, mask=inside), "1"),
            "psnr": (image_similarity.psnr(truth, seen, data_range=DATA_RANGE, mask=inside), "dB"),
            "ssim": (image_similarity.ssim(truth, seen, data_range=DATA_RANGE, mask=inside), "1"),
        }
        for measure, (value, unit) in values.items():
            yield Row(contrast=contrast, series=name, measure=measure, value=value, unit=unit, reference="heldOut")


def quality(
    contrast: str, series: Mapping[str, Image], mask: Mask, tissues: Mapping[str, Mask], zooms: Sequence[float]
) -> Iterator[Row]:
    """CJV, EFC, FWHM, WM2max and ratios between tissues of each series, over the whole brain.

    Parameters
    ----------
    tissues : gm, wm and csf, found in the measured scans for all series alike (section 3.8.1); empty where they could
        not be told
    zooms : voxel size (mm)
    """
    whole = bool(tissues) and all(part.any() for part in tissues.values())
    for name, image in series.items():
        found: dict[str, tuple[float | None, str]] = {
            "efc": (structural_quality.efc(image, mask), "1"),
            "fwhm": (structural_quality.fwhm(image, zooms, mask)["avg"], "mm"),
        }
        if whole:
            found["cjv"] = (structural_quality.cjv(image, tissues["gm"], tissues["wm"]), "1")
            found["wm2max"] = (structural_quality.wm2max(np.where(mask, image, 0), tissues["wm"]), "1")
            ratios = structural_quality.summary_ratios(image, tissues)
            found |= {f"ratio_{key}": (value, "1") for key, value in ratios.items()}
        for measure, (value, unit) in found.items():
            yield Row(contrast=contrast, series=name, measure=measure, value=value, unit=unit, reference="brain")


def segmentations(
    contrast: str, found: Mapping[str, Mapping[str, Mask]], mask: Mask, zooms: Sequence[float], *,
    measured: str = "measured",
) -> Iterator[Row]:  # fmt: skip
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
            yield Row(
                contrast=contrast, series=name, measure=f"volume_{label}", value=volume, unit="ml", reference="brain"
            )
            if name == measured:
                continue
            shared = overlap(found[measured][label], classes[label], mask)
            for measure in ("dice", "tpf", "tnf", "ppv"):
                yield Row(
                    contrast=contrast, series=name, measure=f"{measure}_{label}", value=getattr(shared, measure),
                    unit="1", reference="brain",
                )  # fmt: skip


def lesions(series: Mapping[str, Image], mask: Mask, zooms: Sequence[float]) -> dict[str, dict[str, Mask]]:
    """White-matter hyperintensities of the FLAIR of each series, as a class for `segmentations`."""
    return {
        name: {"wmh": structural_quality.white_matter_hyperintensities(image, mask, zooms)}
        for name, image in series.items()
    }


def table(rows: Sequence[Row]) -> str:
    """Rows as TSV; six significant digits, n/a for what is not known or not finite."""
    lines = ["\t".join(COLUMNS)]
    for row in rows:
        value = "n/a" if row.value is None or not np.isfinite(row.value) else f"{row.value:.6g}"
        lines.append("\t".join([row.contrast, row.series, row.measure, value, row.unit, row.reference]))
    return "\n".join(lines) + "\n"
