"""Regions of activity: thresholds, sizes, overlap, where they lie.

A region that is empty has no centroid and no overlap: such metrics are None here and n/a in tables, never 0 or 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bids_sr.io.array_types import Float, Mask, Real
from bids_sr.spatial.masks import grow


def quarter_region(cc: Real, roi: Mask) -> tuple[Mask, float | None]:
    """Voxels of the ROI with CC ≥ max − (max − min)/4, and that threshold; empty and None where CC is constant in it.

    Source: STSS-SRfMRI (stss-srfmri), equation 2, with the extremes of the ROI (the paper does not say where; this is
    ours). The threshold moves with them: a map with one sharp maximum has a small region whatever else it shows.
    """
    region = np.zeros(cc.shape, dtype=bool)
    inside = cc[roi]
    if not inside.size or inside.max() == inside.min():
        return region, None
    highest, lowest = float(inside.max()), float(inside.min())
    threshold = highest - (highest - lowest) / 4
    region[roi] = inside >= threshold
    return region, threshold


def fdr_threshold(p: Real, q: float = 0.05) -> float | None:
    """Largest p that the Benjamini–Hochberg step-up procedure rejects at rate q, or None where it rejects none."""
    ordered = np.sort(np.asarray(p, dtype=np.float64).ravel())
    passing = np.flatnonzero(ordered <= q * np.arange(1, len(ordered) + 1) / max(1, len(ordered)))
    return float(ordered[passing[-1]]) if len(passing) else None


def fdr_region(z: Real, mask: Mask) -> tuple[Mask, float | None]:
    """Voxels of the mask that are active at a false discovery rate of .05, and the lowest z among them.

    The test is one-sided: activity, not deactivation, is what the regions of the paper are about. The family is every
    voxel of the mask (the brain), not of the ROI alone.
    """
    from scipy import special

    region = np.zeros(z.shape, dtype=bool)
    inside = np.asarray(z[mask], dtype=np.float64)
    p = special.ndtr(-inside)
    limit = fdr_threshold(p)
    if limit is None:
        return region, None
    region[mask] = p <= limit
    return region, float(inside[p <= limit].min())


def dice(a: Mask, b: Mask) -> float | None:
    """2 |A ∩ B| / (|A| + |B|); None where either region is empty: where nothing was found nothing is told apart."""
    sizes = int(a.sum()), int(b.sum())
    return None if 0 in sizes else 2 * int((a & b).sum()) / sum(sizes)


def centroid(region: Mask, affine: Float) -> Float | None:
    """Mean position of a region's voxels (RAS mm), or None where it is empty."""
    if not region.any():
        return None
    return affine[:3, :3] @ np.argwhere(region).mean(axis=0) + affine[:3, 3]


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """Largest value of a map in a region: index (voxels), position (RAS mm), value."""

    index: tuple[int, int, int]
    position: Float
    value: float


def peak(values: Real, region: Mask, affine: Float) -> Peak | None:
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

    def region(self, values: Real, mask: Mask, roi: Mask) -> tuple[Mask, float | None]:
        """Region and the threshold in the map's own unit; quarter in the ROI, the others in the mask."""
        if self.stat == "cc":
            return quarter_region(values, roi & mask)
        return fdr_region(values, mask) if self.z is None else ((values >= self.z) & mask, self.z)


def parse_thresholds(texts: Sequence[str | float]) -> tuple[Threshold, ...]:
    """Read ``quarter``, ``fdr`` or a value of z; ValueError for anything else."""
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


ACTIVE_CC = 0.5  # the paper's own limit of a voxel that follows the task
REACH_MM = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Grown:
    """A grown region."""

    roi: Mask  # (X, Y, Z) the region as given and what was added
    added: int  # voxels added
    level: float  # CC from which a voxel was added


def ring(roi: Mask, mask: Mask, affine: Float, max_mm: float = REACH_MM) -> Mask:
    """Voxels of the mask outside the ROI and no farther from it than max_mm."""
    return grow(roi, affine, max_mm) & mask & ~roi


def grow_roi(roi: Mask, cc_map: Real, mask: Mask, affine: Float, max_mm: float = REACH_MM) -> Grown:
    """Grow a region of interest (X, Y, Z) over its border into high correlation.

    The paper mended two misregistered motor areas by growing them and does not say by which rule. Ours follows one map,
    CC of the *acquired* series (the largest over conditions): all series share the grown region, and none can pull it
    towards itself. Voxels within `max_mm` are added where CC reaches max − (max − min)/4 over the ROI and its
    surroundings together (equation 2 of the paper there) and at least .5, and only where they hang together with the
    ROI, face to face, through surroundings with CC of at least .5. So the region grows by the activity that its border
    cuts, nothing is taken away, and where nothing is active nothing is added. ValueError for a region without a voxel
    in the brain.
    """
    inside = roi & mask
    if not inside.any():
        raise ValueError("the region of interest has no voxel in the brain: there is nothing to grow from")
    around = ring(roi, mask, affine, max_mm)
    threshold = quarter_region(cc_map, inside | around)[1]
    level = max(ACTIVE_CC, ACTIVE_CC if threshold is None else threshold)
    path = around & (cc_map >= ACTIVE_CC)
    labels = ndimage.label(path | inside)[0]
    reached = np.isin(labels, np.unique(labels[inside]))
    added = path & reached & (cc_map >= level)
    return Grown(roi=roi | added, added=int(added.sum()), level=level)


def carry_over(added: Mask, affine: Float, roi: Mask, mask: Mask, hr_affine: Float) -> Mask:
    """A region on a high-resolution grid, grown by its voxels within those added on the low-resolution grid.

    `added` lies on the low-resolution grid, `roi` and `mask` on the other; affines are voxel to RAS mm, in one frame.
    """
    to_low = np.linalg.inv(affine) @ hr_affine
    points = np.indices(mask.shape).reshape(3, -1)
    # A center on the border of two low-resolution voxels (odd factors of 2) must not fall by rounding noise
    index = np.floor(to_low[:3, :3] @ points + to_low[:3, 3:] + 0.5 + 1e-6).astype(int)
    within = ((index >= 0) & (index < np.array(added.shape)[:, None])).all(axis=0)
    values = np.zeros(points.shape[1], dtype=bool)
    values[within] = added[tuple(index[:, within])]
    return roi | (values.reshape(mask.shape) & mask)
