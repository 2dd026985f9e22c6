"""Regions of activity: thresholds, sizes, overlap and positions.

An empty region has no centroid and no overlap: such metrics are None here and n/a in tables,
never 0 or 1.
"""

from collections.abc import Sequence

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Float, Mask, Real
from bids_sr.spatial import masks, similarity

_FDR = 0.05  # Benjamini and Hochberg 1995
_LEAST_Z = 1.6  # below that of `_FDR`


def quarter_region(cc: Real, roi: Mask) -> tuple[Mask, float | None]:
    """Return the ROI voxels with CC ≥ max − (max − min)/4, and that threshold.

    They are empty and None where CC is constant in the ROI.

    Source: STSS-SRfMRI (stss-srfmri), equation 2, with the extremes of the ROI (the paper does not
    say where; this is ours). The threshold moves with them: a map with one sharp maximum has a
    small region whatever else it shows.

    `cc`: map of correlation with the condition (3D, -1 to 1). Chosen voxels (3D, boolean), and CC
    from which on, or None.
    """
    region = np.zeros_like(cc, dtype=bool)
    inside = cc[roi]
    if not inside.size or inside.max() == inside.min():
        return region, None
    highest, lowest = float(inside.max()), float(inside.min())
    threshold = highest - (highest - lowest) / 4
    region[roi] = inside >= threshold
    return region, threshold


def fdr_region(z: Real, mask: Mask) -> tuple[Mask, float | None]:
    """Return the mask voxels that are active at an FDR of .05, and the lowest z among them.

    The test is one-sided: activity, not deactivation, is what the regions of the paper are about.
    The family is every voxel of the mask (the brain), not of the ROI alone.
    """
    from scipy import special

    region = np.zeros_like(z, dtype=bool)
    inside = z[mask]
    # others have p > _FDR, and the adjusted p is larger
    ranked = -np.sort(-inside[inside > _LEAST_Z]).astype(np.float64)
    adjusted = special.ndtr(-ranked) * (len(inside) / np.arange(1, len(ranked) + 1))
    active = np.flatnonzero(adjusted <= _FDR)
    if not active.size:
        return region, None
    lowest = ranked[active[-1]]
    region[mask] = inside >= lowest
    return region, float(lowest)


def reliable_region(t: Real, wrong: Real, region: Mask) -> Mask:
    """Return voxels of a region, in order of t, until the mean of `wrong` over them exceeds .05.

    `wrong` is the posterior probability that the effect has the opposite sign.
    """
    at = np.flatnonzero(region)
    at = at[np.argsort(-t.ravel()[at], kind="stable")]
    expected = np.cumsum(wrong.ravel()[at], dtype=np.float64) / np.arange(1, len(at) + 1)
    kept = np.flatnonzero(expected <= _FDR)
    found = np.zeros(region.shape, dtype=bool)
    found.ravel()[at[: kept[-1] + 1 if len(kept) else 0]] = True
    return found


def dice(a: Mask, b: Mask) -> float | None:
    """Return Dice, 2 |A ∩ B| / (|A| + |B|), or None where either region is empty.

    Where nothing was found, nothing can be told apart.
    """
    return similarity.dice(a, b) if a.any() and b.any() else None


def centroid(region: Mask, affine: Float) -> Float | None:
    """Mean position of a region's voxels (RAS mm), or None where it is empty."""
    if not region.any():
        return None
    box = masks.bounding_box(region)
    first = [part.start for part in box]
    return apply_affine(affine, first + np.argwhere(region[box]).mean(axis=0))


@frozen
class Peak:
    """Largest value of a map in a region: index (voxels), position (RAS mm), value.

    `index`: numbers of the voxel along the three axes, counted from 0. `position`: center of the
    voxel (RAS+ mm).
    """

    index: tuple[int, int, int]
    position: Float
    value: float


def peak(values: Real, region: Mask, affine: Float) -> Peak | None:
    """Return the highest voxel of the region, or None where the region is empty.

    Among equal values it is the first in C order.

    `region`: voxels of the region (3D, boolean).
    """
    if not region.any():
        return None
    box = masks.bounding_box(region)
    inside = np.where(region[box], values[box], -np.inf)
    at = np.unravel_index(np.argmax(inside), inside.shape)
    x, y, z = (part.start + int(place) for part, place in zip(box, at, strict=True))
    index = (x, y, z)
    return Peak(
        index=index,
        position=apply_affine(affine, index),
        value=float(values[index]),
    )


@frozen
class Threshold:
    """One entry of ``--threshold``: how regions are made from maps.

    `label`: as it stands in file names (Quarter, Fdr, Z31). `z`: value of a fixed threshold, else
    None.
    """

    label: str
    stat: str
    z: float | None = None

    def region(self, values: Real, mask: Mask, roi: Mask) -> tuple[Mask, float | None]:
        """Return the region and the threshold in the map's own unit.

        Quarter is applied in the ROI, the others in the mask.

        Chosen voxels (3D, boolean), and value from which on, or None.
        """
        if self.stat == "cc":
            return quarter_region(values, roi & mask)
        return fdr_region(values, mask) if self.z is None else ((values >= self.z) & mask, self.z)


def parse_thresholds(texts: Sequence[str | float]) -> tuple[Threshold, ...]:
    """Read ``quarter``, ``fdr`` or a value of z; ValueError for anything else."""
    thresholds = []
    for text in map(str, texts):
        if text in ("quarter", "fdr"):
            thresholds.append(
                Threshold(label=text.capitalize(), stat="cc" if text == "quarter" else "z")
            )
        else:
            try:
                value = float(text)
            except ValueError as err:
                raise ValueError(
                    f"the threshold {text!r} is not valid; expected quarter, fdr or a z value"
                ) from err
            thresholds.append(Threshold(label=f"Z{round(value * 10):02d}", stat="z", z=value))
    return tuple(thresholds)
