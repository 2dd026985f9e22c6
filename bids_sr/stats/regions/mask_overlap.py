"""Agreement of masks and of volumes: a segmentation of a super-resolved image against that of the reference.

Source: attention-unet, sections 3.8.3 and 4.6 (Dice, true positive and negative fraction, positive predictive value,
Bland-Altman with differences in percent of the mean); tv-self-sr, section 3.3 (Jaccard index of brain masks, accuracy
and false discovery rate of thresholded maps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.bool_] | npt.NDArray[np.floating]


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
    def jaccard(self) -> float | None:
        """|A and B| / |A or B|."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive + self.false_negative)

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

    @property
    def false_discovery_rate(self) -> float | None:
        """Part of what was found that is not in the reference, 1 - PPV."""
        return _ratio(self.false_positive, self.true_positive + self.false_positive)

    @property
    def accuracy(self) -> float | None:
        """Part of all voxels on which both agree."""
        right = self.true_positive + self.true_negative
        return _ratio(right, right + self.false_positive + self.false_negative)

    def figures(self) -> dict[str, float | None]:
        """All ratios by name."""
        names = ("dice", "jaccard", "tpf", "tnf", "ppv", "false_discovery_rate", "accuracy")
        return {name: getattr(self, name) for name in names}


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


def jaccard(reference: Mask, found: Mask) -> float | None:
    """Jaccard index of two masks, of brains for instance; None where both are empty."""
    return overlap(reference, found).jaccard


def tissue_volumes(tissues: Mapping[str, Array], zooms: Sequence[float]) -> dict[str, float]:
    """Volume of each tissue in ml.

    Parameters
    ----------
    tissues : mask, or probability of each voxel, which counts by its part
    zooms : voxel size (mm)
    """
    voxel = float(np.prod([float(z) for z in zooms[:3]])) / 1000
    return {name: float(np.asarray(part, dtype=np.float64).sum()) * voxel for name, part in tissues.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Bland and Altman's limits of agreement."""

    # means, differences: one for each pair, the points of the plot
    means: tuple[float, ...]
    differences: tuple[float, ...]
    bias: float  # mean difference
    # lower, upper: bias -+ 1.96 standard deviations (n - 1) of the differences
    lower: float
    upper: float
    percent: bool  # whether differences are in percent of the mean of the pair


def bland_altman(reference: Sequence[float], found: Sequence[float], *, percent: bool = True) -> Agreement:
    """Agreement of two measurements of the same things; differences are found less reference.

    Parameters
    ----------
    reference, found : one value each (ml, for volumes)
    percent : differences in percent of the mean of the two, as attention-unet, figure 10, plots them

    Raises
    ------
    ValueError : fewer than two pairs, lists of different length, or a mean of 0 under percent
    """
    a, b = np.asarray(reference, dtype=np.float64), np.asarray(found, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"limits of agreement want two lists of one length of at least 2, not {a.shape} and {b.shape}")
    means = (a + b) / 2
    differences = b - a
    if percent:
        if not means.all():
            raise ValueError("a pair with a mean of 0 has no difference in percent")
        differences = 100 * differences / means
    bias, spread = float(differences.mean()), 1.96 * float(differences.std(ddof=1))
    return Agreement(
        means=tuple(means.tolist()), differences=tuple(differences.tolist()),
        bias=bias, lower=bias - spread, upper=bias + spread, percent=percent,
    )  # fmt: skip


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
