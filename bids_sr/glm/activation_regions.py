"""Regions of activation: thresholds, sizes, overlap and positions.

An empty region has no centroid and no overlap. These metrics are then None (n/a in tables), not 0
or 1.
"""

from collections.abc import Sequence

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.io.arrays import Float, MaskArray, Real
from bids_sr.io.frozen import frozen
from bids_sr.spatial import masks, similarity

_TAIL_FDR = 0.025  # of increases, and of decreases; Benjamini and Hochberg 1995
_MIN_Z = 1.9  # smallest |z| that can be active; for smaller values, p is larger than `_TAIL_FDR`
_MAX_WRONG = 0.05  # expected share of voxels with the wrong sign, of each sign
Z_95 = 1.96
"""Half-width of a 95 % interval in standard deviations."""
SIGN_RELIABLE = "SignReliable"
"""Mask of voxels with a reliable sign, as label in file names."""


@frozen
class Threshold:
    """Region definition from `activation.thresholds`.

    `label` is the label in file names (Quarter, Fdr, Z31). `z` is the smallest |z| of a fixed
    threshold; otherwise None.
    """

    label: str
    stat: str
    z: float | None = None

    def region(
        self, values: Real, mask: MaskArray, roi: MaskArray
    ) -> tuple[MaskArray, float | None]:
        """Return the region (X, Y, Z, boolean) and its threshold in the unit of the map, or None.

        The threshold ``quarter`` is applied in the ROI, and other thresholds in the mask.
        """
        if self.stat == "cc":
            return quarter_region(values, roi & mask)
        if self.z is None:
            return fdr_region(values, mask)
        return (np.abs(values) >= self.z) & mask, self.z


def quarter_region(cc: Real, roi: MaskArray) -> tuple[MaskArray, float | None]:
    """Return the ROI voxels with CC ≥ max − (max − min)/4, and this threshold.

    Source: STSS-SRfMRI (stss-srfmri), equation 2, with the extremes in the ROI; the paper does not
    state the region of the extremes. The threshold depends on the extremes: a map with a single
    sharp maximum has a small region, whatever its other values are.

    `cc` is the map of correlation with the condition (-1 to 1) and `roi` the region of interest,
    both (X, Y, Z). The region is empty and the threshold None if CC is constant in the ROI.
    """
    region = np.zeros_like(cc, dtype=bool)
    roi_cc = cc[roi]
    if not roi_cc.size or roi_cc.max() == roi_cc.min():
        return region, None
    highest, lowest = float(roi_cc.max()), float(roi_cc.min())
    threshold = highest - (highest - lowest) / 4
    region[roi] = roi_cc >= threshold
    return region, threshold


def fdr_region(z: Real, mask: MaskArray) -> tuple[MaskArray, float | None]:
    """Return the mask voxels that are active at an FDR of .05, and the lowest |z| among them.

    Increases and decreases are two families of one-sided tests at an FDR of .025, so that the FDR
    of the region is at most .05. Each family is the complete mask (the brain), not only the ROI.
    The lowest |z| is None if no voxel is active.
    """
    from scipy import special

    region = np.zeros_like(z, dtype=bool)
    mask_z = z[mask]
    active = np.zeros(len(mask_z), dtype=bool)
    for tail_z in (mask_z, -mask_z):
        # All other voxels have p > _TAIL_FDR, and adjusting p for the FDR only increases it.
        ranked_z = -np.sort(-tail_z[tail_z > _MIN_Z]).astype(np.float64)
        adjusted_p = special.ndtr(-ranked_z) * (len(mask_z) / np.arange(1, len(ranked_z) + 1))
        active_ranks = np.flatnonzero(adjusted_p <= _TAIL_FDR)
        if active_ranks.size:
            active |= tail_z >= ranked_z[active_ranks[-1]]
    region[mask] = active
    return region, float(np.abs(mask_z[active]).min()) if active.any() else None


def sign_reliable_region(t: Real, wrong_sign: Real, region: MaskArray) -> MaskArray:
    """Return the voxels with the lowest wrong-sign probability, whose mean is ≤ .05.

    Voxels of a `region` are added in order of increasing `wrong_sign`, the posterior probability
    of the opposite sign of the effect, separately for increases and decreases. The mean of a list
    in this order is its expected share of wrong signs, and no other list of the same size has a
    lower one (Newton 2004; Stephens 2017). All maps are (X, Y, Z).
    """
    sign_reliable = np.zeros(region.shape, dtype=bool)
    for tail_t in (t, -t):
        voxels = np.flatnonzero(region & (tail_t > 0))
        probabilities = wrong_sign.ravel()[voxels]
        order = np.argsort(probabilities, kind="stable")
        means = np.cumsum(probabilities[order], dtype=np.float64) / np.arange(1, len(voxels) + 1)
        sign_reliable.ravel()[voxels[order[means <= _MAX_WRONG]]] = True
    return sign_reliable


def nonempty_dice(first: MaskArray, second: MaskArray) -> float | None:
    """Return the Dice index 2 |A ∩ B| / (|A| + |B|); None if either region is empty.

    Empty regions do not allow a conclusion about overlap.
    """
    return similarity.dice(first, second) if first.any() and second.any() else None


def centroid(region: MaskArray, affine: Float) -> Float | None:
    """Return the mean position of a region's voxels (RAS mm); None if the region is empty."""
    if not region.any():
        return None
    box = masks.bounding_box(region)
    corner = [extent.start for extent in box]
    return apply_affine(affine, corner + np.argwhere(region[box]).mean(axis=0))


@frozen
class Peak:
    """Largest value of a map in a region.

    `index` is the voxel, counted from 0 along each axis, and `position` its center (RAS mm).
    """

    index: tuple[int, int, int]
    position: Float
    value: float


def find_peak(values: Real, region: MaskArray, affine: Float) -> Peak | None:
    """Return the highest voxel of a region (X, Y, Z, boolean); None if the region is empty.

    If several voxels have the highest value, the first in C order is returned.
    """
    if not region.any():
        return None
    box = masks.bounding_box(region)
    region_values = np.where(region[box], values[box], -np.inf)
    offsets = np.unravel_index(np.argmax(region_values), region_values.shape)
    x, y, z = (extent.start + int(offset) for extent, offset in zip(box, offsets, strict=True))
    index = (x, y, z)
    return Peak(index=index, position=apply_affine(affine, index), value=float(values[index]))


def parse_thresholds(texts: Sequence[str | float]) -> tuple[Threshold, ...]:
    """Parse thresholds: ``quarter``, ``fdr`` or a value of z; raise ValueError for other texts."""
    return tuple(_parse_threshold(str(text)) for text in texts)


def _parse_threshold(text: str) -> Threshold:
    """Parse one threshold, see `parse_thresholds`."""
    if text in ("quarter", "fdr"):
        return Threshold(label=text.capitalize(), stat="cc" if text == "quarter" else "z")
    try:
        z = float(text)
    except ValueError as err:
        raise ValueError(
            f"the threshold {text!r} is not valid; expected quarter, fdr or a z value"
        ) from err
    return Threshold(label=f"Z{round(z * 10):02d}", stat="z", z=z)
