"""Overlap of segmentations and volumes of tissues.

Source: attention-unet, section 3.8.3 (Dice, true positive and negative fraction, positive predictive value).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bids_sr.io.array_types import Mask, Real

Array = Mask | Real


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """Voxel counts of two masks and what follows from them; a ratio of nothing over nothing is None."""

    # true_positive, false_positive, false_negative, true_negative: voxels
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def dice(self) -> float | None:
        """2 |A and B| / (|A| + |B|)."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def tpf(self) -> float | None:
        """True positive fraction (sensitivity): part of the reference that was found."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def tnf(self) -> float | None:
        """True negative fraction (specificity): part of the reference's outside that was left out."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def ppv(self) -> float | None:
        """Positive predictive value: part of what was found that is in the reference."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)


def overlap(reference: Mask, found: Mask, within: Mask | None = None) -> Overlap:
    """Count the voxels of two masks of one grid.

    Parameters
    ----------
    within : voxels that count; true negatives depend on it, so give the brain, not the whole field of view

    Raises
    ------
    ValueError : masks on different grids
    """
    if reference.shape != found.shape or (within is not None and within.shape != found.shape):
        raise ValueError(f"masks of {reference.shape} and {found.shape} voxels cannot be compared")
    keep = slice(None) if within is None else np.asarray(within, dtype=bool)
    a, b = (np.asarray(mask, dtype=bool)[keep] for mask in (reference, found))
    return Overlap(
        true_positive=int((a & b).sum()), false_positive=int((~a & b).sum()),
        false_negative=int((a & ~b).sum()), true_negative=int((~a & ~b).sum()),
    )  # fmt: skip


def tissue_volumes(tissues: Mapping[str, Array], zooms: Sequence[float]) -> dict[str, float]:
    """Volume of each tissue in ml.

    Parameters
    ----------
    tissues : mask, or probability of each voxel, which counts by its part
    zooms : voxel size (mm)
    """
    voxel = float(np.prod([float(z) for z in zooms[:3]])) / 1000
    return {name: float(np.asarray(part, dtype=np.float64).sum()) * voxel for name, part in tissues.items()}


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
