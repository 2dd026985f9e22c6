"""Regions of activity: thresholds, sizes, overlap, where they lie.

A region that is empty has no centroid and no overlap: such figures are None here and n/a in tables, never 0 or 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
Point = npt.NDArray[np.float64]


def quarter_region(cc: Map, roi: Mask) -> tuple[Mask, float | None]:
    """Voxels of the ROI with CC ≥ max − (max − min)/4, and that threshold.

    Parameters
    ----------
    cc : (X, Y, Z) correlation
    roi : (X, Y, Z); maximum and minimum are taken in it (the paper does not say where; this is ours)

    Returns
    -------
    region (X, Y, Z) and threshold; empty and None where the ROI is empty or CC is constant in it.

    Notes
    -----
    Source: STSS-SRfMRI (stss-srfmri), equation 2. The threshold moves with the extremes of the map: a map with one
    sharp maximum has a small region whatever else it shows.
    """
    region = np.zeros(cc.shape, dtype=bool)
    inside = cc[roi]
    if not inside.size or inside.max() == inside.min():
        return region, None
    highest, lowest = float(inside.max()), float(inside.min())
    threshold = highest - (highest - lowest) / 4
    region[roi] = inside >= threshold
    return region, threshold


def fdr_threshold(p: npt.NDArray[np.floating], q: float = 0.05) -> float | None:
    """Largest p that the Benjamini–Hochberg step-up procedure rejects at rate q, or None where it rejects none."""
    ordered = np.sort(np.asarray(p, dtype=np.float64).ravel())
    passing = np.flatnonzero(ordered <= q * np.arange(1, len(ordered) + 1) / max(1, len(ordered)))
    return float(ordered[passing[-1]]) if len(passing) else None


def fdr_region(z: Map, mask: Mask, q: float = 0.05) -> tuple[Mask, float | None]:
    """Voxels of the mask that are active at false discovery rate q, and the lowest z among them.

    The test is one-sided: activity, not deactivation, is what the regions of the paper are about. The family is every
    voxel of the mask (the brain), not of the ROI alone.
    """
    from scipy import special

    region = np.zeros(z.shape, dtype=bool)
    inside = np.asarray(z[mask], dtype=np.float64)
    p = special.ndtr(-inside)
    limit = fdr_threshold(p, q)
    if limit is None:
        return region, None
    region[mask] = p <= limit
    return region, float(inside[p <= limit].min())


def fixed_region(z: Map, mask: Mask, threshold: float) -> tuple[Mask, float]:
    """Voxels of the mask with z at or above a fixed threshold."""
    return (z >= threshold) & mask, float(threshold)


def dice(a: Mask, b: Mask) -> float | None:
    """2 |A ∩ B| / (|A| + |B|); None where either region is empty: where nothing was found nothing is told apart."""
    sizes = int(a.sum()), int(b.sum())
    return None if 0 in sizes else 2 * int((a & b).sum()) / sum(sizes)


def centroid(region: Mask, affine: npt.NDArray[np.float64]) -> Point | None:
    """Mean position of a region's voxels (RAS mm), or None where it is empty."""
    if not region.any():
        return None
    return affine[:3, :3] @ np.argwhere(region).mean(axis=0) + affine[:3, 3]


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """Largest value of a map in a region: index (voxels), position (RAS mm), value."""

    index: tuple[int, int, int]
    position: Point
    value: float


def peak(values: Map, region: Mask, affine: npt.NDArray[np.float64]) -> Peak | None:
    """Highest voxel of the region (the first of equals in C order), or None where the region is empty."""
    if not region.any():
        return None
    at = np.unravel_index(np.argmax(np.where(region, values, -np.inf)), values.shape)
    index = (int(at[0]), int(at[1]), int(at[2]))
    return Peak(index=index, position=affine[:3, :3] @ np.array(index) + affine[:3, 3], value=float(values[index]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """One entry of ``--threshold``: how regions are made from maps."""

    label: str  # as it stands in file names (Quarter, Fdr, Z31)
    stat: str  # the map it is applied to, cc or z
    z: float | None = None  # value of a fixed threshold, else None

    def region(self, values: Map, mask: Mask, roi: Mask) -> tuple[Mask, float | None]:
        """Region and the threshold in the map's own unit; quarter in the ROI, the others in the mask."""
        if self.stat == "cc":
            return quarter_region(values, roi & mask)
        return fdr_region(values, mask) if self.z is None else fixed_region(values, mask, self.z)


def parse_thresholds(texts: Sequence[str | float]) -> tuple[Threshold, ...]:
    """Read ``quarter``, ``fdr`` or a value of z.

    Raises
    ------
    ValueError : anything else
    """
    found = []
    for text in map(str, texts):
        if text in ("quarter", "fdr"):
            found.append(Threshold(label=text.capitalize(), stat="cc" if text == "quarter" else "z"))
        else:
            try:
                value = float(text)
            except ValueError as err:
                raise ValueError(f"threshold {text!r} is neither quarter, fdr nor a value of z") from err
            found.append(Threshold(label=f"Z{round(value * 10):02d}", stat="z", z=value))
    return tuple(found)
